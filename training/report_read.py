"""Reads an evaluation back from its JSON. What does not fit is refused with its place, before anything is drawn."""

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from training.errors import TrainingError
from training.evaluate_output import EVALUATION
from training.evaluation import FORMAT, Curves, Evaluation

_LARGEST = 64 * 2**20
_AGAIN = "evaluate again with `sacd evaluate --out DIR`"
_FEWEST_DAYS = 2


def find(place: Path | None, below: Path) -> Path:
    """Return the file of an evaluation: `place`, the one in it, or without a place the newest in a folder of `below`.

    Raises TrainingError when there is none.
    """
    if place is not None:
        return place / EVALUATION if place.is_dir() else place
    found = sorted(below.glob(f"*/{EVALUATION}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise TrainingError(f"no evaluation lies below {below}: make one with `sacd evaluate --out DIR`, or name one")
    return found[-1]


def load(path: Path) -> Evaluation:
    """Return the evaluation in a file. Raises TrainingError naming the file and what is wrong with it."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror}); name what `sacd evaluate` wrote") from error
    if len(content) > _LARGEST:
        raise TrainingError(f"{path}: larger than {_LARGEST} bytes, no evaluation is; name what `sacd evaluate` wrote")
    try:
        document = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{path}: is not JSON ({error}); {_AGAIN}") from None
    return parse(document, str(path))


def parse(document: object, place: str) -> Evaluation:
    """Return the evaluation in a JSON object. place: names it in messages.

    Raises TrainingError for another format, missing curves, and values that do not fit, each with its key.
    """
    if not isinstance(document, Mapping):
        raise TrainingError(f"{place}: is not a JSON object; {_AGAIN}")
    if document.get("format") != FORMAT:
        found = str(document.get("format", "none"))[:40]
        raise TrainingError(f"{place}: format {found}, this version reads format {FORMAT}; {_AGAIN}")
    if "curves" not in document:
        raise TrainingError(
            f"{place}: has no curves, as the file beside a bundle's manifest; name the one that `sacd evaluate` wrote "
            "to its --out"
        )
    _require_finite(document, place)
    try:
        evaluation = _adapter().validate_python(document)
    except ValidationError as error:
        raise TrainingError(f"{place}: {_first(error)}; {_AGAIN}") from None
    if not evaluation.symbols:
        raise TrainingError(f"{place}: symbols: there is none; {_AGAIN}")
    _check(evaluation.curves, place)
    return evaluation


@cache
def _adapter() -> TypeAdapter[Evaluation]:
    return TypeAdapter(Evaluation)


def _require_finite(value: object, place: str, key: str = "") -> None:
    """Raise TrainingError for NaN and infinities, which JSON does not know and no chart can show."""
    match value:
        case float() if not math.isfinite(value):
            raise TrainingError(f"{place}: {key.lstrip('.')}: {value} is no number; {_AGAIN}")
        case Mapping():
            for name, item in value.items():
                _require_finite(item, place, f"{key}.{name}")
        case list() | tuple():
            for item in value:
                _require_finite(item, place, key)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _first(error: ValidationError) -> str:
    problem: Any = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    more = error.error_count() - 1
    return f"{key}: {problem['msg'].lower()}" + (f" (and {more} more)" if more else "")


def _check(curves: Curves, place: str) -> None:
    """Raise TrainingError unless all curves are of the same days and can be drawn."""
    days = len(curves.day_ms)
    if days < _FEWEST_DAYS:
        raise TrainingError(f"{place}: curves.day_ms: {days} days cannot be drawn; evaluate a longer span")
    if any(later <= earlier for earlier, later in zip(curves.day_ms, curves.day_ms[1:], strict=False)):
        raise TrainingError(f"{place}: curves.day_ms: the days are not in order; {_AGAIN}")
    if "ensemble" not in curves.equity:
        raise TrainingError(f"{place}: curves.equity: has no `ensemble`; {_AGAIN}")
    for name, values in _lengths(curves):
        if len(values) != days:
            raise TrainingError(f"{place}: curves.{name}: {len(values)} values for {days} days; {_AGAIN}")
    for name, equity in curves.equity.items():
        _require_positive(equity, f"{place}: curves.equity.{name}")
    for symbol in curves.symbols:
        _require_positive(symbol.close, f"{place}: curves.symbols {symbol.symbol} close")


def _require_positive(values: tuple[float, ...], place: str) -> None:
    if min(values) <= 0.0:
        raise TrainingError(f"{place}: {min(values):g} is not above 0, and a log scale shows no other; {_AGAIN}")


def _lengths(curves: Curves) -> list[tuple[str, tuple[Any, ...]]]:
    found: list[tuple[str, tuple[Any, ...]]] = [("exposure", curves.exposure), ("costs", curves.costs)]
    found += [(f"equity.{name}", values) for name, values in curves.equity.items()]
    for symbol in curves.symbols:
        named = (("close", symbol.close), ("exposure", symbol.exposure), ("action", symbol.action))
        found += [(f"symbols {symbol.symbol} {name}", values) for name, values in named]
        found.append((f"symbols {symbol.symbol} disagreement", symbol.disagreement))
        found += [(f"symbols {symbol.symbol} votes[{index}]", votes) for index, votes in enumerate(symbol.votes)]
    return found
