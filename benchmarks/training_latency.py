"""How long a decision takes while a retraining uses every core, against the same daemon with the machine to itself.

One daemon runs all along, on the simulated market and a journal on this disk, and is handed a candle time forty times a
second (benchmarks/watched_daemon.py). Beside it stand two trainings that learn and write checkpoints to the same disk
(benchmarks/training_load.py): one was started as the daemon starts a retraining, through daemon/limited.py, the other
without any limits, which shows what those are for. Both are held still by a signal but for the phases that are theirs,
so that idle and training take turns within one run, some rounds of each.

A decision counts from the moment its candle is handed to the process until it is on disk. `python -m
benchmarks.training_latency` prints the quantiles as well, and takes other lengths.
"""

import argparse
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from benchmarks.latencies import Array, Samples, quantile, ratio_of, table
from benchmarks.result import Result
from benchmarks.training_load import LEARNS
from benchmarks.watched_daemon import BEAT
from daemon.retrain_child import trainer_environment

_CHECKOUT = Path(__file__).resolve().parents[1]
_TARGET = 2.0
_SHARE = 0.99
_SETTLE_S = 3.0
"""Of each phase, before its decisions count: what the former one left to the disk and the caches is gone by then."""
_PATIENCE_S = 120.0
Load = subprocess.Popen[bytes]
Launch = Callable[[list[str], Path], list[str]]
IDLE, LIMITED, FREE = "idle", "training with limits", "training without limits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long it is measured. pace: candle times a second.  phase_s: of each kind, in each of the rounds."""

    rounds: int
    phase_s: float
    pace: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What was seen in one phase. busy: cores at work on the whole machine, on average."""

    samples: Samples
    busy: float


Phases = Mapping[str, Sequence[Phase]]
_USUAL = Lengths(rounds=5, phase_s=25.0, pace=40.0)
_QUICK = Lengths(rounds=1, phase_s=2.0, pace=40.0)


def run(*, quick: bool = False) -> list[Result]:
    """Return the results with limits and without; takes about eight minutes."""
    return results(measure(_QUICK if quick else _USUAL))


def measure(lengths: Lengths) -> Phases:
    """Return the phases of each kind, round by round."""
    # Below the checkout, for /tmp may be no disk.
    with tempfile.TemporaryDirectory(dir=_CHECKOUT, prefix=".latency-") as name, ExitStack() as stack:
        directory = Path(name)
        loads = {
            LIMITED: stack.enter_context(_load(directory / "limited", _limited)),
            FREE: stack.enter_context(_load(directory / "free", _free)),
        }
        daemon = stack.enter_context(_daemon(directory))
        spans = _phases(daemon, loads, lengths)
        samples = _notes(daemon, directory)
    return {
        kind: [Phase(samples=samples.between(start_s, end_s), busy=busy) for start_s, end_s, busy in spans[kind]]
        for kind in spans
    }


def results(phases: Phases) -> list[Result]:
    """Return one result per kind of training."""
    return [_result(phases, kind) for kind in phases if kind != IDLE]


def _result(phases: Phases, kind: str) -> Result:
    loaded, idle = _totals(phases[kind]), _totals(phases[IDLE])
    ratio = ratio_of(loaded, idle, _SHARE)
    return Result(
        name=f"p99 of decisions, {kind}",
        ratio=ratio.value,
        target=_TARGET,
        better="lower",
        ours=f"{_p99_ms(loaded):.2f} ms, {_busy(phases[kind])} cores busy",
        reference=f"{_p99_ms(idle):.2f} ms idle, {_busy(phases[IDLE])} busy",
        note=f"95 % interval {ratio.low:.3g} .. {ratio.high:.3g} over {len(idle)} rounds, "
        f"{sum(map(len, idle)):,} decisions idle",
    )


def _totals(phases: Sequence[Phase]) -> list[Array]:
    return [phase.samples.total_s for phase in phases]


def _p99_ms(rounds: Sequence[Array]) -> float:
    return 1e3 * quantile(rounds, _SHARE)


def _busy(phases: Sequence[Phase]) -> str:
    return f"{np.mean([phase.busy for phase in phases]):.1f} of {len(os.sched_getaffinity(0))}"


# ---- the phases -------------------------------------------------------------------------------------------------
def _phases(
    daemon: subprocess.Popen[bytes], loads: Mapping[str, Load], lengths: Lengths
) -> dict[str, list[tuple[float, float, float]]]:
    """Beat for the daemon through all phases; returns start, end and busy cores of each phase by kind."""
    kinds = [IDLE, *loads]
    spans: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in kinds}
    for number in range(lengths.rounds):
        # Each round turns the order round: what grows with time falls on all kinds alike.
        for kind in kinds if number % 2 == 0 else reversed(kinds):
            with _going(loads.get(kind)):
                _beat(daemon, lengths.pace, _SETTLE_S)
                start_s, busy_s = time.monotonic(), _busy_s()
                _beat(daemon, lengths.pace, lengths.phase_s)
                end_s = time.monotonic()
                spans[kind].append((start_s, end_s, (_busy_s() - busy_s) / (end_s - start_s)))
    return spans


@contextmanager
def _going(load: Load | None) -> Iterator[None]:
    """Let a training go on for the while."""
    if load is not None:
        os.killpg(load.pid, signal.SIGCONT)
    yield
    if load is not None:
        if load.poll() is not None:
            raise RuntimeError(f"the training ended with {load.returncode}; its errors stand above")
        os.killpg(load.pid, signal.SIGSTOP)


def _beat(daemon: subprocess.Popen[bytes], pace: float, seconds: float) -> None:
    """Hand the daemon a candle time at an even pace; each beat says when it was sent."""
    pipe, start_s = cast("IO[bytes]", daemon.stdin), time.monotonic()
    for beat in itertools.count(1):
        due_s = start_s + beat / pace
        if due_s > start_s + seconds:
            return
        time.sleep(max(0.0, due_s - time.monotonic()))
        pipe.write(BEAT.pack(time.monotonic()))
        pipe.flush()


def _busy_s() -> float:
    """Return the seconds that all cores together have been at work since the machine started."""
    with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123 - its first line
        user, nice, system, _idle, _waiting, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


# ---- the processes ----------------------------------------------------------------------------------------------
@contextmanager
def _load(directory: Path, launch: Launch) -> Iterator[Load]:
    """Run a training in `directory` that learns by now and is held still. launch: returns the command that runs it."""
    directory.mkdir()
    log = directory / "log"
    process = subprocess.Popen(
        launch([sys.executable, "-m", "benchmarks.training_load", str(directory)], log),
        cwd=_CHECKOUT,
        env=trainer_environment(os.environ),
        stdin=subprocess.PIPE,  # its end is how the launcher would hear of ours
        stdout=subprocess.DEVNULL,
        process_group=0,  # as daemon/retrain_child.py does, which says why it is no session
    )
    try:
        _await_learning(process, log)
        os.killpg(process.pid, signal.SIGSTOP)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        cast("IO[bytes]", process.stdin).close()


def _limited(command: list[str], log: Path) -> list[str]:
    return [sys.executable, "-m", "daemon.limited", "--log", str(log), "--memory-mib", "4096", "--", *command]


def _free(command: list[str], log: Path) -> list[str]:
    return ["sh", "-c", 'exec "$@" >"$0" 2>&1', str(log), *command]


def _await_learning(process: Load, log: Path) -> None:
    give_up_s, wanted = time.monotonic() + _PATIENCE_S, len(os.sched_getaffinity(0))
    while time.monotonic() < give_up_s and process.poll() is None:
        if log.exists() and log.read_text().splitlines().count(LEARNS) == wanted:
            return
        time.sleep(0.1)
    raise RuntimeError(f"the training does not learn; its log:\n{log.read_text() if log.exists() else ''}")


@contextmanager
def _daemon(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon that has decided by now."""
    files = ["--config", str(_CHECKOUT / "config.toml"), "--out", str(directory / "notes")]
    with (directory / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.watched_daemon", *files],
            cwd=_CHECKOUT,
            env=_environment(directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        _beat(daemon, 1.0, 1.0)
        if cast("IO[bytes]", daemon.stdout).readline() != b"decided\n":
            raise RuntimeError(f"the daemon did not decide; its log:\n{(directory / 'log').read_text()}")
        yield daemon
    finally:
        daemon.kill()
        daemon.wait()
        for pipe in (daemon.stdin, daemon.stdout):
            cast("IO[bytes]", pipe).close()


def _environment(directory: Path) -> dict[str, str]:
    odd = ("SACD_", "NOTIFY_SOCKET")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(odd)},
        "OPENBLAS_NUM_THREADS": "1",
        "SACD_DAEMON__STATE_DIR": str(directory / "state"),
        "SACD_MARKET__SOURCE": "simulated",
        "SACD_MARKET__CANDLES_PER_SECOND": "0",
        "SACD_HTTP__PORT": "0",
        "SACD_CONTROL__SOCKET": str(directory / "control.sock"),
    }


