"""The page that shows a search: one file without scripts or anything fetched, light or dark as the reader likes it.

The drawings are our own SVG: a plotting library would put four megabytes of script around a few kilobytes of points.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypedDict

from training import tune_charts as charts
from training import tune_study
from training.charts import Axis, padded
from training.commands_common import day
from training.console import span
from training.folds import Fold
from training.plan import MemberPlan
from training.tune import Result
from training.tune_display import short, told
from training.tune_space import Choice, Dimension, Range, Search
from training.tune_study import Standing

_EULER = 0.5772156649015329
_LEAST_SCORES = 5
_MANY = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a search is about. files: names and sha256 of the candle files.  base: the preset's plan.

    begin_ms: open of the first candle.  trials: that were asked for.  checks: scores a member has in one fold, at most.
    """

    files: Sequence[tuple[str, str]]
    symbols: Sequence[str]
    folds: Sequence[Fold]
    search: Search
    base: MemberPlan
    begin_ms: int
    trials: int
    checks: int


class Best(TypedDict):
    """The best trial, as `best.json` holds it. set: what `sacd train --set` takes.  command: the whole command line."""

    study: str
    trials: int
    number: int
    score: float
    folds: list[float]
    settings: dict[str, Any]
    set: list[str]
    command: str


def page(context: Context, result: Result, best: Best | None) -> str:
    """Return the page, HTML."""
    done = [standing for standing in result.standings if standing.outcome == tune_study.DONE]
    sections = [_summary(context, result, best)]
    if done:
        sections += [
            _section("Every trial, in order", _history(result.standings), _HISTORY),
            _section("What mattered", _importances(result.importances), _IMPORTANCE),
            _section("One setting at a time", _slices(context.search, done), _SLICES),
            _section("All settings together", _parallel(context.search, done), _PARALLEL),
        ]
    sections += [
        _section("Folds", _folds(context), _fold_words(context)),
        _section("Trials", _table(context, result.standings), ""),
        _section("Candles", _files(context), ""),
    ]
    body = "".join(sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>sacd tune</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def chance_best(scores: Sequence[float]) -> float | None:
    """Return what the best of as many scores would be expected to be if all trials were worth the same.

    Their scatter then is chance: the expected largest of n normal draws with their mean and spread, after Bailey and
    Lopez de Prado (2014), J. Portfolio Management 40(5), 94-107. None for fewer than five scores.
    """
    count = len(scores)
    if count < _LEAST_SCORES:
        return None
    inverse = statistics.NormalDist().inv_cdf
    largest = (1.0 - _EULER) * inverse(1.0 - 1.0 / count) + _EULER * inverse(1.0 - 1.0 / (count * math.e))
    return statistics.mean(scores) + statistics.stdev(scores) * largest


# ---- words ------------------------------------------------------------------------------------------------------
_HISTORY = (
    "Filled: scored on every fold. Hollow: given up early, at its last value. Dashed, at the bottom: no score. The "
    "line is the best so far."
)
_IMPORTANCE = (
    "PED-ANOVA: which settings tell the better tenth of the finished trials from the others. With fewer than about "
    "fifty trials, read it as a hint."
)
_SLICES = "Finished trials; the later, the darker. The best is ringed."
_PARALLEL = "One line a finished trial; the better its score, the stronger. Point at a line to read it."


def _summary(context: Context, result: Result, best: Best | None) -> str:
    counts = {end: sum(standing.outcome == end for standing in result.standings) for end in tune_study.ENDS}
    state = (
        f"{result.ended} of {context.trials} trials have ended: {counts[tune_study.DONE]} were scored on every fold, "
        f"{counts[tune_study.PRUNED]} were given up early, {counts[tune_study.UNUSABLE]} have no score."
    )
    symbols = escape(", ".join(context.symbols))
    head = f"<h1>Search for settings</h1><p class='lead'>{symbols}. {state}</p>"
    if best is None:
        return head + "<p>No trial has a score yet.</p>"
    tiles = [
        ("best score", f"{best['score']:.3f}", f"trial {best['number']}"),
        ("its folds", " · ".join(f"{score:.2f}" for score in best["folds"]), "in order of time"),
        ("trials", f"{result.ended}", f"of {context.trials}"),
    ]
    shown = "".join(f"<div class='tile'><span>{a}</span><b>{b}</b><span>{c}</span></div>" for a, b, c in tiles)
    settings = "".join(
        f"<tr><td>{escape(name)}</td><td class='n'>{escape(short(value))}</td></tr>"
        for name, value in best["settings"].items()
    )
    return (
        f"{head}<div class='tiles'>{shown}</div><p class='warning'>{_warning(context, result)}</p>"
        f"<h2>The best trial</h2><table class='small'>{settings}</table>"
        f"<p>To train an ensemble with it:</p><pre>{escape(best['command'])}</pre>"
    )


def _warning(context: Context, result: Result) -> str:
    """Return why the best score is no evidence, with this search's own numbers."""
    scores = [standing.score for standing in result.standings if standing.outcome == tune_study.DONE]
    known = [score for score in scores if score is not None]
    text = (
        f"The score is the Sharpe ratio of daily returns, the mean over {len(context.folds)} folds. <b>The best of "
        f"{result.ended} trials is not evidence</b>: it was picked because it is the best, and within each fold the "
        f"best of up to {context.checks} looks at the same candles was taken."
    )
    expected = chance_best(known)
    if expected is not None:
        text += (
            f" If all {len(known)} finished trials were worth the same and only chance told them apart (mean "
            f"{statistics.mean(known):.2f}, spread {statistics.stdev(known):.2f}), the best of them would still be "
            f"expected at about {expected:.2f}; it came to {max(known):.2f}."
        )
    return text + " What it is worth, only candles that no trial has seen can tell: keep them out with --until."


def _fold_words(context: Context) -> str:
    last = max(fold.to_ms for fold in context.folds)
    return (
        f"Each fold practises on all that lies before its gap and is scored on what follows. No candle from "
        f"{day(last)} on was used."
    )


# ---- drawings ---------------------------------------------------------------------------------------------------
def _history(standings: Sequence[Standing]) -> str:
    known = [standing for standing in standings if standing.score is not None]
    floor = min(standing.score for standing in known if standing.score is not None)
    marks, best, top = [], [], -math.inf
    for standing in standings:
        if not standing.has_ended:
            continue
        score = floor if standing.score is None else standing.score
        marks.append(
            charts.Mark(
                x=standing.number, y=score, style=standing.outcome, told=f"trial {standing.number}: {told(standing)}"
            )
        )
        if standing.outcome == tune_study.DONE and score > top:
            top = score
            best.append((float(standing.number), score))
    return charts.history(marks, best)


def _importances(shares: Mapping[str, float]) -> str:
    if not shares:
        return "<p>Too few finished trials to tell.</p>"
    return charts.bars(list(shares.items()))


def _slices(search: Search, done: Sequence[Standing]) -> str:
    best = max(done, key=lambda standing: standing.score or 0.0)
    y = padded([standing.score or 0.0 for standing in done], 170, 34)
    parts = []
    for dimension in search.dimensions:
        values = [(standing, search.values(standing.chosen).get(dimension.name)) for standing in done]
        present = [(standing, value) for standing, value in values if value is not None]
        axis, ticks = _axis(dimension, [value for _, value in present], 46, 268)
        marks = [
            charts.Mark(
                x=_place(dimension, value),
                y=standing.score or 0.0,
                style=f"point age{min(4, 5 * index // len(present))}" + (" ring" if standing is best else ""),
                told=f"trial {standing.number}: {dimension.name} {short(value)}, score {standing.score:.3f}",
            )
            for index, (standing, value) in enumerate(present)
        ]
        parts.append(charts.slice_of(dimension.name, axis, ticks, y, marks))
    return f"<div class='grid-of'>{''.join(parts)}</div>"


def _parallel(search: Search, done: Sequence[Standing]) -> str:
    scores = [standing.score or 0.0 for standing in done]
    low, high = min(scores), max(scores)
    axes, names = {}, []
    for dimension in search.dimensions:
        found = [search.values(standing.chosen)[dimension.name] for standing in done]
        axes[dimension.name], ticks = _axis(dimension, found, 0.0, 1.0)
        names.append((dimension.name.removeprefix("reward."), ticks[0][1], ticks[-1][1]))
    names.append(("score", f"{low:.2f}", f"{high:.2f}"))
    lines = []
    for standing, score in zip(done, scores, strict=True):
        values = search.values(standing.chosen)
        share = 1.0 if high <= low else (score - low) / (high - low)
        heights = [axes[d.name].at(_place(d, values[d.name])) for d in search.dimensions]
        lines.append(charts.Line(heights=[*heights, share], share=share, told=_row_words(standing, values)))
    return charts.parallel(names, lines)


def _axis(
    dimension: Dimension, values: Sequence[Any], begin: float, end: float
) -> tuple[Axis, list[tuple[float, str]]]:
    """Return the axis of a setting and its labelled values, the lowest first and the highest last."""
    match dimension:
        case Choice():
            count = len(dimension.values)
            room = (end - begin) * 0.06
            axis = Axis(low=0.0, high=count - 1.0, begin=begin + room, end=end - room)
            return axis, [(float(at), _brief(value)) for at, value in enumerate(dimension.values)]
        case Range():
            low, high = min([dimension.low, *values]), max([dimension.high, *values])
            if dimension.name.startswith("reward."):  # scaled, they seldom come near 1
                low, high = 0.0, max([0.05, *values])
            axis = Axis(low=low, high=high, begin=begin, end=end, is_log=dimension.is_log)
            return axis, [(value, _brief(value)) for value in (low, high)]


def _place(dimension: Dimension, value: Any) -> float:  # noqa: ANN401 - of any dimension
    return float(dimension.values.index(value)) if isinstance(dimension, Choice) else float(value)


def _brief(value: Any) -> str:  # noqa: ANN401 - of any dimension
    if isinstance(value, str):
        widths = value.split(",")
        return f"{len(widths)}x{widths[0]}"
    if value >= _MANY:
        return f"{value / 1_000:.0f}k"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _folds(context: Context) -> str:
    begin, end = context.begin_ms, max(fold.to_ms for fold in context.folds)
    x = Axis(low=begin, high=end, begin=80, end=848)
    rows = []
    for fold in context.folds:
        practice = f"practice until {day(fold.practice_to_ms)}"
        scored = f"scored on {day(fold.from_ms)} .. {day(fold.to_ms - 1)}"
        parts = [(begin, fold.practice_to_ms, "practice", practice), (fold.from_ms, fold.to_ms, "scored", scored)]
        rows.append((f"fold {fold.index + 1}", parts))
    legend = "<p class='legend'><i class='practice'></i> practice <i class='scored'></i> scored</p>"
    return legend + charts.spans(rows, x, lambda ms: day(int(ms)))


# ---- tables -----------------------------------------------------------------------------------------------------
def _table(context: Context, standings: Sequence[Standing]) -> str:
    names = [dimension.name for dimension in context.search.dimensions]
    ranked = sorted(standings, key=lambda s: (s.outcome != tune_study.DONE, -(s.score or 0.0), s.number))
    head = "".join(f"<th>{escape(name)}</th>" for name in ["trial", "score", "folds", "took", *names])
    rows = []
    for standing in ranked:
        values = context.search.values(standing.chosen)
        folds = " ".join(f"{score:.2f}" for score in standing.folds)
        took = "" if standing.seconds is None else span(standing.seconds)
        cells = [str(standing.number), told(standing), folds, took]
        cells += [short(values[name]) if name in values else "" for name in names]
        marks = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f"<tr class='{standing.outcome}'>{marks}</tr>")
    return f"<div class='scroll'><table class='trials'><tr>{head}</tr>{''.join(rows)}</table></div>"


