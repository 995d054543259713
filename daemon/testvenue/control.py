"""Control commands: what a script asks of the venue over `POST /_control`, as JSON `{"do": "...", ...}`.

`COMMANDS` names them all; each is a function of the venue and its own keyword arguments, so that a wrong or missing
argument is refused by name. Numbers are best written as text, which keeps them exact.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from daemon.testvenue.accounts import FeeMode
from daemon.testvenue.audit_checks import naked_seconds
from daemon.testvenue.faults import Fault
from daemon.testvenue.market import Market
from daemon.testvenue.orders import BookOrder, NewOrder, OrderType, Refusal, State, TimeInForce
from daemon.testvenue.script import exact
from strategy.order import Side

if TYPE_CHECKING:
    from daemon.testvenue.server import TestVenue

Json = dict[str, Any]


def run(venue: "TestVenue", command: Mapping[str, Any]) -> Json:
    """Run one command and return its answer. Raises ValueError saying what is wrong and what would do."""
    if not isinstance(command, Mapping) or "do" not in command:
        raise ValueError('a command is an object such as {"do": "trade", "symbol": "BTC/USDT", "price": "100"}')
    values = {name: value for name, value in command.items() if name != "do"}
    function = COMMANDS.get(command["do"])
    if function is None:
        raise ValueError(f"no command {command['do']!r}; there are {', '.join(sorted(COMMANDS))}")
    try:
        inspect.signature(function).bind(venue, **values)
    except TypeError as error:
        raise ValueError(f"command {command['do']!r}: {error}") from None
    try:
        return function(venue, **values) or {}
    except Refusal as refusal:
        raise ValueError(f"command {command['do']!r}: {refusal}") from None


def without_secrets(command: Mapping[str, Any]) -> Json:
    """Return a command as it may be logged."""
    return {name: "***" if name in {"secret", "key"} else value for name, value in command.items()}


# ---- the market -----------------------------------------------------------------------------------------------------
def _trade(venue: "TestVenue", *, symbol: str, price: str, quantity: str | None = None) -> None:
    venue.market(symbol).trade(price, quantity)


def _offer(venue: "TestVenue", *, symbol: str, bids: Sequence[Any] = (), asks: Sequence[Any] = ()) -> None:
    venue.market(symbol).offer(bids=[tuple(level) for level in bids], asks=[tuple(level) for level in asks])


def _history(venue: "TestVenue", *, symbol: str, rows: Sequence[Any]) -> None:
    venue.market(symbol).history([tuple(row) for row in rows])


def _liquidity(venue: "TestVenue", *, symbol: str, **values: Any) -> None:  # noqa: ANN401  # numbers, as text or not
    venue.market(symbol).set_liquidity(**values)


def _rules(venue: "TestVenue", *, symbol: str, **values: Any) -> None:  # noqa: ANN401  # numbers, as text or not
    venue.market(symbol).set_rules(**values)


def _status(venue: "TestVenue", *, symbol: str, status: str) -> None:
    venue.market(symbol).set_status(status)


def _list(venue: "TestVenue", *, symbol: str, price: str) -> None:
    base, _, quote = symbol.partition("/")
    span_ms = next(iter(venue.book.markets.values())).span_ms
    venue.book.markets[symbol] = Market(base=base, quote=quote, last=exact(price), span_ms=span_ms)


# ---- accounts -------------------------------------------------------------------------------------------------------
def _account(venue: "TestVenue", *, key: str, secret: str, balances: Mapping[str, str], **settings: Any) -> Json:  # noqa: ANN401
    if "fee_mode" in settings:
        settings["fee_mode"] = FeeMode(settings["fee_mode"])
    return {"account": venue.add_account(key, secret, balances, **settings).name}


def _transfer(venue: "TestVenue", *, account: str, asset: str, delta: str) -> None:
    venue.book.transfer(venue.account(account).key, asset, exact(delta))


def _order(
    venue: "TestVenue", *, account: str, symbol: str, side: str, type: str = "market", quantity: str = "0",  # noqa: A002
    price: str = "0", stop_price: str = "0", client_id: str = "", time_in_force: str = "gtc",
) -> Json:  # fmt: skip
    new = NewOrder(
        symbol=symbol, side=Side(side), type=OrderType(type), quantity=exact(quantity), price=exact(price),
        stop_price=exact(stop_price), client_id=client_id, time_in_force=TimeInForce(time_in_force), is_api=False,
    )  # fmt: skip
    return _shown(venue.book.place(venue.account(account).key, new))


def _end(venue: "TestVenue", *, account: str, client_id: str = "", order_id: int = 0, state: str = "expired") -> Json:
    order = _open_order(venue, account, client_id, order_id)
    venue.book.end(order, State(state))
    return _shown(order)


def _fill(venue: "TestVenue", *, account: str, client_id: str, quantity: str) -> Json:
    order = _open_order(venue, account, client_id, 0)
    if not order.is_working or not order.price:
        raise ValueError(f"order {client_id!r} does not rest at a price: use trade")
    market = venue.book.markets[order.symbol]
    venue.book.meet(market, order, exact(quantity))
    return _shown(order)


def _rights(venue: "TestVenue", *, account: str, **rights: bool) -> None:
    owner = venue.account(account)
    for name, value in rights.items():
        if name not in type(owner.rights).__dataclass_fields__:
            raise ValueError(f"no right {name!r}; there are {', '.join(type(owner.rights).__dataclass_fields__)}")
        setattr(owner.rights, name, bool(value))
    if owner.rights.is_revoked:
        venue.book.revoke(owner.key)


def _fees(
    venue: "TestVenue", *, account: str, mode: str | None = None, maker: str | None = None, taker: str | None = None
) -> None:
    owner = venue.account(account)
    owner.fee_mode = owner.fee_mode if mode is None else FeeMode(mode)
    owner.maker = owner.maker if maker is None else exact(maker)
    owner.taker = owner.taker if taker is None else exact(taker)


# ---- the venue ------------------------------------------------------------------------------------------------------
def _fault(venue: "TestVenue", **values: Any) -> Json:  # noqa: ANN401  # `Fault.from_json` checks them
    return {"number": venue.faults.add(Fault.from_json(values))}


def _clear_faults(venue: "TestVenue", *, number: int | None = None) -> None:
    venue.faults.clear(number)


def _maintenance(venue: "TestVenue", *, is_down: bool) -> None:
    venue.set_maintenance(is_down)


def _cut(venue: "TestVenue") -> None:
    venue.shut()


def _clock(venue: "TestVenue", *, shift_ms: int) -> None:
    venue.time.shift_ms = int(shift_ms)


def _pin(venue: "TestVenue", *, now_ms: int | None) -> None:
    venue.time.pinned_ms = now_ms


def _lag(venue: "TestVenue", *, lag_ms: int) -> None:
    venue.book.lag_ms = int(lag_ms)


def _weight(venue: "TestVenue", *, per_minute: int) -> None:
    venue.weight_per_minute = int(per_minute)


# ---- what can be asked ----------------------------------------------------------------------------------------------
def _state(venue: "TestVenue") -> Json:
    book = venue.book
    accounts = {
        account.name: {asset: [str(one.free), str(one.locked)] for asset, one in sorted(account.holdings.items())}
        for account in book.accounts.values()
    }
    prices = {symbol: str(market.last) for symbol, market in book.markets.items()}
    opened = [_shown(order) for market in book.markets.values() for order in (*market.resting, *market.waiting)]
    now = venue.time.now_ms()
    return {"now_ms": now, "accounts": accounts, "prices": prices, "open_orders": opened, "is_down": venue.is_down}


def _audit(venue: "TestVenue", *, after: int = 0, kind: str = "") -> Json:
    return {"records": [record for record in venue.audit.records[after:] if kind in {"", record["kind"]}]}


def _naked(venue: "TestVenue", *, symbol: str, account: str = "") -> Json:
    rules = venue.book.market(symbol).rules
    seconds = naked_seconds(
        venue.audit.records, symbol, lot=rules.lot, min_value=rules.min_value, until_ms=venue.time.now_ms(),
        account=account,
    )  # fmt: skip
    return {"seconds": seconds}


def _open_order(venue: "TestVenue", account: str, client_id: str, order_id: int) -> BookOrder:
    key = venue.account(account).key
    for order in venue.book.orders.values():
        if order.account == key and order.is_open and (order.client_id == client_id or order.order_id == order_id):
            return order
    raise ValueError(f"account {account!r} has no open order {client_id or order_id}")


def _shown(order: BookOrder) -> Json:
    values = {name: value for name, value in asdict(order).items() if name not in {"account", "executions"}}
    return {name: format(value, "f") if isinstance(value, Decimal) else value for name, value in values.items()}


COMMANDS: Mapping[str, Callable[..., Json | None]] = {
    "trade": _trade, "offer": _offer, "history": _history, "liquidity": _liquidity, "rules": _rules, "status": _status,
    "list": _list, "account": _account, "transfer": _transfer, "order": _order, "end": _end, "fill": _fill,
    "rights": _rights, "fees": _fees, "fault": _fault, "clear_faults": _clear_faults, "maintenance": _maintenance,
    "cut": _cut, "clock": _clock, "pin": _pin, "lag": _lag, "weight": _weight, "state": _state, "audit": _audit,
    "naked": _naked,
}  # fmt: skip
