"""Amounts by hand; and, for any changes under any rules, that one look settles them."""

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.differences import Coin, differences, opening, tolerances
from daemon.live_settings import ExternalRule
from daemon.ports import External
from strategy.instrument import Instrument

BTC, ETH = "BTC/USDT", "ETH/USDT"
INSTRUMENTS = {
    BTC: Instrument(symbol=BTC, tick=0.01, lot=0.00001),
    ETH: Instrument(symbol=ETH, tick=0.01, lot=0.0001),
}
MARKS = {"USDT": 1.0, "BTC": 60_000.0, "ETH": 3_000.0}
SYMBOLS = {"USDT": "", "BTC": BTC, "ETH": ETH}
IGNORE, ADOPT, HALT = ExternalRule.IGNORE, ExternalRule.ADOPT, ExternalRule.HALT


def coin(asset: str, ours: float, foreign: float, total: float, **changes: float) -> Coin:
    tolerance = tolerances(INSTRUMENTS, {asset: total})[asset]
    made = Coin(
        asset=asset, symbol=SYMBOLS[asset], ours=ours, foreign=foreign, total=total, price=MARKS[asset],
        tolerance=tolerance,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def found(rule: ExternalRule, *coins: Coin, instance: str = "live-1") -> list[External]:
    return differences(coins, rule, instance, 1_000)


def one(rule: ExternalRule, *coins: Coin) -> External:
    (external,) = found(rule, *coins)
    return external


# ---- whose it is ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rule", "books", "total", "expected"),
    [
        (IGNORE, (1_000.0, 50.0), 1_200.0, (0.0, 150.0, False)),
        (ADOPT, (1_000.0, 50.0), 1_200.0, (150.0, 0.0, False)),
        (HALT, (1_000.0, 50.0), 1_200.0, (0.0, 150.0, True)),
        # A withdrawal takes from the foreign part first, or from ours where changes are adopted.
        (IGNORE, (1_000.0, 50.0), 1_020.0, (0.0, -30.0, False)),
        (ADOPT, (1_000.0, 50.0), 1_020.0, (-30.0, 0.0, False)),
        # The venue wins: what is not there is nobody's.
        (IGNORE, (1_000.0, 50.0), 900.0, (-100.0, -50.0, False)),
        (HALT, (1_000.0, 50.0), 900.0, (-100.0, -50.0, True)),
        (ADOPT, (1_000.0, 50.0), 20.0, (-1_000.0, -30.0, False)),
        (IGNORE, (1_000.0, 50.0), 0.0, (-1_000.0, -50.0, False)),
        # A debt of somebody else does not stay, though the sum is right.
        (IGNORE, (1_000.0, -50.0), 950.0, (-50.0, 50.0, False)),
        (ADOPT, (1_000.0, -50.0), 950.0, (-50.0, 50.0, False)),
    ],
)
def test_the_rule_says_whose_a_change_is_and_the_venue_wins(
    rule: ExternalRule, books: tuple[float, float], total: float, expected: tuple[float, float, bool]
) -> None:
    external = one(rule, coin("USDT", *books, total))
    assert (external.ours, external.foreign, external.halts) == expected
    assert (external.asset, external.symbol, external.price, external.at_ms) == ("USDT", "", 1.0, 1_000)


def test_books_that_agree_are_left_alone() -> None:
    agree = [coin("USDT", 900.0, 100.0, 1_000.0), coin("BTC", 0.5, 0.25, 0.75), coin("ETH", 0.0, 0.0, 0.0)]
    assert found(HALT, *agree) == []


def test_a_base_may_be_half_a_lot_apart_and_the_quote_a_millionth() -> None:
    allowed = tolerances(INSTRUMENTS, {"USDT": 20_000.0, "BTC": 1.0, "ETH": 3.0})
    assert allowed == pytest.approx({"USDT": 0.02, "BTC": 0.000005, "ETH": 0.00005})
    assert tolerances(INSTRUMENTS, {})["USDT"] == pytest.approx(1e-7)  # the tick of BTC times its lot: the smallest
    assert found(IGNORE, coin("BTC", 1.0, 0.0, 1.000004), coin("USDT", 10_000.0, 0.0, 10_000.009)) == []
    assert len(found(IGNORE, coin("BTC", 1.0, 0.0, 1.000006), coin("USDT", 10_000.0, 0.0, 10_000.02))) == 2


def test_what_has_no_price_is_never_ours() -> None:
    external = one(ADOPT, coin("BTC", 0.0, 0.0, 0.4, price=0.0))
    assert (external.ours, external.foreign) == (0.0, 0.4)


def test_the_opening_leaves_us_our_cash_and_calls_the_rest_foreign() -> None:
    coins = [coin("USDT", 1_000.0, 0.0, 1_500.0), coin("BTC", 0.0, 0.0, 0.3), coin("ETH", 0.0, 0.0, 0.0)]
    told = opening(coins, "live-1", 7)
    assert [(e.asset, e.ours, e.foreign, e.halts) for e in told] == [
        ("USDT", 0.0, 500.0, False),
        ("BTC", 0.0, 0.3, False),
        ("ETH", 0.0, 0.0, False),
    ]
    assert {(e.detail, e.at_ms) for e in told} == {("found at the opening", 7)}


