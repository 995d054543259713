"""The HTTP server on real loopback sockets, with clients that behave and clients that do not."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

import pytest

from daemon.errors import ConfigError
from daemon.health import HealthReport
from daemon.http import HttpServer
from daemon.ports import FeedHealth

READY = HealthReport(
    stuck=(), waiting=(), is_started=True, feed=FeedHealth.LIVE, candle_age_s=1.0, progress_age_s=1.0
)  # fmt: skip
WAITING = HealthReport(
    stuck=(), waiting=("no candle yet",), is_started=True, feed=None, candle_age_s=None, progress_age_s=None
)  # fmt: skip
STUCK = HealthReport(
    stuck=("BTC/USDT candle came in 35 s ago",), waiting=(), is_started=True, feed=None, candle_age_s=35.0,
    progress_age_s=None,
)  # fmt: skip
TIMEOUT_S = 0.4


class Daemon:
    """A server with the health and metrics that a test sets."""

    def __init__(self) -> None:
        self.health = READY
        self.metrics = b"sacd_up 1\n"
        self.renders = 0

    def report(self) -> HealthReport:
        return self.health

    def render(self) -> bytes:
        self.renders += 1
        return self.metrics


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
async def server(daemon: Daemon) -> AsyncIterator[HttpServer]:
    made = HttpServer("127.0.0.1", 0, daemon.report, daemon.render, allowed_hosts=("sacd",), timeout_s=TIMEOUT_S)
    await made.start()
    yield made
    await made.close()


def port_of(server: HttpServer) -> int:
    return int(server.url.rstrip("/").rpartition(":")[2])


async def raw(server: HttpServer, request: bytes) -> bytes:
    """Return everything the server says to `request` until it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    try:
        writer.write(request)
        async with asyncio.timeout(5.0):
            return await reader.read()
    finally:
        writer.transport.abort()


