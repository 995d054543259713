"""Tables and lines that the short-lived verbs print: status, journal entries, differences."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from daemon import wording, wording_models
from daemon.fold import Difference
from daemon.models_text import facts_table, models_facts
from daemon.ports import Entry
from strategy.order import OrderKind, OrderState

_NEWS_SHOWN = 5


def status_table(answer: Mapping[str, Any]) -> RenderableType:
    """Return what `sacd status` shows of the daemon's answer."""
    return Group(facts_table(_facts(answer)), Text(), _positions(answer))


def _facts(answer: Mapping[str, Any]) -> Iterator[tuple[str, str | Text]]:
    state = answer["state"].upper() + (" (paused)" if answer["paused"] else "")
    reason = f", {answer['reason'].replace('_', ' ')}" if answer["reason"] else ""
    hold = answer["hold_equity"]
    yield "account", _account(answer)
    yield "state", f"{state}{reason}"
    for why in answer["no_exposure"]:
        yield "", Text(why, "yellow")
    if answer["models"] is None:
        yield "ensemble", answer["model"]
    else:
        yield from models_facts(answer["models"])
    yield "equity", f"{answer['equity']:,.2f}"
    yield "buy and hold", "not begun" if hold is None else f"{hold:,.2f}"
    yield "drawdown", f"{answer['drawdown']:.2%}"
    yield "cash", f"{answer['cash']:,.2f}"
    yield "fees", f"{answer['fees']:,.2f}"
    if answer["foreign"] is not None:
        amounts = (f"{amount:,.8g} {asset}" for asset, amount in answer["foreign"].items() if amount != 0.0)
        yield "not ours", ", ".join(amounts) or "nothing"
    yield "decisions", f"{answer['decisions']:,}"
    yield "in flight", ", ".join(map(_order_words, _in_flight(answer))) or "nothing"
    yield "health", Text(", ".join(answer["health"]["reasons"]), "yellow") if answer["health"]["reasons"] else "ready"
    for i, news in enumerate(answer["news"][:_NEWS_SHOWN]):
        yield "" if i else "lately", f"{_utc(news['at_ms'])}  {news['what']}"


def _account(answer: Mapping[str, Any]) -> Text:
    where = f" at {answer['exchange']}" if answer["exchange"] else ""
    words = Text(f"{answer['instance']}, {answer['mode']}{where}")
    if answer["money"]:
        words.append(f", {wording.money_words(answer['money'])}", "bold red" if answer["money"] == "real" else "bold")
    return words


def _in_flight(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [order for order in answer["orders"] if order["kind"] != OrderKind.STOP]


def _order_words(order: Mapping[str, Any]) -> str:
    state = wording.ORDER_STATES[OrderState(order["state"])]
    return f"{order['side']} {order['quantity']:,.8g} {order['symbol']} ({state})"


def _positions(answer: Mapping[str, Any]) -> Table:
    is_live = answer["money"] is not None
    positions = Table("symbol", box=None, pad_edge=False)
    for name in ("quantity", "entry", "last", "exposure", "unrealised", "stop"):
        positions.add_column(name, justify="right")
    if is_live:
        positions.add_column("at the venue", justify="right")
    for symbol, held in answer["positions"].items():
        is_held = held["quantity"] > 0.0
        cells = [
            f"{held['quantity']:,.8g}",
            f"{held['average_entry']:,.8g}" if is_held else "",
            f"{held['mark']:,.8g}",
            f"{held['exposure']:.1%}",
            f"{held['unrealised_return']:+.2%}" if is_held else "",
            "" if held["stop"] is None else f"{held['stop']:,.8g}",
        ]
        positions.add_row(symbol, *cells, *([_protection(held)] if is_live else []))
    return positions


def _protection(held: Mapping[str, Any]) -> Text:
    """Return how much of a holding is under a stop that rests at the venue."""
    if held["stop"] is None:
        return Text("too little for one" if held["quantity"] > 0.0 else "")
    return Text(f"{held['stop_at_venue']:,.8g}") if held["stop_at_venue"] else Text("NO STOP", "bold red")


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


def _compared(payload: Mapping[str, Any]) -> str:
    difference = payload["difference"]
    this_time = "" if difference is None else f", this time {wording.basis_points(difference)}"
    mean = f"new one {wording.basis_points(payload['mean'])} per decision"
    return f"{payload['phase']}, {payload['count']} of {payload['of']} decisions: {mean}{this_time}"


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
    "model": wording_models.step_words,
    "shadow": _compared,
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
