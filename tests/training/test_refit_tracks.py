"""Expected numbers are worked out by hand, in the comments."""

from typing import Any

import numpy as np
import pytest

from strategy.order import Fill, Side
from tests.fakes.trading import BTC, HOUR_MS, setup
from training.refit_tracks import closed_out, joined, part_of
from training.track import SymbolTrack, Track

DAY_MS = 24 * HOUR_MS


def bought(quantity: float, at_ms: int, price: float = 100.0, side: Side = Side.BUY) -> Fill:
    return Fill(
        fill_id=f"{side}-{at_ms}",
        client_id="1",
        symbol=BTC,
        side=side,
        quantity=quantity,
        price=price,
        fee=0.0,
        at_ms=at_ms,
        reference_price=price,
    )


def track(equity: list[float], close: list[float], first_day: int, **changes: Any) -> Track:
    """Return a track of daily candles, votes of one member."""
    n = len(close)
    values: dict[str, Any] = {
        "name": "part",
        "timeframe_ms": DAY_MS,
        "close_ms": (first_day + 1 + np.arange(n)) * DAY_MS,
        "equity": np.array(equity),
        "exposure": np.full(n, 0.5),
        "fills": (),
        "fees": 1.0,
        "slippage": 2.0,
        "symbols": (
            SymbolTrack(
                symbol=BTC,
                close=np.array(close),
                exposure=np.full(n, 0.5),
                action=np.zeros(n, np.int8),
                direction=np.full((n, 1), 0.25, np.float32),
                disagreement=np.zeros(n),
            ),
        ),
    }
    return Track(**(values | changes))


def test_what_is_held_at_the_end_is_sold_with_slippage_and_fee() -> None:
    fills = (bought(3.0, DAY_MS), bought(1.0, DAY_MS, side=Side.SELL))
    before = track([1000.0, 1000.0, 1200.0], [100.0, 200.0], 0, fills=fills)
    after = closed_out(before, setup(fee_rate=0.01, slippage_rate=0.1))
    # Two are left. At 200 they sell for 180 each: 40 of slippage, and 1 % of 360 is a fee of 3.6.
    assert after.equity.tolist() == pytest.approx([1000.0, 1000.0, 1200.0 - 43.6])
    assert (after.fees, after.slippage) == pytest.approx((4.6, 42.0))
    assert (after.fills[-1].side, after.fills[-1].quantity, after.fills[-1].price) == (Side.SELL, 2.0, 180.0)
    assert after.fills[-1].at_ms == 2 * DAY_MS
    assert before.equity[-1] == 1200.0


def test_an_account_that_holds_nothing_is_left_as_it_is() -> None:
    fills = (bought(1.0, DAY_MS), bought(1.0, 2 * DAY_MS, side=Side.SELL))
    before = track([1000.0, 1000.0, 1100.0], [100.0, 200.0], 0, fills=fills)
    after = closed_out(before, setup())
    assert after.fills == before.fills
    assert after.equity.tolist() == before.equity.tolist()


def test_joined_accounts_go_on_with_what_the_one_before_was_worth() -> None:
    one = track([100.0, 110.0, 121.0], [10.0, 11.0], 0, fills=(bought(1.0, DAY_MS),))
    two = track([100.0, 50.0, 100.0], [12.0, 13.0], 2, fills=(bought(2.0, 3 * DAY_MS),))
    both = joined([one, two], [[0], [2]], 3, "walk-forward")
    assert both.equity.tolist() == pytest.approx([100.0, 110.0, 121.0, 60.5, 121.0])
    assert both.close_ms.tolist() == [DAY_MS, 2 * DAY_MS, 3 * DAY_MS, 4 * DAY_MS]
    assert [fill.quantity for fill in both.fills] == pytest.approx([1.0, 2.42])
    # What the second paid counts 1.21 times.
    assert (both.fees, both.slippage) == pytest.approx((1.0 + 1.21, 2.0 + 2.42))
    assert (both.name, both.symbols[0].close.tolist()) == ("walk-forward", [10.0, 11.0, 12.0, 13.0])


def test_votes_of_the_members_that_joined_stand_in_their_own_columns() -> None:
    parts = [track([100.0, 100.0], [10.0], 0), track([100.0, 100.0], [10.0], 1), track([100.0, 100.0], [10.0], 2)]
    direction = joined(parts, [[0], [2], []], 3, "walk-forward").symbols[0].direction
    nobody = np.nan
    np.testing.assert_array_equal(direction, [[0.25, nobody, nobody], [nobody, nobody, 0.25], [nobody] * 3])


def test_a_part_is_told_beside_holding_that_paid_to_get_in() -> None:
    one = track([1000.0, 1000.0, 1100.0], [100.0, 110.0], 0)
    two = track([1000.0, 900.0, 990.0], [100.0, 50.0], 10)
    part = part_of("groups 1 and 2", [one, two], setup(fee_rate=0.0, slippage_rate=0.0))
    assert (part.name, part.days, part.exposure) == ("groups 1 and 2", 4, 0.5)
    assert part.total_return == pytest.approx(1.1 * 0.99 - 1.0)
    assert part.max_drawdown == pytest.approx(0.1)
    # Daily returns 0, 10 %, -10 %, 10 %: mean 2.5 %, deviation (n - 1) of sqrt(0.0275 / 3).
    assert part.sharpe == pytest.approx(0.025 / np.sqrt(0.0275 / 3) * np.sqrt(365))
    # Holding: 10 % up in the first, half lost in the second.
    assert part.hold_return == pytest.approx(1.1 * 0.5 - 1.0)
    assert part.hold_drawdown == pytest.approx(0.5)
