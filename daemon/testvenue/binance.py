"""The Binance dialect: which path is answered by which call, at which weight, for whom."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from daemon.testvenue.accounts import Account
from daemon.testvenue.binance_call import Call
from daemon.testvenue.binance_gate import KeyGate, Limiter, Need
from daemon.testvenue.binance_public import PublicCalls
from daemon.testvenue.binance_rest import TradingCalls
from daemon.testvenue.binance_streams import PublicStreams
from daemon.testvenue.binance_user import UserStreams
from daemon.testvenue.binance_wallet import WalletCalls
from daemon.testvenue.binance_words import ApiError, refused
from daemon.testvenue.orders import Refusal
from daemon.testvenue.request_params import params_of

if TYPE_CHECKING:
    from daemon.testvenue.server import TestVenue

Answer = Callable[[Call], Any]
PREFIXES = ("/api/v3/", "/sapi/v1/", "/fapi/v1/", "/dapi/v1/", "/stream", "/ws/", "/ws-api/")


class BinanceDialect:
    """Binance spot, as ccxt's `binance` speaks to it."""

    name = "binance"

    def __init__(self, venue: "TestVenue") -> None:
        self._venue = venue
        book, now_ms = venue.book, venue.time.now_ms
        self._gate = KeyGate(book.accounts, now_ms=now_ms)
        self._limiter = Limiter(now_ms=now_ms, per_minute=lambda: venue.weight_per_minute)
        self._weights: dict[str, int] = {}
        self._public, self._trading, self._wallet = PublicCalls(book), TradingCalls(book), WalletCalls(book)
        self.streams = PublicStreams(book, faults=venue.faults, clock=venue.clock)
        self.users = UserStreams(book, self._gate, faults=venue.faults, clock=venue.clock)

    def routes(self, app: web.Application) -> None:
        """Add its routes."""
        for path, need, weight, answer in self._table():
            method, _, rest = path.partition(" ")
            self._weights[path] = weight
            app.router.add_route(method, rest, self._handler(answer, need))
        for path in ("/stream/ws/{index}", "/ws/{stream}", "/stream"):
            app.router.add_get(path, self._socket(self.streams.serve))
        app.router.add_get("/ws-api/v3", self._socket(self.users.serve))

    def owns(self, path: str) -> bool:
        """Return whether a path is one of Binance's."""
        return path.startswith(PREFIXES)

    def weight(self, request: web.Request) -> int:
        """Return a request's weight; some cost more for all symbols, or less for one order."""
        path, query = request.path, request.query
        if path.endswith("/openOrders") and request.method == "GET" and "symbol" not in query:
            return 80
        if path.endswith("/myTrades") and "orderId" in query:
            return 5
        if "/ticker/" in path and "symbol" not in query:
            return 80 if path.endswith("/24hr") else 4
        return self._weights.get(f"{request.method} {path}", 0)

    def reject(self, code: str, message: str, status: int) -> web.Response:
        """Return a refusal in Binance's words."""
        return ApiError(int(code or -1000), message, status).response()

    def shut(self) -> None:
        """Close every websocket."""
        self.streams.shut()
        self.users.shut()

    def ccxt_options(self, address: str, account: Account | None) -> dict[str, Any]:
        """Return what ccxt's `binance` needs to come here, and nowhere else."""
        rest, sockets = f"http://{address}", f"ws://{address}"
        api = {
            "public": f"{rest}/api/v3", "private": f"{rest}/api/v3", "sapi": f"{rest}/sapi/v1",
            "fapiPublic": f"{rest}/fapi/v1", "dapiPublic": f"{rest}/dapi/v1",
            "ws": {"spot": f"{sockets}/stream/ws", "ws-api": {"spot": f"{sockets}/ws-api/v3"}},
        }  # fmt: skip
        keys = {} if account is None else {"apiKey": account.key, "secret": account.secret}
        options = {
            "defaultType": "spot", "fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False
        }  # fmt: skip
        return {"urls": {"api": api}, "options": options, **keys}

    def _table(self) -> list[tuple[str, Need, int, Answer]]:
        """Return method and path, what is needed, request weight, and what answers."""
        public, trading, wallet = self._public, self._trading, self._wallet
        nothing, read, trade = Need.NOTHING, Need.SIGNED_READ, Need.TRADE
        return [
            ("GET /api/v3/ping", nothing, 1, public.ping),
            ("GET /api/v3/time", nothing, 1, public.time),
            ("GET /api/v3/exchangeInfo", nothing, 20, public.exchange_info),
            ("GET /api/v3/klines", nothing, 2, public.klines),
            ("GET /api/v3/depth", nothing, 5, public.depth),
            ("GET /api/v3/trades", nothing, 25, public.trades),
            ("GET /api/v3/aggTrades", nothing, 4, public.aggregate_trades),
            ("GET /api/v3/avgPrice", nothing, 2, public.average_price),
            ("GET /api/v3/ticker/price", nothing, 2, public.price),
            ("GET /api/v3/ticker/bookTicker", nothing, 2, public.book_ticker),
            ("GET /api/v3/ticker/24hr", nothing, 2, public.day_ticker),
            ("POST /api/v3/order", trade, 1, trading.new_order),
            ("POST /api/v3/order/test", trade, 1, trading.test_order),
            ("GET /api/v3/order", read, 4, trading.get_order),
            ("DELETE /api/v3/order", trade, 1, trading.cancel_order),
            ("GET /api/v3/openOrders", read, 6, trading.open_orders),
            ("DELETE /api/v3/openOrders", trade, 1, trading.cancel_all),
            ("GET /api/v3/allOrders", read, 20, trading.all_orders),
            ("GET /api/v3/myTrades", read, 20, trading.my_trades),
            ("GET /api/v3/account", read, 20, trading.account),
            ("GET /api/v3/account/commission", read, 20, trading.commission),
            ("GET /sapi/v1/account/apiRestrictions", read, 1, wallet.restrictions),
            ("GET /sapi/v1/asset/tradeFee", read, 1, wallet.trade_fees),
            ("GET /sapi/v1/capital/config/getall", read, 10, wallet.coins),
            ("GET /sapi/v1/margin/allPairs", read, 1, lambda _: []),
            ("GET /sapi/v1/margin/isolated/allPairs", read, 10, lambda _: []),
            ("GET /sapi/v1/system/status", nothing, 1, self._system_status),
            ("GET /fapi/v1/exchangeInfo", nothing, 1, lambda _: {"symbols": []}),
            ("GET /dapi/v1/exchangeInfo", nothing, 1, lambda _: {"symbols": []}),
        ]

    def _handler(self, answer: Answer, need: Need) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                self._check_open(request)
                self._limiter.spend(self.weight(request))
                call = await self._call(request, need)
                if request.method == "POST" and request.path.endswith("/order"):
                    self._limiter.spend_order()
                return web.json_response(answer(call), headers=self._limiter.headers())
            except Refusal as refusal:
                return refused(refusal).response()
            except ApiError as error:
                return error.response()

        return handle

    def _socket(self, serve: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                self._check_open(request)
            except ApiError as error:
                return error.response()
            return await serve(request)  # type: ignore[no-any-return]

        return handle

    def _check_open(self, request: web.Request) -> None:
        if self._venue.is_down and not request.path.endswith("/system/status"):
            raise ApiError(-1016, "This service is no longer available.", 503)

    async def _call(self, request: web.Request, need: Need) -> Call:
        params = await params_of(request)
        if need is Need.NOTHING:
            return Call(params=params, owner=None)
        self._gate.checks_time = self._venue.checks_time
        account = self._gate.account(request.headers.get("X-MBX-APIKEY", ""), need)
        body = await request.text() if request.body_exists else ""
        self._gate.check_signature(account, [request.rel_url.raw_query_string, body], params)
        return Call(params=params, owner=account)

    def _system_status(self, _call: Call) -> dict[str, Any]:
        is_down = self._venue.is_down
        return {"status": int(is_down), "msg": "system maintenance" if is_down else "normal"}
