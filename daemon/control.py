"""The Unix socket by which a person on this machine asks the running daemon for something: server and client.

One line of JSON each way and one request per connection: `{"verb": "pause", "args": {}}` is answered by
`{"ok": true, "result": {...}}` or `{"ok": false, "error": "..."}`. Only our own user and root are served.
Knows nothing of what a verb does; the handler does.
"""

import asyncio
import errno
import json
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from daemon.errors import ConfigError, SacdError

VERBS = ("status", "pause", "resume", "flatten", "reload", "promote", "rollback", "pin", "shadow", "retrain")

Handler = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Does what a verb asks, given its arguments, and returns the result as JSON types. A SacdError becomes the answer."""

_LONGEST_PATH = 107  # bytes: sun_path of unix(7) less its closing zero
_LARGEST_REQUEST = 64 * 2**10
_LARGEST_ANSWER = 4 * 2**20
_MOST_CONNECTIONS = 32
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)


class ControlError(SacdError):
    """The daemon was not reached, or refused what was asked; the message says which, and what to do."""


class NotRunning(ControlError):
    """Nothing listens at the socket: no daemon runs with this configuration, or it has only begun to start."""


# ---- the daemon's side ------------------------------------------------------------------------------------------
class ControlServer:
    """Serves the socket at `path` from `start` to `close`."""

    def __init__(self, path: Path, handler: Handler, *, request_timeout_s: float = 5.0) -> None:
        """request_timeout_s: how long a client may take to send its request, and to take the answer."""
        self._path = path
        self._handler = handler
        self._timeout_s = request_timeout_s
        self._server: asyncio.Server | None = None
        self._identity: tuple[int, int] | None = None
        self._writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self) -> None:
        """Listen. Raises ConfigError when the path is too long, taken, or cannot be made into a socket."""
        _check_path(self._path)
        try:
            _clear(self._path)
            listener = _listen(self._path)
        except OSError as error:
            raise ConfigError(_unusable(self._path, error)) from error
        found = self._path.stat()
        self._identity = (found.st_dev, found.st_ino)
        self._server = await asyncio.start_unix_server(self._connected, sock=listener, limit=_LARGEST_REQUEST)

    async def close(self, grace_s: float = 1.0) -> None:
        """Stop listening, give requests under way `grace_s` seconds, remove the socket; idempotent."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        if _identity_of(self._path) == self._identity:  # not one that somebody put there since
            self._path.unlink(missing_ok=True)
        tasks = list(self._writers)
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not _is_allowed(writer.get_extra_info("socket")) or len(self._writers) >= _MOST_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._writers[task] = writer
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._writers.pop(task).transport.abort()
        if not task.cancelled() and (fault := task.exception()) is not None:
            # A fault in the handler: whoever started the loop logs it; the client sees the connection end.
            task.get_loop().call_exception_handler({"message": "control request failed", "exception": fault})

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                line = await reader.readline()
        except (TimeoutError, ConnectionError):
            return
        except ValueError:  # how a StreamReader says that the line is longer than its limit
            answer = _refusal(f"the request is longer than {_LARGEST_REQUEST} bytes")
        else:
            if not line:
                return  # somebody only looked whether we are there
            answer = await self._answer(line)
        await self._send(writer, answer)

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            verb, args = _parse(line)
            return {"ok": True, "result": await self._handler(verb, args)}
        except SacdError as error:
            return _refusal(str(error))

    async def _send(self, writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
        writer.write(json.dumps(answer, allow_nan=False).encode() + b"\n")
        writer.close()
        try:
            async with asyncio.timeout(self._timeout_s):
                await writer.wait_closed()
        except (TimeoutError, ConnectionError):
            return  # a client that does not want its answer: what it asked for is done all the same


def _check_path(path: Path) -> None:
    if (size := len(os.fsencode(path))) > _LONGEST_PATH:
        raise ConfigError(
            f"[control] socket {path}: {size} bytes are too long for a socket, {_LONGEST_PATH} are allowed: "
            "name a shorter path, such as /run/sacd/control.sock"
        )


def _clear(path: Path) -> None:
    """Remove the socket a killed daemon left behind. Raises ConfigError when it is anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"[control] socket {path}: there is something else: remove it, or name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except TimeoutError:
            pass  # somebody listens, however slow
    raise ConfigError(
        f"[control] socket {path}: a running sacd already listens there: stop it first, or give this one its own "
        "state_dir"
    )


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # On Linux the file gets its mode from the socket, so there is no moment at which others could connect.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(os.fspath(path))
        listener.listen(_MOST_CONNECTIONS)
    except OSError:
        listener.close()
        raise
    return listener


def _unusable(path: Path, error: OSError) -> str:
    remedies = {
        errno.ENOENT: f"make the directory {path.parent}",
        errno.EADDRINUSE: "another sacd has just started there: stop it",
    }
    remedy = remedies.get(error.errno or 0, "name a path in a directory that we may write to")
    return f"[control] socket {path}: cannot listen there ({error.strerror or error}): {remedy}"


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _is_allowed(connection: socket.socket) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    return uid in (0, os.geteuid())


def _parse(line: bytes) -> tuple[str, dict[str, Any]]:
    """Return verb and arguments of a request. Raises ControlError naming what is wrong with it."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlError('the request is not a line of JSON such as {"verb": "status"}') from None
    if not isinstance(request, dict) or set(request) - {"verb", "args"}:
        raise ControlError('the request is not an object with "verb" and, if needed, "args"')
    verb, args = request.get("verb"), request.get("args", {})
    if verb not in VERBS:
        raise ControlError(f"unknown verb {str(verb)[:40]!r}: known are {', '.join(VERBS)}")
    if not isinstance(args, dict):
        raise ControlError('"args" is not an object')
    return verb, args


def _refusal(message: str) -> dict[str, Any]:
    return {"ok": False, "error": message}


# ---- the client's side ------------------------------------------------------------------------------------------
async def call(path: Path, verb: str, args: Mapping[str, Any], timeout_s: float = 10.0) -> dict[str, Any]:
    """Return what the daemon listening at `path` answers to `verb`.

    args: JSON types.  timeout_s: for the whole exchange; what was asked may still happen after it is over.
    Raises NotRunning when nothing listens there, ControlError when a daemon does not answer or refuses, ConfigError
    when the path cannot be a socket.
    """
    _check_path(path)
    try:
        async with asyncio.timeout(timeout_s):
            line = await _exchange(path, json.dumps({"verb": verb, "args": dict(args)}).encode() + b"\n")
    except TimeoutError as error:
        raise ControlError(
            f"{path}: sacd did not answer `{verb}` within {timeout_s:g} s; see its log before asking again"
        ) from error
    except ConnectionRefusedError as error:
        raise NotRunning(f"{path}: no sacd is running there, it was killed: start it with `sacd run`") from error
    except FileNotFoundError as error:
        raise NotRunning(f"{path}: no sacd is running there: start it with `sacd run`") from error
    except PermissionError as error:
        raise ControlError(f"{path}: this sacd belongs to another user: ask as that user or as root") from error
    except ConnectionError:
        line = b""  # it ended the connection in the middle
    except OSError as error:
        reason = error.strerror or error
        raise ControlError(f"{path}: is no socket of sacd ({reason}): name the one it runs with") from error
    return _result(path, verb, line)


async def _exchange(path: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(os.fspath(path), limit=_LARGEST_ANSWER)
    try:
        writer.write(request)
        return await reader.readline()
    except ValueError:
        return b"?"  # longer than any answer of ours
    finally:
        writer.transport.abort()


def _result(path: Path, verb: str, line: bytes) -> dict[str, Any]:
    if not line:
        raise ControlError(
            f"{path}: sacd ended the connection without an answer to `{verb}`: it runs as another user, is busy, or "
            "failed; see its log"
        )
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    match answer:
        case {"ok": True, "result": dict() as result}:
            return result
        case {"ok": False, "error": str() as message}:
            raise ControlError(message)
        case _:
            raise ControlError(f"{path}: whatever listens there does not answer as sacd does")
