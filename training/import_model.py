"""Turns a Stable-Baselines3 SAC archive into a bundle without ever trusting it.

An archive holds pickles, and loading one runs whatever code it holds. So a process of its own loads it, after giving up
every right (`training.import_sandbox`), and what it answers is numbers that are checked here as if an enemy sent them.
"""

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from strategy.features import N_FEATURES, FeatureTable
from strategy.manifest import ACTION_HIGH, ACTION_LOW
from strategy.observation import N_OBSERVATION, OBSERVATION_LIMIT
from strategy.policy import Activation
from training.errors import ExportError
from training.export import ExportedActor, checked
from training.import_archive import Archive, ImportRefused, plain
from training.import_sandbox import Limits

N_COMPARED = 2_000
_MOST_LAYERS = 32
_LARGEST_WHOLE = 2**64
_CHUNK = 1 << 20
_START = (
    "import sys; sys.path.append(sys.argv[1]); from training.import_sandbox import separate; held = separate(); "
    "from training.import_child import main; main(held, sys.argv[2])"
)
"""The first line leaves the namespaces while there is one thread; only then come the libraries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the process of an import may take. wall_s: seconds it may run.  answer_bytes, text_bytes: it may send."""

    limits: Limits = field(default_factory=Limits)
    wall_s: float = 300.0
    answer_bytes: int = 64 * 2**20
    text_bytes: int = 2**20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Imported:
    """A policy taken out of an archive and checked. held: the restrictions it was loaded under, in words.

    seed: that of its training, None when the archive tells none.  steps: it was trained.
    """

    actor: ExportedActor
    seed: int | None
    steps: int
    held: tuple[str, ...]


def import_actor(archive: Archive, observations: NDArray[np.float32], bounds: Bounds | None = None) -> Imported:
    """Return the policy in `archive`, whose pickles a process without rights loads; they can run any code in it.

    observations: (n >= 1000, N_OBSERVATION) float32, on which our twin must answer as torch does.
    Raises ImportRefused naming what it is, what differs and what would fit.
    """
    if sys.platform != "linux":
        raise ImportRefused(f"{archive.name}: only Linux can confine what loads it: import it there, copy the bundle")
    answer, printed, ending = _ask(archive, observations, bounds or Bounds())
    first, second, arrays = [*answer.split(b"\n", 2), b"", b""][:3]
    try:
        held = _held(first, printed, ending)
        if ending or not second:
            _refuse(f"the process that loaded it {ending or 'answered nothing'}{_quoted(printed)}")
        about = _object(second)
        if "refused" in about:
            _refuse(f"{plain(str(about['refused']))}{_quoted(printed)}")
        return _imported(about, _arrays(arrays), held, observations)
    except ImportRefused as error:
        raise ImportRefused(f"{archive.name}: {error}") from error
    except ExportError as error:  # may quote names that the archive chose
        raise ImportRefused(f"{archive.name}: {plain(str(error))}") from error


def choose_observations(rows: Sequence[FeatureTable], count: int = N_COMPARED) -> NDArray[np.float32]:
    """Return (count, N_OBSERVATION) float32 to compare on: feature rows spread evenly, each with a portfolio at random.

    Raises ImportRefused when no row has a full window.
    """
    seen = np.concatenate([table.values[table.is_valid] for table in rows])
    if len(seen) == 0:
        raise ImportRefused("--data: no candle has a full feature window: give more candles")
    chosen = np.linspace(0, len(seen) - 1, count).astype(np.int64)
    held = np.random.default_rng(0).uniform(-1.0, OBSERVATION_LIMIT, (count, N_OBSERVATION - N_FEATURES))
    return np.concatenate([seen[chosen], held], axis=1).astype(np.float32)


# ---- the process ------------------------------------------------------------------------------------------------
def _ask(archive: Archive, observations: NDArray[np.float32], bounds: Bounds) -> tuple[bytes, bytes, str]:
    """Return answer and text of the process, and in words how it ended, "" when it ended by itself and well."""
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="sacd-import-"))
        files = [stack.enter_context(_sealed(data)) for data in (archive.contents, observations.tobytes())]
        given = {"archive": files[0], "observations": files[1], "limits": asdict(bounds.limits)}
        root = str(Path(__file__).resolve().parents[1])
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-u", "-c", _START, root, json.dumps(given)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(place),
            cwd=place,
            pass_fds=files,
            start_new_session=True,
            umask=0o077,
        )
        try:
            answer, printed, ending = _listen(process, bounds)
        finally:
            _end(process)
    return answer, printed, ending or _ending(process.returncode, bounds)


def _environment(place: str) -> dict[str, str]:
    """Return all that the process learns of ours: nothing but where libraries lie and that it gets one thread."""
    single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    places = dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR"), place)
    libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "", **single, **places, **libraries}


