from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import wording
from strategy.decision import Action, Decision, DecisionReason
from strategy.order import OrderState, Side
from strategy.regime import Regime, Trend, Volatility
from strategy.risk import Hold, SymbolRisk, TradingState, VerdictReason
from tests.fakes import events


def test_every_reason_and_every_order_state_has_words() -> None:
    assert set(wording.REASONS) == set(VerdictReason)
    assert set(wording.ORDER_STATES) == set(OrderState)
    assert len(set(wording.REASONS.values())) == len(VerdictReason)  # no two reasons read the same


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (events.approved(events.order(), 0.2, 0.24), "buys 0.0123 to 24 %"),
        (
            events.approved(events.order(), 0.2, 0.24, VerdictReason.INSUFFICIENT_CASH),
            "buys only 0.0123: not enough cash",
        ),
        (events.approved(events.order(side=Side.SELL), 0.24, 0.12), "sells 0.0123 to 12 %"),
        (events.approved(events.order(side=Side.SELL), 0.24, 0.0), "sells all, 0.0123"),
        (
            events.approved(events.order(side=Side.SELL), 0.24, 0.3, VerdictReason.STOP_LOSS_TRIGGERED),
            "sells all, 0.0123: stop hit",
        ),
        (
            events.approved(events.order(side=Side.SELL), 0.6, 0.6, VerdictReason.MAX_POSITION_EXCEEDED),
            "sells 0.0123: above the position limit",
        ),
        (events.hold(VerdictReason.DEAD_BAND), "holds: change too small to trade"),
        (events.refused(VerdictReason.STOP_COOLDOWN), "refused: cooling down after a stop"),
    ],
)
def test_a_verdict_reads_as_a_sentence(verdict: object, words: str) -> None:
    assert wording.verdict_words(verdict) == words  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("action", "exposure", "size", "confidence", "words"),
    [
        (Action.SELL, 0.0, 0.9, 0.9, "holds: nothing to sell"),
        (Action.SELL, 0.3, 0.1, 0.1, "holds: change too small to trade"),  # a hundredth less
        (Action.BUY, 0.24, 0.5, 0.5, "holds: at the size that volatility and limits allow"),  # a quarter more
        (Action.BUY, 0.24, 0.25, 0.25, "holds: change too small to trade"),  # 0.0625 is below a tenth
        (Action.BUY, 0.0, 0.5, 0.5, "holds: change too small to trade"),  # nothing is held yet
    ],
)
def test_a_hold_in_the_dead_band_says_which_of_three_it_is(
    action: Action, exposure: float, size: float, confidence: float, words: str
) -> None:
    decision = Decision(
        symbol="BTC/USDT",
        action=action,
        reason=DecisionReason.DEAD_BAND,
        exposure=exposure,
        target=exposure,
        direction=0.8 if action is Action.BUY else -0.8,
        size=size,
        confidence=confidence,
    )
    assert wording.verdict_words(Hold(decision=decision, reason=VerdictReason.DEAD_BAND)) == words


@pytest.mark.parametrize(
    ("risk", "words"),
    [
        (events.risk(), ("ACTIVE", "")),
        (events.risk(is_paused=True), ("PAUSED", "no new exposure until resumed")),
        (events.risk(is_stale=True), ("ACTIVE", "no new exposure: the feed is silent")),
        (events.risk(is_skewed=True), ("ACTIVE", "no new exposure: our clock is off")),
        (
            events.risk(is_drifted=True),
            ("ACTIVE", "no new exposure: the market has moved away from the training candles"),
        ),
        (
            replace(events.risk(), symbols={"BTC/USDT": SymbolRisk(is_halted=True), "ETH/USDT": SymbolRisk()}),
            ("ACTIVE", "no new exposure in BTC/USDT until resumed"),
        ),
        (
            replace(events.risk(), symbols={"BTC/USDT": SymbolRisk(is_closed=True)}),
            ("ACTIVE", "no orders in BTC/USDT: the venue takes none"),
        ),
        (
            events.risk(TradingState.HALTED, VerdictReason.MAX_DRAWDOWN_EXCEEDED),
            ("HALTED", "drawdown limit reached"),
        ),
        (
            events.risk(TradingState.REDUCING, VerdictReason.DAILY_LOSS_LIMIT, is_paused=True),
            ("REDUCING", "daily loss limit reached, paused until resumed"),
        ),
    ],
)
def test_the_trading_state_says_why_it_is_not_plain_active(risk: object, words: tuple[str, str]) -> None:
    assert wording.state_words(risk) == words  # type: ignore[arg-type]


