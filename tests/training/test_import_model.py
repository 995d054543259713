import ast
import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from daemon.models import list_bundles, load_bundle
from strategy.features import N_FEATURES, WINDOW
from strategy.manifest import ACTION_HIGH, ACTION_LOW
from strategy.observation import N_OBSERVATION
from strategy.parameters import StrategyParameters
from tests.training.archives import Noise, changed, hostile, learner, saved, trading
from tests.training.markets import history, write_table
from training import import_model
from training.__main__ import main
from training.history import History
from training.import_archive import ImportRefused, read_archive
from training.import_model import Bounds, choose_observations, import_actor
from training.import_sandbox import Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="an archive can only be confined on Linux")
ASKED = np.random.default_rng(0).uniform(-1.0, 1.0, (1_500, N_OBSERVATION)).astype(np.float32)
SECRET = "hunter2-in-the-environment"  # noqa: S105 - of nobody


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(learner(), tmp_path_factory.mktemp("genuine") / "model.zip")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(history(300, seed=3), tmp_path)


def imported(path: Path, **bounds: Any) -> import_model.Imported:
    return import_actor(read_archive(path), ASKED, Bounds(**bounds))


def refusal(path: Path, **bounds: Any) -> str:
    with pytest.raises(ImportRefused) as caught:
        imported(path, **bounds)
    assert str(caught.value).startswith(f"{path.name}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what fits --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "settings",
    [{}, {"use_sde": True, "policy_kwargs": {"activation_fn": nn.Tanh}}],
    ids=["relu", "tanh with gSDE"],
)
def test_an_archive_trained_on_our_environment_becomes_a_bundle_that_acts_alike(
    tmp_path: Path, data: Path, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    env = trading()
    model = learner(env, 80, **settings)
    archive, registry = saved(model, tmp_path / "model.zip"), tmp_path / "models"
    arguments = ["models-import", archive, "--i-trust-this-file", "--data", data, "--models", registry, "--json"]
    assert main([str(argument) for argument in arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    (found,) = list_bundles(registry)
    assert found.manifest is not None, found.fault
    assert (str(found.path), found.manifest.id) == (told["out"], told["id"])
    observations, _ = env.reset(seed=1)
    asked = np.stack([observations, *(env.step(env.action_space.sample())[0] for _ in range(200))])
    expected, _ = SAC.load(archive, device="cpu").predict(asked, deterministic=True)
    votes = load_bundle(found.path).ensemble.act(asked)[:, 0]
    assert np.abs(votes - expected).max() <= 1e-6
    assert expected.std(axis=0).max() > 1e-3  # it does not answer everything alike


def test_the_bundle_says_where_it_comes_from(
    tmp_path: Path, data: Path, genuine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["models-import", genuine, "--i-trust-this-file", "--data", data, "--out", out, "--fee-rate", "0.002"]
    assert main([str(argument) for argument in arguments]) == 0
    assert f"bundle {load_bundle(out).manifest.short_id} with 1 member lies in {out}" in capsys.readouterr().out
    manifest = load_bundle(out).manifest
    training = manifest.training
    assert training.command == (
        "sacd models import model.zip --i-trust-this-file --data btcusdt-1h.csv --fee-rate 0.002"
    )
    assert [record.name for record in training.data] == ["model.zip", "btcusdt-1h.csv"]
    assert training.data[0].sha256 == read_archive(genuine).sha256
    assert (training.steps, training.symbols, training.timeframe) == (60, ("BTC/USDT",), "1h")
    assert manifest.members[0].seed == 1
    assert manifest.costs["fee_rate"] == 0.002
    assert manifest.versions["archive_stable_baselines3"] == "2.9.2"
    rows = History(history(300, seed=3), StrategyParameters().max_missing).rows
    assert manifest.reference.mean == pytest.approx(rows.values[WINDOW - 1 :].astype(np.float64).mean(axis=0))


def test_an_archive_without_a_seed_says_so_in_its_record(tmp_path: Path, data: Path) -> None:
    archive, out = saved(learner(seed=None), tmp_path / "model.zip"), tmp_path / "out"
    arguments = ["models-import", archive, "--i-trust-this-file", "--data", data, "--out", out]
    assert main([str(argument) for argument in arguments]) == 0
    assert load_bundle(out).manifest.training.command.endswith("# the archive tells no seed")


def test_settings_that_other_versions_pickled_otherwise_are_left_alone(genuine: Path, tmp_path: Path) -> None:
    broken = {":type:": "<class 'function'>", ":serialized:": base64.b64encode(b"\x80\x05no pickle.").decode()}
    names = ("lr_schedule", "learning_rate", "train_freq", "replay_buffer_class", "ep_info_buffer", "_last_obs")
    path = changed(genuine, tmp_path / "old.zip", lambda stored: stored.update(dict.fromkeys(names, broken)))
    assert imported(path).actor.difference <= 1e-6


def test_arrays_that_numpy_1_pickled_are_found(genuine: Path, tmp_path: Path) -> None:
    # What numpy.float32 scalars and arrays of NumPy 1 name, and 2 keeps elsewhere; protocol 0 can be written by hand.
    old = b"(cnumpy.core.multiarray\n_reconstruct\ncnumpy.core.multiarray\nscalar\ncnumpy.core.numeric\n_frombuffer\nt."
    item = {":type:": "<class 'tuple'>", ":serialized:": base64.b64encode(old).decode()}
    path = changed(genuine, tmp_path / "old.zip", lambda stored: stored.update(of_old=item))
    assert imported(path).steps == 60


def test_a_replay_buffer_of_a_million_steps_takes_no_memory(genuine: Path, tmp_path: Path) -> None:
    path = changed(genuine, tmp_path / "big.zip", lambda stored: stored.update(buffer_size=10_000_000))
    assert imported(path, limits=Limits(memory_bytes=512 * 2**20)).steps == 60


# ---- what does not fit ------------------------------------------------------------------------------------------
def test_other_bounds_of_the_action_are_refused_with_ours(tmp_path: Path) -> None:
    actions = spaces.Box(-1.0, 1.0, (3,), np.float32)
    told = refusal(saved(learner(Noise(actions=actions)), tmp_path / "m.zip"))
    assert "its actions are Box(-1.0, 1.0, (3,), float32)" in told
    assert f"give one whose actions are Box({ACTION_LOW}, {ACTION_HIGH})" in told


def test_a_features_extractor_is_refused(tmp_path: Path) -> None:
    class Extractor(FlattenExtractor):
        pass

    told = refusal(saved(learner(policy_kwargs={"features_extractor_class": Extractor}), tmp_path / "m.zip"))
    assert "features extractor Extractor is not FlattenExtractor" in told


def test_an_unknown_activation_is_refused_with_those_that_fit(tmp_path: Path) -> None:
    told = refusal(saved(learner(policy_kwargs={"activation_fn": nn.ELU}), tmp_path / "m.zip"))
    assert "activation ELU is not one of ReLU, Tanh" in told


def test_what_never_learned_is_refused(tmp_path: Path) -> None:
    assert "trained for 0 steps" in refusal(saved(learner(steps=0), tmp_path / "m.zip"))


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = learner()
    with torch.no_grad():
        model.policy.actor.latent_pi[0].weight[0, 0] = torch.nan
    told = refusal(saved(model, tmp_path / "m.zip"))
    assert "nan" in told.lower() or "not finite" in told


def test_a_module_that_is_not_installed_is_named(genuine: Path, tmp_path: Path) -> None:
    told = refusal(hostile(genuine, tmp_path / "m.zip", "import gym_of_old"))
    assert "it needs what is not installed or may not be read here (ModuleNotFoundError: No module named" in told


# ---- trust ------------------------------------------------------------------------------------------------------
@pytest.fixture
def canary(genuine: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return an archive, and the file that loading it anywhere writes."""
    song = tmp_path / "song"
    return hostile(genuine, tmp_path / "canary.zip", f"open({str(song)!r}, 'w').close()"), song


def test_without_the_flag_nothing_is_unpickled_and_the_reason_is_given(
    canary: tuple[Path, Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, song = canary
    arguments = ["models-import", archive, "--data", data, "--out", tmp_path / "out"]
    assert main([str(argument) for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("sacd models import: canary.zip (SAC archive of Stable-Baselines3 2.9.2,")
    assert "loading a pickle runs whatever code it holds. Give --i-trust-this-file when you know who made it" in told
    assert not song.exists()
    assert not (tmp_path / "out").exists()
    SAC.load(archive, device="cpu")
    assert song.exists()  # so it would have sung


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x"], "give --data FILE..., the candles that it was trained on"),
        (["--data", "x"], "give --out DIR for the bundle"),
    ],
    ids=["no data", "no place"],
)
def test_what_is_missing_is_asked_for(
    genuine: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models-import", str(genuine), "--i-trust-this-file", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_refused_archive_leaves_nothing(
    canary: tuple[Path, Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, song = canary
    before = sorted(tmp_path.iterdir())
    arguments = ["models-import", archive, "--i-trust-this-file", "--data", data, "--models", tmp_path / "models"]
    assert main([str(argument) for argument in arguments]) == 1
    assert (
        "it tried what loading weights does not need, and was kept from it (PermissionError" in capsys.readouterr().err
    )
    assert not song.exists()
    assert sorted(tmp_path.iterdir()) == before


# ---- archives that do harm --------------------------------------------------------------------------------------
PROBES = """
import ctypes, os, signal, socket, subprocess, sys, threading
report = {}
def probe(name, act):
    try:
        act()
        report[name] = 'DONE'
    except BaseException as error:
        report[name] = getattr(error, 'errno', None) or type(error).__name__
def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), 'x')
probe('write', lambda: open(TARGET, 'w'))
probe('append', lambda: open(TARGET, 'a'))
probe('unlink', lambda: os.unlink(TARGET))
probe('rename', lambda: os.rename(TARGET, TARGET + '2'))
probe('chmod', lambda: os.chmod(TARGET, 0o777))
probe('mkdir', lambda: os.mkdir(TARGET + 'd'))
probe('link', lambda: os.symlink('/', 'link'))
probe('read', lambda: open(TARGET).read())
probe('passwd', lambda: open('/etc/passwd').read())
probe('parent', lambda: open('/proc/%d/environ' % PARENT).read())
probe('connect', lambda: socket.socket().connect(('127.0.0.1', PORT)))
probe('unix', lambda: socket.socket(socket.AF_UNIX))
probe('fork', os.fork)
probe('thread', threading.Thread(target=print).start)
probe('exec', lambda: os.execv('/bin/true', ['true']))
probe('spawn', lambda: subprocess.run(['/bin/true']))
probe('kill', lambda: os.kill(PARENT, signal.SIGTERM))
probe('root', lambda: os.setuid(0))
probe('ptrace', lambda: call(101, 16, PARENT, 0, 0))
probe('x32', lambda: call(0x40000000 + 41, 2, 1, 0))
probe('unshare', lambda: call(272, 0x10000000))
probe('io_uring', lambda: call(425, 1, 0))
report['secret'] = [name for name in os.environ if SECRET in os.environ[name]]
def inode(descriptor):
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return None
report['inherited'] = INODE in [inode(n) for n in range(64)]
raise ValueError(str(report))
"""


def test_a_pickle_can_neither_write_nor_read_nor_connect_nor_start_anything(
    genuine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACD_SECRET", SECRET)
    target = tmp_path / "target"
    target.write_text("precious")
    tmp_path.chmod(0o777)
    target.chmod(0o666)
    with socket.create_server(("127.0.0.1", 0)) as server, target.open() as ours:
        os.set_inheritable(ours.fileno(), True)
        known = {"TARGET": str(target), "PARENT": os.getpid(), "PORT": server.getsockname()[1], "SECRET": SECRET}
        known["INODE"] = target.stat().st_ino
        code = "".join(f"{name} = {value!r}\n" for name, value in known.items()) + PROBES
        told = refusal(hostile(genuine, tmp_path / "m.zip", code))
    assert target.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.zip", "target"]
    report = told[told.index("{") : told.index("}") + 1]
    found = ast.literal_eval(report)
    assert (found.pop("secret"), found.pop("inherited")) == ([], False)
    assert {name: result for name, result in found.items() if result not in (1, 13, "RuntimeError")} == {}
    assert len(found) == 22


def test_memory_is_bounded(genuine: Path, tmp_path: Path) -> None:
    path = hostile(genuine, tmp_path / "m.zip", "held = []\nwhile True: held.append(bytearray(2**24))")
    assert "Stable-Baselines3 cannot load it (MemoryError" in refusal(path, limits=Limits(memory_bytes=2**28))


def test_time_on_the_processor_is_bounded(genuine: Path, tmp_path: Path) -> None:
    path = hostile(genuine, tmp_path / "m.zip", "while True: pass")
    assert "was ended: it used 4 s of CPU" in refusal(path, limits=Limits(cpu_s=4))


def test_time_is_bounded(genuine: Path, tmp_path: Path) -> None:
    path, before = hostile(genuine, tmp_path / "m.zip", "import time\ntime.sleep(1000)"), set(_children())
    assert "was ended: it had not answered after 8 s" in refusal(path, wall_s=8.0)
    assert set(_children()) <= before


def test_a_process_that_goes_on_after_its_last_word_is_ended() -> None:
    silent = "import os, time; os.close(1); os.close(2); time.sleep(1000)"
    with subprocess.Popen(
        [sys.executable, "-c", silent], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        heard = import_model._listen(process, Bounds(wall_s=1.0))
        import_model._end(process)
    assert heard == (b"", b"", "was ended: it was still running after 1 s")
    assert process.returncode == -signal.SIGKILL


def _children() -> list[str]:
    return [child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("while True: print('x' * 65536)", "it sent more than 100,000 bytes of text"),
        (
            "import os\nwhile True:\n for n in range(3, 64):\n  try: os.write(n, b'x' * 65536)\n  except OSError: pass",
            "it sent more than 100,000 bytes of answer",
        ),
    ],
    ids=["print", "answer"],
)
def test_what_is_sent_is_bounded(genuine: Path, tmp_path: Path, code: str, message: str) -> None:
    path = hostile(genuine, tmp_path / "m.zip", code)
    assert message in refusal(path, text_bytes=100_000, answer_bytes=100_000)


def test_a_crash_is_named(genuine: Path, tmp_path: Path) -> None:
    told = refusal(hostile(genuine, tmp_path / "m.zip", "import ctypes\nctypes.string_at(0)"))
    assert "crashed (Segmentation fault), as pickles of another Python version can make it" in told


def test_an_early_end_is_named(genuine: Path, tmp_path: Path) -> None:
    assert "failed with exit code 7" in refusal(hostile(genuine, tmp_path / "a.zip", "import os\nos._exit(7)"))
    assert "answered nothing" in refusal(hostile(genuine, tmp_path / "b.zip", "import os\nos._exit(0)"))


def test_what_an_archive_says_cannot_steer_the_terminal(genuine: Path, tmp_path: Path) -> None:
    code = "import sys\nprint('\\x1b[2Jprinted' * 9)\nraise ValueError('\\x1b]0;title\\x07\\u202e' + 'y' * 100000)"
    told = refusal(hostile(genuine, tmp_path / "m.zip", code))
    assert told.isprintable()
    assert len(told) < 1_500
    assert "[2Jprinted" in told


# ---- answers that an enemy wrote --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def spoken(genuine: Path) -> bytes:
    """Return what the process answers for a genuine archive."""
    answer, _, ending = import_model._ask(read_archive(genuine), ASKED, Bounds())
    assert ending == ""
    return answer


def answered(
    monkeypatch: pytest.MonkeyPatch, genuine: Path, answer: bytes, ending: str = ""
) -> import_model.Imported | str:
    monkeypatch.setattr(import_model, "_ask", lambda *_: (answer, b"", ending))
    try:
        return import_actor(read_archive(genuine), ASKED)
    except ImportRefused as error:
        told = str(error)
    assert told.isprintable()
    return told


def altered(spoken: bytes, about: dict[str, Any], arrays: dict[str, Any] | None = None) -> bytes:
    """Return the answer with other words, and other arrays, None taking one away."""
    first, second, third = spoken.split(b"\n", 2)
    whole = {**safetensors.numpy.load(third), **(arrays or {})}
    kept = {name: array for name, array in whole.items() if array is not None}
    return b"\n".join((first, json.dumps({**json.loads(second), **about}).encode(), safetensors.numpy.save(kept)))


def like(spoken: bytes, name: str, change: Any) -> dict[str, NDArray[Any]]:
    return {name: change(safetensors.numpy.load(spoken.split(b"\n", 2)[2])[name])}


def test_an_unaltered_answer_is_taken(monkeypatch: pytest.MonkeyPatch, genuine: Path, spoken: bytes) -> None:
    found = answered(monkeypatch, genuine, altered(spoken, {}))
    assert isinstance(found, import_model.Imported)
    assert found.actor.net_arch == (16, 16)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"activation": "elu"}, "its activation is not one we know"),
        ({"activation": ["relu"]}, "its activation is not one we know"),
        ({"clip_mean": float("nan")}, "its clip_mean nan is not a positive number"),
        ({"clip_mean": -1.0}, "its clip_mean -1.0 is not a positive number"),
        ({"clip_mean": "2\x1b[2J"}, r"its clip_mean '2\x1b[2J' is not a positive number"),
        ({"seed": -1}, "its seed -1 is not a whole number"),
        ({"seed": True}, "its seed True is not a whole number"),
        ({"seed": 10**40}, "is not a whole number"),
        ({"steps": 1.5}, "its number of steps 1.5 is not a whole number"),
        ({"steps": None}, "its number of steps None is not a whole number"),
        ({"refused": "\x1b[2Jno" * 5_000}, "[2Jno"),
        ({"refused": {"a": 1}}, "{'a': 1}"),
    ],
    ids=str,
)
def test_words_that_cannot_be_are_refused(
    monkeypatch: pytest.MonkeyPatch, genuine: Path, spoken: bytes, about: dict[str, Any], message: str
) -> None:
    told = answered(monkeypatch, genuine, altered(spoken, about))
    assert isinstance(told, str)
    assert message in told
    assert len(told) < 1_000


ALTERED: list[tuple[str, Any, str]] = [
    ("layer0.weight", lambda a: a * np.float32(1.001), "the NumPy twin differs from torch by"),
    ("layer0.weight", lambda a: a.astype(np.float64), "layer0.weight is float64, not float32"),
    ("layer0.weight", lambda a: a * np.float32(np.nan), "not finite"),
    ("layer0.weight", lambda a: a[:, :-1], f"layer0.weight has shape (16, {N_OBSERVATION - 1})"),
    ("layer1.weight", lambda a: a[None], "arrays that make no network"),
    ("layer1.weight", lambda _: None, "arrays that make no network"),
    ("layer1.bias", lambda _: None, "arrays missing or unknown"),
    ("layer2.weight", lambda a: a[:2], "layer2.weight has shape (2, 16)"),
    ("answers", lambda _: None, "did not say what torch answers"),
    ("answers", lambda a: a[:-1], "did not say what torch answers"),
    ("answers", lambda a: a.astype(np.float64), "did not say what torch answers"),
    ("answers", lambda a: a + np.float32(2e-6), "at most 1e-06 is allowed"),
    ("answers", lambda a: a * np.float32(np.nan), "the NumPy twin differs from torch by nan"),
]


@pytest.mark.parametrize("alteration", ALTERED, ids=lambda alteration: f"{alteration[0]}: {alteration[2]}")
def test_arrays_that_cannot_be_are_refused(
    monkeypatch: pytest.MonkeyPatch, genuine: Path, spoken: bytes, alteration: tuple[str, Any, str]
) -> None:
    name, change, message = alteration
    told = answered(monkeypatch, genuine, altered(spoken, {}, like(spoken, name, change)))
    assert isinstance(told, str)
    assert message in told


def test_names_that_an_enemy_chose_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, genuine: Path, spoken: bytes
) -> None:
    arrays = {"layer1.bias": None, "a\x1b[2J\n": np.zeros(1, np.float32)}
    told = answered(monkeypatch, genuine, altered(spoken, {}, arrays))
    assert isinstance(told, str)
    assert "arrays missing or unknown for net_arch [16, 16]: a [2J , layer1.bias" in told.replace("[2J,", "[2J ,")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: b"", "it was not loaded: the process for it answered nothing"),
        (lambda s: b"\xff\n", "answered what is no answer"),
        (lambda s: b"[]\n", "answered what is no answer"),
        (lambda s: b"[" * 100_000 + b"\n", "answered what is no answer"),
        (lambda s: b'{"unconfined": "no seccomp"}\n', "this system cannot confine a process: no seccomp"),
        (lambda s: s.split(b"\n")[0] + b"\n", "the process that loaded it answered nothing"),
        (lambda s: s.split(b"\n")[0] + b"\nnull\n", "answered what is no answer"),
        (lambda s: s[:-9], "arrays that cannot be read"),
        (lambda s: b"\n".join(s.split(b"\n", 2)[:2]) + b"\n" + b"\xff" * 99, "arrays that cannot be read"),
    ],
    ids=["nothing", "binary", "list", "deep", "unconfined", "one line", "null", "cut", "rubbish"],
)
def test_an_answer_out_of_shape_is_refused(
    monkeypatch: pytest.MonkeyPatch, genuine: Path, spoken: bytes, make: Any, message: str
) -> None:
    told = answered(monkeypatch, genuine, make(spoken))
    assert isinstance(told, str)
    assert message in told


def test_what_ended_otherwise_is_not_believed(monkeypatch: pytest.MonkeyPatch, genuine: Path, spoken: bytes) -> None:
    told = answered(monkeypatch, genuine, spoken, "failed with exit code 1")
    assert told == "model.zip: the process that loaded it failed with exit code 1"


# ---- what it is compared on -------------------------------------------------------------------------------------
def test_observations_to_compare_on_are_spread_over_the_candles() -> None:
    rows = History(history(500, seed=3), StrategyParameters().max_missing).rows
    seen = rows.values[rows.is_valid]
    chosen = choose_observations([rows])
    assert (chosen.shape, chosen.dtype) == ((2_000, N_OBSERVATION), np.float32)
    assert np.array_equal(chosen[[0, -1], :N_FEATURES], seen[[0, -1]])
    assert len(np.unique(chosen[:, :N_FEATURES], axis=0)) == len(seen)
    assert len(np.unique(chosen, axis=0)) == 2_000
    assert np.array_equal(chosen, choose_observations([rows]))


def test_without_a_full_window_nothing_can_be_compared() -> None:
    rows = History(history(500, seed=3), StrategyParameters().max_missing).rows
    with pytest.raises(ImportRefused, match="--data: no candle has a full feature window"):
        choose_observations([type(rows)(rows.open_ms[:9], rows.values[:9], rows.context[:9], rows.is_valid[:9])])
