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
from daemon.ports import CandleGroup, Companion, Entry, External, Record
from strategy.benchmark import BuyAndHold, hold_from_first_vote
from strategy.candle import Candle
from strategy.decision import DecisionReason
from strategy.errors import IllegalTransition, StrategyError
from strategy.features import FeatureWindow
from strategy.order import Fill, Order, OrderEvent, OrderKind, OrderStatus
from strategy.risk import Approved
from strategy.trader import Outcome, Reference, Setup, Trader, Voters

_FAILED = "as it stands in the journal"
_REMEMBERED = 64
"""Orders that have ended and are still known: a venue may tell of a fill minutes later."""


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

    orders: by client id, oldest first.  ended: the last of those that have ended, for a venue reports late.
    fill_ids: what is known of the fills of both.  foreign: by coin, what lies in the account at the venue and belongs
    to somebody else; None before the account was opened there.  seen: per symbol the digest of candles since its last
    decision.
    """

    orders: dict[str, OrderStatus] = field(default_factory=dict)
    ended: dict[str, OrderStatus] = field(default_factory=dict)
    fill_ids: dict[str, list[str]] = field(default_factory=dict)
    foreign: dict[str, float] | None = None
    last: dict[str, Candle] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    hold: BuyAndHold | None = None
    candles: int = 0
    decisions: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, for a checkpoint; the last candles are in the journal anyway."""
        hold = None if self.hold is None else asdict(self.hold)
        return {
            "orders": [records.of_status(status) for status in self.orders.values()],
            "ended": [records.of_status(status) for status in self.ended.values()],
            "fill_ids": {client_id: list(fill_ids) for client_id, fill_ids in self.fill_ids.items()},
            "foreign": None if self.foreign is None else dict(self.foreign),
            "seen": dict(self.seen),
            "hold": hold,
            "candles": self.candles,
            "decisions": self.decisions,
        }

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.orders, self.ended = _read_statuses(stored["orders"]), _read_statuses(stored["ended"])
        self.fill_ids = {client_id: list(fill_ids) for client_id, fill_ids in stored["fill_ids"].items()}
        self.foreign = None if stored["foreign"] is None else dict(stored["foreign"])
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
        """Return the orders of its symbol that were intended before `order` and are in flight, stops aside."""
        older = []
        for status in self.orders.values():
            if status.order.client_id == order.client_id:
                break
            if status.order.symbol == order.symbol and status.order.kind is not OrderKind.STOP:
                older.append(status.order)
        return older

    def in_flight(self) -> frozenset[str]:
        """Return the symbols with an order that has not ended, protective stops aside."""
        waiting = (status.order for status in self.orders.values() if status.order.kind is not OrderKind.STOP)
        return frozenset(order.symbol for order in waiting)

    def known(self, client_id: str) -> OrderStatus | None:
        """Return an order that has not ended, or ended lately; None for any other."""
        return self.orders.get(client_id) or self.ended.get(client_id)

    def move_order(self, client_id: str, event: OrderEvent, filled: float, stop: OrderStatus | None) -> OrderStatus:
        """Return an order's status after an event; of those that have ended only the last are remembered.

        filled: base, by this event.  stop: the protective stop of the symbol, which on paper is no order of its own
        until it triggers.  Raises FatalError for an order nobody knows, and for what cannot happen to one.
        """
        status = self.known(client_id) or stop
        if status is None or status.order.client_id != client_id:
            raise FatalError(
                f"order {client_id} moves, which is not in flight, has not ended lately and is no stop of ours"
            )
        try:
            status = status.after(event, status.filled + filled)
        except IllegalTransition as error:
            raise FatalError(f"order {client_id} of {status.order.symbol}: {error}") from error
        if client_id in self.ended:
            self.ended[client_id] = status
        elif status.is_terminal:
            self.orders.pop(client_id, None)
            self._end(client_id, status)
        else:
            self.orders[client_id] = status
        return status

    def _end(self, client_id: str, status: OrderStatus) -> None:
        self.ended[client_id] = status
        while len(self.ended) > _REMEMBERED:
            forgotten = next(iter(self.ended))
            del self.ended[forgotten]
            self.fill_ids.pop(forgotten, None)

    def take_fill(self, fill: Fill, quote: str) -> bool:
        """Note a fill of an order that is known and what it means for others; returns whether it is a stop's."""
        status = self.known(fill.client_id)
        if status is None:
            return False  # of a stop that only the journal had: see `Fold`
        self.fill_ids.setdefault(fill.client_id, []).append(fill.fill_id)
        if fill.fee_coin:
            # Our cash has paid a fee that the venue took in another coin: so much quote there is somebody else's now.
            self.take_foreign(quote, fill.fee)
            if fill.fee_coin in (self.foreign or {}):  # a coin that is traded too: its owner has so much less of it
                self.take_foreign(fill.fee_coin, -fill.fee_amount)
        return status.order.kind is OrderKind.STOP

    def take_foreign(self, asset: str, amount: float) -> None:
        """Note what came to (> 0), or went from, that part of the account which is somebody else's."""
        self.foreign = self.foreign or {}
        self.foreign[asset] = self.foreign.get(asset, 0.0) + amount

    def tell_in_flight(self, trader: Trader) -> None:
        """Let `trader` know which orders have not ended: a live account does so before each decision."""
        trader.set_in_flight(self.orders.values())

    def hold_equity(self, trader: Trader) -> float | None:
        """Return what buying and holding since the first decision is worth, None before it."""
        if self.hold is None:
            return None
        return self.hold.equity({symbol: p.mark for symbol, p in trader.portfolio.positions.items()})

    def start_hold(self, trader: Trader, outcomes: list[Outcome], cash: float) -> None:
        """Open the benchmark at the first decision that anybody voted on."""
        if self.hold is None:
            self.hold = hold_from_first_vote(trader, outcomes, cash)


