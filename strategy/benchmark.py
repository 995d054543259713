"""Buy and hold: what the same cash would be worth had it bought every symbol once and done nothing since."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from strategy.costs import affordable_quantity, fee, fill_price
from strategy.instrument import Instrument
from strategy.order import Side
from strategy.parameters import CostModel
from strategy.trader import Outcome, Trader


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyAndHold:
    """Quantities bought with equal shares of the cash; the cash that was left, fees and slippage paid (quote)."""

    cash: float
    fees: float
    slippage: float
    quantities: Mapping[str, float]

    @classmethod
    def open(
        cls, cash: float, closes: Mapping[str, float], instruments: Mapping[str, Instrument], costs: CostModel
    ) -> "BuyAndHold":
        """Return the account that spends `cash` in equal shares at `closes` (quote per base)."""
        quantities, left, fees, slippage = {}, cash, 0.0, 0.0
        for symbol, close in closes.items():
            price = fill_price(costs, instruments[symbol], Side.BUY, close)
            quantity = affordable_quantity(costs, instruments[symbol], cash / len(closes), price)
            quantities[symbol] = quantity
            fees += fee(costs, quantity * price)
            slippage += quantity * (price - close)
            left -= quantity * price + fee(costs, quantity * price)
        return cls(cash=left, fees=fees, slippage=slippage, quantities=quantities)

    def equity(self, marks: Mapping[str, float]) -> float:
        """Return what it is worth at `marks` (quote per base, every symbol it holds)."""
        total = self.cash
        for symbol, quantity in self.quantities.items():
            total += quantity * marks[symbol]
        return total


def hold_from_first_vote(trader: Trader, outcomes: Iterable[Outcome], cash: float) -> BuyAndHold | None:
    """Return the account that begins to hold now if anybody voted on `outcomes`, else None.

    It buys what `trader` has seen a price of.  cash: what the trader's account was opened with, in quote.
    """
    if not any(outcome.votes is not None for outcome in outcomes):
        return None
    closes = {symbol: p.mark for symbol, p in trader.portfolio.positions.items() if p.mark > 0.0}
    return BuyAndHold.open(cash, closes, trader.setup.instruments, trader.setup.costs)
