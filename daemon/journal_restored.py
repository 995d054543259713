"""The mark that a journal was restored: what a start of a live account must know before it trusts its books."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from daemon.durable import sync
from daemon.errors import ConfigError, FatalError


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A journal was put in place of another one.

    at_ms: when.  backup: the file it was made from, "" when there was only the former journal.  quarantined: where the
    former journal lies now, "" when there was none.  is_done: False while it is being done; a journal with such a mark
    is not opened.
    entries: what the journal holds now, of which `salvaged` were read from the former one beyond the backup.
    lost: entries of the former one that are not in it, as far as is known; None when nobody can tell.
    """

    at_ms: int
    backup: str
    quarantined: str
    is_done: bool = False
    entries: int = 0
    salvaged: int = 0
    lost: int | None = None

    def in_words(self) -> str:
        """Return what happened in one line."""
        losses = "nobody can tell how many entries are" if self.lost is None else f"{self.lost} entries are"
        kept = f", the former journal lies at {self.quarantined}" if self.quarantined else ""
        source = f"{self.backup} ({self.salvaged} of them read from the former journal)"
        return (
            f"restored {self.entries} entries from {source if self.backup else 'what the former journal still proves'};"
            f" {losses} lost{kept}"
        )


def marker_path(path: Path) -> Path:
    """Return where the mark of the journal at `path` lies."""
    return path.with_name(path.name + ".restored.json")


def restored_marker(path: Path) -> Restored | None:
    """Return how the journal at `path` was restored, None when it was not, or that has been accepted.

    Raises FatalError when the mark is there and says nothing, ConfigError when it may not be read.
    """
    place = marker_path(path.resolve())
    try:
        return Restored(**json.loads(place.read_text(encoding="ascii")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{place}: {error.strerror}; sacd must be able to read it") from error
    except (ValueError, TypeError) as error:
        raise FatalError(
            f"{place} says that the journal was restored, and cannot be read: run `sacd journal restore` again"
        ) from error


def write_marker(path: Path, restored: Restored) -> None:
    """Put the mark beside the journal, durably. Raises OSError."""
    place = marker_path(path.resolve())
    waiting = place.with_name(place.name + ".new")
    with waiting.open("w", encoding="ascii") as file:
        json.dump(asdict(restored), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    waiting.replace(place)
    sync(place.parent)


def clear_marker(path: Path) -> None:
    """Forget that the journal was restored: somebody accepted it, and the account was reconciled. Raises OSError."""
    place = marker_path(path.resolve())
    if place.exists():
        place.unlink()
        sync(place.parent)


def refuse_unaccepted(path: Path) -> None:
    """Raise ConfigError when the journal was restored and nobody has accepted that yet: for an account with money."""
    marker = restored_marker(path)
    if marker is not None:
        raise ConfigError(
            f"journal {path} was restored: {marker.in_words()}. Compare with the venue, then start with"
            " `sacd run --accept-recovery`"
        )
