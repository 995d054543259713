"""A seeded market that needs no network: regimes, fat tails, clustered volatility, correlated symbols.

The open of a candle is the close before it, and everything else that shapes it is a pure function of (seed, symbol,
number of the candle), drawn in blocks with one generator per block. So the market goes on from any candle with the
same bytes, and any candle can be made again from its own open. Never reads a clock, never waits.

How a candle comes about, per hour of its length (longer and shorter candles scale with time):
- a regime (bull, bear, range, panic), drawn as a Markov chain of spells within eras of 180 days; one chain for the
  market as a whole, one per symbol: it gives the drift and the level of volatility. Bull and bear spells last 10 to
  40 days and move the price a few times farther than noise does, as trends in real markets did;
- volatility that clusters: the logarithm is a sum of random curves over 6 hours, 2 days and 10 days;
- a Student t move, partly shared by all symbols;
- a pull of the log price towards its base, with a half-life of 200 days, so that no price dies or explodes;
- high and low: the extremes of a Brownian bridge between open and close, drawn by inverting their distribution
  (Karatzas and Shreve, Brownian Motion and Stochastic Calculus, 2nd ed., 2.8: P(max > y) = exp(-2y(y - c)/s^2));
- volume that grows with the move and with the volatility, and follows the time of day.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from strategy.candle import Candle, Timeframe
from strategy.instrument import Instrument

ORIGIN_MS = 1_704_067_200_000
"""2024-01-01T00:00Z: the first candle opens here, or with the first step of the timeframe after it."""

FloatArray = NDArray[np.float64]

_BLOCK = 1024
_HOUR_MS = 3_600_000
_ERA_H = 180 * 24
_MARKET = "market"

_BASE_PRICES = {"BTC": 40_000.0, "ETH": 2_500.0}
_TURNOVERS = {"BTC": 20e6, "ETH": 10e6}  # quote per hour; with 5 % participation no paper account moves the market
_OTHER_PRICE, _OTHER_TURNOVER = 100.0, 2e6

_SHARED = 0.85  # share of a symbol's noise that is the market's: hourly correlation of two symbols about 0.7
_OWN = math.sqrt(1.0 - _SHARED**2)
_TAIL_DF = 5.0
_WORST_MOVE = 0.3  # of the log price in one candle; a venue halts before more
_PULL_PER_H = math.log(2.0) / (200 * 24)
_CLUSTERS = ((6.0, 0.30), (48.0, 0.30), (240.0, 0.30))  # hours between knots, spread of the log volatility


class _Regime(NamedTuple):
    drift: float  # log price per hour
    volatility: float  # log price per square root of an hour
    shortest_h: float
    longest_h: float
    next_shares: tuple[float, float, float, float]  # chance of bull, bear, range, panic after it


_REGIMES = (
    _Regime(0.00046, 0.0062, 240.0, 960.0, (0.00, 0.25, 0.60, 0.15)),
    _Regime(-0.00042, 0.0076, 240.0, 960.0, (0.30, 0.00, 0.60, 0.10)),
    _Regime(0.0, 0.0054, 120.0, 480.0, (0.55, 0.40, 0.00, 0.05)),
    _Regime(-0.00200, 0.0160, 18.0, 72.0, (0.35, 0.30, 0.35, 0.00)),
)
_LONG_RUN = (0.32, 0.24, 0.38, 0.06)  # how often a spell of each kind comes in the long run
_MARKET_DRIFT, _OWN_DRIFT = 0.75, 0.35  # weights of the two chains in a symbol's drift


@dataclass(frozen=True, slots=True, kw_only=True)
class Innovations:
    """What chance adds to the candles of one block: arrays of (1024,) float64, the first is the block's first candle.

    move: change of the log price.  volatility: its scale.  up, down: log of the uniforms behind high and low.
    turnover: volume in quote.
    """

    move: FloatArray
    volatility: FloatArray
    up: FloatArray
    down: FloatArray
    turnover: FloatArray


def simulated_instrument(symbol: str) -> Instrument:
    """Return steps for `symbol` (`BASE/QUOTE`) like those of a large spot venue. Raises InvalidInstrument."""
    return Instrument(symbol=symbol, tick=0.01, lot=0.00001, min_notional=5.0)


class SimulatedSymbol:
    """The candles of one symbol of the market that `seed` names, from 2024-01-01T00:00Z on, without end.

    Prices lie on the instrument's tick, volumes on its lot.
    """

    def __init__(self, *, instrument: Instrument, timeframe: Timeframe, seed: int) -> None:
        self._symbol = instrument.symbol
        self._span_ms = timeframe.span_ms
        self._origin_ms = -(-ORIGIN_MS // self._span_ms) * self._span_ms
        self._seed = seed
        self._tick = Fraction(Decimal(repr(instrument.tick)))
        self._lot = Fraction(Decimal(repr(instrument.lot)))
        base = _BASE_PRICES.get(instrument.base, _OTHER_PRICE)
        self._base_ticks = max(1, round(Fraction(base) / self._tick))
        self._pull = _PULL_PER_H * self._span_ms / _HOUR_MS

    def index_of(self, open_ms: int) -> int:
        """Return the number of the candle that opens at `open_ms`; 0 is the first, negative lies before it."""
        return (open_ms - self._origin_ms) // self._span_ms

    def open_ms(self, index: int) -> int:
        """Return when candle `index` opens, in ms UTC."""
        return self._origin_ms + index * self._span_ms

    def again(self, known: Candle) -> Candle:
        """Return the candle this market makes from the open of `known` at its time; equal if it made `known`."""
        return next(self._candles(self.index_of(known.open_ms), self._ticks(known.open)))

    def after(self, known: Candle | None) -> Iterator[Candle]:
        """Yield the candles after `known`, or from the first one on; never ends."""
        if known is None:
            return self._candles(0, self._base_ticks)
        return self._candles(self.index_of(known.open_ms) + 1, self._ticks(known.close))

    def _ticks(self, price: float) -> int:
        return max(1, round(Fraction(price) / self._tick))

    def _candles(self, index: int, ticks: int) -> Iterator[Candle]:
        while True:
            block, offset = divmod(index, _BLOCK)
            drawn = _innovations(self._seed, self._symbol, self._span_ms, block)
            columns = (drawn.move, drawn.volatility, drawn.up, drawn.down, drawn.turnover)
            for row in zip(*(column[offset:].tolist() for column in columns), strict=True):
                candle, ticks = self._candle(index, ticks, row)
                yield candle
                index += 1

    def _candle(self, index: int, opened: int, row: tuple[float, ...]) -> tuple[Candle, int]:
        """Return the candle that opens at `opened` ticks, and its close in ticks. Scalars only: one order of steps."""
        move, volatility, up, down, turnover = row
        pulled = move - self._pull * math.log(opened / self._base_ticks)
        closed = max(1, round(opened * math.exp(pulled)))
        change = math.log(closed / opened)
        spread = 2.0 * volatility * volatility
        above = 0.5 * (change + math.sqrt(change * change - spread * up))
        below = 0.5 * (change - math.sqrt(change * change - spread * down))
        high = max(opened, closed, round(opened * math.exp(above)))
        low = max(1, min(opened, closed, round(opened * math.exp(below))))
        lots = max(1, round(turnover / (_on_grid(closed, self._tick) * float(self._lot))))
        candle = Candle(
            symbol=self._symbol,
            open_ms=self.open_ms(index),
            span_ms=self._span_ms,
            open=_on_grid(opened, self._tick),
            high=_on_grid(high, self._tick),
            low=_on_grid(low, self._tick),
            close=_on_grid(closed, self._tick),
            volume=_on_grid(lots, self._lot),
        )
        return candle, closed


def _on_grid(steps: int, step: Fraction) -> float:
    # int / int rounds correctly, so this is the float nearest to the decimal that the venue means
    return steps * step.numerator / step.denominator


# ---- chance -----------------------------------------------------------------------------------------------------
def _generator(seed: int, name: str, purpose: str, block: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(f"{name} {purpose}".encode()), block])


@lru_cache(maxsize=16)
def _innovations(seed: int, symbol: str, span_ms: int, block: int) -> Innovations:
    """Return block `block` of `symbol`. Always whole blocks: the same array sizes give the same bytes everywhere."""
    hours = span_ms / _HOUR_MS
    at_h: FloatArray = (np.arange(_BLOCK, dtype=np.float64) + block * _BLOCK) * hours
    market_drift, market_level = _regimes(seed, _MARKET, at_h)
    own_drift, own_level = _regimes(seed, symbol, at_h)
    clusters = _SHARED * _clusters(seed, _MARKET, at_h) + _OWN * _clusters(seed, symbol, at_h)
    level = market_level**0.75 * own_level**0.25
    volatility = level * np.exp(clusters) * math.sqrt(hours)
    noise = _SHARED * _noise(seed, _MARKET, block) + _OWN * _noise(seed, symbol, block)
    drift = (_MARKET_DRIFT * market_drift + _OWN_DRIFT * own_drift) * hours
    move = np.clip(drift + volatility * noise, -_WORST_MOVE, _WORST_MOVE)
    generator = _generator(seed, symbol, "intrahour", block)
    up, down = np.log1p(-generator.random((2, _BLOCK)))
    turnover = _turnover(symbol, hours) * np.exp(
        0.35 * generator.standard_normal(_BLOCK)
        + 0.8 * np.log(volatility / (0.005 * math.sqrt(hours)))
        + 0.25 * np.minimum(np.abs(noise), 6.0)
        + 0.20 * np.sin((at_h - 9.0) * (2.0 * math.pi / 24.0))  # busiest in the afternoon, UTC
    )
    return Innovations(move=move, volatility=volatility, up=up, down=down, turnover=turnover)


def _turnover(symbol: str, hours: float) -> float:
    return 0.7 * hours * _TURNOVERS.get(symbol.partition("/")[0], _OTHER_TURNOVER)


@lru_cache(maxsize=16)
def _noise(seed: int, name: str, block: int) -> FloatArray:
    """Return (1024,) Student t noise of variance 1."""
    generator = _generator(seed, name, "noise", block)
    return generator.standard_t(_TAIL_DF, _BLOCK) * math.sqrt((_TAIL_DF - 2.0) / _TAIL_DF)


def _clusters(seed: int, name: str, at_h: FloatArray) -> FloatArray:
    """Return (1024,) deviations of the log volatility: random curves through knots at fixed times."""
    total: FloatArray = np.zeros(len(at_h), dtype=np.float64)
    for knot_h, spread in _CLUSTERS:
        if knot_h < at_h[1] - at_h[0]:
            continue  # shorter than a candle: it would be noise, not a cluster
        first, last = int(at_h[0] // knot_h), int(at_h[-1] // knot_h) + 1
        knots = np.array([_knot(seed, name, knot_h, number) for number in range(first, last + 1)])
        total += spread * np.interp(at_h / knot_h, np.arange(first, last + 1), knots)
    return total


@lru_cache(maxsize=4096)
def _knot(seed: int, name: str, knot_h: float, number: int) -> float:
    return float(_generator(seed, name, f"knot {knot_h}", number).standard_normal())


def _regimes(seed: int, name: str, at_h: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (1024,) drift per hour and (1024,) volatility per root hour of the chain called `name`."""
    eras = range(int(at_h[0] // _ERA_H), int(at_h[-1] // _ERA_H) + 1)
    spells = [spell for era in eras for spell in _spells(seed, name, era)]
    starts = np.array([start_h for start_h, _ in spells])
    kinds = np.array([kind for _, kind in spells])[np.searchsorted(starts, at_h, side="right") - 1]
    drifts = np.array([regime.drift for regime in _REGIMES])
    levels = np.array([regime.volatility for regime in _REGIMES])
    return drifts[kinds], levels[kinds]


@lru_cache(maxsize=64)
def _spells(seed: int, name: str, era: int) -> tuple[tuple[float, int], ...]:
    """Return the spells of one era as (start in hours since the origin, kind); the first starts with the era."""
    generator = _generator(seed, name, "regime", era)
    shares = _LONG_RUN
    start_h, end_h = float(era * _ERA_H), float((era + 1) * _ERA_H)
    spells: list[tuple[float, int]] = []
    while start_h < end_h:
        kind = int(generator.choice(len(_REGIMES), p=shares))
        spells.append((start_h, kind))
        regime = _REGIMES[kind]
        start_h += float(generator.uniform(regime.shortest_h, regime.longest_h))
        shares = regime.next_shares
    return tuple(spells)
