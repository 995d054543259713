"""A member's plan as text: what `--set key=value` changes, and the flat form that run records keep.

A key is the name of one setting, such as `batch_size`, or section and name, such as `reward.cost`. What a value may be
is decided by the record it goes into, not here.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

from strategy.errors import InvalidParameters
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.market import Conditions
from training.plan import MemberPlan, Settings, Validation
from training.reward import RewardSettings

JSON: TypeAlias = bool | int | float | str | list["JSON"] | None

_SECTIONS: dict[str, type[Any]] = {
    "": Settings,
    "reward": RewardSettings,
    "episode": Episode,
    "randomisation": Randomisation,
    "validation": Validation,
    "strategy": StrategyParameters,
    "risk": RiskLimits,  # its name in the configuration and in bundles
    "costs": CostModel,
}
"""The records by what stands before the dot."""
_OWN = ("seed", "steps", "algorithm")
"""What a plan has besides its records; commands have options of their own for it."""
_VALIDATION = "validation"
_NONE = "none"
_TRUTH = {"true": True, "false": False}


def keys() -> list[str]:
    """Return every key that `apply` knows, in a fixed order."""
    return [key for section in _SECTIONS for key in _keys_of(section)]


def apply(plan: MemberPlan, texts: Sequence[str]) -> MemberPlan:
    """Return `plan` with overrides such as `batch_size=512`, `net_arch=256,256` or `randomisation.fee=0.5,2`.

    `none` switches off what may be absent, `validation=none` all scoring; a setting of `validation` switches it on.
    All are taken together, so that their order does not matter. Raises TrainingError for a key that is unknown or
    given twice, and for a value that its record refuses.
    """
    given, records = _parsed(texts), _records(plan)
    if given.pop(_VALIDATION, None) is not None:
        records[_VALIDATION] = None
    for section, record in _SECTIONS.items():
        mine = {key: given[key] for key in _keys_of(section) if key in given}
        if mine:
            place = "--set " + " ".join(f"{key}={text}" for key, text in mine.items())
            hints = get_type_hints(record)
            changes = {_name(key): _value(text, hints[_name(key)]) for key, text in mine.items()}
            records[section] = _made(place, record if records[section] is None else records[section], changes)
    return _assembled(plan, records)


def overrides(base: MemberPlan, plan: MemberPlan) -> list[str]:
    """Return the texts by which `apply` turns `base` into `plan`; seed, steps and algorithm are not among them."""
    before, after = describe(base), describe(plan)
    changed = [key for key in after if key not in _OWN and (key not in before or before[key] != after[key])]
    return [f"{key}={_text(after[key])}" for key in changed]


def describe(plan: MemberPlan) -> dict[str, JSON]:
    """Return all that the plan decides, flat: the keys of `apply`, and `seed`, `steps`, `algorithm`; JSON types only.

    Without validation one key `validation` holds null instead of its settings.
    """
    told: dict[str, JSON] = {name: getattr(plan, name) for name in _OWN}
    for section, record in _records(plan).items():
        if record is None:
            told[section] = None
            continue
        for key in _keys_of(section):
            value = getattr(record, _name(key))
            told[key] = list(value) if isinstance(value, tuple) else value
    return told


def plan_from(values: Mapping[str, JSON]) -> MemberPlan:
    """Return the plan that `describe` told. Raises TrainingError for wrong keys and for values a record refuses."""
    is_scored = _VALIDATION not in values
    sections = [section for section in _SECTIONS if is_scored or section != _VALIDATION]
    expected = {*_OWN, *(key for section in sections for key in _keys_of(section))}
    if wrong := sorted(expected ^ (set(values) - {_VALIDATION})):
        raise TrainingError(f"plan: unknown or missing keys: {', '.join(wrong)}: another version of sacd wrote it")
    if not is_scored and values[_VALIDATION] is not None:
        raise TrainingError(f"plan: validation {values[_VALIDATION]}: give null, or its settings")
    records: dict[str, Any] = {_VALIDATION: None}
    for section in sections:
        hints = get_type_hints(_SECTIONS[section])
        parts = {_name(key): _of_json(values[key], hints[_name(key)]) for key in _keys_of(section)}
        records[section] = _made("plan", _SECTIONS[section], parts)
    own: dict[str, Any] = {name: values[name] for name in _OWN}
    return _assembled(MemberPlan(**own), records)


# ---- records ----------------------------------------------------------------------------------------------------
def _records(plan: MemberPlan) -> dict[str, Any]:
    """Return the plan's records by section."""
    conditions = plan.conditions
    return {
        "": plan.settings,
        "reward": plan.reward,
        "episode": plan.episode,
        "randomisation": plan.randomisation,
        _VALIDATION: plan.validation,
        "strategy": conditions.strategy,
        "risk": conditions.limits,
        "costs": conditions.costs,
    }


