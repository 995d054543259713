"""How fills came out beside what the cost model expected, from the journal; and the parameters that would have fitted.

Slippage is a share of the price the order was decided at, positive when it was worse, in basis points (1/100 %).
Means are weighted by value, so that they are what was really paid. Pure.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from daemon.errors import DataError
from daemon.execution_orders import Traded, Trail, follow
from daemon.ports import Entry
from strategy.order import OrderState
from strategy.parameters import CostModel

ENOUGH = 30
"""Orders from which on a mean is near enough to normal for its interval to be believed."""
_Z95 = 1.959963984540054
_HIGHEST_RATE = 0.1
"""What `CostModel` takes at most."""
_HOUR_MS = 3_600_000
_NEVER_THERE = frozenset({OrderState.REJECTED.value, OrderState.NOT_PLACED.value})
_NOT_ENDED = frozenset(
    {state.value for state in (OrderState.INTENDED, OrderState.IN_FLIGHT, OrderState.UNKNOWN)}
    | {OrderState.OPEN.value, OrderState.PARTIALLY_FILLED.value}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How a figure is spread over n observations; None when there are none."""

    n: int
    mean: float | None
    median: float | None
    p90: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Fills that share a symbol, a side or an hour of the day (UTC). value: quote."""

    by: str
    name: str
    value: float
    against_reference_bp: Spread
    against_model_bp: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What became of orders; stops are not among them. states: count by final state.

    fill_ratio: value filled of the value asked for, of orders that reached the venue and have ended; None without any.
    partly: ended with a part filled.
    """

    count: int
    states: dict[str, int]
    partly: int
    fill_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A rate that would have fitted, with the 95 % interval of a weighted mean over n orders; None without any."""

    n: int
    used: float
    value: float | None
    low: float | None
    high: float | None

    @property
    def is_enough(self) -> bool:
        """True when there are orders enough to go by."""
        return self.n >= ENOUGH and self.low is not None

    @property
    def is_used_within(self) -> bool:
        """True when the rate in use lies in the interval: nothing speaks against it."""
        return self.low is not None and self.high is not None and self.low <= self.used <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What `sacd report --execution` tells. fees_paid, fees_expected: quote.  latency_s: by step, in order."""

    orders: Orders
    fills: int
    value: float
    fees_paid: float
    fees_expected: float
    slippage: tuple[Group, ...]
    stops: Group
    latency_s: dict[str, Spread]
    fee_rate: Estimate
    slippage_rate: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return the object of `--json`."""
        told = asdict(self)
        estimates = {name: told.pop(name) for name in ("fee_rate", "slippage_rate")}
        enough = {"fee_rate": self.fee_rate.is_enough, "slippage_rate": self.slippage_rate.is_enough}
        return {**told, "suggested": {name: {**made, "enough": enough[name]} for name, made in estimates.items()}}


def measure(entries: Iterable[Entry], *, since_ms: int | None = None, until_ms: int | None = None) -> Execution:
    """Return how the orders of a journal were executed: those decided in [since_ms, until_ms), stops that traded then.

    entries: of `execution_orders.KINDS`, from the first on.  Raises DataError when the journal holds no run, FatalError
    naming an entry that cannot be read.
    """
    everything, setup = follow(entries)
    if setup is None:
        raise DataError("the journal holds no run: start `sacd run` first, or name another")
    trails = [trail for trail in everything if _is_within(trail.at_ms, since_ms, until_ms)]
    orders = [trail for trail in trails if not trail.is_stop]
    traded = [fill for trail in trails for fill in trail.fills]
    return Execution(
        orders=_orders(orders),
        fills=len(traded),
        value=math.fsum(t.fill.notional for t in traded),
        fees_paid=math.fsum(t.fill.fee for t in traded),
        fees_expected=math.fsum(t.expected_fee for t in traded),
        slippage=tuple(_groups([fill for trail in orders for fill in trail.fills])),
        stops=_group("stops", "stops", [fill for trail in trails if trail.is_stop for fill in trail.fills]),
        latency_s={name: _latency(trails, span) for name, span in LATENCIES.items()},
        fee_rate=_fee_rate(trails, setup.costs),
        slippage_rate=_slippage_rate(orders, setup.costs),
    )


def _is_within(at_ms: int, since_ms: int | None, until_ms: int | None) -> bool:
    return (since_ms is None or at_ms >= since_ms) and (until_ms is None or at_ms < until_ms)


# ---- orders and slippage ----------------------------------------------------------------------------------------
def _orders(trails: Sequence[Trail]) -> Orders:
    states: dict[str, int] = {}
    for trail in trails:
        states[trail.state] = states.get(trail.state, 0) + 1
    ended = [t for t in trails if t.state not in _NEVER_THERE | _NOT_ENDED]
    asked = math.fsum(trail.quantity * trail.reference_price for trail in ended)
    got = math.fsum(trail.filled * trail.reference_price for trail in ended)
    return Orders(
        count=len(trails),
        states=dict(sorted(states.items())),
        partly=sum(trail.state != OrderState.FILLED and trail.filled > 0.0 for trail in ended),
        fill_ratio=got / asked if asked > 0.0 else None,
    )


def _groups(traded: Sequence[Traded]) -> Iterable[Group]:
    """Yield all fills together, then by side, by symbol and by hour, those that there are."""
    yield _group("all", "all", traded)
    keys: dict[str, Callable[[Traded], str]] = {
        "side": lambda t: t.fill.side.value,
        "symbol": lambda t: t.fill.symbol,
        "hour": lambda t: f"{t.fill.at_ms // _HOUR_MS % 24:02}",
    }
    for by, key in keys.items():
        for name in sorted({key(t) for t in traded}):
            yield _group(by, name, [t for t in traded if key(t) == name])


def _group(by: str, name: str, traded: Sequence[Traded]) -> Group:
    weights = [t.fill.quantity * t.fill.reference_price for t in traded]
    return Group(
        by=by,
        name=name,
        value=math.fsum(t.fill.notional for t in traded),
        against_reference_bp=_spread([1e4 * t.slippage for t in traded], weights),
        against_model_bp=_spread([1e4 * t.excess for t in traded], weights),
    )


def _spread(values: Sequence[float], weights: Sequence[float] | None = None) -> Spread:
    if not values:
        return Spread(n=0, mean=None, median=None, p90=None)
    return Spread(
        n=len(values),
        mean=float(np.average(values, weights=weights)),
        median=float(np.median(values)),
        p90=float(np.percentile(values, 90)),
    )


# ---- latency ----------------------------------------------------------------------------------------------------
def _decision(trail: Trail) -> float | None:
    is_comparable = trail.is_present and trail.is_decision and trail.intended_ms is not None
    return (trail.intended_ms or 0) - trail.decided_ms if is_comparable else None


def _sent(trail: Trail) -> float | None:
    return None if trail.sent_ms is None or trail.intended_ms is None else trail.sent_ms - trail.intended_ms


def _answered(trail: Trail) -> float | None:
    return None if trail.sent_ms is None or trail.answered_ms is None else trail.answered_ms - trail.sent_ms


def _first_fill(trail: Trail) -> float | None:
    return None if trail.sent_ms is None or not trail.fills else trail.fills[0].known_ms - trail.sent_ms


def _last_fill(trail: Trail) -> float | None:
    return None if trail.sent_ms is None or not trail.fills else trail.fills[-1].known_ms - trail.sent_ms


def _protected(trail: Trail) -> float | None:
    return None if trail.protected_ms is None or not trail.fills else trail.protected_ms - trail.fills[-1].known_ms


def _traded(trail: Trail) -> float | None:
    is_comparable = trail.is_present and trail.is_decision and trail.fills
    return trail.fills[0].fill.at_ms - trail.decided_ms if is_comparable else None


LATENCIES: dict[str, Callable[[Trail], float | None]] = {
    "close_to_decision": _decision,
    "decision_to_sent": _sent,
    "sent_to_answer": _answered,
    "sent_to_first_fill": _first_fill,
    "sent_to_last_fill": _last_fill,
    "last_fill_to_stop": _protected,
    "close_to_trade": _traded,
}
"""The steps of an order, in milliseconds. By our clock, but `close_to_decision`, which begins with the venue's close of
the candle, and `close_to_trade`, both ends of which are the venue's."""


