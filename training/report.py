"""The page of an evaluation: one file that runs and fetches nothing, put together from its JSON and nothing else."""

from collections.abc import Mapping
from html import escape
from typing import Any

from training import report_account, report_chapters
from training.commands_common import day
from training.evaluation import Evaluation
from training.readiness import WANTED_ACTIONS
from training.report_html import Section, Tile, paragraph, points, section, subtitle, tiles
from training.report_numbers import days, percent, ratio
from training.report_read import parse
from training.report_style import STYLE
from training.report_tables import accounts, criteria, interval, vetoes, whole
from training.report_words import HOLD, LIMITS, TREND, Side, findings, refutations, span_words

_WANTED_MIX = ", ".join(f"{name} {percent(share, 0)}" for name, share in WANTED_ACTIONS.items())


def page(document: Mapping[str, Any]) -> str:
    """Return the page, HTML, of an evaluation's JSON. Raises TrainingError when it cannot be read."""
    return render(parse(document, "the evaluation"))


def render(evaluation: Evaluation) -> str:
    """Return the page, HTML."""
    sections = _sections(evaluation)
    links = "".join(f'<li><a href="#{part.key}">{escape(part.title)}</a></li>' for part in sections)
    body = "".join(section(part) for part in sections)
    title = f"sacd evaluation {evaluation.bundle[:16]}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f'{_header(evaluation)}<nav aria-label="parts of the page"><ul>{links}</ul></nav>'
        f"<main>{body}</main>{_footer(evaluation)}</body></html>\n"
    )


def _sections(evaluation: Evaluation) -> list[Section]:
    return [
        _verdict(evaluation),
        _findings(evaluation),
        _figures(evaluation),
        report_account.equity(evaluation),
        report_account.months(evaluation),
        report_account.rolling(evaluation),
        report_account.costs(evaluation),
        report_chapters.spans(evaluation),
        report_chapters.refits(evaluation),
        report_chapters.intervals(evaluation),
        report_chapters.luck(evaluation),
        report_chapters.members(evaluation),
        report_chapters.symbols(evaluation),
        _all_metrics(evaluation),
        _conditions(evaluation),
    ]


def _header(evaluation: Evaluation) -> str:
    style, word = ("yes", "\u2713 Ready") if evaluation.ready else ("no", "\u2715 Not ready")
    return (
        f'<header><span class="verdict {style}">{word}</span>'
        f"<h1>Evaluation of ensemble <code>{escape(evaluation.bundle[:16])}</code></h1>"
        f"{paragraph(span_words(evaluation) + '.', 'lead')}{paragraph(evaluation.summary)}"
        f"{points(evaluation.warnings, 'warnings')}{_tiles(evaluation)}</header>"
    )


def _tiles(evaluation: Evaluation) -> str:
    ours, bounds, chance = evaluation.metrics, evaluation.bootstrap, evaluation.deflated
    rivals = [(name, evaluation.baselines[name]) for name in (HOLD, TREND) if name in evaluation.baselines]
    sharpe = f"95 %: {interval(bounds.sharpe.low, bounds.sharpe.high, ratio)}"
    won = f"95 %: {interval(ours.win_rate_low, ours.win_rate_high, percent)}"
    return tiles(
        [
            Tile(name="Sharpe ratio", value=ratio(ours.sharpe),
                 beside=[sharpe, *(f"{name} {ratio(rival.sharpe)}" for name, rival in rivals)]),
            Tile(name="return a year", value=percent(ours.annual_return),
                 beside=[f"{name} {percent(rival.annual_return)}" for name, rival in rivals]),
            Tile(name="maximum drawdown", value=percent(ours.max_drawdown),
                 beside=[f"{name} {percent(rival.max_drawdown)}" for name, rival in rivals]),
            Tile(name="Calmar ratio", value=ratio(ours.calmar),
                 beside=[f"{name} {ratio(rival.calmar)}" for name, rival in rivals]),
            Tile(name="alpha a year", value=percent(ours.alpha, is_signed=True), beside=[f"beta {ratio(ours.beta)}"]),
            Tile(name="win rate", value=percent(ours.win_rate), beside=[won, f"{ours.round_trips:,} positions closed"]),
            Tile(name="positive months", value=percent(ours.positive_months, 0), beside=[f"of {ours.months:,} months"]),
            Tile(name="deflated Sharpe ratio", value=percent(chance.value),
                 beside=["a probability; wanted: 95 %", f"after {chance.trials:,} trials"]),
        ]
    )  # fmt: skip


