"""kill -9 inside a migration: the journal has one schema or the next, all its entries, and the next start goes on."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from daemon import journal_file, journal_reader, journal_schema, journal_start
from daemon.journal_reader import verify
from tests.crash.storage_nursery import LATER_STEPS, StorageNursery
from tests.daemon.journals import write

ENTRIES = 30
KILLED = -9
TABLES = {1: ["events"], 2: ["events", "notes"], 3: ["events", "remarks"]}


def look(path: Path) -> tuple[int, list[str], int]:
    """Return schema, tables and number of entries, as SQLite alone reads them."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema ORDER BY name")]
        return version, tables, connection.execute("SELECT count(*) FROM events").fetchone()[0]


@pytest.fixture
def _later(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [*journal_schema.migrations(), *LATER_STEPS]
    for module in (journal_file, journal_schema, journal_reader, journal_start):
        monkeypatch.setattr(module, "migrations", lambda: steps)


def check_between(path: Path) -> int:
    version, tables, entries = look(path)
    assert (tables, entries) == (TABLES[version], ENTRIES)
    copy = path.with_name("journal.db.before-0002")
    if version > 1 or copy.exists():
        assert look(copy) == (1, ["events"], ENTRIES)
        assert verify(copy, is_at_rest=True).is_sound
    return version


def check_done(path: Path) -> None:
    assert check_between(path) == 3
    assert verify(path).is_sound
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM remarks").fetchone() == (ENTRIES,)


@pytest.mark.fault(43)
@pytest.mark.usefixtures("_later")
def test_a_migration_that_is_killed_anywhere_is_finished_by_the_next_start(tmp_path: Path) -> None:
    seen = []
    with StorageNursery() as nursery:
        for point in ("migration", "backup"):
            count = 0
            while True:
                count += 1
                path = tmp_path / f"{point}-{count}" / "journal.db"
                path.parent.mkdir()
                with pytest.MonkeyPatch.context() as before:
                    before.setattr(journal_file, "migrations", journal_schema_first)
                    write(path, ENTRIES)
                code, _ = nursery.live("migrate", path, death=(point, count))
                if code == 0:
                    break
                assert code == KILLED
                seen.append(check_between(path))
                assert nursery.live("migrate", path)[0] == 0
                check_done(path)
            check_done(path)
    # Before and after the copy; inside and after each of two steps; twice while the copy is made.
    assert seen == [1, 1, 1, 2, 2, 3, 1, 1]


def journal_schema_first() -> list[tuple[int, str]]:
    return list(journal_schema.migrations())[:1]


@pytest.mark.fault(43)
@pytest.mark.usefixtures("_later")
def test_a_migration_that_is_killed_at_random_moments_is_finished_in_the_end(tmp_path: Path) -> None:
    moments, versions = random.Random(3), set()
    with StorageNursery() as nursery:
        for life in range(15):
            path = tmp_path / f"{life}" / "journal.db"
            path.parent.mkdir()
            with pytest.MonkeyPatch.context() as before:
                before.setattr(journal_file, "migrations", journal_schema_first)
                write(path, ENTRIES)
            nursery.live("migrate", path, delay_s=moments.uniform(0.0, 0.03))
            versions.add(check_between(path))
            assert nursery.live("migrate", path)[0] == 0
            check_done(path)
    assert 1 in versions
