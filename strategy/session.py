"""A trader and a simulated exchange wired together: the loop that environment and backtest share.

The daemon wires the same trader to a broker in `daemon/engine.py`, in the same order of steps.
"""

from collections.abc import Iterable, Sequence

from strategy.candle import Candle
from strategy.order import OrderReport
from strategy.risk import Approved
from strategy.simulation import SimulatedExchange
from strategy.trader import Outcome, Trader, Voters


class Session:
    """One simulated account on recorded candles."""

    def __init__(self, trader: Trader) -> None:
        self.trader = trader
        self.exchange = SimulatedExchange(
            trader.setup.instruments,
            trader.setup.costs,
            funds=lambda: trader.portfolio.cash,
            held=lambda symbol: trader.portfolio.positions[symbol].quantity,
        )

    def on_candles(self, candles: Sequence[Candle], voters: Voters) -> tuple[list[OrderReport], list[Outcome]]:
        """Fill what was waiting, then decide on `candles` (one open time, at most one per symbol)."""
        reports = self.settle(candles)
        outcomes = self.trader.on_candles(candles, voters)
        self.place(outcomes)
        return reports, outcomes

    def settle(self, candles: Iterable[Candle]) -> list[OrderReport]:
        """Let the orders and stops of the last decision meet the new candles."""
        reports = []
        for candle in self.trader.in_order(candles):
            for report in self.exchange.on_candle(candle):
                if report.fill is not None:
                    stop = self.trader.stops[report.symbol]
                    is_stop = stop is not None and stop.client_id == report.client_id
                    self.exchange.protect(report.symbol, self.trader.on_fill(report.fill, is_stop=is_stop))
                reports.append(report)
        return reports

    def place(self, outcomes: Iterable[Outcome]) -> None:
        """Send what was approved and move the stops."""
        for outcome in outcomes:
            if isinstance(outcome.verdict, Approved):
                self.exchange.submit(outcome.verdict.order)
            self.exchange.protect(outcome.sight.candle.symbol, outcome.stop)