def _verdict(evaluation: Evaluation) -> Section:
    passed, count = sum(one.passed for one in evaluation.criteria), len(evaluation.criteria)
    fired = sum(veto.fired for veto in evaluation.vetoes)
    words = f"{passed} of {count} criteria passed; {fired} of {len(evaluation.vetoes)} vetoes refuse."
    html = criteria(evaluation.criteria) + subtitle("Vetoes: one is enough") + vetoes(evaluation.vetoes)
    return Section(key="verdict", title="Verdict", words=words, html=html)


def _findings(evaluation: Evaluation) -> Section:
    found = findings(evaluation)
    parts_of = {side: [finding.text for finding in found if finding.side is side] for side in Side}
    html = "".join(
        subtitle(title) + (points(parts_of[side], side.value) or paragraph("Nothing."))
        for title, side in (("For it", Side.FOR), ("Against it", Side.AGAINST), ("To know", Side.NOTE))
    )
    html += subtitle("What would refute it") + points(refutations(evaluation), Side.NOTE.value)
    html += subtitle("What no figure here shows") + points(LIMITS, Side.NOTE.value)
    return Section(key="words", title="What the figures do and do not show", words="", html=html)


def _figures(evaluation: Evaluation) -> Section:
    words = "All accounts under the same costs and over the same candles; costs in shares of the first cash."
    html = accounts(evaluation.metrics, evaluation.baselines, "Accounts beside each other")
    html += subtitle("The votes") + paragraph(f"The targets are {_WANTED_MIX}.", "under")
    html += _mix(evaluation.metrics.actions)
    return Section(key="figures", title="Key figures", words=words, html=html)


def _all_metrics(evaluation: Evaluation) -> Section:
    words = "Of the whole span. A year has 365 days, the risk-free rate is 0."
    return Section(key="metrics", title="All metrics", words=words, html=whole(evaluation))


def _mix(actions: Mapping[str, float]) -> str:
    shares = [(name, actions.get(name, 0.0)) for name in ("buy", "sell", "hold")]
    parts_of = "".join(
        f'<span class="{name}" style="flex:{share:.4f} 0 auto">{name} {percent(share)}</span>' for name, share in shares
    )
    return f'<div class="mix">{parts_of}</div>'


def _conditions(evaluation: Evaluation) -> Section:
    groups = "".join(
        subtitle(name.capitalize()) + paragraph(", ".join(f"{key} {value:g}" for key, value in values.items()))
        for name, values in evaluation.conditions.items()
    )
    unseen = f"Candles from {day(evaluation.unseen_from_ms)} on were not used to make it."
    command = f"<p>Made by <code>{escape(evaluation.command)}</code></p>"
    whole_id = f"<p>Bundle <code>{escape(evaluation.bundle)}</code></p>"
    html = f"{whole_id}{command}{paragraph(unseen)}{groups}"
    return Section(key="conditions", title="Conditions", words="", html=html)


def _footer(evaluation: Evaluation) -> str:
    years = days(evaluation.metrics.days)
    text = (
        f"Evaluated at {evaluation.at}, over {years}. A year has 365 days, the risk-free rate is 0; a ratio that is "
        "not defined is said to be so. Not financial advice."
    )
    return f"<footer>{escape(text)}</footer>"
