"""One budget of requests per process and venue, in ccxt's own cost units, with a reserve that only exits may use.

Replaces `throttle` on every ccxt instance of the process, so that feed and orders draw on the same bucket, and an order
that closes a position never waits behind a read. ccxt prices a request so that one unit may be spent every
`rateLimit` milliseconds. Decides nothing but when a request may leave.
"""

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from daemon.ports import Clock
from daemon.rate_file import Found, Level, RateFile
from daemon.venue import NotSent

_log = structlog.get_logger()
_SHORT_WINDOW_S = 2.0  # OKX counts by two seconds
_AT_ONCE = 0.25
_LARGEST_RESERVE = 0.5  # twice the reserve is closed to public reads
_LONGEST_QUIET_S = 3 * 86_400.0  # the longest ban Binance documents (418); anything later was written by a wrong clock
_LEAST_QUIET_S = 1.0
_NOTHING = 1e-9  # units; what adding and taking leaves behind
_LOCK_RETRY_S = 0.01
_LOCK_PATIENCE_S = 1.0


class Purpose(IntEnum):
    """What a request is for; the higher goes first."""

    PUBLIC = 0
    QUERY = 1
    """Reads of the account."""
    ENTRY = 2
    EXIT = 3
    """Whatever lowers risk: sales, protective stops, cancels."""


_purpose: ContextVar[Purpose] = ContextVar("rate_purpose", default=Purpose.PUBLIC)


