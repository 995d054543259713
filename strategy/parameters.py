"""Everything a person may tune about deciding, sizing, stops, risk and costs; each value with unit and range.

These values travel in the bundle (what the policy was trained under), in the configuration (what the daemon trades
under) and in the journal (so that a decision can be recomputed long after).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from strategy.errors import InvalidParameters


class _Checked:
    """Construction from JSON and range checks shared by the parameter records."""

    __slots__ = ()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the record stored as `values`. Raises InvalidParameters for wrong keys and values."""
        names = {field.name for field in fields(cls)}  # type: ignore[arg-type]  # every subclass is a dataclass
        if wrong := names ^ set(values):
            raise InvalidParameters(f"{cls.__name__}: unknown or missing keys: {', '.join(sorted(wrong))}")
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]  # every subclass is a dataclass

    def _require(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        # A whole number is one whose bounds are.
        kinds, wanted = (int, "a whole number") if isinstance(low, int) else (int | float, "a number")
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise InvalidParameters(f"{name} {value!r} is not {wanted}; it must lie within {low} .. {high}")
        if not (math.isfinite(value) and low <= value <= high):
            raise InvalidParameters(f"{name} {value} is outside {low} .. {high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel(_Checked):
    """What a trade costs in simulation and on paper.

    fee_rate: share of the notional.  slippage_rate: how much worse than the reference price a market order fills,
    as a share.  participation: the largest share of a candle's volume one order may take.
    """

    fee_rate: float = 0.001
    slippage_rate: float = 0.0005
    participation: float = 0.05

    def __post_init__(self) -> None:
        self._require("fee_rate", 0.0, 0.1)
        self._require("slippage_rate", 0.0, 0.1)
        self._require("participation", 1e-6, 1.0)

    @property
    def round_trip_rate(self) -> float:
        """Cost of buying and selling again, as a share of the notional."""
        return 2.0 * (self.fee_rate + self.slippage_rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyParameters(_Checked):
    """How votes become a target exposure.

    Exposures are shares of the capital of one symbol (the account's equity divided equally among its symbols).
    dead_band: smaller changes of exposure are not traded.  edge_multiple, edge_horizon: a new position must expect,
    over `edge_horizon` candles, a move of at least `edge_multiple` round-trip costs (0 switches the test off).
    disagreement_limit: spread of the members' votes (0 .. 1) above which the decision is HOLD.
    decide_every, decide_offset: a decision falls on every such candle, by its close, counted from 00:00 UTC of 1970
    and so many candles later: of hourly candles, 24 and 0 decide at midnight, 24 and 6 at six. On the others exposure
    stays; stops, limits and operators act on every candle.
    volatility_target: annualised volatility of the symbol's capital that sizing aims at; caps the exposure.
    max_missing: how many candles the feature window may lack before it counts as broken.
    """

    dead_band: float = 0.02
    edge_multiple: float = 1.0
    edge_horizon: int = 24
    disagreement_limit: float = 0.6
    volatility_target: float = 0.3
    max_missing: int = 48
    decide_every: int = 1
    decide_offset: int = 0

    def __post_init__(self) -> None:
        self._require("dead_band", 0.0, 0.5)
        self._require("edge_multiple", 0.0, 100.0)
        self._require("edge_horizon", 1, 10_000)
        self._require("disagreement_limit", 0.0, 1.0)
        self._require("volatility_target", 0.01, 10.0)
        self._require("max_missing", 0, 100_000)
        self._require("decide_every", 1, 10_000)
        self._require("decide_offset", 0, 9_999)

    def is_due(self, close_ms: int, span_ms: int) -> bool:
        """Tell whether a decision falls on the candle that closes then. span_ms: length of a candle."""
        return (close_ms // span_ms - self.decide_offset) % self.decide_every == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits(_Checked):
    """What no decision may exceed. Shares are fractions (0.15 is 15 %); a limit of 0 candles means "by hand".

    max_position: largest exposure of one symbol, as a share of its capital.
    max_drawdown: fall of the account from its peak that flattens everything and halts.
    stop_loss: fixed stop below the average entry.  stop_atr_multiple: adaptive stop, this many average true ranges
    below the highest close since entry (0 switches it off); the nearer of the two holds.
    stop_cooldown: candles without new exposure in a symbol after its stop was hit, from the end of that candle on.
    daily_loss: loss of the account since 00:00 UTC after which exposure may only fall until the next day.
    max_orders_per_day, max_turnover_per_day: orders, and traded notional in multiples of equity, of the account.
    loss_streak, loss_streak_cooldown: after this many losing round trips in a row a symbol takes no new exposure
    for so many candles.
    halt_cooldown: candles after which a halted account resumes by itself, with a new peak; 0 waits for a person.
    out_of_distribution: distance of the features from what training saw (1 is the edge of it) beyond which no new
    exposure is taken.  stale_feed_s: silence of a live feed after which no new exposure is taken.
    clock_skew_s: difference between our clock and the venue's beyond which no new exposure is taken.
    """

    max_position: float = 0.5
    max_drawdown: float = 0.15
    stop_loss: float = 0.05
    stop_atr_multiple: float = 8.0
    stop_cooldown: int = 12
    daily_loss: float = 0.04
    max_orders_per_day: int = 48
    max_turnover_per_day: float = 4.0
    loss_streak: int = 5
    loss_streak_cooldown: int = 24
    halt_cooldown: int = 168
    out_of_distribution: float = 1.5
    stale_feed_s: float = 120.0
    clock_skew_s: float = 5.0

    def __post_init__(self) -> None:
        self._require("max_position", 0.001, 1.0)
        self._require("max_drawdown", 0.001, 0.99)
        self._require("stop_loss", 0.001, 0.99)
        self._require("stop_atr_multiple", 0.0, 100.0)
        self._require("stop_cooldown", 0, 100_000)
        self._require("daily_loss", 0.001, 0.99)
        self._require("max_orders_per_day", 1, 100_000)
        self._require("max_turnover_per_day", 0.01, 10_000.0)
        self._require("loss_streak", 1, 10_000)
        self._require("loss_streak_cooldown", 0, 100_000)
        self._require("halt_cooldown", 0, 1_000_000)
        self._require("out_of_distribution", 0.1, 1e6)
        self._require("stale_feed_s", 1.0, 86_400.0)
        self._require("clock_skew_s", 0.1, 3_600.0)


SHIPPED_STRATEGY = StrategyParameters(decide_every=24, volatility_target=0.25, dead_band=0.05, edge_multiple=0.0)
SHIPPED_LIMITS = RiskLimits(stop_loss=0.2, stop_atr_multiple=40.0, stop_cooldown=72)
"""What the shipped ensemble was trained under, and what the configuration means by a key that is left out.

It decides once a day and its stops are far away, for it follows trends over weeks.
"""
