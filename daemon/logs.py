"""Structured logging: one line per event, from our code and from every library, without secrets, without waiting.

A line is made where it is logged and handed to a thread that writes it, through a queue that drops and counts when the
reader of the log stands still: a full pipe must not delay a decision. Redaction is the last step before the text.
"""

import contextlib
import io
import json
import logging
import os
import queue
import select
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TextIO

import structlog

from daemon.redact import Redactor

LogFormat = Literal["auto", "console", "json"]
Level = Literal["debug", "info", "warning", "error"]

_TALKATIVE: Final = "ccxt.base.exchange"
"""This logger prints headers with the API key when it is allowed to say DEBUG."""
_CLOSE_TIMEOUT_S = 2.0
_STANDARD_ERROR: Final = 2  # not sys.stderr, whose lock a thread that is stuck would hold
_MOST_BYTES = 10_000_000
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/+@%,()[]*<>")


class RotatingFile(io.TextIOBase):
    """A log file that stays small: at `most_bytes` it becomes `NAME.1`, in place of the one before, and begins anew.

    path: appended to when it exists.  A line longer than `most_bytes` gets a file of its own.
    Raises OSError when it cannot be opened or written; the next write tries again.
    """

    def __init__(self, path: Path, most_bytes: int = _MOST_BYTES) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._file = self._open()

    def write(self, text: str) -> int:
        """Write to disk at once, without a buffer; a text is never cut in two by the change of files."""
        data = text.encode("utf-8", "backslashreplace")
        if self._file.closed:
            self._file = self._open()
        if 0 < self._file.tell() > self._most_bytes - len(data):
            self._file.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._file = self._open()
        while data:
            data = data[self._file.write(data) :]
        return len(text)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()
        super().close()

    def _open(self) -> io.FileIO:
        return self._path.open("ab", buffering=0)


LogStream = TextIO | RotatingFile
"""Where lines go: a standard stream, or a file of our own."""


class LogWriter:
    """Writes lines to a stream from a thread of its own; a line that finds the queue full is dropped and counted.

    The first time a standard stream refuses a line, standard error is told so.
    dropped_line: makes the line that says how many were dropped, once there is room again.
    """

    def __init__(self, stream: LogStream, dropped_line: Callable[[int], str], capacity: int) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(maxsize=capacity)
        self._stream = stream
        self._descriptor = _descriptor_of(stream)
        self._dropped_line = dropped_line
        self._lock = threading.Lock()
        self._dropped = 0
        self._told = 0
        self._is_loss_told = False
        self._is_abandoned = False
        # A daemon thread: a reader that never reads again must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that were lost, because the queue was full or the stream refused them."""
        return self._dropped

    def write(self, line: str) -> None:
        """Take one line without its newline; returns at once."""
        if self._is_abandoned:
            self._count(1)
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._count(1)

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> bool:
        """Write what is queued, for at most `timeout_s`; return whether all of it was written. Idempotent."""
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._lines.put(None, timeout=timeout_s / 2)
            self._thread.join(timeout_s / 2)
        is_written = not self._thread.is_alive()
        self._is_abandoned = True
        return is_written

    def _run(self) -> None:
        while (line := self._lines.get()) is not None and not self._is_abandoned:
            self._put_out(line)
            if self._lines.empty():
                self._tell_dropped()
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        missing = self._dropped - self._told
        if missing:
            self._told += missing
            self._put_out(self._dropped_line(missing))

    def _put_out(self, line: str) -> None:
        try:
            if self._descriptor is None:
                self._stream.write(f"{line}\n")
                self._stream.flush()
            else:
                _write_all(self._descriptor, f"{line}\n".encode("utf-8", "backslashreplace"))
        except (OSError, ValueError) as error:  # the reader went away, the disk is full, the stream was closed
            self._count(1)
            self._told += 1  # a stream that takes nothing cannot be told about it either
            self._tell_elsewhere(error)

    def _tell_elsewhere(self, error: Exception) -> None:
        # Only of a standard stream: with a file of our own, standard error may be the screen.
        if self._is_loss_told or self._descriptor is None or not isinstance(error, OSError):
            return
        self._is_loss_told = True
        told = f"sacd: the log cannot be written ({error.strerror}); the daemon goes on without it\n"
        with contextlib.suppress(OSError):  # standard error may have gone the same way
            _write_all(_STANDARD_ERROR, told.encode())

    def _count(self, lines: int) -> None:
        with self._lock:
            self._dropped += lines


def _descriptor_of(stream: LogStream) -> int | None:
    # Writing to the descriptor leaves the stream's own lock alone: a thread that is stuck in a write while holding it
    # makes the interpreter abort when it flushes the standard streams on its way out.
    try:
        stream.flush()
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # a terminal that another program made non-blocking
            select.select([], [descriptor], [], 1.0)


