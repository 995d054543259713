"""The keys of the exchange, for live trading: read from a file that nobody else can read or replace, or not at all.

What the file holds leaves in a mapping and is never part of a message.
"""

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from daemon.config_sources import read_credentials
from daemon.errors import ConfigError

_ACL = "system.posix_acl_access"
_ACL_HEADER, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_USER, _GROUPS, _MASK, _OTHER = 0x02, frozenset({0x04, 0x08}), 0x10, 0x20  # acl(5), linux/posix_acl.h
_KEY_FILE = 'apiKey = "..." and secret = "..."'


def credentials_of(path: Path | None) -> dict[str, str]:
    """Return the secrets in the file `path` by ccxt's names, at least one.

    Raises ConfigError when there is no such file, when anyone but its owner could read it or put another one in its
    place, or when it is not what it should be: naming the path and what mends it, never a value.
    """
    if path is None:
        raise ConfigError(
            f"live trading needs the keys of the exchange: write {_KEY_FILE} into a file of mode 0600 and name it as "
            "[exchange] credentials, or hand it over as systemd's credential exchange.toml"
        )
    refuse_loose(path)
    credentials, mistakes = read_credentials(path)
    if mistakes:
        raise ConfigError("\n".join((f"{path}: it cannot be used", *(f"  {mistake}" for mistake in mistakes))))
    if not credentials:
        raise ConfigError(f"{path}: it is empty; write {_KEY_FILE} into it")
    return credentials


def refuse_loose(path: Path) -> None:
    """Raise ConfigError, with the command that mends it, unless `path` is a file that only we and root control."""
    try:
        status = path.stat()
        real = path.resolve(strict=True)
        complaint = next(_complaints(path, real, status), None)
    except OSError as error:
        raise ConfigError(
            f"credentials {path}: cannot be opened ({error.strerror}); write {_KEY_FILE} into it, mode 0600, owned by "
            f"the user that runs sacd (uid {os.geteuid()})"
        ) from None
    if complaint is not None:
        raise ConfigError(f"credentials {path}: {complaint}")


def _complaints(path: Path, real: Path, status: os.stat_result) -> Iterator[str]:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        yield "is not a plain file; name the file that holds the keys"
    if status.st_uid not in {0, os.geteuid()}:
        yield f"belongs to uid {status.st_uid}, who can change it: chown {os.geteuid()} {path}"
    if others := _others(real, mode):
        yield f"mode {mode:04o} lets {others} use the keys: chmod 600 {path}, and make new keys if they were seen"
    for directory in dict.fromkeys((path.absolute().parent, real.parent)):
        yield from _replaceable(directory)
    if not os.access(path, os.R_OK):
        yield f"mode {mode:04o}, owned by uid {status.st_uid}: may not be read by uid {os.geteuid()}"


def _replaceable(directory: Path) -> Iterator[str]:
    """Yield why somebody else could put another file into `directory` in the place of ours."""
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield f"lies in {directory}, mode {mode:04o}, where anyone can replace it: chmod o-w {directory}"


def _others(path: Path, mode: int) -> str:
    """Return who else may read, write or execute the file, "" for nobody.

    systemd gives its credentials to the service's user by an access list where the file system has them; the group
    bits of the mode are then only the mask of that list.
    """
    try:
        entries = list(_ACL_ENTRY.iter_unpack(os.getxattr(path, _ACL)[_ACL_HEADER.size :]))
    except (OSError, AttributeError):  # no access list, or no system that has them: the mode says it all
        entries = []
    mask = next((granted for tag, granted, _ in entries if tag == _MASK), 7)
    for tag, granted, owner in entries:
        if tag == _USER and granted & mask and owner not in {0, os.geteuid()}:
            return f"uid {owner}"
        if tag in _GROUPS and granted & mask:
            return "a group"
    if not entries and mode & stat.S_IRWXG:
        return "its group"
    return "everybody" if mode & stat.S_IRWXO else ""
