"""An evaluation on a terminal: the tables a person reads before trusting an ensemble with money."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from training.commands_common import day
from training.evaluation import Evaluation, Part, RandomEntries
from training.metrics import Metrics

_UNDEFINED = "-"
_HEADERS = (
    "return", "a year", "volatility", "Sharpe", "Sortino", "Calmar", "drawdown", "exposure", "turnover", "trades",
)  # fmt: skip


def print_evaluation(console: Console, found: Evaluation) -> None:
    """Print everything that was found, the verdict last."""
    _line(console, _title(found), "bold")
    for table in (_accounts(found), _symbols(found), _stress(found), _members(found)):
        _block(console, table)
    for title, parts in (("year", found.years), ("regime", found.regimes), ("fold, frozen", found.folds)):
        _block(console, _parts(title, parts))
    for refit in found.refits:
        _block(console, _parts(f"{refit.kind}, refitted", refit.folds))
        _line(console, _refit_words(refit.sharpes, refit.overfitting))
    _block(console, _certainty(found))
    for words in _luck(found):
        _line(console, words)
    _block(console, _criteria(found))
    _block(console, _vetoes(found))
    console.print()
    for warning in found.warnings:
        _line(console, f"! {warning}", "yellow")
    _line(console, closing(found), "bold green" if found.ready else "bold red")


def _block(console: Console, table: Table) -> None:
    console.print()
    console.print(table)


def closing(found: Evaluation) -> str:
    """Return the verdict in one sentence."""
    return f"{'READY' if found.ready else 'NOT READY'}: {found.bundle[:16]}, {found.summary}."


def _line(console: Console, words: str, style: str = "") -> None:
    console.print(words, style=style, markup=False, highlight=False, soft_wrap=True)


def _title(found: Evaluation) -> str:
    span = f"{day(found.start_ms)} .. {day(found.end_ms - 1)}"
    candles = "unseen candles" if found.start_ms >= found.unseen_from_ms else "candles it has SEEN"
    return f"ensemble {found.bundle[:16]} on {', '.join(found.symbols)}, {found.timeframe}, {span}, {candles}"


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    for index, header in enumerate(headers):
        table.add_column(header, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _accounts(found: Evaluation) -> Table:
    table = _table("", *_HEADERS)
    rows = {"ensemble": found.metrics, **found.baselines}
    for name, metrics in rows.items():
        table.add_row(name, *_figures(metrics), style="bold" if name == "ensemble" else "")
    return table


def _figures(metrics: Metrics) -> list[str]:
    return [
        _percent(metrics.total_return, "+"),
        _percent(metrics.annual_return, "+"),
        _percent(metrics.volatility),
        _ratio(metrics.sharpe),
        _ratio(metrics.sortino),
        _ratio(metrics.calmar),
        _percent(metrics.max_drawdown),
        _percent(metrics.exposure),
        f"{metrics.turnover:.1f}",
        f"{metrics.trades:,}",
    ]


def _symbols(found: Evaluation) -> Table:
    table = _table("symbol alone", "return", "Sharpe", "drawdown", "exposure", "trades", "hold: return", "Sharpe")
    for symbol, metrics in found.by_symbol.items():
        hold = found.baselines_by_symbol[symbol]["buy and hold"]
        table.add_row(
            symbol,
            _percent(metrics.total_return, "+"),
            _ratio(metrics.sharpe),
            _percent(metrics.max_drawdown),
            _percent(metrics.exposure),
            f"{metrics.trades:,}",
            _percent(hold.total_return, "+"),
            _ratio(hold.sharpe),
        )
    if len(found.by_symbol) > 1:
        ours = [metrics.sharpe for metrics in found.by_symbol.values()]
        holds = [found.baselines_by_symbol[symbol]["buy and hold"].sharpe for symbol in found.by_symbol]
        table.add_row("mean", "", _ratio(_mean(ours)), "", "", "", "", _ratio(_mean(holds)), style="bold")
    return table


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) and known else None


def _stress(found: Evaluation) -> Table:
    table = _table("costs", "return", "Sharpe", "drawdown", "trades")
    for stress in found.stress:
        late = f", votes {stress.delay} candle late" if stress.delay else ""
        metrics = stress.metrics
        table.add_row(
            f"x {stress.cost:g}{late}",
            _percent(metrics.total_return, "+"),
            _ratio(metrics.sharpe),
            _percent(metrics.max_drawdown),
            f"{metrics.trades:,}",
        )
    if found.break_even_cost is not None:
        table.add_row(f"x {found.break_even_cost:.1f}, interpolated", _percent(0.0, "+"), "", "", "")
    return table


def _members(found: Evaluation) -> Table:
    table = _table("member alone", "weight", "return", "Sharpe", "drawdown", "exposure", "trades", "")
    worst = worst_seed(found)
    for member in found.members:
        metrics = member.metrics
        table.add_row(
            f"seed {member.seed}",
            f"{member.weight:.2f}",
            _percent(metrics.total_return, "+"),
            _ratio(metrics.sharpe),
            _percent(metrics.max_drawdown),
            _percent(metrics.exposure),
            f"{metrics.trades:,}",
            "worst" if member.seed == worst and len(found.members) > 1 else "",
        )
    return table


def worst_seed(found: Evaluation) -> int:
    """Return the seed of the member with the lowest Sharpe ratio; one that has none is worse than all."""
    worst = min(found.members, key=lambda m: float("-inf") if m.metrics.sharpe is None else m.metrics.sharpe)
    return worst.seed


def _parts(title: str, parts: Iterable[Part]) -> Table:
    table = _table(title, "days", "return", "Sharpe", "drawdown", "exposure", "hold: return", "Sharpe", "drawdown")
    for part in parts:
        table.add_row(
            part.name,
            f"{part.days:,}",
            _percent(part.total_return, "+"),
            _ratio(part.sharpe),
            _percent(part.max_drawdown),
            _percent(part.exposure),
            _percent(part.hold_return, "+"),
            _ratio(part.hold_sharpe),
            _percent(part.hold_drawdown),
        )
    return table


def _refit_words(sharpes: Sequence[float | None], overfitting: float | None) -> str:
    paths = ", ".join(_ratio(sharpe) for sharpe in sharpes)
    chance = "not defined" if overfitting is None else f"{overfitting:.0%}"
    return f"Sharpe ratios of the refitted paths: {paths}; probability of overfitting, of its seeds: {chance}"


def _certainty(found: Evaluation) -> Table:
    boot = found.bootstrap
    table = _table("95 % certainty", "found", "from", "to")
    ratios = {"Sharpe ratio": boot.sharpe}
    ratios |= {f"Sharpe ratio less that of {name}": value for name, value in boot.differences.items()}
    for name, value in ratios.items():
        table.add_row(name, _ratio(value.value), _ratio(value.low), _ratio(value.high))
    for name, value in (("return a year", boot.annual_return), ("drawdown of daily closes", boot.max_drawdown)):
        table.add_row(name, _percent(value.value), _percent(value.low), _percent(value.high))
    random = found.random
    table.add_row(f"Sharpe ratio of {random.draws:,} random accounts (90 %)", *map(_ratio, _spread(random)))
    return table


def _spread(random: RandomEntries) -> tuple[float | None, float | None, float | None]:
    return random.median, random.low, random.high


def _luck(found: Evaluation) -> list[str]:
    """Return what chance has to say, in sentences."""
    deflated, random = found.deflated, found.random
    value = "not defined" if deflated.value is None else f"{deflated.value:.3f}"
    share = "not defined" if random.percentile is None else f"{random.percentile:.1%}"
    chance = _ratio(deflated.chance)
    return [
        f"deflated Sharpe ratio: {value}; the best of {deflated.trials:,} trials shows {chance} by chance",
        f"random accounts with a lower Sharpe ratio: {share}",
    ]


def _criteria(found: Evaluation) -> Table:
    table = _table("criterion", "found", "wanted", "")
    for criterion in found.criteria:
        is_share = "%" in criterion.wanted
        value = _percent(criterion.value) if is_share else _ratio(criterion.value)
        verdict = Text("pass", style="green") if criterion.passed else Text("FAIL", style="red")
        table.add_row(criterion.name, value, criterion.wanted, verdict)
    return table


def _vetoes(found: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("veto")
    table.add_column("found")
    table.add_column("")
    for veto in found.vetoes:
        verdict = Text("FIRES", style="red") if veto.fired else Text("silent", style="green")
        table.add_row(veto.name, veto.words, verdict)
    return table


def _percent(value: float | None, sign: str = "") -> str:
    return _UNDEFINED if value is None else f"{value:{sign}.1%}"


def _ratio(value: float | None) -> str:
    return _UNDEFINED if value is None else f"{value:.2f}"
