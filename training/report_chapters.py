"""The chapters of the report on parts of the span, on chance, on members and on symbols."""

from training import report_evidence
from training.evaluation import Evaluation
from training.report_html import Section, subtitle
from training.report_symbols import symbol_panel
from training.report_tables import by_symbol, parts


def spans(evaluation: Evaluation) -> Section:
    """Return years, regimes and folds of the bundle as it is."""
    words = "The bundle as it is, over parts of the span, beside buying and holding the same."
    html = subtitle("Years") + parts("Years", "year", evaluation.years)
    html += subtitle("Regimes") + parts("Regimes", "regime", evaluation.regimes)
    html += subtitle("Folds of the frozen bundle") + parts("Folds of the frozen bundle", "fold", evaluation.folds)
    return Section(key="spans", title="Years, regimes and folds", words=words, html=html)


def refits(evaluation: Evaluation) -> Section:
    """Return what the bundle's recipe came to on other candles."""
    words = (
        "The bundle's recipe trained on other candles, with a gap before those that score it: whether the way of "
        "making it works, not only this one ensemble."
    )
    return Section(key="refits", title="The recipe trained anew", words=words, html=report_evidence.refits(evaluation))


def intervals(evaluation: Evaluation) -> Section:
    """Return how far chance moves the figures."""
    bootstrap = evaluation.bootstrap
    words = (
        f"Stationary bootstrap of daily returns, {bootstrap.draws:,} draws in blocks of {bootstrap.block:.1f} days on "
        "average. Differences are drawn in pairs: the same days of both. An interval that contains 0 shows nothing."
    )
    return Section(key="intervals", title="What chance allows", words=words, html=report_evidence.intervals(bootstrap))


def luck(evaluation: Evaluation) -> Section:
    """Return luck in picking the best of many, and in timing."""
    words = (
        "Who tries much finds something. The deflated Sharpe ratio (Bailey and Lopez de Prado, 2014) is the "
        "probability that the true Sharpe ratio is above what the best of all trials in the ledger would show without "
        "any skill. Random entries ask the same of the timing."
    )
    sharpe = evaluation.metrics.sharpe
    html = report_evidence.deflated(evaluation.deflated, sharpe)
    html += subtitle("Luck in timing") + report_evidence.random_entries(evaluation.random, sharpe)
    return Section(key="luck", title="Luck in picking and in timing", words=words, html=html)


def members(evaluation: Evaluation) -> Section:
    """Return every member deciding alone."""
    words = "Each member deciding alone. What the worst seed does is what chance in training can do."
    html = report_evidence.members(evaluation.members, evaluation.metrics.sharpe)
    return Section(key="members", title="Members", words=words, html=html)


def symbols(evaluation: Evaluation) -> Section:
    """Return every symbol: its figures, price, exposure and votes."""
    seeds = [member.seed for member in evaluation.members]
    panels = [
        symbol_panel(evaluation.curves.day_ms, curves, seeds, curves.symbol.partition("/")[2])
        for curves in evaluation.curves.symbols
    ]
    words = (
        "Price on a logarithmic scale, shaded where the account was invested; below it the share of the account, how "
        "far the members disagree (0 to 1), and each member's votes: upwards to buy, downwards to sell."
    )
    html = by_symbol(evaluation) + "".join(panels)
    return Section(key="symbols", title="Symbols, votes and disagreement", words=words, html=html)
