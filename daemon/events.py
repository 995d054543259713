"""What the engine tells those who watch. Sinks receive these in order; none of them can delay or change a decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from daemon.model_life import Life
from daemon.ports import DriftMarked, External, FeedStatus, Gap, LateCandle, NewSteps, OrderPath, StopLost
from strategy.candle import Candle
from strategy.order import Fill, Order, OrderReport, OrderState, OrderStatus
from strategy.portfolio import Portfolio
from strategy.risk import RiskState
from strategy.trader import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The daemon is ready: state is recovered; candles follow.

    history: candles already in the journal.  decisions: taken so far.  resumed: False for a new account.
    cash: quote the account started with.  warm_up: candles still missing before the first decision (0 when warm).
    orders: that had not ended, protective stops at a venue among them.
    exchange: whose candles these are, "" for one of our own making.  money: as `run_record.money_of`, "" on paper.
    life: of the ensembles, as it was recovered.  seen_until_ms: end of the candles that the one that serves was made
    from, 0 where nobody knows.
    """

    instance: str
    mode: str
    source: str
    symbols: Sequence[str]
    timeframe: str
    quote: str
    model_id: str
    members: int
    cash: float
    resumed: bool
    decisions: int
    portfolio: Portfolio
    risk: RiskState
    warm_up: int
    at_ms: int
    orders: Sequence[OrderStatus] = ()
    exchange: str = ""
    money: str = ""
    life: Life = field(default_factory=Life)
    seen_until_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleTaken:
    """A final candle went into the window. at_ms: our clock when it arrived."""

    candle: Candle
    is_backfill: bool
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """One symbol was decided on, and the decision is on disk.

    outcome: candle, votes (n_members, 3) or None while warming up, verdict, stop.  latency_s: from candle to durable
    decision, of the whole group of symbols.  seq: of the decision in the journal.
    """

    outcome: Outcome
    model_id: str
    latency_s: float
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderMoved:
    """An order changed its state. order: as it was intended, which tells its kind and when it was decided."""

    report: OrderReport
    state: OrderState
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A fill was applied to the account."""

    fill: Fill


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountMarked:
    """The account after a group of candles, valued at their closes.

    hold_equity: what buying every symbol equally with all cash at the first decision, and holding, would be worth now,
    costs included; None before the first decision.
    """

    portfolio: Portfolio
    risk: RiskState
    hold_equity: float | None
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalWritten:
    """A transaction is on disk after this many seconds."""

    seconds: float
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandTaken:
    """An operator asked for something and it was done. verb: pause, resume or flatten."""

    verb: str
    source: str
    effect: str


class ReloadOutcome(StrEnum):
    """What became of a configuration that was read while the daemon ran."""

    TAKEN = "taken"
    UNCHANGED = "unchanged"
    NEEDS_RESTART = "needs_restart"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A key of the configuration with another value. key: such as risk.max_drawdown.  old, new: JSON types."""

    key: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReloaded:
    """The configuration was read anew. source: what asked for it, `signal` or `socket`.  file: that was read.

    changes: what it says otherwise, of what may change while the daemon runs; in force only when it was taken.
    restart: keys that it says otherwise and that may not.  mistakes: in words, why it is invalid.  digest: of the
    configuration in force.
    """

    outcome: ReloadOutcome
    source: str
    file: str
    changes: tuple[Change, ...] = ()
    restart: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()
    digest: str
    at_ms: int

    @property
    def is_in_force(self) -> bool:
        """True when the daemon goes by what the file says."""
        return self.outcome in {ReloadOutcome.TAKEN, ReloadOutcome.UNCHANGED}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStep:
    """A step in the life of the ensembles is on disk. payload: of the `model` record; life: after it.

    members: of the ensemble that serves, in a step "serving"; else 0.  seen_until_ms: end of the candles that it was
    made from, in a step "serving"; else 0.
    """

    payload: Mapping[str, Any]
    life: Life
    members: int = 0
    seen_until_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowMarked:
    """Two ensembles were compared on a decision. payload: of the `shadow` record."""

    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protected:
    """At a venue: what is held of `symbol` is to be protected by `stop`, and by no other; None when nothing is held."""

    symbol: str
    stop: Order | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitForced:
    """Something is sold without waiting for a candle, and that is on disk. order.reason says why."""

    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The last event: why it ended, and what the account is worth. decisions, orders, fills: of this run."""

    reason: str
    portfolio: Portfolio
    risk: RiskState
    cash: float
    decisions: int
    orders: int
    fills: int
    hold_equity: float | None
    quote: str
    at_ms: int


Event = (
    Started
    | CandleTaken
    | Decided
    | OrderMoved
    | Filled
    | AccountMarked
    | JournalWritten
    | CommandTaken
    | ConfigReloaded
    | FeedStatus
    | Gap
    | LateCandle
    | ModelStep
    | ShadowMarked
    | DriftMarked
    | Protected
    | ExitForced
    | OrderPath
    | External
    | NewSteps
    | StopLost
    | Stopped
)
