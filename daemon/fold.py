"""Folds journalled events through a trader again: what recovery, replay and the account's history rest on.

The same trader code that decided runs once more over the same inputs. Recovery gives it the journalled votes; replay
lets the ensemble vote again and looks for differences. What happened stays as it is written: orders and fills are
those of the journal, also where a decision comes out differently.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from daemon import records
from daemon.errors import FatalError
from daemon.ports import CandleGroup, Entry
from strategy.benchmark import BuyAndHold, hold_from_first_vote
from strategy.candle import Candle
from strategy.errors import StrategyError
from strategy.features import FeatureWindow
from strategy.order import Order, OrderEvent, OrderStatus
from strategy.risk import Approved
from strategy.trader import Outcome, Reference, Setup, Trader, Voters


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A decision that did not come out again as it stands in the journal. fields: what differs."""

    seq: int
    symbol: str
    open_ms: int
    fields: tuple[str, ...]


@dataclass(slots=True)
class Memory:
    """What a run has to know besides the trader: open orders, counters, the last candles, the benchmark.

    orders: by client id, oldest first.  seen: per symbol the digest of candles since its last decision.
    """

    orders: dict[str, OrderStatus] = field(default_factory=dict)
    last: dict[str, Candle] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    hold: BuyAndHold | None = None
    candles: int = 0
    decisions: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, for a checkpoint; the last candles are in the journal anyway."""
        hold = None if self.hold is None else asdict(self.hold)
        orders = [records.of_status(status) for status in self.orders.values()]
        counters = {"candles": self.candles, "decisions": self.decisions}
        return {"orders": orders, "seen": dict(self.seen), "hold": hold, **counters}

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        statuses = [records.read_status(values) for values in stored["orders"]]
        self.orders = {status.order.client_id: status for status in statuses}
        self.seen = dict(stored["seen"])
        self.hold = None if stored["hold"] is None else BuyAndHold(**stored["hold"])
        self.candles, self.decisions = stored["candles"], stored["decisions"]

    def take_candles(self, group: CandleGroup) -> None:
        """Note the newest candle of each symbol."""
        self.candles += len(group.candles)
        for candle in group.candles:
            self.last[candle.symbol] = candle
            self.seen[candle.symbol] = records.digest(self.seen.get(candle.symbol, ""), candle)

    def take_decision(self, symbol: str) -> str:
        """Count a decision; returns the digest of the candles since the one before it."""
        self.decisions += 1
        return self.seen.pop(symbol)

    def intend(self, order: Order) -> None:
        """Note an order that is about to leave."""
        self.orders[order.client_id] = OrderStatus(order=order)

    def before(self, order: Order) -> list[Order]:
        """Return the orders of the same symbol that were intended before `order` and are still in flight."""
        older = []
        for status in self.orders.values():
            if status.order.client_id == order.client_id:
                break
            if status.order.symbol == order.symbol:
                older.append(status.order)
        return older

    def move_order(self, client_id: str, event: OrderEvent, filled: float, stop: OrderStatus | None) -> OrderStatus:
        """Return an order's status after an event; finished ones are forgotten.

        stop: the protective stop of the symbol, which is no order of its own until it triggers.
        """
        status = self.orders.get(client_id, stop)
        if status is None or status.order.client_id != client_id:
            raise FatalError(f"order {client_id} moves, which is not in flight and no stop of ours")
        status = status.after(event, status.filled + filled)
        if status.is_terminal:
            self.orders.pop(client_id, None)
        else:
            self.orders[client_id] = status
        return status

    def hold_equity(self, trader: Trader) -> float | None:
        """Return what buying and holding since the first decision is worth, None before it."""
        if self.hold is None:
            return None
        return self.hold.equity({symbol: p.mark for symbol, p in trader.portfolio.positions.items()})

    def start_hold(self, trader: Trader, outcomes: list[Outcome], cash: float) -> None:
        """Open the benchmark at the first decision that anybody voted on."""
        if self.hold is None:
            self.hold = hold_from_first_vote(trader, outcomes, cash)


@dataclass(slots=True)
class Recorded:
    """Stands in for an ensemble: repeats the votes of the journal. weights: of the ensemble that decided."""

    weights: tuple[float, ...]

    def decide(self, trader: Trader, group: CandleGroup, entries: Sequence[Entry]) -> list[Outcome]:
        """Decide with the votes, and the distance from what training saw, that stand in `entries`."""
        seen = []
        for sight, entry in zip(trader.observe(trader.in_order(group.candles)), entries, strict=True):
            votes = records.read_votes(entry.payload)
            if (votes is None) != (sight.observation is None):
                raise FatalError(f"journal entry {entry.seq}: votes and a full window of candles do not come together")
            seen.append((replace(sight, distance=float(entry.payload["distance"])), votes))
        return trader.decide(seen, self.weights)


class Fold:
    """Applies journal entries, in order, to a trader and its memory."""

    def __init__(self, trader: Trader, cash: float) -> None:
        self.trader = trader
        self.memory = Memory()
        self._cash = cash
        self._model = ""
        self._group: CandleGroup | None = None
        self._decisions: list[Entry] = []
        self._has_differed = False

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Continue from a checkpoint's payload."""
        self.trader.restore(checkpoint["trader"])
        self.memory.restore(checkpoint["memory"])

    def begin(self, run: Mapping[str, Any], reference: Reference | None) -> None:
        """Continue under the parameters and the ensemble of a run, given its payload."""
        begin(self.trader, Setup.from_json(run["setup"]), reference)
        self._model = run["model"][:16]

    def apply(self, entry: Entry, voters: Voters | Recorded) -> list[Difference]:
        """Apply one entry; returns the decisions that came out differently.

        Raises FatalError naming the entry when it cannot be what was written.
        """
        with readable(entry):
            found = list(self._apply(entry, voters))
        self._has_differed = self._has_differed or bool(found)
        return found

    def finish(self) -> None:
        """Make sure that nothing is half done. Raises FatalError."""
        if self._group is not None:
            raise FatalError("the journal ends with candles that nobody decided on")

    def _apply(self, entry: Entry, voters: Voters | Recorded) -> Iterator[Difference]:
        payload = entry.payload
        if self._group is not None and entry.kind != "decision":
            raise FatalError(
                f"journal entry {entry.seq} ({entry.kind}): decisions on the candles before it are missing"
            )
        match entry.kind:
            case "candle":
                self._take_candles(entry)
            case "fill":
                self.trader.on_fill(records.read_fill(payload))
            case "order":
                self._move_order(entry)
            case "decision":
                yield from self._decide(entry, voters)
            case "command":
                yield from self._command(entry)
            case "risk":
                approved = self.trader.on_price(payload["symbol"], payload["price"], payload["at_ms"])
                yield from self._compare_orders(entry, approved)
            case "feed":
                self.trader.set_feed(is_stale=payload["is_stale"], is_skewed=payload["is_skewed"])

    def _take_candles(self, entry: Entry) -> None:
        group = records.read_group(entry.payload)
        if unknown := {candle.symbol for candle in group.candles} - set(self.trader.features):
            raise ValueError(f"{', '.join(sorted(unknown))} is not traded by this account")
        self.memory.take_candles(group)
        if group.is_backfill:
            self.trader.warm(group.candles)
        else:
            self._group = group

    def _decide(self, entry: Entry, voters: Voters | Recorded) -> Iterator[Difference]:
        """Decide on the waiting candles once the decision on the last of them has come."""
        group, entries = self._group, [*self._decisions, entry]
        if group is None:
            raise FatalError(f"journal entry {entry.seq} decides without a candle")
        self._decisions = entries
        if len(entries) < len(group.candles):
            return
        self._group, self._decisions = None, []
        if isinstance(voters, Recorded):
            outcomes = voters.decide(self.trader, group, entries)
        else:
            outcomes = self.trader.on_candles(group.candles, voters)
        self.memory.start_hold(self.trader, outcomes, self._cash)
        for stored, outcome in zip(entries, outcomes, strict=True):
            seen = self.memory.take_decision(outcome.sight.candle.symbol)
            again = records.of_decision(outcome, seen, self._model, self.trader.portfolio, self.trader.risk)
            if stored.payload["order"] is not None:
                self.memory.intend(Order.from_json(stored.payload["order"]))
            yield from _compare(stored, again.payload)

    def _move_order(self, entry: Entry) -> None:
        payload = entry.payload
        stop = self.trader.stops[payload["symbol"]]
        is_known = payload["client_id"] in self.memory.orders or (
            stop is not None and stop.client_id == payload["client_id"]
        )
        if not is_known and self._has_differed:
            return  # a stop that the decision as it stands in the journal had set, and ours has not
        event, status = OrderEvent(payload["event"]), None if stop is None else OrderStatus(order=stop)
        try:
            self.memory.move_order(payload["client_id"], event, payload["filled"], status)
        except FatalError as error:
            raise FatalError(f"journal entry {entry.seq}: {error}") from error

    def _command(self, entry: Entry) -> Iterator[Difference]:
        match entry.payload["verb"]:
            case "pause":
                self.trader.pause()
            case "resume":
                self.trader.resume()
            case "flatten":
                yield from self._compare_orders(entry, self.trader.flatten(entry.payload["at_ms"]))
            case verb:
                raise ValueError(f"unknown command {verb!r}")

    def _compare_orders(self, entry: Entry, approved: list[Approved]) -> Iterator[Difference]:
        stored = entry.payload["orders"]
        for values in stored:
            self.memory.intend(Order.from_json(values))
        if [records.of_order(verdict.order) for verdict in approved] != stored:
            symbols = ", ".join(order["symbol"] for order in stored) or "no symbol"
            yield Difference(seq=entry.seq, symbol=symbols, open_ms=entry.payload["at_ms"], fields=("orders",))


@contextlib.contextmanager
def readable(entry: Entry) -> Iterator[None]:
    """Turn whatever an entry that is not as it was written leads to into a FatalError that names it."""
    try:
        yield
    except (StrategyError, LookupError, AttributeError, TypeError, ValueError) as error:
        what = f"{type(error).__name__} {error}" if isinstance(error, LookupError) else str(error)
        raise FatalError(f"journal entry {entry.seq} ({entry.kind}) cannot be applied: {what}") from error


def begin(trader: Trader, setup: Setup, reference: Reference | None) -> None:
    """Let `trader` continue under other parameters or another ensemble, its feature windows too."""
    trader.begin(setup, reference)
    for window in trader.features.values():
        if isinstance(window, FeatureWindow):
            window.max_missing = setup.strategy.max_missing


def _compare(entry: Entry, again: Mapping[str, Any]) -> Iterator[Difference]:
    stored = entry.payload
    wrong = tuple(sorted(key for key in {*stored, *again} if stored.get(key) != again.get(key)))
    if wrong:
        yield Difference(seq=entry.seq, symbol=stored["symbol"], open_ms=stored["open_ms"], fields=wrong)
