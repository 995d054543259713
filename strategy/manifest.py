"""The manifest of a bundle: its records, their one form as JSON, and what they may say. Values only, no files."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, NoReturn, TypeVar

from strategy.errors import BadBundle
from strategy.policy import Activation

FORMAT = 1
MANIFEST = "manifest.json"
ACTION_LOW = (-1.0, 0.0, 0.0)
ACTION_HIGH = (1.0, 1.0, 1.0)
_SHORT_ID = 16
_HASH = re.compile(r"[0-9a-f]{64}")
_MEMBER_FILE = re.compile(r"member-[0-9]{1,3}\.safetensors")
_WIDEST_LAYER = 65_536

Parameters = Mapping[str, float | int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """One policy: its file and hash, the seed it was trained with, its weight in the ensemble, its network."""

    file: str
    sha256: str
    seed: int
    weight: float
    net_arch: tuple[int, ...]
    activation: str
    clip_mean: float | None
    use_sde: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRecord:
    """Bounds of the action, and the version of the rule that turns it into a target exposure."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    rule_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRecord:
    """The feature schema the policy reads (free JSON, as `strategy.features` describes it) and its hash."""

    hash: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The training distribution of the feature row: mean and standard deviation per feature.

    limit: distance from it, in the unit of the out-of-distribution measure, that counts as the edge of what was seen.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecord:
    """A data file the policies were trained on."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """How the bundle was made. start_ms, end_ms: the candles it has seen, [start, end).  steps: per member."""

    command: str
    start_ms: int
    end_ms: int
    steps: int
    symbols: tuple[str, ...]
    timeframe: str
    data: tuple[DataRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleManifest:
    """Everything known about a bundle. costs, risk, strategy: `strategy.parameters` records it was trained under.

    evaluation: the report it passed, free JSON, or None.  versions: python, numpy, torch, stable_baselines3, sacd.
    id: hash of all the rest, 64 hexadecimal digits.
    Raises BadBundle when a value cannot be.
    """

    members: tuple[MemberRecord, ...]
    observation_size: int
    action: ActionRecord
    feature: FeatureRecord
    reference: Reference
    costs: Parameters
    risk: Parameters
    strategy: Parameters
    training: TrainingRecord
    evaluation: Mapping[str, Any] | None
    versions: Mapping[str, str]
    id: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        for complaint in _complaints(self):
            _refuse(complaint)
        try:
            canonical = json.dumps(self._content(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadBundle(f"bundle file {MANIFEST}: it cannot be written as JSON: {error}") from error
        object.__setattr__(self, "id", hashlib.sha256(canonical.encode()).hexdigest())

    @property
    def short_id(self) -> str:
        """The first 16 digits of the id: what people and directories call the bundle."""
        return self.id[:_SHORT_ID]

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON types, as it stands in the file."""
        return {**self._content(), "id": self.id}

    def to_bytes(self) -> bytes:
        """Return the contents of `manifest.json`: one form only, so that equal bundles have equal files."""
        text = json.dumps(self.to_json(), indent=1, sort_keys=True, allow_nan=False)
        return text.encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "BundleManifest":
        """Return the manifest in `data`. Raises BadBundle for an unknown format, another id, or any altered byte."""
        document = _parse(data)
        if document.get("format") != FORMAT:
            _refuse(f"format {document.get('format')!r} is not known; this version of sacd reads format {FORMAT}")
        del document["format"]
        stated = document.pop("id", None)
        try:
            manifest = _READ_MANIFEST("manifest", document)
            is_altered = manifest.to_bytes() != data
        except RecursionError:
            _refuse("it is nested too deeply")
        if stated != manifest.id:
            _refuse(f"it says its id is {stated}, its contents give {manifest.id}: it was altered")
        if is_altered:
            _refuse("it is not written as sacd writes it: it was altered")
        return manifest

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {"format": FORMAT}
        for name in self.__dataclass_fields__:
            if name != "id":
                content[name] = _plain(getattr(self, name))
        return content


# ---- what a manifest may say ------------------------------------------------------------------------------------
def _complaints(manifest: BundleManifest) -> Iterator[str]:
    """Yield in words what cannot be, whoever made the manifest."""
    yield from _network_complaints(manifest)
    yield from _origin_complaints(manifest)
    for name in ("costs", "risk", "strategy"):
        for key, value in getattr(manifest, name).items():
            if isinstance(value, bool) or not math.isfinite(value):
                yield f"{name}.{key} {value} is not a finite number"


def _network_complaints(manifest: BundleManifest) -> Iterator[str]:
    files = [member.file for member in manifest.members]
    if not files or len(set(files)) != len(files):
        yield f"members are {files}: at least one, each with a file of its own"
    for index, member in enumerate(manifest.members):
        for complaint in _member_complaints(member):
            yield f"members[{index}].{complaint}"
    if not 1 <= manifest.observation_size <= _WIDEST_LAYER:
        yield f"observation_size {manifest.observation_size} is not in 1 .. {_WIDEST_LAYER}"
    action = manifest.action
    if (action.low, action.high) != (ACTION_LOW, ACTION_HIGH):
        yield f"action bounds {action.low} .. {action.high} are not {ACTION_LOW} .. {ACTION_HIGH}"
    if action.rule_version < 1:
        yield f"action.rule_version {action.rule_version} is not a version"


