"""How a mistake in the configuration is told: where, which value, what is wrong, what would be right.

Turns what pydantic finds into such lines. Never shows a value that may be a secret.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from daemon.redact import MASK, Redactor, is_secret_name

KeyPath = tuple[str, ...]

_LONGEST = 60
_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "text",
    list: "a list",
    tuple: "a list",
    dict: "a table",
}


class Wrong(ValueError):
    """Raised by a validator: what is wrong with a value and, where the key's own advice is not enough, the remedy."""

    def __init__(self, wrong: str, right: str = "") -> None:
        super().__init__(wrong)
        self.right = right


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One line of the report.

    path: section and key.  shown: the value as it may be printed.  origin: where it came from when not from the file.
    """

    path: KeyPath
    shown: str
    wrong: str
    right: str
    origin: str = ""

    def __str__(self) -> str:
        where = f"{dotted(self.path)} = " if self.path else ""
        origin = f" (from {self.origin})" if self.origin else ""
        return f"{where}{self.shown}{origin}: {self.wrong}; {self.right}"

    def from_any(self, origins: Mapping[KeyPath, str]) -> "Mistake":
        """Return the mistake with the name of the environment variable its value came from, if one did."""
        found = next((origins[self.path[:n]] for n in range(len(self.path), 0, -1) if self.path[:n] in origins), "")
        return replace(self, origin=self.origin or found)


def dotted(path: Iterable[str]) -> str:
    """Return `path` as one would write it in TOML: market.file.paths."BTC/USDT"."""
    return ".".join(key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _quoted(key) for key in path)


def shown(value: object) -> str:
    """Return `value` as TOML would have it, on one line, cut to a readable length, passwords in URLs masked."""
    match value:
        case None:
            text = "(missing)"
        case bool():
            text = str(value).lower()
        case str() | Path():
            text = _quoted(Redactor().text(str(value)))
        case Mapping():
            text = "{...}" if value else "{}"
        case list() | tuple():
            text = f"[{', '.join(shown(item) for item in value)}]"
        case int() if value.bit_length() > 256:  # noqa: PLR2004  # Python refuses to print integers of any length
            text = hex(value)
        case _:
            text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _quoted(text: str) -> str:
    # What a terminal cannot show, or would obey, is escaped.
    return json.dumps(text, ensure_ascii=not text.isprintable())


# ---- what the program knows ------------------------------------------------------------------------------------
def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys of a section as the file spells them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def section_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """Return the section at `path`, also behind a free name such as instruments."BTC/USDT"; None when it is none."""
    kind: Any = model
    for key in path:
        if _is_section(kind) and key in keys_of(kind):
            kind = keys_of(kind)[key].annotation
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return None
    return kind if _is_section(kind) else None


def field_at(model: type[BaseModel], path: KeyPath) -> FieldInfo | None:
    """Return what is known of the key at `path`, None for an unknown one."""
    section = section_at(model, path[:-1])
    return keys_of(section).get(path[-1]) if section is not None and path else None


def every_key(model: type[BaseModel], path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of every key below `model` that is not itself a section."""
    for key, field in keys_of(model).items():
        if _is_section(field.annotation):
            yield from every_key(field.annotation, (*path, key))  # type: ignore[arg-type]  # it is a section
        else:
            yield (*path, key)


def kind_of(field: FieldInfo) -> Any:  # noqa: ANN401  # a type, or what typing makes of one
    """Return the bare type of a key's value: `str`, `float`, `tuple`, `dict`, a section, or None for a choice."""
    kind = field.annotation
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    kind = get_origin(kind) or kind
    return kind if isinstance(kind, type) else None


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


# ---- the lines -------------------------------------------------------------------------------------------------
def unknown_key(model: type[BaseModel], path: KeyPath, value: object) -> Mistake:
    """Return the mistake of a key the program does not know, with the nearest one it does know."""
    # Text under an unknown name may be a misspelt secret, most of all near the exchange.
    is_risky = isinstance(value, str) and (len(path) == 1 or path[0] == "exchange")
    visible = MASK if is_risky or is_secret_name(path[-1]) else shown(value)
    wrong = "there is no such section" if len(path) == 1 and isinstance(value, dict) else "there is no such key"
    return Mistake(path=path, shown=visible, wrong=wrong, right=_nearest(model, path))


def _nearest(model: type[BaseModel], path: KeyPath) -> str:
    section = section_at(model, path[:-1])
    siblings = list(keys_of(section)) if section is not None else []
    near = [(*path[:-1], name)] if (name := nearest(path[-1], siblings)) else []
    near += [known for known in every_key(model) if known[-1] == path[-1]]
    if near:
        return f"did you mean {dotted(near[0])}?"
    return f"known here: {', '.join(siblings)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the one of `known` that `name` was probably meant to be, "" when none is close."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")


def invalid_value(model: type[BaseModel], error: ErrorDetails) -> Mistake:
    """Return the mistake that pydantic describes by `error`."""
    # A wrong item of a list is told as the list's.
    path = tuple(key for key in error["loc"] if isinstance(key, str))
    if error["type"] == "extra_forbidden":
        return unknown_key(model, path, error["input"])
    if error["type"] == "missing":
        return Mistake(path=path, shown=shown(None), wrong="is needed", right=remedy(field_at(model, path)))
    field = field_at(model, path)
    cause = error.get("ctx", {}).get("error")
    # An entry of a table with free names is explained by the table.
    right = cause.right if isinstance(cause, Wrong) and cause.right else remedy(field or field_at(model, path[:-1]))
    wrong = _wrong(error, field)
    if len(path) < len(error["loc"]):
        wrong = f"holds {_NAMES.get(type(error['input']), 'a value')} as an entry, which does not fit here"
    return Mistake(path=path, shown=shown(error["input"]), wrong=wrong, right=right)


def _wrong(error: ErrorDetails, field: FieldInfo | None) -> str:  # noqa: PLR0911  # one line per kind of error
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "finite_number":
            return "is not a finite number"
        case "literal_error":
            return "is none of the choices"
        case "greater_than":
            return f"is not above {context['gt']}"
        case "greater_than_equal":
            return f"is below {context['ge']}"
        case "less_than":
            return f"is not below {context['lt']}"
        case "less_than_equal":
            return f"is above {context['le']}"
        case kind if kind.endswith("_type") or kind.startswith("is_"):
            return _type_wrong(error["input"], field)
        case _:
            return error["msg"]


def _type_wrong(value: object, field: FieldInfo | None) -> str:
    is_called = _NAMES.get(type(value), f"a {type(value).__name__}")
    wanted = _NAMES.get(kind_of(field)) if field is not None else None
    if wanted is None or wanted == is_called:
        return f"is {is_called}, which does not fit here"
    return f"is {is_called}, not {wanted}"


def remedy(field: FieldInfo | None) -> str:
    """Return what one may write for a key."""
    if field is None:
        return "see the comments in the config.toml that came with the program"
    if field.description is not None:
        return field.description
    wanted = _NAMES.get(kind_of(field), "a value")
    example = field.default
    return f"write {wanted}, such as {shown(example)}" if isinstance(example, int | float) else f"write {wanted}"
