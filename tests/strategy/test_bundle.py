import dataclasses
import hashlib
import json
import pickle
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.bundle import assemble, check_compatible
from strategy.errors import BadBundle
from strategy.manifest import MANIFEST, ActionRecord, BundleManifest, FeatureRecord, Reference
from tests.fakes.bundles import (
    OBSERVATION_SIZE,
    SCHEMA,
    SCHEMA_HASH,
    make_files,
    make_manifest,
    member_record,
    random_arrays,
)

MEMBER = "member-1.safetensors"
FILES = make_files()


def load(files: dict[str, bytes]) -> Any:
    return assemble(files, safetensors.numpy.load)


def refusal(files: dict[str, bytes]) -> str:
    with pytest.raises(BadBundle) as refused:
        load(files)
    message = str(refused.value)
    assert "\n" not in message
    return message


def with_member(data: bytes) -> dict[str, bytes]:
    """A bundle whose manifest vouches for `data` as its only member: made by someone who knows how."""
    member = member_record(0, data, weight=1.0)
    return {"member-0.safetensors": data, MANIFEST: make_manifest((member,)).to_bytes()}


def with_manifest(change: Callable[[dict[str, Any]], object], *, fix_id: bool = True) -> dict[str, bytes]:
    """The good bundle with its manifest changed, and its id computed again."""
    document = json.loads(FILES[MANIFEST])
    change(document)
    if fix_id:
        content = {key: value for key, value in document.items() if key != "id"}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        document["id"] = hashlib.sha256(text.encode()).hexdigest()
    return {**FILES, MANIFEST: (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()}


def test_a_good_bundle_gives_its_members_in_order() -> None:
    bundle = load(FILES)
    observation = np.linspace(-1, 1, OBSERVATION_SIZE, dtype=np.float32)
    votes = bundle.ensemble.act_one(observation)
    assert votes.shape == (3, 3)
    for index in range(3):
        arrays = {name: array.astype(np.float64) for name, array in random_arrays(index).items()}
        values = observation.astype(np.float64)
        for layer in range(2):
            values = np.maximum(arrays[f"layer{layer}.weight"] @ values + arrays[f"layer{layer}.bias"], 0.0)
        squashed = np.tanh(np.clip(arrays["layer2.weight"] @ values + arrays["layer2.bias"], -2.0, 2.0))
        expected = [squashed[0], (squashed[1] + 1) / 2, (squashed[2] + 1) / 2]
        assert votes[index] == pytest.approx(expected, abs=1e-6)
    assert bundle.ensemble.weights.tolist() == [1 / 3] * 3
    assert [actor.name for actor in bundle.ensemble.actors] == [f"member-{index}.safetensors" for index in range(3)]


def test_the_order_of_files_in_a_directory_changes_nothing() -> None:
    assert load(dict(reversed(FILES.items()))).manifest == load(FILES).manifest


def test_the_id_is_the_hash_of_the_content_and_nothing_else() -> None:
    document = json.loads(FILES[MANIFEST])
    stated = document.pop("id")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert stated == hashlib.sha256(text.encode()).hexdigest()
    assert load(FILES).manifest.id == stated
    assert load(FILES).manifest.short_id == stated[:16]
    assert make_files() == FILES


def test_other_weights_give_another_id() -> None:
    other = make_files({0: random_arrays(0), 1: random_arrays(1), 2: random_arrays(99)})
    assert load(other).manifest.id != load(FILES).manifest.id


def test_a_manifest_survives_its_file() -> None:
    evaluation = {"sharpe": 0.1, "note": "größer, ok", "windows": [1, 2.5, None, True], "deep": {"a": {"b": []}}}
    manifest = make_manifest(
        (member_record(0, b"", weight=1, clip_mean=None, net_arch=(), seed=2**64),), evaluation=evaluation
    )
    assert BundleManifest.from_bytes(manifest.to_bytes()) == manifest
    assert BundleManifest.from_bytes(manifest.to_bytes()).id == manifest.id


# ---- altered, missing, extra, truncated -------------------------------------------------------------------------
@pytest.mark.fault(53)
def test_every_bit_of_the_manifest_counts() -> None:
    good = FILES[MANIFEST]
    for position in range(len(good)):
        altered = bytearray(good)
        altered[position] ^= 1 << (position % 8)
        assert MANIFEST in refusal({**FILES, MANIFEST: bytes(altered)}), f"byte {position}"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text + b" ",
        lambda text: text.replace(b" ", b"\t", 1),
        lambda text: text.replace(b'"seed": 0', b'"seed": 0.0'),
        lambda text: json.dumps(json.loads(text)).encode(),
        lambda text: text.replace(b'"format": 1', b'"format": 1,\n "format": 1'),
    ],
    ids=["line ends", "space at the end", "tab", "0 as 0.0", "one line", "key twice"],
)
def test_a_manifest_that_means_the_same_in_other_bytes_is_refused(change: Callable[[bytes], bytes]) -> None:
    altered = change(FILES[MANIFEST])
    assert altered != FILES[MANIFEST]
    assert MANIFEST in refusal({**FILES, MANIFEST: altered})


