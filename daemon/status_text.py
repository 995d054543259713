"""Tables and lines that the short-lived verbs print: status, models, journal entries, differences."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from daemon.fold import Difference
from daemon.models import Listed
from daemon.ports import Entry


def status_table(answer: Mapping[str, Any]) -> RenderableType:
    """Return what `sacd status` shows of the daemon's answer."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    state = answer["state"].upper() + (" (paused)" if answer["paused"] else "")
    reason = f", {answer['reason'].replace('_', ' ')}" if answer["reason"] else ""
    hold = answer["hold_equity"]
    for name, value in (
        ("state", f"{state}{reason}"),
        ("ensemble", answer["model"]),
        ("equity", f"{answer['equity']:,.2f}"),
        ("buy and hold", "not begun" if hold is None else f"{hold:,.2f}"),
        ("drawdown", f"{answer['drawdown']:.2%}"),
        ("cash", f"{answer['cash']:,.2f}"),
        ("fees", f"{answer['fees']:,.2f}"),
        ("decisions", f"{answer['decisions']:,}"),
        ("in flight", f"{answer['orders_in_flight']} orders"),
        ("health", ", ".join(answer["health"]["reasons"]) or "ready"),
    ):
        facts.add_row(name, value)
    positions = Table("symbol", box=None, pad_edge=False)
    for name in ("quantity", "entry", "last", "exposure", "unrealised", "stop"):
        positions.add_column(name, justify="right")
    for symbol, held in answer["positions"].items():
        stop = "" if held["stop"] is None else f"{held['stop']:,.8g}"
        positions.add_row(
            symbol,
            f"{held['quantity']:,.8g}",
            f"{held['average_entry']:,.8g}" if held["quantity"] else "",
            f"{held['mark']:,.8g}",
            f"{held['exposure']:.1%}",
            f"{held['unrealised_return']:+.2%}" if held["quantity"] else "",
            stop,
        )
    return Group(facts, Text(), positions)


def models_table(found: Iterable[Listed]) -> Table:
    """Return what `sacd models list` shows."""
    table = Table("", "id", "members", "trained on", "until", "steps", "fault", box=None, pad_edge=False)
    for bundle in found:
        mark = "current" if bundle.is_current else "previous" if bundle.is_previous else ""
        if bundle.manifest is None:
            table.add_row(mark, bundle.name, "", "", "", "", Text(bundle.fault, style="red"))
            continue
        trained = bundle.manifest.training
        until = _utc(trained.end_ms)[:10]
        members = str(len(bundle.manifest.members))
        table.add_row(mark, bundle.name, members, ", ".join(trained.symbols), until, f"{trained.steps:,}", "")
    return table


def model_row(bundle: Listed) -> dict[str, Any]:
    """Return one item of `sacd models list --json`; without a manifest null or empty."""
    manifest = bundle.manifest
    trained = None if manifest is None else manifest.training
    return {
        "id": bundle.name,
        "current": bundle.is_current,
        "previous": bundle.is_previous,
        "members": None if manifest is None else len(manifest.members),
        "symbols": [] if trained is None else list(trained.symbols),
        "until_ms": None if trained is None else trained.end_ms,
        "steps": None if trained is None else trained.steps,
        "fault": bundle.fault or None,
    }


def entry_line(entry: Entry) -> str:
    """Return one journal entry as one line."""
    return f"{entry.seq:>8}  {_utc(entry.at_ms)}  {entry.kind:<11} {_summary(entry.kind, entry.payload)}"


def _summary(kind: str, payload: Mapping[str, Any]) -> str:
    summarise = _SUMMARIES.get(kind)
    if summarise is not None:
        return summarise(payload)
    return ", ".join(f"{name} {value}" for name, value in payload.items() if not isinstance(value, dict))


def _candles(payload: Mapping[str, Any]) -> str:
    closes = ", ".join(f"{row[0]} {row[4]:g}" for row in payload["candles"])
    return f"{_utc(payload['open_ms'])} {closes}{' (backfill)' if payload['backfill'] else ''}"


def _exit(payload: Mapping[str, Any]) -> str:
    sold = ", ".join(f"{order['quantity']:g} ({order['reason'].replace('_', ' ')})" for order in payload["orders"])
    return f"{payload['symbol']} sells {sold}"


def _intent(payload: Mapping[str, Any]) -> str:
    order = payload["order"]
    again = ", in place of one the venue ended" if payload["renews"] else ""
    return f"{order['symbol']} stop {order['quantity']:g} at {order['stop_price']:g}{again}"


def _external(payload: Mapping[str, Any]) -> str:
    halts = ", halted" if payload["halts"] else ""
    amounts = f"{payload['ours']:+g} ours, {payload['foreign']:+g} somebody else's"
    return f"{payload['asset']} {amounts}{halts}: {payload['detail']}"


def _venue(payload: Mapping[str, Any]) -> str:
    state = "cut off" if payload["is_cut_off"] else "open"
    closed = f", closed: {', '.join(payload['closed'])}" if payload["closed"] else ""
    return f"{state}{closed}{', paused' if payload['pauses'] else ''}: {payload['detail']}"


def _decision(payload: Mapping[str, Any]) -> str:
    wanted = f"{payload['action']} to {payload['target']:.1%}"
    return f"{payload['symbol']} {wanted}, {payload['verdict']}: {payload['reason'].replace('_', ' ')}"


_SUMMARIES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "candle": _candles,
    "decision": _decision,
    "fill": lambda p: f"{p['symbol']} {p['side']} {p['quantity']:g} at {p['price']:g}",
    "order": lambda p: f"{p['symbol']} {p['client_id']} {p['state'].replace('_', ' ')}",
    "run": lambda p: f"{p['account']['instance']}, ensemble {p['model'][:16]}",
    "exit": _exit,
    "intent": _intent,
    "external": _external,
    "venue": _venue,
    "command": lambda p: f"{p['verb']} from {p['source']}",
    "checkpoint": lambda p: f"equity {p['trader']['portfolio']['equity']:,.2f}",
}


def difference_line(difference: Difference) -> str:
    """Return one differing decision as one line."""
    fields = ", ".join(difference.fields)
    return f"entry {difference.seq}: {difference.symbol} at {_utc(difference.open_ms)} differs in {fields}"


def parity_line(result: Mapping[str, Any]) -> str:
    """Return one file's parity as one line."""
    counts = ", ".join(
        f"{name} {result[key]} differ"
        for name, key in (
            ("observations", "observations_differ"),
            ("actions", "actions_differ"),
            ("trades", "trades_differ"),
            ("equity", "equity_differ"),
        )
    )
    seen = f"{result['candles']} candles, {result['observed']} observations, {result['trades']} trades"
    return f"{result['file']} ({result['symbol']}): {seen}; {counts}"


def _utc(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
