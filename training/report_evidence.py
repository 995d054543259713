"""What the report shows of chance: intervals, luck in picking and in timing, the seeds, the recipe trained anew."""

from collections.abc import Callable, Sequence

from training.console import counted
from training.evaluation import Bootstrap, Deflated, Evaluation, MemberResult, RandomEntries, Range, Refit
from training.report_html import cell, paragraph, subtitle, table
from training.report_numbers import RATIO, UNDEFINED, days, multiple, percent, ratio
from training.report_rows import Mark, ruler, scale, track
from training.report_tables import interval, parts


def intervals(bootstrap: Bootstrap) -> str:
    """Return the forest of differences in Sharpe ratio, and the intervals of the ensemble's own figures."""
    return _forest(bootstrap) + _own(bootstrap)


def _forest(bootstrap: Bootstrap) -> str:
    ranges = bootstrap.differences
    axis = scale([bound for one in ranges.values() for bound in (one.value, one.low, one.high)], 0.0)
    rows = []
    for name, one in ranges.items():
        told = f"less {name}: {ratio(one.value)}, from {ratio(one.low)} to {ratio(one.high)}"
        figures = [ratio(one.value, is_signed=True), interval(one.low, one.high, ratio), _judged(one)]
        rows.append([cell(f"less {name}"), track(axis, _whiskers(one, told), told), *map(cell, figures)])
    foot = ["", ruler(axis, RATIO), "", "", ""]
    head = ["ensemble's Sharpe ratio", "worse \u2190 0 \u2192 better", "difference", "95 % interval", "says"]
    return table("Differences in Sharpe ratio", head, rows, style="figures second", foot=foot)


def _judged(one: Range) -> str:
    if one.low is None or one.high is None:
        return UNDEFINED
    return "better" if one.low > 0.0 else "worse" if one.high < 0.0 else "cannot be told apart"


def _whiskers(one: Range, told: str) -> list[Mark]:
    marks = []
    if one.low is not None and one.high is not None:
        marks.append(Mark(shape="whisker", value=one.low, end=one.high, style="ours", told=told))
    if one.value is not None:
        marks.append(Mark(shape="dot", value=one.value, style="ours", told=told))
    return marks


def _own(bootstrap: Bootstrap) -> str:
    named: Sequence[tuple[str, Range, Callable[[float | None], str]]] = (
        ("Sharpe ratio", bootstrap.sharpe, ratio),
        ("return a year", bootstrap.annual_return, percent),
        ("maximum drawdown", bootstrap.max_drawdown, percent),
    )
    rows = []
    for name, one, write in named:
        axis = scale([one.value, one.low, one.high], 0.0)
        told = f"{name}: {write(one.value)}, from {write(one.low)} to {write(one.high)}"
        figures = [write(one.value), interval(one.low, one.high, write)]
        rows.append([cell(name), track(axis, _whiskers(one, told), told), *map(cell, figures)])
    head = ["of the ensemble", "strong line: 0; each row has its own scale", "value", "95 % interval"]
    return table("Intervals of the ensemble's own figures", head, rows, style="figures second")


def random_entries(drawn: RandomEntries, sharpe: float | None) -> str:
    """Return where the ensemble stands among accounts that entered at random."""
    axis = scale([drawn.low, drawn.median, drawn.high, sharpe], 0.0)
    marks = []
    if drawn.low is not None and drawn.high is not None:
        told = f"9 of 10 draws: {interval(drawn.low, drawn.high, ratio)}"
        marks.append(Mark(shape="band", value=drawn.low, end=drawn.high, style="theirs", told=told))
    if drawn.median is not None:
        marks.append(Mark(shape="tick", value=drawn.median, style="theirs", told=f"median draw: {ratio(drawn.median)}"))
    if sharpe is not None:
        marks.append(Mark(shape="dot", value=sharpe, style="ours", told=f"ensemble: {ratio(sharpe)}"))
    told = f"Sharpe ratio {ratio(sharpe)} among draws from {ratio(drawn.low)} to {ratio(drawn.high)}"
    figures = [ratio(sharpe), ratio(drawn.median), interval(drawn.low, drawn.high, ratio), percent(drawn.percentile),
               percent(drawn.median_return)]  # fmt: skip
    row = [cell(f"{drawn.draws:,} draws"), track(axis, marks, told), *map(cell, figures)]
    head = ["random entries", "Sharpe ratio: \u25cf ensemble, band 9 of 10 draws", "ensemble", "median draw",
            "9 of 10 draws", "draws that did worse", "median return"]  # fmt: skip
    foot = ["", ruler(axis, RATIO), *[""] * 5]
    return table("Random entries with the same turnover", head, [row], style="figures second", foot=foot)


