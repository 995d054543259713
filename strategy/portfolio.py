"""The account: cash, one position per symbol, and what they are worth.

Owns the arithmetic of fills. Equity is cash plus every position at its mark; nothing else creates or destroys money.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from strategy.candle import Candle
from strategy.errors import BadState, InvalidOrder
from strategy.instrument import Instrument
from strategy.order import Fill, Side
from strategy.stored import read_record

_DAY_MS = 86_400_000
_ROUNDING = 1e-12
"""What float64 additions leave behind, as a share of the larger term."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What is held of one symbol. A short position cannot be: spot only.

    quantity: base, >= 0.  average_entry: quote per base, 0 when flat.  mark: last close.  high: highest close since
    entry.  trade_profit: net of fees, of the round trip that is under way.  since_trade: candles since the last fill.
    """

    quantity: float = 0.0
    average_entry: float = 0.0
    mark: float = 0.0
    high: float = 0.0
    trade_profit: float = 0.0
    since_trade: int = 0

    @property
    def value(self) -> float:
        """Worth in quote at the mark."""
        return self.quantity * self.mark

    @property
    def unrealised_return(self) -> float:
        """Return of the mark over the average entry, 0 when flat."""
        return self.mark / self.average_entry - 1.0 if self.quantity > 0.0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio:
    """The whole account. Amounts are in quote.

    peak: highest equity since the start or the last resume.  day: days since 1970-01-01 UTC of the latest candle or
    fill.  day_start: equity at the start of that day.  fees, slippage: paid so far.  wins, losses: closed round trips
    by the sign of their profit after fees.
    """

    cash: float
    positions: Mapping[str, Position]
    equity: float
    peak: float
    day: int = -1
    day_start: float = 0.0
    fees: float = 0.0
    slippage: float = 0.0
    wins: int = 0
    losses: int = 0

    @classmethod
    def open(cls, cash: float, symbols: Iterable[str]) -> "Portfolio":
        """Return an account that holds nothing but `cash` (quote, > 0)."""
        positions = {symbol: Position() for symbol in symbols}
        return cls(cash=cash, positions=positions, equity=cash, peak=cash, day_start=cash)

    @property
    def drawdown(self) -> float:
        """Fall from the peak as a share of it, >= 0."""
        # A fill below the last mark lifts equity above the peak until the next mark raises that.
        return max(0.0, 1.0 - self.equity / self.peak)

    @property
    def day_loss(self) -> float:
        """Loss since 00:00 UTC as a share of that equity; negative for a gain."""
        return 1.0 - self.equity / self.day_start if self.day_start > 0.0 else 0.0

    def capital(self) -> float:
        """Return the equity one symbol may use: an equal share."""
        return self.equity / len(self.positions)

    def exposure(self, symbol: str) -> float:
        """Return the value of a position as a share of its symbol's capital; 0 when there is no equity."""
        return self.positions[symbol].value / self.capital() if self.equity > 0.0 else 0.0

    def mark(self, candles: Iterable[Candle]) -> "Portfolio":
        """Return the account valued at the closes of `candles` (one time, at most one per symbol)."""
        positions = dict(self.positions)
        day = self.day
        for candle in candles:
            positions[candle.symbol] = _marked(positions[candle.symbol], candle.close)
            day = max(day, candle.open_ms // _DAY_MS)
        equity = _equity(self.cash, positions)
        return Portfolio(
            cash=self.cash,
            positions=positions,
            equity=equity,
            peak=max(self.peak, equity),
            day=day,
            # The first candle of a day starts from the equity before it.
            day_start=self.equity if day != self.day else self.day_start,
            fees=self.fees,
            slippage=self.slippage,
            wins=self.wins,
            losses=self.losses,
        )

    def apply(self, fill: Fill, instrument: Instrument) -> "Portfolio":
        """Return the account after a fill. Raises InvalidOrder when it sells more than is held.

        The first fill of a day begins it, so that what it costs, or loses at a stop, counts against that day.
        """
        position = self.positions[fill.symbol]
        changed, closed_profit = _traded(position, fill, instrument)
        # A fee in base has left the position already; it counts in `fees` at what it is worth.
        paid = fill.notional * fill.side.sign + (fill.fee if fill.fee_base == 0.0 else 0.0)
        positions = {**self.positions, fill.symbol: changed}
        cash = self.cash - paid
        day = fill.at_ms // _DAY_MS
        return replace(
            self,
            day=max(self.day, day),
            day_start=self.equity if day > self.day else self.day_start,
            cash=cash,
            positions=positions,
            equity=_equity(cash, positions),
            fees=self.fees + fill.fee,
            slippage=self.slippage + (fill.price - fill.reference_price) * fill.side.sign * fill.quantity,
            wins=self.wins + (closed_profit is not None and closed_profit > 0.0),
            losses=self.losses + (closed_profit is not None and closed_profit <= 0.0),
        )

    def transfer(self, symbol: str | None, amount: float, price: float, instrument: Instrument) -> "Portfolio":
        """Return the account after `amount` came (> 0) or went (< 0) without a trade of ours: no gain and no loss.

        symbol: whose base it is, valued at the mark, or at `price` (quote per base) when it has none; `price` is also
        what it counts as paid.  None: quote.  instrument: of the symbol; not looked at for quote.  Drawdown and loss of
        the day stay what they are, as shares. Raises InvalidOrder when more goes than is held, and for a price that is
        not positive.
        """
        if symbol is None:
            return self._worth(self.cash + amount, self.positions)
        if not 0.0 < price < math.inf:
            raise InvalidOrder(f"{symbol}: {amount} came or went at a price of {price}, which is not a positive number")
        changed = _transferred(self.positions[symbol], symbol, amount, price, instrument)
        return self._worth(self.cash, {**self.positions, symbol: changed})

    def _worth(self, cash: float, positions: Mapping[str, Position]) -> "Portfolio":
        """Return the account with other contents, its peak and the start of its day scaled by what it is worth."""
        equity = _equity(cash, positions)
        if self.equity <= 0.0 < equity:  # it was empty: it begins here
            return replace(self, cash=cash, positions=positions, equity=equity, peak=equity, day_start=equity)
        # Of nothing there is no share: an account that is emptied keeps the peak that it has fallen from.
        share = equity / self.equity if equity > 0.0 else 1.0
        return replace(
            self,
            cash=cash,
            positions=positions,
            equity=equity,
            peak=self.peak * share,
            day_start=self.day_start * share,
        )

    def at_price(self, symbol: str, price: float) -> "Portfolio":
        """Return the account with one position valued at a price between candles; the peak stays."""
        positions = {**self.positions, symbol: replace(self.positions[symbol], mark=price)}
        return replace(self, positions=positions, equity=_equity(self.cash, positions))

    def restart_peak(self) -> "Portfolio":
        """Return the account with the drawdown counted from here on: what resuming after a halt means."""
        return replace(self, peak=self.equity)

    def to_json(self) -> dict[str, Any]:
        """Return the account as JSON types; floats keep every bit."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], symbols: Sequence[str]) -> "Portfolio":
        """Return the account of `symbols` stored as `values`, positions in their order, whatever order JSON kept.

        Equity is a sum in that order, to the last bit. Raises BadState when it was stored by something else.
        """
        try:
            stored = values["positions"]
            if set(stored) != set(symbols):
                raise BadState(f"stored portfolio holds {sorted(stored)}, not {sorted(symbols)}")
            positions = {symbol: _read_position(symbol, stored[symbol]) for symbol in symbols}
        except (KeyError, TypeError) as error:
            raise BadState(f"stored portfolio cannot be read: {error!r}") from error
        portfolio = read_record(cls, values, positions=positions)
        if portfolio.peak <= 0.0:
            raise BadState(f"stored portfolio: peak {portfolio.peak} is not above 0")
        return portfolio


def _read_position(symbol: str, values: Any) -> Position:  # noqa: ANN401 - whatever JSON held
    position = read_record(Position, values)
    if min(position.quantity, position.average_entry, position.mark, position.high, position.since_trade) < 0.0:
        raise BadState(f"stored position of {symbol} holds a negative amount: {position}")
    return position


def _equity(cash: float, positions: Mapping[str, Position]) -> float:
    equity = cash
    for position in positions.values():
        equity += position.quantity * position.mark
    return equity


def _marked(position: Position, close: float) -> Position:
    return Position(
        quantity=position.quantity,
        average_entry=position.average_entry,
        mark=close,
        high=max(position.high, close) if position.quantity > 0.0 else 0.0,
        trade_profit=position.trade_profit,
        since_trade=position.since_trade + 1,
    )


def _traded(position: Position, fill: Fill, instrument: Instrument) -> tuple[Position, float | None]:
    """Return the position after a fill, and the profit of the round trip if the fill closed it."""
    mark = position.mark if position.mark > 0.0 else fill.price
    if fill.side is Side.BUY:
        quantity = _on_lots(instrument, position.quantity, fill.quantity - fill.fee_base)
        entry = (position.quantity * position.average_entry + fill.notional) / (position.quantity + fill.quantity)
        profit = position.trade_profit - fill.fee
        high = max(_high_since_entry(position, instrument), fill.price)
        return Position(quantity=quantity, average_entry=entry, mark=mark, high=high, trade_profit=profit), None
    quantity = _on_lots(instrument, position.quantity, -(fill.quantity + fill.fee_base))
    if quantity < 0.0:
        raise InvalidOrder(f"fill {fill.fill_id} sells {fill.quantity} {fill.symbol}, only {position.quantity} is held")
    profit = position.trade_profit + (fill.price - position.average_entry) * fill.quantity - fill.fee
    if quantity < instrument.lot:
        return _left_over(quantity, mark, fill.price), profit
    rest = replace(position, quantity=quantity, mark=mark, trade_profit=profit, since_trade=0)
    return rest, None


def _high_since_entry(position: Position, instrument: Instrument) -> float:
    """Return the high that a purchase goes on from: what is less than a lot is no position that it adds to."""
    return position.high if position.quantity >= instrument.lot else 0.0


def _left_over(quantity: float, mark: float, price: float) -> Position:
    """Return what a round trip leaves: nothing, or less than a lot, which no venue would buy."""
    if quantity == 0.0:
        return Position(mark=mark)
    return Position(quantity=quantity, average_entry=price, mark=mark, high=price)


def _transferred(position: Position, symbol: str, amount: float, price: float, instrument: Instrument) -> Position:
    quantity = _on_lots(instrument, position.quantity, amount)
    mark = position.mark if position.mark > 0.0 else price
    if quantity < 0.0:
        raise InvalidOrder(f"{-amount} {symbol} went, only {position.quantity} was held")
    if quantity < instrument.lot:
        return _left_over(quantity, mark, price)
    if amount <= 0.0:
        return replace(position, quantity=quantity, mark=mark)
    entry = (position.quantity * position.average_entry + amount * price) / (position.quantity + amount)
    high = max(_high_since_entry(position, instrument), price)
    return replace(position, quantity=quantity, average_entry=entry, mark=mark, high=high)


def _on_lots(instrument: Instrument, held: float, change: float) -> float:
    """Return the sum on the lot grid; a quantity that is really off the grid (the venue changed it) stays as it is."""
    total = held + change
    nearest = instrument.nearest_quantity(total)
    return nearest if abs(nearest - total) <= _ROUNDING * max(held, abs(change)) else total
