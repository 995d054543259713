"""The account's ledger: takes what happened to orders, stops and money into the account, and notes the record of it.

Account (trader and memory) and record change together, in the order in which they stand in the journal, so that
`fold.py` finds the same account again. Writes nothing itself: `waiting` is what the engine's next transaction holds.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from daemon import records
from daemon.errors import FatalError
from daemon.events import Event, Filled, OrderMoved, Protected
from daemon.fold import Memory, take_external
from daemon.ports import Broker, External, OrderPath, Record, StopLost
from strategy.errors import StrategyError
from strategy.order import Fill, Order, OrderKind, OrderReport, OrderState, OrderStatus, Side
from strategy.trader import Outcome, Trader

_ROUNDING = 1e-12
"""What float64 additions leave behind, as a share: so much more than is held is no more than is held."""


class Ledger:
    """What the account goes through between two transactions.

    waiting: records that the next transaction holds, oldest first.  fills: taken so far.  At a venue, since somebody
    last took notice, ended: orders that ended, protective stops aside; resting: symbols whose stop came to rest.
    """

    def __init__(self, trader: Trader, memory: Memory, broker: Broker, publish: Callable[[Event], None]) -> None:
        self.waiting: list[Record] = []
        self.fills = 0
        self.ended: list[OrderStatus] = []
        self.resting: set[str] = set()
        self._trader = trader
        self._memory = memory
        self._broker = broker
        self._publish = publish
        self._told: dict[str, Order | None] = {}

    # ---- orders -------------------------------------------------------------------------------------------------
    def apply(self, reports: Iterable[OrderReport]) -> None:
        """Take in what the venue says, report by report; what is known already changes nothing and leaves no record.

        Raises FatalError for an order nobody knows, and for what cannot happen to it.
        """
        for report in reports:
            fill = report.fill
            if fill is not None and fill.fill_id in self._memory.fill_ids.get(report.client_id, ()):
                report = replace(report, fill=None)  # noqa: PLW2901 - told twice: only its event may still be news
            self._move(report)

    def _move(self, report: OrderReport) -> None:
        stop, fill = self._trader.stops[report.symbol], report.fill
        before = self._memory.known(report.client_id)
        if fill is not None and self._broker.is_live:
            self._cover(fill)
        quantity, by_stop = 0.0 if fill is None else fill.quantity, None if stop is None else OrderStatus(order=stop)
        status = self._memory.move_order(report.client_id, report.event, quantity, by_stop)
        if status == before:
            return  # what is submitted again after a restart is accepted again: nothing new
        self.waiting.append(records.of_report(report, status.state))
        self._publish(OrderMoved(report=report, state=status.state, order=status.order))
        if fill is not None:
            self._fill(fill)
        if self._broker.is_live:
            self._notice(status)

    def _notice(self, status: OrderStatus) -> None:
        if status.order.kind is not OrderKind.STOP:
            self.ended.extend([status] if status.is_terminal else [])
        elif status.state is OrderState.OPEN:
            self.resting.add(status.order.symbol)

    def _fill(self, fill: Fill) -> None:
        self.fills += 1
        self.waiting.append(records.of_fill(fill))
        is_stop = self._memory.take_fill(fill, self._trader.setup.instruments[fill.symbol].quote)
        self.protect(fill.symbol, self._trader.on_fill(fill, is_stop=is_stop))
        self._publish(Filled(fill=fill))

    def _cover(self, fill: Fill) -> None:
        """Take in that more was sold than the books hold: the venue had it, so it was not only ours."""
        instrument = self._trader.setup.instruments[fill.symbol]
        held = self._trader.portfolio.positions[fill.symbol].quantity
        going = fill.quantity + fill.fee_base
        missing = going - held
        if fill.side is Side.BUY or missing <= _ROUNDING * max(held, going):
            return
        others = max(0.0, (self._memory.foreign or {}).get(instrument.base, 0.0))
        # The stop for it is not asked for: the fill takes it away again.
        self._take_external(
            External(
                external_id=f"x-{fill.client_id}-{fill.fill_id}",
                asset=instrument.base,
                symbol=fill.symbol,
                ours=missing,
                foreign=-min(missing, others),
                price=fill.price,
                halts=missing >= instrument.lot,
                at_ms=fill.at_ms,
                detail=f"trade {fill.fill_id} sold {going:.12g} {instrument.base}, the books held {held:.12g}",
            )
        )

    # ---- protective stops ---------------------------------------------------------------------------------------
    def protect(self, symbol: str, stop: Order | None, *, renews: bool = False) -> None:
        """Ask for this stop and no other; at a venue it is an order of its own, which stands in the journal first.

        renews: it takes the place of one that the venue has ended.
        """
        self.waiting.extend(self._intents([stop], renews=renews))
        self._broker.protect(symbol, stop)
        if self._broker.is_live and self._told.get(symbol) != stop:
            self._told[symbol] = stop
            self._publish(Protected(symbol=symbol, stop=stop))

    def stop_lost(self, lost: StopLost) -> None:
        """Take in that the venue has lost a stop: the same one again, as a new order, unless that is vain."""
        if not lost.is_last and self._trader.stops[lost.symbol] is not None:
            self.protect(lost.symbol, self._trader.renew_stop(lost.symbol), renews=True)
        self._publish(lost)

    def intents(self, outcomes: Iterable[Outcome]) -> list[Record]:
        """Note the stops that decisions have set; returns their records, none on paper."""
        return self._intents([outcome.stop for outcome in outcomes])

    def missing_intents(self) -> list[Record]:
        """Note the stops that no journal knows: after a start with other parameters they may be others than before."""
        return self._intents(self._trader.stops.values())

    def _intents(self, stops: Iterable[Order | None], *, renews: bool = False) -> list[Record]:
        written = []
        for stop in stops:
            if self._broker.is_live and stop is not None and self._memory.known(stop.client_id) is None:
                self._memory.intend(stop)
                written.append(records.of_stop(stop, renews=renews))
        return written

    # ---- the account at the venue -------------------------------------------------------------------------------
    def external(self, external: External) -> None:
        """Take in a change of the account that is not ours. Raises FatalError for one that cannot be."""
        stop = self._take_external(external)
        if external.symbol and external.ours != 0.0:
            self.protect(external.symbol, stop)

    def _take_external(self, external: External) -> Order | None:
        self.waiting.append(records.of_external(external))
        self._memory.take_foreign(external.asset, external.foreign)
        try:
            stop = take_external(self._trader, external)
        except StrategyError as error:
            raise FatalError(f"change {external.external_id} of {external.asset} cannot be: {error}") from error
        self._publish(external)
        return stop

    def order_path(self, path: OrderPath, at_ms: int) -> None:
        """Take in whether orders can be sent; where only a person can help, trading pauses."""
        self._trader.set_venue(is_cut_off=not path.is_open)
        if path.needs_person:
            self._trader.pause()
        self.venue(at_ms, path.detail, pauses=path.needs_person)
        self._publish(path)

    def venue(self, at_ms: int, detail: str, *, pauses: bool = False) -> None:
        """Note what the venue takes from us now."""
        self.waiting.append(records.of_venue(self._trader.risk, at_ms, detail, pauses=pauses))
