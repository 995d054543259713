"""The words and figures a person reads, shared by the terminal and the log: verdicts, states, money, times.

Turns values into text and nothing else; never reads a clock. Times are UTC.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import assert_never

from strategy.decision import THRESHOLD, Action, Decision
from strategy.order import OrderState, Side
from strategy.regime import Regime, Volatility
from strategy.risk import Approved, Hold, Refused, RiskState, TradingState, Verdict, VerdictReason

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029], " ")
_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"))
_SMALLEST = 1e-9
"""Prices and quantities below this are written with an exponent."""

REASONS: Mapping[VerdictReason, str] = {
    VerdictReason.VOTED: "the members voted for it",
    VerdictReason.NEUTRAL: "no clear direction",
    VerdictReason.WARMING_UP: "the window is not full",
    VerdictReason.NO_VOTES: "the ensemble failed to vote",
    VerdictReason.DEAD_BAND: "change too small to trade",
    VerdictReason.BETWEEN_DECISIONS: "no decision falls on this candle",
    VerdictReason.EDGE_BELOW_COST: "expected move would not pay the costs",
    VerdictReason.OPERATOR: "asked for by the operator",
    VerdictReason.MAX_DRAWDOWN_EXCEEDED: "drawdown limit reached",
    VerdictReason.MAX_POSITION_EXCEEDED: "above the position limit",
    VerdictReason.STOP_LOSS_TRIGGERED: "stop hit",
    VerdictReason.DAILY_LOSS_LIMIT: "daily loss limit reached",
    VerdictReason.ORDER_RATE: "the day's orders are used up",
    VerdictReason.TURNOVER_BUDGET: "the day's turnover is used up",
    VerdictReason.LOSS_STREAK: "cooling down after a losing streak",
    VerdictReason.STOP_COOLDOWN: "cooling down after a stop",
    VerdictReason.STALE_FEED: "the feed is silent",
    VerdictReason.CLOCK_SKEW: "our clock is off",
    VerdictReason.DISAGREEMENT: "the members disagree",
    VerdictReason.OUT_OF_DISTRIBUTION: "unlike anything in training",
    VerdictReason.DRIFT: "the market has moved away from the training candles",
    VerdictReason.MINIMUM_NOTIONAL: "below the venue's minimum order",
    VerdictReason.INSUFFICIENT_CASH: "not enough cash",
    VerdictReason.PAUSED: "paused until resumed",
    VerdictReason.HALTED: "trading is halted",
    VerdictReason.ORDER_IN_FLIGHT: "an order of it has not ended",
    VerdictReason.SYMBOL_HALTED: "somebody else changed what is held: resume it by hand",
    VerdictReason.VENUE_CLOSED: "the venue takes no orders",
    VerdictReason.UNPROTECTED: "no stop can be placed for it",
}

ORDER_STATES: Mapping[OrderState, str] = {
    OrderState.INTENDED: "intended",
    OrderState.IN_FLIGHT: "sent",
    OrderState.UNKNOWN: "no answer",
    OrderState.OPEN: "open",
    OrderState.PARTIALLY_FILLED: "part filled",
    OrderState.FILLED: "filled",
    OrderState.CANCELLED: "cancelled",
    OrderState.EXPIRED: "expired",
    OrderState.REJECTED: "rejected",
    OrderState.NOT_PLACED: "not placed",
}

_REAL_STEP = 0.1
"""Size times confidence from which on a vote to buy is no small change: what holds it back is the limit it has met."""
_VOLATILITY = {Volatility.LOW: "calm", Volatility.NORMAL: "normal", Volatility.HIGH: "volatile"}
_SELLS_ALL = frozenset(
    {
        VerdictReason.MAX_DRAWDOWN_EXCEEDED,
        VerdictReason.STOP_LOSS_TRIGGERED,
        VerdictReason.OPERATOR,
        VerdictReason.UNPROTECTED,
    }
)
"""Reasons that close the whole position, whatever the members wanted."""


# ---- what was decided -------------------------------------------------------------------------------------------
def verdict_words(verdict: Verdict) -> str:
    """Return what a verdict means, such as `buys 0.0123 to 24 %` or `refused: cooling down after a stop`."""
    match verdict:
        case Approved():
            return _approved_words(verdict)
        case Hold():
            return f"holds: {_hold_words(verdict)}"
        case Refused():
            return f"refused: {REASONS[verdict.reason]}"
        case _:
            assert_never(verdict)


def _hold_words(verdict: Hold) -> str:
    """Return why nothing is done; the dead band stands for three things, which the decision's figures tell apart."""
    if verdict.reason is VerdictReason.DEAD_BAND:
        decision = verdict.decision
        if decision.action is Action.SELL and decision.exposure <= 0.0:
            return "nothing to sell"
        if _is_at_limit(decision):
            return "at the size that volatility and limits allow"
    return REASONS[verdict.reason]


