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
from contextlib import ExitStack, contextmanager, suppress
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
_PATIENCE_S = 240.0
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
    """What was seen in one phase. own, others: cores that this benchmark, and all else here, had on average."""

    samples: Samples
    own: float
    others: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One that learns while it is let go, in a process group of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    def hold(self) -> None:
        """Hold it still. Raises RuntimeError when it has ended."""
        self.require_alive()
        os.killpg(self.process.pid, signal.SIGSTOP)

    def let_go(self) -> None:
        """Let it go on."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def lines(self) -> list[str]:
        """Return what it has written so far."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def require_alive(self) -> None:
        """Do nothing while it lives. Raises RuntimeError with its log otherwise."""
        if self.process.poll() is not None:
            told = "\n".join(self.lines())
            raise RuntimeError(f"the training ended with {self.process.returncode}; its log:\n{told}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """busy_s, own_s: what all cores have been at work since the machine started, and what of it was for us."""

    at_s: float
    busy_s: float
    own_s: float


Phases = Mapping[str, Sequence[Phase]]
_Span = tuple[_Moment, _Moment]
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
        trainings = {
            LIMITED: stack.enter_context(_training(directory / "limited", _limited)),
            FREE: stack.enter_context(_training(directory / "free", _free)),
        }
        daemon = stack.enter_context(_daemon(directory))
        spans = _phases(daemon, trainings, lengths)
        samples = _notes(daemon, directory)
    return {kind: [_phase(samples, span) for span in spans[kind]] for kind in spans}


def _phase(samples: Samples, span: _Span) -> Phase:
    start, end = span
    seconds, own_s = end.at_s - start.at_s, end.own_s - start.own_s
    others_s = end.busy_s - start.busy_s - own_s
    within = samples.between(start.at_s, end.at_s)
    return Phase(samples=within, own=own_s / seconds, others=others_s / seconds)


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
        ours=f"{_p99_ms(loaded):.2f} ms, {_cores(phases[kind])}",
        reference=f"{_p99_ms(idle):.2f} ms idle, {_cores(phases[IDLE])}",
        note=f"95 % interval {ratio.low:.3g} .. {ratio.high:.3g} over {len(idle)} rounds, "
        f"{sum(map(len, idle)):,} decisions idle",
    )


def _totals(phases: Sequence[Phase]) -> list[Array]:
    return [phase.samples.total_s for phase in phases]


def _p99_ms(rounds: Sequence[Array]) -> float:
    return 1e3 * quantile(rounds, _SHARE)


def _cores(phases: Sequence[Phase]) -> str:
    own, others = (np.mean([getattr(phase, name) for phase in phases]) for name in ("own", "others"))
    return f"{own:.1f} cores at work, {others:.1f} for others"


# ---- the phases -------------------------------------------------------------------------------------------------
def _phases(
    daemon: subprocess.Popen[bytes], trainings: Mapping[str, Training], lengths: Lengths
) -> dict[str, list[_Span]]:
    """Beat for the daemon through all phases; returns the start and end of each by kind."""
    kinds = [IDLE, *trainings]
    groups = [os.getpgrp(), *(training.process.pid for training in trainings.values())]
    spans: dict[str, list[_Span]] = {kind: [] for kind in kinds}
    for number in range(lengths.rounds):
        # Each round turns the order round: what grows with time falls on all kinds alike.
        for kind in kinds if number % 2 == 0 else reversed(kinds):
            with _going(trainings.get(kind)):
                _beat(daemon, lengths.pace, _SETTLE_S)
                start = _moment(groups)
                _beat(daemon, lengths.pace, lengths.phase_s)
                spans[kind].append((start, _moment(groups)))
    return spans


@contextmanager
def _going(training: Training | None) -> Iterator[None]:
    """Let a training go on for the while; None is none."""
    if training is None:
        yield
        return
    training.let_go()
    yield
    training.hold()


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


def _moment(groups: Sequence[int]) -> _Moment:
    """Return what the cores have done by now. groups: of processes, that are ours."""
    with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123 - its first line
        user, nice, system, _idle, _waiting, irq, softirq = map(int, file.readline().split()[1:8])
    tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
    busy_s = (user + nice + system + irq + softirq) * tick_s
    own_s = sum(ticks for group, ticks in _processes() if group in groups) * tick_s
    return _Moment(at_s=time.monotonic(), busy_s=busy_s, own_s=own_s)


def _processes() -> Iterator[tuple[int, int]]:
    """Yield the group of every process, and the ticks that it has had a core."""
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            # "pid (name) state ppid group ...": the name may hold anything; user and system time are fields 14 and 15.
            fields = place.read_text(encoding="ascii").rpartition(")")[2].split()
            yield int(fields[2]), int(fields[11]) + int(fields[12])


# ---- the processes ----------------------------------------------------------------------------------------------
@contextmanager
def _training(directory: Path, launch: Launch) -> Iterator[Training]:
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
    training = Training(process=process, log=log)
    try:
        _await_learning(training)
        training.hold()
        yield training
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself, which was told
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        cast("IO[bytes]", process.stdin).close()


def _limited(command: list[str], log: Path) -> list[str]:
    return [sys.executable, "-m", "daemon.limited", "--log", str(log), "--memory-mib", "4096", "--", *command]


def _free(command: list[str], log: Path) -> list[str]:
    return ["sh", "-c", 'exec "$@" >"$0" 2>&1', str(log), *command]


def _await_learning(training: Training) -> None:
    give_up_s = time.monotonic() + _PATIENCE_S
    while training.lines().count(LEARNS) < len(os.sched_getaffinity(0)):
        training.require_alive()
        if time.monotonic() > give_up_s:
            raise RuntimeError(f"the training does not learn within {_PATIENCE_S:g} s")
        time.sleep(0.1)


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
        lines[f"{kind}: from there"] = [phase.samples.latency_s for phase in seen]
        lines[f"{kind}: of it the commit"] = [phase.samples.write_s for phase in seen]
    return table(lines)


if __name__ == "__main__":
    main()
