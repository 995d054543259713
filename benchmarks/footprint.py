"""What the paper daemon takes: resident memory after five seconds, and time from exec to READY, in fresh processes.

READY is the datagram that systemd would receive, taken from a socket of our own. With `source = "exchange"` the venue
is the tests' Binance on loopback, through ccxt's own class: what is measured is the program, not the network. Megabytes
are 10^6 bytes; VmRSS and VmHWM are the kernel's, of the daemon's only process. One start that is not measured comes
first, so that files lie in the page cache and bytecode is compiled, as from the second start of an installation on.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.result import Result
from daemon.journal_reader import read

_PROCESSES = 5
_SETTLE_S = 5.0
_PAST_S = 45.0
"""How long an account trades as fast as it can before it is resumed: tens of thousands of decisions."""
_PATIENCE_S = 60.0
_CHECKOUT = Path(__file__).resolve().parents[1]
_MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class _Start:
    """One process: seconds to READY, by the clock and on a core; bytes resident after settling, and at most."""

    ready_s: float
    busy_s: float
    resident: int
    peak: int


def run(*, quick: bool = False) -> list[Result]:
    """Return memory and time to READY for both kinds of market and a resumed account; takes about three minutes."""
    with tempfile.TemporaryDirectory(prefix="sacd-footprint-") as bytecode:
        common = {"PYTHONPYCACHEPREFIX": bytecode}
        simulated = _results("simulated market", {**common, "SACD_MARKET__SOURCE": "simulated"}, 90.0, 1.5, quick=quick)
        resumed = _resumed({**common, "SACD_MARKET__SOURCE": "simulated"}, quick=quick)
        with _venue() as settings:
            exchange = _results("exchange on loopback", {**common, **settings}, 150.0, 4.0, quick=quick)
    return [*simulated, *resumed, *exchange]


def _resumed(settings: Mapping[str, str], *, quick: bool) -> list[Result]:
    """Measure starts of an account that has a long journal behind it, each of them a resume of the same one."""
    with tempfile.TemporaryDirectory(prefix="sacd-footprint-") as name:
        kept = {**settings, "SACD_DAEMON__STATE_DIR": name}
        _start({**kept, "SACD_MARKET__CANDLES_PER_SECOND": "0"}, 2.0 if quick else _PAST_S)
        decisions = sum(1 for path in Path(name).glob("*.sqlite") for _ in read(path, kinds={"decision"}))
        return _results(f"account of {decisions} decisions resumed", kept, 90.0, 1.5, quick=quick)


def _results(
    market: str, settings: Mapping[str, str], most_megabytes: float, most_s: float, *, quick: bool
) -> list[Result]:
    settle_s = 0.5 if quick else _SETTLE_S
    _start(settings, 0.0)
    starts = [_start(settings, settle_s) for _ in range(1 if quick else _PROCESSES)]
    resident = [start.resident / _MEGABYTE for start in starts]
    peak, busy_s = max(start.peak for start in starts) / _MEGABYTE, median(start.busy_s for start in starts)
    return [
        _result(
            f"memory, {market}",
            resident,
            most_megabytes,
            unit=f"MB resident after {settle_s:g} s",
            more=f"peak {peak:.1f} MB",
        ),
        _result(
            f"start, {market}",
            [start.ready_s for start in starts],
            most_s,
            unit="s to READY",
            more=f"{busy_s:.2f} s of them on a core, load {os.getloadavg()[0]:.1f}",
        ),
    ]


def _result(name: str, figures: list[float], limit: float, *, unit: str, more: str) -> Result:
    spread = f"{len(figures)} processes, {min(figures):.3g} .. {max(figures):.3g}"
    return Result(
        name=name,
        ratio=median(figures) / limit,
        target=1.0,
        better="lower",
        ours=f"{median(figures):.3g} {unit}",
        reference=f"the limit of {limit:g}",
        note=f"{spread}; {more}",
    )


# ---- the daemon -------------------------------------------------------------------------------------------------
def _start(settings: Mapping[str, str], settle_s: float) -> _Start:
    """Start a daemon, wait for READY, let it run for `settle_s`, measure it and end it.

    Its journal is empty unless `settings` name a state directory.
    """
    with tempfile.TemporaryDirectory(prefix="sacd-footprint-") as name:
        directory = Path(name)
        with _notified(directory / "notify") as listener, (directory / "log").open("w+") as log:
            started_s = time.perf_counter()
            daemon = subprocess.Popen(
                [Path(sys.executable).with_name("sacd"), "run", "--config", _CHECKOUT / "config.toml"],
                env=_environment(directory, settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                ready_s = _await_ready(listener, daemon, log.name) - started_s
                busy_s = _processor_s(daemon.pid)
                time.sleep(settle_s)
                memory = _memory(daemon.pid)
            finally:
                daemon.send_signal(signal.SIGINT)
                daemon.wait(_PATIENCE_S)
    return _Start(ready_s, busy_s, memory["VmRSS"], memory["VmHWM"])


def _environment(directory: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what would make the daemon another one, plus `settings`."""
    odd = ("SACD_", "PYTHON")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(odd)}
    return {
        **inherited,
        "NOTIFY_SOCKET": str(directory / "notify"),
        "SACD_DAEMON__STATE_DIR": str(directory / "state"),
        "SACD_HTTP__PORT": "0",
        **settings,
    }


@contextmanager
def _notified(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(0.2)
        yield listener


def _await_ready(listener: socket.socket, daemon: subprocess.Popen[bytes], log: str) -> float:
    """Return the time at which READY came. Raises RuntimeError with the daemon's log when it ends or stays silent."""
    give_up_s = time.perf_counter() + _PATIENCE_S
    while time.perf_counter() < give_up_s and daemon.poll() is None:
        try:
            message = listener.recv(4_096)
        except TimeoutError:
            continue
        if message.startswith(b"READY=1"):
            return time.perf_counter()
    raise RuntimeError(f"the daemon did not become ready; its log:\n{Path(log).read_text()}")


def _processor_s(pid: int) -> float:
    """Return the seconds that all threads of a process have had a core."""
    # The name of the command, in brackets, may hold spaces; user and system time are fields 14 and 15 of the line.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


# ---- the venue --------------------------------------------------------------------------------------------------
@contextmanager
def _venue() -> Iterator[dict[str, str]]:
    """Run the tests' Binance with enough history for a full window; yields the settings that lead there."""
    command = [sys.executable, "-m", "tests.fakes.binance", "--port", "0", "--timeframe", "1h", "--candles", "3000"]
    with subprocess.Popen([*command, "--every", "1"], cwd=_CHECKOUT, stdout=subprocess.PIPE, text=True) as venue:
        try:
            options = json.loads(_json_text(venue.stdout or ()))
            yield {"SACD_MARKET__SOURCE": "exchange", **dict(_settings("SACD_EXCHANGE__CCXT", options))}
        finally:
            venue.terminate()


def _json_text(lines: Iterable[str]) -> str:
    """Return what the venue prints first: an object over several lines, closed by a brace of its own."""
    text = ""
    for line in lines:
        text += line
        if line == "}\n":
            return text
    raise RuntimeError(f"the venue ended before it said where it is: {text!r}")


def _settings(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the environment variables that set nested values of the configuration."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(f"{prefix}__{key}", value)
        else:
            yield f"{prefix}__{key}", str(value)
