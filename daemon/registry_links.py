"""The links of a registry: `current` leads to the bundle that serves, `previous` to the one that did before.

One rename of `current` is the moment of a change: what `previous` is to lead to lies ready beside it as
`.previous.new`, and counts from that moment on, whether or not it has its name yet. A process that is killed, and a
loss of power, therefore leave the old pair or the new one, and whoever changes the links next tidies up.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from daemon.durable import sync
from daemon.errors import ArtifactError

CURRENT, PREVIOUS = "current", "previous"
BUNDLE_NAME = re.compile(r"[0-9a-f]{16}")
_NEXT, _FORMER = ".current.new", ".previous.new"


# ---- reading ----------------------------------------------------------------------------------------------------
def serving_names(registry: Path) -> tuple[str, str]:
    """Return the names of the bundles that `current` and `previous` lead to, "" where a link leads to none here.

    The second one is never the first: an ensemble does not come before itself.
    """
    current = _name(registry, CURRENT)
    former = (_name(registry, link) for link in (_FORMER, PREVIOUS))
    return current, next((name for name in former if name not in {"", current}), "")


def is_half_exchanged(registry: Path) -> bool:
    """Tell whether an exchange of the two was cut short after its moment: both links lead to the same bundle."""
    current, previous = serving_names(registry)
    return previous != "" and _name(registry, PREVIOUS) == current


def _name(registry: Path, link: str) -> str:
    target = _target(registry, link)
    if target is None:
        return ""
    place = registry / target
    try:
        is_here = place.parent.resolve() == registry.resolve()
    except (OSError, RuntimeError):  # RuntimeError: links that lead in a circle
        is_here = False
    return place.name if is_here and BUNDLE_NAME.fullmatch(place.name) else ""


def _target(registry: Path, link: str) -> str | None:
    """Return what a link says, as it stands; None when there is none that can be read."""
    try:
        return os.readlink(registry / link)  # noqa: PTH115  # a Path would not keep it as it stands
    except OSError:
        return None


# ---- changing ---------------------------------------------------------------------------------------------------
@contextmanager
def alone(registry: Path) -> Iterator[None]:
    """Keep every other process that changes links of `registry` out. Raises ArtifactError when one is at it."""
    try:
        descriptor = os.open(registry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ArtifactError(f"registry {registry}: {error.strerror}; name a directory of bundles") from error
    try:
        _lock(registry, descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(registry: Path, descriptor: int) -> None:
    """Lock the directory itself, for as long as the descriptor is open: no file to lock, and none left behind."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ArtifactError(f"registry {registry}: another process is changing its links; try again") from error
    except OSError as error:
        raise ArtifactError(
            f"registry {registry}: it cannot be locked: {error.strerror}; keep it on a local disk"
        ) from error


def lead_to(registry: Path, name: str) -> None:
    """Let `current` lead to the bundle `name`, and `previous` to what it led to before; called `alone`.

    Raises ArtifactError when that cannot be: then both lead where they did, or the message says where `current` leads.
    """
    _refuse_other_things(registry)
    try:
        _finish(registry)
        if name != _name(registry, CURRENT):
            _replace(registry, name)
    except OSError as error:
        raise ArtifactError(f"{_failure(registry, error)}; see that it can be written to and has room") from error


def _refuse_other_things(registry: Path) -> None:
    """Raise ArtifactError where no link stands in the place of one: it could not be replaced in one step."""
    for link in (CURRENT, PREVIOUS):
        place = registry / link
        if os.path.lexists(place) and not place.is_symlink():
            raise ArtifactError(f"{place}: it is not a link; give it another name, a bundle its short id")


def _replace(registry: Path, name: str) -> None:
    before = {link: _target(registry, link) for link in (CURRENT, PREVIOUS)}
    old = _name(registry, CURRENT)
    try:
        if old and (registry / old).is_dir():  # one that somebody has deleted is none to go back to
            (registry / _FORMER).symlink_to(old)
        (registry / _NEXT).symlink_to(name)
        sync(registry)  # both lie ready before the one takes effect
        (registry / _NEXT).replace(registry / CURRENT)
        sync(registry)
        _finish(registry)
    except OSError as error:
        _put_back(registry, before, error)
        raise


def _finish(registry: Path) -> None:
    """Give `previous` what waits for it, and remove what a change that never took effect has left."""
    _remove(registry / _NEXT)
    if _name(registry, _FORMER) in {"", _name(registry, CURRENT)}:
        _remove(registry / _FORMER)
    else:
        (registry / _FORMER).replace(registry / PREVIOUS)
    sync(registry)  # also where nothing changed: whoever made the change may have been killed before this


def _put_back(registry: Path, before: Mapping[str, str | None], reason: OSError) -> None:
    """After a failure let the links lead where they did. Raises ArtifactError when that fails as well."""
    try:
        _remove(registry / _NEXT)
        for link, target in before.items():
            if target is None:
                _remove(registry / link)
            elif target != _target(registry, link):
                (registry / _NEXT).symlink_to(target)
                (registry / _NEXT).replace(registry / link)
        _remove(registry / _FORMER)
        sync(registry)
    except OSError as error:
        leads = f"`current` leads to {_target(registry, CURRENT) or 'nothing'}"
        raise ArtifactError(
            f"{_failure(registry, reason)}, nor put back: {plainly(error)}: {leads}; see to the disk, then try again"
        ) from error


def _remove(link: Path) -> None:
    if link.is_symlink():  # where nothing is to be done, a place that cannot be written to is no obstacle
        link.unlink()


def _failure(registry: Path, error: OSError) -> str:
    return f"registry {registry}: its links cannot be changed: {plainly(error)}"


def plainly(error: Exception) -> str:
    """Return in words what went wrong with a file."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
