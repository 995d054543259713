"""The seams of the daemon as Protocols, and the values that cross them.

Adapters (feeds, brokers, the journal, sinks) implement these; `engine.py` knows nothing else of the world.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from strategy.candle import Candle
from strategy.instrument import Instrument
from strategy.order import Order, OrderReport


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
class Broker(Protocol):
    """Where orders go. The paper broker answers from market events; a live broker from the venue."""

    async def submit(self, order: Order) -> Sequence[OrderReport]:
        """Send an order that is already journalled; returns what is known at once. Raises UnknownOutcome."""
        ...

    async def cancel(self, order: Order, reason: str) -> Sequence[OrderReport]:
        """End an order that has not filled; returns what is known at once. reason: in words. Raises UnknownOutcome."""
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

    async def close(self) -> None:
        """Release connections; idempotent."""
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


# ---- those who only watch ---------------------------------------------------------------------------------------
class Sink(Protocol):
    """Someone who watches: terminal, log, metrics, MQTT. May fail or lag without delaying a decision."""

    def publish(self, event: Any) -> None:  # noqa: ANN401 - `daemon.events.Event`, which itself needs this module
        """Take a `daemon.events.Event`; must return at once and must not raise."""
        ...
