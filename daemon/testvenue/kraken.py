"""The Kraken dialect: its paths, its envelope, its dead-man switch. What is said stands in the other `kraken_*` files.

Kraken answers everything with status 200 and `{"error": [...], "result": ...}`.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from daemon.testvenue.accounts import Account, FeeMode
from daemon.testvenue.habits import Habits
from daemon.testvenue.kraken_keys import KeyRing, cost_of
from daemon.testvenue.kraken_public import PublicApi
from daemon.testvenue.kraken_rest import PrivateApi, cancel_all
from daemon.testvenue.kraken_stream import PublicStream
from daemon.testvenue.kraken_user import UserStream
from daemon.testvenue.kraken_words import KrakenError
from daemon.testvenue.sockets import Outlet

if TYPE_CHECKING:
    from daemon.testvenue.server import TestVenue

_PUBLIC, _PRIVATE = "/0/public/", "/0/private/"
_STREAM, _USER = "/kraken/v2", "/kraken-auth/v2"

HABITS = Habits(
    stops_bind=False,
    refuses_passed_stops=False,
    refuses_taking_posts=False,
    fee_mode=FeeMode.QUOTE,
    secrets_are_base64=True,
    candle_rows=720,
)
"""https://support.kraken.com: a stop entered beyond its price executes immediately, a post-only order that would take
is cancelled; stop and take-profit orders may be placed for the same coins, so that neither holds them back. Fees are
in quote unless an order asks otherwise (https://docs.kraken.com/api/docs/rest-api/add-order, oflags). OHLC gives the
newest 720 candles whatever is asked, the last one always forming."""


class KrakenDialect:
    """`daemon.testvenue.dialect.Dialect` as Kraken speaks. Accounts need secrets in base64."""

    name = "kraken"

    def __init__(self, venue: "TestVenue") -> None:
        self._venue = venue
        self._keys = KeyRing(venue.book, monotonic_s=venue.clock.monotonic_s)
        self._public = PublicApi(venue.book, is_down=lambda: venue.is_down)
        self._private = PrivateApi(venue.book, self._keys, arm=self._arm)
        self._stream = PublicStream(venue.book)
        self._user = UserStream(venue.book, self._keys)
        self._dead_men: dict[str, asyncio.Task[None]] = {}

    def routes(self, app: web.Application) -> None:
        """Add its routes."""
        app.router.add_get(_PUBLIC + "{method}", self._on_public)
        app.router.add_post(_PRIVATE + "{method}", self._on_private)
        app.router.add_get(_STREAM, self._on_stream)
        app.router.add_get(_USER, self._on_user)
        app.on_cleanup.append(self._stop)

    def owns(self, path: str) -> bool:
        """Return whether a request's path is one of its own."""
        return path.startswith((_PUBLIC, _PRIVATE)) or path in {_STREAM, _USER}

    def weight(self, request: web.Request) -> float:
        """Return what a call adds to the counter; public calls are not counted."""
        return cost_of(request.path.removeprefix(_PRIVATE)) if request.path.startswith(_PRIVATE) else 0.0

    def reject(self, code: str, message: str, status: int) -> web.Response:
        """Return a refusal: `code` and `message` together are the error; Kraken knows no other status than 200."""
        del status
        return _refused(f"{code}:{message}" if message else code)

    def shut(self) -> None:
        """Close every websocket."""
        for outlet in (*self._stream.outlets(), *self._user.outlets()):
            outlet.shut()

    def ccxt_options(self, address: str, account: Account | None) -> dict[str, Any]:
        """Return what ccxt's constructor needs to come here."""
        rest, sockets = f"http://{address}", f"ws://{address}"
        # ccxt never dials the first version of the API, but it keeps its login under that address.
        first, first_user = sockets + _STREAM.removesuffix("/v2"), sockets + _USER.removesuffix("/v2")
        streams = {"public": first, "private": first_user, "beta": first, "beta-private": first_user}
        streams |= {"publicV2": sockets + _STREAM, "privateV2": sockets + _USER}
        options: dict[str, Any] = {
            "urls": {"api": {"public": rest, "private": rest, "zendesk": rest, "ws": streams}},
        }
        return options if account is None else {**options, "apiKey": account.key, "secret": account.secret}

    # ---- REST -------------------------------------------------------------------------------------------------------
    async def _on_public(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        if self._venue.is_down and method not in {"SystemStatus", "Time"}:
            return _refused("EService:Unavailable")
        try:
            return _answered(self._public.answer(method, request.query))
        except KrakenError as error:
            return _refused(str(error))

    async def _on_private(self, request: web.Request) -> web.Response:
        if self._venue.is_down:
            return _refused("EService:Unavailable")
        try:
            account, params = self._keys.check(request.headers, request.path, await request.text())
            return _answered(self._private.answer(request.match_info["method"], account, params))
        except KrakenError as error:
            return _refused(str(error))

    # ---- websockets -------------------------------------------------------------------------------------------------
    async def _on_stream(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "stream", self._stream)

    async def _on_user(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "user", self._user)

    async def _serve(self, request: web.Request, kind: str, hub: PublicStream | UserStream) -> web.StreamResponse:
        if self._venue.is_down:
            return web.Response(status=503)
        outlet = Outlet(request, kind=kind, faults=self._venue.faults, clock=self._venue.clock)
        hub.join(outlet)
        try:
            return await outlet.serve(hub.on_message)
        finally:
            hub.leave(outlet)

    # ---- the dead man -----------------------------------------------------------------------------------------------
    def _arm(self, account: Account, seconds: float) -> None:
        """Cancel all orders of an account in `seconds`, on the venue's clock, unless told again; 0 disarms."""
        if (armed := self._dead_men.pop(account.key, None)) is not None:
            armed.cancel()
        if seconds > 0.0:
            fires = self._fire(account, seconds)
            self._dead_men[account.key] = asyncio.get_running_loop().create_task(fires, name="dead-man")

    async def _stop(self, _app: web.Application) -> None:
        for armed in self._dead_men.values():
            armed.cancel()
        self._dead_men.clear()

    async def _fire(self, account: Account, seconds: float) -> None:
        await self._venue.clock.sleep_s(seconds)
        self._dead_men.pop(account.key, None)
        cancel_all(self._venue.book, account, reason="Cancel all orders after timeout")


def _answered(result: Mapping[str, Any]) -> web.Response:
    return web.json_response({"error": [], "result": result})


def _refused(error: str) -> web.Response:
    return web.json_response({"error": [error]})
