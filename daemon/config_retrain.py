"""What contradicts itself in [retrain], also beside the other sections: found when the configuration is loaded."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.config_mistakes import KeyPath, Mistake, shown

if TYPE_CHECKING:
    from daemon.config import Config

_CURRENT = "current"  # as `daemon.models` calls it, whose libraries a configuration does without
_ID = re.compile(r"[0-9a-f]{16}")


def unreadable(file: Path) -> str:
    """Return why `file` cannot be read, "" when it can."""
    try:
        if file.is_dir():
            return "is a directory, not a file"
        file.stat()
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    return "" if os.access(file, os.R_OK) else "may not be read by this user"


def _one_timetable(config: "Config") -> Iterator[Mistake]:
    retrain = config.retrain
    if retrain.cron and retrain.every_hours:
        yield Mistake(
            path=("retrain", "cron"),
            shown=shown(retrain.cron),
            wrong=f"stands beside retrain.every_hours = {shown(retrain.every_hours)}, and only one can say when",
            right='write "" here, or 0.0 there',
        )


def _something_is_new(config: "Config") -> Iterator[Mistake]:
    every_hours, candle_hours = config.retrain.every_hours, config.timeframe.span_ms / 3_600_000
    if 0.0 < every_hours < candle_hours:
        yield Mistake(
            path=("retrain", "every_hours"),
            shown=shown(every_hours),
            wrong=f"is less than the {candle_hours:g} h that a candle of market.timeframe takes: nothing is new then",
            right="write hours in which there is something to learn from, such as 168.0",
        )


def _data_is_of_symbols(config: "Config") -> Iterator[Mistake]:
    symbols = config.market.symbols
    for symbol, file in config.retrain.data.items():
        path = ("retrain", "data", symbol)
        if symbol not in symbols:
            right = f"remove it, or write one of {', '.join(symbols)}"
            yield Mistake(path=path, shown=shown(file), wrong="is of a symbol that market.symbols lacks", right=right)
        elif wrong := _unusable(file, may_be_made=config.retrain.fetch):
            right = "write the path of a CSV, CSV.gz or Parquet file of candles"
            yield Mistake(path=path, shown=shown(file), wrong=wrong, right=right)


def _unusable(file: Path, *, may_be_made: bool) -> str:
    return "" if may_be_made and not os.path.lexists(file) else unreadable(file)


def _fetched_from_somewhere(config: "Config") -> Iterator[Mistake]:
    if config.retrain.fetch and config.market.source != "exchange":
        yield Mistake(
            path=("retrain", "fetch"),
            shown=shown(config.retrain.fetch),
            wrong=f'has no exchange to ask, as market.source is "{config.market.source}"',
            right="write false: files and journal have all the candles there are",
        )


def _candidate_can_win(config: "Config") -> Iterator[Mistake]:
    least, most = config.retrain.shadow_least, config.retrain.shadow_decisions
    if least > most:
        yield Mistake(
            path=("retrain", "shadow_least"),
            shown=shown(least),
            wrong=f"is above retrain.shadow_decisions = {most}, after which every candidate is dropped",
            right="write a number well below it, such as 20",
        )


def _model_can_be_replaced(config: "Config") -> Iterator[Mistake]:
    keys = {
        "cron": config.retrain.cron,
        "every_hours": config.retrain.every_hours,
        "drift_trigger": config.retrain.drift_trigger,
    }
    wanted = next((key for key, value in keys.items() if value), None)
    model = config.strategy.model
    if wanted is None or not os.path.lexists(model) or _is_current(model):
        return  # one that is not there is told as such
    yield Mistake(
        path=("strategy", "model"),
        shown=shown(model),
        wrong=f"is no link called {_CURRENT} to an ensemble beside it, and retrain.{wanted} is to replace ensembles",
        right=f'name that link, such as "models/{_CURRENT}" (`sacd models promote ID` makes it)',
    )


def _is_current(model: Path) -> bool:
    if model.name != _CURRENT or not model.is_symlink():
        return False
    target = Path(os.path.normpath(model.parent / model.readlink()))
    return target.parent == model.parent and _ID.fullmatch(target.name) is not None


CONTRADICTIONS: tuple[tuple[tuple[KeyPath, ...], Callable[["Config"], Iterator[Mistake]]], ...] = (
    ((("retrain", "cron"), ("retrain", "every_hours")), _one_timetable),
    ((("retrain", "every_hours"), ("market", "timeframe")), _something_is_new),
    ((("retrain", "data"), ("retrain", "fetch"), ("market", "symbols")), _data_is_of_symbols),
    ((("retrain", "fetch"), ("market", "source")), _fetched_from_somewhere),
    ((("retrain", "shadow_least"), ("retrain", "shadow_decisions")), _candidate_can_win),
    (
        (("strategy", "model"), ("retrain", "cron"), ("retrain", "every_hours"), ("retrain", "drift_trigger")),
        _model_can_be_replaced,
    ),
)
"""Each check with the keys it rests on, as in `daemon.config`."""