def _is_at_limit(decision: Decision) -> bool:
    is_real = decision.size * decision.confidence >= _REAL_STEP
    return decision.action is Action.BUY and decision.exposure > 0.0 and is_real


def _approved_words(verdict: Approved) -> str:
    order, reason, target = verdict.order, verdict.reason, verdict.decision.target
    amount = quantity(order.quantity)
    if order.side is Side.BUY:
        if reason is VerdictReason.VOTED:
            return f"buys {amount} to {percent(target, 0)}"
        return f"buys only {amount}: {REASONS[reason]}"
    if reason is VerdictReason.VOTED:
        return f"sells {amount} to {percent(target, 0)}" if target > 0.0 else f"sells all, {amount}"
    return f"sells {'all, ' if reason in _SELLS_ALL else ''}{amount}: {REASONS[reason]}"


def regime_words(regime: Regime) -> str:
    """Return a regime in two words, such as `up, volatile`."""
    return f"{regime.trend.name.lower()}, {_VOLATILITY[regime.volatility]}"


def direction_sign(direction: float) -> int:
    """Return what a vote of this direction is: 1 for BUY, -1 for SELL, 0 for HOLD."""
    return 1 if direction > THRESHOLD else -1 if direction < -THRESHOLD else 0


def state_words(risk: RiskState) -> tuple[str, str]:
    """Return the trading state in one word, and why it is not plain ACTIVE (empty when it is)."""
    why = REASONS[risk.reason] if risk.reason is not None else ""
    if risk.state is not TradingState.ACTIVE:
        return risk.state.name, f"{why}, {REASONS[VerdictReason.PAUSED]}" if risk.is_paused and why else why
    if risk.is_paused:
        return "PAUSED", "no new exposure until resumed"
    return "ACTIVE", next(_hindrances(risk), "")


def _hindrances(risk: RiskState) -> Iterator[str]:
    """Yield why an active account buys nothing, or nothing of some symbols, the widest reason first."""
    if risk.is_cut_off:
        yield f"no new exposure: {REASONS[VerdictReason.VENUE_CLOSED]}"
    if risk.is_stale:
        yield f"no new exposure: {REASONS[VerdictReason.STALE_FEED]}"
    if risk.is_skewed:
        yield f"no new exposure: {REASONS[VerdictReason.CLOCK_SKEW]}"
    if risk.is_drifted:
        yield f"no new exposure: {REASONS[VerdictReason.DRIFT]}"
    if halted := [symbol for symbol, known in risk.symbols.items() if known.is_halted]:
        yield f"no new exposure in {', '.join(halted)} until resumed"
    if closed := sorted(risk.closed):
        yield f"no orders in {', '.join(closed)}: the venue takes none"


def hindrances(risk: RiskState) -> list[str]:
    """Return every reason why nothing, or nothing of some symbols, is bought; empty when all may be."""
    word, why = state_words(risk)
    return [*([why] if word != "ACTIVE" else []), *_hindrances(risk)]


_MONEY = {"real": "REAL MONEY", "sandbox": "SANDBOX", "local": "TEST VENUE"}


def money_words(money: str) -> str:
    """Return whose money is traded as a reader has to see it, "" on paper: `REAL MONEY`, `SANDBOX`, `TEST VENUE`."""
    return _MONEY.get(money, "")


