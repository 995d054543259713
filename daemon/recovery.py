"""The one way into trading: journal -> state. The same after a first start, a clean stop and a kill at any instruction.

The newest checkpoint is restored, the feature windows are filled from the candles before it, and everything after it
is folded again with the votes that were journalled.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon import journal_reader, records
from daemon.errors import ConfigError, FatalError
from daemon.fold import Fold, Memory, Recorded
from daemon.ports import CandleGroup
from strategy.errors import StrategyError
from strategy.features import WINDOW
from strategy.trader import Trader


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """Where trading continues. mismatches: decisions since the checkpoint that this program would take otherwise."""

    memory: Memory
    is_new: bool
    last_seq: int
    mismatches: int


def recover(path: Path, trader: Trader, account: Mapping[str, Any]) -> Recovered:
    """Bring `trader` to where the journal at `path` ends.

    account: what must be the same for an account to be continued, `cash` (quote) among it.
    Raises ConfigError when the journal belongs to another account, FatalError when it cannot be read.
    """
    fold = Fold(trader, account["cash"])
    first = next(iter(journal_reader.read(path, kinds={"run"}, limit=1)), None) if path.exists() else None
    if first is None:
        return Recovered(memory=fold.memory, is_new=True, last_seq=0, mismatches=0)
    refuse_other_account(path, first.payload["account"], account)
    checkpoint = journal_reader.last_of_kind(path, "checkpoint")
    after = 0
    try:
        if checkpoint is not None:
            after = checkpoint.seq
            _fill_windows(path, after, fold)
            fold.restore(checkpoint.payload)
        return _fold_rest(path, after, fold)
    except (StrategyError, KeyError, TypeError, ValueError) as error:
        raise FatalError(f"journal {path} cannot be continued: {error}; `sacd journal verify` says where") from error


def refuse_other_account(path: Path, stored: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Raise ConfigError naming every difference between the account of a journal and the configured one."""
    wrong = [
        f"{key} was {stored.get(key)!r}, is {present[key]!r}" for key in present if stored.get(key) != present[key]
    ]
    if wrong:
        raise ConfigError(
            f"journal {path} holds another account: {'; '.join(wrong)}. Set it back, or choose another "
            "[daemon] instance (or state_dir) to begin a new account"
        )


def _fill_windows(path: Path, until: int, fold: Fold) -> None:
    """Fill the feature windows with the last candles before the checkpoint, without touching the account."""
    windows: dict[str, deque[CandleGroup]] = {}
    for entry in _candles_before(path, until, len(fold.trader.features)):
        group = records.read_group(entry)
        for candle in group.candles:
            alone = CandleGroup(candles=(candle,), is_backfill=True)
            windows.setdefault(candle.symbol, deque(maxlen=WINDOW)).append(alone)
    for symbol, groups in windows.items():
        for group in groups:
            fold.trader.features[symbol].push(group.candles[0])
        fold.memory.last[symbol] = groups[-1].candles[0]


def _candles_before(path: Path, until: int, symbols: int) -> list[Mapping[str, Any]]:
    """Return the payloads of enough candle records up to `until` to fill every window, oldest first.

    A symbol may have been silent for a while, so the span that is read doubles until each window is full or the
    journal begins.
    """
    span = 2 * WINDOW * (symbols + 1)
    while True:
        start = max(0, until - span)
        found = [e.payload for e in journal_reader.read(path, after=start, kinds={"candle"}) if e.seq <= until]
        counts: dict[str, int] = {}
        for payload in found:
            for row in payload["candles"]:
                counts[row[0]] = counts.get(row[0], 0) + 1
        if start == 0 or (len(counts) == symbols and min(counts.values()) >= WINDOW):
            return found
        span *= 2


def _fold_rest(path: Path, after: int, fold: Fold) -> Recovered:
    runs = [entry for entry in journal_reader.read(path, kinds={"run"}) if entry.seq <= max(after, 1)]
    voters, mismatches, last_seq = Recorded(_weights(runs[-1].payload)), 0, after
    for entry in journal_reader.read(path, after=after):
        if entry.kind == "run":
            voters.weights = _weights(entry.payload)
        mismatches += sum(1 for _ in fold.apply(entry, voters))
        last_seq = entry.seq
    fold.finish()
    return Recovered(memory=fold.memory, is_new=False, last_seq=last_seq, mismatches=mismatches)


def _weights(run: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the weights of the ensemble that served in a run."""
    return np.array(run["weights"], np.float64)