def _notes(daemon: subprocess.Popen[bytes], directory: Path) -> Samples:
    """End the daemon and return what it noted."""
    cast("IO[bytes]", daemon.stdin).close()
    if code := daemon.wait(_PATIENCE_S):
        raise RuntimeError(f"the daemon ended with {code}; its log:\n{(directory / 'log').read_text()}")
    return Samples.from_rows(np.fromfile(directory / "notes"))


# ---- by itself --------------------------------------------------------------------------------------------------
def main() -> None:
    """Measure as the command line says, and print quantiles and results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_latency", description=__doc__)
    parser.add_argument("--rounds", type=int, default=_USUAL.rounds)
    parser.add_argument("--phase", type=float, default=_USUAL.phase_s, metavar="SECONDS", help="of each kind and round")
    parser.add_argument("--pace", type=float, default=_USUAL.pace, help="candle times a second")
    arguments = parser.parse_args()
    phases = measure(Lengths(rounds=arguments.rounds, phase_s=arguments.phase, pace=arguments.pace))
    for lines in (quantiles(phases), (result.format() for result in results(phases))):
        print(*lines, sep="\n")


def quantiles(phases: Phases) -> list[str]:
    """Return a table of what the time of a decision is made of, in each kind of phase."""
    lines: dict[str, list[Array]] = {}
    for kind, seen in phases.items():
        lines[kind] = _totals(seen)
        lines[f"{kind}: until taken"] = [phase.samples.arrival_s for phase in seen]
        lines[f"{kind}: commit"] = [phase.samples.write_s for phase in seen]
    return table(lines)


if __name__ == "__main__":
    main()
