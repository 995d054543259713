"""The end of the journal, witnessed outside of it: NAME.head holds the last acknowledged entry.

SQLite takes a damaged log for a shorter one and says nothing; a chain of hashes cannot show either that its end is
missing. So each acknowledged commit is noted here as well, before whoever waits is told. The note is not synced: it
outlives the process, and after a loss of power it may be older than the journal, never newer. It is a lower bound.
"""

import os
import struct
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from daemon.errors import ConfigError

_PACK = struct.Struct(">8sq32s32s")
_MAGIC = b"sacdhead"
_CHECK_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """seq and hash of the last acknowledged entry; first: the hash of entry 1, which tells accounts apart."""

    seq: int
    hash: bytes
    first: bytes


def head_path(path: Path) -> Path:
    """Return where the head of the journal at `path` lies."""
    return path.with_name(path.name + ".head")


def read_head(path: Path) -> Head | None:
    """Return the head of the journal at `path`; None when there is none that can be trusted.

    Only a head that says what it said when it was written is one: torn by a loss of power, it proves nothing.
    Raises ConfigError when it may not be read.
    """
    place = head_path(path)
    try:
        content = place.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(place, error) from error
    body, check = content[: _PACK.size], content[_PACK.size :]
    if len(content) != _PACK.size + _CHECK_BYTES or _checksum(body) != check:
        return None
    magic, seq, last, first = _PACK.unpack(body)
    return Head(seq=seq, hash=last, first=first) if magic == _MAGIC else None


class HeadFile:
    """The head of one open journal. Used by the writer's thread."""

    def __init__(self, path: Path) -> None:
        """Open or create the head of the journal at `path`. Raises ConfigError when it may not be written."""
        place = head_path(path)
        try:
            self._descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(place, error) from error

    def note(self, head: Head) -> None:
        """Write `head` where the last one stood: one write in one block, which no kill can tear. Raises OSError."""
        body = _PACK.pack(_MAGIC, head.seq, head.hash, head.first)
        os.pwrite(self._descriptor, body + _checksum(body), 0)

    def sync(self) -> None:
        """Make the head durable. Raises OSError."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)


def _checksum(body: bytes) -> bytes:
    return sha256(body).digest()[:_CHECK_BYTES]


def _unusable(place: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{place}: {error.strerror}; change its owner or mode, sacd must be able to read and write it")
