"""kill -9 while a backup is made, or put back: every acknowledged entry is there, and every backup is sound."""

import os
import random
import shutil
from pathlib import Path

import pytest

from daemon.journal_backup import automatic, backup_directory, take
from daemon.journal_reader import read, verify
from daemon.journal_restore import restore
from daemon.journal_restored import restored_marker
from daemon.journal_schema import JournalDamaged
from daemon.journal_start import inspect
from tests.crash.storage_nursery import StorageNursery
from tests.daemon.journals import PARTS, FixedClock, write_and_be_killed

KILLED = -9
COPIES = 7
"""More than are kept, so that some are deleted."""
KILLS = 16


def sound_backups(path: Path) -> list[int]:
    """Return how many entries each file has that calls itself a backup, newest first; all of them are sound."""
    entries = []
    for place in automatic(path, backup_directory(path)):
        found = verify(place, is_at_rest=True)
        assert found.is_sound, (place, found)
        entries.append(found.entries)
    return entries


def strangers(path: Path) -> list[str]:
    """Return what lies among the backups and is neither one nor a part of one, which the next backup removes."""
    ours = {place.name for place in automatic(path, backup_directory(path))}
    directory = backup_directory(path)
    names = [place.name for place in directory.iterdir()] if directory.exists() else []
    return [name for name in names if name not in ours and not name.endswith(".partial")]


@pytest.mark.fault(43)
def test_a_backup_that_is_killed_anywhere_leaves_sound_backups_and_every_entry(tmp_path: Path) -> None:
    path, highest, moments = tmp_path / "journal.db", 0, random.Random(11)
    with StorageNursery() as nursery:
        # A backup passes five points, and one more for each that it deletes.
        deaths = [("backup", count) for count in (*range(1, 10), *range(26, 32))]
        delays = [moments.uniform(0.0, 0.12) for _ in range(KILLS)]
        hour = 0
        for death, delay_s in [*((death, None) for death in deaths), *((None, delay) for delay in delays)]:
            code, seqs = nursery.live("back up", path, death=death, delay_s=delay_s, hour=hour, copies=COPIES)
            assert code == KILLED or delay_s is not None
            hour += 3 * COPIES
            highest = max([highest, *seqs])
            before = sound_backups(path)
            assert before == sorted(before, reverse=True)
            assert not strangers(path)
        assert nursery.live("back up", path, hour=hour, copies=1)[0] == 0
    found = verify(path)
    assert found.is_sound, found
    assert found.entries >= highest >= 2 * KILLS
    assert found.entries % 2 == 0
    assert not list(backup_directory(path).glob("*.partial"))
    assert len(sound_backups(path)) >= 5


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of 60 entries with a backup of 40; its log has lost all but a few of the last 20."""
    path = tmp_path_factory.mktemp("damaged") / "journal.db"
    write_and_be_killed(path, 40, 20)
    alone = path.with_name("alone")
    alone.mkdir()
    shutil.copy(path, alone)
    take(alone / path.name, backup_directory(path) / "journal.db.backup-20200913T110000", FixedClock())
    os.truncate(path.with_name("journal.db-wal"), 32 + 5 * 4120)
    return path


@pytest.mark.fault(43)
def test_a_restore_that_is_killed_anywhere_is_refused_or_done_and_can_be_done_again(
    damaged: Path, tmp_path: Path
) -> None:
    expected = verify(damaged).entries
    assert 40 < expected < 60
    deaths = 0
    with StorageNursery() as nursery:
        while True:
            path = tmp_path / f"{deaths}" / "journal.db"
            shutil.copytree(backup_directory(damaged), path.parent / "backups")
            for part in PARTS:
                shutil.copy(damaged.with_name(damaged.name + part), path.parent)
            code, _ = nursery.live("restore", path, death=("backup", deaths + 1))
            if code == 0:
                break
            assert code == KILLED
            deaths += 1
            if _is_refused(path):
                restore(path, FixedClock())
            _check_done(path, expected, damaged)
    assert deaths >= 8
    _check_done(path, expected, damaged)


def _is_refused(path: Path) -> bool:
    try:
        inspect(path)
    except JournalDamaged:
        return True
    return False


def _check_done(path: Path, expected: int, damaged: Path) -> None:
    inspect(path)
    marker = restored_marker(path)
    assert marker is not None
    assert (marker.is_done, marker.entries, marker.lost) == (True, expected, 60 - expected)
    assert [entry.payload["fill_id"] for entry in read(path)] == [str(number) for number in range(1, expected + 1)]
    aside = [place for place in path.parent.glob("journal.db.quarantined-*") if place.suffix != ".head"]
    former = [place for place in aside if not place.name.endswith(("-wal", "-shm"))]
    oldest = min(former, key=lambda place: len(place.name))
    assert oldest.read_bytes() == damaged.read_bytes()
    log = oldest.with_name(oldest.name + "-wal").read_bytes()
    assert log == damaged.with_name("journal.db-wal").read_bytes()