@contextmanager
def spending(purpose: Purpose) -> Iterator[None]:
    """Mark the requests made inside, and in tasks begun inside, as being at least for `purpose`; PUBLIC outside.

    What a more urgent purpose needs to know, a price or a balance, is as urgent as that.
    """
    token = _purpose.set(max(purpose, _purpose.get()))
    try:
        yield
    finally:
        _purpose.reset(token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """How a bucket behaves: `burst` units at most, `rate` units more per second."""

    burst: float
    rate: float

    def after(self, tokens: float, elapsed_s: float) -> float:
        """Return what a bucket of `tokens` holds `elapsed_s` later."""
        return min(self.burst, tokens + self.rate * max(0.0, elapsed_s))

    def shared(self, share: float) -> "Law":
        """Return the law of somebody who may use only a share of it."""
        return Law(burst=self.burst * share, rate=self.rate * share)

    def floor(self, purpose: Purpose, reserve: float) -> float:
        """Return what a request for `purpose` must leave: all of it to exits, half as much again to entries."""
        shares = {Purpose.EXIT: 0.0, Purpose.ENTRY: 1.0, Purpose.QUERY: 1.5, Purpose.PUBLIC: 2.0}
        return shares[purpose] * reserve * self.burst

    def missing(self, tokens: float, cost: float, floor: float) -> float:
        """Return how many units are missing before a request may go, 0 when it may.

        One that costs more than may ever be taken goes when the bucket is full, and leaves it in debt.
        """
        missing = min(cost + floor, self.burst) - tokens
        return missing if missing > _NOTHING else 0.0


_BUCKETS = {"kraken": Law(burst=45.0, rate=1.0)}
"""Venues that count with a bucket of their own, in seconds' worth: (burst, share of ccxt's rate).

Kraken: a counter of 15 in the lowest tier that falls by 0.33 a second; ccxt prices one count at 3 units, one unit a
second. https://docs.kraken.com/api/docs/guides/spot-rest-ratelimits (2025).
"""


def law_of(exchange_id: str, rate_limit_ms: float, capacity_s: float, window_ms: float) -> Law:
    """Return the law by which requests to a venue are let through.

    capacity_s: seconds' worth of requests that may leave at once.  window_ms: the span by which the venue counts, as
    ccxt knows it; 0 where it counts by the moment.  At most a quarter of a window leaves at once, and the refill is
    lowered by as much, so that no window, wherever it begins, sees more than the venue allows in one.
    """
    rate = 1_000.0 / rate_limit_ms
    if (own := _BUCKETS.get(exchange_id)) is not None:
        return Law(burst=own.burst * rate, rate=own.rate * rate)
    window_s = window_ms / 1e3 or _SHORT_WINDOW_S
    burst_s = min(capacity_s, window_s * _AT_ONCE)
    return Law(burst=burst_s * rate, rate=rate * (1.0 - burst_s / window_s))


class RateBudget:
    """The requests that this process may still make, per venue.

    share: of the venue's limit that is ours, 0 < share <= 1: daemons on other machines take the rest.
    reserve: share of a bucket that only exits may use, 0 <= reserve < 0.5.  capacity_s: see `law_of`, > 0.
    max_wait_s: who would wait longer gets NotSent.  shared: a file that several daemons behind one address share.
    Raises ValueError for other numbers.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        share: float = 1.0,
        reserve: float = 0.2,
        capacity_s: float = 10.0,
        max_wait_s: float = 20.0,
        shared: Path | None = None,
    ) -> None:
        if not (
            0.0 <= reserve < _LARGEST_RESERVE
            and 0.0 < capacity_s < math.inf
            and 0.0 < max_wait_s < math.inf
            and 0.0 < share <= 1.0
        ):
            raise ValueError(
                f"a rate budget needs 0 <= reserve < {_LARGEST_RESERVE}, a capacity and "
                f"a wait above 0 and 0 < share <= 1, got {reserve}, {capacity_s} s, {max_wait_s} s, {share}"
            )
        self._clock = clock
        self._share = share
        self._reserve = reserve
        self._capacity_s = capacity_s
        self._max_wait_s = max_wait_s
        self._file = None if shared is None else RateFile(shared, clock)
        self._buckets: dict[str, _Bucket] = {}

    def attach(self, exchange: Any) -> None:  # noqa: ANN401  # ccxt has no types worth the name
        """Make a ccxt instance ask this budget before each REST request, whatever it asked before."""
        exchange.enableRateLimit = True
        name = str(exchange.id)
        if name not in self._buckets:
            law = law_of(name, float(exchange.rateLimit), self._capacity_s, float(exchange.rollingWindowSize))
            law = law.shared(self._share)
            self._buckets[name] = _Bucket(
                name, law, reserve=self._reserve, clock=self._clock, file=self._file, max_wait_s=self._max_wait_s
            )
        exchange.throttle = partial(self._throttle, self._buckets[name])

    async def _throttle(self, bucket: "_Bucket", cost: float | None = None) -> None:
        await bucket.take(1.0 if cost is None else float(cost), _purpose.get())

    @contextmanager
    def purpose(self, purpose: Purpose) -> Iterator[None]:
        """Do as `spending`."""
        with spending(purpose):
            yield

    def quiet(self, seconds: float) -> None:
        """Let nothing leave for `seconds` (at least 1), after a 429 or 418: what the venue put into Retry-After.

        Nothing at all, exits included: Binance counts requests made in spite of a 429 towards a ban of the address, and
        lengthens a ban for each made during it. Afterwards only the reserve is left.
        """
        for bucket in self._buckets.values():
            bucket.quiet(min(_LONGEST_QUIET_S, max(_LEAST_QUIET_S, seconds)))

    def available(self, exchange_id: str) -> float:
        """Return how much of a venue's bucket is left, as a share; below 0 when in debt. Raises KeyError."""
        return self._buckets[exchange_id].share()


@dataclass(slots=True, kw_only=True)
class _Ticket:
    """One request that waits. served: its leave, or NotSent."""

    purpose: Purpose
    cost: float
    deadline_s: float
    served: asyncio.Future[None]


class _Bucket:
    """The bucket of one venue and the queue in front of it."""

    def __init__(
        self, name: str, law: Law, *, reserve: float, clock: Clock, file: RateFile | None, max_wait_s: float
    ) -> None:
        self._name = name
        self._law = law
        self._reserve = reserve
        self._clock = clock
        self._file = file
        self._max_wait_s = max_wait_s
        self._tokens = law.burst
        self._at_s = clock.monotonic_s()
        self._quiet_until_s = -math.inf
        self._queue: list[tuple[int, int, _Ticket]] = []
        self._numbers = itertools.count()
        self._pump: asyncio.Task[None] | None = None
        self._teller: asyncio.Task[None] | None = None
        self._busy_since_s: float | None = None
        self._is_file_lost = False

    async def take(self, cost: float, purpose: Purpose) -> None:
        """Return once a request of `cost` may leave. Raises NotSent."""
        now_s = self._clock.monotonic_s()
        if (wait_s := self._quiet_until_s - now_s) > self._max_wait_s:
            raise NotSent(f"{self._name} asked not to be asked for another {wait_s:.0f} s")
        served = asyncio.get_running_loop().create_future()
        ticket = _Ticket(purpose=purpose, cost=cost, deadline_s=now_s + self._max_wait_s, served=served)
        heapq.heappush(self._queue, (-purpose, next(self._numbers), ticket))
        self._restart()
        try:
            await served
        except asyncio.CancelledError:
            self._restart()  # it may have stood in somebody's way
            raise

    def quiet(self, seconds: float) -> None:
        """Serve nobody for `seconds`; then only the reserve is left."""
        self._refill()
        self._quiet_until_s = max(self._quiet_until_s, self._clock.monotonic_s() + seconds)
        self._tokens = min(self._tokens, self._reserve * self._law.burst)
        self._restart()
        if self._file is not None:
            self._teller = asyncio.get_running_loop().create_task(self._tell_others(), name=f"quiet-{self._name}")

    def share(self) -> float:
        """Return what is left, as a share of the whole."""
        self._refill()
        return self._tokens / self._law.burst

    def _refill(self) -> None:
        now_s = self._clock.monotonic_s()
        self._tokens = self._law.after(self._tokens, now_s - self._at_s)
        self._at_s = now_s

    # ---- the queue: by purpose, then first come ---------------------------------------------------------------------
    def _restart(self) -> None:
        """Serve who can be served now, and let somebody watch over the rest."""
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        wait_s = self._serve()
        if self._queue:
            self._pump = asyncio.get_running_loop().create_task(self._watch(wait_s), name=f"rate-{self._name}")

    async def _watch(self, wait_s: float) -> None:
        while self._queue:
            await self._clock.sleep_s(wait_s)
            wait_s = self._serve()

    def _serve(self) -> float:
        """Serve the head of the queue as long as it can be; return how long to wait for the next change, in seconds."""
        self._refuse_late()
        while self._queue:
            ticket = self._queue[0][2]
            if not ticket.served.done() and (wait_s := self._try(ticket)) > 0.0:
                first_s = min(entry.deadline_s for _, _, entry in self._queue)
                return max(1e-3, min(wait_s, first_s - self._clock.monotonic_s()))
            heapq.heappop(self._queue)
            if not ticket.served.done():
                ticket.served.set_result(None)
        return 0.0

    def _refuse_late(self) -> None:
        now_s = self._clock.monotonic_s()
        for _, _, ticket in self._queue:
            if now_s >= ticket.deadline_s and not ticket.served.done():
                ticket.served.set_exception(
                    NotSent(f"no room in the rate budget of {self._name} within {self._max_wait_s:g} s: nothing sent")
                )
        self._queue = [entry for entry in self._queue if not entry[2].served.done()]
        heapq.heapify(self._queue)

    # ---- the bucket -------------------------------------------------------------------------------------------------
    def _try(self, ticket: _Ticket) -> float:
        """Take what `ticket` costs and return 0, or return how long it must wait at least, in seconds."""
        self._refill()
        if (wait_s := self._quiet_until_s - self._clock.monotonic_s()) > 0.0:
            return wait_s
        floor = self._law.floor(ticket.purpose, self._reserve) if ticket.cost > 0.0 else -math.inf
        if (missing := self._law.missing(self._tokens, ticket.cost, floor)) > 0.0:
            return missing / self._law.rate
        if (wait_s := self._try_file(ticket.cost, floor)) > 0.0:
            return wait_s
        self._tokens -= ticket.cost
        return 0.0

    # ---- what several daemons share ---------------------------------------------------------------------------------
    def _try_file(self, cost: float, floor: float) -> float:
        """As `_try`, of the shared file; 0 where there is none, or none that can be used."""
        wait_s = 0.0

        def change(found: Found) -> Level:
            nonlocal wait_s
            level = self._refilled(found)
            quiet_s = (level.quiet_until_ms - self._clock.now_ms()) / 1e3
            missing = self._law.missing(level.tokens, cost, floor)
            wait_s = max(missing / self._law.rate, quiet_s if quiet_s <= _LONGEST_QUIET_S else 0.0)
            return level if wait_s > 0.0 else replace(level, tokens=level.tokens - cost)

        if self._written(change):
            return wait_s
        if self._busy_since_s is None:
            return 0.0
        # Whoever holds the lock this long is stopped; an exit cannot wait for it to be continued.
        return _LOCK_RETRY_S if self._clock.monotonic_s() - self._busy_since_s < _LOCK_PATIENCE_S else 0.0

    def _written(self, change: Callable[[Found], Level]) -> bool:
        """Change the shared file; False where there is none, another process holds it, or it cannot be used."""
        if self._file is None:
            return False
        try:
            self._file.update(self._name, change)
        except BlockingIOError:
            if self._busy_since_s is None:
                self._busy_since_s = self._clock.monotonic_s()
            return False
        except OSError as error:
            self._busy_since_s = None
            if not self._is_file_lost:
                _log.warning("shared_rate_budget_unusable", reason=str(error), effect="this process counts alone")
            self._is_file_lost = True
            return False
        self._busy_since_s, self._is_file_lost = None, False
        return True

    async def _tell_others(self) -> None:
        """Write into the shared file until when nobody may ask, as soon as it can be had."""
        while (rest_s := self._quiet_until_s - self._clock.monotonic_s()) > 0.0:
            if self._written(partial(self._hushed, seconds=rest_s)) or self._busy_since_s is None:
                return
            await self._clock.sleep_s(_LOCK_RETRY_S)

    def _refilled(self, found: Found) -> Level:
        if found.level is None:
            # A new file begins full; one that cannot be trusted with what only exits may use.
            tokens, quiet_until_ms = self._law.burst * (self._reserve if found.is_broken else 1.0), 0
        else:
            tokens, quiet_until_ms = self._law.after(found.level.tokens, found.elapsed_s), found.level.quiet_until_ms
        return Level(tokens=tokens, at_ms=found.now_ms, quiet_until_ms=quiet_until_ms)

    def _hushed(self, found: Found, seconds: float) -> Level:
        level = self._refilled(found)
        until_ms = self._clock.now_ms() + math.ceil(seconds * 1e3)
        left = min(level.tokens, self._reserve * self._law.burst)
        return replace(level, tokens=left, quiet_until_ms=max(level.quiet_until_ms, until_ms))