async def ask(server: HttpServer, path: str, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str, str]:
    """Return status, headers and body."""
    said = await raw(server, f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head, _, body = said.decode().partition("\r\n\r\n")
    return int(head.split()[1]), head, body


# ---- pages ------------------------------------------------------------------------------------------------------
async def test_metrics_are_rendered_once_per_scrape(server: HttpServer, daemon: Daemon) -> None:
    status, head, body = await ask(server, "/metrics")
    assert (status, body, daemon.renders) == (200, "sacd_up 1\n", 1)
    assert "Content-Type: text/plain; version=0.0.4; charset=utf-8" in head


@pytest.mark.parametrize(
    ("health", "healthz", "readyz"), [(READY, 200, 200), (WAITING, 200, 503), (STUCK, 503, 503)],
    ids=["ready", "waiting", "stuck"],
)  # fmt: skip
async def test_health_is_a_status_and_says_why(
    server: HttpServer, daemon: Daemon, health: HealthReport, healthz: int, readyz: int
) -> None:
    daemon.health = health
    alive, ready = await ask(server, "/healthz"), await ask(server, "/readyz")
    assert (alive[0], ready[0]) == (healthz, readyz)
    assert json.loads(alive[2]) == json.loads(ready[2]) == health.to_json()
    assert json.loads(alive[2])["reasons"] == [*health.stuck, *health.waiting]


async def test_the_index_names_the_endpoints(server: HttpServer) -> None:
    status, _, body = await ask(server, "/")
    assert status == 200
    assert all(path in body for path in ("/metrics", "/healthz", "/readyz"))


@pytest.mark.parametrize("path", ["/api", "/metrics/", "/Metrics", "/../etc/passwd", "/%2e%2e/etc/passwd", "//metrics"])
async def test_what_is_not_a_page_is_not_found(server: HttpServer, path: str) -> None:
    assert (await ask(server, path))[0] == 404


async def test_a_query_changes_nothing(server: HttpServer) -> None:
    assert (await ask(server, "/metrics?name[]=x"))[0] == 200


async def test_head_is_get_without_its_body(server: HttpServer) -> None:
    status, head, body = await ask(server, "/metrics", "HEAD")
    assert (status, body) == (200, "")
    assert "Content-Length: 10" in head


async def test_answers_name_no_software_and_forbid_caches_and_scripts(server: HttpServer) -> None:
    answers = [await ask(server, "/"), await ask(server, "/x"), await ask(server, "/", "POST")]
    broken = (await raw(server, b"garbage\r\n\r\n")).decode()
    for head in [*(answer[1] for answer in answers), broken]:
        assert "server:" not in head.lower()
        assert "aiohttp" not in head.lower()
        assert "Cache-Control: no-store" in head
        assert "Content-Security-Policy: default-src 'none'" in head


async def test_one_connection_is_one_request(server: HttpServer, daemon: Daemon) -> None:
    said = await raw(server, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
    assert said.count(b"HTTP/1.1 200") == 1
    assert b"Connection: close" in said
    assert daemon.renders == 1


async def test_a_fault_of_ours_is_logged_and_not_shown(
    server: HttpServer, daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> HealthReport:
        raise RuntimeError("the inner secret")

    server._health = broken
    status, head, body = await ask(server, "/healthz")
    assert status == 500
    assert "secret" not in head + body
    assert "the inner secret" in caplog.text


# ---- what is refused --------------------------------------------------------------------------------------------
@pytest.mark.fault(70)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
async def test_other_methods_are_refused(server: HttpServer, daemon: Daemon, method: str) -> None:
    status, head, _ = await ask(server, "/metrics", method)
    assert status == 405
    assert "Allow: GET, HEAD" in head
    assert daemon.renders == 0


@pytest.mark.parametrize("request_line", ["CONNECT 127.0.0.1:80", "FROBNICATE /metrics", "get /metrics"])
async def test_strange_methods_get_no_page(server: HttpServer, daemon: Daemon, request_line: str) -> None:
    said = await raw(server, f"{request_line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert said.split()[1] in (b"400", b"405")
    assert daemon.renders == 0


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:9464", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:9464", "127.9.9.9", "sacd:9464"],
)
async def test_our_own_names_are_served(server: HttpServer, host: str) -> None:
    assert (await ask(server, "/metrics", host=host))[0] == 200


@pytest.mark.fault(70)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0",  # noqa: S104
     "[::2]", "", "localhost:x", "127.0.0.1@evil.example", "sacd.evil.example", "[::1]evil.example", "2130706433"],
)  # fmt: skip
async def test_strange_names_are_refused(server: HttpServer, daemon: Daemon, host: str) -> None:
    assert (await ask(server, "/metrics", host=host))[0] == HTTPStatus.MISDIRECTED_REQUEST
    assert daemon.renders == 0


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /metrics HTTP/1.1\r\n\r\n",
        "GET /metrics HTTP/1.0\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["no host", "no host, old", "two hosts", "absolute target"],
)
async def test_a_request_without_one_plain_host_is_refused(
    server: HttpServer, daemon: Daemon, request_text: str
) -> None:
    assert (await raw(server, request_text.encode())).split()[1] == b"400"
    assert daemon.renders == 0


