"""Every line is whole, redacted and on time; a log nobody reads costs nothing but its own lines."""

import asyncio
import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from daemon.logs import Logs, RotatingFile, configure_logging
from daemon.redact import MASK, Redactor

NOW_MS = 1_640_995_200_123  # 2022-01-01T00:00:00.123Z
STAMP = "2022-01-01T00:00:00.123Z"
CANARY = "cAnArY-7f3e9b2a"

Configure = Callable[..., Logs]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Configure logging for one test and leave none of it behind."""
    root = logging.getLogger()
    root_level = root.level
    made: list[Logs] = []

    def make(stream: Any, **changes: Any) -> Logs:
        for other in root.handlers[:]:
            if "pytest" in type(other).__module__:  # pytest's own raise where a program's would not
                root.removeHandler(other)
        settings = {"level": "debug", "form": "json", "now_ms": lambda: NOW_MS, "redactor": Redactor([CANARY])}
        made.append(configure_logging(stream=stream, **{**settings, **changes}))
        return made[-1]

    yield make
    for logs in made:
        logs.close(0.2)
    root.setLevel(root_level)
    logging.getLogger("ccxt.base.exchange").setLevel(logging.NOTSET)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_holds_time_level_event_and_fields(configure: Configure) -> None:
    stream = io.StringIO()
    logs = configure(stream)
    structlog.get_logger().info("candle", symbol="BTC/USDT", close=42_000.5)
    assert logs.close()
    assert lines_of(stream) == [
        {"timestamp": STAMP, "level": "info", "event": "candle", "symbol": "BTC/USDT", "close": 42_000.5}
    ]


def test_a_console_line_is_readable_and_stays_one_line(configure: Configure) -> None:
    stream = io.StringIO()
    logs = configure(stream, form="console")
    structlog.get_logger().warning("venue_said", text="a\nFAKE line \x1b[31m", symbol="BTC/USDT", n=3, empty="")
    logs.close()
    expected = f'{STAMP} warning venue_said text="a\\nFAKE line \\u001b[31m" symbol=BTC/USDT n=3 empty=""\n'
    assert stream.getvalue() == expected


@pytest.mark.parametrize(("is_terminal", "first"), [(True, "2"), (False, "{")])
def test_auto_is_for_people_on_a_terminal_and_for_programs_elsewhere(
    configure: Configure, is_terminal: bool, first: str
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    stream = Terminal()
    logs = configure(stream, form="auto")
    structlog.get_logger().info("started")
    logs.close()
    assert stream.getvalue().startswith(first)


def test_bound_and_context_fields_are_kept(configure: Configure) -> None:
    stream = io.StringIO()
    logs = configure(stream)
    structlog.contextvars.bind_contextvars(instance="paper")
    structlog.get_logger().bind(symbol="ETH/USDT").error("refused")
    logs.close()
    assert lines_of(stream)[0].items() >= {"instance": "paper", "symbol": "ETH/USDT", "level": "error"}.items()


@pytest.mark.parametrize(
    ("level", "heard"), [("debug", "dbug inform warn err"), ("warning", "warn err"), ("error", "err")]
)
def test_what_is_below_the_level_is_not_written_from_either_source(
    configure: Configure, level: str, heard: str
) -> None:
    stream = io.StringIO()
    logs = configure(stream, level=level)
    for logger in (structlog.get_logger(), logging.getLogger("aiohttp.client")):
        logger.debug("dbug")
        logger.info("inform")
        logger.warning("warn")
        logger.error("err")
    logs.close()
    assert [line["event"] for line in lines_of(stream)] == heard.split() * 2


def test_another_level_holds_at_once_for_both_sources_and_for_loggers_that_are_there_already(
    configure: Configure,
) -> None:
    stream = io.StringIO()
    logs = configure(stream, level="info")
    ours, theirs = structlog.get_logger(), logging.getLogger("aiohttp.client")
    bound = ours.bind(part="x")
    for level in ("error", "debug"):
        logs.set_level(level)
        for logger in (ours, theirs):
            logger.debug("low")
            logger.error("high")
    bound.info("bound before the change")
    logs.close()
    shown = [line["event"] for line in lines_of(stream)]
    assert shown == ["high"] * 2 + ["low", "high"] * 2 + ["bound before the change"]
    assert not logging.getLogger("ccxt.base.exchange").isEnabledFor(logging.DEBUG)


def test_the_standard_librarys_logging_takes_the_same_way(configure: Configure) -> None:
    stream = io.StringIO()
    logs = configure(stream)
    logging.getLogger("asyncio").error("task %s failed", "feed")
    logs.close()
    assert lines_of(stream) == [
        {"timestamp": STAMP, "level": "error", "event": "task feed failed", "logger": "asyncio"}
    ]


def test_warnings_are_logged(configure: Configure) -> None:
    stream = io.StringIO()
    logs = configure(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old option", DeprecationWarning, stacklevel=1)
    logs.close()
    assert "old option" in lines_of(stream)[0]["event"]


async def test_an_error_lost_in_a_task_is_logged_without_its_secret(configure: Configure) -> None:
    stream = io.StringIO()
    logs = configure(stream)

    def fail() -> None:
        raise ConnectionError(f"https://x/y?signature={CANARY}")

    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0.01)
    logs.close()
    text = stream.getvalue()
    assert "ConnectionError" in text
    assert CANARY not in text


def open_account(key: str) -> None:
    raise PermissionError(f'binance {{"code":-2015}} apiKey {key}')


def leak_everywhere(logger: Any, standard: logging.Logger) -> None:
    logger.info(
        "request", headers={"X-MBX-APIKEY": CANARY, "nested": [{"secret": CANARY}]}, url=f"u?signature={CANARY}"
    )
    event = f"in the event {CANARY}"
    logger.info(event, **{CANARY: "in a key"})
    standard.warning("binance GET https://api/v3/order?signature=%s %s", CANARY, {"apiKey": CANARY})
    standard.warning("badly formatted %d %d", CANARY)
    standard.warning("badly formatted %(key)s", {"other": CANARY})
    try:
        open_account(CANARY)
    except PermissionError:
        logger.exception("order_failed", cause=PermissionError(CANARY))
        standard.exception("failed")


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_way_of_logging_leaks_a_secret(configure: Configure, form: str, capfd: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logs = configure(stream, form=form)
    leak_everywhere(structlog.get_logger(), logging.getLogger("ccxt.base.exchange"))
    logs.close()
    text = stream.getvalue()
    assert CANARY not in text
    assert CANARY not in "".join(capfd.readouterr())
    assert MASK in text
    assert text.count("PermissionError") >= 3
    assert text.count("could not be formatted") == 2


@pytest.mark.parametrize("is_lowered_later", [False, True])
def test_ccxt_cannot_be_made_to_log_its_headers(configure: Configure, is_lowered_later: bool) -> None:
    stream = io.StringIO()
    logs = configure(stream, level="debug")
    logger = logging.getLogger("ccxt.base.exchange")
    if is_lowered_later:
        logger.setLevel(logging.DEBUG)
    logger.debug("GET https://api, Request: %s", {"headers": "all of them"})
    logger.info("heard")
    logs.close()
    assert [line["event"] for line in lines_of(stream)] == ["heard"]


def test_configuring_again_does_not_write_lines_twice(configure: Configure) -> None:
    first, second = io.StringIO(), io.StringIO()
    configure(first)
    logs = configure(second)
    logging.getLogger("x").info("once")
    structlog.get_logger().info("once")
    logs.close()
    assert (len(lines_of(first)), len(lines_of(second))) == (0, 2)


def test_lines_of_many_threads_stay_whole_and_in_each_threads_order(configure: Configure) -> None:
    stream = io.StringIO()
    logs = configure(stream)

    def work(name: int) -> None:
        logger = structlog.get_logger()
        for number in range(200):
            logger.info("step", thread=name, number=number)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logs.close(5.0)
    lines = lines_of(stream)
    assert len(lines) == 800
    for name in range(4):
        assert [line["number"] for line in lines if line["thread"] == name] == list(range(200))


class StuckPipe:
    """A pipe that is full, and whose reader does not read until told to."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"#" * 4_096)
        os.set_blocking(writer, True)
        self.stream = os.fdopen(writer, "w")
        self._read = b""

    def drain(self, is_enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Read until the lines, without what filled the pipe, are enough."""
        lines: list[dict[str, Any]] = []
        while not is_enough(lines):
            self._read += os.read(self.reader, 65_536)
            whole = self._read[: self._read.rfind(b"\n") + 1]
            lines = [json.loads(line) for line in whole.decode().lstrip("#").splitlines()]
        return lines

    def close(self) -> None:
        os.close(self.reader)
        self.stream.close()


@pytest.fixture
def pipe() -> Iterator[StuckPipe]:
    made = StuckPipe()
    yield made
    made.close()


@pytest.mark.fault(71)
def test_a_stuck_pipe_delays_nobody_and_the_loss_is_told(configure: Configure, pipe: StuckPipe) -> None:
    logs = configure(pipe.stream, capacity=50)
    logger = structlog.get_logger()
    slowest = 0.0
    for number in range(3_000):
        began = time.perf_counter()
        logger.info("candle", number=number)
        slowest = max(slowest, time.perf_counter() - began)
    assert slowest < 1.0  # a blocking write would last until somebody reads, that is for ever
    dropped = logs.dropped
    assert 3_000 - 51 <= dropped <= 3_000 - 50  # the queue holds 50, the writer may hold one more
    lines = pipe.drain(lambda lines: any(line["event"] == "log_lines_dropped" for line in lines))
    numbers = [line["number"] for line in lines if line["event"] == "candle"]
    assert numbers == sorted(numbers)
    assert lines[-1].items() >= {"event": "log_lines_dropped", "level": "warning", "count": dropped}.items()
    assert len(numbers) + dropped == 3_000
    logger.info("after")
    assert logs.close()
    assert pipe.drain(lambda lines: lines[-1:] != [] and lines[-1]["event"] == "after")


def test_close_gives_up_on_a_stuck_pipe_within_its_bound(configure: Configure, pipe: StuckPipe) -> None:
    logs = configure(pipe.stream, capacity=5)
    for _ in range(10):
        structlog.get_logger().info("candle")
    began = time.monotonic()
    assert not logs.close(0.3)
    assert time.monotonic() - began < 2.0
    before = logs.dropped
    structlog.get_logger().info("too late")
    assert logs.dropped == before + 1


def test_a_reader_that_went_away_costs_lines_only(configure: Configure) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        logs = configure(stream)
        structlog.get_logger().info("nobody hears this")
        assert logs.close()
        assert logs.dropped == 1


def test_characters_the_stream_cannot_say_are_escaped(configure: Configure, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as stream:
        logs = configure(stream)
        structlog.get_logger().info("venue_said", text="\udcff ü")
        logs.close()
    assert json.loads((tmp_path / "log").read_text("utf-8").replace("\\udcff", "?"))["text"] == "? ü"


PROGRAM = """
import sys, structlog
from daemon.logs import configure_logging
from daemon.redact import Redactor
logs = configure_logging(level="info", form="json", stream=sys.stdout, now_ms=lambda: 0, redactor=Redactor())
for _ in range(5000):
    structlog.get_logger().info("candle", padding="x" * 200)
print("closed", logs.close(0.5), file=sys.stderr)
"""


@pytest.mark.fault(71)
def test_a_process_with_a_stuck_standard_output_still_ends_cleanly() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        # Only standard error is read: standard output stays full until the process has ended.
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b"closed False\n"


# ---- the file beside the journal ---------------------------------------------------------------------------------
def test_a_log_file_keeps_two_files_of_the_given_size(tmp_path: Path) -> None:
    path = tmp_path / "paper.log"
    with RotatingFile(path, most_bytes=30) as file:
        for n in range(10):
            file.write(f"line {n:04}\n")  # 10 bytes: three fill a file
            assert all(each.stat().st_size <= 30 for each in tmp_path.iterdir())
    assert {each.name for each in tmp_path.iterdir()} == {"paper.log", "paper.log.1"}
    assert path.read_text() == "line 0009\n"
    assert (tmp_path / "paper.log.1").read_text() == "line 0006\nline 0007\nline 0008\n"


def test_a_log_file_goes_on_where_the_last_run_left_it(tmp_path: Path) -> None:
    path = tmp_path / "paper.log"
    path.write_text("an earlier run\n")
    with RotatingFile(path, most_bytes=30) as file:
        file.write("fits behind it\n")
        assert path.read_text() == "an earlier run\nfits behind it\n"
        file.write("x\n")
    assert path.read_text() == "x\n"


def test_a_line_longer_than_a_log_file_is_kept_whole(tmp_path: Path) -> None:
    with RotatingFile(tmp_path / "paper.log", most_bytes=4) as file:
        file.write("\u00e9" * 20 + "\n")
    assert (tmp_path / "paper.log").read_bytes() == b"\xc3\xa9" * 20 + b"\n"


def test_a_log_file_that_cannot_be_changed_loses_lines_and_recovers(configure: Configure, tmp_path: Path) -> None:
    path = tmp_path / "paper.log"
    path.write_text("full")
    in_the_way = tmp_path / "paper.log.1"
    in_the_way.mkdir()  # a file cannot take the place of a directory
    stream = RotatingFile(path, most_bytes=4)
    with pytest.raises(IsADirectoryError):
        stream.write("lost\n")
    in_the_way.rmdir()
    logs = configure(stream)
    structlog.get_logger().info("candle")
    assert logs.close()
    stream.close()
    assert json.loads(path.read_text()) == {"timestamp": STAMP, "level": "info", "event": "candle"}
    assert (tmp_path / "paper.log.1").read_text() == "full"
