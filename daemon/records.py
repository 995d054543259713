"""How what happens is written into the journal, and read back: one function per kind and direction.

Floats keep every bit (JSON writes the shortest digits that read back equal); observations are kept as bytes in hex.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from daemon.ports import CandleGroup, External, Gap, LateCandle, Record
from strategy.candle import Candle
from strategy.order import Fill, Order, OrderReport, OrderState, OrderStatus, Side
from strategy.portfolio import Portfolio
from strategy.risk import Approved, Hold, RiskState
from strategy.trader import Outcome, Votes


def of_group(group: CandleGroup) -> Record:
    """Return the record of final candles of one open time."""
    first = group.candles[0]
    rows = [[candle.symbol, *candle.values] for candle in group.candles]
    payload = {"open_ms": first.open_ms, "span_ms": first.span_ms, "backfill": group.is_backfill, "candles": rows}
    return Record(kind="candle", payload=payload)


def read_group(payload: Mapping[str, Any]) -> CandleGroup:
    """Return the candles of a record. Raises InvalidCandle when they are not candles any more."""
    open_ms, span_ms = payload["open_ms"], payload["span_ms"]
    candles = tuple(
        Candle(symbol=s, open_ms=open_ms, span_ms=span_ms, open=o, high=h, low=low, close=c, volume=v)
        for s, o, h, low, c, v in payload["candles"]
    )
    return CandleGroup(candles=candles, is_backfill=payload["backfill"])


def digest(before: str, candle: Candle) -> str:
    """Return what a decision remembers of its candle and of those before it that nothing was decided on.

    before: the digest of those, "" when there are none.  16 hex digits that any changed byte changes.
    """
    text = json.dumps([before, candle.symbol, candle.open_ms, *candle.values])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_decision(outcome: Outcome, seen: str, model_id: str, portfolio: Portfolio, risk: RiskState) -> Record:
    """Return the record of one decision: everything it saw, wanted and was allowed. seen: digest of its candles."""
    sight, verdict, decision = outcome.sight, outcome.verdict, outcome.verdict.decision
    payload = {
        "symbol": decision.symbol,
        "open_ms": sight.candle.open_ms,
        "candle": seen,
        "observation": None if sight.observation is None else sight.observation.tobytes().hex(),
        "distance": sight.distance,
        "votes": None if outcome.votes is None else outcome.votes.tolist(),
        "action": decision.action.value,
        "why": decision.reason.value,
        "exposure": decision.exposure,
        "target": decision.target,
        "direction": decision.direction,
        "size": decision.size,
        "confidence": decision.confidence,
        "disagreement": decision.disagreement,
        "verdict": "approved" if isinstance(verdict, Approved) else "hold" if isinstance(verdict, Hold) else "refused",
        "reason": verdict.reason.value,
        "order": of_order(verdict.order) if isinstance(verdict, Approved) else None,
        "stop": None if outcome.stop is None else of_order(outcome.stop),
        "equity": portfolio.equity,
        "drawdown": portfolio.drawdown,
        "state": risk.state.value,
        "model": model_id,
    }
    return Record(kind="decision", payload=payload)


def read_votes(payload: Mapping[str, Any]) -> Votes | None:
    """Return the votes of a decision as they were, (n_members, 3) float32."""
    return None if payload["votes"] is None else np.array(payload["votes"], np.float32)


def of_order(order: Order) -> dict[str, Any]:
    """Return an order as JSON types."""
    return asdict(order)


def of_status(status: OrderStatus) -> dict[str, Any]:
    """Return an order and how far it has come as JSON types."""
    return {"order": of_order(status.order), "state": status.state.value, "filled": status.filled}


def read_status(values: Mapping[str, Any]) -> OrderStatus:
    """Return the status stored as `values`."""
    return OrderStatus(
        order=Order.from_json(values["order"]), state=OrderState(values["state"]), filled=float(values["filled"])
    )


def of_report(report: OrderReport, state: OrderState) -> Record:
    """Return the record of an order that moved; its fill, if any, is a record of its own."""
    payload = {
        "client_id": report.client_id,
        "symbol": report.symbol,
        "event": report.event.value,
        "state": state.value,
        "at_ms": report.at_ms,
        "filled": 0.0 if report.fill is None else report.fill.quantity,
        "detail": report.detail,
    }
    return Record(kind="order", payload=payload)


def of_fill(fill: Fill) -> Record:
    """Return the record of a fill."""
    return Record(kind="fill", payload=asdict(fill))


def read_fill(payload: Mapping[str, Any]) -> Fill:
    """Return the fill of a record."""
    return Fill(**{**payload, "side": Side(payload["side"])})


def of_stop(stop: Order, *, renews: bool = False) -> Record:
    """Return the record of a protective stop that is to be placed. renews: the venue has ended the one before it."""
    return Record(kind="intent", payload={"order": of_order(stop), "renews": renews})


def of_exit(symbol: str, at_ms: int, orders: Sequence[Order], *, unprotected: bool) -> Record:
    """Return the record of what is sold of a symbol without waiting for a candle."""
    stored = [of_order(order) for order in orders]
    return Record(kind="exit", payload={"symbol": symbol, "at_ms": at_ms, "unprotected": unprotected, "orders": stored})


def of_external(external: External) -> Record:
    """Return the record of a change of the account that is not ours."""
    return Record(kind="external", payload=asdict(external))


def read_external(payload: Mapping[str, Any]) -> External:
    """Return the change stored as `payload`."""
    return External(**payload)


def of_venue(risk: RiskState, at_ms: int, detail: str, *, pauses: bool = False) -> Record:
    """Return the record of what the venue takes from us now, as `risk` knows it. pauses: only a person resumes it."""
    payload = {"is_cut_off": risk.is_cut_off, "closed": sorted(risk.closed), "pauses": pauses}
    return Record(kind="venue", payload={**payload, "at_ms": at_ms, "detail": detail})


def of_drift(joint: float | None, limit: float, at_ms: int, *, is_beyond: bool) -> Record:
    """Return the record that the market crossed the drift limit, either way: `strategy.drift`.

    joint: None when it is not known any more, for another ensemble serves.
    """
    return Record(kind="drift", payload={"at_ms": at_ms, "joint": joint, "limit": limit, "is_beyond": is_beyond})


def of_gap(gap: Gap) -> Record:
    """Return the record of candles the venue does not have."""
    return Record(kind="gap", payload=asdict(gap))


def of_late(late: LateCandle) -> Record:
    """Return the record of a late copy that differs from the candle that was used."""
    candle, known = late.candle, late.known
    payload = {"symbol": candle.symbol, "open_ms": candle.open_ms}
    return Record(kind="late_candle", payload={**payload, "late": list(candle.values), "used": list(known.values)})