class Logs:
    """Logging as configured: closes it, and tells how many lines were lost."""

    def __init__(self, writer: LogWriter, handler: logging.Handler) -> None:
        self._writer = writer
        self._handler = handler

    @property
    def dropped(self) -> int:
        """Lines that were lost because the log could not be written fast enough, or at all."""
        return self._writer.dropped

    def set_level(self, level: Level) -> None:
        """Write nothing less severe than `level` from here on."""
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
        _set_standard_level(level)

    def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> bool:
        """Write what is queued within `timeout_s`; return whether all of it was written. Idempotent."""
        logging.getLogger().removeHandler(self._handler)
        logging.captureWarnings(capture=False)
        return self._writer.close(timeout_s)


def configure_logging(
    *,
    level: Level,
    form: LogFormat,
    stream: LogStream,
    now_ms: Callable[[], int],
    redactor: Redactor,
    capacity: int = 10_000,
) -> Logs:
    """Send structlog, the standard library's logging and warnings to `stream`, one line per event.

    level: the least severe that is written.  form: "json", "console" (time, level, event, key=value), or "auto":
    console on a terminal, JSON otherwise.  now_ms: the clock, milliseconds UTC.  capacity: lines that may wait for a
    slow reader; beyond it lines are dropped and counted.  Close what is returned before the process ends.
    """
    render = _console_line if form == "console" or (form == "auto" and stream.isatty()) else _json_line
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _timestamper(now_ms),
        structlog.processors.format_exc_info,
        _redaction(redactor),
    ]
    writer = LogWriter(stream, lambda count: render(_dropped_event(now_ms(), count)), capacity)
    structlog.configure(
        processors=[*shared, lambda _logger, _method, event: render(event)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _LineLogger(writer),
        cache_logger_on_first_use=False,
    )
    handler = _Bridge(writer, shared, render)
    _route_standard_logging(handler, level)
    return Logs(writer, handler)


def _route_standard_logging(handler: logging.Handler, level: Level) -> None:
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Bridge)]:
        root.removeHandler(old)
    root.addHandler(handler)
    _set_standard_level(level)
    logging.captureWarnings(capture=True)


def _set_standard_level(level: Level) -> None:
    root = logging.getLogger()
    root.setLevel(level.upper())
    logging.getLogger(_TALKATIVE).setLevel(max(logging.INFO, root.level))


class _LineLogger:
    """What structlog hands finished lines to; all levels are one."""

    def __init__(self, writer: LogWriter) -> None:
        self._write = writer.write

    def _line(self, line: str) -> None:
        self._write(line)

    debug = info = warning = error = critical = msg = log = _line


class _Bridge(logging.Handler):
    """Takes the records of the standard library's logging through the same steps."""

    def __init__(
        self,
        writer: LogWriter,
        processors: Sequence[structlog.typing.Processor],
        render: Callable[[Mapping[str, Any]], str],
    ) -> None:
        super().__init__()
        self._writer = writer
        self._processors = processors
        self._render = render

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _TALKATIVE and record.levelno < logging.INFO:
            return  # whoever lowered its level meanwhile
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError) as error:
            # logging itself would print the arguments, whatever they hold, to standard error.
            message = f"a log message of {record.name} could not be formatted: {type(error).__name__}"
        event: MutableMapping[str, Any] = {"event": message, "logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            event["exc_info"] = record.exc_info
        for process in self._processors:
            processed = process(None, record.levelname.lower(), event)
            event = processed if isinstance(processed, MutableMapping) else event
        self._writer.write(self._render(event))


# ---- the steps -------------------------------------------------------------------------------------------------
def _timestamper(now_ms: Callable[[], int]) -> structlog.typing.Processor:
    def stamp(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["timestamp"] = _iso(now_ms())
        return event

    return stamp


def _iso(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms // 1_000, tz=UTC).replace(microsecond=at_ms % 1_000 * 1_000)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1_000:03d}Z"


def _redaction(redactor: Redactor) -> structlog.typing.Processor:
    def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        masked = redactor.value(event)
        return masked if isinstance(masked, dict) else {"event": masked}

    return redact


def _dropped_event(now_ms: int, count: int) -> dict[str, Any]:
    return {"event": "log_lines_dropped", "level": "warning", "timestamp": _iso(now_ms), "count": count}


# ---- the forms -------------------------------------------------------------------------------------------------
def _json_line(event: Mapping[str, Any]) -> str:
    first = {key: event[key] for key in ("timestamp", "level", "event") if key in event}
    return json.dumps({**first, **event}, ensure_ascii=False, separators=(",", ":"))


def _console_line(event: Mapping[str, Any]) -> str:
    rest = dict(event)
    head = (rest.pop("timestamp", ""), f"{rest.pop('level', ''):<7}", _on_one_line(str(rest.pop("event", ""))))
    trace = rest.pop("exception", None)
    line = " ".join((*head, *(f"{_console_value(key)}={_console_value(value)}" for key, value in rest.items())))
    if trace is None:
        return line
    return "\n".join((line, *(f"    {_on_one_line(row)}" for row in str(trace).splitlines())))


def _console_value(value: object) -> str:
    if isinstance(value, str):
        return value if value and _BARE.issuperset(value) else json.dumps(value, ensure_ascii=not value.isprintable())
    return json.dumps(value, ensure_ascii=False)


def _on_one_line(text: str) -> str:
    # A venue's text must neither forge a second line nor command the terminal.
    return text if text.isprintable() else json.dumps(text)[1:-1]
