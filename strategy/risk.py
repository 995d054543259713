"""The risk manager: approves, shrinks or refuses every decision, and closes what must be closed.

Held positions come first. What lowers risk is never refused. Permission is a type: only `Approved` carries an order.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from strategy.costs import affordable_quantity, fill_price
from strategy.decision import Decision, DecisionReason
from strategy.errors import BadState
from strategy.instrument import Instrument
from strategy.order import Order, Side
from strategy.parameters import CostModel, RiskLimits
from strategy.portfolio import Portfolio, Position
from strategy.stored import read_record


class TradingState(StrEnum):
    """What the account may do; latched in the journal."""

    ACTIVE = "active"
    REDUCING = "reducing"
    """Exposure may only fall."""
    HALTED = "halted"
    """Flat, and nothing is bought until a person or the cool-down resumes."""


class VerdictReason(StrEnum):
    """Why the risk manager did what it did. A closed set: it labels metrics."""

    VOTED = "voted"
    NEUTRAL = "neutral"
    WARMING_UP = "warming_up"
    DEAD_BAND = "dead_band"
    EDGE_BELOW_COST = "edge_below_cost"
    OPERATOR = "operator"
    MAX_DRAWDOWN_EXCEEDED = "max_drawdown_exceeded"
    MAX_POSITION_EXCEEDED = "max_position_exceeded"
    STOP_LOSS_TRIGGERED = "stop_loss_triggered"
    DAILY_LOSS_LIMIT = "daily_loss_limit"
    ORDER_RATE = "order_rate"
    TURNOVER_BUDGET = "turnover_budget"
    LOSS_STREAK = "loss_streak"
    STOP_COOLDOWN = "stop_cooldown"
    STALE_FEED = "stale_feed"
    CLOCK_SKEW = "clock_skew"
    DISAGREEMENT = "disagreement"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    MINIMUM_NOTIONAL = "minimum_notional"
    INSUFFICIENT_CASH = "insufficient_cash"
    PAUSED = "paused"
    HALTED = "halted"
    # New ones go last: the compiled twin of this file knows a reason by its place.
    ORDER_IN_FLIGHT = "order_in_flight"
    """An order of the symbol has not ended: only then is known what is held."""
    SYMBOL_HALTED = "symbol_halted"
    """Somebody else moved what is held there; a person has to resume."""
    VENUE_CLOSED = "venue_closed"
    """Orders cannot be sent or followed, or the market takes none."""
    UNPROTECTED = "unprotected"
    """No stop can be placed for what is held."""
    BETWEEN_DECISIONS = "between_decisions"
    DRIFT = "drift"
    """The market as a whole has moved away from the candles that the ensemble was trained on."""
    NO_VOTES = "no_votes"
    """The ensemble failed on a full window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved:
    """The order may leave. reason: why it exists."""

    decision: Decision
    reason: VerdictReason
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Nothing was wanted, or nothing can be done."""

    decision: Decision
    reason: VerdictReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The decision wanted more exposure than risk allows."""

    decision: Decision
    reason: VerdictReason


