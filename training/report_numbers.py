"""How numbers are written in the report: each with its unit, and in words where it is not defined."""

from collections.abc import Callable
from dataclasses import dataclass

from training.console import counted

UNDEFINED = "not defined"
_MINUS = "\u2212"
_SPACE = "\u00a0"
_MANY_DAYS = 730.0


def percent(share: float | None, digits: int = 1, *, is_signed: bool = False) -> str:
    """Return a share as a percentage, `12.3 %`. is_signed: with its sign also when it is positive."""
    return UNDEFINED if share is None else _fixed(share * 100.0, digits, is_signed=is_signed) + f"{_SPACE}%"


def ratio(value: float | None, digits: int = 2, *, is_signed: bool = False) -> str:
    """Return a number without a unit, such as a Sharpe ratio."""
    return UNDEFINED if value is None else _fixed(value, digits, is_signed=is_signed)


def multiple(value: float | None, digits: int = 2) -> str:
    """Return how many times something, `2.31x`."""
    return UNDEFINED if value is None else _fixed(value, digits) + "\u00d7"


def price(value: float) -> str:
    """Return a price with four digits or more, whatever its size; its unit is told beside."""
    size = next((digits for limit, digits in ((1_000.0, 0), (10.0, 2), (1.0, 3), (0.01, 5)) if value >= limit), 8)
    return f"{value:,.{size}f}"


def days(value: float | None) -> str:
    """Return a length of time in days, and in years too when it is long."""
    if value is None:
        return UNDEFINED
    told = counted(round(value), "day")
    return f"{told} ({value / 365.0:.1f} years)" if value >= _MANY_DAYS else told


def listed(names: list[str]) -> str:
    """Return `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def as_wanted(value: float | None, wanted: str) -> str:
    """Return a value in the unit of the words it is held against: a percentage where they have one."""
    return percent(value) if "%" in wanted else ratio(value)


def round_ratio(value: float) -> str:
    """Return a round value of an axis without a unit: no more digits than it has."""
    return f"{value:,g}".replace("-", _MINUS)


def round_percent(share: float) -> str:
    """Return a round share of an axis as a percentage."""
    return f"{round_ratio(share * 100.0)}{_SPACE}%"


def round_multiple(value: float) -> str:
    """Return a round multiple of an axis."""
    return f"{round_ratio(value)}\u00d7"


def _fixed(value: float, digits: int, *, is_signed: bool = False) -> str:
    told = f"{value:{'+' if is_signed else ''},.{digits}f}"
    is_zero = float(told.replace(",", "")) == 0.0
    return told.lstrip("+-") if is_zero else told.replace("-", _MINUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """How the values of a chart are written, and the round ones of its axis."""

    write: Callable[[float | None], str]
    tick: Callable[[float], str]


PERCENT = Unit(write=percent, tick=round_percent)
RATIO = Unit(write=ratio, tick=round_ratio)
MULTIPLE = Unit(write=multiple, tick=round_multiple)