def test_a_regime_is_two_words() -> None:
    assert wording.regime_words(Regime(Trend.DOWN, Volatility.LOW)) == "down, calm"


@pytest.mark.parametrize(("direction", "sign"), [(0.31, 1), (0.3, 0), (0.0, 0), (-0.3, 0), (-0.31, -1)])
def test_a_vote_counts_beyond_the_threshold_of_the_action_rule(direction: float, sign: int) -> None:
    assert wording.direction_sign(direction) == sign


@pytest.mark.parametrize(
    ("value", "width", "words"),
    [
        (10_482.314, 16, "10,482.31"),
        (-0.001, 16, "0.00"),
        (1_234_567.891, 9, "1,234,568"),
        (1_234_567_890.0, 9, "1.23G"),
        (-5e13, 9, "-50.00T"),
        (1e30, 12, "1.00e+30"),
        (float("inf"), 12, "inf"),
    ],
)
def test_money_gives_up_digits_rather_than_its_column(value: float, width: int, words: str) -> None:
    assert wording.money(value, width) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (61_234.1, "61,234.10"),
        (1_234.5678, "1,234.57"),
        (12.3456789, "12.346"),
        (0.123456, "0.12346"),
        (0.00001234, "0.000012340"),
        (3e-11, "3.000e-11"),
        (2e13, "2.000e+13"),
    ],
)
def test_a_price_keeps_the_decimals_that_matter(value: float, words: str) -> None:
    assert wording.price(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0123, "0.0123"), (0.0, "0"), (1_234_567.0, "1,234,567"), (100.0, "100"), (0.00000012, "0.00000012")],
)
def test_a_quantity_has_no_trailing_zeros(value: float, words: str) -> None:
    assert wording.quantity(value) == words


def test_changes_carry_their_sign_and_nothing_is_minus_zero() -> None:
    assert [wording.change(x) for x in (0.0482, -0.0482, 0.0, -0.00001)] == ["+4.82 %", "-4.82 %", "0.00 %", "0.00 %"]
    assert [wording.basis_points(x) for x in (0.0005, -0.00012, 0.0)] == ["+5.0 bp", "-1.2 bp", "0.0 bp"]
    assert wording.percent(0.24, 0) == "24 %"


def test_times_are_utc() -> None:
    assert wording.moment(events.BEGIN_MS) == "2021-11-03 13:00 UTC"
    assert wording.short_moment(events.BEGIN_MS) == "11-03 13:00"
    assert wording.short_moment(events.BEGIN_MS + 5_000, span_ms=1_000) == "13:00:05"
    assert wording.moment(10**18) == "1000000000000000000 ms UTC"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.9, "0:00:00"), (761.0, "0:12:41"), (273_909.0, "3 d 4:05:09"), (-5.0, "0:00:00")]
)
def test_a_duration_counts_days_apart(seconds: float, words: str) -> None:
    assert wording.duration(seconds) == words


@pytest.mark.parametrize(("seconds", "words"), [(0.00084, "840 us"), (0.0013, "1.3 ms"), (2.1, "2.10 s")])
def test_a_latency_has_the_unit_that_suits_it(seconds: float, words: str) -> None:
    assert wording.latency(seconds) == words


def test_text_from_elsewhere_cannot_move_the_cursor() -> None:
    assert wording.one_line("lost\r\n\x1b[2J\x9b1mhere\u2028now") == "lost [2J 1mhere now"


@given(st.floats(allow_nan=False), st.integers(9, 20))
def test_money_never_outgrows_its_column(value: float, width: int) -> None:
    assert len(wording.money(value, width)) <= max(width, len("-1.00e+308"))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_has_words(value: float) -> None:
    words = [wording.price(value), wording.quantity(value), wording.change(value), wording.basis_points(value)]
    assert all("-0 " not in w and w for w in words)
