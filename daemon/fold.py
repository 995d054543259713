"""Folds journalled events through a trader again: what recovery, replay and the account's history rest on.

The same trader code that decided runs once more over the same inputs. Recovery gives it the journalled votes; replay
lets the ensemble vote again and looks for differences.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon import records
from daemon.errors import FatalError
from daemon.ports import CandleGroup, Entry
from strategy.benchmark import BuyAndHold
from strategy.candle import Candle
from strategy.errors import StrategyError
from strategy.order import OrderEvent, OrderStatus
from strategy.risk import Approved
from strategy.trader import Outcome, Trader, Voters, Votes


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A decision that did not come out again as it stands in the journal. fields: what differs."""

    seq: int
    symbol: str
    open_ms: int
    fields: tuple[str, ...]


@dataclass(slots=True)
class Memory:
    """What a run has to know besides the trader: open orders, counters, the last candles, the benchmark."""

    orders: dict[str, OrderStatus] = field(default_factory=dict)
    last: dict[str, Candle] = field(default_factory=dict)
    hold: BuyAndHold | None = None
    candles: int = 0
    decisions: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, for a checkpoint; the last candles are in the journal anyway."""
        hold = None if self.hold is None else asdict(self.hold)
        orders = [records.of_status(status) for status in self.orders.values()]
        return {"orders": orders, "hold": hold, "candles": self.candles, "decisions": self.decisions}

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        statuses = [records.read_status(values) for values in stored["orders"]]
        self.orders = {status.order.client_id: status for status in statuses}
        self.hold = None if stored["hold"] is None else BuyAndHold(**stored["hold"])
        self.candles, self.decisions = stored["candles"], stored["decisions"]

    def take_candles(self, group: CandleGroup) -> None:
        """Note the newest candle of each symbol."""
        self.candles += len(group.candles)
        for candle in group.candles:
            self.last[candle.symbol] = candle

    def take_outcome(self, outcome: Outcome) -> None:
        """Count a decision and note the order it approved."""
        self.decisions += 1
        if isinstance(outcome.verdict, Approved):
            order = outcome.verdict.order
            self.orders[order.client_id] = OrderStatus(order=order)

    def move_order(self, client_id: str, event: OrderEvent, filled: float, stop: OrderStatus | None) -> OrderStatus:
        """Return an order's status after an event; finished ones are forgotten.

        stop: the protective stop of the symbol, which is no order of its own until it triggers.
        """
        status = self.orders.get(client_id, stop)
        if status is None or status.order.client_id != client_id:
            raise FatalError(f"the venue reports order {client_id}, which is not in flight and no stop of ours")
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
        if self.hold is None and any(outcome.votes is not None for outcome in outcomes):
            closes = {symbol: p.mark for symbol, p in trader.portfolio.positions.items() if p.mark > 0.0}
            self.hold = BuyAndHold.open(cash, closes, trader.setup.instruments, trader.setup.costs)


class Recorded:
    """Voters that repeat the votes of the journal; their weights are those of the ensemble that decided."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.weights = weights
        self.votes: list[Votes | None] = []

    def act(self, observations: NDArray[np.float32]) -> Votes:
        """Return the journalled votes of the symbols that were voted on."""
        given = [votes for votes in self.votes if votes is not None]
        if len(given) != len(observations):
            raise FatalError(f"the journal holds votes for {len(given)} symbols, {len(observations)} could be seen")
        return np.stack(given)


