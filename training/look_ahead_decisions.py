"""Whether anything an account did up to a moment changes when only later candles do: votes, verdicts, stops, fills."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from strategy.candle_table import CandleTable
from strategy.features import WINDOW
from strategy.order import Fill, Order
from strategy.risk import Approved, Verdict
from strategy.trader import Outcome, Reference, Setup, Voters
from training import backtest
from training.errors import TrainingError
from training.look_ahead_futures import KINDS, LATER, changed_future
from training.look_ahead_target import Stretch

_DECIDED = 1_500
"""Candle times that are traded."""
MOMENTS = 16
_KINDS = tuple(kind for kind in KINDS if kind != LATER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What changing the future did to what had been done before it.

    candles: of all symbols, traded once.  trades: fills among them.  moments: at which the future was changed, most of
    them where an order was decided.  differ: of them, how many changed what came before.  first_*: the earliest thing
    that changed; what: "features", "votes", "verdict", "stop" or "fills".
    """

    candles: int
    trades: int
    moments: int
    differ: int
    first_symbol: str | None
    first_ms: int | None
    first_what: str | None


@dataclass(frozen=True, slots=True)
class _Account:
    """How an account trades from a moment on."""

    setup: Setup
    voters: Voters
    reference: Reference | None
    start_ms: int

    def done(self, tables: Sequence[CandleTable], until_ms: int | None = None) -> Iterator["_Done"]:
        """Yield what is done, candle by candle, up to the one that opens at `until_ms`."""
        steps = backtest.steps(tables, self.setup, self.voters, reference=self.reference, start_ms=self.start_ms)
        for step in steps:
            for outcome in step.outcomes:
                if until_ms is not None and outcome.sight.candle.open_ms > until_ms:
                    return
                yield _Done.of(outcome, step.fills)


@dataclass(frozen=True, slots=True)
class _Done:
    """What was done about one symbol on one candle, as values that can be compared."""

    symbol: str
    open_ms: int
    features: bytes
    votes: bytes
    verdict: Verdict
    stop: Order | None
    fills: tuple[Fill, ...]

    @classmethod
    def of(cls, outcome: Outcome, fills: Sequence[Fill]) -> "_Done":
        """Return what an outcome says, with those of the fills that belong to its symbol."""
        candle, row = outcome.sight.candle, outcome.sight.row
        return cls(
            symbol=candle.symbol,
            open_ms=candle.open_ms,
            features=b"" if row is None else row.values.tobytes(),
            votes=b"" if outcome.votes is None else outcome.votes.tobytes(),
            verdict=outcome.verdict,
            stop=outcome.stop,
            fills=tuple(fill for fill in fills if fill.symbol == candle.symbol),
        )


_PARTS = ("features", "votes", "verdict", "stop", "fills")


def check_decisions(
    tables: Sequence[CandleTable],
    setup: Setup,
    voters: Voters,
    reference: Reference | None,
    *,
    seed: int = 0,
    tell: Callable[[int], None] | None = None,
) -> Decisions:
    """Return whether decisions of the daemon's own path, before a moment, depend on candles after it.

    The last candles of the tables are traded once; then again up to each of several moments with other candles after
    it. What the market is made of (tick, lot) comes from the setup and stays. tell: told how many moments are done.
    Raises TrainingError when the tables share no span that holds the window and candles to decide on.
    """
    tables, start_ms = _shared(tables)
    account = _Account(setup, voters, reference, start_ms)
    known = list(account.done(tables))
    rng = np.random.default_rng(seed)
    cuts = _cuts(known, rng)
    odd: list[tuple[int, str, str]] = []
    for count, cut_ms in enumerate(cuts):
        kind = _KINDS[count % len(_KINDS)]
        other = [_changed(table, cut_ms, kind, seed) for table in tables]
        before = [done for done in known if done.open_ms <= cut_ms]
        if (difference := _difference(before, account.done(other, cut_ms))) is not None:
            odd.append(difference)
        if tell is not None:
            tell(count + 1)
    first_ms, first_symbol, first_what = min(odd) if odd else (None, None, None)
    return Decisions(
        candles=len(known),
        trades=sum(len(done.fills) for done in known),
        moments=len(cuts),
        differ=len(odd),
        first_symbol=first_symbol,
        first_ms=first_ms,
        first_what=first_what,
    )


def _shared(tables: Sequence[CandleTable]) -> tuple[list[CandleTable], int]:
    """Return the last candles that all tables have, and when trading them starts: with their windows full."""
    from_ms = max(int(table.open_ms[0]) for table in tables)
    to_ms = min(int(table.open_ms[-1]) for table in tables) + 1
    kept = [table.slice(from_ms, to_ms) for table in tables]
    shortest = min(kept, key=len)
    if len(shortest) < WINDOW + 2:
        raise TrainingError(
            f"{shortest.symbol}: {len(shortest)} candles lie in the span of all files; a window of {WINDOW} and two "
            "more are needed: give more candles, or files of one span"
        )
    first = max(0, len(shortest) - WINDOW - _DECIDED)
    kept = [table.slice(int(shortest.open_ms[first]), None) for table in kept]
    return kept, int(shortest.open_ms[first + WINDOW - 1])


def _cuts(known: Sequence[_Done], rng: np.random.Generator) -> list[int]:
    """Return open times: of candles on which an order was decided, and of others."""
    times = sorted({done.open_ms for done in known})[:-1]
    ordered = sorted({done.open_ms for done in known if isinstance(done.verdict, Approved)} & {*times})
    wanted = [rng.permutation(ordered)[: MOMENTS - MOMENTS // 4], rng.permutation(times)[:MOMENTS]]
    return [int(ms) for ms in dict.fromkeys(np.concatenate(wanted).tolist())][:MOMENTS]


def _changed(table: CandleTable, cut_ms: int, kind: str, seed: int) -> CandleTable:
    cut = int(np.searchsorted(table.open_ms, cut_ms, side="right")) - 1
    if cut < 0 or cut >= len(table) - 1:
        return table
    other = changed_future(Stretch.of(table), cut, kind, seed)
    return replace(table, open_ms=other.open_ms, values=other.values)


def _difference(known: Sequence[_Done], again: Iterator[_Done]) -> tuple[int, str, str] | None:
    """Return (open time, symbol, what) of the first thing that is not as it was."""
    for one, other in zip(known, again, strict=True):
        for part in _PARTS:
            if getattr(one, part) != getattr(other, part):
                return one.open_ms, one.symbol, part
    return None