async def test_where_every_address_is_listened_on_any_address_is_ours_but_no_name(daemon: Daemon) -> None:
    server = HttpServer("0.0.0.0", 0, daemon.report, daemon.render)  # noqa: S104  # closed again below
    await server.start()
    try:
        assert (await ask(server, "/metrics", host="192.0.2.7:9464"))[0] == 200
        assert (await ask(server, "/metrics", host="evil.example"))[0] == 421
    finally:
        await server.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(100)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\x00" * 1_000,
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["long line", "long header", "many headers", "TLS", "zeroes", "version", "length"],
)
async def test_oversized_and_broken_requests_end_without_a_log_of_what_they_held(
    server: HttpServer, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        said = await raw(server, request_bytes)
    assert said == b"" or said.split()[1] == b"400"
    assert caplog.text == ""
    assert (await ask(server, "/metrics"))[0] == 200


# ---- clients that are slow --------------------------------------------------------------------------------------
async def dribble(server: HttpServer, prefix: bytes, piece: bytes) -> float:
    """Send a byte or two for as long as the server listens; returns the seconds after which it hung up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    begun_s = time.monotonic()
    gone = asyncio.create_task(reader.read())
    try:
        writer.write(prefix)
        while not gone.done() and time.monotonic() < begun_s + 10.0:
            writer.write(piece)
            await asyncio.wait([gone], timeout=0.02)
    finally:
        gone.cancel()
        writer.transport.abort()
    return time.monotonic() - begun_s


@pytest.mark.fault(70)
@pytest.mark.parametrize(
    "prefix",
    [
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
    ],
    ids=["headers", "request line", "body"],
)
async def test_a_client_that_dribbles_is_cut_off_and_others_are_served(server: HttpServer, prefix: bytes) -> None:
    slow = asyncio.create_task(dribble(server, prefix, b"a"))
    await asyncio.sleep(0)
    assert (await ask(server, "/metrics"))[0] == 200
    assert await slow < TIMEOUT_S + 2.0


async def test_a_client_that_never_reads_is_cut_off(server: HttpServer, daemon: Daemon) -> None:
    daemon.metrics = b"x" * 30_000_000  # far more than the kernel's buffers take
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", port_of(server)))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: bool(open_connections(server)))
        daemon.metrics = b"sacd_up 1\n"
        assert (await ask(server, "/metrics"))[2] == "sacd_up 1\n"
        await until(lambda: not open_connections(server))


def open_connections(server: HttpServer) -> int:
    assert server._connections is not None
    return len(server._connections.connections)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5.0):
        while not is_so():  # noqa: ASYNC110  # the other side is a socket
            await asyncio.sleep(0.01)


async def test_two_hundred_idle_connections_lock_nobody_out_and_are_bounded(server: HttpServer) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", port_of(server)) for _ in range(200)]
    try:
        assert (await ask(server, "/metrics"))[0] == 200
        assert open_connections(server) <= 64
        await until(lambda: not open_connections(server))
    finally:
        for _, writer in idle:
            writer.transport.abort()


@pytest.mark.fault(70)
async def test_the_loop_goes_on_while_clients_misbehave(server: HttpServer) -> None:
    attackers = [asyncio.create_task(dribble(server, b"GET / HTTP/1.1\r\nX: ", b"a")) for _ in range(20)]
    latest_s = 0.0
    while not all(task.done() for task in attackers):
        before_s = time.monotonic()
        await asyncio.sleep(0.005)
        latest_s = max(latest_s, time.monotonic() - before_s)
    assert latest_s < 2.0  # served one after the other, they would hold the loop for 8 s


# ---- start and end ----------------------------------------------------------------------------------------------
async def test_a_port_in_use_is_named_with_its_key_and_a_remedy(server: HttpServer, daemon: Daemon) -> None:
    port = port_of(server)
    second = HttpServer("127.0.0.1", port, daemon.report, daemon.render)
    with pytest.raises(ConfigError, match=rf"\[http\] port {port} of 127.0.0.1 is already in use: .*another port"):
        await second.start()
    await second.close()


async def test_an_address_that_is_not_ours_is_named(daemon: Daemon) -> None:
    with pytest.raises(ConfigError, match=r"\[http\] host 192.0.2.1 is no address of this machine"):
        await HttpServer("192.0.2.1", 0, daemon.report, daemon.render).start()


async def test_a_server_without_a_socket_is_an_error(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*_: object) -> asyncio.Server:  # what asyncio does when the address family is forbidden
        return asyncio.base_events.Server(
            asyncio.get_running_loop(), [], lambda: None, None, 100, None  # type: ignore[arg-type]
        )  # fmt: skip

    monkeypatch.setattr(asyncio.get_running_loop(), "create_server", silent)
    with pytest.raises(ConfigError, match="no socket could be opened"):
        await HttpServer("127.0.0.1", 0, daemon.report, daemon.render).start()


async def test_it_ends_at_once_with_clients_connected_and_frees_its_port(server: HttpServer, daemon: Daemon) -> None:
    port = port_of(server)
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
    begun_s = time.monotonic()
    await server.close()
    await server.close()
    assert time.monotonic() - begun_s < 1.5
    again = HttpServer("127.0.0.1", port, daemon.report, daemon.render)
    await again.start()
    assert (await ask(again, "/readyz"))[0] == 200
    await again.close()
    for _, writer in idle:
        writer.transport.abort()


async def test_an_address_of_version_six_has_a_url_that_works(daemon: Daemon) -> None:
    server = HttpServer("::1", 0, daemon.report, daemon.render)
    try:
        await server.start()
    except ConfigError:
        pytest.skip("this machine has no IPv6 loopback")
    assert server.url.startswith("http://[::1]:")
    await server.close()
