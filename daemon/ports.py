"""The seams of the daemon as Protocols, and the values that cross them.

Adapters (feeds, brokers, the journal, sinks) implement these; `engine.py` knows nothing else of the world.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from strategy.candle import Candle
from strategy.instrument import Instrument
from strategy.order import Order, OrderReport, OrderStatus

if TYPE_CHECKING:
    from daemon.model_life import Life
    from strategy.trader import Outcome, Setup


# ---- what a feed says -------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class CandleGroup:
    """Final candles of one open time, in the configured order of symbols; at most one per symbol.

    is_backfill: they lie in the past (warm-up, or a gap closed by REST): they fill the window and are marked,
    but nothing is decided on them.
    """

    candles: tuple[Candle, ...]
    is_backfill: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketTrade:
    """A trade at the venue, seen live. price: quote per base; quantity: base; at_ms: the venue's time."""

    symbol: str
    price: float
    quantity: float
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The venue really has no candles here: `missing` of them, the first one opening at `first_ms`."""

    symbol: str
    first_ms: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LateCandle:
    """A copy of an already final candle that differs from it; changes nothing, is journalled and counted."""

    candle: Candle
    known: Candle


class FeedHealth(StrEnum):
    """What the feed knows about itself."""

    LIVE = "live"
    STALE = "stale"
    """No news for too long: no new exposure until candles flow again."""
    RECONNECTING = "reconnecting"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStatus:
    """A change in the health of the feed. detail: in words, for log and terminal; never a secret."""

    health: FeedHealth
    detail: str = ""


FeedEvent = CandleGroup | MarketTrade | Gap | LateCandle | FeedStatus


class Feed(Protocol):
    """Where candles come from."""

    is_live: bool
    """True when candles arrive as the market makes them, so that paper orders fill at the next trade, and a
    decision on an old candle would be stale; False for recorded and simulated candles."""

    async def instruments(self) -> Mapping[str, Instrument]:
        """Return the venue's steps per symbol; called once, before `events`. Raises SacdError."""
        ...

    def events(self, resume: Mapping[str, Candle]) -> AsyncIterator[FeedEvent]:
        """Yield what happens after the last final candle known of each symbol (`resume`, may be empty).

        Called once, after `instruments`. Per symbol candles are final, in order, without repeat. Ends when the source
        ends (files only). Recorded and made-up sources refuse a `resume` that is not theirs already when called, with
        DataError. Raises TransientError when the source is lost for good, DataError when it is broken.
        """
        ...

    def slowest(self) -> tuple[str, float] | None:
        """Return which of its parts turned longest ago, and for how many seconds it has not.

        To ask a silent venue once more is to turn. None where candles alone tell whether it does.
        """
        ...

    async def close(self) -> None:
        """Release connections; idempotent."""
        ...


# ---- time -------------------------------------------------------------------------------------------------------
class Clock(Protocol):
    """The only source of time."""

    def now_ms(self) -> int:
        """Return the wall clock in milliseconds UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never step back."""
        ...

    async def sleep_s(self, seconds: float) -> None:
        """Wait at least `seconds`."""
        ...


# ---- the venue, as orders see it --------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPath:
    """Whether orders can be sent and followed at the venue. detail: in words, never a secret.

    needs_person: nothing but a person can help (the key is refused): trading pauses until `resume`.
    """

    is_open: bool
    detail: str = ""
    needs_person: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """The account changed, and not by us: a manual trade, a transfer, or the account as it was found at the opening.

    external_id: the same change always has the same one.  asset: the coin.  symbol: the traded symbol whose base it
    is, "" for the quote.  ours: change of what we trade with (venue wins: we never hold what the venue does not have).
    foreign: change of what belongs to somebody else.  price: quote per base for valuing it, 1.0 for the quote.
    halts: the symbol (every symbol, for the quote) takes no new exposure until a person resumes.
    """

    external_id: str
    asset: str
    symbol: str
    ours: float
    foreign: float
    price: float
    halts: bool
    at_ms: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSteps:
    """The venue changed its steps, or closed or reopened markets. closed: symbols that take no orders now."""

    instruments: Mapping[str, Instrument]
    closed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class StopLost:
    """The venue ended the protective stop of `symbol`, or refused it, while something is held: a new one is needed.

    is_last: it failed too often in a row: sell the position instead.
    """

    symbol: str
    detail: str
    is_last: bool = False


BrokerNews = OrderReport | OrderPath | External | NewSteps | StopLost
"""What a live broker tells unasked."""


class Books(Protocol):
    """What the account's own books say, for a live broker; always as of the last news that was applied."""

    def cash(self) -> float:
        """Return our cash in quote."""
        ...

    def held(self, symbol: str) -> float:
        """Return what we hold of a symbol, in base."""
        ...

    def mark(self, symbol: str) -> float:
        """Return the last price we valued it at, 0 when there was none."""
        ...

    def foreign(self, asset: str) -> float | None:
        """Return what belongs to somebody else in that coin; None before the account was opened at the venue."""
        ...

    def orders(self) -> Sequence[OrderStatus]:
        """Return every order that has not ended, stops included, oldest first."""
        ...

    def known(self, client_id: str) -> OrderStatus | None:
        """Return an order that has not ended, or ended lately; None for one the books never saw or forgot."""
        ...

    def fill_ids(self, client_id: str) -> frozenset[str]:
        """Return the fills of an order that are in the books."""
        ...

    def stop(self, symbol: str) -> Order | None:
        """Return the protective stop that what is held needs, None when nothing is held."""
        ...


