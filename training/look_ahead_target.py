"""What is checked for look-ahead: a function from candles to rows, its outputs by name, and the candles it is given.

A user's function is the user's own code: importing it runs it.
"""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strategy.candle_table import CandleTable
from strategy.errors import StrategyError
from strategy.features import FEATURE_NAMES, WINDOW, FeatureTable, compute
from strategy.parameters import StrategyParameters
from training.console import counted
from training.errors import TrainingError

FloatArray = NDArray[np.float64]
Compute = Callable[[NDArray[np.int64], FloatArray, int, int], Any]
"""(open_ms, values, span_ms, max_missing) -> a FeatureTable, an (n,) or (n, k) array, or a dict of such arrays."""

_CONTEXT = ("volatility", "average_range", "trend", "volatility_regime")
MAX_MISSING = StrategyParameters().max_missing
"""Candles a window may lack, as a target is told."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stretch:
    """Candles of one symbol that follow each other. open_ms: (n,) int64.  values: (n, 5) float64."""

    symbol: str
    span_ms: int
    open_ms: NDArray[np.int64]
    values: FloatArray

    @classmethod
    def of(cls, table: CandleTable) -> "Stretch":
        """Return all candles of a table."""
        return cls(symbol=table.symbol, span_ms=table.timeframe.span_ms, open_ms=table.open_ms, values=table.values)

    def __len__(self) -> int:
        return len(self.open_ms)

    def part(self, first: int, end: int) -> "Stretch":
        """Return the candles at the indices [first, end)."""
        return self.with_candles(self.open_ms[first:end], self.values[first:end])

    def with_candles(self, open_ms: NDArray[np.int64], values: FloatArray) -> "Stretch":
        """Return other candles of the same symbol."""
        return Stretch(symbol=self.symbol, span_ms=self.span_ms, open_ms=open_ms, values=values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outputs:
    """What a target answers for n candles.

    names: of the k outputs.  values: (n, k) float64, as computed.  is_valid: (n,) bool, False where the target itself
    says that a row does not count.
    """

    names: tuple[str, ...]
    values: FloatArray
    is_valid: NDArray[np.bool_]

    def counted(self) -> FloatArray:
        """Return the values with NaN in rows that do not count."""
        return np.where(self.is_valid[:, None], self.values, np.nan)


def differences(one: FloatArray, other: FloatArray) -> NDArray[np.bool_]:
    """Return where two arrays of one shape differ in any bit; NaN equals NaN."""
    unequal = np.ascontiguousarray(one).view(np.int64) != np.ascontiguousarray(other).view(np.int64)
    found: NDArray[np.bool_] = unequal & ~(np.isnan(one) & np.isnan(other))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A function under test. window: candles that its rows may need, at most.  is_own: it is the program's own."""

    name: str
    function: Compute
    window: int = WINDOW
    is_own: bool = False

    def rows(self, candles: Stretch) -> Outputs:
        """Return the outputs for `candles`.

        Raises TrainingError when the function fails, or returns anything but one number per candle and output.
        """
        open_ms, values = candles.open_ms.view(), candles.values.view()
        # A function that writes into its input would spoil what it is compared with.
        open_ms.setflags(write=False)
        values.setflags(write=False)
        try:
            answer = self.function(open_ms, values, candles.span_ms, MAX_MISSING)
        except (StrategyError, TrainingError):
            raise
        except Exception as error:
            raise TrainingError(
                f"{self.name} fails on {counted(len(candles), 'candle')} of {candles.symbol}: {_told(error)}: it "
                "must answer for any valid candles"
            ) from error
        return _outputs(self.name, answer, len(candles))


def own_features() -> Target:
    """Return the kernel that trading uses."""
    return Target(name="strategy.features:compute", function=compute, is_own=True)


def load_target(place: str, window: int) -> Target:
    """Return the function at `place`, "MODULE:FUNCTION" or "FILE.py:FUNCTION". Importing it runs the user's code.

    Raises TrainingError when there is none.
    """
    where, colon, name = place.rpartition(":")
    if not (colon and where and name):
        raise TrainingError(f"--features {place}: name a module or file and a function, such as my_features.py:compute")
    function = getattr(_module(where, place), name, None)
    if not callable(function):
        raise TrainingError(f"--features {place}: {where} has no function {name!r}: name one that is defined there")
    return Target(name=place, function=function, window=window)


def _module(where: str, place: str) -> Any:  # noqa: ANN401 - a module
    path = Path(where)
    is_file = path.suffix == ".py" or path.is_file()
    if is_file and not path.is_file():
        raise TrainingError(f"--features {place}: there is no file {where}: check the path")
    try:
        return _from_file(path) if is_file else importlib.import_module(where)
    except (Exception, SystemExit) as error:
        raise TrainingError(f"--features {place}: importing {where} fails: {_told(error)}") from error


def _from_file(path: Path) -> Any:  # noqa: ANN401 - a module
    name = f"sacd_features_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TrainingError(f"{path}: this is not Python source: name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _told(error: BaseException) -> str:
    """Return an error of foreign code in one line, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}{place}" if words else f"{type(error).__name__}{place}"


# ---- from what a function returns to named columns --------------------------------------------------------------
def _outputs(name: str, answer: Any, n: int) -> Outputs:  # noqa: ANN401 - of foreign code
    is_valid = np.ones(n, np.bool_)
    if isinstance(answer, FeatureTable):
        columns = _of_table(name, answer, n)
        is_valid = np.asarray(answer.is_valid, np.bool_)
    elif isinstance(answer, Mapping):
        columns = {key: column for k, v in answer.items() for key, column in _named(name, str(k), v, n).items()}
    else:
        columns = _named(name, "column", answer, n)
    if not columns:
        raise TrainingError(f"{name} returned no output: return an (n, k) array, a dict of arrays or a FeatureTable")
    return Outputs(names=tuple(columns), values=np.stack(list(columns.values()), axis=1), is_valid=is_valid)


def _of_table(name: str, table: FeatureTable, n: int) -> dict[str, FloatArray]:
    values = _columns(name, "values", table.values, n)
    names = FEATURE_NAMES if len(values) == len(FEATURE_NAMES) else [f"column[{i}]" for i in range(len(values))]
    context = _columns(name, "context", table.context, n)
    titles = _CONTEXT if len(context) == len(_CONTEXT) else [str(i) for i in range(len(context))]
    columns = dict(zip(names, values, strict=True))
    columns |= {f"context {title}": column for title, column in zip(titles, context, strict=True)}
    # Whether a row counts is an output too: NaN keeps it from being hidden in the rows that do not.
    valid = _columns(name, "is_valid", table.is_valid, n)[0]
    return columns | {"is_valid": np.where(valid > 0.0, 1.0, np.nan)}


def _named(name: str, key: str, values: ArrayLike, n: int) -> dict[str, FloatArray]:
    columns = _columns(name, key, values, n)
    if np.ndim(values) == 1:
        return {key: columns[0]}
    return {f"{key}[{i}]": column for i, column in enumerate(columns)}


def _columns(name: str, key: str, values: ArrayLike, n: int) -> list[FloatArray]:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TrainingError(f"{name} returned {key} of type {array.dtype}: return numbers")
    if array.ndim not in {1, 2} or array.shape[0] != n:
        raise TrainingError(f"{name} returned {key} of shape {array.shape} for {n} candles: return one row per candle")
    whole = array.astype(np.float64).reshape(n, -1)
    return [whole[:, i] for i in range(whole.shape[1])]
