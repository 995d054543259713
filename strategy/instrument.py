"""Instrument: the steps a venue allows in price and quantity, and rounding that never enlarges risk."""

import math
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal

from strategy.errors import InvalidInstrument

# Our own: the context of the process belongs to everybody, and ccxt changes its rounding.
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """What can be traded and in which steps.

    symbol: ccxt's unified name, `BASE/QUOTE`.  tick: price step in quote.  lot: quantity step in base.
    min_notional: smallest order value in quote, >= 0.
    Raises InvalidInstrument for steps that are not positive finite numbers.
    """

    symbol: str
    tick: float
    lot: float
    min_notional: float = 0.0
    _tick: Decimal = field(init=False, repr=False, compare=False)
    _lot: Decimal = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        base, _, quote = self.symbol.partition("/")
        if not base or not quote:
            raise InvalidInstrument(f"symbol {self.symbol!r} is not of the form BASE/QUOTE")
        for name, value in (("tick", self.tick), ("lot", self.lot)):
            if not math.isfinite(value) or value <= 0.0:
                raise InvalidInstrument(f"{self.symbol}: {name} {value} is not a positive number")
        if not math.isfinite(self.min_notional) or self.min_notional < 0.0:
            raise InvalidInstrument(f"{self.symbol}: min_notional {self.min_notional} is not a number >= 0")
        object.__setattr__(self, "_tick", Decimal(repr(self.tick)))
        object.__setattr__(self, "_lot", Decimal(repr(self.lot)))

    @property
    def base(self) -> str:
        """Currency that is bought and sold."""
        return self.symbol.partition("/")[0]

    @property
    def quote(self) -> str:
        """Currency that is paid."""
        return self.symbol.partition("/")[2]

    def floor_quantity(self, quantity: float) -> float:
        """Return the largest multiple of the lot that is not above `quantity` (>= 0, base)."""
        return _snap(quantity, self._lot, ROUND_FLOOR)

    def ceil_quantity(self, quantity: float) -> float:
        """Return the smallest multiple of the lot that is not below `quantity` (>= 0, base)."""
        return _snap(quantity, self._lot, ROUND_CEILING)

    def nearest_quantity(self, quantity: float) -> float:
        """Return the multiple of the lot nearest to `quantity`: takes out what float64 additions left behind."""
        return _snap(quantity, self._lot, ROUND_HALF_EVEN)

    def floor_price(self, price: float) -> float:
        """Return the highest price on the tick grid that is not above `price`."""
        return _snap(price, self._tick, ROUND_FLOOR)

    def ceil_price(self, price: float) -> float:
        """Return the lowest price on the tick grid that is not below `price`."""
        return _snap(price, self._tick, ROUND_CEILING)


def _snap(value: float, step: Decimal, rounding: str) -> float:
    # The one place that leaves float64: a step such as 0.00001 has no exact binary form,
    # repr gives the decimal the venue means.
    steps = _CONTEXT.divide(Decimal(repr(value)), step).to_integral_value(rounding=rounding)
    return float(_CONTEXT.multiply(steps, step))
