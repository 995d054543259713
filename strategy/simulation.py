"""A venue made of recorded prices: what training, backtest and paper trading fill orders against.

A market order decided on candle t fills at the open of t+1 (or, on a live feed, at the next trade), worse by the
slippage, up to a share of the volume. A stop fills at the worse of the open and its price, worse by the slippage, up
to the same share; what is left of the position stays protected and goes on selling where its stop is met again.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from strategy.candle import Candle
from strategy.costs import affordable_quantity, fee, fill_price
from strategy.errors import BadState
from strategy.instrument import Instrument
from strategy.order import Fill, Order, OrderEvent, OrderReport, Side
from strategy.parameters import CostModel


class SimulatedExchange:
    """Holds the orders that are on their way and the protective stops, one per symbol.

    funds: returns the account's cash, so that a price that jumps cannot make it negative.
    held: returns what the account holds of a symbol (base): like a spot venue, this one sells no more than that.
    """

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        costs: CostModel,
        funds: Callable[[], float],
        held: Callable[[str], float],
    ) -> None:
        self._instruments = instruments
        self._costs = costs
        self._funds = funds
        self._held = held
        self._orders: dict[str, list[Order]] = {}
        self._stops: dict[str, Order] = {}
        self._volumes: dict[str, float] = {}

    def begin(self, instruments: Mapping[str, Instrument], costs: CostModel) -> None:
        """Continue under other steps and costs; what waits goes on waiting."""
        self._instruments, self._costs = instruments, costs

    def submit(self, order: Order) -> None:
        """Take a market order; it fills at the next candle or trade."""
        self._orders.setdefault(order.symbol, []).append(order)

    def cancel(self, order: Order) -> None:
        """Let go of a market order that has not filled."""
        self._orders[order.symbol] = [other for other in self._orders.get(order.symbol, ()) if other != order]

    def protect(self, symbol: str, stop: Order | None) -> None:
        """Replace the protective stop of `symbol`; None removes it."""
        if stop is None:
            self._stops.pop(symbol, None)
        else:
            self._stops[symbol] = stop

    @property
    def waiting(self) -> Iterable[Order]:
        """Market orders that have not filled yet."""
        return [order for orders in self._orders.values() for order in orders]

    def on_candle(self, candle: Candle) -> Iterator[OrderReport]:
        """Yield what a new final candle does; the caller applies each report (stops too) before the next."""
        for order in self._orders.pop(candle.symbol, ()):
            yield from self._execute(order, candle.open, candle.volume, candle.open_ms)
        self.see(candle)
        stop = self._stops.get(candle.symbol)
        if stop is not None and stop.stop_price is not None and candle.low <= stop.stop_price:
            yield from self._stopped(stop, min(candle.open, stop.stop_price), candle.volume, candle.open_ms)

    def see(self, candle: Candle) -> None:
        """Note the volume of a candle that fills nothing here."""
        self._volumes[candle.symbol] = candle.volume

    def on_trade(self, symbol: str, price: float, at_ms: int) -> Iterator[OrderReport]:
        """Yield what a trade at the venue does; the volume of the last candle bounds the quantity."""
        volume = self._volumes.get(symbol, float("inf"))
        for order in self._orders.pop(symbol, ()):
            yield from self._execute(order, price, volume, at_ms)
        stop = self._stops.get(symbol)
        if stop is not None and stop.stop_price is not None and price <= stop.stop_price:
            yield from self._stopped(stop, price, volume, at_ms)

    def _execute(self, order: Order, reference: float, volume: float, at_ms: int) -> Iterator[OrderReport]:
        instrument = self._instruments[order.symbol]
        price = fill_price(self._costs, instrument, order.side, reference)
        quantity = min(order.quantity, self._share(order.symbol, volume))
        if order.side is Side.BUY:
            quantity = min(quantity, affordable_quantity(self._costs, instrument, self._funds(), price))
        else:
            quantity = min(quantity, self._held(order.symbol))
        yield from self._reports(order, quantity, price, at_ms)

    def _stopped(self, stop: Order, reference: float, volume: float, at_ms: int) -> Iterator[OrderReport]:
        share = self._share(stop.symbol, volume)
        if share <= 0.0:
            return  # nobody was there to trade with: it stays, untriggered
        # Its order ends here, as a market order does; on the fill the trader protects what is left by a new one.
        del self._stops[stop.symbol]
        price = fill_price(self._costs, self._instruments[stop.symbol], Side.SELL, reference)
        yield from self._reports(stop, min(stop.quantity, share, self._held(stop.symbol)), price, at_ms)

    def _share(self, symbol: str, volume: float) -> float:
        """Return the most that one order may take of `volume`, in whole lots."""
        return self._instruments[symbol].floor_quantity(min(volume, 1e300) * self._costs.participation)

    def _reports(self, order: Order, quantity: float, price: float, at_ms: int) -> Iterator[OrderReport]:
        if quantity > 0.0:
            is_whole = quantity >= order.quantity
            event = OrderEvent.FILLED if is_whole else OrderEvent.PARTLY_FILLED
            yield self._report(order, event, at_ms, self._fill(order, quantity, price, at_ms))
        if quantity < order.quantity:
            yield self._report(order, OrderEvent.EXPIRED, at_ms, None)

    def _fill(self, order: Order, quantity: float, price: float, at_ms: int) -> Fill:
        return Fill(
            fill_id=f"{order.client_id}.1",
            client_id=order.client_id,
            symbol=order.symbol,
            side=order.side,
            quantity=quantity,
            price=price,
            fee=fee(self._costs, quantity * price),
            at_ms=at_ms,
            reference_price=order.reference_price,
        )

    @staticmethod
    def _report(order: Order, event: OrderEvent, at_ms: int, fill: Fill | None) -> OrderReport:
        detail = "" if fill is not None else "the rest found no volume, no cash or nothing held"
        return OrderReport(
            client_id=order.client_id, symbol=order.symbol, event=event, at_ms=at_ms, fill=fill, detail=detail
        )

    # ---- memory -------------------------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return what waits, and the last volumes, as JSON types."""
        return {
            "orders": {symbol: [asdict(order) for order in orders] for symbol, orders in self._orders.items()},
            "stops": {symbol: asdict(stop) for symbol, stop in self._stops.items()},
            "volumes": dict(self._volumes),
        }

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Continue from a `state`. Raises BadState, and changes nothing, when it was stored by something else."""
        try:
            orders = {s: [self._read_order(s, values) for values in waits] for s, waits in stored["orders"].items()}
            stops = {symbol: self._read_order(symbol, values) for symbol, values in stored["stops"].items()}
            volumes = {symbol: self._read_volume(symbol, value) for symbol, value in stored["volumes"].items()}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadState(f"stored orders of a simulated venue cannot be read: {error}") from error
        self._orders, self._stops, self._volumes = orders, stops, volumes

    def _read_order(self, symbol: str, values: Mapping[str, Any]) -> Order:
        order = Order.from_json(values)
        if symbol not in self._instruments or order.symbol != symbol:
            raise BadState(f"an order in {order.symbol} stands under {symbol}, not under a symbol that is traded")
        return order

    def _read_volume(self, symbol: str, value: Any) -> float:  # noqa: ANN401 - whatever JSON held
        if symbol not in self._instruments or not 0.0 <= value < math.inf:
            raise BadState(f"a volume of {value!r} in {symbol}: not a finite amount >= 0 of a symbol that is traded")
        return float(value)
