"""Finds, verifies and selects bundles on disk. Nothing read here is ever executed or followed out of its directory.

A registry is a directory of bundles, each named by its short id, with the links `current` and `previous`.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.numpy

from daemon.errors import ArtifactError
from daemon.readiness import EVALUATION
from strategy.bundle import Bundle, assemble, check_compatible
from strategy.errors import BadBundle
from strategy.manifest import MANIFEST, BundleManifest

CURRENT, PREVIOUS = "current", "previous"
_NOT_PART = frozenset({"training", EVALUATION})
"""What may lie in the directory and is not part of the bundle: what whoever trains on needs, and its evaluation."""
_MOST_FILES = 101  # a manifest and a hundred members
_LARGEST_MANIFEST = 4 * 2**20
_LARGEST_MEMBER = 64 * 2**20
_ID = re.compile(r"[0-9a-f]{16}")
_REMEDY = "keep using another bundle, or train or copy this one again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A directory of a registry. manifest: None when it cannot be used, and then `fault` says why."""

    name: str
    path: Path
    is_current: bool
    is_previous: bool
    manifest: BundleManifest | None
    fault: str


def load_bundle(path: Path) -> Bundle:
    """Return the verified bundle in the directory `path`, or in the one that the link `path` points to.

    Raises ArtifactError naming path, file, reason and remedy.
    """
    try:
        directory = path.resolve(strict=True)
        return assemble(_read(directory), safetensors.numpy.load)
    except (OSError, RuntimeError) as error:
        raise ArtifactError(f"bundle {path}: {_plainly(error)}; {_REMEDY}") from error
    except BadBundle as error:
        raise ArtifactError(f"{path}: {error}; {_REMEDY}") from error


def load_compatible(
    path: Path,
    *,
    feature_schema: Mapping[str, Any],
    feature_hash: str,
    observation_size: int,
    action_rule_version: int,
) -> Bundle:
    """Return the verified bundle at `path`, made for the features, observation and action rule of this program.

    Raises ArtifactError as `load_bundle` does, and with the difference of the feature schemas when they differ.
    """
    bundle = load_bundle(path)
    try:
        check_compatible(
            bundle.manifest,
            feature_schema=feature_schema,
            feature_hash=feature_hash,
            observation_size=observation_size,
            action_rule_version=action_rule_version,
        )
    except BadBundle as error:
        raise ArtifactError(f"{path}: {error}") from error
    return bundle


def list_bundles(registry: Path) -> tuple[Listed, ...]:
    """Return what lies in `registry`, by name, each bundle verified. Raises ArtifactError when it is no directory."""
    try:
        names = sorted(entry.name for entry in os.scandir(registry) if _is_bundle_directory(entry))
    except OSError as error:
        raise ArtifactError(f"registry {registry}: {_plainly(error)}; name a directory of bundles") from error
    return tuple(_listed(registry, name) for name in names)


def set_current(registry: Path, name: str) -> None:
    """Make the bundle `name` (a short id) the one that `current` links to, and what it was before `previous`.

    Readers see the old link or the new one, also when power fails in between. Raises ArtifactError, and changes
    nothing, when the bundle cannot be used.
    """
    if not _ID.fullmatch(name):
        raise ArtifactError(f"bundle name {name!r} is not 16 hexadecimal digits; `sacd models list` shows the names")
    listed = _listed(registry, name)
    if listed.manifest is None:
        raise ArtifactError(listed.fault)
    before = _target(registry, CURRENT)
    if before == name:
        return
    try:
        # `previous` first: between the two both name the old bundle, and nothing is lost.
        if before is not None and (registry / before).is_dir():
            _link(registry, PREVIOUS, before)
        _link(registry, CURRENT, name)
    except OSError as error:
        raise ArtifactError(f"registry {registry}: cannot replace a link: {_plainly(error)}") from error


def _is_bundle_directory(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)


def _listed(registry: Path, name: str) -> Listed:
    path = registry / name
    manifest, fault = None, ""
    try:
        manifest = load_bundle(path).manifest
        if manifest.short_id != name:
            fault = f"{path}: it holds bundle {manifest.short_id}; rename the directory to that"
            manifest = None
    except ArtifactError as error:
        fault = str(error)
    return Listed(
        name=name,
        path=path,
        is_current=_target(registry, CURRENT) == name,
        is_previous=_target(registry, PREVIOUS) == name,
        manifest=manifest,
        fault=fault,
    )


def _target(registry: Path, link: str) -> str | None:
    """Return what a link of the registry points to, None when there is no such link."""
    try:
        return (registry / link).readlink().name
    except OSError:
        return None


def _link(registry: Path, link: str, name: str) -> None:
    fresh = registry / f".{link}.new"
    fresh.unlink(missing_ok=True)  # of a run that was killed
    fresh.symlink_to(name)
    fresh.replace(registry / link)
    descriptor = os.open(registry, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(directory: Path) -> dict[str, bytes]:
    """Return name -> contents of the files in `directory`; only plain files of bounded size are opened."""
    names = [path.name for path in directory.iterdir() if path.name not in _NOT_PART]
    if len(names) > _MOST_FILES:
        raise BadBundle(f"it holds {len(names)} files, a bundle at most {_MOST_FILES}")
    return {name: _contents(directory / name) for name in sorted(names)}


def _contents(path: Path) -> bytes:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise BadBundle(f"bundle file {path.name}: it is not a plain file")
    limit = _LARGEST_MANIFEST if path.name == MANIFEST else _LARGEST_MEMBER
    # Should it have been replaced since: O_NOFOLLOW for a link, O_NONBLOCK for a pipe that nobody writes to.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise BadBundle(f"bundle file {path.name}: {size} bytes are more than the {limit} it may have")
        return file.read(size)


def _plainly(error: Exception) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
