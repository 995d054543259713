"""The read-only HTTP server: metrics for Prometheus, health for supervisors. Nothing can be changed through it.

One request per connection and a deadline for each, so that a client that is slow, silent or hostile costs a bounded
amount of memory for a bounded time. aiohttp is imported here and nowhere else.
"""

import asyncio
import errno
import ipaddress
import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from daemon.errors import ConfigError
from daemon.health import HealthReport

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus reads."""

_INDEX = "sacd: /metrics (Prometheus), /healthz (alive), /readyz (recovered and feeding)\n"
_METHODS = ("GET", "HEAD")
_MOST_CONNECTIONS = 64
_GUARDS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


class HttpServer:
    """Serves `/`, `/metrics`, `/healthz` and `/readyz` from `start` to `close`."""

    def __init__(
        self,
        host: str,
        port: int,
        health: Callable[[], HealthReport],
        render: Callable[[], bytes],
        *,
        allowed_hosts: Iterable[str] = (),
        timeout_s: float = 5.0,
    ) -> None:
        """host: address to listen on.  port: 0 takes any free one.  render: the metrics as Prometheus reads them.

        allowed_hosts: names that clients may ask for besides those of this machine's loopback and `host`.
        timeout_s: seconds a connection may take from its first to its last byte.
        """
        self._host = host
        self._port = port
        self._health = health
        self._render = render
        self._is_allowed = _host_check(host, allowed_hosts)
        self._timeout_s = timeout_s
        self._connections: _Connections | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises ConfigError naming key, value and remedy when that is impossible."""
        self._connections = _Connections(self._answer, self._timeout_s)
        try:
            self._server = await asyncio.get_running_loop().create_server(self._connections, self._host, self._port)
        except OSError as error:
            raise ConfigError(_unusable(self._host, self._port, error)) from error
        if not self._server.sockets:  # asyncio is silent when the address family is forbidden to us
            raise ConfigError(
                f"[http] host {self._host}: no socket could be opened; allow its address family "
                "(RestrictAddressFamilies= of the unit), or set enabled = false"
            )

    @property
    def url(self) -> str:
        """Address of the index page. Raises RuntimeError when it does not listen."""
        if self._server is None or not self._server.sockets:
            raise RuntimeError("the HTTP server does not listen")
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

    async def close(self) -> None:
        """Stop listening and end every connection; idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._connections is not None:
            self._connections.pre_shutdown()
            await self._connections.shutdown(0.5)
            self._connections = None

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        refusal = self._refusal(request)
        return self._page(request.path) if refusal is None else refusal

    def _refusal(self, request: web.BaseRequest) -> web.Response | None:
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1 or not request.raw_path.startswith("/"):
            return _reply(HTTPStatus.BAD_REQUEST)
        if not self._is_allowed(hosts[0]):
            # A name that resolves to us without our knowing is how a web page reaches a service on loopback.
            return _reply(HTTPStatus.MISDIRECTED_REQUEST)
        if request.method not in _METHODS:
            return _reply(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(_METHODS)})
        return None

    def _page(self, path: str) -> web.Response:
        match path:
            case "/":
                return _reply(HTTPStatus.OK, _INDEX.encode())
            case "/metrics":
                return _reply(HTTPStatus.OK, self._render(), kind=_METRICS)
            case "/healthz":
                report = self._health()
                return _verdict(report, is_good=report.is_alive)
            case "/readyz":
                report = self._health()
                return _verdict(report, is_good=report.is_ready)
            case _:
                return _reply(HTTPStatus.NOT_FOUND)


def _verdict(report: HealthReport, *, is_good: bool) -> web.Response:
    status = HTTPStatus.OK if is_good else HTTPStatus.SERVICE_UNAVAILABLE
    return _reply(status, json.dumps(report.to_json()).encode() + b"\n", kind=_JSON)


def _reply(
    status: HTTPStatus, body: bytes | None = None, *, kind: str = _TEXT, headers: dict[str, str] | None = None
) -> web.Response:
    text = f"{status.value} {status.phrase}\n".encode() if body is None else body
    answer = _Reply(status=status, body=text, headers={**_GUARDS, "Content-Type": kind, **(headers or {})})
    answer.force_close()
    return answer


class _Reply(web.Response):
    """A response that does not say which software in which version gave it."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)


# ---- connections ------------------------------------------------------------------------------------------------
class _Connections(web.Server):
    """Makes one protocol per connection, and ends the oldest connection where there are too many."""

    def __init__(self, answer: Callable[[web.BaseRequest], Any], timeout_s: float) -> None:
        super().__init__(answer)
        self.timeout_s = timeout_s

    def __call__(self) -> "_Connection":
        # Whoever waits longest has used most of its time; refusing the newcomer would lock Prometheus out.
        open_ones = self.connections
        for oldest in open_ones[: max(0, len(open_ones) - _MOST_CONNECTIONS + 1)]:
            oldest.force_close()
        return _Connection(self, self.timeout_s)


class _Connection(web.RequestHandler):
    """One connection: one request, one answer, one deadline for both."""

    def __init__(self, connections: _Connections, timeout_s: float) -> None:
        super().__init__(
            connections,
            loop=asyncio.get_running_loop(),
            lingering_time=0.0,  # nobody sends us a body that is worth waiting for
            access_log=None,  # type: ignore[arg-type]  # None is how aiohttp is told not to log
            max_line_size=2_048,
            max_field_size=8_190,
            max_headers=32,
        )
        self._timeout_s = timeout_s
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # aiohttp's own time-outs end neither a client that dribbles nor one that never reads.
        if isinstance(transport, asyncio.Transport):
            self._deadline = asyncio.get_running_loop().call_later(self._timeout_s, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # quotes what the client sent
    ) -> web.StreamResponse:
        """Answer in a fixed text; log our own faults, and not what strangers send."""
        if not isinstance(exc, HttpProcessingError):
            self.log_exception("Error handling an HTTP request", exc_info=exc)
        return _reply(HTTPStatus(status))


# ---- who may be asked for ---------------------------------------------------------------------------------------
def _host_check(host: str, allowed: Iterable[str]) -> Callable[[str], bool]:
    """Return whether a Host header names us.

    Names come from a list, because a stranger's name may be made to point here; an address cannot be, so any does
    where we listen on all of them.
    """
    names = {"localhost", host.lower(), *(name.lower() for name in allowed)}
    own = _address(host)

    def is_allowed(header: str) -> bool:
        name = _without_port(header.strip().lower())
        address = _address(name)
        if address is None:
            return name in names
        return address.is_loopback or str(address) in names or (own is not None and own.is_unspecified)

    return is_allowed


def _without_port(header: str) -> str:
    name, colon, port = header.rpartition(":")
    if colon and (port == "" or (port.isascii() and port.isdigit())) and (":" not in name or name.endswith("]")):
        header = name
    return header[1:-1] if header.startswith("[") and header.endswith("]") else header


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _unusable(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"[http] port {port} of {host} is already in use: end the program that uses it, or write another "
                "port, 0 for any free one"
            )
        case errno.EACCES | errno.EPERM:
            return f"[http] port {port} of {host} is not for us: write a port from 1024 to 65535"
        case errno.EADDRNOTAVAIL:
            return f'[http] host {host} is no address of this machine: write "127.0.0.1"'
        case _:
            return f"[http] host {host}, port {port}: cannot listen there ({error.strerror or error}): write others"