def _member_complaints(member: MemberRecord) -> Iterator[str]:
    if not _MEMBER_FILE.fullmatch(member.file):
        yield f"file {member.file!r} is not of the form member-0.safetensors"
    if not _HASH.fullmatch(member.sha256):
        yield f"sha256 {member.sha256!r} is not 64 hexadecimal digits"
    if member.seed < 0:
        yield f"seed {member.seed} is negative"
    if not 0.0 < member.weight <= 1.0:
        yield f"weight {member.weight} is not above 0 and at most 1"
    if not all(1 <= size <= _WIDEST_LAYER for size in member.net_arch):
        yield f"net_arch {list(member.net_arch)} holds a layer outside 1 .. {_WIDEST_LAYER}"
    if member.activation not in tuple(Activation):
        yield f"activation {member.activation!r} is not one of {', '.join(Activation)}"
    if member.clip_mean is not None and not 0.0 < member.clip_mean < math.inf:
        yield f"clip_mean {member.clip_mean} is not a positive number"


def _origin_complaints(manifest: BundleManifest) -> Iterator[str]:
    if not _HASH.fullmatch(manifest.feature.hash):
        yield f"feature.hash {manifest.feature.hash!r} is not 64 hexadecimal digits"
    reference, training = manifest.reference, manifest.training
    if not 1 <= len(reference.mean) == len(reference.std) <= manifest.observation_size:
        yield f"reference has {len(reference.mean)} means and {len(reference.std)} deviations"
    if not all(map(math.isfinite, reference.mean)):
        yield "reference.mean holds a number that is not finite"
    if not all(0.0 <= value < math.inf for value in reference.std):
        yield "reference.std holds a number that is not finite and >= 0"
    if not 0.0 < reference.limit < math.inf:
        yield f"reference.limit {reference.limit} is not a positive number"
    if not 0 <= training.start_ms < training.end_ms:
        yield f"training span {training.start_ms} .. {training.end_ms} is none"
    if training.steps < 1 or not training.symbols:
        yield f"training of {training.steps} steps on {len(training.symbols)} symbols is none"
    for record in training.data:
        if not _HASH.fullmatch(record.sha256):
            yield f"training.data {record.name}: sha256 {record.sha256!r} is not 64 hexadecimal digits"


def _refuse(reason: str) -> NoReturn:
    raise BadBundle(f"bundle file {MANIFEST}: {reason}")


# ---- JSON -------------------------------------------------------------------------------------------------------
def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _parse(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data.decode("ascii"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadBundle(f"bundle file {MANIFEST}: it is not JSON as sacd writes it: {error}") from error
    if not isinstance(document, dict):
        _refuse("it is not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands there twice")
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


# ---- JSON types to records; `where` is the path that errors name ------------------------------------------------
Read = Callable[[str, object], Any]


def _text(where: str, value: object) -> str:
    return value if isinstance(value, str) else _wrong(where, value, "a text")


def _whole(where: str, value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else _wrong(where, value, "a whole number")


def _flag(where: str, value: object) -> bool:
    return value if isinstance(value, bool) else _wrong(where, value, "true or false")


def _number(where: str, value: object) -> float:
    # Kept as it is written, 1 or 1.0, so that the manifest comes out as it came in.
    return value if isinstance(value, float) else _whole(where, value)


def _object(where: str, value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else _wrong(where, value, "an object")


def _optional(read: Read) -> Read:
    return lambda where, value: None if value is None else read(where, value)


def _each(read: Read) -> Read:
    def items(where: str, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            _wrong(where, value, "a list")
        return tuple(read(f"{where}[{index}]", item) for index, item in enumerate(value))

    return items


def _values(read: Read) -> Read:
    return lambda where, value: {key: read(f"{where}.{key}", item) for key, item in _object(where, value).items()}


def _record(cls: Callable[..., T], reads: Mapping[str, Read]) -> Callable[[str, object], T]:
    def record(where: str, value: object) -> T:
        fields = _object(where, value)
        if odd := sorted(set(fields) ^ set(reads)):
            _refuse(f"{where}: keys missing or unknown: {', '.join(odd)}")
        return cls(**{name: read(f"{where}.{name}", fields[name]) for name, read in reads.items()})

    return record


def _wrong(where: str, value: object, wanted: str) -> NoReturn:
    _refuse(f"{where} {value!r} is not {wanted}")


_MEMBER = _record(
    MemberRecord,
    {
        "file": _text,
        "sha256": _text,
        "seed": _whole,
        "weight": _number,
        "net_arch": _each(_whole),
        "activation": _text,
        "clip_mean": _optional(_number),
        "use_sde": _flag,
    },
)
_TRAINING = _record(
    TrainingRecord,
    {
        "command": _text,
        "start_ms": _whole,
        "end_ms": _whole,
        "steps": _whole,
        "symbols": _each(_text),
        "timeframe": _text,
        "data": _each(_record(DataRecord, {"name": _text, "sha256": _text})),
    },
)
_READ_MANIFEST = _record(
    BundleManifest,
    {
        "members": _each(_MEMBER),
        "observation_size": _whole,
        "action": _record(ActionRecord, {"low": _each(_number), "high": _each(_number), "rule_version": _whole}),
        "feature": _record(FeatureRecord, {"hash": _text, "schema": _object}),
        "reference": _record(Reference, {"mean": _each(_number), "std": _each(_number), "limit": _number}),
        "costs": _values(_number),
        "risk": _values(_number),
        "strategy": _values(_number),
        "training": _TRAINING,
        "evaluation": _optional(_object),
        "versions": _values(_text),
    },
)