def _assembled(plan: MemberPlan, records: Mapping[str, Any]) -> MemberPlan:
    return replace(
        plan,
        settings=records[""],
        conditions=Conditions(strategy=records["strategy"], limits=records["risk"], costs=records["costs"]),
        reward=records["reward"],
        episode=records["episode"],
        randomisation=records["randomisation"],
        validation=records[_VALIDATION],
    )


def _made(place: str, record: Any, changes: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any of the records
    """Return `record`, an instance or a class, with `changes`."""
    try:
        return record(**changes) if isinstance(record, type) else replace(record, **changes)
    except (TrainingError, InvalidParameters) as error:
        raise TrainingError(f"{place}: {error}") from error


# ---- keys -------------------------------------------------------------------------------------------------------
def _keys_of(section: str) -> list[str]:
    return [f"{section}.{field.name}" if section else field.name for field in fields(_SECTIONS[section])]


def _name(key: str) -> str:
    return key.rpartition(".")[2]


def _parsed(texts: Sequence[str]) -> dict[str, str]:
    """Return the value texts by key."""
    given: dict[str, str] = {}
    known = set(keys())
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise TrainingError(f"--set {text}: give a key and a value, such as batch_size=512")
        if key in given:
            raise TrainingError(f"--set {text}: {key} is given twice: give it once")
        if key not in known and (key, value.lower()) != (_VALIDATION, _NONE):
            raise TrainingError(f"--set {text}: {_unknown(key)}")
        given[key] = value
    if _VALIDATION in given and any(key in given for key in _keys_of(_VALIDATION)):
        raise TrainingError("--set validation=none: another --set gives a setting of it: leave one of them out")
    return given


def _unknown(key: str) -> str:
    if key in _OWN:
        return f"{key} is not a setting: give the option --{key}"
    if key == _VALIDATION:
        return f"give {_VALIDATION}={_NONE}, or one of its settings: {', '.join(_keys_of(_VALIDATION))}"
    same = [known for known in keys() if _name(known) == _name(key)]  # right name, wrong or no section
    near = same or difflib.get_close_matches(key, keys(), n=3, cutoff=0.0)
    return f"unknown key {key!r}; nearest known: {', '.join(near)}"


# ---- values -----------------------------------------------------------------------------------------------------
def _value(text: str, kind: Any) -> Any:  # noqa: ANN401 - as the field is declared
    """Return `text` as `kind`, or as it is where it cannot be read as that: its record then says what it wants."""
    if get_origin(kind) is tuple:
        parts = [part for part in text.split(",") if part.strip()]
        return tuple(_value(part.strip(), get_args(kind)[0]) for part in parts)
    if type(None) in get_args(kind):
        return None if text.lower() == _NONE else _value(text, get_args(kind)[0])
    if kind is bool:
        return _TRUTH.get(text.lower(), text)
    try:
        number = float(text)
        if kind is int:
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
    except ValueError:
        return text
    return number


def _of_json(value: JSON, kind: Any) -> Any:  # noqa: ANN401 - as the field is declared
    """Return `value` as `kind` where JSON has no such type: tuples, and floats that were written as whole numbers."""
    if isinstance(value, list):
        return tuple(_of_json(part, (get_args(kind) or (object,))[0]) for part in value)
    if isinstance(value, int) and not isinstance(value, bool) and float in (kind, *get_args(kind)):
        return float(value)
    return value


def _text(value: JSON) -> str:
    if value is None:
        return _NONE
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
