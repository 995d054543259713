"""The paper venue: takes real orders and fills them against the market without sending anything anywhere.

On recorded and simulated candles an order fills at the next open; on a live feed at the next trade. Costs, lot, tick
and the share of volume are those of `strategy/simulation.py`, which training and backtest use too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from daemon.ports import CandleGroup, MarketTrade
from strategy.candle import Candle
from strategy.instrument import Instrument
from strategy.order import Order, OrderEvent, OrderReport
from strategy.parameters import CostModel
from strategy.simulation import SimulatedExchange
from strategy.trader import Setup


class PaperBroker:
    """Implements `ports.Broker`. funds: the account's cash in quote; held: what it holds of a symbol in base."""

    is_live = False

    def __init__(
        self,
        *,
        instruments: Mapping[str, Instrument],
        costs: CostModel,
        funds: Callable[[], float],
        held: Callable[[str], float],
        is_live: bool,
        last: Iterable[Candle] = (),
    ) -> None:
        self._exchange = SimulatedExchange(instruments, costs, funds, held)
        self._is_live_feed = is_live
        for candle in last:
            self._exchange.see(candle)

    async def submit(self, order: Order) -> Sequence[OrderReport]:
        """Take an order; it is accepted at once and fills with the market."""
        self._exchange.submit(order)
        return [
            OrderReport(
                client_id=order.client_id, symbol=order.symbol, event=OrderEvent.ACCEPTED, at_ms=order.decided_ms
            )
        ]

    async def cancel(self, order: Order, reason: str) -> Sequence[OrderReport]:
        """End an order that has not filled, at once."""
        self._exchange.cancel(order)
        return [
            OrderReport(
                client_id=order.client_id,
                symbol=order.symbol,
                event=OrderEvent.CANCELLED,
                at_ms=order.decided_ms,
                detail=reason,
            )
        ]

    def on_market(self, event: CandleGroup | MarketTrade) -> Iterator[OrderReport]:
        """Yield what the market does to resting orders and stops; the caller applies each before the next."""
        match event:
            case MarketTrade():
                yield from self._exchange.on_trade(event.symbol, event.price, event.at_ms)
            case CandleGroup():
                for candle in event.candles:
                    # A live candle tells of trades that were already seen one by one.
                    if self._is_live_feed and not event.is_backfill:
                        self._exchange.see(candle)
                    else:
                        yield from self._exchange.on_candle(candle)

    def protect(self, symbol: str, stop: Order | None) -> None:
        """Replace the protective stop of `symbol`; None removes it."""
        self._exchange.protect(symbol, stop)

    def begin(self, setup: Setup) -> None:
        """Fill at the costs of `setup` from here on."""
        self._exchange.begin(setup.instruments, setup.costs)

    def release(self) -> None:
        """Nothing leaves."""

    async def close(self) -> None:
        """Nothing is held."""
