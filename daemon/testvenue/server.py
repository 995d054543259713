"""TestVenue: the engine room behind real sockets on loopback, in one or several dialects, with its script.

In a program of its own see `__main__.py`; inside a test:

    async with TestVenue([Market(base="BTC", quote="USDT", last=Decimal(100))], clock=SystemClock()) as venue:
        venue.add_account("KEY", "SECRET", {"USDT": 10_000})
        exchange = ccxt.binance(venue.ccxt_options(account="KEY"))
        venue.market("BTC/USDT").trade(101)
        venue.faults.add(Fault(where="POST order", what=What.DROP_REPLY))
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from daemon.ports import Clock
from daemon.testvenue import control, fault_http
from daemon.testvenue.accounts import Account, FeeMode, KeyRights
from daemon.testvenue.audit import Audit
from daemon.testvenue.binance import BinanceDialect
from daemon.testvenue.book import Book
from daemon.testvenue.dialect import Dialect
from daemon.testvenue.faults import Fault, FaultBox
from daemon.testvenue.habits import Habits
from daemon.testvenue.kraken import HABITS as KRAKEN_HABITS
from daemon.testvenue.kraken import KrakenDialect
from daemon.testvenue.market import Market
from daemon.testvenue.request_params import params_of
from daemon.testvenue.script import MarketScript, Number, exact
from daemon.testvenue.venue_time import VenueTime

DIALECTS: Mapping[str, tuple[Callable[["TestVenue"], Dialect], Habits]] = {
    "binance": (BinanceDialect, Habits()),
    "kraken": (KrakenDialect, KRAKEN_HABITS),
}
"""Exchange as ccxt calls it -> who speaks for it, and what it does its own way."""
_UNAUDITED = frozenset({"signature", "timestamp", "recvWindow", "nonce", "apiKey"})


class TestVenue:
    """A venue for rehearsals and tests. seed: of the generator that decides on faults with a probability.

    dialect: the exchange it behaves and speaks like (see `DIALECTS`). Raises ValueError for one that is not known.
    checks_time: refuse requests whose timestamp is off, as venues do; off for a venue whose time is pinned.
    shows_every_candle: also where the exchange itself shows only the newest.
    weight_per_minute: request weight a client may use, in the dialect's own units.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    def __init__(
        self,
        markets: Iterable[Market],
        *,
        clock: Clock,
        dialect: str = "binance",
        seed: int = 0,
        audit_path: Path | None = None,
        checks_time: bool = True,
        shows_every_candle: bool = False,
        weight_per_minute: int = 6_000,
    ) -> None:
        self.clock = clock
        self.time = VenueTime(clock)
        if dialect not in DIALECTS:
            raise ValueError(f"no dialect {dialect!r}; there are {', '.join(sorted(DIALECTS))}")
        speaker, self.habits = DIALECTS[dialect]
        if shows_every_candle:
            self.habits = replace(self.habits, candle_rows=None)
        self.book = Book(markets, now_ms=self.time.now_ms, habits=self.habits)
        self.audit = Audit(now_ms=self.time.now_ms, name_of=self._name_of, path=audit_path)
        self.book.listen(self.audit.hear)
        generator = random.Random(seed)  # noqa: S311  # no secret is made of it
        self.faults = FaultBox(monotonic_s=clock.monotonic_s, generator=generator)
        self.faults.on_fire = self._note_fault
        self.checks_time = checks_time
        self.weight_per_minute = weight_per_minute
        self.is_down = False
        self.port = 0
        self.dialects: list[Dialect] = [speaker(self)]
        self._runner: web.AppRunner | None = None

    # ---- life -------------------------------------------------------------------------------------------------------
    async def start(self, port: int = 0) -> Self:
        """Serve on 127.0.0.1; port 0 takes a free one, which `port` then says."""
        app = web.Application(middlewares=[self._middleware])
        app.router.add_post("/_control", self._control)
        app.router.add_get("/_control", self._control)
        for dialect in self.dialects:
            dialect.routes(app)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def close(self) -> None:
        """Cut every connection and stop serving; idempotent."""
        self.shut()
        if self._runner is not None:
            await asyncio.sleep(0)  # lets the websockets say goodbye
            await self._runner.cleanup()
            self._runner = None
        self.audit.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def ccxt_options(self, dialect: str = "", *, account: str | None = None) -> dict[str, Any]:
        """Return what ccxt's constructor needs to come here, with the keys of `account` when one is named.

        dialect: the exchange, when there is more than one.
        """
        speaks = next((one for one in self.dialects if dialect in {"", one.name}), None)
        if speaks is None:
            raise ValueError(f"no dialect {dialect!r}; there are {', '.join(one.name for one in self.dialects)}")
        owner = None if account is None else self.account(account)
        return speaks.ccxt_options(f"127.0.0.1:{self.port}", owner)

    # ---- the script -------------------------------------------------------------------------------------------------
    def market(self, symbol: str) -> MarketScript:
        """Return what a script can do in a market. Raises Refusal for one that is not listed."""
        self.book.market(symbol)
        return MarketScript(self.book, self.time, symbol)

    def account(self, name: str) -> Account:
        """Return an account by its key or its name. Raises ValueError."""
        for account in self.book.accounts.values():
            if name in {account.key, account.name}:
                return account
        known = ", ".join(account.name for account in self.book.accounts.values())
        raise ValueError(f"no account {name!r}; there are {known or 'none'}")

    def add_account(
        self,
        key: str,
        secret: str,
        balances: Mapping[str, Number],
        *,
        name: str = "",
        fee_mode: FeeMode | None = None,
        maker: Number = "0.001",
        taker: Number = "0.001",
        rights: KeyRights | None = None,
    ) -> Account:
        """Open an account that holds `balances` (asset: amount) and return it.

        fee_mode: None for the exchange's own.

        Raises ValueError for a key that is taken, or a secret that cannot be one of that exchange.
        """
        self.habits.check_secret(secret)
        account = Account(
            key=key, secret=secret, name=name, fee_mode=fee_mode or self.habits.fee_mode, maker=exact(maker),
            taker=exact(taker), rights=rights or KeyRights(),
        )  # fmt: skip
        held = {asset: exact(amount) for asset, amount in balances.items()}
        self.book.open_account(account, held)
        self.audit.write("account", account=account.name, balances=held)
        return account

    def control(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Run a control command, as `POST /_control` does. Raises ValueError with what is wrong in words."""
        self.audit.write("control", command=control.without_secrets(command))
        return control.run(self, command)

    def set_maintenance(self, is_down: bool) -> None:
        """Begin or end maintenance: every request is refused, websockets are cut."""
        self.is_down = is_down
        if is_down:
            self.shut()

    def shut(self) -> None:
        """Close every websocket, as a venue does that restarts."""
        for dialect in self.dialects:
            dialect.shut()

    # ---- what every request passes ----------------------------------------------------------------------------------
    @web.middleware
    async def _middleware(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        dialect = next((one for one in self.dialects if one.owns(request.path)), None)
        if dialect is None:
            return await handler(request)  # type: ignore[no-any-return]
        params = await params_of(request)
        shown = {name: value for name, value in params.items() if name not in _UNAUDITED}
        weight = dialect.weight(request)
        self.audit.write("request", method=request.method, path=request.path, params=shown, weight=weight)
        fault = self.faults.take(request.method, request.path.lstrip("/"), params)
        if fault is None:
            return await handler(request)  # type: ignore[no-any-return]
        return await fault_http.through(
            fault, request, lambda: handler(request), clock=self.clock, reject=dialect.reject, act=self.control
        )

    async def _control(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response(self.control({"do": "state"}))
        try:
            return web.json_response(self.control(await request.json()))
        except ValueError as error:  # also JSON that cannot be read
            return web.json_response({"error": str(error)}, status=400)

    def _name_of(self, key: str) -> str:
        return self.book.accounts[key].name

    def _note_fault(self, number: int, fault: Fault, method: str, path: str) -> None:
        self.audit.write("fault", number=number, what=fault.what.value, where=fault.where, method=method, path=path)