@pytest.mark.fault(53)
@pytest.mark.parametrize("name", [name for name in FILES if name != MANIFEST])
def test_every_bit_of_a_member_counts(name: str) -> None:
    good = FILES[name]
    for position in range(len(good)):
        altered = bytearray(good)
        altered[position] ^= 1 << (position % 8)
        message = refusal({**FILES, name: bytes(altered)})
        assert message.startswith(f"bundle file {name}: its sha256 is "), f"byte {position}"


@pytest.mark.fault(53)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named(name: str, keep: float) -> None:
    assert f"bundle file {name}: " in refusal({**FILES, name: FILES[name][: int(len(FILES[name]) * keep)]})


@pytest.mark.fault(53)
@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str) -> None:
    message = refusal({other: data for other, data in FILES.items() if other != name})
    assert name in message
    assert "is missing" in message


@pytest.mark.parametrize("name", ["member-3.safetensors", "notes.txt", "weights.pkl", "MANIFEST.json"])
def test_a_file_too_many_is_named(name: str) -> None:
    assert refusal({**FILES, name: b"x"}) == f"bundle file {name}: it does not belong to the bundle"


def test_members_cannot_stand_for_each_other() -> None:
    swapped = {**FILES, MEMBER: FILES["member-2.safetensors"], "member-2.safetensors": FILES[MEMBER]}
    assert f"bundle file {MEMBER}: its sha256 is " in refusal(swapped)


# ---- manifests that say what cannot be --------------------------------------------------------------------------
def set_at(*path: Any) -> Callable[[dict[str, Any]], None]:
    *steps, last, value = path

    def change(document: Any) -> None:
        for step in steps:
            document = document[step]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_at("format", 2), "format 2 is not known; this version of sacd reads format 1"),
        (set_at("format", None), "format None is not known"),
        (set_at("surprise", 1), "manifest: keys missing or unknown: surprise"),
        (lambda d: d.pop("training"), "manifest: keys missing or unknown: training"),
        (lambda d: d["members"][0].pop("seed"), "manifest.members[0]: keys missing or unknown: seed"),
        (set_at("members", {}), "manifest.members {} is not a list"),
        (set_at("members", []), "at least one"),
        (set_at("members", 1, "file", "member-0.safetensors"), "each with a file of its own"),
        (set_at("members", 1, "file", "../member-1.safetensors"), "is not of the form member-0.safetensors"),
        (set_at("members", 1, "file", "/etc/passwd"), "is not of the form member-0.safetensors"),
        (set_at("members", 1, "file", "manifest.json"), "is not of the form member-0.safetensors"),
        (set_at("members", 1, "sha256", "0" * 63), "is not 64 hexadecimal digits"),
        (set_at("members", 1, "seed", 1.5), "manifest.members[1].seed 1.5 is not a whole number"),
        (set_at("members", 1, "seed", True), "manifest.members[1].seed True is not a whole number"),
        (set_at("members", 1, "seed", -1), "members[1].seed -1 is negative"),
        (set_at("members", 1, "weight", 0.0), "members[1].weight 0.0 is not above 0"),
        (set_at("members", 1, "weight", 0.9), "ensemble weights sum to 1.5666"),
        (set_at("members", 1, "weight", "1"), "manifest.members[1].weight '1' is not a whole number"),
        (set_at("members", 1, "net_arch", [8, 0]), "members[1].net_arch [8, 0]"),
        (set_at("members", 1, "net_arch", [8, 5]), "member-1.safetensors: layer1.weight has shape (4, 8)"),
        (set_at("members", 1, "net_arch", [8]), "member-1.safetensors: arrays missing or unknown"),
        (set_at("members", 1, "activation", "gelu"), "members[1].activation 'gelu' is not one of relu, tanh"),
        (set_at("members", 1, "clip_mean", 0.0), "members[1].clip_mean 0.0 is not a positive number"),
        (set_at("members", 1, "use_sde", 1), "manifest.members[1].use_sde 1 is not true or false"),
        (set_at("observation_size", 0), "observation_size 0"),
        (set_at("observation_size", 6), "layer0.weight has shape (8, 5), net_arch requires (8, 6)"),
        (set_at("action", "low", [-1.0, -1.0, 0.0]), "action bounds (-1.0, -1.0, 0.0)"),
        (set_at("action", "high", [1.0, 1.0]), "action bounds"),
        (set_at("action", "rule_version", 0), "action.rule_version 0"),
        (set_at("feature", "hash", "abc"), "feature.hash 'abc' is not 64 hexadecimal digits"),
        (set_at("feature", "schema", []), "manifest.feature.schema [] is not an object"),
        (set_at("reference", "std", [1.0]), "reference has 3 means and 1 deviations"),
        (set_at("reference", "std", [1.0, 1.0, -1.0]), "reference.std"),
        (set_at("reference", "limit", 0.0), "reference.limit 0.0"),
        (set_at("costs", "fee_rate", "x"), "manifest.costs.fee_rate 'x'"),
        (set_at("risk", "max_position", None), "manifest.risk.max_position None"),
        (set_at("training", "end_ms", 0), "training span"),
        (set_at("training", "steps", 0), "training of 0 steps"),
        (set_at("training", "symbols", []), "on 0 symbols"),
        (set_at("training", "data", 0, "sha256", ""), "training.data btc.csv: sha256 ''"),
        (set_at("evaluation", []), "manifest.evaluation [] is not an object"),
        (set_at("versions", "numpy", 2), "manifest.versions.numpy 2 is not a text"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused_in_words(change: Callable[[dict[str, Any]], None], words: str) -> None:
    assert words in refusal(with_manifest(change))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(value: str) -> None:
    altered = FILES[MANIFEST].replace(b'"limit": 4.0', f'"limit": {value}'.encode())
    assert MANIFEST in refusal({**FILES, MANIFEST: altered})


def test_an_id_that_is_not_the_contents_is_refused() -> None:
    message = refusal(with_manifest(set_at("training", "steps", 2000), fix_id=False))
    assert "its contents give " in message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"\x80\x04N.",
        b'{"a":' * 100_000,
        b"[" * 5_000 + b"]" * 5_000,
        b'{"format": 1, "evaluation": ' + b'{"a":' * 600 + b"1" + b"}" * 601,
    ],
)
def test_a_manifest_that_is_none_is_refused(data: bytes) -> None:
    assert MANIFEST in refusal({**FILES, MANIFEST: data})