# ---- figures ----------------------------------------------------------------------------------------------------
def money(value: float, width: int = 16) -> str:
    """Return an amount with thousands separated, in at most `width` characters: fewer decimals, then M, G, T."""
    if not math.isfinite(value):
        return str(value)
    for decimals in (2, 0):
        text = _unsigned_zero(f"{value:,.{decimals}f}")
        if len(text) <= width:
            return text
    for size, suffix in _SUFFIXES:
        if size <= abs(value) < size * 1e3:
            return f"{value / size:.2f}{suffix}"
    return f"{value:.2e}"


def count(n: int, thing: str) -> str:
    """Return a number of things: `1 gap`, `1,204 gaps`."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def price(value: float) -> str:
    """Return a price with decimals that suit its size: 61,234.10 but 0.00001234."""
    if value == 0.0 or not math.isfinite(value):
        return str(value)
    if not _SMALLEST <= abs(value) < 1e12:  # noqa: PLR2004  # from here on digits say less than the exponent
        return f"{value:.3e}"
    return f"{value:,.{_decimals(value, 5, least=2)}f}"


def quantity(value: float) -> str:
    """Return an amount of base currency to six significant digits, without trailing zeros."""
    if value == 0.0:
        return "0"
    if not math.isfinite(value) or not _SMALLEST <= abs(value) < 1e12:  # noqa: PLR2004  # as above
        return f"{value:.3e}"
    text = f"{value:,.{_decimals(value, 6, least=0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _decimals(value: float, digits: int, least: int) -> int:
    """Return how many decimals show `digits` significant digits."""
    return max(least, digits - 1 - math.floor(math.log10(abs(value))))


def percent(share: float, decimals: int = 2) -> str:
    """Return a share such as 0.0231 as `2.31 %`."""
    return f"{_percent(share, decimals)} %"


def change(share: float, decimals: int = 2) -> str:
    """Return a change such as 0.0231 with its sign: `+2.31 %`."""
    text = _percent(share, decimals)
    return f"{text} %" if text.startswith("-") or not text.strip("0.") else f"+{text} %"


def _percent(share: float, decimals: int) -> str:
    value = 100.0 * share
    if abs(value) >= 1e6:  # noqa: PLR2004  # no column is wider
        return f"{value:.1e}"
    return _unsigned_zero(f"{value:,.{decimals}f}")


def basis_points(share: float) -> str:
    """Return a share in basis points, with its sign: `+5.0 bp`."""
    text = _unsigned_zero(f"{1e4 * share:,.1f}")
    return f"{text} bp" if text.startswith("-") or text == "0.0" else f"+{text} bp"


def _unsigned_zero(text: str) -> str:
    """Return `text` without the minus of a number that rounds to zero."""
    return text[1:] if text.startswith("-") and not text.strip("-0.,") else text


# ---- times ------------------------------------------------------------------------------------------------------
def moment(at_ms: int) -> str:
    """Return a time as `2021-11-03 14:00 UTC`."""
    return f"{_stamp(at_ms, '%Y-%m-%d %H:%M')} UTC"


def short_moment(at_ms: int, span_ms: int = 3_600_000) -> str:
    """Return a time without the year, `11-03 14:00`; with seconds instead of the day for candles below a minute."""
    return _stamp(at_ms, "%m-%d %H:%M" if span_ms >= 60_000 else "%H:%M:%S")  # noqa: PLR2004  # a minute


def _stamp(at_ms: int, form: str) -> str:
    try:
        return (_EPOCH + timedelta(milliseconds=at_ms)).strftime(form)
    except OverflowError:
        return f"{at_ms} ms"


def duration(seconds: float) -> str:
    """Return a length of time as `0:12:41` or `3 d 4:05:09`."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days:,} d {clock}" if days else clock


def latency(seconds: float) -> str:
    """Return a short time as `840 us`, `1.3 ms` or `2.10 s`."""
    if seconds < 1e-3:  # noqa: PLR2004  # a millisecond
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1.0 else f"{seconds:.2f} s"


# ---- text from elsewhere ----------------------------------------------------------------------------------------
def one_line(text: str) -> str:
    """Return text of a venue or library without line breaks and control characters, which could move the cursor."""
    return " ".join(text.translate(_CONTROLS).split())