def _latency(trails: Iterable[Trail], span: Callable[[Trail], float | None]) -> Spread:
    return _spread([ms / 1_000.0 for ms in map(span, (t for t in trails if not t.is_stop)) if ms is not None])


# ---- what would have fitted -------------------------------------------------------------------------------------
def _fee_rate(trails: Iterable[Trail], costs: CostModel) -> Estimate:
    paid = [(math.fsum(t.fill.fee for t in trail.fills), _notional(trail)) for trail in trails if trail.fills]
    return _estimate([fee / value for fee, value in paid], [value for _, value in paid], costs.fee_rate)


def _slippage_rate(orders: Iterable[Trail], costs: CostModel) -> Estimate:
    """Return the rate for orders; what a stop loses below its price is the market's fall, and no cost of a trade."""
    filled = [trail for trail in orders if trail.fills]
    weights = [math.fsum(t.fill.quantity * t.fill.reference_price for t in trail.fills) for trail in filled]
    worse = [trail.side.sign * (_notional(trail) / weight - 1.0) for trail, weight in zip(filled, weights, strict=True)]
    return _estimate(worse, weights, costs.slippage_rate)


def _notional(trail: Trail) -> float:
    return math.fsum(t.fill.notional for t in trail.fills)


def _estimate(values: Sequence[float], weights: Sequence[float], used: float) -> Estimate:
    """Return the weighted mean with its interval, one observation per order: its parts are not independent.

    Variance of a weighted mean as of a ratio: sum(w^2 (x - mean)^2) / sum(w)^2 x n / (n - 1).
    Source: Cochran (1977), Sampling Techniques, 3rd ed., 2.11.
    """
    n = len(values)
    if n == 0:
        return Estimate(n=0, used=used, value=None, low=None, high=None)
    x, w = np.asarray(values), np.asarray(weights)
    mean = float(np.sum(w * x) / np.sum(w))
    if n == 1:
        return Estimate(n=1, used=used, value=mean, low=None, high=None)
    error = math.sqrt(float(np.sum((w * (x - mean)) ** 2)) / float(np.sum(w)) ** 2 * n / (n - 1))
    return Estimate(n=n, used=used, value=mean, low=mean - _Z95 * error, high=mean + _Z95 * error)


def rate_to_write(estimate: Estimate) -> float:
    """Return the value as the configuration takes it: within its range, to three significant digits."""
    return float(f"{min(max(estimate.value or 0.0, 0.0), _HIGHEST_RATE):.3g}")
