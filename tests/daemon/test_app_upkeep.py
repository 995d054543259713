"""What a disk that fills up, and empties again, does to a run."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.app_upkeep import Upkeep
from daemon.config import load_config
from daemon.disk_room import DiskRoom
from daemon.metrics import MetricsSink
from tests.daemon.engines import make_rig
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
