"""`python -m benchmarks.sequential_power [--runs N] [--json]`: what the paired test of ensembles finds, and misses.

Draws many pairs of accounts whose difference is known, and asks of each what the daemon would have done: how often a
candidate that is no better is promoted, how often and how soon one that is better, and what the watch after a swap
takes back. Seeded: the same N prints the same. docs/promotion.md tells what the figures mean. With 10,000 runs a row it
takes about half a minute on one core.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from benchmarks.differences import DRAWN, Differences, Maker, as_recorded, flipped, heavy, normal, recorded
from strategy.sequential import TestPlan

_SEED = 20_240_601
_SHADOW = TestPlan(scale=1.0, horizon=200, least=20, alpha=0.05)
_WATCH_DECISIONS, _REGRET = 60, 0.03
_LONG = 10 * _SHADOW.horizon
_CHUNK = 500
_EDGES = (0.05, 0.1, 0.2, 0.3)
_SPREADS_BP = (7.0, 12.0, 34.0, 70.0)
_BLOCK = 20

Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]


# ---- the rules, for many runs at once --------------------------------------------------------------------------------
def evidence(differences: Differences, plan: TestPlan) -> Differences:
    """Return the logarithm of the evidence that the new one is better after each of (runs, decisions) differences."""
    before = plan.scale**2 * plan.horizon / 12.0
    variance = np.cumsum(differences**2, axis=1) + before
    z = np.cumsum(differences, axis=1) / np.sqrt(variance)
    return 0.5 * np.log(before / variance) + 0.5 * z * z + special.log_ndtr(z) + np.log(2.0)


def first(hits: Flags, least: int = 1) -> Counts:
    """Return the decision (from 1 on) at which each run first had a hit, `least` for an earlier one, 0 for never."""
    return np.where(hits.any(axis=1), np.maximum(hits.argmax(axis=1) + 1, least), 0)


def proved(differences: Differences, plan: TestPlan) -> Counts:
    """Return the decision at which each new one is shown to be better, 0 for never, looking at every decision."""
    return first(evidence(differences, plan) >= -np.log(plan.alpha), plan.least)


def proved_by_t(differences: Differences, plan: TestPlan) -> Counts:
    """Return the same by a t-test that is made anew at every decision from the least on, as it must not be used."""
    count = np.arange(1, differences.shape[1] + 1)
    mean = np.cumsum(differences, axis=1) / count
    variance = np.maximum(np.cumsum(differences**2, axis=1) / count - mean**2, 1e-12) * count / np.maximum(count - 1, 1)
    limit = stats.t.ppf(1.0 - plan.alpha, np.maximum(count - 1, 1))
    hits = mean / np.sqrt(variance / count) >= limit
    hits[:, : plan.least - 1] = False
    return first(hits)


def proved_once_by_t(differences: Differences, plan: TestPlan) -> Flags:
    """Return which new ones a t-test finds better that is made once, at the horizon."""
    return stats.ttest_1samp(differences[:, : plan.horizon], 0.0, axis=1, alternative="greater").pvalue <= plan.alpha


@dataclass(frozen=True, slots=True)
class Shadows:
    """How shadows ended: promoted and dropped (behind) at a decision, 0 for not; length: decisions each took."""

    promoted: Counts
    dropped: Counts
    length: Counts


def shadows(differences: Differences, plan: TestPlan) -> Shadows:
    """Return what comes of each run as a shadow of `plan`; differences: (runs, plan.horizon)."""
    better, worse = proved(differences, plan), first(evidence(-differences, plan) >= -np.log(plan.alpha))
    is_promoted = (better > 0) & ((worse == 0) | (better <= worse))
    promoted, dropped = np.where(is_promoted, better, 0), np.where(is_promoted, 0, worse)
    ended = np.maximum(promoted, dropped)
    return Shadows(promoted, dropped, np.where(ended > 0, ended, plan.horizon))


def taken_back(growth: Differences, plan: TestPlan, regret: float) -> tuple[Counts, Counts]:
    """Return the decision at which each swap is taken back by the regret limit, and by the test; 0 for never.

    growth: differences in log growth.  Whichever comes first counts, the limit where both do.
    """
    lost = first(-np.cumsum(growth, axis=1) >= regret)
    worse = first(evidence(-growth, plan) >= -np.log(plan.alpha))
    by_regret = (lost > 0) & ((worse == 0) | (lost <= worse))
    return np.where(by_regret, lost, 0), np.where(by_regret, 0, worse)


# ---- the tables ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Figures: every row has a value for each of `columns`; shares are fractions, `unit` formats each column."""

    name: str
    title: str
    columns: tuple[str, ...]
    formats: tuple[str, ...]
    rows: Sequence[tuple[str | float | None, ...]]

    def format(self) -> str:
        """Return it as Markdown."""
        lines = [" | ".join(self.columns), " | ".join("---" if not f else "---:" for f in self.formats)]
        lines += [
            " | ".join("-" if v is None else format(v, f) for v, f in zip(row, self.formats, strict=True))
            for row in self.rows
        ]
        return "\n".join([f"**{self.title}**", "", *(f"| {line} |" for line in lines)])

    def to_json(self) -> list[dict[str, str | float | None]]:
        """Return one object per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def _drawn(maker: Maker, runs: int, decisions: int) -> Iterator[Differences]:
    """Yield `runs` runs in chunks that fit into memory; the same for every table and for every number of cores."""
    for at in range(0, runs, _CHUNK):
        yield maker(np.random.default_rng((_SEED, at)), (min(_CHUNK, runs - at), decisions))


def _over(chunks: Iterator[Differences], *measures: Callable[[Differences], NDArray[Any]]) -> list[NDArray[Any]]:
    """Return each measure over all runs."""
    measured = [[measure(chunk) for measure in measures] for chunk in chunks]
    return [np.concatenate(parts) for parts in zip(*measured, strict=True)]


def _shadows(chunks: Iterator[Differences], plan: TestPlan) -> Shadows:
    parts = [shadows(chunk, plan) for chunk in chunks]
    return Shadows(*(np.concatenate([getattr(part, name) for part in parts]) for name in Shadows.__slots__))


def _share(flags: NDArray[Any]) -> float:
    return float(np.mean(flags > 0))


def _median(decisions: Counts) -> float | None:
    """Return the median of the runs that got there, None when none did."""
    return float(np.median(decisions[decisions > 0])) if (decisions > 0).any() else None


def _ends(ended: Shadows) -> tuple[float, float | None]:
    """Return the share that was promoted and the median decision at which it was."""
    return _share(ended.promoted), _median(ended.promoted)


def _worse(rng: np.random.Generator, shape: tuple[int, int]) -> Differences:
    return normal(rng, shape) - 0.1


def _within_horizon(decisions: Counts) -> float:
    return _share((decisions > 0) & (decisions <= _SHADOW.horizon))


def makers(pairs: Mapping[str, Differences]) -> dict[str, Maker]:
    """Return all kinds of differences without an advantage, drawn and recorded."""
    kinds = dict(DRAWN)
    for name, differences in pairs.items():
        kinds[f"recorded, {name}: sign by day"] = flipped(differences)
        kinds[f"recorded, {name}: sign by {_BLOCK} days"] = flipped(differences, _BLOCK)
        kinds[f"recorded, {name}: as they came"] = as_recorded(differences)
    return kinds


def no_better(kinds: Mapping[str, Maker], runs: int) -> Table:
    """Return how often a candidate that is no better is promoted, by our test and by two t-tests."""
    rows = []
    for name, maker in {**kinds, "normal, worse by 0.1 spreads": _worse}.items():
        ours, peeked, once = _over(
            _drawn(maker, runs, _LONG),
            lambda d: proved(d, _SHADOW),
            lambda d: proved_by_t(d, _SHADOW),
            lambda d: proved_once_by_t(d, _SHADOW),
        )
        rows.append((name, _within_horizon(ours), _share(ours), _within_horizon(peeked), _share(peeked), _share(once)))
    columns = ("differences", f"by {_SHADOW.horizon}", f"by {_LONG}")
    return Table(
        name="no_better",
        title=f"Promoted though no better (alpha {_SHADOW.alpha:g}, every decision from {_SHADOW.least} on looked at)",
        columns=(*columns, *(f"t-test {c}" for c in columns[1:]), f"t-test once, at {_SHADOW.horizon}"),
        formats=("", ".1%", ".1%", ".1%", ".1%", ".1%"),
        rows=rows,
    )


def better(runs: int) -> Table:
    """Return how often and how soon a better candidate is promoted."""
    rows = []
    for name, maker in (("normal", normal), ("heavy tails", heavy)):
        for edge in _EDGES:
            chunks = [chunk + edge for chunk in _drawn(maker, runs, _SHADOW.horizon)]
            ended = _shadows(iter(chunks), _SHADOW)
            (once,) = _over(iter(chunks), lambda d: proved_once_by_t(d, _SHADOW))
            rows.append((name, edge, *_ends(ended), _share(ended.dropped), _share(once)))
    return Table(
        name="better",
        title=f"A shadow of {_SHADOW.horizon} decisions of a candidate that is better",
        columns=(
            "differences",
            "better by (spreads)",
            "promoted",
            "median decision",
            "dropped as worse",
            "t-test once",
        ),
        formats=("", "g", ".1%", ".0f", ".1%", ".1%"),
        rows=rows,
    )


def lengths(runs: int) -> Table:
    """Return how often a better candidate is promoted when the shadow is as long as its advantage asks for."""
    rows = []
    for factor in (3.0, 6.0, 9.0, 12.0):
        for edge in _EDGES[1:]:
            horizon = round(factor / edge**2)
            plan = TestPlan(scale=1.0, horizon=horizon, least=min(20, horizon), alpha=_SHADOW.alpha)
            ended = _shadows((chunk + edge for chunk in _drawn(normal, runs, horizon)), plan)
            rows.append((f"{factor:g} / edge^2", edge, horizon, *_ends(ended)))
    return Table(
        name="lengths",
        title="Shadows as long as the advantage asks for",
        columns=("length", "better by (spreads)", "decisions", "promoted", "median decision"),
        formats=("", "g", "d", ".1%", ".0f"),
        rows=rows,
    )


def wrong_scale(runs: int) -> Table:
    """Return what a plan costs whose guess of the spread is wrong: twice it is what is seen before taken four times."""
    rows = []
    for factor in (0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0):
        plan = TestPlan(scale=factor, horizon=_SHADOW.horizon, least=_SHADOW.least, alpha=_SHADOW.alpha)
        found = [
            _share(_over((c + edge for c in _drawn(normal, runs, plan.horizon)), lambda d, p=plan: proved(d, p))[0])
            for edge in (0.0, 0.2, 0.3)
        ]
        rows.append((f"{factor:g} times", *found))
    return Table(
        name="wrong_scale",
        title=f"When the plan's spread is wrong: promoted within {_SHADOW.horizon} decisions",
        columns=("guess, of the true spread", "no better", "better by 0.2", "better by 0.3"),
        formats=("", ".1%", ".1%", ".1%"),
        rows=rows,
    )


def watch(runs: int) -> Table:
    """Return which swaps the watch takes back, and how soon."""
    rows = []
    for spread_bp in _SPREADS_BP:
        spread = spread_bp / 10_000.0
        plan = TestPlan(scale=spread, horizon=_WATCH_DECISIONS, least=1, alpha=0.05)
        for edge in (0.2, 0.1, 0.0, -0.1, -0.2, -0.5, -1.0):
            chunks = (spread * (chunk + edge) for chunk in _drawn(heavy, runs, _WATCH_DECISIONS))
            (both,) = _over(chunks, lambda d, p=plan: np.stack(taken_back(d, p, _REGRET), axis=1))
            at = both.max(axis=1)
            rows.append((spread_bp, edge, _share(at), _share(both[:, 0]), _share(both[:, 1]), _median(at)))
    return Table(
        name="watch",
        title=f"Taken back within {_WATCH_DECISIONS} decisions (regret limit {_REGRET:.0%}, alpha 0.05, heavy tails)",
        columns=(
            "spread (bp)",
            "new one better by (spreads)",
            "taken back",
            "by regret",
            "by the test",
            "median decision",
        ),
        formats=("g", "g", ".1%", ".1%", ".1%", ".0f"),
        rows=rows,
    )


def a_year(runs: int) -> Table:
    """Return how many candidates that are no better are promoted in a year, when one shadow follows the other."""
    ended = _shadows(_drawn(heavy, runs, _SHADOW.horizon), _SHADOW)
    false, length = _share(ended.promoted), float(ended.length.mean())
    rows = []
    for decisions, per_year in (("daily", 365.0), ("every 4 hours", 2_190.0), ("hourly", 8_760.0)):
        for schedule, retrainings in (("weekly", 52.0), ("monthly", 12.0), ("quarterly", 4.0)):
            tried = min(retrainings, per_year / length)
            rows.append((decisions, schedule, tried, tried * _SHADOW.alpha, tried * false, 0.2 * tried * false))
    return Table(
        name="a_year",
        title=f"False promotions a year (a shadow of an equal candidate takes {length:.0f} decisions)",
        columns=("decisions", "retraining", "shadows at most", "bound", "simulated", "if the gate passes one in five"),
        formats=("", "", ".1f", ".2f", ".2f", ".3f"),
        rows=rows,
    )


def tables(runs: int) -> list[Table]:
    """Return everything. runs: of each row, >= 1."""
    kinds = makers(recorded())
    return [no_better(kinds, runs), better(runs), lengths(runs), wrong_scale(runs), watch(runs), a_year(runs)]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sequential_power", description=__doc__)
    parser.add_argument("--runs", type=_positive, default=10_000, metavar="N", help="accounts drawn per row")
    parser.add_argument("--json", action="store_true", help="one object instead of tables")
    arguments = parser.parse_args()
    started_s = time.perf_counter()
    made = tables(arguments.runs)
    if arguments.json:
        print(json.dumps({"runs": arguments.runs, "seed": _SEED, **{table.name: table.to_json() for table in made}}))
        return
    print("\n\n".join(table.format() for table in made))
    if not recorded():
        print("\nno recorded candles are here, so there is nothing recorded in the first table")
    print(f"\n{arguments.runs:,} runs a row, seed {_SEED}, {time.perf_counter() - started_s:.0f} s")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    main()