def _read_statuses(stored: Sequence[Mapping[str, Any]]) -> dict[str, OrderStatus]:
    statuses = [records.read_status(values) for values in stored]
    return {status.order.client_id: status for status in statuses}


@dataclass(slots=True)
class Recorded:
    """Stands in for an ensemble: repeats the votes of the journal. weights: of the ensemble that decided."""

    weights: tuple[float, ...]

    def decide(self, trader: Trader, group: CandleGroup, entries: Sequence[Entry]) -> list[Outcome]:
        """Decide with the votes, and the distance from what training saw, that stand in `entries`."""
        seen = []
        trader.fault = ""
        for sight, entry in zip(trader.observe(trader.in_order(group.candles)), entries, strict=True):
            votes = records.read_votes(entry.payload)
            has_failed = entry.payload["why"] == DecisionReason.NO_VOTES
            if (votes is None) != (sight.observation is None or has_failed):
                raise FatalError(f"journal entry {entry.seq}: votes and a full window of candles do not come together")
            trader.fault = trader.fault or (_FAILED if has_failed else "")
            seen.append((replace(sight, distance=float(entry.payload["distance"])), votes))
        return trader.decide(seen, self.weights)


class Fold:
    """Applies journal entries, in order, to a trader and its memory, and to what accompanies them."""

    def __init__(self, trader: Trader, cash: float, companion: Companion | None = None) -> None:
        self.trader = trader
        self.memory = Memory()
        self.companion = companion
        self._cash = cash
        self._model = ""
        self._is_live = False
        self._group: CandleGroup | None = None
        self._decisions: list[Entry] = []
        self._has_differed = False

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Continue from a checkpoint's payload."""
        self.trader.restore(checkpoint["trader"])
        self.memory.restore(checkpoint["memory"])
        if self.companion is not None:
            self.companion.restore(checkpoint["companion"])

    def begin(self, run: Mapping[str, Any], reference: Reference | None) -> None:
        """Continue under the parameters and the ensemble of a run, given its payload."""
        begin(self.trader, Setup.from_json(run["setup"]), reference)
        if self.companion is not None:
            self.companion.begin(self.trader.setup)
        self._model = run["model"][:16]
        self._is_live = run["account"]["mode"] == "live"

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
        if self._is_live:
            self.memory.tell_in_flight(self.trader)
        match entry.kind:
            case "candle":
                self._take_candles(entry)
            case "decision":
                yield from self._decide(entry, voters)
            case "command":
                yield from self._command(entry)
            case "risk":
                approved = self.trader.on_price(payload["symbol"], payload["price"], payload["at_ms"])
                yield from self._compare_orders(entry, approved)
            case "exit":
                approved = self.trader.exits(payload["symbol"], payload["at_ms"], unprotected=payload["unprotected"])
                yield from self._compare_orders(entry, approved)
            case "intent":
                yield from self._protect(entry)
            case _:
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        """Apply what only happened, and was nobody's decision."""
        payload = entry.payload
        match entry.kind:
            case "order":
                self._move_order(entry)
            case "fill":
                self._fill(records.read_fill(payload))
            case "external":
                self._external(records.read_external(payload))
            case "venue":
                self.trader.set_venue(is_cut_off=payload["is_cut_off"], closed=payload["closed"])
                if payload["pauses"]:
                    self.trader.pause()
            case "feed":
                self.trader.set_feed(is_stale=payload["is_stale"], is_skewed=payload["is_skewed"])
            case "drift" | "model" | "shadow":
                self._accompany(entry)

    def _accompany(self, entry: Entry) -> None:
        if entry.kind == "drift":
            self.trader.set_drifted(is_drifted=entry.payload["is_beyond"])
        if self.companion is not None:
            self.companion.apply(Record(kind=entry.kind, payload=entry.payload))

    def _fill(self, fill: Fill) -> None:
        is_stop = self.memory.take_fill(fill, self.trader.setup.instruments[fill.symbol].quote)
        self.trader.on_fill(fill, is_stop=is_stop)

    def _external(self, external: External) -> None:
        self.memory.take_foreign(external.asset, external.foreign)
        take_external(self.trader, external)

    def _protect(self, entry: Entry) -> Iterator[Difference]:
        """Note a stop that was to be placed; it is the one that the trader has, or has to have again."""
        stored = Order.from_json(entry.payload["order"])
        if entry.payload["renews"]:
            self.trader.renew_stop(stored.symbol)
        self.memory.intend(stored)
        if self.trader.stops[stored.symbol] != stored:
            yield Difference(seq=entry.seq, symbol=stored.symbol, open_ms=stored.decided_ms, fields=("stop",))

    def _take_candles(self, entry: Entry) -> None:
        group = records.read_group(entry.payload)
        if unknown := {candle.symbol for candle in group.candles} - set(self.trader.features):
            raise ValueError(f"{', '.join(sorted(unknown))} is not traded by this account")
        self.memory.take_candles(group)
        if group.is_backfill:
            self.trader.warm(group.candles)
            if self.companion is not None:
                self.companion.on_warm(group)
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
        if self.companion is not None:
            self.companion.on_candles(group, outcomes)

    def _move_order(self, entry: Entry) -> None:
        payload = entry.payload
        stop = self.trader.stops[payload["symbol"]]
        is_known = self.memory.known(payload["client_id"]) is not None or (
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


def take_external(trader: Trader, external: External) -> Order | None:
    """Let `trader` take in its part of what came or went at the venue; returns the stop of the symbol from here on."""
    symbol = external.symbol or None
    if external.halts:
        for halted in [external.symbol] if external.symbol else list(trader.features):
            trader.halt_symbol(halted)
    if external.ours == 0.0:
        return None if symbol is None else trader.stops[symbol]
    return trader.on_external(symbol, external.ours, external.price)


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
