"""The user-data stream of one ccxt instance: what happens to orders, trades and balances, for as long as it lives.

Silence is normal here, so it proves nothing; a socket that is dead, a reader that stopped and a subscription that the
venue took back are told by looking at them. On any surprise every socket is closed and dialled again: ccxt believes in
subscriptions that were refused, hangs on streams that ended, and stops reading at the first frame it cannot parse.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from daemon.ports import Clock
from daemon.retry import Backoff
from daemon.venue import BalanceChanged, StreamStatus, VenueEvent
from daemon.venue_sockets import drop_sockets

WATCHES = {"watch_orders": "order", "watch_my_trades": "trade", "watch_balance": "balance"}
"""ccxt's calls that are kept waiting, and the word by which what waits in a socket is told to be theirs."""
_CACHES = {"watch_orders": "orders", "watch_my_trades": "myTrades"}
"""Where ccxt keeps what came, however many events one call told of."""

_DIAL_S = 15.0
_DIAL_LOOK_S = 0.1
_LOOK_S = 5.0
_MISSED = 3.5  # keep-alive periods without a single frame after which nobody reads any more


class StreamLost(Exception):
    """The stream is not what it should be; the words say why."""


class UserStream:
    """Keeps the stream up and tells `emit` what comes.

    exchange: a ccxt.pro instance that has no other sockets than these.  watches: which of `WATCHES` it has.
    read: makes events of one raw order (True) or trade (False); none of what is unusable or somebody else's.
    explain: words an error without secrets.
    """

    def __init__(
        self,
        exchange: Any,  # noqa: ANN401  # ccxt has no types worth the name
        *,
        watches: Sequence[str],
        clock: Clock,
        backoff: Backoff,
        read: Callable[[Mapping[str, Any], bool], Iterator[VenueEvent]],
        explain: Callable[[BaseException], str],
        emit: Callable[[VenueEvent], None],
    ) -> None:
        self._exchange = exchange
        self._watches = tuple(watches)
        self._clock = clock
        self._backoff = backoff
        self._read = read
        self._explain = explain
        self._emit = emit
        self._seen: dict[str, dict[tuple[str, str], str]] = {watch: {} for watch in _CACHES}
        self._is_up: bool | None = None

    async def run(self) -> None:
        """Follow the stream until cancelled."""
        try:
            while True:
                try:
                    await self._live()
                except StreamLost as lost:
                    self._tell(is_up=False, detail=str(lost))
                await self._drop()
                await self._clock.sleep_s(self._backoff.next_s())
        finally:
            await self._drop()

    async def _live(self) -> None:
        """Connect and follow until something is odd. Raises StreamLost."""
        followers = [asyncio.ensure_future(self._follow(watch)) for watch in self._watches]
        try:
            await self._until_up(followers)
            self._backoff.reset()
            self._tell(is_up=True, detail="")
            await self._until_odd(followers)
        finally:
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

    async def _follow(self, watch: str) -> None:
        call = getattr(self._exchange, watch)
        while True:
            waiting = asyncio.ensure_future(call())
            try:
                # What came between two calls woke nobody, and ccxt would tell of it with the next event only: once the
                # next call waits, the cache holds it.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                self._drain(watch)
                await waiting
            finally:
                waiting.cancel()
            self._drain(watch)
            if watch == "watch_balance":
                self._emit(BalanceChanged())

    def _drain(self, watch: str) -> None:
        """Tell what a cache holds beyond what was told."""
        if watch not in _CACHES:
            return
        # Copies, because ccxt goes on changing its own.
        rows = [dict(row) for row in getattr(self._exchange, _CACHES[watch], None) or ()]
        seen, now = self._seen[watch], dict[tuple[str, str], str]()
        self._seen[watch] = now
        for row in rows:
            key, version = (str(row.get("symbol")), str(row.get("id"))), _version(row)
            now[key] = version
            if seen.get(key) != version:
                for event in self._read(row, watch == "watch_orders"):
                    self._emit(event)

    async def _until_up(self, followers: Sequence["asyncio.Future[None]"]) -> None:
        give_up_s = self._clock.monotonic_s() + _DIAL_S
        while not self._is_settled():
            await self._pause(followers, _DIAL_LOOK_S)
            if self._clock.monotonic_s() > give_up_s:
                raise StreamLost(f"not subscribed within {_DIAL_S:.0f} s")

    async def _until_odd(self, followers: Sequence["asyncio.Future[None]"]) -> None:
        subscribed = self._subscriptions()
        while True:
            await self._pause(followers, _LOOK_S)
            if gone := subscribed - self._subscriptions():
                raise StreamLost(f"the venue ended the subscription {', '.join(sorted(gone))}")
            for client in self._clients():
                if not client.isConnected or client.closed():
                    raise StreamLost("the connection was closed")
                if self._is_deaf(client):
                    raise StreamLost("nothing is read from the connection any more")

    async def _pause(self, followers: Sequence["asyncio.Future[None]"], seconds: float) -> None:
        """Wait, but not beyond the end of a follower. Raises StreamLost then."""
        timer = asyncio.ensure_future(self._clock.sleep_s(seconds))
        try:
            await asyncio.wait([timer, *followers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        for follower in followers:
            if follower.done():
                # Closing a client cancels whoever waits on it.
                error = None if follower.cancelled() else follower.exception()
                raise StreamLost("the connection was closed" if error is None else self._explain(error)) from None

    def _is_settled(self) -> bool:
        """Tell whether every call waits for news, and nothing else is waited for: a login, a subscription."""
        clients = self._clients()
        waiting = [
            str(name).lower() for client in clients for name, future in client.futures.items() if not future.done()
        ]
        words = [WATCHES[watch] for watch in self._watches]
        return (
            bool(clients)
            and all(client.isConnected and not client.closed() for client in clients)
            and all(any(word in name for name in waiting) for word in words)
            and all(any(word in name for word in words) for name in waiting)
        )

    def _is_deaf(self, client: Any) -> bool:  # noqa: ANN401  # ccxt has no types worth the name
        heard_ms = client.last_message_at or client.connectionEstablished
        # By ccxt's own time, as those two are, whatever time the instance signs with.
        return bool(client.keepAlive) and type(self._exchange).milliseconds() - heard_ms > _MISSED * client.keepAlive

    def _clients(self) -> list[Any]:
        clients = (self._exchange.clients or {}).values()
        # Where a login has an address of its own (kraken), ccxt keeps it in a client that is never dialled.
        return [client for client in clients if client.connection is not None or client.connecting]

    def _subscriptions(self) -> set[str]:
        return {str(name) for client in self._clients() for name in client.subscriptions}

    def _tell(self, *, is_up: bool, detail: str) -> None:
        if self._is_up is not is_up:
            self._is_up = is_up
            self._emit(StreamStatus(is_up=is_up, detail=detail))

    async def _drop(self) -> None:
        """Close every socket that does not still dial."""
        await drop_sockets(self._exchange, lambda _client: True)


def _version(row: Mapping[str, Any]) -> str:
    return repr([row.get(key) for key in ("status", "filled", "amount", "price", "lastUpdateTimestamp")])
