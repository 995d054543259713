import decimal
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strategy.errors import InvalidInstrument
from strategy.instrument import Instrument

STEPS = [1e-8, 1e-5, 0.0001, 0.0003, 0.01, 0.05, 0.25, 0.5, 1.0, 3.0, 25.0, 1_000.0]
ROUNDINGS = ["floor_quantity", "ceil_quantity", "nearest_quantity", "floor_price", "ceil_price"]
AMOUNTS = st.floats(0.0, 1e12, allow_subnormal=False) | st.integers(0, 10**9).map(lambda n: n / 10_000)


def instrument(step: float) -> Instrument:
    return Instrument(symbol="BTC/USDT", tick=step, lot=step)


def steps_in(value: float, step: float) -> Fraction:
    """Return how many steps a float is, taking both for the decimals they are written as."""
    return Fraction(repr(value)) / Fraction(repr(step))


@given(AMOUNTS, st.sampled_from(STEPS))
@example(0.3, 0.1)
@example(8.2, 0.1)
@example(0.29999999999999999, 0.1)
def test_rounding_down_gives_the_largest_multiple_that_is_not_above(value: float, step: float) -> None:
    lower = instrument(step).floor_quantity(value)
    count = steps_in(value, step)
    assert lower <= value
    assert lower == float((count.numerator // count.denominator) * Fraction(repr(step)))
    assert lower == instrument(step).floor_price(value)


@given(AMOUNTS, st.sampled_from(STEPS))
@example(0.3, 0.1)
@example(0.1 + 0.2, 0.1)
def test_rounding_up_gives_the_smallest_multiple_that_is_not_below(value: float, step: float) -> None:
    upper = instrument(step).ceil_quantity(value)
    count = steps_in(value, step)
    assert upper >= value
    assert upper == float(-(-count.numerator // count.denominator) * Fraction(repr(step)))
    assert upper == instrument(step).ceil_price(value)


@given(AMOUNTS, st.sampled_from(STEPS))
def test_the_nearest_multiple_is_at_most_half_a_step_away(value: float, step: float) -> None:
    nearest = instrument(step).nearest_quantity(value)
    assert nearest == float(round(steps_in(value, step)) * Fraction(repr(step)))


@given(st.integers(0, 10**9), st.sampled_from(STEPS), st.sampled_from(ROUNDINGS))
def test_what_lies_on_the_grid_stays_where_it_is(count: int, step: float, rounding: str) -> None:
    value = float(count * Decimal(repr(step)))
    assert getattr(instrument(step), rounding)(value) == value


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.sampled_from([1e-8, 0.0001, 0.01, 0.1]))
def test_the_nearest_multiple_takes_out_what_additions_left_behind(first: int, second: int, lot: float) -> None:
    one, two = (float(n * Decimal(repr(lot))) for n in (first, second))
    total = instrument(lot).nearest_quantity(one + two)
    assert total == float((first + second) * Decimal(repr(lot)))
    assert instrument(lot).nearest_quantity(total - two) == one


@pytest.mark.parametrize(
    ("rounding", "value", "step", "expected"),
    [
        ("floor_quantity", 0.3, 0.1, 0.3),
        ("floor_quantity", 0.29999, 0.1, 0.2),
        ("floor_quantity", 0.1 + 0.7, 0.1, 0.7),  # 0.7999999999999999
        ("ceil_quantity", 0.1 + 0.2, 0.1, 0.4),  # 0.30000000000000004
        ("nearest_quantity", 0.1 + 0.2, 0.1, 0.3),
        ("nearest_quantity", 2.5, 1.0, 2.0),
        ("nearest_quantity", 3.5, 1.0, 4.0),
        ("floor_price", 19_798.689, 0.01, 19_798.68),
        ("ceil_price", 19_798.681, 0.01, 19_798.69),
        ("floor_quantity", 0.00009, 0.0001, 0.0),
        ("ceil_quantity", 5e-324, 1.0, 1.0),
        ("floor_quantity", 1e300, 0.0001, 1e300),
    ],
)
def test_rounding_by_hand(rounding: str, value: float, step: float, expected: float) -> None:
    assert getattr(instrument(step), rounding)(value) == expected


def test_rounding_does_not_depend_on_the_decimal_context_of_the_process() -> None:
    # ccxt switches the context of its thread to ROUND_HALF_UP and traps underflow; others lower the precision.
    coarse = decimal.Context(prec=3, rounding=decimal.ROUND_UP, traps=[decimal.Inexact, decimal.Underflow])
    with decimal.localcontext(coarse):
        found = [getattr(instrument(0.0003), rounding)(12_345.67891) for rounding in ROUNDINGS]
    assert found == [12_345.6789, 12_345.6792, 12_345.6789, 12_345.6789, 12_345.6792]


GOOD: dict[str, Any] = {"symbol": "BTC/USDT", "tick": 0.01, "lot": 0.0001, "min_notional": 5.0}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"{name} {value}": ({name: value}, f"BTC/USDT: {name} {value} is not a positive number")
        for name in ("tick", "lot")
        for value in (0.0, -0.01, float("nan"), float("inf"))
    },
    **{
        f"min_notional {value}": ({"min_notional": value}, f"BTC/USDT: min_notional {value} is not a number >= 0")
        for value in (-1.0, float("nan"), float("inf"))
    },
    **{
        f"symbol {symbol!r}": ({"symbol": symbol}, f"symbol {symbol!r} is not of the form BASE/QUOTE")
        for symbol in ("BTCUSDT", "", "/", "BTC/", "/USDT")
    },
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_an_impossible_instrument_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInstrument) as refused:
        Instrument(**GOOD | changes)
    assert str(refused.value) == message


def test_an_instrument_knows_its_currencies_and_is_equal_by_value() -> None:
    made = Instrument(**GOOD)
    assert (made.base, made.quote) == ("BTC", "USDT")
    assert made == Instrument(**GOOD)
    assert made != Instrument(**GOOD | {"lot": 0.001})
    assert Instrument(symbol="A/B", tick=1.0, lot=1.0).min_notional == 0.0
