"""Finds out which outputs of a function from candles to rows change when only later candles do.

A history is cut at many moments; later candles are replaced in several ways, or left out, and every row at or before
the moment must be the same bytes. A row that reads r candles ahead is seen from the r moments before what it reads: far
peeks show in few moments, and peeks of a single candle need the moment itself, so rare ones need many of them. Most
moments therefore lie in short parts of the history, where each costs little, and some in whole histories.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from training.errors import TrainingError
from training.look_ahead_futures import CUT_OFF, KINDS, LATER, changed_future, only
from training.look_ahead_target import FloatArray, Outputs, Stretch, Target, differences
from training.look_ahead_words import Signs, words_of

MOMENTS = 1_000
_WHOLE = 24
_PER_PART = 10
_EXAMPLES = 4
_AFTER = 400
"""Candles of a short part beyond the window."""
_END_KINDS = (CUT_OFF, "random walk", "ten times", "a tenth")
_PRICES, _VOLUME = slice(0, 4), slice(4, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One output that reads later candles.

    symbol, open_ms: the earliest row that was seen to change.  cut_ms: it changed although no candle up to this one
    did.  kinds: the changes of the future that showed it.  reach: candles ahead of the row that it reads, at least.
    to_end: it reads to the end of the history.  moments: of those tried, how many showed it.  difference: the largest
    change of a value; NaN against a number counts as infinity, told as None.  reads: "prices", "volumes", "times".
    words: what is likely wrong.
    """

    output: str
    symbol: str
    open_ms: int
    cut_ms: int
    kinds: tuple[str, ...]
    reach: int
    to_end: bool
    moments: int
    difference: float | None
    reads: tuple[str, ...]
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Futures:
    """What changing the future showed. moments, comparisons: how many were tried.  rows: compared, in all."""

    moments: int
    comparisons: int
    rows: int
    leaks: tuple[Leak, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Moment:
    """What is compared: a stretch cut at an index, its later candles changed in these ways. at_end: for the reach."""

    candles: Stretch
    cut: int
    kinds: tuple[str, ...]
    at_end: bool = False


@dataclass(frozen=True, slots=True)
class _Finding:
    """An output that changed. first: index of the first row that did."""

    moment: _Moment
    kind: str
    first: int
    size: float

    @property
    def distance(self) -> int:
        """Candles from the first changed row to the first changed candle: as far as the row reads, at least."""
        return self.moment.cut + 1 - self.first


@dataclass(slots=True)
class _Search:
    """The target and all that was compared so far. seed: of the changed candles."""

    target: Target
    seed: int
    tell: Callable[[int], None]
    moments: int = 0
    comparisons: int = 0
    rows: int = 0
    findings: dict[str, list[_Finding]] = field(default_factory=lambda: defaultdict(list))


def find_leaks(
    target: Target,
    histories: Sequence[Stretch],
    *,
    moments: int = MOMENTS,
    seed: int = 0,
    tell: Callable[[int], None] | None = None,
) -> Futures:
    """Return which outputs of `target` change when only later candles do.

    moments: to be tried in short parts, of all histories together.  tell: told how many moments are done.
    Raises TrainingError when a history is shorter than the window and two candles, and when the target does not answer
    the same candles with the same rows.
    """
    search = _Search(target, seed, tell or (lambda _: None))
    for index, candles in enumerate(histories):
        require_window(target, candles)
        share = moments // len(histories) + (index < moments % len(histories))
        _check_history(search, candles, share, np.random.default_rng((seed, index)))
    leaks = [_leak(search, name, found) for name, found in search.findings.items()]
    leaks.sort(key=lambda leak: (-leak.reach, leak.output))
    return Futures(moments=search.moments, comparisons=search.comparisons, rows=search.rows, leaks=tuple(leaks))


def moments_of(histories: int, moments: int) -> int:
    """Return how many moments `find_leaks` tries at most."""
    return moments + moments // _PER_PART + histories * (_WHOLE + 3)


def require_window(target: Target, candles: Stretch) -> None:
    """Raise TrainingError when `candles` do not hold the window, a moment and a later candle."""
    if len(candles) < target.window + 2:
        option = "" if target.is_own else ", or state with --window how many candles your rows need"
        raise TrainingError(
            f"{candles.symbol}: {len(candles)} candles do not hold a window of {target.window} and two more: give more "
            f"candles{option}"
        )


def _check_history(search: _Search, candles: Stretch, count: int, rng: np.random.Generator) -> None:
    target = search.target
    base, again = target.rows(candles), target.rows(candles)
    if base.names != again.names or differences(base.values, again.values).any():
        raise TrainingError(
            f"{target.name} answers the same candles of {candles.symbol} with other rows the second time: it must not "
            "draw or remember anything, or nothing can be compared"
        )
    for moment in _whole_moments(target, candles, rng):
        _compare(search, moment, base)
    while count > 0:
        moments = list(_part_moments(target, candles, min(count, _PER_PART), rng))
        count -= _PER_PART
        part = target.rows(moments[0].candles)
        for moment in moments:
            _compare(search, moment, part)


def _whole_moments(target: Target, candles: Stretch, rng: np.random.Generator) -> Iterator[_Moment]:
    last = len(candles) - 2
    # Only the last candle changed: a row far before it that changes reads to the end.
    yield _Moment(candles, last, _END_KINDS, at_end=True)
    cuts = rng.integers(min(target.window - 1, last), last + 1, _WHOLE)
    for i, cut in enumerate(cuts.tolist()):
        yield _Moment(candles, cut, (KINDS[i % len(KINDS)],))


def _part_moments(target: Target, candles: Stretch, count: int, rng: np.random.Generator) -> Iterator[_Moment]:
    """Yield moments of one short part, each with the later candles left out and changed in one way."""
    length = min(target.window + _AFTER, len(candles))
    first = int(rng.integers(len(candles) - length + 1))
    part = candles.part(first, first + length)
    # Early rows, where the window is not full, have a peek of their own: what is missing there, filled from later on.
    yield _Moment(part, int(target.window ** rng.random()) - 1, (_kind(rng),))
    for cut in rng.integers(min(target.window - 1, length - 2), length - 1, count).tolist():
        yield _Moment(part, cut, (CUT_OFF, _kind(rng)))


def _kind(rng: np.random.Generator) -> str:
    return KINDS[int(rng.integers(len(KINDS)))]


def _compare(search: _Search, moment: _Moment, base: Outputs) -> None:
    """Note every output of which a row at or before the moment is not what it was."""
    known = base.counted()[: moment.cut + 1]
    for kind in moment.kinds:
        other = search.target.rows(changed_future(moment.candles, moment.cut, kind, search.seed))
        _require_names(search.target, base, other)
        rows = other.counted()[: moment.cut + 1]
        search.comparisons += 1
        search.rows += len(rows)
        changed = differences(known, rows)
        for column in np.flatnonzero(changed.any(axis=0)).tolist():
            first, size = int(changed[:, column].argmax()), _size(known[:, column], rows[:, column])
            search.findings[base.names[column]].append(_Finding(moment, kind, first, size))
    search.moments += 1
    search.tell(search.moments)


def _require_names(target: Target, one: Outputs, other: Outputs) -> None:
    if one.names != other.names:
        odd = sorted({*one.names} ^ {*other.names}) or "the same in another order"
        raise TrainingError(
            f"{target.name} returns other outputs for other candles ({odd}): return the same ones always"
        )


def _size(one: FloatArray, other: FloatArray) -> float:
    """Return the largest difference; infinity where only one of the two is a number."""
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.abs(one - other)
    size[np.isnan(size)] = np.inf
    size[(one == other) | (np.isnan(one) & np.isnan(other))] = 0.0
    return float(size.max())


# ---- from findings to a leak ------------------------------------------------------------------------------------
def _leak(search: _Search, output: str, found: Sequence[_Finding]) -> Leak:
    examples = sorted(found, key=lambda f: (len(f.moment.candles), f.moment.cut, f.first))[:_EXAMPLES]
    earliest = min(found, key=lambda f: int(f.moment.candles.open_ms[f.first]))
    candles = earliest.moment.candles
    finite = [f.size for f in found if np.isfinite(f.size)]
    signs = Signs(
        distances=tuple(f.distance for f in found),
        kinds=tuple(dict.fromkeys(f.kind for f in found)),
        row_ms=tuple(int(f.moment.candles.open_ms[f.first]) for f in found),
        cut_ms=tuple(int(f.moment.candles.open_ms[f.moment.cut]) for f in found),
        span_ms=candles.span_ms,
        to_end=any(f.moment.at_end and f.distance > len(f.moment.candles) // 2 for f in found),
        reads=_reads(search, output, examples),
    )
    return Leak(
        output=output,
        symbol=candles.symbol,
        open_ms=int(candles.open_ms[earliest.first]),
        cut_ms=int(candles.open_ms[earliest.moment.cut]),
        kinds=signs.kinds,
        reach=max(signs.distances),
        to_end=signs.to_end,
        moments=len({id(f.moment) for f in found}),
        difference=max(finite) if finite else None,
        reads=signs.reads,
        words=words_of(signs),
    )


def _reads(search: _Search, output: str, examples: Sequence[_Finding]) -> tuple[str, ...]:
    """Return what of the later candles the output reads, by changing one thing of them at a time."""
    found = set[str]()
    for example in examples:
        candles, cut = example.moment.candles, example.moment.cut
        futures = {
            "prices": only(candles, cut, _PRICES, search.seed),
            "volumes": only(candles, cut, _VOLUME, search.seed),
            "times": changed_future(candles, cut, LATER, search.seed),
        }
        known = _column(search.target, candles, output)[: cut + 1]
        for name, other in futures.items():
            if differences(known, _column(search.target, other, output)[: cut + 1]).any():
                found.add(name)
    return tuple(name for name in ("prices", "volumes", "times") if name in found)


def _column(target: Target, candles: Stretch, output: str) -> FloatArray:
    rows = target.rows(candles)
    return rows.counted()[:, rows.names.index(output)]
