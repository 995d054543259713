"""The one way into trading: journal -> state. The same after a first start, a clean stop and a kill at any instruction.

The newest checkpoint is restored, the feature windows are filled from the candles before it, and everything after it
is folded again with the votes that were journalled.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from daemon import journal_reader, records
from daemon.errors import ConfigError, FatalError
from daemon.fold import Difference, Fold, Memory, Recorded, begin, readable
from daemon.ports import Companion, Entry
from strategy.features import WINDOW
from strategy.trader import Trader


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """Where trading continues. mismatches: decisions since the checkpoint that this program would take otherwise."""

    memory: Memory
    is_new: bool
    last_seq: int
    mismatches: int


def recover(path: Path, trader: Trader, account: Mapping[str, Any], companion: Companion | None = None) -> Recovered:
    """Bring `trader` to where the journal at `path` ends; it keeps its own parameters and reference for what follows.

    account: what must be the same for an account to be continued, `cash` (quote) among it.  companion: brought there
    too; what it takes afterwards is what the journal lacks.
    Raises ConfigError when the journal belongs to another account, FatalError when it cannot be read.
    """
    fold = Fold(trader, account["cash"], companion)
    first = next(iter(journal_reader.read(path, limit=1)), None) if path.exists() else None
    if first is None:
        return Recovered(memory=fold.memory, is_new=True, last_seq=0, mismatches=0)
    setup, reference = trader.setup, trader.reference
    try:
        with readable(first):
            refuse_other_account(path, first.payload["account"], account)
        last_seq, mismatches = _fold(path, fold, first)
    except FatalError as error:
        raise FatalError(f"journal {path} cannot be continued: {error}; see `sacd journal verify`") from error
    # Ids that a former run began to leave out stay left out.
    first_sequence = max(setup.first_sequence, trader.setup.first_sequence)
    begin(trader, replace(setup, first_sequence=first_sequence), reference)
    if companion is not None:
        companion.begin(trader.setup)
    return Recovered(memory=fold.memory, is_new=False, last_seq=last_seq, mismatches=mismatches)


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
    """Fill the feature windows with the last candles before the checkpoint, without touching the account.

    Candle by candle: thousands of them in lists would stay resident for as long as the daemon runs.
    """
    after = _windows_begin(path, until, fold.trader.features) - 1
    for entry in journal_reader.read(path, after=after, kinds={"candle"}):
        if entry.seq > until:
            break
        for candle in records.read_group(entry.payload).candles:
            fold.trader.features[candle.symbol].push(candle)
            fold.memory.last[candle.symbol] = candle


def _windows_begin(path: Path, until: int, symbols: Iterable[str]) -> int:
    """Return the newest seq from which on the candles up to `until` fill every window, 1 when there are too few."""
    missing = dict.fromkeys(symbols, WINDOW)
    for entry in journal_reader.backwards(path, until=until, kind="candle"):
        for symbol, *_ in entry.payload["candles"]:
            missing[symbol] -= 1
        if max(missing.values()) <= 0:
            return entry.seq
    return 1


def _fold(path: Path, fold: Fold, first: Entry) -> tuple[int, int]:
    """Return the last seq and how many decisions came out differently, having folded from the newest checkpoint on."""
    checkpoint, run, after = journal_reader.last_of_kind(path, "checkpoint"), first, 0
    if checkpoint is not None:
        after = checkpoint.seq
        with readable(checkpoint):
            run = next(iter(journal_reader.read(path, after=checkpoint.payload["run"] - 1, limit=1)))
            _fill_windows(path, after, fold)
            fold.restore(checkpoint.payload)
    voters, mismatches, last_seq = _begin(fold, run), 0, after
    for entry in journal_reader.read(path, after=after):
        if entry.kind == "run":
            voters = _begin(fold, entry)
        mismatches += sum(_is_tolerable(difference) for difference in fold.apply(entry, voters))
        last_seq = entry.seq
    fold.finish()
    return last_seq, mismatches


def _begin(fold: Fold, run: Entry) -> Recorded:
    """Continue under the parameters of a run; returns its voters."""
    with readable(run):
        fold.begin(run.payload, None)
        return Recorded(tuple(float(weight) for weight in run.payload["weights"]))


def _is_tolerable(difference: Difference) -> bool:
    """Return True for a decision that another version may take otherwise; data that was altered stops the start."""
    if "candle" in difference.fields:
        raise FatalError(f"entry {difference.seq}: the {difference.symbol} candles it was decided on were altered")
    return True
