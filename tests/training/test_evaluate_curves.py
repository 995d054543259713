import numpy as np
import pytest

from strategy.order import Side
from tests.fakes.trading import BTC, HOUR_MS
from tests.training.tracks import DAY_MS, fill_of, track_of
from training.evaluate_curves import curves
from training.track import SymbolTrack

HOURS = 60  # two days and a half


def symbol(action: list[int], direction: list[list[float]]) -> SymbolTrack:
    nobody = np.array([kind < 0 for kind in action])
    return SymbolTrack(
        symbol=BTC,
        close=np.arange(1.0, HOURS + 1.0),
        exposure=np.linspace(0.0, 0.59, HOURS),
        action=np.array(action, np.int8),
        direction=np.array(direction, np.float32),
        disagreement=np.where(nobody, np.nan, 0.25),
    )


EQUITY = [1_000.0, *np.linspace(1_010.0, 1_600.0, HOURS).tolist()]
ACTIONS = [1] * 13 + [2] * 11 + [0] * 20 + [2] * 4 + [-1] * 12
VOTES = [[1.0, -0.5]] * 24 + [[0.5, 0.0]] * 12 + [[0.0, 1.0]] * 12 + [[np.nan, np.nan]] * 12
FILLS = (
    fill_of(Side.BUY, 2.0, 101.0, 0, fee=3.0, reference=100.0),  # at the open of the first candle
    fill_of(Side.SELL, 2.0, 99.0, DAY_MS - 1, fee=1.0, reference=100.0),
    fill_of(Side.BUY, 1.0, 50.0, DAY_MS, fee=5.0),  # the first fill of the second day
)
TRACK = track_of(EQUITY, fills=FILLS, symbols=(symbol(ACTIONS, VOTES),), exposure=np.linspace(0.0, 0.59, HOURS))
FOUND = curves(TRACK, {"cash": track_of([500.0] * (HOURS + 1), name="cash")})


def test_a_day_ends_at_midnight_also_the_last_one_that_is_not_whole() -> None:
    assert FOUND.day_ms == (DAY_MS, 2 * DAY_MS, 3 * DAY_MS)


def test_equity_is_in_multiples_of_the_cash_at_the_end_of_each_day() -> None:
    assert FOUND.equity["ensemble"] == pytest.approx((1.24, 1.48, 1.6))
    assert FOUND.equity["cash"] == (1.0, 1.0, 1.0)
    assert FOUND.exposure == pytest.approx((0.23, 0.47, 0.59))


def test_costs_are_fees_and_what_prices_were_worse() -> None:
    # 3 + 2 x 1 and 1 + 2 x 1 on the first day, 5 on the second, of 1,000
    assert FOUND.costs == pytest.approx((0.008, 0.013, 0.013))


def test_a_day_shows_the_action_voted_most_often_and_mean_votes() -> None:
    [found] = FOUND.symbols
    assert found.action == ("buy", "hold", "")
    assert found.votes == ((1.0, 0.25, None), (-0.5, 0.5, None))
    assert found.disagreement == (0.25, 0.25, None)
    assert found.close == (24.0, 48.0, 60.0)
    assert found.exposure == pytest.approx((0.23, 0.47, 0.59))


def test_an_account_that_never_traded_paid_nothing() -> None:
    assert curves(track_of([10.0] * 25), {}).costs == (0.0,)


def test_a_fill_between_two_candles_belongs_to_the_one_it_happened_in() -> None:
    later = track_of([10.0] * 49, fills=(fill_of(Side.BUY, 1.0, 5.0, DAY_MS - HOUR_MS, fee=1.0),))
    assert curves(later, {}).costs == pytest.approx((0.1, 0.1))
