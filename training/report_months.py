"""The return of every month in a table, coloured: blue above 0, orange below, and always with the figure."""

from collections.abc import Sequence

from training.metrics import Month
from training.report_html import cell, table
from training.report_numbers import percent
from training.report_series import months

_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STRONGEST = 0.20
"""Return of a month that has the full colour."""


def heat_map(day_ms: Sequence[int], equity: Sequence[float]) -> str:
    """Return the table of months, a row each year, and the year as a whole. equity: multiples of the first cash."""
    found = {(month.year, month.month): month for month in months(day_ms, equity)}
    rows = []
    for year in sorted({year for year, _ in found}):
        own = [found.get((year, month)) for month in range(1, 13)]
        rows.append([cell(str(year)), *(_shown(month) for month in own), _whole(own)])
    return table("Return of each month", ["year", *_NAMES, "whole year"], rows, style="heat")


def _shown(month: Month | None) -> str:
    if month is None:
        return ""
    weight = min(abs(month.total_return) / _STRONGEST, 1.0)
    style = "up" if month.total_return >= 0.0 else "down"
    told = percent(month.total_return) + ("" if month.is_full else "*")
    return f'<span class="{style}" style="--w:{weight:.2f}">{told}</span>'


def _whole(own: Sequence[Month | None]) -> str:
    grown = 1.0
    for month in own:
        grown *= 1.0 if month is None else 1.0 + month.total_return
    return f"<b>{percent(grown - 1.0)}</b>"