# ---- in words ---------------------------------------------------------------------------------------------------
def test_a_sale_by_hand_is_recognised_in_both_coins_and_halts_its_symbol_alone() -> None:
    # 0.1 BTC for 6,000 USDT less 0.1 % fee; both from the part of somebody else.
    told = {e.asset: e for e in found(HALT, coin("USDT", 900.0, 0.0, 6_894.0), coin("BTC", 0.5, 0.2, 0.6))}
    assert {e.detail for e in told.values()} == {
        "5,994 USDT more than the books say: looks like somebody sold 0.1 BTC at about 59,940.00; ours is unchanged",
        "0.1 BTC less than the books say: looks like somebody sold 0.1 BTC at about 59,940.00; ours is unchanged",
    }
    assert (told["USDT"].halts, told["BTC"].halts) == (False, True)


def test_a_purchase_by_hand_with_our_cash_halts_everything() -> None:
    told = {e.asset: e for e in found(HALT, coin("USDT", 9_000.0, 0.0, 3_000.0), coin("BTC", 0.0, 0.0, 0.1))}
    assert told["USDT"].ours == -6_000.0
    assert (told["USDT"].halts, told["BTC"].halts) == (True, True)
    assert told["USDT"].detail.endswith("somebody bought 0.1 BTC at about 60,000.00; ours falls by 6,000 to 3,000 USDT")


def test_trades_of_two_coins_are_told_together() -> None:
    sold = found(IGNORE, coin("USDT", 0.0, 0.0, 9_000.0), coin("BTC", 0.0, 0.1, 0.0), coin("ETH", 0.0, 1.0, 0.0))
    assert all("looks like somebody sold 0.1 BTC and sold 1 ETH;" in e.detail for e in sold)


@pytest.mark.parametrize(
    ("change", "words"),
    [(0.1, "0.1 BTC more than the books say: came from elsewhere"), (-0.1, "withdrawn, spent or sold elsewhere")],
)
def test_a_transfer_is_not_called_a_trade(change: float, words: str) -> None:
    # The quote changed too, but by far too little to have paid for it.
    told = found(IGNORE, coin("USDT", 0.0, 500.0, 400.0), coin("BTC", 0.0, 1.0, 1.0 + change))
    detail = next(e.detail for e in told if e.asset == "BTC")
    assert words in detail
    assert "somebody" not in detail


def test_what_comes_stands_before_what_goes() -> None:
    told = found(ADOPT, coin("BTC", 0.1, 0.0, 0.0), coin("USDT", 0.0, 0.0, 6_000.0))
    assert [(e.asset, e.ours) for e in told] == [("USDT", 6_000.0), ("BTC", -0.1)]


# ---- ids --------------------------------------------------------------------------------------------------------
def test_an_id_names_instance_coin_books_and_total() -> None:
    def external_id(*values: float, asset: str = "USDT", instance: str = "live-1") -> str:
        return found(IGNORE, coin(asset, *values), instance=instance)[0].external_id

    same = external_id(1.0, 2.0, 9.0)
    assert same == external_id(1.0, 2.0, 9.0)
    others = {
        external_id(1.5, 2.0, 9.0),
        external_id(1.0, 2.5, 9.0),
        external_id(1.0, 2.0, 9.5),
        external_id(1.0, 2.0, 9.0, asset="BTC"),
        external_id(1.0, 2.0, 9.0, instance="live-2"),
    }
    assert len(others - {same}) == 5


def test_another_process_gives_the_same_id() -> None:
    here = one(IGNORE, coin("USDT", 0.1, 0.2, 9.0)).external_id
    program = "from tests.daemon.test_differences import *; print(one(IGNORE, coin('USDT', 0.1, 0.2, 9.0)).external_id)"
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert there.stdout.strip() == here


# ---- any changes under any rules --------------------------------------------------------------------------------
_AMOUNTS = {"USDT": st.integers(0, 10**15), "BTC": st.integers(0, 10**10), "ETH": st.integers(0, 10**12)}
_STEPS = {"USDT": 10**6, "BTC": 10**5, "ETH": 10**5}
"""Amounts are whole numbers of the venue's smallest unit; so many make one coin."""


@st.composite
def _accounts(draw: st.DrawFn) -> dict[str, float]:
    return {asset: draw(amounts) / _STEPS[asset] for asset, amounts in _AMOUNTS.items()}


@given(
    st.dictionaries(st.sampled_from(sorted(MARKS)), st.tuples(st.floats(0, 1e9), st.floats(-1e6, 1e9))),
    st.lists(st.tuples(_accounts(), st.sampled_from(ExternalRule)), min_size=1, max_size=8),
    st.sampled_from([0.0, 1.0]),
)
def test_one_look_settles_any_change_and_a_second_finds_nothing(
    books: dict[str, tuple[float, float]], changes: list[tuple[dict[str, float], ExternalRule]], mark: float
) -> None:
    held = {asset: books.get(asset, (0.0, 0.0)) for asset in MARKS}
    for totals, rule in changes:
        allowed = tolerances(INSTRUMENTS, totals)

        def seen(totals: dict[str, float] = totals) -> list[Coin]:
            prices = {asset: price if asset == "USDT" else price * mark for asset, price in MARKS.items()}
            return [coin(asset, *held[asset], totals[asset], price=prices[asset]) for asset in MARKS]

        told = found(rule, *seen())
        assert told == found(rule, *seen())
        for external in told:
            ours, foreign = held[external.asset]
            held[external.asset] = (ours + external.ours, foreign + external.foreign)
            json.dumps(external.detail)
        assert found(rule, *seen()) == []
        for asset, (ours, foreign) in held.items():
            # Exactly, in rational numbers: nothing was created by rounding beyond what is allowed.
            gap = Fraction(totals[asset]) - Fraction(ours) - Fraction(foreign)
            assert abs(gap) <= Fraction(allowed[asset]) * (1 + Fraction(1, 10**6))
            assert min(ours, foreign) >= -allowed[asset]
            assert ours <= totals[asset] + 2 * allowed[asset]
