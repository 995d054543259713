"""What `sacd report --execution` prints: tables of figures, and lines to paste into the configuration."""

from collections.abc import Iterator

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from daemon import wording
from daemon.execution import ENOUGH, Estimate, Execution, Group, rate_to_write

_DASH = "-"
_STEPS = {
    "close_to_decision": "close of the candle to decision on disk (begins with the venue's clock)",
    "decision_to_sent": "decision on disk to order sent",
    "sent_to_answer": "order sent to first answer on disk",
    "sent_to_first_fill": "order sent to first fill on disk",
    "sent_to_last_fill": "order sent to last fill on disk",
    "last_fill_to_stop": "last fill of a purchase on disk to its stop at rest",
    "close_to_trade": "close of the candle to first trade (both by the venue's clock)",
}


def execution_report(found: Execution) -> RenderableType:
    """Return the tables of the report; `suggestions` come below them, as they are, so that they can be pasted."""
    return Lines(_orders(found), Text(), _slippage(found), Text(), _latency(found), Text())


def suggestions(found: Execution) -> list[str]:
    """Return the lines to paste into [execution], or why there are none."""
    lines = ["[execution]                 # what would have matched, with 95 % intervals"]
    for name, estimate in (("fee_rate", found.fee_rate), ("slippage_rate", found.slippage_rate)):
        lines.append(_suggestion(name, estimate))
    return lines


def _suggestion(name: str, estimate: Estimate) -> str:
    if not estimate.is_enough or estimate.low is None or estimate.high is None:
        filled = wording.count(estimate.n, "filled order")
        return f"# {name} = {estimate.used:g}: too few fills to suggest another ({filled} of {ENOUGH})"
    within = ": that in use fits" if estimate.is_used_within else ""
    return (
        f"{name} = {rate_to_write(estimate):g}  # {estimate.low:.3g} .. {estimate.high:.3g} over"
        f" {estimate.n:,} orders; in use {estimate.used:g}{within}"
    )


def _orders(found: Execution) -> Table:
    table = _plain()
    orders = found.orders
    states = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in orders.states.items())
    table.add_row("orders", f"{orders.count:,}{f' ({states})' if states else ''}")
    ratio = _DASH if orders.fill_ratio is None else wording.percent(orders.fill_ratio)
    table.add_row("filled", f"{ratio} of the value asked for; {wording.count(orders.partly, 'order')} in part")
    table.add_row("fills", f"{found.fills:,}, worth {wording.money(found.value)}")
    paid, expected = wording.money(found.fees_paid), wording.money(found.fees_expected)
    table.add_row("fees", f"{paid} paid, {expected} expected")
    return table


def _slippage(found: Execution) -> Table:
    table = Table("slippage, bp", box=None, pad_edge=False)
    for name in ("fills", "value", "mean", "median", "p90", "- model", "p90"):
        table.add_column(name, justify="right")
    for label, group in _labelled(found):
        against, above = group.against_reference_bp, group.against_model_bp
        figures = (against.mean, against.median, against.p90, above.mean, above.p90)
        table.add_row(label, f"{against.n:,}", wording.money(group.value), *map(_points, figures))
    return table


def _labelled(found: Execution) -> Iterator[tuple[str, Group]]:
    for group in found.slippage:
        yield f"{group.name}:00 UTC" if group.by == "hour" else group.name, group
    if found.stops.against_reference_bp.n:
        yield "stops", found.stops


def _latency(found: Execution) -> Table:
    table = Table("seconds, by our clock unless said", box=None, pad_edge=False)
    for name in ("orders", "median", "p90"):
        table.add_column(name, justify="right")
    for name, spread in found.latency_s.items():
        table.add_row(_STEPS[name], f"{spread.n:,}", _seconds(spread.median), _seconds(spread.p90))
    return table


def _seconds(value: float | None) -> str:
    return _DASH if value is None else f"{value:.3f}"


def _points(value: float | None) -> str:
    return _DASH if value is None else f"{value:+.2f}"


def _plain() -> Table:
    return Table(box=None, show_header=False, pad_edge=False)
