"""The venue's own log: everything that was asked and everything that happened, in order; never a key or a signature.

Each record is a JSON object with `seq`, `at_ms`, `kind` and what that kind says. Kinds: `account`, `request`, `order`
(accepted), `fill`, `order_end`, `balances`, `transfer`, `fault`, `control`, `note`. `audit_checks.py` reads them.
"""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from daemon.testvenue.events import BalancesChanged, Change, Event, KeyRevoked, OrderChanged, Transferred

Audited = dict[str, Any]


class Audit:
    """An append-only log in memory, and in a JSONL file when there is a path. name_of: key -> the account's name."""

    def __init__(self, *, now_ms: Callable[[], int], name_of: Callable[[str], str], path: Path | None = None) -> None:
        self.records: list[Audited] = []
        self._now_ms = now_ms
        self._name_of = name_of
        self._file: TextIO | None = None if path is None else path.open("a", encoding="utf-8")

    def write(self, kind: str, **values: Any) -> None:  # noqa: ANN401  # JSON, and Decimals, which become text
        """Append one record."""
        record = {"seq": len(self.records) + 1, "at_ms": self._now_ms(), "kind": kind, **_plain(values)}
        self.records.append(record)
        if self._file is not None:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()

    def hear(self, event: Event) -> None:
        """Append what the engine room tells, as far as it concerns accounts."""
        match event:
            case OrderChanged():
                self._hear_order(event)
            case BalancesChanged():
                held = {coin: [str(free), str(locked)] for coin, (free, locked) in event.balances.items()}
                self.write("balances", account=self._name_of(event.account), held=held)
            case Transferred():
                self.write("transfer", account=self._name_of(event.account), asset=event.asset, delta=event.delta)
            case KeyRevoked():
                self.write("note", account=self._name_of(event.account), text="key revoked")

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _hear_order(self, event: OrderChanged) -> None:
        order, trade = event.order, event.execution
        common = {
            "account": self._name_of(order.account), "order_id": order.order_id, "client_id": order.client_id,
            "symbol": order.symbol, "side": order.side.value, "type": order.type.value, "is_api": order.is_api,
        }  # fmt: skip
        if event.change is Change.ACCEPTED:
            self.write(
                "order", **common, time_in_force=order.time_in_force.value, quantity=order.quantity, price=order.price,
                stop_price=order.stop_price, quote_quantity=order.quote_quantity, is_stop=order.type.is_conditional,
            )  # fmt: skip
        if trade is not None:
            self.write(
                "fill", **common, trade_id=trade.trade_id, quantity=trade.quantity, price=trade.price, fee=trade.fee,
                fee_asset=trade.fee_asset, is_maker=trade.is_maker,
            )  # fmt: skip
        if not order.is_open:
            self.write("order_end", **common, state=order.state.value, filled=order.filled, detail=order.detail)


def _plain(value: Any) -> Any:  # noqa: ANN401  # any JSON
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