def test_a_manifest_that_cannot_be_is_not_made_either() -> None:
    member = member_record(0, b"", weight=1.0)
    nan = float("nan")
    for changes in (
        {"reference": Reference(mean=(nan,), std=(1.0,), limit=1.0)},
        {"action": ActionRecord(low=(0.0, 0.0, 0.0), high=(1.0, 1.0, 1.0), rule_version=1)},
        {"costs": {"fee_rate": nan}},
        {"evaluation": {"sharpe": nan}},
        {"evaluation": {"report": object()}},
        {"feature": FeatureRecord(hash="", schema={})},
    ):
        with pytest.raises(BadBundle, match=re.escape(MANIFEST)):
            make_manifest((member,), **changes)


# ---- members that a manifest vouches for and that are bad all the same -------------------------------------------
@pytest.mark.fault(55)
def test_a_member_with_a_nan_weight_is_refused_by_layer() -> None:
    arrays = random_arrays(0)
    arrays["layer1.weight"][2, 3] = np.nan
    message = refusal(with_member(safetensors.numpy.save(arrays)))
    assert message == "bundle file member-0.safetensors: layer1.weight holds numbers that are not finite"


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.bool_])
def test_a_member_of_another_type_is_refused(dtype: type) -> None:
    arrays = random_arrays(0)
    arrays["layer2.bias"] = arrays["layer2.bias"].astype(dtype)
    assert "layer2.bias is " in refusal(with_member(safetensors.numpy.save(arrays)))


def test_a_member_with_an_array_too_many_or_too_few_is_refused() -> None:
    arrays = random_arrays(0)
    message = refusal(with_member(safetensors.numpy.save({**arrays, "log_std": np.zeros(3, np.float32)})))
    assert "arrays missing or unknown for net_arch [8, 4]: log_std" in message
    del arrays["layer0.bias"]
    assert "layer0.bias" in refusal(with_member(safetensors.numpy.save(arrays)))


