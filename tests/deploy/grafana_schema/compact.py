"""Prints a schema and names as one object, with every part of the schema that stands there several times once."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WORTH_IT = 120
"""Letters from which on a part is not repeated."""


def main(version: str, schema_file: str, names_file: str) -> None:
    schema, names = (json.loads(Path(file).read_text(encoding="utf-8")) for file in (schema_file, names_file))
    counts = Counter(_text(part) for part in _parts(schema))
    repeated = [text for text, count in counts.items() if count > 1 and len(text) > _WORTH_IT]
    numbers = {text: number for number, text in enumerate(sorted(repeated))}
    shared = {f"part{number}": _inside(json.loads(text), numbers) for text, number in numbers.items()}
    whole = {**_inside(schema, numbers), "definitions": shared}
    print(json.dumps({"grafana": version, "schema": whole, **names}, indent=1, sort_keys=True))  # noqa: T201


def _parts(part: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema within a schema. A map of properties is none, and may not be replaced."""
    for value in _children(part):
        if isinstance(value, dict):
            yield value
            yield from _parts(value)


def _children(part: dict[str, Any]) -> Iterator[Any]:
    yield from part.get("properties", {}).values()
    yield from part.get("anyOf", [])
    yield from (part[name] for name in ("items", "additionalProperties") if name in part)


def _compact(part: Any, numbers: dict[str, int]) -> Any:
    if not isinstance(part, dict):
        return part
    text = _text(part)
    return {"$ref": f"#/definitions/part{numbers[text]}"} if text in numbers else _inside(part, numbers)


def _inside(part: dict[str, Any], numbers: dict[str, int]) -> dict[str, Any]:
    made = dict(part)
    if "properties" in part:
        made["properties"] = {name: _compact(value, numbers) for name, value in part["properties"].items()}
    if "anyOf" in part:
        made["anyOf"] = [_compact(value, numbers) for value in part["anyOf"]]
    for name in ("items", "additionalProperties"):
        if name in part:
            made[name] = _compact(part[name], numbers)
    return made


def _text(part: Any) -> str:
    return json.dumps(part, sort_keys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
