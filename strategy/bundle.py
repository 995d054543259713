"""The bundle: what a trained ensemble is on disk, as values. Bytes in, values out; nothing here opens a file.

A bundle is `manifest.json` and one safetensors file of raw arrays per member: JSON and numbers, so that loading one
can never run code. Its id is the hash of the manifest, which holds the hash of every member; two equal training runs
therefore give one id, and no byte can change without being noticed.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeGuard

from numpy.typing import NDArray

from strategy.errors import BadBundle, BadWeights
from strategy.manifest import MANIFEST, BundleManifest, MemberRecord
from strategy.policy import Actor, Ensemble

Decode = Callable[[bytes], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle:
    """A verified ensemble with its manifest."""

    manifest: BundleManifest
    ensemble: Ensemble


def assemble(files: Mapping[str, bytes], decode: Decode) -> Bundle:
    """Return the bundle whose directory holds `files` (name -> contents), all of it verified.

    decode: turns the bytes of a safetensors file into arrays (`safetensors.numpy.load`).
    Raises BadBundle naming the file and the reason.
    """
    if MANIFEST not in files:
        raise BadBundle(f"{MANIFEST} is missing: this is not a bundle, or not all of one")
    manifest = BundleManifest.from_bytes(files[MANIFEST])
    expected = {MANIFEST, *(member.file for member in manifest.members)}
    for name in sorted(expected ^ set(files)):
        _refuse(name, "it is missing" if name in expected else "it does not belong to the bundle")
    actors = [_actor(manifest, member, files[member.file], decode) for member in manifest.members]
    try:
        ensemble = Ensemble(actors, [member.weight for member in manifest.members])
    except BadWeights as error:
        raise BadBundle(f"bundle {manifest.short_id}: {error}") from error
    return Bundle(manifest=manifest, ensemble=ensemble)


def check_compatible(
    manifest: BundleManifest,
    *,
    feature_schema: Mapping[str, Any],
    feature_hash: str,
    observation_size: int,
    action_rule_version: int,
) -> None:
    """Do nothing when the bundle was made for this program's features, observation and action rule.

    Raises BadBundle with the difference between the two schemas otherwise.
    """
    bundle = f"bundle {manifest.short_id}"
    if manifest.feature.hash != feature_hash:
        differences = list(_differences("", manifest.feature.schema, feature_schema))
        listed = "; ".join(differences) or "the schemas read the same, the code of the features has changed"
        raise BadBundle(f"{bundle}: it reads other features than this program makes: {listed}; train it again")
    if manifest.observation_size != observation_size:
        raise BadBundle(
            f"{bundle}: it reads observations of {manifest.observation_size} numbers, "
            f"this program makes {observation_size}; train it again"
        )
    if manifest.action.rule_version != action_rule_version:
        raise BadBundle(
            f"{bundle}: it was trained under action rule {manifest.action.rule_version}, "
            f"this program follows rule {action_rule_version}; train it again"
        )


def _actor(manifest: BundleManifest, member: MemberRecord, data: bytes, decode: Decode) -> Actor:
    digest = hashlib.sha256(data).hexdigest()
    if digest != member.sha256:
        _refuse(member.file, f"its sha256 is {digest}, the manifest says {member.sha256}: it was altered or cut short")
    try:
        arrays = decode(data)
    except Exception as error:
        # The decoder is the caller's and so is its family of errors; whatever it raises, the file is unusable.
        raise BadBundle(f"bundle file {member.file}: it cannot be read: {error}") from error
    try:
        return Actor.from_arrays(
            arrays,
            name=member.file,
            net_arch=member.net_arch,
            observation_size=manifest.observation_size,
            activation=member.activation,
            low=manifest.action.low,
            high=manifest.action.high,
            clip_mean=member.clip_mean,
        )
    except BadWeights as error:
        raise BadBundle(f"bundle file {error}") from error


def _refuse(file: str, reason: str) -> NoReturn:
    raise BadBundle(f"bundle file {file}: {reason}")


# ---- the difference between two schemas -------------------------------------------------------------------------
def _differences(place: str, bundle: object, program: object) -> Iterator[str]:
    """Yield in words where two JSON values differ."""
    if isinstance(bundle, Mapping) and isinstance(program, Mapping):
        for key in sorted({*bundle, *program}, key=str):
            where = f"{place}.{key}" if place else str(key)
            if key not in program:
                yield f"{where} only in the bundle ({_short(bundle[key])})"
            elif key not in bundle:
                yield f"{where} only in this program ({_short(program[key])})"
            else:
                yield from _differences(where, bundle[key], program[key])
    elif _is_list(bundle) and _is_list(program):
        yield from _list_differences(place, bundle, program)
    elif bundle != program:
        yield f"{place} is {_short(bundle)} in the bundle, {_short(program)} in this program"


def _list_differences(place: str, bundle: Sequence[object], program: Sequence[object]) -> Iterator[str]:
    named = _by_name(bundle), _by_name(program)
    if named[0] is not None and named[1] is not None:
        yield from _differences(place, named[0], named[1])
        if set(named[0]) == set(named[1]) and list(named[0]) != list(named[1]):
            yield f"{place} stand in another order"
        return
    if removed := [_short(item) for item in bundle if item not in program]:
        yield f"{place} only in the bundle: {', '.join(removed)}"
    if added := [_short(item) for item in program if item not in bundle]:
        yield f"{place} only in this program: {', '.join(added)}"
    if not removed and not added and list(bundle) != list(program):
        yield f"{place} stand in another order"


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


def _by_name(items: Sequence[object]) -> dict[str, object] | None:
    """Return a list of objects with distinct names as name -> object, or None when it is none."""
    named: dict[str, object] = {
        item["name"]: item for item in items if isinstance(item, Mapping) and isinstance(item.get("name"), str)
    }
    return named if len(named) == len(items) else None


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004  # a line of a terminal holds a few