def edited_header(edit: Callable[[dict[str, Any]], object]) -> bytes:
    """A member file whose header lies."""
    good = safetensors.numpy.save(random_arrays(0))
    (length,) = struct.unpack("<Q", good[:8])
    header = json.loads(good[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + good[8 + length :]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 0),
        b"",
        b"\x00" * 64,
        edited_header(set_at("layer0.weight", "shape", [8, 2**40])),
        edited_header(set_at("layer0.weight", "shape", [2**63, 2**63])),
        edited_header(set_at("layer0.weight", "shape", [8, 4])),
        edited_header(set_at("layer0.weight", "data_offsets", [0, 2**60])),
        edited_header(set_at("layer0.weight", "data_offsets", [64, 0])),
        edited_header(set_at("layer0.weight", "data_offsets", [0, 0])),
        edited_header(set_at("layer0.weight", "dtype", "F8_E4M3")),
        edited_header(set_at("layer0.weight", "dtype", "nonsense")),
        edited_header(lambda header: header.pop("layer0.weight")),
        pickle.dumps(random_arrays(0)),
    ],
)
def test_a_member_whose_header_lies_is_refused(data: bytes) -> None:
    assert refusal(with_member(data)).startswith("bundle file member-0.safetensors: ")


class _Bomb:
    def __reduce__(self) -> Any:
        return (exec, ("import pathlib; pathlib.Path('exploded').touch()",))


def test_loading_a_bundle_runs_nothing_that_lies_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(_Bomb())
    pickle.loads(bomb)  # noqa: S301  # proves that the bomb works
    assert (tmp_path / "exploded").exists()
    (tmp_path / "exploded").unlink()
    refusal(with_member(bomb))
    refusal({**FILES, MANIFEST: bomb})
    refusal({**FILES, "weights.pkl": bomb})
    assert not (tmp_path / "exploded").exists()


def test_reading_bundles_imports_neither_pickle_users_nor_torch() -> None:
    program = (
        "import sys; import strategy.bundle, safetensors.numpy; "
        "print(sorted({'torch', 'pandas', 'stable_baselines3'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_bytes_a_manifest_vouches_for_are_loaded_or_refused(data: st.DataObject) -> None:
    good = bytearray(safetensors.numpy.save(random_arrays(0)))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(good) - 1))
        good[position] = data.draw(st.integers(0, 255))
    files = with_member(bytes(good))
    try:
        bundle = load(files)
    except BadBundle as error:
        assert "member-0.safetensors" in str(error)  # noqa: PT017  # either outcome is right
    else:
        assert all(np.isfinite(array).all() for array in bundle.ensemble.actors[0].weights)


# ---- made for another program -----------------------------------------------------------------------------------
def check(manifest: BundleManifest, schema: Any = SCHEMA, **changes: Any) -> None:
    values = {"feature_hash": SCHEMA_HASH, "observation_size": OBSERVATION_SIZE, "action_rule_version": 1}
    check_compatible(manifest, feature_schema=schema, **(values | changes))


def test_a_bundle_made_for_this_program_passes() -> None:
    check(load(FILES).manifest)


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({**SCHEMA, "window": 100}, "window is 2401 in the bundle, 100 in this program"),
        ({**SCHEMA, "names": [*SCHEMA["names"], "flow_4"]}, 'names only in this program: "flow_4"'),
        ({**SCHEMA, "names": SCHEMA["names"][1:]}, 'names only in the bundle: "return_1"'),
        ({**SCHEMA, "names": SCHEMA["names"][::-1]}, "names stand in another order"),
        ({**SCHEMA, "scale": 2}, "scale only in this program (2)"),
        ({"version": 1, "names": SCHEMA["names"]}, "window only in the bundle (2401)"),
        (SCHEMA, "the schemas read the same, the code of the features has changed"),
    ],
)
def test_another_feature_schema_is_refused_with_the_difference(schema: dict[str, Any], words: str) -> None:
    manifest = load(FILES).manifest
    with pytest.raises(BadBundle, match=f"bundle {manifest.short_id}: ") as refused:
        check(manifest, schema, feature_hash="cd" * 32)
    assert words in str(refused.value)


def test_a_changed_parameter_of_a_named_feature_is_shown_by_its_name() -> None:
    ours = {"features": [{"name": "trend", "span": 24}, {"name": "flow", "span": 4}]}
    theirs = {"features": [{"name": "trend", "span": 96}, {"name": "echo"}]}
    manifest = dataclasses.replace(load(FILES).manifest, feature=FeatureRecord(hash="ee" * 32, schema=theirs))
    with pytest.raises(BadBundle) as refused:
        check(manifest, ours)
    message = str(refused.value)
    assert "features.trend.span is 96 in the bundle, 24 in this program" in message
    assert "features.echo only in the bundle" in message
    assert "features.flow only in this program" in message


@pytest.mark.fault(54)
def test_another_observation_or_action_rule_is_refused() -> None:
    manifest = load(FILES).manifest
    with pytest.raises(BadBundle, match="observations of 5 numbers, this program makes 6"):
        check(manifest, observation_size=6)
    with pytest.raises(BadBundle, match="action rule 1, this program follows rule 2"):
        check(manifest, action_rule_version=2)
