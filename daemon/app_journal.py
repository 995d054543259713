"""How the daemon comes by its journal: opened, or restored first when somebody has accepted that."""

from pathlib import Path

import structlog

from daemon.disk_room import BALLAST_BYTES
from daemon.journal import SqliteJournal
from daemon.journal_restore import restore
from daemon.journal_restored import Restored, restored_marker
from daemon.journal_schema import JournalDamaged
from daemon.ports import Clock

_log = structlog.get_logger()


def open_or_restore(
    path: Path, clock: Clock, accept_recovery: bool, directory: Path | None = None
) -> tuple[SqliteJournal, Restored | None]:
    """Open the journal at `path`, with a reserve on the disk; a damaged one is first restored where that is accepted.

    directory: of the backups; without it where they usually lie.  Returns the journal, and how it was restored, now or
    before, as long as nobody has accepted it (`journal_restored.clear_marker`).
    Raises as `SqliteJournal.open`, and as `journal_restore.restore` when a damaged journal cannot be restored.
    """
    try:
        journal = SqliteJournal.open(path, clock, BALLAST_BYTES)
    except JournalDamaged as error:
        if not accept_recovery:
            raise
        _log.error("journal_damaged", reason=str(error))
        restored = restore(path, clock, directory=directory)
        _log.warning("journal_restored", detail=restored.in_words())
        journal = SqliteJournal.open(path, clock, BALLAST_BYTES)
    return journal, restored_marker(path)
