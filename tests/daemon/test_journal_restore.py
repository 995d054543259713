import asyncio
import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from daemon import journal_restore
from daemon.app_journal import open_or_restore
from daemon.disk_room import DiskRoom
from daemon.errors import ConfigError, FatalError, SacdError
from daemon.journal import SqliteJournal
from daemon.journal_backup import backup_directory, take
from daemon.journal_head import read_head
from daemon.journal_reader import read, verify
from daemon.journal_restore import restore
from daemon.journal_restored import Restored, clear_marker, marker_path, refuse_unaccepted, restored_marker
from daemon.journal_schema import JournalDamaged
from daemon.ports import Record
from tests.contracts.journal import fill
from tests.daemon.journals import PARTS, FixedClock, alter, write, write_and_be_killed
from tests.daemon.test_journal_start import copy_of, damages

IN_FILE, IN_LOG = 400, 20
WHOLE = IN_FILE + IN_LOG
QUARANTINED = "journal.db.quarantined-20200913T122640"  # date -u -d @1600000000


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of 420 entries whose last 20 lie in the log, and a backup of the first 400."""
    path = tmp_path_factory.mktemp("killed") / "journal.db"
    write_and_be_killed(path, IN_FILE, IN_LOG)
    alone = path.with_name("alone")
    alone.mkdir()
    shutil.copy(path, alone)
    take(alone / path.name, backup_directory(path) / "journal.db.backup-20200913T110000", FixedClock())
    shutil.rmtree(alone)
    return path


@pytest.fixture
def path(killed: Path, tmp_path: Path) -> Path:
    return with_backups(killed, tmp_path)


def with_backups(killed: Path, folder: Path) -> Path:
    shutil.copytree(backup_directory(killed), folder / "backups")
    return copy_of(killed, folder)


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def entries(path: Path) -> list[str]:
    return [entry.payload["fill_id"] for entry in read(path)]


def ids(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


def continue_with_one(path: Path) -> int:
    async def session() -> int:
        journal = SqliteJournal.open(path, FixedClock())
        seq = await journal.append([fill(journal.last_seq + 1)])
        await journal.close()
        return seq

    return asyncio.run(session())


# ---- what is lost -----------------------------------------------------------------------------------------------
def test_what_the_damaged_journal_still_proves_is_kept_beyond_the_backup(path: Path) -> None:
    os.truncate(log_of(path), 32 + 5 * 4120)  # five commits of one frame each are left of twenty
    former = [path.with_name(path.name + part).read_bytes() for part in PARTS]
    done = restore(path, FixedClock())
    assert (done.entries, done.salvaged, done.lost) == (405, 5, 15)
    assert entries(path) == ids(405)
    assert verify(path).is_sound
    aside = path.with_name(QUARANTINED)
    assert done.quarantined == str(aside)
    assert [aside.with_name(aside.name + part).read_bytes() for part in PARTS] == former
    assert continue_with_one(path) == 406


def test_a_journal_that_cannot_be_read_at_all_costs_what_came_after_the_backup(path: Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)
    log_of(path).unlink()
    done = restore(path, FixedClock())
    assert (done.entries, done.salvaged, done.lost) == (400, 0, 20)
    assert entries(path) == ids(400)
    assert "400 entries from" in done.in_words()
    assert "20 entries are lost, the former journal lies at" in done.in_words()


def test_without_a_witness_and_unreadable_nobody_knows_what_is_lost(path: Path) -> None:
    path.write_bytes(b"\xa5" * 5000)
    log_of(path).unlink()
    path.with_name("journal.db.head").unlink()
    done = restore(path, FixedClock())
    assert done.lost is None
    assert "nobody can tell how many entries are lost" in done.in_words()


def test_a_sound_journal_loses_nothing_by_a_restore(path: Path) -> None:
    done = restore(path, FixedClock())
    assert (done.entries, done.salvaged, done.lost) == (WHOLE, IN_LOG, 0)
    assert entries(path) == ids(WHOLE)


def test_a_journal_that_is_gone_is_restored(path: Path) -> None:
    path.unlink()
    log_of(path).unlink()
    done = restore(path, FixedClock())
    assert (done.entries, done.quarantined, done.lost) == (400, "", 20)
    assert entries(path) == ids(400)


def test_entries_altered_in_place_end_what_is_kept(path: Path) -> None:
    alter(path, "UPDATE events SET payload = '{}' WHERE seq = 411")
    done = restore(path, FixedClock())
    assert (done.entries, done.lost) == (410, 10)


@pytest.mark.fault(50)
def test_whatever_happens_to_the_files_the_restored_journal_is_a_true_beginning_no_shorter_than_the_backup(
    killed: Path,
) -> None:
    kept = set()
    for number, (name, damage) in enumerate(damages(killed)):
        if number % 6:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = with_backups(killed, Path(folder))
            damage(path)
            done = restore(path, FixedClock())
            assert entries(path) == ids(done.entries), name
            assert IN_FILE <= done.entries <= WHOLE, name
            assert done.lost == WHOLE - done.entries, name
            kept.add(done.entries)
    assert {IN_FILE, WHOLE} <= kept


# ---- which backup -----------------------------------------------------------------------------------------------
def test_the_newest_sound_backup_is_taken_also_one_made_by_hand(path: Path) -> None:
    directory = backup_directory(path)
    log_of(path).unlink()
    path.write_bytes(b"")
    good = directory / "journal.db.backup-20200913T110000"
    shutil.copy(good, directory / "journal.db.manual-20200913T120000")
    content = bytearray(good.read_bytes())
    content[content.index(b'"fill_id":"200"') + 11] ^= 1
    (directory / "journal.db.backup-20200913T121000").write_bytes(content)
    (directory / "journal.db.backup-20200913T122000").write_bytes(b"rubbish")
    done = restore(path, FixedClock())
    assert done.backup == str(directory / "journal.db.manual-20200913T120000")


def test_a_backup_of_another_account_is_not_taken(path: Path) -> None:
    directory = backup_directory(path)
    other = path.with_name("other.db")

    async def session() -> None:
        journal = SqliteJournal.open(other, FixedClock())
        await journal.append([Record(kind="run", payload={"account": "another"})])
        await journal.close()

    asyncio.run(session())
    take(other, directory / "journal.db.backup-20200913T120000", FixedClock())
    log_of(path).unlink()
    assert restore(path, FixedClock()).backup == str(directory / "journal.db.backup-20200913T110000")


def test_without_a_sound_backup_nothing_is_touched(path: Path) -> None:
    directory = backup_directory(path)
    (directory / "journal.db.backup-20200913T110000").write_bytes(b"rubbish")
    log_of(path).unlink()
    path.write_bytes(b"rubbish")
    before = sorted(place.name for place in path.parent.iterdir())
    pattern = (
        r"there is no sound backup of .*journal.db.backup-20200913T110000: .*name one with `sacd journal restore FILE"
    )
    with pytest.raises(SacdError, match=pattern):
        restore(path, FixedClock())
    after = sorted(place.name for place in path.parent.iterdir())
    assert [name for name in after if not name.endswith(".lock")] == before


def test_without_a_backup_what_the_journal_itself_proves_is_kept(path: Path) -> None:
    shutil.rmtree(backup_directory(path))
    alter(path, "UPDATE events SET payload = '{}' WHERE seq = 301")
    done = restore(path, FixedClock())
    assert (done.entries, done.salvaged, done.lost, done.backup) == (300, 300, 120, "")
    assert "restored 300 entries from what the former journal still proves; 120 entries are lost" in done.in_words()
    assert entries(path) == ids(300)
    assert continue_with_one(path) == 301


def test_a_named_backup_is_proved_before_anything_moves(path: Path, tmp_path: Path) -> None:
    named = tmp_path / "mine"
    with pytest.raises(SacdError, match="mine: there is no such file: name a backup; nothing was changed"):
        restore(path, FixedClock(), named)
    shutil.copy(backup_directory(path) / "journal.db.backup-20200913T110000", named)
    with pytest.raises(SacdError, match="is the journal itself: name a backup"):
        restore(path, FixedClock(), path)
    log_of(path).unlink()
    path.write_bytes(b"")
    assert restore(path, FixedClock(), named).entries == 400
    alter(named, "UPDATE events SET payload = '{}' WHERE seq = 3")
    with pytest.raises(SacdError, match=r"mine is damaged .hash chain broken.*: name another backup; nothing was"):
        restore(path, FixedClock(), named)
    assert entries(path) == ids(400)


def test_a_quarantined_journal_can_be_brought_back_with_its_log(path: Path) -> None:
    restore(path, FixedClock())
    shutil.copy(backup_directory(path) / "journal.db.backup-20200913T110000", path)
    assert restore(path, FixedClock(), path.with_name(QUARANTINED)).entries == WHOLE
    assert path.with_name(QUARANTINED + "-2").exists()


def test_a_running_daemon_keeps_its_journal(path: Path) -> None:
    journal = SqliteJournal.open(path, FixedClock())
    with pytest.raises(ConfigError, match=rf"in use by process {os.getpid()}: stop that sacd") as caught:
        restore(path, FixedClock())
    assert caught.value.exit_code == 78
    asyncio.run(journal.close())
    assert entries(path) == ids(WHOLE)


def test_a_restore_that_would_not_fit_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_restore, "measure", lambda _directory: DiskRoom(free=10_000, total=2**40))
    with pytest.raises(SacdError, match="0 MiB free, the restored journal takes 2: make room; nothing was changed"):
        restore(path, FixedClock())
    assert restored_marker(path) is None
    assert entries(path) == ids(WHOLE)


# ---- the mark ---------------------------------------------------------------------------------------------------
def test_the_mark_says_what_was_done_until_it_is_accepted(path: Path) -> None:
    log_of(path).unlink()
    done = restore(path, FixedClock())
    assert restored_marker(path) == done
    assert json.loads(marker_path(path).read_text())["lost"] == 20
    with pytest.raises(ConfigError, match=r"was restored: restored 400 entries .*sacd run --accept-recovery"):
        refuse_unaccepted(path)
    clear_marker(path)
    clear_marker(path)
    assert restored_marker(path) is None
    refuse_unaccepted(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at_ms": 1}', '{"at_ms": 1, "more": 2}'])
def test_a_mark_that_says_nothing_stops_the_start_until_it_is_restored_again(path: Path, text: str) -> None:
    marker_path(path).write_text(text)
    with pytest.raises(FatalError, match="cannot be read: run `sacd journal restore` again"):
        SqliteJournal.open(path, FixedClock())
    assert restore(path, FixedClock()).lost == 0
    assert continue_with_one(path) == WHOLE + 1


def test_a_restore_that_was_cut_short_is_refused_and_taken_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_of(path).unlink()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(journal_restore, "copy_pages", lambda *_, **__: fail())
        with pytest.raises(FatalError, match=r"cut short \(No space left on device\): mend that, and run"):
            restore(path, FixedClock())
    with pytest.raises(JournalDamaged, match="a restore was cut short"):
        SqliteJournal.open(path, FixedClock())
    done = restore(path, FixedClock())
    assert (done.entries, done.lost, Path(done.quarantined).name) == (400, 20, QUARANTINED)
    assert path.with_name(QUARANTINED).exists()
    assert path.with_name(f"{QUARANTINED}.head").exists()
    assert not path.with_name(f"{QUARANTINED}-2").exists()


def test_the_witness_of_a_restored_journal_is_its_own(path: Path) -> None:
    log_of(path).unlink()
    restore(path, FixedClock())
    head = read_head(path)
    assert head is not None
    assert (head.seq, head.hash.hex()) == (400, verify(path).head)


# ---- at the start -----------------------------------------------------------------------------------------------
@pytest.mark.fault(50)
async def test_a_damaged_journal_is_restored_at_the_start_only_where_that_is_accepted(path: Path) -> None:
    log_of(path).unlink()
    with pytest.raises(JournalDamaged):
        open_or_restore(path, FixedClock(), False)
    assert restored_marker(path) is None
    journal, restored = open_or_restore(path, FixedClock(), True)
    assert isinstance(restored, Restored)
    assert (journal.last_seq, restored.lost) == (400, 20)
    assert await journal.append([fill(401)]) == 401
    await journal.close()
    journal, again = open_or_restore(path, FixedClock(), True)
    assert again == restored, "nobody has cleared the mark yet"
    await journal.close()


async def test_a_sound_journal_is_only_opened_and_has_its_reserve(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await asyncio.to_thread(write, path, 3)
    journal, restored = open_or_restore(path, FixedClock(), True)
    assert (journal.last_seq, restored) == (3, None)
    assert path.with_name("journal.db.ballast").stat().st_blocks * 512 >= 8 * 2**20
    await journal.close()


async def test_a_journal_in_use_is_never_restored(path: Path) -> None:
    log_of(path).unlink()
    held = restore(path, FixedClock())
    journal, _ = open_or_restore(path, FixedClock(), True)
    with pytest.raises(ConfigError, match="in use by process"):
        open_or_restore(path, FixedClock(), True)
    assert restored_marker(path) == held
    await journal.close()


def test_random_lengths_of_the_log_never_cost_an_entry_that_can_be_proved(killed: Path) -> None:
    drawn = random.Random(9)
    size = log_of(killed).stat().st_size
    lost = []
    for length in sorted(drawn.randrange(30 * 4120) for _ in range(8)):
        with tempfile.TemporaryDirectory() as folder:
            path = with_backups(killed, Path(folder))
            os.truncate(log_of(path), min(length, size))
            readable = verify(path).entries
            done = restore(path, FixedClock())
            assert done.entries == max(readable, IN_FILE)
            lost.append(done.lost)
    assert len(set(lost)) > 3