def _files(context: Context) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(sha)}</code></td></tr>" for name, sha in context.files
    )
    return f"<div class='scroll'><table class='small'><tr><th>file</th><th>sha256</th></tr>{rows}</table></div>"


def _row_words(standing: Standing, values: Mapping[str, Any]) -> str:
    told_values = "\n".join(f"{name} {short(value)}" for name, value in values.items())
    return f"trial {standing.number}: {standing.score:.3f}\n{told_values}"


def _section(title: str, body: str, words: str) -> str:
    under = f"<p class='under'>{words}</p>" if words else ""
    return f"<section><h2>{title}</h2>{under}{body}</section>"


_STYLE = """
:root{color-scheme:light dark;--page:#fbfbfa;--card:#fff;--ink:#1d2126;--soft:#5f6873;--rule:#e3e5e8;--blue:#2a6fdb;
--orange:#d9650b;--warn:#fff6e8}
@media(prefers-color-scheme:dark){:root{--page:#14171b;--card:#1b1f24;--ink:#e6e8eb;--soft:#9aa4b0;--rule:#2d333b;
--blue:#6aa5ff;--orange:#ff9f4d;--warn:#2b2419}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.55 system-ui,sans-serif}
main{max-width:960px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:0 0 2px}
.lead,.under{color:var(--soft);margin:0 0 14px}
section,.tile{background:var(--card);border:1px solid var(--rule);border-radius:10px}
section{padding:20px 22px;margin:22px 0}
main>h2{margin-top:24px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:12px;margin:18px 0}
.tile{padding:12px 16px}.tile span{display:block;color:var(--soft);font-size:13px}.tile b{font-size:22px}
.warning{background:var(--warn);border-left:4px solid var(--orange);border-radius:6px;padding:12px 16px}
pre{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:12px 14px;white-space:pre-wrap;
overflow-wrap:anywhere}
svg{width:100%;height:auto;display:block}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}svg .title,svg .name{fill:var(--ink);font-weight:600}
.grid{stroke:var(--rule)}.axis{stroke:var(--soft)}.bar{fill:var(--blue)}
.best-line{fill:none;stroke:var(--orange);stroke-width:2}
.done{fill:var(--blue)}.pruned{fill:none;stroke:var(--blue);stroke-width:1.3;opacity:.7}
.unusable{fill:none;stroke:var(--orange);stroke-dasharray:2 2}
.point{fill:var(--blue)}.age0{opacity:.28}.age1{opacity:.42}.age2{opacity:.58}.age3{opacity:.78}
.ring{fill:var(--orange);opacity:1;stroke:var(--orange);stroke-width:4;stroke-opacity:.35}
.line{fill:none;stroke:var(--blue);stroke-width:1.6}.line:hover{stroke:var(--orange);stroke-width:3;opacity:1!important}
.top{stroke:var(--orange);stroke-width:2.6}
.practice{fill:var(--blue);background:var(--blue);opacity:.45}.scored{fill:var(--orange);background:var(--orange)}
.legend{color:var(--soft);margin:0 0 6px}.legend i{display:inline-block;width:12px;height:12px;border-radius:3px;
margin:0 4px 0 10px;vertical-align:-1px}
.grid-of{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:14px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px}
td,th{padding:4px 12px 4px 0;text-align:left;border-bottom:1px solid var(--rule);white-space:nowrap}
th{color:var(--soft);font-weight:600}td:nth-child(2){white-space:normal;min-width:90px;max-width:280px}.n{font-variant-numeric:tabular-nums}
tr.pruned,tr.unusable,tr.running,tr.waiting{color:var(--soft);opacity:1}
code{font-size:12px}
"""
