"""Artefacts that must never serve: damaged, half-written, made for something else, poisoned.

Each is refused by name before any link leads to it, with one exception that no look at the bytes can tell from an
ensemble that is very sure of itself: one whose votes all stand at the end of their range. Conduct finds it.
"""

import dataclasses
import hashlib
import itertools
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from daemon.errors import ArtifactError
from daemon.golden import check_serves
from daemon.models import find_bundle, list_bundles, resolve_name, serving_names, set_current
from strategy.bundle import Bundle
from strategy.conduct import STREAK, Conduct
from strategy.manifest import MANIFEST, BundleManifest
from strategy.observation import N_OBSERVATION
from tests.fakes.serving import BTC, write_bundle

Files = dict[str, bytes]
Arrays = dict[str, Any]
MEMBERS = ("member-0.safetensors", "member-1.safetensors", "member-2.safetensors")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A registry in which one bundle serves."""
    place = tmp_path / "models"
    set_current(place, write_bundle(place, seed=1).name)
    return place


@pytest.fixture
def sound(tmp_path: Path) -> Files:
    """The files of another bundle, which could serve."""
    return read(write_bundle(tmp_path / "elsewhere", seed=2))


def read(bundle: Path) -> Files:
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


def name_of(files: Files) -> str:
    return BundleManifest.from_bytes(files[MANIFEST]).short_id


def put(registry: Path, files: Mapping[str, bytes], name: str) -> Path:
    """Let the registry hold these files under that name, and nothing else of it."""
    place = registry / name
    place.mkdir(exist_ok=True)
    for path in place.iterdir():
        path.unlink()
    for file, data in files.items():
        (place / file).write_bytes(data)
    return place


def refused(registry: Path, name: str, *, timeframe: str = "1h") -> str:
    """Return why the bundle of that name may not serve; no link has moved."""
    before = serving_names(registry)
    with pytest.raises(ArtifactError) as told:
        check_serves(find_bundle(registry, name, timeframe=timeframe))
    assert serving_names(registry) == before
    message = str(told.value)
    assert name in message
    assert "\n" not in message
    return message


def never_current(registry: Path, name: str) -> str:
    """Return why the bundle is refused, by `set_current` as well."""
    before = serving_names(registry)
    message = refused(registry, name)
    with pytest.raises(ArtifactError) as told:
        set_current(registry, name)
    assert str(told.value) == message
    assert serving_names(registry) == before
    return message


def vouched(files: Files, change: Callable[[int, Arrays], Arrays], **records: Any) -> Files:
    """Return a bundle with other arrays, for which its manifest vouches; `records` go to what it says of each."""
    manifest = BundleManifest.from_bytes(files[MANIFEST])
    changed, members = {}, []
    for index, member in enumerate(manifest.members):
        arrays = change(index, dict(safetensors.numpy.load(files[member.file])))
        changed[member.file] = safetensors.numpy.save(arrays)
        digest = hashlib.sha256(changed[member.file]).hexdigest()
        members.append(dataclasses.replace(member, sha256=digest, **records))
    return {**changed, MANIFEST: dataclasses.replace(manifest, members=tuple(members)).to_bytes()}


def rewritten(files: Files, change: Callable[[dict[str, Any]], None]) -> Files:
    """Return the bundle with another manifest, whose id fits what it says, whether or not a manifest may say so."""
    document = json.loads(files[MANIFEST])
    del document["id"]
    change(document)
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    document["id"] = hashlib.sha256(canonical.encode()).hexdigest()
    return {**files, MANIFEST: json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"}


def test_what_the_faults_are_made_from_could_serve(registry: Path, sound: Files) -> None:
    put(registry, sound, name_of(sound))
    check_serves(find_bundle(registry, name_of(sound), timeframe="1h"))
    same = rewritten(vouched(sound, lambda _, arrays: arrays), lambda _: None)
    assert name_of(same) == name_of(sound)


# ---- row 53: damage -------------------------------------------------------------------------------------------------
def classes_of_bytes(files: Files) -> Iterator[tuple[str, str, int, int]]:
    """Yield file, meaning, first byte and end of everything that bytes of a bundle stand for."""
    for line in range(files[MANIFEST].count(b"\n")):
        lines = files[MANIFEST].splitlines(keepends=True)
        start = sum(map(len, lines[:line]))
        yield MANIFEST, f"line {line}", start, start + len(lines[line])
    for file in MEMBERS:
        (length,) = struct.unpack("<Q", files[file][:8])
        yield file, "length of the header", 0, 8
        yield file, "header", 8, 8 + length
        for layer, entry in json.loads(files[file][8 : 8 + length]).items():
            if layer != "__metadata__":
                start, end = entry["data_offsets"]
                yield file, layer, 8 + length + start, 8 + length + end


def damages(data: bytes, start: int, end: int) -> Iterator[tuple[str, bytes]]:
    """Yield what can happen to the bytes `start` to `end`: changed, zeroed, lost, doubled, and cut off at either."""
    for at in {start, (start + end) // 2, end - 1}:
        yield f"bit of byte {at}", data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
    yield "zeroed", data[:start] + bytes(end - start) + data[end:]
    yield "lost", data[:start] + data[end:]
    yield "doubled", data[:end] + data[start:]
    yield "cut off before", data[:start]
    yield "cut off in the middle", data[: (start + end) // 2]
    yield "something behind", data[:end] + b"\0" + data[end:]


@pytest.mark.fault(53)
def test_damage_to_any_class_of_bytes_is_refused_by_file(registry: Path, sound: Files) -> None:
    name, tried = name_of(sound), 0
    place = put(registry, sound, name)
    for file, meaning, start, end in classes_of_bytes(sound):
        for what, data in damages(sound[file], start, end):
            if data == sound[file]:
                continue
            (place / file).write_bytes(data)
            assert f"bundle file {file}: " in refused(registry, name), (file, meaning, what)
            tried += 1
        (place / file).write_bytes(sound[file])
    assert tried > 1_000
    assert "sha256" in never_current(registry, _cut_last(place))


def _cut_last(place: Path) -> str:
    member = place / MEMBERS[-1]
    member.write_bytes(member.read_bytes()[:-1])
    return place.name


@pytest.mark.fault(53)
def test_files_that_stand_for_each_other_are_refused(registry: Path, sound: Files, tmp_path: Path) -> None:
    other, name = read(write_bundle(tmp_path / "other", seed=3)), name_of(sound)
    first, second, third = MEMBERS
    swapped = {**sound, first: sound[second], second: sound[first]}
    cases: dict[str, tuple[Files, str]] = {
        "members swapped": (swapped, f"bundle file {first}: its sha256 is "),
        "one member for all": (dict.fromkeys(MEMBERS, sound[first]) | {MANIFEST: sound[MANIFEST]}, f"file {second}: "),
        "a member of another bundle": ({**sound, third: other[third]}, f"bundle file {third}: its sha256 is "),
        "manifest of another bundle": ({**sound, MANIFEST: other[MANIFEST]}, f"bundle file {first}: its sha256 is "),
        "all of another bundle": (other, f"it holds bundle {name_of(other)}; rename the directory to that"),
        "a member too many": ({**sound, "member-3.safetensors": sound[third]}, "member-3.safetensors: it does not"),
        "a member missing": ({file: sound[file] for file in (MANIFEST, first, third)}, f"{second}: it is missing"),
        "no manifest": ({file: sound[file] for file in MEMBERS}, "manifest.json is missing"),
        "nothing": ({}, "manifest.json is missing"),
    }
    for what, (files, words) in cases.items():
        put(registry, files, name)
        assert words in never_current(registry, name), what


@pytest.mark.fault(53)
def test_members_that_change_places_with_the_manifest_make_another_bundle(registry: Path, sound: Files) -> None:
    def change_places(document: dict[str, Any]) -> None:
        members = document["members"]
        members[0]["sha256"], members[1]["sha256"] = members[1]["sha256"], members[0]["sha256"]

    moved = rewritten(sound, change_places)
    moved[MEMBERS[0]], moved[MEMBERS[1]] = sound[MEMBERS[1]], sound[MEMBERS[0]]
    put(registry, moved, name_of(sound))
    assert f"it holds bundle {name_of(moved)}" in never_current(registry, name_of(sound))


# ---- row 60: half a bundle ------------------------------------------------------------------------------------------
def stages(files: Files, order: Sequence[str]) -> Iterator[tuple[str, Files]]:
    """Yield what lies there at each stage of writing files one after the other; never all of it."""
    written: Files = {}
    for file in order:
        data = files[file]
        for count in sorted({0, 1, 8, len(data) // 2, len(data) - 1}):
            yield f"{count} bytes of {file}", {**written, file: data[:count]}
        written[file] = data
        if len(written) < len(files):
            yield f"up to {file}", dict(written)


@pytest.mark.fault(60)
def test_at_no_stage_of_its_writing_is_a_bundle_taken_for_one(registry: Path, sound: Files) -> None:
    name, tried = name_of(sound), 0
    for order in itertools.permutations(sound):
        for stage, files in stages(sound, order):
            put(registry, files, name)
            message = refused(registry, name)
            assert "bundle file " in message or "manifest.json is missing" in message, stage
            tried += 1
    assert tried > 24 * 15
    put(registry, sound, name)
    set_current(registry, name)


@pytest.mark.fault(60)
def test_at_no_stage_of_being_written_over_is_a_bundle_taken_for_either(
    registry: Path, sound: Files, tmp_path: Path
) -> None:
    over = read(write_bundle(tmp_path / "other", seed=3))
    name = name_of(over)
    for order in itertools.permutations(sound):
        for stage, files in stages(over, order):
            put(registry, {**sound, **files}, name)
            assert "bundle file " in refused(registry, name), stage


@pytest.mark.fault(60)
def test_what_is_written_aside_is_not_seen_until_it_has_its_name(registry: Path, sound: Files) -> None:
    name = name_of(sound)
    aside = put(registry, {MANIFEST: sound[MANIFEST]}, f".{name}.a1b2c3d4")
    assert name not in {listed.name for listed in list_bundles(registry)}
    with pytest.raises(ArtifactError, match=f"begins with {name!r}"):
        resolve_name(registry, name)
    assert "No such file or directory" in never_current(registry, name)
    put(registry, sound, aside.name)
    aside.rename(registry / name)
    set_current(registry, resolve_name(registry, name[:6]))


# ---- row 54: made for something else --------------------------------------------------------------------------------
def _feature(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["feature"].update(changes)


def _another_window(document: dict[str, Any]) -> None:
    document["feature"]["schema"]["window"] = 48
    document["feature"]["hash"] = "0" * 64


def _another_size(document: dict[str, Any]) -> None:
    document["observation_size"] = N_OBSERVATION + 1


MISFITS: Mapping[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "another feature hash": (
        _feature(hash="0" * 64),
        "the schemas read the same, the code of the features has changed",
    ),
    "another window": (_another_window, "window is 48 in the bundle, "),
    "another action rule": (lambda document: document["action"].update(rule_version=9_999), "under action rule 9999"),
    "another action box": (
        lambda document: document["action"].update(low=[-1.0, -1.0, 0.0]),
        "action bounds (-1.0, ",
    ),
    "another format": (lambda document: document.update(format=2), "this version of sacd reads format 1"),
    "an observation its members do not read": (_another_size, "has shape "),
    "no members": (lambda document: document.update(members=[]), "at least one"),
    "weights of members that do not sum to 1": (
        lambda document: document["members"][0].update(weight=0.9),
        "ensemble weights sum to ",
    ),
}


@pytest.mark.fault(54)
@pytest.mark.parametrize("misfit", MISFITS)
def test_a_bundle_made_for_something_else_is_refused_with_what_differs(
    registry: Path, sound: Files, misfit: str
) -> None:
    change, words = MISFITS[misfit]
    files = rewritten(sound, change)
    name = json.loads(files[MANIFEST])["id"][:16]
    put(registry, files, name)
    assert words in never_current(registry, name)


@pytest.mark.fault(54)
@pytest.mark.parametrize("size", [N_OBSERVATION - 1, N_OBSERVATION + 1])
def test_a_bundle_that_reads_another_observation_is_refused_with_both_sizes(
    registry: Path, sound: Files, size: int
) -> None:
    def resized(_index: int, arrays: Arrays) -> Arrays:
        first = arrays["layer0.weight"]
        return {**arrays, "layer0.weight": np.resize(first, (first.shape[0], size)).astype(np.float32)}

    small = vouched(sound, resized)
    files = rewritten(small, lambda document: document.update(observation_size=size))
    name = name_of(files)
    put(registry, files, name)
    words = f"it reads observations of {size} numbers, this program makes {N_OBSERVATION}; train it again"
    assert words in never_current(registry, name)


@pytest.mark.fault(54)
def test_a_bundle_of_another_timeframe_is_refused_where_candles_are_known(registry: Path) -> None:
    name = write_bundle(registry, seed=2, timeframe="4h").name
    assert "trained on 4h candles, it would be given those of 1h" in refused(registry, name)


# ---- rows 55, 56 and 59: weights ------------------------------------------------------------------------------------
def _every(factor: float) -> Callable[[int, Arrays], Arrays]:
    return lambda _, arrays: {layer: array * np.float32(factor) for layer, array in arrays.items()}


def _one(value: float) -> Callable[[int, Arrays], Arrays]:
    """Return what puts a value into a single weight of the second member."""

    def change(index: int, arrays: Arrays) -> Arrays:
        weights = arrays["layer1.weight"].copy()
        weights[0, 0] = value if index == 1 else weights[0, 0]
        return {**arrays, "layer1.weight": weights}

    return change


def _as(dtype: type) -> Callable[[int, Arrays], Arrays]:
    return lambda _, arrays: {layer: array.astype(dtype) for layer, array in arrays.items()}


def _without_bias(_index: int, arrays: Arrays) -> Arrays:
    return {layer: array for layer, array in arrays.items() if layer != "layer2.bias"}


UNLOADABLE: Mapping[str, tuple[Callable[[int, Arrays], Arrays], str]] = {
    "NaN": (_one(np.nan), "member-1.safetensors: layer1.weight holds numbers that are not finite"),
    "infinite": (_one(np.inf), "member-1.safetensors: layer1.weight holds numbers that are not finite"),
    "minus infinite": (_one(-np.inf), "member-1.safetensors: layer1.weight holds numbers that are not finite"),
    "a huge one": (_one(1e38), "member-1.safetensors: its weights are so large that an answer could leave float32"),
    "all times a million million": (_every(1e12), "member-0.safetensors: its weights are so large"),
    "double precision": (_as(np.float64), "member-0.safetensors: layer0.weight is float64, not float32"),
    "half precision": (_as(np.float16), "member-0.safetensors: layer0.weight is float16, not float32"),
    "an array missing": (_without_bias, "member-0.safetensors: arrays missing or unknown for net_arch [8, 4]"),
}


@pytest.mark.fault(55)
@pytest.mark.parametrize("weights", UNLOADABLE)
def test_weights_that_make_no_policy_are_refused_by_member(registry: Path, sound: Files, weights: str) -> None:
    change, words = UNLOADABLE[weights]
    files = vouched(sound, change)
    put(registry, files, name_of(files))
    assert words in never_current(registry, name_of(files))


@pytest.mark.fault(59)
@pytest.mark.parametrize("factor", [0.0, 1e-9])
def test_weights_without_size_are_a_vote_that_never_changes(registry: Path, sound: Files, factor: float) -> None:
    files = vouched(sound, _every(factor))
    put(registry, files, name_of(files))
    # Nothing is squashed into the middle of every range.
    assert "is degenerate: it votes (0.000, 0.500, 0.500) whatever it is shown" in refused(registry, name_of(files))


@pytest.mark.fault(56)
def test_weights_a_thousand_times_as_large_load_answer_and_are_caught_by_conduct(registry: Path, sound: Files) -> None:
    files = vouched(sound, _every(1_000.0), clip_mean=None, use_sde=False)
    put(registry, files, name_of(files))
    bundle = find_bundle(registry, name_of(files), timeframe="1h")
    check_serves(bundle)
    faults = list(_faults(bundle))
    assert faults[: STREAK - 1] == [""] * (STREAK - 1)
    assert faults[STREAK - 1] == f"every direction beyond 0.99 on every symbol, {STREAK} decisions in a row"


def test_an_ensemble_that_could_serve_is_not_caught_by_conduct(registry: Path, sound: Files) -> None:
    put(registry, sound, name_of(sound))
    assert set(_faults(find_bundle(registry, name_of(sound)))) == {""}


def _faults(bundle: Bundle) -> Iterator[str]:
    """Yield what conduct says after each of some decisions on observations that look like training."""
    rng, conduct = np.random.default_rng(8), Conduct()
    for _ in range(2 * STREAK):
        observation = np.clip(rng.normal(size=N_OBSERVATION), -2.0, 2.0).astype(np.float32)
        conduct = conduct.after({BTC: bundle.ensemble.act_one(observation)}, {BTC: 100.0 + rng.normal()})
        yield conduct.fault
