"""THE MAIN PATH, pure half: one account from final candles to verdicts.

Environment, backtest, paper and live run exactly this; only where votes come from (a learner or the ensemble) and
where orders go (simulation or venue) differs. No I/O, no clock, no randomness: the same inputs in the same order give
the same state, bit for bit, which is what recovery and replay rest on.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strategy import risk
from strategy.candle import Candle, Timeframe
from strategy.costs import fee, fill_price
from strategy.decision import Action, Decision, DecisionReason, Rule, decide
from strategy.errors import BadState, InvalidInstrument, StrategyError
from strategy.features import FeatureRow, FeatureSource, Row
from strategy.instrument import Instrument
from strategy.observation import observe
from strategy.order import Fill, Order, OrderKind, OrderStatus, Side, client_order_id
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.portfolio import Portfolio
from strategy.risk import Approved, RiskState, Situation, SymbolRisk, Verdict, VerdictReason
from strategy.stops import stop_price

Votes = NDArray[np.float32]


class Voters(Protocol):
    """Who votes: the ensemble of a bundle."""

    weights: NDArray[np.float64]
    """(n_members,), positive, of sum 1."""

    def act(self, observations: NDArray[np.float32]) -> Votes:
        """Return (n_symbols, n_members, 3) votes for (n_symbols, N_OBSERVATION) observations."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything a trader is made of that does not change while it trades.

    first_sequence: where the count of the orders on each candle begins, which their ids hold. Above 0 once an account
    goes on from a state that lacks orders it has given: their ids must not be given again.
    """

    instance: str
    timeframe: Timeframe
    instruments: Mapping[str, Instrument]
    strategy: StrategyParameters
    limits: RiskLimits
    costs: CostModel
    first_sequence: int = 0

    def rule(self, weights: tuple[float, ...]) -> Rule:
        """Return the action rule for an ensemble whose members weigh so much."""
        return Rule(
            parameters=self.strategy,
            costs=self.costs,
            max_position=self.limits.max_position,
            weights=weights,
            candles_per_year=self.timeframe.candles_per_year,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the setup as JSON types, instruments in their order."""
        steps = ("symbol", "tick", "lot", "min_notional")
        return {
            "instance": self.instance,
            "timeframe": self.timeframe.name,
            "instruments": [{name: getattr(i, name) for name in steps} for i in self.instruments.values()],
            "strategy": self.strategy.to_json(),
            "limits": self.limits.to_json(),
            "costs": self.costs.to_json(),
            **({"first_sequence": self.first_sequence} if self.first_sequence else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Setup":
        """Return the setup stored as `values`. Raises BadState when it was stored by something else."""
        try:
            instruments = [Instrument(**stored) for stored in values["instruments"]]
            return cls(
                instance=values["instance"],
                timeframe=Timeframe.parse(values["timeframe"]),
                instruments={instrument.symbol: instrument for instrument in instruments},
                strategy=StrategyParameters.from_json(values["strategy"]),
                limits=RiskLimits.from_json(values["limits"]),
                costs=CostModel.from_json(values["costs"]),
                first_sequence=values.get("first_sequence", 0),
            )
        except (KeyError, TypeError) as error:
            raise BadState(f"stored setup cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Reference:
    """Where the training distribution lies: mean and inverse spread of each feature, (N_FEATURES,) float32.

    limit: root mean square of the standard scores that 99.9 % of the training rows stay below.
    """

    mean: Row
    inverse_std: Row
    limit: float

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float], limit: float) -> "Reference":
        """Return the reference of a bundle; a feature without spread counts as it is."""
        spread = np.asarray(std, np.float32)
        spread = np.where(spread > 0.0, spread, np.float32(1.0))
        return cls(np.asarray(mean, np.float32), (np.float32(1.0) / spread).astype(np.float32), limit)

    def distance(self, row: Row) -> float:
        """Return how far the row lies from what training saw: 1 at the edge of it, less inside."""
        score = (row - self.mean) * self.inverse_std
        return math.sqrt(float(np.add.reduce(score * score)) / len(score)) / self.limit


@dataclass(frozen=True, slots=True)
class Sight:
    """What one symbol shows on one candle, before anybody voted.

    row, observation: None while the window is not full.  distance: from the training distribution, 0 without a row.
    """

    candle: Candle
    row: FeatureRow | None
    observation: Row | None
    distance: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one symbol on one candle. stop: the protective stop from here on, None when flat."""

    sight: Sight
    votes: Votes | None
    verdict: Verdict
    stop: Order | None


def ask(voters: Voters, observations: Sequence[Row]) -> tuple[Iterable[Votes | None], str]:
    """Return the votes on each observation, and why there are none, "" when there are.

    All or none of them: what fails on one symbol is not to be trusted on another.
    """
    if not observations:
        return (), ""
    try:
        votes = voters.act(np.array(observations))
    except StrategyError as error:
        fault = str(error)
    else:
        if np.isfinite(votes).all():
            return votes, ""
        fault = "its votes are not finite numbers"
    return [None] * len(observations), fault


class Trader:
    """One account: features, portfolio, risk state and stops of every symbol."""

    def __init__(
        self, setup: Setup, features: Mapping[str, FeatureSource], cash: float, reference: Reference | None = None
    ) -> None:
        """features: one source per symbol.  cash: quote, > 0.  The fixed order of symbols is that of the setup.

        `fault` tells why the ensemble had no votes on the last candles, "" when it had.
        Raises InvalidInstrument for a symbol the setup does not know.
        """
        self.setup = setup
        self.reference = reference
        # In the order of the setup, whatever order the mapping has: sums and claims on cash go by it.
        self.features = {symbol: features[symbol] for symbol in setup.instruments if symbol in features}
        if unknown := set(features) - set(self.features):
            raise InvalidInstrument(f"no instrument for {', '.join(sorted(unknown))} in the setup")
        self.portfolio = Portfolio.open(cash, self.features)
        self.risk = RiskState(symbols={symbol: SymbolRisk() for symbol in self.features})
        self.stops: dict[str, Order | None] = dict.fromkeys(self.features)
        self.in_flight: frozenset[str] = frozenset()
        self.fault = ""
        self._bound = 0.0
        self._ranges: dict[str, float | None] = dict.fromkeys(self.features)
        self._open_ms: dict[str, int] = dict.fromkeys(self.features, 0)
        self._sequence: dict[str, int] = dict.fromkeys(self.features, setup.first_sequence)
        self._rank = {symbol: i for i, symbol in enumerate(self.features)}
        self._rules: dict[tuple[float, ...], Rule] = {}

    # ---- the path of a candle -----------------------------------------------------------------------------------
    def on_candles(self, candles: Sequence[Candle], voters: Voters) -> list[Outcome]:
        """Carry final candles of one open time from price to verdicts, in the fixed order of symbols.

        Outcomes stand in that order, however the candles came. An ensemble that fails has no votes: everything holds,
        and `fault` says why.
        """
        sights = self.observe(self.in_order(candles))
        found, self.fault = ask(voters, [sight.observation for sight in sights if sight.observation is not None])
        votes = iter(found)
        weights = tuple(voters.weights.tolist())
        return self.decide([(s, None if s.observation is None else next(votes)) for s in sights], weights)

    def in_order(self, candles: Iterable[Candle]) -> list[Candle]:
        """Return candles of one open time in the fixed order of symbols."""
        return sorted(candles, key=lambda candle: self._rank[candle.symbol])

    def observe(self, candles: Sequence[Candle]) -> list[Sight]:
        """Mark the account at the closes, check it as a whole, and return what each symbol shows."""
        self._mark(candles)
        return [self._sight(candle) for candle in candles]

    def warm(self, candles: Sequence[Candle]) -> None:
        """Take candles that lie in the past: they fill the window and move the account, nothing is decided."""
        self._mark(candles)
        for candle in candles:
            self.features[candle.symbol].push(candle)
            self._number_from(candle)

    def _mark(self, candles: Sequence[Candle]) -> None:
        self.portfolio = self.portfolio.mark(candles)
        self._review(candles[0].close_ms)

    def _review(self, now_ms: int) -> None:
        limits, span_ms = self.setup.limits, self.setup.timeframe.span_ms
        checked = risk.review(limits, self.risk, self.portfolio, now_ms, span_ms, is_flat=self._is_flat())
        self.risk, self.portfolio = checked.state, checked.portfolio

    def _is_flat(self) -> bool:
        """Tell whether nothing is held that the venue would let us sell."""
        return not any(self._is_sellable(symbol) for symbol in self.features)

    def _is_sellable(self, symbol: str) -> bool:
        position, instrument = self.portfolio.positions[symbol], self.setup.instruments[symbol]
        if position.quantity <= 0.0:
            return False
        quantity = instrument.floor_quantity(position.quantity)
        return quantity > 0.0 and quantity * position.mark >= instrument.min_notional

    def _sight(self, candle: Candle) -> Sight:
        symbol = candle.symbol
        row = self.features[symbol].update(candle)
        self._number_from(candle)
        if row is None:
            return Sight(candle, None, None, 0.0)
        self._ranges[symbol] = row.average_range
        limits, stop = self.setup.limits, self.stops[symbol]
        refused = risk.refusal(limits, self.risk, self.portfolio, symbol, candle.close_ms)
        price = None if stop is None else stop.stop_price
        observation = observe(row.values, self.portfolio, symbol, price, limits, may_buy=refused is None)
        distance = 0.0 if self.reference is None else self.reference.distance(row.values)
        return Sight(candle, row, observation, distance)

    def decide(self, seen: Sequence[tuple[Sight, Votes | None]], weights: tuple[float, ...]) -> list[Outcome]:
        """Return one outcome per sight, in order; cash that one symbol takes is not there for the next."""
        outcomes, cash = [], self.portfolio.cash - self._bound
        for sight, votes in seen:
            verdict = self._verdict(sight, votes, weights, cash)
            if isinstance(verdict, Approved):
                cash -= self._reserved(verdict.order, verdict.order.quantity)
            symbol = sight.candle.symbol
            self._move_stop(symbol)
            outcomes.append(Outcome(sight, votes, verdict, self.stops[symbol]))
        return outcomes

    def _verdict(self, sight: Sight, votes: Votes | None, weights: tuple[float, ...], cash: float) -> Verdict:
        symbol = sight.candle.symbol
        volatility = 0.0 if sight.row is None else sight.row.volatility
        close_ms = sight.candle.close_ms
        is_due = self.setup.strategy.is_due(close_ms, self.setup.timeframe.span_ms)
        exposure = self.portfolio.exposure(symbol)
        has_failed, rule = bool(self.fault) and sight.observation is not None, self._rule(weights)
        decision = decide(rule, symbol, votes, exposure, volatility, is_due=is_due, has_failed=has_failed)
        return self._assess(decision, cash, sight.distance, close_ms)

    def _assess(
        self, decision: Decision, cash: float, distance: float, now_ms: int, *, is_unprotected: bool = False
    ) -> Verdict:
        symbol, stop = decision.symbol, self.stops[decision.symbol]
        situation = Situation(
            limits=self.setup.limits,
            costs=self.setup.costs,
            state=self.risk,
            portfolio=self.portfolio,
            instrument=self.setup.instruments[symbol],
            cash=cash,
            stop=None if stop is None else stop.stop_price,
            distance=distance,
            now_ms=now_ms,
            client_id=self._client_id(symbol),
            is_in_flight=symbol in self.in_flight,
            is_unprotected=is_unprotected,
        )
        verdict = risk.assess(decision, situation)
        if isinstance(verdict, Approved):
            self._sequence[symbol] += 1
            self.risk = risk.after_order(self.risk, verdict.order)
            if verdict.reason is VerdictReason.STOP_LOSS_TRIGGERED:
                self.risk = risk.after_stop(self.setup.limits, self.risk, symbol, now_ms, self.setup.timeframe.span_ms)
        return verdict

    # ---- what comes back ----------------------------------------------------------------------------------------
    def on_fill(self, fill: Fill, *, is_stop: bool) -> Order | None:
        """Apply a fill and return the protective stop its symbol needs from here on.

        is_stop: it belongs to a protective stop, the present one or, late, one that was replaced.
        """
        symbol, before = fill.symbol, self.portfolio
        limits, when = self.setup.limits, {"at_ms": fill.at_ms, "span_ms": self.setup.timeframe.span_ms}
        self.portfolio = after = before.apply(fill, self.setup.instruments[symbol])
        if is_stop:
            worth = fill.notional
            self.risk = risk.after_stop_fill(limits, self.risk, symbol, notional=worth, day=after.day, **when)
        if after.wins + after.losses > before.wins + before.losses:
            self.risk = risk.after_round_trip(limits, self.risk, symbol, won=after.wins > before.wins, **when)
        self._move_stop(symbol)
        return self.stops[symbol]

    def on_price(self, symbol: str, price: float, at_ms: int) -> list[Approved]:
        """Check the account against a price between candles; returns forced sells, usually none.

        Changes nothing unless a limit is broken and something can be sold, so that a price only has to be journalled
        when this returns orders. Other symbols count at their last mark.
        """
        if self.risk.reason is VerdictReason.MAX_DRAWDOWN_EXCEEDED or self._is_flat():
            return []
        marked = self.portfolio.at_price(symbol, price)
        if marked.drawdown < self.setup.limits.max_drawdown:
            return []
        before = self.portfolio, self.risk
        self.portfolio = marked
        self._review(at_ms)
        approved = self._sell_all(DecisionReason.NEUTRAL, at_ms)
        if not approved:
            self.portfolio, self.risk = before
        return approved

    def exits(self, symbol: str, now_ms: int, *, unprotected: bool = False) -> list[Approved]:
        """Return the sale of `symbol` that cannot wait for the next candle, usually none: what changes only then.

        A drawdown, a stop that the mark has passed and flattening sell everything; so does `unprotected`: no stop can
        be placed. What lies above the position limit waits for the candle.
        """
        if not (unprotected or self._must_go(symbol)):
            return []
        verdict = self._sale(symbol, DecisionReason.NEUTRAL, now_ms, is_unprotected=unprotected)
        return [verdict] if isinstance(verdict, Approved) else []

    def _must_go(self, symbol: str) -> bool:
        stop, mark = self.stops[symbol], self.portfolio.positions[symbol].mark
        is_passed = stop is not None and stop.stop_price is not None and mark <= stop.stop_price
        return is_passed or self.risk.is_flattening or self.risk.reason is VerdictReason.MAX_DRAWDOWN_EXCEEDED

    def on_external(self, symbol: str | None, amount: float, price: float) -> Order | None:
        """Take what came or went without a trade of ours; returns the stop that its symbol needs from here on.

        Parameters and errors as of `Portfolio.transfer`; None is returned for quote too.
        """
        instrument = self.setup.instruments[next(iter(self.features)) if symbol is None else symbol]
        self.portfolio = self.portfolio.transfer(symbol, amount, price, instrument)
        if symbol is None:
            return None
        self._move_stop(symbol)
        return self.stops[symbol]

    def renew_stop(self, symbol: str) -> Order | None:
        """Return the stop of `symbol` as a new order, for the venue has ended the old one; None when there is none."""
        stop = self.stops[symbol]
        if stop is not None:
            stop = self.stops[symbol] = replace(stop, client_id=self._client_id(symbol))
            self._sequence[symbol] += 1
        return stop

    def set_in_flight(self, statuses: Iterable[OrderStatus]) -> None:
        """Take notice of the orders that have not ended: their symbols wait, and what they may cost is not there.

        Protective stops among them keep nothing waiting. A live account says so before every decision; where orders
        end before the next decision, as in simulation, nobody has to.
        """
        waiting = [status for status in statuses if status.order.kind is not OrderKind.STOP]
        self.in_flight = frozenset(status.order.symbol for status in waiting)
        self._bound = math.fsum(self._reserved(s.order, max(0.0, s.order.quantity - s.filled)) for s in waiting)

    # ---- what a person may ask ----------------------------------------------------------------------------------
    def pause(self) -> None:
        """Take no new exposure until `resume`; stops and exits go on."""
        self.risk = replace(self.risk, is_paused=True)

    def resume(self) -> None:
        """Trade again, also after a halt; the drawdown is counted from here."""
        checked = risk.resume(self.risk, self.portfolio)
        self.risk, self.portfolio = checked.state, checked.portfolio

    def flatten(self, now_ms: int) -> list[Approved]:
        """Sell everything and hold nothing until `resume`: what is left, or still arrives, goes at the next candle."""
        self.risk = replace(self.risk, is_paused=True, is_flattening=True)
        return self._sell_all(DecisionReason.OPERATOR, now_ms)

    def set_feed(self, *, is_stale: bool | None = None, is_skewed: bool | None = None) -> None:
        """Take notice of a feed that is silent, or of a clock that is off: no new exposure meanwhile."""
        stale = self.risk.is_stale if is_stale is None else is_stale
        self.risk = replace(
            self.risk, is_stale=stale, is_skewed=self.risk.is_skewed if is_skewed is None else is_skewed
        )

    def set_drifted(self, *, is_drifted: bool) -> None:
        """Take notice of a market that has left the training candles, or is back: no new exposure meanwhile."""
        self.risk = replace(self.risk, is_drifted=is_drifted)

    def set_venue(self, *, is_cut_off: bool | None = None, closed: Collection[str] | None = None) -> None:
        """Take notice of a venue that takes no orders, from us or in the markets `closed`: nothing is bought there."""
        if is_cut_off is not None:
            self.risk = replace(self.risk, is_cut_off=is_cut_off)
        if closed is not None:
            self.risk = risk.with_closed(self.risk, closed)

    def halt_symbol(self, symbol: str) -> None:
        """Take no new exposure in `symbol` until `resume`; stops and exits go on."""
        self.risk = risk.halted(self.risk, symbol)

    def _sell_all(self, reason: DecisionReason, now_ms: int) -> list[Approved]:
        held = [symbol for symbol in self.features if self.portfolio.positions[symbol].quantity > 0.0]
        verdicts = [self._sale(symbol, reason, now_ms) for symbol in held]
        return [verdict for verdict in verdicts if isinstance(verdict, Approved)]

    def _sale(self, symbol: str, reason: DecisionReason, now_ms: int, *, is_unprotected: bool = False) -> Verdict:
        """Return the verdict on selling all of `symbol` between candles."""
        exposure = self.portfolio.exposure(symbol)
        decision = Decision(symbol=symbol, action=Action.SELL, reason=reason, exposure=exposure, target=0.0)
        return self._assess(decision, 0.0, 0.0, now_ms, is_unprotected=is_unprotected)

    def begin(self, setup: Setup, reference: Reference | None) -> None:
        """Continue the account under other parameters or another ensemble: what a restart may bring.

        Raises InvalidInstrument when the setup lacks a symbol of the account.
        """
        if unknown := set(self.features) - set(setup.instruments):
            raise InvalidInstrument(f"no instrument for {', '.join(sorted(unknown))} in the setup")
        self.setup, self.reference = setup, reference
        self._sequence = {symbol: max(count, setup.first_sequence) for symbol, count in self._sequence.items()}
        self._rules.clear()

    # ---- parts --------------------------------------------------------------------------------------------------
    def _rule(self, weights: tuple[float, ...]) -> Rule:
        rule = self._rules.get(weights)
        if rule is None:
            rule = self._rules[weights] = self.setup.rule(weights)
        return rule

    def _reserved(self, order: Order, quantity: float) -> float:
        """Return the cash that so much of an order takes at the expected price; sells give nothing before they fill."""
        if order.side is Side.SELL:
            return 0.0
        costs = self.setup.costs
        price = fill_price(costs, self.setup.instruments[order.symbol], Side.BUY, order.reference_price)
        return quantity * price + fee(costs, quantity * price)

    def _number_from(self, candle: Candle) -> None:
        self._open_ms[candle.symbol], self._sequence[candle.symbol] = candle.open_ms, self.setup.first_sequence

    def _client_id(self, symbol: str) -> str:
        return client_order_id(self.setup.instance, symbol, self._open_ms[symbol], self._sequence[symbol])

    def _move_stop(self, symbol: str) -> None:
        """Keep exactly one protective stop for what is held, and none when flat."""
        position, current = self.portfolio.positions[symbol], self.stops[symbol]
        # A fee in base may leave less than a lot beside what can be sold: that much needs no stop.
        quantity = self.setup.instruments[symbol].floor_quantity(position.quantity) if position.quantity > 0.0 else 0.0
        if quantity <= 0.0:
            self.stops[symbol] = None
            return
        was = None if current is None else current.stop_price
        wanted = stop_price(self.setup.limits, position, self._ranges[symbol], was)
        price = max(self.setup.instruments[symbol].floor_price(wanted), self.setup.instruments[symbol].tick)
        if current is not None and current.stop_price == price and current.quantity == quantity:
            return
        self.stops[symbol] = Order(
            client_id=self._client_id(symbol),
            symbol=symbol,
            side=Side.SELL,
            quantity=quantity,
            reference_price=price,
            decided_ms=self._open_ms[symbol] + self.setup.timeframe.span_ms,
            reason=VerdictReason.STOP_LOSS_TRIGGERED.value,
            reduces=True,
            kind=OrderKind.STOP,
            stop_price=price,
        )
        self._sequence[symbol] += 1

    # ---- memory -------------------------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return all that changes while it trades, as JSON types; feature windows follow from the last candles."""
        return {
            "portfolio": self.portfolio.to_json(),
            "risk": self.risk.to_json(),
            "stops": {symbol: None if stop is None else asdict(stop) for symbol, stop in self.stops.items()},
            "ranges": dict(self._ranges),
            "open_ms": dict(self._open_ms),
            "sequence": dict(self._sequence),
        }

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Continue from a `state`. Raises BadState when it holds other symbols or was stored by something else."""
        try:
            parts = {name: self._per_symbol(name, stored[name]) for name in ("stops", "ranges", "open_ms", "sequence")}
            stops = {s: None if stop is None else Order.from_json(stop) for s, stop in parts["stops"].items()}
            portfolio = Portfolio.from_json(stored["portfolio"], tuple(self.features))
            state = RiskState.from_json(stored["risk"], tuple(self.features))
        except (KeyError, TypeError, ValueError) as error:
            raise BadState(f"stored state cannot be read: {error}") from error
        # Only now, so that a state that cannot be read changes nothing.
        self.stops, self.portfolio, self.risk = stops, portfolio, state
        self._ranges, self._open_ms, self._sequence = parts["ranges"], parts["open_ms"], parts["sequence"]

    def _per_symbol(self, name: str, stored: Mapping[str, Any]) -> dict[str, Any]:
        if set(stored) != set(self.features):
            raise BadState(f"stored {name}: holds {sorted(stored)}, not {sorted(self.features)}")
        return {symbol: stored[symbol] for symbol in self.features}
