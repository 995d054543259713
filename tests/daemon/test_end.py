"""How long the end of a real daemon takes that is told to, with everything under way that may take long.

systemd waits 45 seconds (`TimeoutStopSec` in systemd/sacd@.service) and kills then.
"""

import asyncio
import io
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from rich.console import Console

from daemon import journal_reader
from daemon.app import App
from daemon.config import load_config
from daemon.live_settings import LiveSettings
from daemon.models import set_current
from tests.daemon.programs import SACD, Running, sacd
from tests.daemon.test_hang_and_memory import listening
from tests.fakes.clock import ManualClock
from tests.fakes.serving import Place, make_place

STOP_S = 45.0
_PATCHED = """
import os, sys, time
from daemon import journal, retrain_child
{patch}
from daemon.__main__ import main
sys.argv = ["sacd", *sys.argv[1:]]
main()
"""
_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
_DEAF_TRAINER = f"""
begin = retrain_child.TrainerChild.__init__
def deaf(self, *arguments, **named):
    begin(self, *arguments, **named, command=[sys.executable, "-c", {_DEAF!r}])
retrain_child.TrainerChild.__init__ = deaf
"""
_SLOW_JOURNAL = """
commit = journal.SqliteJournal._commit
def slow(self, group):
    if os.path.exists("slow") and any(append.records for append in group):
        time.sleep(4.0)
    return commit(self, group)
journal.SqliteJournal._commit = slow
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = make_place(tmp_path)
    set_current(tmp_path / "models", made.model.name)
    made.configure(market={"candles_per_second": 20.0}, strategy={"model": str(tmp_path / "models" / "current")})
    return made


def patched(place: Place, *patches: str, **environ: str) -> Running:
    text = _PATCHED.format(patch="\n".join(patches))
    return Running(place.config, command=[SACD[0], "-c", text, "run"], **environ)


def training(place: Place, running: Running) -> list[psutil.Process]:
    """Ask for a retraining; returns the processes of the trainer once it works."""
    assert sacd("retrain", cwd=place.root).returncode == 0
    log, end_s = place.root / "var" / "retrain" / "trainer.log", time.monotonic() + 30.0
    while not any("deaf" in found.read_text("utf-8") for found in log.parent.glob("*.log")):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    trainers: list[psutil.Process] = psutil.Process(running.process.pid).children(recursive=True)
    return trainers


def stop_reasons(place: Place) -> list[str]:
    return [entry.payload["reason"] for entry in journal_reader.read(place.journal(), kinds={"stop"})]


def test_the_unit_waits_as_long_as_these_tests_say() -> None:
    unit = Path(__file__).parents[2] / "systemd" / "sacd@.service"
    assert re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text("utf-8"), re.MULTILINE) == [f"{STOP_S:.0f}"]


@pytest.mark.fault(44)
def test_a_trainer_that_does_not_hear_of_the_end_is_killed_with_all_it_began_well_within_the_stop_timeout(
    place: Place,
) -> None:
    with patched(place, _DEAF_TRAINER) as running:
        running.wait_for("candle", 3)
        trainers = training(place, running)
        assert len(trainers) == 2  # the launcher and what trains
        code, seconds, error = running.signal(signal.SIGTERM)
    assert (code, error) == (0, "")
    assert 9.0 < seconds < STOP_S - 15.0, "the ten seconds of grace that a trainer has, and not much more"
    assert not any(process.is_running() for process in trainers)
    assert stop_reasons(place) == ["SIGTERM received"]
    assert (place.root / "var" / "retrain" / "request.json").exists()  # the next run takes it up


@pytest.mark.fault(44)
@pytest.mark.fault(51)
def test_a_trainer_that_is_deaf_beside_a_journal_that_takes_seconds_for_each_commit_still_ends_within_the_stop_timeout(
    place: Place,
) -> None:
    with patched(place, _DEAF_TRAINER, _SLOW_JOURNAL) as running:
        running.wait_for("candle", 2)
        trainers = training(place, running)
        (place.root / "slow").touch()
        running.wait_for("journal_slow")
        code, seconds, error = running.signal(signal.SIGTERM)
    assert (code, error) == (0, "")
    assert seconds < STOP_S - 10.0
    assert not any(process.is_running() for process in trainers)
    assert stop_reasons(place) == ["SIGTERM received"]
    assert journal_reader.verify(place.journal()).is_sound
    checkpoint = journal_reader.last_of_kind(place.journal(), "checkpoint")
    last = journal_reader.tail(place.journal(), 1)[0]
    assert checkpoint is not None
    assert (last.kind, last.seq - checkpoint.seq) == ("stop", 1)


def test_the_watchdog_is_fed_while_the_end_takes_its_time(place: Place) -> None:
    with (
        listening(place) as manager,
        patched(place, _DEAF_TRAINER, NOTIFY_SOCKET=str(place.root / "notify"), WATCHDOG_USEC="2000000") as running,
    ):
        running.wait_for("candle", 3)
        training(place, running)
        running.process.send_signal(signal.SIGTERM)
        heard: list[str] = []
        while running.process.poll() is None:
            heard.append(manager.hear(1.0))
        assert running.end()[0] == 0
    after = heard[heard.index("STOPPING=1\nSTATUS=ending") :]
    assert after.count("WATCHDOG=1") >= 6  # each second, for ten
    assert not any(message.startswith("READY=1") for message in after)


# ---- live -------------------------------------------------------------------------------------------------------
class Ending:
    """Stands for engine, account and trainers of a live run: each takes as long to end as it may."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.ended: dict[str, float] = {}
        self.trader: Any = None

    async def run(self, _events: Any) -> None:
        await asyncio.Event().wait()

    async def quiesce(self, running: "asyncio.Task[None]", beside: "Iterable[asyncio.Task[None]]") -> None:
        for task in (running, *beside):
            task.cancel()
        await asyncio.wait({running})

    async def stop(self, _reason: str) -> None:
        self.ended["engine"] = self.clock.monotonic_s()

    def account(self) -> Any:
        async def end() -> None:
            settings = LiveSettings(symbols=(), instance="", max_order_value=1.0, max_position_value=1.0)
            await self.clock.sleep_s(settings.drain_s)
            self.ended["account"] = self.clock.monotonic_s()

        return SimpleNamespace(tasks=tuple, end=end)

    def succession(self) -> Any:
        async def end() -> None:
            await self.clock.sleep_s(15.0)  # a launcher that is deaf, too
            self.ended["trainer"] = self.clock.monotonic_s()

        return SimpleNamespace(end=end)


@pytest.mark.fault(44)
async def test_a_trainer_ends_beside_what_is_settled_at_the_venue_and_not_after_it(place: Place) -> None:
    clock = ManualClock()
    app = App(load_config(place.config, {}), {}, Console(file=io.StringIO()), io.StringIO(), clock=clock)
    ending = Ending(clock)
    engine: Any = ending
    metrics = SimpleNamespace(at_scrape=lambda _: None, observe_loop_lag=lambda _: None)
    watchers: Any = SimpleNamespace(metrics=metrics, sinks=[], health=None)
    events: Any = None
    trading = asyncio.create_task(
        app._trade(engine, events, watchers, ending.account(), beside=[], succession=ending.succession())
    )
    await clock.advance(1.0)
    app._stopping.set()
    await clock.advance(29.9)
    assert ending.ended == {"trainer": 16.0}
    await clock.advance(0.2)
    await trading
    assert ending.ended == {"trainer": 16.0, "account": 31.0, "engine": 31.0}
