import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from daemon import journal_file, journal_reader, journal_schema
from daemon.errors import ConfigError, FatalError
from daemon.journal import SqliteJournal
from daemon.journal_copy import CopyFailed
from daemon.journal_reader import read, verify
from tests.contracts.journal import fill
from tests.daemon.journals import FixedClock, alter, write

SCHEMAS = Path(__file__).parent / "schemas"
NOTES = (2, "CREATE TABLE notes (text TEXT) STRICT;")
RENAMED = (3, "ALTER TABLE notes RENAME TO remarks;")
BROKEN = (3, "CREATE TABLE more (text TEXT) STRICT; INSERT INTO nowhere VALUES (1);")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def from_text(path: Path, version: int) -> None:
    """Make the journal that a released version left, from its text."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript((SCHEMAS / f"{version:04d}.sql").read_text(encoding="utf-8"))


def know(monkeypatch: pytest.MonkeyPatch, *more: tuple[int, str]) -> None:
    """Let this program know further migrations, as a later one will."""
    steps = [*journal_schema.migrations(), *more]
    for module in (journal_file, journal_schema, journal_reader):
        monkeypatch.setattr(module, "migrations", lambda: steps)
    monkeypatch.setattr("daemon.journal_start.migrations", lambda: steps)


def tables(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_schema ORDER BY name")]


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def continue_with_one(path: Path) -> int:
    async def session() -> int:
        journal = SqliteJournal.open(path, FixedClock())
        seq = await journal.append([fill(1)])
        await journal.close()
        return seq

    return asyncio.run(session())


RELEASED = [number for number, _ in journal_schema.migrations()]


@pytest.mark.fault(64)
@pytest.mark.parametrize("released", RELEASED)
def test_a_journal_of_every_released_schema_is_continued(path: Path, released: int) -> None:
    from_text(path, released)
    before = list(read(path))
    assert [entry.kind for entry in before] == ["run", "candle", "decision", "kline", "fill", "stop"]
    assert continue_with_one(path) == 7
    assert list(read(path, limit=6)) == before
    assert verify(path).is_sound
    assert version(path) == RELEASED[-1]


@pytest.mark.fault(64)
@pytest.mark.parametrize("released", RELEASED)
def test_every_released_schema_is_copied_then_migrated_step_by_step(
    path: Path, monkeypatch: pytest.MonkeyPatch, released: int
) -> None:
    from_text(path, released)
    before = list(read(path))
    know(monkeypatch, NOTES, RENAMED)
    assert continue_with_one(path) == 7
    assert (version(path), tables(path)) == (3, ["events", "remarks"])
    assert list(read(path, limit=6)) == before
    copy = path.with_name(f"journal.db.before-{released + 1:04d}")
    assert (version(copy), tables(copy)) == (released, ["events"])
    assert list(read(copy)) == before
    assert verify(copy, is_at_rest=True).is_sound
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_journal_that_is_new_or_up_to_date_needs_no_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    know(monkeypatch, NOTES)
    write(path, 2)
    write(path, 2)
    assert version(path) == 2
    assert not list(path.parent.glob("*before*"))


@pytest.mark.fault(64)
def test_a_migration_that_fails_changes_nothing_of_its_step(path: Path) -> None:
    write(path, 2)
    steps = [*journal_schema.migrations(), NOTES, BROKEN]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        copied: list[Path] = []
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            journal_schema.migrate(connection, path, steps, copied.append)
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        assert copied == [path.with_name("journal.db.before-0002")]
    assert tables(path) == ["events", "notes"]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM events WHERE seq = 3;",
        "UPDATE events SET hash = zeroblob(32) WHERE seq = 3;",
        "DELETE FROM events;",
    ],
)
def test_a_migration_that_would_change_the_end_is_refused(path: Path, sql: str) -> None:
    write(path, 3)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        steps = [*journal_schema.migrations(), (2, sql)]
        with pytest.raises(FatalError, match="migration 2 changes its entries"):
            journal_schema.migrate(connection, path, steps, lambda _target: None)
    assert verify(path).entries == 3
    assert version(path) == 1


def test_no_migration_begins_without_its_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, 2)
    know(monkeypatch, NOTES)
    path.with_name("journal.db.before-0002.partial").mkdir()
    with pytest.raises(FatalError, match=r"before-0002: the copy before a migration cannot be written"):
        SqliteJournal.open(path, FixedClock())
    assert version(path) == 1


def test_a_copy_that_is_not_sound_stops_the_migration(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry older than the tail that every start proves: only the copy finds it."""
    write(path, 1200)
    alter(path, "UPDATE events SET payload = '{}' WHERE seq = 5")
    know(monkeypatch, NOTES)
    with pytest.raises(CopyFailed, match="damaged, the copy was dropped: hash chain broken"):
        SqliteJournal.open(path, FixedClock())
    assert version(path) == 1
    assert not list(path.parent.glob("*before*"))


@pytest.mark.fault(64)
def test_an_older_program_refuses_what_a_newer_one_migrated(path: Path) -> None:
    with pytest.MonkeyPatch.context() as later:
        know(later, NOTES)
        write(path, 2)
    pattern = "has schema 2, this sacd knows schema 1: install the sacd that wrote it, or a newer one"
    with pytest.raises(FatalError, match=pattern) as caught:
        SqliteJournal.open(path, FixedClock())
    assert caught.value.exit_code == 1
    with pytest.raises(FatalError, match=pattern):
        list(read(path))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)


@pytest.mark.fault(64)
def test_a_newer_schema_names_both_versions_and_the_remedy(path: Path) -> None:
    write(path, 1)
    alter(path, "PRAGMA user_version = 7")
    pattern = "has schema 7, this sacd knows schema 1: install the sacd that wrote it, or a newer one"
    with pytest.raises(FatalError, match=pattern):
        SqliteJournal.open(path, FixedClock())


def test_tables_without_a_schema_number_are_no_new_journal(path: Path) -> None:
    write(path, 1)
    alter(path, "PRAGMA user_version = 0")
    with pytest.raises(FatalError, match="it holds tables, and no schema has the number 0"):
        SqliteJournal.open(path, FixedClock())


def test_holes_among_the_migrations_are_an_installation_that_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Holes:
        def joinpath(self, _name: str) -> "Holes":
            return self

        def iterdir(self) -> Sequence[Path]:
            return [folder / "0001_events.sql", folder / "0003_notes.sql"]

    folder = tmp_path
    for place in Holes().iterdir():
        place.write_text("SELECT 1;", encoding="utf-8")
    monkeypatch.setattr(journal_schema, "files", lambda _package: Holes())
    with pytest.raises(FatalError, match=r"migrations \[1, 3\] are not 1, 2, 3 .*: reinstall sacd"):
        journal_schema.migrations()


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    alter(path, "CREATE TABLE customers (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is not a journal of sacd: move it away"):
        SqliteJournal.open(path, FixedClock())
    assert path.read_bytes() == before