def deflated(found: Deflated, sharpe: float | None) -> str:
    """Return the Sharpe ratio beside what chance alone gives the best of all trials, and what follows."""
    axis = scale([found.chance, sharpe], 0.0)
    marks = []
    if found.chance is not None:
        told = f"best of {found.trials:,} trials by chance: {ratio(found.chance)}"
        marks.append(Mark(shape="tick", value=found.chance, style="theirs", told=told))
        marks.append(Mark(shape="band", value=0.0, end=found.chance, style="theirs", told=told))
    if sharpe is not None:
        marks.append(Mark(shape="dot", value=sharpe, style="ours", told=f"ensemble: {ratio(sharpe)}"))
    told = f"Sharpe ratio {ratio(sharpe)}; by chance the best of {found.trials:,} trials has {ratio(found.chance)}"
    row = [cell("Sharpe ratio"), track(axis, marks, told), cell(ratio(sharpe)), cell(ratio(found.chance))]
    head = ["figure", "\u25cf ensemble; band: what chance gives the best trial", "ensemble", "best by chance"]
    drawn = table("Luck in picking", head, [row], style="figures second", foot=["", ruler(axis, RATIO), "", ""])
    figures = [
        ("trials in the ledger", f"{found.trials:,}"),
        ("spread of their Sharpe ratios (standard deviation)", ratio(found.spread)),
        ("Sharpe ratio of the best of them by chance alone", ratio(found.chance)),
        ("probability that the true Sharpe ratio is above 0", percent(found.probabilistic)),
        ("probability that it is above the best by chance: deflated Sharpe ratio", percent(found.value)),
        ("track record needed to tell it from 0 with 95 %", days(found.days_needed)),
    ]
    return drawn + table("Deflated Sharpe ratio", ["figure", "value"], [[cell(a), cell(b)] for a, b in figures])


def members(found: Sequence[MemberResult], sharpe: float | None) -> str:
    """Return every member of the ensemble deciding alone, the worst one named."""
    known = [member.metrics.sharpe for member in found if member.metrics.sharpe is not None]
    axis, rows = scale([*known, sharpe], 0.0), []
    for member in found:
        own = member.metrics
        is_worst = len(known) > 1 and own.sharpe is not None and own.sharpe == min(known)
        name = f"seed {member.seed}" + (", the worst" if is_worst else "")
        marks = _ensemble_line(sharpe)
        if own.sharpe is not None:
            marks.append(Mark(shape="dot", value=own.sharpe, style="ours", told=f"{name}: {ratio(own.sharpe)}"))
        told = f"{name}: Sharpe ratio {ratio(own.sharpe)}"
        figures = [percent(member.weight, 0), ratio(own.sharpe), percent(own.total_return), percent(own.max_drawdown),
                   percent(own.exposure), f"{own.trades:,}", mix(own.actions)]  # fmt: skip
        rows.append([cell(name), track(axis, marks, told), *map(cell, figures)])
    head = ["member alone", "Sharpe ratio: \u25cf member, \u2503 ensemble", "weight", "Sharpe", "return", "worst fall",
            "invested", "trades", "buy / sell / hold"]  # fmt: skip
    return table("Members", head, rows, style="figures second", foot=["", ruler(axis, RATIO), *[""] * 7])


def _ensemble_line(sharpe: float | None) -> list[Mark]:
    if sharpe is None:
        return []
    return [Mark(shape="tick", value=sharpe, style="ours", told=f"ensemble: {ratio(sharpe)}")]


def mix(actions: dict[str, float]) -> str:
    """Return the shares of buy, sell and hold in words."""
    return " / ".join(percent(actions.get(name), 0) for name in ("buy", "sell", "hold"))


def refits(evaluation: Evaluation) -> str:
    """Return what training the recipe anew came to, kind by kind."""
    if not evaluation.refits:
        return paragraph("The recipe was not trained anew: whether it works on other spans was not asked.")
    return "".join(_refit(refit, evaluation.metrics.sharpe) for refit in evaluation.refits)


def _refit(refit: Refit, sharpe: float | None) -> str:
    known = [value for value in refit.sharpes if value is not None]
    axis = scale([*known, sharpe], 0.0)
    marks = [*_ensemble_line(sharpe),
             *(Mark(shape="dot", value=v, style="ours", told=f"path: {ratio(v)}") for v in known)]  # fmt: skip
    told = f"Sharpe ratios of {len(refit.sharpes)} paths"
    spread = interval(min(known), max(known), ratio) if known else UNDEFINED
    row = [
        cell(counted(len(refit.sharpes), "path")),
        track(axis, marks, told),
        cell(spread),
        cell(percent(refit.overfitting)),
    ]
    head = ["trained anew", "Sharpe ratio: \u25cf path, \u2503 the bundle", "from the lowest to the highest",
            "probability of overfitting, of seeds"]  # fmt: skip
    paths = table(f"Paths, {refit.kind}", head, [row], style="figures second", foot=["", ruler(axis, RATIO), "", ""])
    return subtitle(refit.kind.capitalize()) + parts(f"Folds, {refit.kind}", "fold", refit.folds) + paths


def break_even(evaluation: Evaluation) -> str:
    """Return the factor on costs at which nothing is earned, in words."""
    factor = evaluation.break_even_cost
    if factor is None:
        return paragraph("No factor on costs makes its return just 0: it is not defined.")
    return paragraph(f"Its return would be 0 at {multiple(factor)} the costs assumed.")