@contextmanager
def _sealed(data: bytes) -> Iterator[int]:
    """Yield the descriptor of a file in memory that holds `data` and that nobody can change any more."""
    import fcntl  # noqa: PLC0415 - with memfd_create a matter of Linux

    descriptor = os.memfd_create("sacd-import", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _listen(process: subprocess.Popen[bytes], bounds: Bounds) -> tuple[bytes, bytes, str]:
    """Return answer and text until the process has closed both, and why it was not heard to the end, if so."""
    heard: dict[str, bytearray] = {"answer": bytearray(), "text": bytearray()}
    most = {"answer": bounds.answer_bytes, "text": bounds.text_bytes}
    until_s = time.monotonic() + bounds.wall_s
    ending = ""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, "answer")  # type: ignore[arg-type]  # both are pipes
        selector.register(process.stderr, selectors.EVENT_READ, "text")  # type: ignore[arg-type]
        while selector.get_map() and not ending:
            ready = selector.select(max(0.0, until_s - time.monotonic()))
            for key, _ in ready:
                data = os.read(key.fd, _CHUNK)
                heard[key.data] += data
                if not data:
                    selector.unregister(key.fileobj)
                elif len(heard[key.data]) > most[key.data]:
                    ending = f"was ended: it sent more than {most[key.data]:,} bytes of {key.data}"
            if time.monotonic() >= until_s:
                ending = f"was ended: it had not answered after {bounds.wall_s:g} s"
    if not ending:
        try:
            process.wait(max(1.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            ending = f"was ended: it was still running after {bounds.wall_s:g} s"
    return bytes(heard["answer"]), bytes(heard["text"]), ending


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of the process behind, also when we are interrupted."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _ending(code: int, bounds: Bounds) -> str:
    if code == 0:
        return ""
    if code == -signal.SIGXCPU:
        return f"was ended: it used {bounds.limits.cpu_s} s of CPU"
    if code < 0:
        return f"crashed ({signal.strsignal(-code) or -code}), as pickles of another Python version can make it"
    return f"failed with exit code {code}"


# ---- its answer, which an enemy may have written ----------------------------------------------------------------
def _held(line: bytes, printed: bytes, ending: str) -> tuple[str, ...]:
    """Return the restrictions, which are told before the archive is touched, so that this line alone is ours."""
    told = _object(line) if line else {}
    if "held" in told:
        held: list[str] = told["held"]
        return tuple(held)
    if "unconfined" in told:
        _refuse(f"it was not loaded, because this system cannot confine a process: {told['unconfined']}")
    return _refuse(f"it was not loaded: the process for it {ending or 'answered nothing'}{_quoted(printed)}")


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    return _refuse("the process that loaded it answered what is no answer")


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    try:
        arrays = safetensors.numpy.load(data)
    except Exception as error:
        # The decoder has errors of its own family; whatever it raises, the answer is unusable.
        raise ImportRefused("the process that loaded it answered with arrays that cannot be read") from error
    return dict(arrays)


def _imported(
    about: Mapping[str, Any],
    arrays: dict[str, NDArray[Any]],
    held: tuple[str, ...],
    observations: NDArray[np.float32],
) -> Imported:
    answers = arrays.pop("answers", None)
    if answers is None or answers.dtype != np.float32 or answers.shape != (len(observations), len(ACTION_LOW)):
        _refuse("the process that loaded it did not say what torch answers")
    seed = None if about.get("seed") is None else _whole("seed", about.get("seed"))
    if not (steps := _whole("number of steps", about.get("steps"))):
        _refuse("it was trained for 0 steps: a bundle holds what has learned; train it first")
    actor = ExportedActor(
        arrays=arrays,
        observation_size=N_OBSERVATION,
        net_arch=_net_arch(arrays),
        activation=_activation(about.get("activation")),
        clip_mean=_clip_mean(about.get("clip_mean")),
        use_sde=about.get("use_sde") is True,
        low=ACTION_LOW,
        high=ACTION_HIGH,
        difference=0.0,
    )
    return Imported(actor=checked(actor, observations, answers), seed=seed, steps=steps, held=held)


def _net_arch(arrays: Mapping[str, NDArray[Any]]) -> tuple[int, ...]:
    """Return the widths of the hidden layers, as the arrays are; whether they fit together is checked with them."""
    count = len(arrays) // 2
    layers = [arrays.get(f"layer{index}.weight") for index in range(min(count, _MOST_LAYERS + 1))]
    if not 1 <= count <= _MOST_LAYERS or any(layer is None or layer.ndim != 2 for layer in layers):  # noqa: PLR2004
        _refuse("the process that loaded it answered with arrays that make no network")
    return tuple(int(layer.shape[0]) for layer in layers[:-1] if layer is not None)


def _activation(name: object) -> Activation:
    known = {str(activation): activation for activation in Activation}
    return known[name] if isinstance(name, str) and name in known else _refuse("its activation is not one we know")


def _clip_mean(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, float) or not 0.0 < value < math.inf:
        _refuse(f"its clip_mean {plain(repr(value), 40)} is not a positive number")
    return value


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST_WHOLE:
        _refuse(f"its {name} {plain(repr(value), 40)} is not a whole number from 0 on")
    return value


def _quoted(printed: bytes) -> str:
    """Return the end of what a process printed, for a message."""
    text = plain(printed[-2_000:].decode("utf-8", "replace"), 2_000)
    return f"; it printed: {text[-300:]}" if text else ""


def _refuse(reason: str) -> NoReturn:
    raise ImportRefused(reason)
