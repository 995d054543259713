"""The control socket, server and client, over real Unix sockets."""

# ruff: noqa: ASYNC110, ASYNC240  # the other side is a socket, not an event; a test may touch a file while it waits

import asyncio
import json
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daemon import control
from daemon.control import ControlError, ControlServer, NotRunning, call
from daemon.errors import ConfigError, TransientError


class Engine:
    """Does what verbs ask: remembers them, and answers, refuses, fails or waits as a test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answer: dict[str, Any] = {"state": "active"}
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((verb, args))
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return self.answer


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
async def server(path: Path, engine: Engine) -> AsyncIterator[ControlServer]:
    made = ControlServer(path, engine, request_timeout_s=0.3)
    await made.start()
    yield made
    await made.close(grace_s=0.1)


async def raw(path: Path, request: bytes, *, ends: bool = True) -> bytes:
    """Return everything the server says to `request` until it ends the connection."""
    reader, writer = await asyncio.open_unix_connection(path, limit=2**24)
    try:
        writer.write(request)
        if ends:
            writer.write_eof()
        async with asyncio.timeout(5.0):
            return await reader.read()
    finally:
        writer.transport.abort()


def refusal(said: bytes) -> str:
    answer = json.loads(said)
    assert set(answer) == {"ok", "error"}
    assert answer["ok"] is False
    return str(answer["error"])


# ---- what is asked ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["status", "pause", "resume", "flatten"])
async def test_a_verb_reaches_the_engine_and_its_result_the_client(
    server: ControlServer, path: Path, engine: Engine, verb: str
) -> None:
    engine.answer = {"effect": "done", "equity": 0.1 + 0.2, "symbols": ["BTC/USDT"]}
    assert await call(path, verb, {"reason": "Ω"}) == engine.answer
    assert engine.asked == [(verb, {"reason": "Ω"})]


async def test_an_unknown_verb_is_refused_with_the_known_ones_and_never_reaches_the_engine(
    server: ControlServer, path: Path, engine: Engine
) -> None:
    with pytest.raises(ControlError, match="unknown verb 'sell': known are status, pause, resume, flatten"):
        await call(path, "sell", {})
    assert engine.asked == []


async def test_a_refusal_of_the_engine_is_told_in_its_words(server: ControlServer, path: Path, engine: Engine) -> None:
    engine.fault = TransientError("the venue is busy: ask again")
    with pytest.raises(ControlError, match=r"^the venue is busy: ask again$"):
        await call(path, "flatten", {})


async def test_a_fault_of_the_engine_is_reported_to_the_loop_and_the_next_request_is_served(
    server: ControlServer, path: Path, engine: Engine
) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    engine.fault = RuntimeError("a fault")
    with pytest.raises(ControlError, match="ended the connection without an answer to `status`"):
        await call(path, "status", {})
    assert [context["exception"] for context in reported] == [engine.fault]
    engine.fault = None
    assert await call(path, "status", {}) == {"state": "active"}


async def test_requests_at_the_same_time_do_not_wait_for_each_other(
    server: ControlServer, path: Path, engine: Engine
) -> None:
    engine.gate.clear()
    slow = asyncio.create_task(call(path, "flatten", {}))
    while not engine.asked:
        await asyncio.sleep(0.005)
    engine.gate.set()
    assert await call(path, "status", {}, timeout_s=1.0) == {"state": "active"}
    assert await slow == {"state": "active"}


# ---- what is garbage --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("request_bytes", "fault"),
    [
        (b"\n", "not a line of JSON"),
        (b"GET / HTTP/1.1\r\n", "not a line of JSON"),
        (b"\xff\xfe\n", "not a line of JSON"),
        (b"{" * 60_000 + b"\n", "not a line of JSON"),
        (b"[" * 60_000 + b"\n", "not a line of JSON"),
        (b'{"verb": "status"', "not a line of JSON"),
        (b"[1]\n", "not an object"),
        (b'{"verb": "status", "more": 1}\n', "not an object"),
        (b"{}\n", "unknown verb 'None'"),
        (b'{"verb": ["status"]}\n', "unknown verb"),
        (b'{"verb": "' + b"x" * 10_000 + b'"}\n', "unknown verb 'x"),
        (b'{"verb": "pause", "args": [1]}\n', '"args" is not an object'),
        (b"x" * 70_000, "longer than 65536 bytes"),
    ],
    ids=["empty", "HTTP", "not text", "open braces", "open brackets", "cut", "list", "more", "none", "no text", "long",
         "args", "too long"],
)  # fmt: skip
async def test_garbage_is_refused_in_words_and_never_reaches_the_engine(
    server: ControlServer, path: Path, engine: Engine, request_bytes: bytes, fault: str
) -> None:
    said = refusal(await raw(path, request_bytes))
    assert fault in said
    assert len(said) < 200
    assert engine.asked == []


async def test_only_the_first_line_is_a_request(server: ControlServer, path: Path, engine: Engine) -> None:
    said = await raw(path, b'{"verb": "status"}\n{"verb": "flatten"}\n')
    assert said.count(b"\n") == 1
    assert engine.asked == [("status", {})]


async def test_a_client_that_sends_nothing_is_cut_off_and_others_are_served(server: ControlServer, path: Path) -> None:
    begun_s = time.monotonic()
    silent = asyncio.create_task(raw(path, b'{"verb": "sta', ends=False))
    assert await call(path, "status", {}, timeout_s=1.0) == {"state": "active"}
    assert await silent == b""
    assert time.monotonic() - begun_s < 2.0


async def test_a_client_that_never_reads_is_cut_off(server: ControlServer, path: Path, engine: Engine) -> None:
    engine.answer = {"text": "x" * 3_000_000}  # far more than the kernel's buffer takes
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b'{"verb": "status"}\n')
        while not engine.asked:
            await asyncio.sleep(0.005)
        engine.answer = {"state": "active"}
        assert await call(path, "status", {}, timeout_s=1.0) == {"state": "active"}
        async with asyncio.timeout(3.0):
            while server._writers:
                await asyncio.sleep(0.01)


async def test_connections_beyond_the_limit_are_dropped_and_the_limit_frees_itself(
    server: ControlServer, path: Path
) -> None:
    idle = [await asyncio.open_unix_connection(path) for _ in range(40)]
    assert len(server._writers) <= 32
    async with asyncio.timeout(3.0):
        while server._writers:
            await asyncio.sleep(0.01)
    assert await call(path, "status", {}) == {"state": "active"}
    for _, writer in idle:
        writer.transport.abort()


# ---- who may ask ------------------------------------------------------------------------------------------------
async def test_the_socket_is_ours_alone(server: ControlServer, path: Path) -> None:
    found = path.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.geteuid()


async def test_the_socket_is_never_open_to_others_whatever_the_umask(path: Path, engine: Engine) -> None:
    before = os.umask(0)
    try:
        made = ControlServer(path, engine)
        await made.start()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await made.close()
    finally:
        os.umask(before)


@pytest.mark.parametrize(("uid", "is_allowed"), [(0, True), (1_000, True), (1_001, False), (65_534, False)])
def test_only_our_user_and_root_are_served(monkeypatch: pytest.MonkeyPatch, uid: int, is_allowed: bool) -> None:
    class Connection:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option, size) == (socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return struct.pack("3i", 4_711, uid, uid)

    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    assert control._is_allowed(Connection()) is is_allowed  # type: ignore[arg-type]


_STRANGER = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
s.settimeout(5)
s.connect(sys.argv[1])
try:
    s.sendall(b'{"verb": "flatten"}\\n')
    print(s.recv(100))
except ConnectionError:
    print(b"")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as another user")
async def test_another_user_is_dropped_even_where_the_file_would_let_it_in(engine: Engine) -> None:
    directory = Path(tempfile.mkdtemp())  # the directories that pytest makes are closed to others
    directory.chmod(0o755)
    made = ControlServer(directory / "c.sock", engine)
    command = [sys.executable, "-I", "-c", _STRANGER, str(directory / "c.sock")]
    try:
        await made.start()
        (directory / "c.sock").chmod(0o666)
        asked = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False, timeout=30)
        assert (asked.stdout.strip(), engine.asked) == (b"b''", []), asked.stderr
    finally:
        await made.close()
        directory.rmdir()


# ---- start and end ----------------------------------------------------------------------------------------------
async def test_the_socket_of_a_killed_daemon_is_replaced(path: Path, engine: Engine) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    with pytest.raises(NotRunning, match="no sacd is running there, it was killed: start it with `sacd run`"):
        await call(path, "status", {})
    made = ControlServer(path, engine)
    await made.start()
    assert await call(path, "status", {}) == {"state": "active"}
    await made.close()


async def test_a_daemon_that_runs_is_not_pushed_aside(server: ControlServer, path: Path) -> None:
    second = ControlServer(path, Engine())
    with pytest.raises(ConfigError, match="a running sacd already listens there"):
        await second.start()
    await second.close()
    assert await call(path, "status", {}) == {"state": "active"}


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
async def test_what_is_not_a_socket_is_left_alone(tmp_path: Path, path: Path, engine: Engine, kind: str) -> None:
    if kind == "directory":
        path.mkdir()
    elif kind == "file":
        path.write_text("precious")
    else:
        (tmp_path / "other").write_text("precious")
        path.symlink_to(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"\[control\] socket .*: there is something else: remove it"):
        await ControlServer(path, engine).start()
    assert path.exists()


async def test_a_path_too_long_for_a_socket_is_refused_by_server_and_client(tmp_path: Path, engine: Engine) -> None:
    fits = tmp_path / ("s" * (107 - len(os.fsencode(tmp_path)) - 1))
    made = ControlServer(fits, engine)
    await made.start()
    assert await call(fits, "status", {}) == {"state": "active"}
    await made.close()
    longer = fits.with_name(fits.name + "s")
    with pytest.raises(ConfigError, match="108 bytes are too long for a socket, 107 are allowed"):
        await ControlServer(longer, engine).start()
    with pytest.raises(ConfigError, match="108 bytes are too long"):
        await call(longer, "status", {})


async def test_a_directory_that_is_missing_is_named(tmp_path: Path, engine: Engine) -> None:
    with pytest.raises(ConfigError, match=rf"make the directory {tmp_path}/none"):
        await ControlServer(tmp_path / "none" / "c.sock", engine).start()


async def test_closing_removes_the_socket_and_finishes_what_is_under_way(path: Path, engine: Engine) -> None:
    made = ControlServer(path, engine)
    await made.start()
    engine.gate.clear()
    asked = asyncio.create_task(call(path, "flatten", {}))
    while not engine.asked:
        await asyncio.sleep(0.005)
    ending = asyncio.create_task(made.close())
    await asyncio.sleep(0)
    engine.gate.set()
    await ending
    assert await asked == {"state": "active"}
    assert not path.exists()
    await made.close()


async def test_closing_does_not_wait_for_ever(path: Path, engine: Engine) -> None:
    made = ControlServer(path, engine)
    await made.start()
    engine.gate.clear()
    asked = asyncio.create_task(call(path, "flatten", {}))
    while not engine.asked:
        await asyncio.sleep(0.005)
    begun_s = time.monotonic()
    await made.close(grace_s=0.1)
    assert time.monotonic() - begun_s < 1.0
    with pytest.raises(ControlError, match="without an answer"):
        await asked


async def test_closing_leaves_a_socket_that_somebody_put_there_since(path: Path, engine: Engine) -> None:
    made = ControlServer(path, engine)
    await made.start()
    path.unlink()
    successor = ControlServer(path, engine)
    await successor.start()
    await made.close()
    assert await call(path, "status", {}) == {"state": "active"}
    await successor.close()


# ---- what the client says ---------------------------------------------------------------------------------------
async def test_where_nothing_runs_the_client_says_how_to_start_it(path: Path) -> None:
    with pytest.raises(NotRunning, match=rf"^{path}: no sacd is running there: start it with `sacd run`$"):
        await call(path, "status", {})


async def test_a_file_that_is_no_socket_is_named(path: Path) -> None:
    path.write_text("x")
    with pytest.raises(ControlError, match=str(path)):
        await call(path, "status", {})


async def test_a_daemon_that_does_not_answer_is_given_up(server: ControlServer, path: Path, engine: Engine) -> None:
    engine.gate.clear()
    with pytest.raises(ControlError, match=r"sacd did not answer `pause` within 0.1 s; see its log") as caught:
        await call(path, "pause", {}, timeout_s=0.1)
    assert not isinstance(caught.value, NotRunning)


async def test_what_a_client_no_longer_waits_for_is_still_done(
    server: ControlServer, path: Path, engine: Engine
) -> None:
    engine.gate.clear()
    with pytest.raises(ControlError, match="did not answer"):
        await call(path, "flatten", {}, timeout_s=0.1)
    assert len(server._writers) == 1
    engine.gate.set()
    async with asyncio.timeout(3.0):
        while server._writers:
            await asyncio.sleep(0.01)
    assert engine.asked == [("flatten", {})]


async def test_a_connection_that_we_may_not_make_is_explained(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(asyncio, "open_unix_connection", forbidden)
    with pytest.raises(ControlError, match="belongs to another user: ask as that user or as root") as caught:
        await call(path, "status", {})
    assert not isinstance(caught.value, NotRunning)


@pytest.mark.parametrize("said", [b"hello\n", b"[]\n", b'{"ok": true}\n', b'{"ok": false}\n', b"x" * 2**23])
async def test_a_stranger_who_answers_is_recognised(path: Path, said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    try:
        with pytest.raises(ControlError, match="does not answer as sacd does"):
            await call(path, "status", {}, timeout_s=5.0)
    finally:
        server.close()
