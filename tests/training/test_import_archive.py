import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from strategy.observation import N_OBSERVATION
from tests.training.archives import Noise, changed, entries, learner, packed, saved
from training import import_archive
from training.import_archive import ImportRefused, plain, read_archive


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(learner(), tmp_path_factory.mktemp("genuine") / "model.zip")


def refusal(path: Path) -> str:
    with pytest.raises(ImportRefused) as caught:
        read_archive(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_genuine_archive_says_what_it_is(genuine: Path) -> None:
    found = read_archive(genuine)
    assert (found.name, found.version, found.steps, found.size) == ("model.zip", "2.9.2", 60, N_OBSERVATION)
    assert found.contents == genuine.read_bytes()
    assert f"{N_OBSERVATION} numbers observed, 60 steps trained" in found.describe()


def test_what_is_no_archive_is_refused(genuine: Path, tmp_path: Path) -> None:
    whole = genuine.read_bytes()
    for name, data in (("cut", whole[: len(whole) // 2]), ("text", b"not a zip"), ("empty", b"")):
        (tmp_path / name).write_bytes(data)
        assert refusal(tmp_path / name).startswith(f"{name}: it is not a whole zip file")
    os.mkfifo(tmp_path / "pipe")
    assert "it is not a file" in refusal(tmp_path / "pipe")
    assert "it is not a file" in refusal(tmp_path)
    assert "it cannot be read (No such file or directory): correct the path" in refusal(tmp_path / "nowhere")


def test_an_archive_damaged_inside_is_refused(genuine: Path, tmp_path: Path) -> None:
    whole = bytearray(genuine.read_bytes())
    at = whole.index(b'"policy_class"')
    whole[at : at + 4] = b"oops"
    (tmp_path / "damaged").write_bytes(whole)
    assert "Bad CRC-32" in refusal(tmp_path / "damaged")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"../outside": b""}, "entry '../outside' is not a plain name"),
        ({"/etc/passwd": b""}, "entry '/etc/passwd' is not a plain name"),
        ({"a\x1b[31m": b""}, r"entry 'a\x1b[31m' is not a plain name"),
        ({f"x{n}": b"" for n in range(60)}, "it holds 68 entries"),
    ],
    ids=["climbs", "absolute", "control characters", "too many"],
)
def test_entries_that_no_saved_model_has_are_refused(
    genuine: Path, tmp_path: Path, extra: dict[str, bytes], message: str
) -> None:
    assert message in refusal(packed(tmp_path / "odd.zip", {**entries(genuine), **extra}))


@pytest.mark.parametrize("missing", ["data", "policy.pth"])
def test_what_a_model_cannot_lack_is_named(genuine: Path, tmp_path: Path, missing: str) -> None:
    contents = entries(genuine)
    del contents[missing]
    assert f"{missing} is missing: it is not a model" in refusal(packed(tmp_path / "m.zip", contents))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_stands_twice_is_refused(genuine: Path, tmp_path: Path) -> None:
    path = packed(tmp_path / "twice.zip", entries(genuine))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("policy.pth", b"other")
    assert "some perhaps twice" in refusal(path)


def test_a_bomb_is_refused_before_it_is_unpacked(
    genuine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = entries(genuine)
    bomb = packed(tmp_path / "bomb.zip", {**contents, "data": bytes(17 * 2**20)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 200_000
    assert "its settings take" in refusal(bomb)
    monkeypatch.setattr(import_archive, "LARGEST_CONTENTS", 2**20)
    big = packed(tmp_path / "big.zip", {**contents, "more.pth": bytes(2**20)}, zipfile.ZIP_DEFLATED)
    assert "unpacked it would take" in refusal(big)
    monkeypatch.setattr(import_archive, "LARGEST_ARCHIVE", 1_000)
    assert "are more than the 1000 an archive may have" in refusal(genuine)


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[1]", b"[" * 100_000], ids=["cut", "binary", "list", "deep"])
def test_settings_that_are_no_json_object_are_refused(genuine: Path, tmp_path: Path, text: bytes) -> None:
    assert "its entry data is not" in refusal(packed(tmp_path / "m.zip", {**entries(genuine), "data": text}))


@pytest.mark.parametrize(
    ("algorithm", "actions", "settings", "name"),
    [
        (PPO, None, {"n_steps": 8, "batch_size": 8}, "PPO"),
        (A2C, None, {}, "A2C"),
        (TD3, None, {"buffer_size": 10}, "TD3 or DDPG"),
        (DQN, spaces.Discrete(3), {"buffer_size": 10}, "DQN"),
    ],
    ids=["ppo", "a2c", "td3", "dqn"],
)
def test_another_algorithm_is_named(
    tmp_path: Path, algorithm: type[BaseAlgorithm], actions: Any, settings: dict[str, Any], name: str
) -> None:
    env = Noise() if actions is None else Noise(actions=actions)
    model = algorithm("MlpPolicy", env, device="cpu", policy_kwargs={"net_arch": [4]}, **settings)
    told = refusal(saved(model, tmp_path / "m.zip"))
    assert told == f"m.zip: it was saved by {name}: only SAC's actor answers as a bundle does; give an archive of SAC"


def test_settings_of_no_algorithm_at_all_are_refused(genuine: Path, tmp_path: Path) -> None:
    assert "an algorithm other than SAC" in refusal(changed(genuine, tmp_path / "m.zip", lambda data: data.clear()))


@pytest.mark.parametrize("observed", [11, N_OBSERVATION + 1])
def test_another_observation_is_refused_with_both_sizes(tmp_path: Path, observed: int) -> None:
    told = refusal(saved(learner(Noise(observed), steps=0), tmp_path / "m.zip"))
    assert f"it observes {observed} numbers, this program shows {N_OBSERVATION}" in told


def test_what_it_claims_is_taken_only_where_it_can_be(genuine: Path, tmp_path: Path) -> None:
    odd = changed(genuine, tmp_path / "odd.zip", lambda data: data.update(num_timesteps=-1, observation_space="big"))
    found = read_archive(packed(odd, {**entries(odd), "_stable_baselines3_version": b"\x1b[31m9"}))
    assert (found.version, found.steps, found.size) == (None, None, None)
    assert "unknown version, unknown numbers observed, unknown steps" in found.describe()
    assert json.loads(entries(odd)["data"])["num_timesteps"] == -1


def test_plain_keeps_one_short_printable_line() -> None:
    assert plain("a\x1b[31m\r\nb\t\u202ec\x00") == "a [31m b c"
    assert plain("x" * 600) == "x" * 497 + "..."
    assert len(plain("x" * 10_000_000, 50)) == 50
