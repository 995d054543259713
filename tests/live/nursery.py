"""Lives of a live daemon: a process that has everything imported forks one child per life, which may kill itself.

Each child runs the real `daemon.app.App` with real ccxt on a configuration, by a clock that a test venue shares; how it
dies at a crash point is in `mortal.py`. `python -m tests.live.nursery` reads a JSON object per line: `start` forks and
answers with the process id, `wait` answers with an exit code (null while it still lives), `kill` sends a signal.
"""

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as `sacd` sets it; threads would not survive the fork either

from rich.console import Console

from daemon.app import App, run_until_done
from daemon.app_live import make_venue  # noqa: F401 - imported before the fork, as are its parts
from daemon.arming import arm
from daemon.clock import ScaledClock
from daemon.config import Config, load_config
from daemon.errors import SacdError
from daemon.live_settings import LiveSettings
from daemon.venue_import import only_exchange
from tests.crash.forking import ForkServer, fork
from tests.live.mortal import Mortal, later_schema
from tests.live.plants import plant

KILLED = -9
_DRAIN_S = 5.0
"""Seconds of this machine that a life has to settle what is in flight at its end: the 30 s of its clock fly by."""


# ---- the child's side -------------------------------------------------------------------------------------------
def _live(asked: Mapping[str, Any]) -> int:
    path = Path(asked["config"])
    if asked["is_later"]:
        later_schema(setattr)
    Mortal(path, asked["death"]).begin()
    plant(path)
    clock = None if asked["clock"] is None else ScaledClock(**asked["clock"])
    if clock is not None:
        _be_patient(clock.factor)
    with path.with_suffix(".log").open("a", encoding="utf-8") as log:
        for descriptor in (1, 2):  # whatever this process says is found beside its log, and not in our answers
            os.dup2(log.fileno(), descriptor)
        try:
            armed = arm(load_config(path, {}), confirmed=True, accept_recovery=asked["accept_recovery"])
        except SacdError as error:
            print(f"sacd: {error}", file=log, flush=True)
            return error.exit_code
        app = App(
            armed.config,
            {},
            Console(file=io.StringIO()),
            log,
            bundle=armed.bundle,
            overrides=armed.overrides,
            accept_recovery=asked["accept_recovery"],
            clock=clock,
            path=path,
        )
        return run_until_done(app.run)


def _be_patient(factor: float) -> None:
    whole = Config.live_settings

    def patient(config: Config) -> LiveSettings:
        settings = whole(config)
        return replace(settings, drain_s=max(settings.drain_s, _DRAIN_S * factor))

    Config.live_settings = patient  # type: ignore[method-assign, assignment]


def _begin(asked: Mapping[str, Any]) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return _live(asked)


def _answer(asked: Mapping[str, Any]) -> int | None:
    match asked["do"]:
        case "start":
            return fork(lambda: _begin(asked))
        case "kill":
            os.kill(asked["pid"], asked["signal"])
            return None
        case "wait":
            until = time.monotonic() + asked["timeout_s"]
            while True:
                pid, status = os.waitpid(asked["pid"], os.WNOHANG)
                if pid:
                    return os.waitstatus_to_exitcode(status)
                if time.monotonic() >= until:
                    return None
                time.sleep(0.01)
        case other:
            raise ValueError(f"cannot {other}")


def main() -> None:
    with only_exchange(sys.argv[1]):
        import ccxt.pro  # noqa: F401, PLC0415  # before the fork: it takes a second
    for line in sys.stdin:
        sys.stdout.write(f"{json.dumps(_answer(json.loads(line)))}\n")
        sys.stdout.flush()


# ---- the test's side --------------------------------------------------------------------------------------------
class Nursery(ForkServer):
    """Starts lives in a process of its own. exchange: as ccxt names it."""

    def __init__(self, exchange: str = "binance") -> None:
        super().__init__("tests.live.nursery", exchange)
        self._lock = threading.Lock()
        self._alive: set[int] = set()
        self._codes: dict[int, int] = {}

    def __exit__(self, *_: object) -> None:
        for pid in list(self._alive):
            self.kill(pid)
            self.wait(pid, 10.0)
        super().__exit__()

    def start(
        self,
        config: Path,
        *,
        clock: Mapping[str, Any] | None,
        death: tuple[str, int] | None = None,
        accept_recovery: bool = False,
        is_later: bool = False,
    ) -> int:
        """Begin a life and return its process id.

        death: crash point ("any" for all), and at which time of reaching it to die.  is_later: of a later program,
        which knows two more migrations.
        """
        asked = {"config": str(config), "clock": clock, "death": death, "is_later": is_later}
        pid = self._ask(do="start", accept_recovery=accept_recovery, **asked)
        assert pid is not None
        self._alive.add(pid)
        return pid

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal, unless it is known to have ended."""
        if pid not in self._codes:
            self._ask(do="kill", pid=pid, signal=int(number))

    def wait(self, pid: int, timeout_s: float) -> int | None:
        """Return the exit code, -9 for a kill; None when it still lives after `timeout_s`."""
        code = self._codes.get(pid)
        if code is None:
            code = self._ask(do="wait", pid=pid, timeout_s=timeout_s)
        if code is not None:
            self._alive.discard(pid)
            self._codes[pid] = code
        return code

    def _ask(self, **asked: Any) -> int | None:
        with self._lock:
            self.send(asked)
            return json.loads(self.line())  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
