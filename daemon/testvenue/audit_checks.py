"""What must hold of any run, read from the audit alone: pure functions over its records, or over its file."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]


def read(path: Path) -> list[Record]:
    """Return the records of an audit file. A last line that was cut short, by a kill, is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def orders_by_client_id(records: Iterable[Record], account: str = "") -> dict[str, list[Record]]:
    """Return every order ever accepted over the API, by client id: more than one per id is a doubled intent."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if record["kind"] == "order" and record["is_api"] and account in {"", record["account"]}:
            found.setdefault(record["client_id"], []).append(record)
    return found


def position(records: Iterable[Record], symbol: str, account: str = "", *, only_api: bool = False) -> Decimal:
    """Return base bought less base sold, less fees paid in base; only_api: leaves out what was done by hand."""
    held = Decimal(0)
    for record in records:
        if record["kind"] == "fill" and record["symbol"] == symbol and account in {"", record["account"]}:
            held += _change(record) if record["is_api"] or not only_api else 0
    return held


def requests(records: Iterable[Record], method: str = "", path: str = "") -> list[Record]:
    """Return the requests that were seen, by method and by how their path ends."""
    return [
        record
        for record in records
        if record["kind"] == "request" and method in {"", record["method"]} and record["path"].endswith(path)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class NakedSpan:
    """A time without protection. end_ms: None while it lasts."""

    start_ms: int
    end_ms: int | None


def naked_spans(
    records: Iterable[Record], symbol: str, *, lot: Decimal, min_value: Decimal, account: str = ""
) -> list[NakedSpan]:
    """Return when base bought over the API could be sold (a lot, and worth `min_value`) and no stop was open."""
    held, price = Decimal(0), Decimal(0)
    stops: set[int] = set()
    since: int | None = None
    spans = []
    for record in records:
        if record.get("symbol") != symbol or not record.get("is_api") or account not in {"", record["account"]}:
            continue
        match record["kind"]:
            case "order" if record["is_stop"] and record["side"] == "sell":
                stops.add(record["order_id"])
            case "order_end":
                stops.discard(record["order_id"])
            case "fill":
                held, price = held + _change(record), Decimal(record["price"])
        sellable = held - held % lot
        is_naked = sellable > 0 and sellable * price >= min_value and not stops
        if is_naked and since is None:
            since = record["at_ms"]
        elif not is_naked and since is not None:
            spans.append(NakedSpan(start_ms=since, end_ms=record["at_ms"]))
            since = None
    return spans if since is None else [*spans, NakedSpan(start_ms=since, end_ms=None)]


def naked_seconds(
    records: Iterable[Record], symbol: str, *, lot: Decimal, min_value: Decimal, until_ms: int, account: str = ""
) -> float:
    """Return for how long in all, up to `until_ms`, a position stood without a stop."""
    spans = naked_spans(records, symbol, lot=lot, min_value=min_value, account=account)
    return sum((until_ms if span.end_ms is None else span.end_ms) - span.start_ms for span in spans) / 1e3


def _change(fill: Record) -> Decimal:
    quantity = Decimal(fill["quantity"])
    change = quantity if fill["side"] == "buy" else -quantity
    return change - Decimal(fill["fee"]) if fill["fee_asset"] == fill["symbol"].partition("/")[0] else change
