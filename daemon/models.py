"""Finds, verifies and selects bundles on disk. Nothing read here is ever executed or followed out of its directory.

A registry is a directory of bundles, each named by its short id, with the links `current` and `previous`.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.numpy

from daemon import registry_links
from daemon.durable import sync
from daemon.errors import ArtifactError
from daemon.readiness import EVALUATION
from daemon.registry_links import BUNDLE_NAME, plainly, serving_names
from strategy.bundle import Bundle, assemble, check_compatible
from strategy.decision import ACTION_RULE_VERSION
from strategy.errors import BadBundle
from strategy.manifest import MANIFEST, BundleManifest
from strategy.observation import N_OBSERVATION, OBSERVATION_HASH, OBSERVATION_SCHEMA

__all__ = (
    "Listed",
    "find_bundle",
    "list_bundles",
    "load_bundle",
    "load_compatible",
    "resolve_name",
    "serving_names",
    "set_current",
    "swap_back",
)
_NOT_PART = frozenset({"training", EVALUATION})
"""What may lie in the directory and is not part of the bundle: what whoever trains on needs, and its evaluation."""
_MOST_FILES = 101  # a manifest and a hundred members
_LARGEST_MANIFEST = 4 * 2**20
_LARGEST_MEMBER = 64 * 2**20
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
        raise ArtifactError(f"bundle {path}: {plainly(error)}; {_REMEDY}") from error
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
    serving = serving_names(registry)
    return tuple(_listed(registry, name, serving) for name in _names(registry))


def resolve_name(registry: Path, prefix: str) -> str:
    """Return the name of the one bundle of `registry` that begins with `prefix`, also when it cannot be used.

    Raises ArtifactError listing the bundles it could be when there is none, or more than one.
    """
    names = [name for name in _names(registry) if BUNDLE_NAME.fullmatch(name)]
    found = [name for name in names if prefix and name.startswith(prefix.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        raise ArtifactError(f"bundle {prefix!r} of registry {registry} could be {', '.join(found)}; give more digits")
    there = f"there are {', '.join(names)}" if names else "it holds none"
    raise ArtifactError(f"no bundle of registry {registry} begins with {prefix!r}; {there}")


def find_bundle(registry: Path, short_id: str, *, timeframe: str = "") -> Bundle:
    """Return the bundle of that name, verified and such that this program can serve it.

    timeframe: of the candles it must have been trained on, such as "1h"; "" takes any.
    Raises ArtifactError as `load_compatible` does, for another timeframe, and for a directory of another name.
    """
    if not BUNDLE_NAME.fullmatch(short_id):
        raise ArtifactError(
            f"bundle name {short_id!r} is not 16 hexadecimal digits; `sacd models list` shows the names"
        )
    path = registry / short_id
    bundle = load_compatible(
        path,
        feature_schema=OBSERVATION_SCHEMA,
        feature_hash=OBSERVATION_HASH,
        observation_size=N_OBSERVATION,
        action_rule_version=ACTION_RULE_VERSION,
    )
    _refuse_other_name(path, bundle.manifest)
    trained = bundle.manifest.training.timeframe
    if timeframe not in {"", trained}:
        raise ArtifactError(f"{path}: trained on {trained} candles, it would be given those of {timeframe}; {_REMEDY}")
    return bundle


def set_current(registry: Path, name: str) -> None:
    """Make the bundle `name` (a short id) the one that `current` leads to, and what it was before `previous`.

    Readers see the old link or the new one, also when power fails in between; once this returns, the new one is on
    disk. Repeated, also after a kill, it ends alike. Raises ArtifactError when this program cannot serve the bundle,
    when another process is at it, and when the links cannot be changed: then nothing has changed, or the message says
    where `current` leads.
    """
    with registry_links.alone(registry):
        _lead_to(registry, name)


def swap_back(registry: Path) -> str:
    """Let `current` and `previous` change places; returns the name of what serves from now on.

    One that was killed half-way is finished by the next, but one that was done is undone: whoever must be able to
    repeat it blindly names the bundle (`set_current`). Raises ArtifactError as `set_current` does, and when there is
    nothing to go back to.
    """
    with registry_links.alone(registry):
        current, previous = serving_names(registry)
        if not previous:
            raise ArtifactError(
                f"registry {registry}: no ensemble served before {current or 'the present one'}; "
                "`sacd models promote ID` takes any that `sacd models list` shows"
            )
        name = current if registry_links.is_half_exchanged(registry) else previous
        _lead_to(registry, name)
    return name


def _lead_to(registry: Path, name: str) -> None:
    manifest = find_bundle(registry, name).manifest
    _make_durable(registry / name, manifest)
    registry_links.lead_to(registry, name)


def _make_durable(path: Path, manifest: BundleManifest) -> None:
    """Put a bundle on disk before a link leads there: somebody may just have copied it."""
    try:
        for file in (*(member.file for member in manifest.members), MANIFEST, "."):
            sync(path / file)
    except OSError as error:
        raise ArtifactError(f"bundle {path}: it cannot be put on disk: {plainly(error)}; {_REMEDY}") from error


def _names(registry: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(registry) if _is_bundle_directory(entry))
    except OSError as error:
        raise ArtifactError(f"registry {registry}: {plainly(error)}; name a directory of bundles") from error


def _is_bundle_directory(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)


def _listed(registry: Path, name: str, serving: tuple[str, str]) -> Listed:
    path = registry / name
    manifest, fault = None, ""
    try:
        manifest = load_bundle(path).manifest
        _refuse_other_name(path, manifest)
    except ArtifactError as error:
        manifest, fault = None, str(error)
    current, previous = serving
    return Listed(
        name=name,
        path=path,
        is_current=name == current,
        is_previous=name == previous,
        manifest=manifest,
        fault=fault,
    )


def _refuse_other_name(path: Path, manifest: BundleManifest) -> None:
    if manifest.short_id != path.name:
        raise ArtifactError(f"{path}: it holds bundle {manifest.short_id}; rename the directory to that")


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