class Broker(Protocol):
    """Where orders go. The paper broker answers from market events; a live broker from the venue."""

    is_live: bool
    """True when orders reach a venue: their reports come as `news`, stops are orders of their own, and nothing may
    leave before `release`."""

    async def submit(self, order: Order) -> Sequence[OrderReport]:
        """Take an order that is already journalled; returns what is known at once. Never waits for a venue."""
        ...

    async def cancel(self, order: Order, reason: str) -> Sequence[OrderReport]:
        """End an order that has not filled; returns what is known at once, without waiting. reason: in words."""
        ...

    def on_market(self, event: CandleGroup | MarketTrade) -> Iterator[OrderReport]:
        """Yield what this market event does to our resting orders, in a fixed order.

        The caller applies each report, stops included, before it asks for the next: a position that is bought at a
        candle's open is protected during that same candle.
        """
        ...

    def protect(self, symbol: str, stop: Order | None) -> None:
        """Replace the protective stop of `symbol`; None removes it."""
        ...

    def begin(self, setup: "Setup") -> None:
        """Continue under other parameters; what is in flight or protected stays so."""
        ...

    def release(self) -> None:
        """Hear that everything submitted, cancelled or protected so far stands in the journal: it may leave now."""
        ...

    async def close(self) -> None:
        """Release connections; idempotent."""
        ...


class LiveBroker(Broker, Protocol):
    """A broker whose reports come unasked."""

    async def start(self) -> None:
        """Connect, settle every order the books hold open, reconcile, protect what is held; return when that is done.

        What it finds is told as news, which must be applied meanwhile. Raises ConfigError, FatalError, TransientError.
        """
        ...

    def news(self) -> AsyncIterator[Sequence[BrokerNews]]:
        """Yield what happened, in order; the next group is asked for once the last one is on disk and released."""
        ...

    async def run(self) -> None:
        """Watch orders, stops and balances until cancelled."""
        ...

    async def drain(self) -> None:
        """Send nothing new, and settle what is in flight for a while; protective stops stay."""
        ...


# ---- the journal ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Something to be journalled. kind: one of `daemon.journal.KINDS`; payload: JSON types only, floats finite."""

    kind: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record as it stands in the journal. seq: 1, 2, 3 ... without holes; at_ms: wall clock when written."""

    seq: int
    at_ms: int
    kind: str
    payload: Mapping[str, Any]


class Journal(Protocol):
    """The append-only memory of the daemon: what is not in it did not happen."""

    async def append(self, records: Sequence[Record]) -> int:
        """Write all records in one transaction and return the last seq once they are on disk.

        Raises FatalError when they cannot be written; then none of them is.
        """
        ...

    async def close(self) -> None:
        """Write what is queued and release the file; idempotent."""
        ...


# ---- what accompanies the account ---------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class DriftMarked:
    """How far the market lies from the training candles: jointly, and per feature in the order of their schema.

    is_beyond: whether the configured limit forbids new exposure.
    """

    joint: float
    features: Sequence[float]
    is_beyond: bool


class Companion(Protocol):
    """Sees what the trader saw, after its orders have left: accounts in shadow, drift, the life of the ensembles.

    The same calls in the same order give the same state, while trading as in recovery. Does no I/O of its own. What is
    to be journalled waits here until `take`, or until recovery finds it in the journal.
    """

    @property
    def life(self) -> "Life":
        """Where the ensembles of the account stand."""
        ...

    @property
    def drift(self) -> "DriftMarked | None":
        """How far the market lies from the training candles; None while that is not known."""
        ...

    def on_candles(self, group: CandleGroup, outcomes: "Sequence[Outcome]") -> None:
        """Take candles that were decided on."""
        ...

    def on_warm(self, group: CandleGroup) -> None:
        """Take candles that lie in the past."""
        ...

    def begin(self, setup: "Setup") -> None:
        """Continue under other parameters or steps."""
        ...

    def take(self) -> Sequence[Record]:
        """Return what is to be journalled, and let go of it."""
        ...

    def apply(self, record: Record) -> None:
        """Take a record of kind model, shadow or drift that is on disk, or will be before the next decision.

        Raises StrategyError for one that cannot be read.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Return all that changes, as JSON types, for a checkpoint."""
        ...

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Continue from a `state`. Raises StrategyError when it was stored by something else."""
        ...


# ---- those who only watch ---------------------------------------------------------------------------------------
class Sink(Protocol):
    """Someone who watches: terminal, log, metrics, MQTT. May fail or lag without delaying a decision."""

    def publish(self, event: Any) -> None:  # noqa: ANN401 - `daemon.events.Event`, which itself needs this module
        """Take a `daemon.events.Event`; must return at once and must not raise."""
        ...