Verdict = Approved | Hold | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolRisk:
    """What keeps one symbol from taking new exposure. blocked_until_ms: close times before this are blocked.

    is_halted: until a person resumes.  is_closed: its market takes no orders.
    """

    loss_streak: int = 0
    blocked_until_ms: int = 0
    blocked_by: VerdictReason = VerdictReason.STOP_COOLDOWN
    is_halted: bool = False
    is_closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskState:
    """What the risk manager remembers from candle to candle.

    reason: what ended ACTIVE.  halted_ms: close of the candle on which the account became HALTED.  is_paused: a
    person wants no new exposure.  is_flattening: a person wants nothing held at all.  is_cut_off: orders cannot be sent
    or followed at the venue.  is_drifted: the market lies too far from what the ensemble was trained on.

    day: of the counters, days since 1970-01-01 UTC.  orders_today: orders approved on that day, each once and whether
    or not it fills, and fills of protective stops, which nobody approves; a stop that rests counts nothing.
    turnover_today: quote: approved orders at quantity times the close or price they were decided at, fills of stops at
    quantity times the price they filled at. Fills of approved orders count nothing more. An order decided on the candle
    that closes at midnight belongs to the day that ends, a fill to the day it happened on.
    """

    symbols: Mapping[str, SymbolRisk]
    state: TradingState = TradingState.ACTIVE
    reason: VerdictReason | None = None
    halted_ms: int = 0
    is_paused: bool = False
    is_flattening: bool = False
    is_stale: bool = False
    is_skewed: bool = False
    is_cut_off: bool = False
    is_drifted: bool = False
    day: int = -1
    orders_today: int = 0
    turnover_today: float = 0.0

    @property
    def closed(self) -> frozenset[str]:
        """Symbols whose market takes no orders."""
        return frozenset(symbol for symbol, known in self.symbols.items() if known.is_closed)

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], symbols: Sequence[str]) -> "RiskState":
        """Return the state of `symbols` stored as `values`. Raises BadState when it was stored by something else."""
        try:
            stored = values["symbols"]
            if set(stored) != set(symbols):
                raise BadState(f"stored risk state knows {sorted(stored)}, not {sorted(symbols)}")
            known = {
                symbol: read_record(SymbolRisk, stored[symbol], blocked_by=VerdictReason(stored[symbol]["blocked_by"]))
                for symbol in symbols
            }
            state = TradingState(values["state"])
            reason = None if values["reason"] is None else VerdictReason(values["reason"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadState(f"stored risk state cannot be read: {error}") from error
        return read_record(cls, values, symbols=known, state=state, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What the account-wide check of one candle found."""

    state: RiskState
    portfolio: Portfolio


def review(
    limits: RiskLimits, state: RiskState, portfolio: Portfolio, now_ms: int, span_ms: int, *, is_flat: bool
) -> Review:
    """Return the account's state after a candle was marked: drawdown, daily loss, cool-down, a new day.

    is_flat: nothing is held that the venue would still let us sell; a smaller remainder must not keep us REDUCING.
    """
    state = _on_day(state, portfolio.day)
    if state.state is TradingState.HALTED:
        cooled = limits.halt_cooldown > 0 and now_ms >= state.halted_ms + limits.halt_cooldown * span_ms
        return _restarted(state, portfolio) if cooled else Review(state=state, portfolio=portfolio)
    if portfolio.drawdown >= limits.max_drawdown:
        latched = TradingState.HALTED if is_flat else TradingState.REDUCING
        state = replace(state, state=latched, reason=VerdictReason.MAX_DRAWDOWN_EXCEEDED, halted_ms=now_ms)
    elif state.reason is VerdictReason.MAX_DRAWDOWN_EXCEEDED:
        # It keeps reducing until flat even when the price has recovered meanwhile; then it halts.
        state = replace(state, state=TradingState.HALTED, halted_ms=now_ms) if is_flat else state
    elif state.state is TradingState.ACTIVE and portfolio.day_loss >= limits.daily_loss:
        state = replace(state, state=TradingState.REDUCING, reason=VerdictReason.DAILY_LOSS_LIMIT)
    return Review(state=state, portfolio=portfolio)


def _on_day(state: RiskState, day: int) -> RiskState:
    """Return the state on `day`: a new one starts its counters afresh and lifts the limit on a day's loss."""
    if day == state.day:
        return state
    state = replace(state, day=day, orders_today=0, turnover_today=0.0)
    if state.reason is VerdictReason.DAILY_LOSS_LIMIT:
        state = replace(state, state=TradingState.ACTIVE, reason=None)
    return state


def resume(state: RiskState, portfolio: Portfolio) -> Review:
    """Return the account trading again, unpaused and with its drawdown counted from here: what a person may ask."""
    symbols = {symbol: replace(known, is_halted=False) for symbol, known in state.symbols.items()}
    return _restarted(replace(state, symbols=symbols, is_paused=False, is_flattening=False), portfolio)


def _restarted(state: RiskState, portfolio: Portfolio) -> Review:
    """Return the account ACTIVE; what a person has paused, only a person resumes."""
    active = replace(state, state=TradingState.ACTIVE, reason=None, halted_ms=0)
    return Review(state=active, portfolio=portfolio.restart_peak())


def halted(state: RiskState, symbol: str) -> RiskState:
    """Return the state in which `symbol` takes no new exposure until a person resumes."""
    return replace(state, symbols={**state.symbols, symbol: replace(state.symbols[symbol], is_halted=True)})


def with_closed(state: RiskState, closed: Collection[str]) -> RiskState:
    """Return the state in which the markets of `closed`, and no others, take no orders."""
    symbols = {symbol: replace(known, is_closed=symbol in closed) for symbol, known in state.symbols.items()}
    return replace(state, symbols=symbols)


def after_order(state: RiskState, order: Order) -> RiskState:
    """Return the state with an approved order counted against the day."""
    return replace(state, orders_today=state.orders_today + 1, turnover_today=state.turnover_today + order.notional)


def after_stop_fill(
    limits: RiskLimits, state: RiskState, symbol: str, *, notional: float, day: int, at_ms: int, span_ms: int
) -> RiskState:
    """Return the state after a protective stop filled, wholly or in part: counted on `day`, the cool-down started."""
    state = _on_day(state, day)
    state = replace(state, orders_today=state.orders_today + 1, turnover_today=state.turnover_today + notional)
    return after_stop(limits, state, symbol, at_ms, span_ms)


def after_round_trip(
    limits: RiskLimits, state: RiskState, symbol: str, *, won: bool, at_ms: int, span_ms: int
) -> RiskState:
    """Return the state after a position was closed: counts losing streaks and starts their cool-down."""
    known = state.symbols[symbol]
    streak = 0 if won else known.loss_streak + 1
    if streak >= limits.loss_streak:
        until_ms = _cool_ms(at_ms, limits.loss_streak_cooldown, span_ms)
        known, streak = _blocked(known, until_ms, VerdictReason.LOSS_STREAK), 0
    return replace(state, symbols={**state.symbols, symbol: replace(known, loss_streak=streak)})


def after_stop(limits: RiskLimits, state: RiskState, symbol: str, at_ms: int, span_ms: int) -> RiskState:
    """Return the state after a stop was hit: at the venue, or found hit at the close `at_ms` of a candle."""
    until_ms = _cool_ms(at_ms, limits.stop_cooldown, span_ms)
    known = _blocked(state.symbols[symbol], until_ms, VerdictReason.STOP_COOLDOWN)
    return replace(state, symbols={**state.symbols, symbol: known})


def _cool_ms(at_ms: int, candles: int, span_ms: int) -> int:
    """Return the first close that is free again when the next `candles` decisions after `at_ms` are blocked.

    The first of them is at the close of the candle that `at_ms` lies in; a close belongs to the candle it opens, so
    that the decision made at it is not among them.
    """
    return (at_ms // span_ms + 1 + candles) * span_ms


def _blocked(known: SymbolRisk, until_ms: int, reason: VerdictReason) -> SymbolRisk:
    """Return the symbol blocked until then; a longer block that already holds stays."""
    return replace(known, blocked_until_ms=until_ms, blocked_by=reason) if until_ms > known.blocked_until_ms else known


def refusal(
    limits: RiskLimits, state: RiskState, portfolio: Portfolio, symbol: str, now_ms: int
) -> VerdictReason | None:
    """Return why `symbol` may not take new exposure now, None when it may."""
    if (reason := _account_refusal(state)) is not None:
        return reason
    if (reason := _symbol_refusal(state.symbols[symbol], now_ms)) is not None:
        return reason
    if state.orders_today >= limits.max_orders_per_day:
        return VerdictReason.ORDER_RATE
    if state.turnover_today >= limits.max_turnover_per_day * portfolio.equity:
        return VerdictReason.TURNOVER_BUDGET
    return None


def _account_refusal(state: RiskState) -> VerdictReason | None:
    if state.state is TradingState.HALTED:
        return VerdictReason.HALTED
    if state.state is TradingState.REDUCING:
        return state.reason
    if state.is_paused:
        return VerdictReason.PAUSED
    if state.is_cut_off:
        return VerdictReason.VENUE_CLOSED
    if state.is_stale or state.is_skewed:
        return VerdictReason.STALE_FEED if state.is_stale else VerdictReason.CLOCK_SKEW
    return VerdictReason.DRIFT if state.is_drifted else None


def _symbol_refusal(known: SymbolRisk, now_ms: int) -> VerdictReason | None:
    if known.is_closed:
        return VerdictReason.VENUE_CLOSED
    if known.is_halted:
        return VerdictReason.SYMBOL_HALTED
    return known.blocked_by if now_ms < known.blocked_until_ms else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything `assess` looks at besides the decision.

    cash: quote that earlier approvals of the same candle have left.  stop: protective stop, None when flat.
    distance: of the observation from the training distribution, 0 while there is none.  client_id: for the order.
    is_in_flight: an order of the symbol has not ended.  is_unprotected: no stop can be placed for what is held.
    """

    limits: RiskLimits
    costs: CostModel
    state: RiskState
    portfolio: Portfolio
    instrument: Instrument
    cash: float
    stop: float | None
    distance: float
    now_ms: int
    client_id: str = field(repr=False)
    is_in_flight: bool = False
    is_unprotected: bool = False


def assess(decision: Decision, at: Situation) -> Verdict:
    """Return the verdict on one decision: forced exits first, then what the ensemble wants, within every limit."""
    verdict = _assess(decision, at)
    if at.is_in_flight and isinstance(verdict, Approved):
        # What is held is not known until that one has ended: nothing is sold or bought twice.
        kind = Refused if verdict.order.side is Side.BUY else Hold
        return kind(decision=decision, reason=VerdictReason.ORDER_IN_FLIGHT)
    return verdict


def _assess(decision: Decision, at: Situation) -> Verdict:
    position = at.portfolio.positions[decision.symbol]
    forced = _forced(decision, position, at)
    if forced is not None:
        target, reason = forced
        return _sell(decision, position, target, reason, at)
    if decision.target < decision.exposure:
        return _sell(decision, position, decision.target, VerdictReason(decision.reason), at)
    if decision.target > decision.exposure:
        return _buy(decision, position, at)
    return Hold(decision=decision, reason=VerdictReason(decision.reason))


def _forced(decision: Decision, position: Position, at: Situation) -> tuple[float, VerdictReason] | None:
    """Return the exposure that must not be exceeded and why, when what is held breaks a limit."""
    if position.quantity <= 0.0 or at.instrument.floor_quantity(position.quantity) <= 0.0:
        return None
    if at.state.reason is VerdictReason.MAX_DRAWDOWN_EXCEEDED:
        return 0.0, VerdictReason.MAX_DRAWDOWN_EXCEEDED
    if at.stop is not None and position.mark <= at.stop:
        return 0.0, VerdictReason.STOP_LOSS_TRIGGERED
    if at.is_unprotected or at.state.is_flattening or decision.reason is DecisionReason.OPERATOR:
        return 0.0, VerdictReason.UNPROTECTED if at.is_unprotected else VerdictReason.OPERATOR
    limit = at.limits.max_position
    if decision.exposure > limit and decision.target >= limit:
        return limit, VerdictReason.MAX_POSITION_EXCEEDED
    return None


def _sell(decision: Decision, position: Position, target: float, reason: VerdictReason, at: Situation) -> Verdict:
    """Sell down to `target`; rounds up to the next lot and to the venue's minimum, never beyond what is held."""
    instrument = at.instrument
    held = instrument.floor_quantity(position.quantity)  # a fee in base may leave less than a lot beside it
    excess = (decision.exposure - target) * at.portfolio.capital() / position.mark if target > 0.0 else held
    smallest = instrument.ceil_quantity(instrument.min_notional / position.mark)
    quantity = min(held, max(instrument.ceil_quantity(excess), smallest))
    if (held - quantity) * position.mark < instrument.min_notional:
        quantity = held  # a remainder below the venue's minimum could never be sold
    if quantity <= 0.0 or quantity * position.mark < instrument.min_notional:
        return Hold(decision=decision, reason=VerdictReason.MINIMUM_NOTIONAL)
    return Approved(decision=decision, reason=reason, order=_order(decision, Side.SELL, quantity, reason, at))


def _buy(decision: Decision, position: Position, at: Situation) -> Verdict:
    reason = refusal(at.limits, at.state, at.portfolio, decision.symbol, at.now_ms)
    if reason is None and at.distance > at.limits.out_of_distribution:
        reason = VerdictReason.OUT_OF_DISTRIBUTION
    if reason is not None:
        return Refused(decision=decision, reason=reason)
    target = min(decision.target, at.limits.max_position)
    instrument, reason = at.instrument, VerdictReason(decision.reason)
    quantity = instrument.floor_quantity(max(0.0, target - decision.exposure) * at.portfolio.capital() / position.mark)
    price = fill_price(at.costs, instrument, Side.BUY, position.mark)
    affordable = affordable_quantity(at.costs, instrument, at.cash, price)
    if affordable < quantity:
        quantity, reason = affordable, VerdictReason.INSUFFICIENT_CASH
    budget = at.limits.max_turnover_per_day * at.portfolio.equity - at.state.turnover_today
    if quantity * position.mark > budget:
        quantity, reason = instrument.floor_quantity(budget / position.mark), VerdictReason.TURNOVER_BUDGET
    if quantity <= 0.0 or quantity * position.mark < instrument.min_notional:
        short = reason if reason is not VerdictReason.VOTED else VerdictReason.MINIMUM_NOTIONAL
        return Refused(decision=decision, reason=short)
    return Approved(decision=decision, reason=reason, order=_order(decision, Side.BUY, quantity, reason, at))


def _order(decision: Decision, side: Side, quantity: float, reason: VerdictReason, at: Situation) -> Order:
    return Order(
        client_id=at.client_id,
        symbol=decision.symbol,
        side=side,
        quantity=quantity,
        reference_price=at.portfolio.positions[decision.symbol].mark,
        decided_ms=at.now_ms,
        reason=reason.value,
        reduces=side is Side.SELL,
    )
