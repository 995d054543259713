from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.parameters import RiskLimits
from strategy.portfolio import Position
from strategy.stops import stop_price

LIMITS = RiskLimits(stop_loss=0.05, stop_atr_multiple=8.0)
HELD = Position(quantity=2.0, average_entry=100.0, mark=100.0, high=100.0)


# Entry at 100, so the fixed stop is 95; the adaptive one hangs 8 average ranges below the high.
@pytest.mark.parametrize(
    ("high", "average_range", "current", "price"),
    [
        pytest.param(100.0, 0.01, None, 95.0, id="8 % below the high: the fixed stop is nearer"),
        pytest.param(100.0, 0.005, None, 96.0, id="4 % below the high: the adaptive stop is nearer"),
        pytest.param(150.0, 0.01, None, 138.0, id="it follows the high"),
        pytest.param(100.0, 0.0001, None, 99.5, id="never nearer than half a percent"),
        pytest.param(100.0, 0.0, None, 99.5, id="no range at all"),
        pytest.param(100.0, 0.5, None, 95.0, id="four times the price away"),
        pytest.param(120.0, None, None, 95.0, id="range not known yet"),
        pytest.param(120.0, None, 111.0, 111.0, id="range not known again: it stays"),
        pytest.param(120.0, 0.02, 111.0, 111.0, id="ranges have grown: it does not fall"),
        pytest.param(150.0, 0.01, 111.0, 138.0, id="it rises"),
    ],
)
def test_stop_price_by_hand(high: float, average_range: float | None, current: float | None, price: float) -> None:
    assert stop_price(LIMITS, replace(HELD, high=high), average_range, current) == pytest.approx(price, rel=1e-12)


def test_a_multiple_of_zero_switches_the_adaptive_stop_off() -> None:
    limits = replace(LIMITS, stop_atr_multiple=0.0)
    assert stop_price(limits, replace(HELD, high=500.0), 0.001, None) == pytest.approx(95.0, rel=1e-12)


def test_any_multiple_above_zero_counts() -> None:
    # Half of an average range of 4 % below the high of 100.
    limits = replace(LIMITS, stop_atr_multiple=0.5)
    assert stop_price(limits, HELD, 0.04, None) == pytest.approx(98.0, rel=1e-12)


def test_buying_more_below_the_entry_does_not_lower_the_stop() -> None:
    cheaper = replace(HELD, quantity=4.0, average_entry=98.0)
    assert stop_price(LIMITS, cheaper, 0.01, 95.0) == 95.0
    assert stop_price(LIMITS, cheaper, 0.01, None) == pytest.approx(93.1, rel=1e-12)


CANDLES = st.lists(st.tuples(st.floats(0.5, 2.0), st.none() | st.floats(0.0, 1.0)), min_size=2, max_size=40)


@given(CANDLES, st.floats(0.001, 0.99), st.floats(0.0, 100.0))
def test_the_stop_never_falls_while_the_position_is_held(
    candles: list[tuple[float, float | None]], stop_loss: float, multiple: float
) -> None:
    limits = RiskLimits(stop_loss=stop_loss, stop_atr_multiple=multiple)
    position, stop = HELD, None
    for change, average_range in candles:
        mark = position.mark * change
        position = replace(position, mark=mark, high=max(position.high, mark))
        was, stop = stop, stop_price(limits, position, average_range, stop)
        assert stop > 0.0
        assert was is None or stop >= was
        assert stop >= 100.0 * (1.0 - stop_loss)
        assert stop <= max(100.0 * (1.0 - stop_loss), position.high * 0.995)
