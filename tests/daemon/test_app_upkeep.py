"""What a disk that fills up, and empties again, does to a run."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.app_upkeep import Upkeep
from daemon.config import load_config
from daemon.config_sections import JournalSection
from daemon.disk_room import DiskRoom
from daemon.metrics import MetricsSink
from tests.daemon.engines import make_rig
from tests.fakes.clock import ManualClock
from tests.fakes.serving import make_place

PLENTY, SCARCE = DiskRoom(free=2**40, total=2**41), DiskRoom(free=2**20, total=2**41)


class Reserve:
    """A journal as the upkeep sees it: whether its reserve is gone, and how often it was taken again."""

    def __init__(self) -> None:
        self.on_low: Callable[[str], None] | None = None
        self.is_low = False
        self.refills = 0

    async def refill(self) -> bool:
        self.is_low = False
        self.refills += 1
        return True


@pytest.mark.fault(49)
async def test_a_scarce_disk_pauses_purchases_and_room_brings_the_reserve_back(tmp_path: Path) -> None:
    make_place(tmp_path)
    config = load_config(tmp_path / "config.toml", {})
    config.daemon.state_dir.mkdir()
    rig, reserve, rooms = make_rig(), Reserve(), [PLENTY]
    journal: Any = reserve
    upkeep = Upkeep(config, rig.clock, journal, rig.engine, lambda _directory: rooms[-1])
    tasks = upkeep.tasks()
    try:
        await rig.clock.advance(60.0)
        assert not rig.engine.trader.risk.is_paused
        rooms.append(SCARCE)
        await rig.clock.advance(60.0)
        assert rig.engine.trader.risk.is_paused
        assert reserve.on_low is not None
        reserve.is_low = True
        await rig.clock.advance(60.0)
        assert reserve.refills == 0  # there is no room yet
        rooms.append(PLENTY)
        await rig.clock.advance(120.0)
        assert (reserve.refills, reserve.is_low) == (1, False)
        assert rig.engine.trader.risk.is_paused  # a person resumes
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_room_and_copies_that_fail_are_told_to_the_metrics(tmp_path: Path) -> None:
    make_place(tmp_path)
    config = load_config(tmp_path / "config.toml", {})
    config.daemon.state_dir.mkdir()
    rig = make_rig()
    metrics = MetricsSink(symbols=(), is_live=False, version="", clock=rig.clock, slippage_rate=0.0)
    journal: Any = Reserve()
    upkeep = Upkeep(config, rig.clock, journal, rig.engine, lambda _directory: PLENTY, watch=metrics)
    tasks = upkeep.tasks()
    try:
        await rig.clock.advance(60.0)
        await upkeep.last_backup()  # there is no journal that could be copied
        families = text_string_to_metric_families(metrics.render().decode())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    told = {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}
    assert (told["sacd_disk_free_bytes",], told["sacd_disk_size_bytes",]) == (2**40, 2**41)
    assert told["sacd_journal_backups_total", "made"] == 0
    assert told["sacd_journal_backups_total", "failed"] >= 1


class Copying:
    """Stands for the regular copies: notes when one would be made, and how many of them there are at once."""

    made: ClassVar[list[tuple[float, int]]] = []
    running: ClassVar[list["Copying"]] = []

    def __init__(self, _path: Path, _directory: Path, keep: int, clock: ManualClock, *, every_s: float) -> None:
        self.tell: Any = None
        self._keep, self._clock, self._every_s = keep, clock, every_s

    async def run(self) -> None:
        self.running.append(self)
        try:
            while True:
                await self._clock.sleep_s(self._every_s)
                self.made.append((self._clock.monotonic_s(), self._keep))
        finally:
            self.running.remove(self)


async def test_copies_begin_change_their_cadence_and_end_with_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.app_upkeep.JournalBackups", Copying)
    monkeypatch.setattr(Copying, "made", [])
    place = make_place(tmp_path)
    rig, journal = make_rig(), Reserve()
    place.root.joinpath("var").mkdir()

    def section(every_s: float, keep: int = 24) -> JournalSection:
        return load_config(place.configure(journal={"backup_every_s": every_s, "keep": keep}), {}).journal

    section(0.0)
    upkeep = Upkeep(load_config(place.config, {}), rig.clock, cast("Any", journal), rig.engine, lambda _: PLENTY)
    tasks = upkeep.tasks()
    try:
        await rig.clock.advance(1_000.0)
        assert (Copying.made, Copying.running) == ([], [])
        upkeep.reconfigure(section(300.0, keep=5))
        await rig.clock.advance(700.0)
        assert Copying.made == [(1_300.0, 5), (1_600.0, 5)]
        upkeep.reconfigure(section(300.0, keep=5))  # the same: nothing begins anew
        await rig.clock.advance(200.0)
        assert Copying.made[2:] == [(1_900.0, 5)]
        upkeep.reconfigure(section(60.0, keep=2))
        await rig.clock.advance(60.0)
        assert Copying.made[3:] == [(1_960.0, 2)]
        assert len(Copying.running) == 1
        upkeep.reconfigure(section(0.0))
        await rig.clock.advance(1_000.0)
        assert (len(Copying.made), Copying.running) == (4, [])
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_a_last_copy_that_takes_long_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    class Endless(Copying):
        async def attempt(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("dropped")

    monkeypatch.setattr("daemon.app_upkeep.JournalBackups", Endless)
    place = make_place(tmp_path)
    config = load_config(place.config, {})
    config.daemon.state_dir.mkdir()
    rig = make_rig()
    upkeep = Upkeep(config, rig.clock, cast("Any", Reserve()), rig.engine, lambda _: PLENTY)
    ending = asyncio.create_task(upkeep.last_backup())
    await rig.clock.advance(2.9)
    assert not ending.done()
    await rig.clock.advance(0.2)
    await ending
    assert ended == ["dropped"]