class Fold:
    """Applies journal entries, in order, to a trader and its memory."""

    def __init__(self, trader: Trader, cash: float) -> None:
        self.trader = trader
        self.memory = Memory()
        self._cash = cash
        self._group: CandleGroup | None = None
        self._decisions: list[Entry] = []

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Continue from a checkpoint's payload."""
        self.trader.restore(checkpoint["trader"])
        self.memory.restore(checkpoint["memory"])

    def apply(self, entry: Entry, voters: Voters) -> Iterator[Difference]:
        """Apply one entry; yields the decisions that came out differently. Raises FatalError for a broken journal."""
        payload = entry.payload
        if entry.kind not in {"fill", "order", "decision"}:
            self._warm_up()
        match entry.kind:
            case "candle":
                self._group = self._read_group(entry)
                self.memory.take_candles(self._group)
            case "fill":
                self.trader.on_fill(records.read_fill(payload))
            case "order":
                self._move_order(payload)
            case "decision":
                self._decisions.append(entry)
                if self._group is not None and len(self._decisions) == len(self._group.candles):
                    yield from self._decide(voters)
            case "command":
                yield from self._command(entry)
            case "risk":
                approved = self.trader.on_price(payload["symbol"], payload["price"], payload["at_ms"])
                yield from self._compare_orders(entry, approved)
            case "feed":
                self.trader.set_feed(is_stale=payload["is_stale"], is_skewed=payload["is_skewed"])

    def finish(self) -> None:
        """Apply what still waits: backfilled candles at the end of a journal."""
        self._warm_up()

    def _read_group(self, entry: Entry) -> CandleGroup:
        try:
            return records.read_group(entry.payload)
        except (StrategyError, KeyError, TypeError, ValueError) as error:
            raise FatalError(f"journal entry {entry.seq} does not hold candles: {error}") from error

    def _warm_up(self) -> None:
        # Fills of a backfilled group stand between it and the next entry, so it is applied when that comes.
        if self._group is not None and self._group.is_backfill:
            self.trader.warm(self._group.candles)
            self._group = None

    def _decide(self, voters: Voters) -> Iterator[Difference]:
        group, entries = self._group, self._decisions
        self._group, self._decisions = None, []
        if group is None:
            raise FatalError(f"journal entry {entries[0].seq} decides without a candle")
        if isinstance(voters, Recorded):
            voters.votes = [records.read_votes(entry.payload) for entry in entries]
        outcomes = self.trader.on_candles(group.candles, voters)
        self.memory.start_hold(self.trader, outcomes, self._cash)
        for entry, outcome in zip(entries, outcomes, strict=True):
            self.memory.take_outcome(outcome)
            again = records.of_decision(outcome, entry.payload["model"], self.trader.portfolio, self.trader.risk)
            yield from _compare(entry, again.payload)

    def _move_order(self, payload: Mapping[str, Any]) -> None:
        stop = self.trader.stops[payload["symbol"]]
        status = None if stop is None else OrderStatus(order=stop)
        known = payload["client_id"] in self.memory.orders or (
            status is not None and status.order.client_id == payload["client_id"]
        )
        # A stop's report follows its fill, after which the trader has forgotten the stop.
        if known:
            self.memory.move_order(payload["client_id"], OrderEvent(payload["event"]), payload["filled"], status)

    def _command(self, entry: Entry) -> Iterator[Difference]:
        match entry.payload["verb"]:
            case "pause":
                self.trader.pause()
            case "resume":
                self.trader.resume()
            case "flatten":
                yield from self._compare_orders(entry, self.trader.flatten(entry.payload["at_ms"]))

    def _compare_orders(self, entry: Entry, approved: list[Approved]) -> Iterator[Difference]:
        again = [records.of_order(verdict.order) for verdict in approved]
        for verdict in approved:
            self.memory.orders[verdict.order.client_id] = OrderStatus(order=verdict.order)
        if again != entry.payload["orders"]:
            symbols = ", ".join(order["symbol"] for order in entry.payload["orders"]) or "no symbol"
            yield Difference(seq=entry.seq, symbol=symbols, open_ms=entry.payload["at_ms"], fields=("orders",))


def _compare(entry: Entry, again: Mapping[str, Any]) -> Iterator[Difference]:
    stored = entry.payload
    wrong = tuple(sorted(key for key in {*stored, *again} if stored.get(key) != again.get(key)))
    if wrong:
        yield Difference(seq=entry.seq, symbol=stored["symbol"], open_ms=stored["open_ms"], fields=wrong)
