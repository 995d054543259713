"""ccxt's dictionaries of orders, trades, balances and markets as our values; strict, since ccxt is not.

Pure. ccxt makes an order without an id out of a broken body, and an empty account out of an error page: whatever lacks
what it cannot be without raises Unusable, and no number is ever made up.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from daemon.venue import Balance, Market, Quote, Request, RequestKind, VenueOrder, VenueState, VenueTrade
from daemon.venue_errors import Unusable
from daemon.venue_ids import ClientIds
from daemon.venue_settings import instrument_of
from strategy.order import Side

_STATES: Mapping[str, VenueState] = {
    "open": VenueState.OPEN,
    "canceling": VenueState.OPEN,
    "PENDING_NEW": VenueState.OPEN,  # of Binance's order lists; ccxt hands it on as it is
    "closed": VenueState.FILLED,
    "canceled": VenueState.CANCELLED,
    "expired": VenueState.EXPIRED,
    "rejected": VenueState.REJECTED,
}
_EXACT = 1e-9  # quantities that differ by less, relatively, are the same number written twice


def order_of(raw: object, ids: ClientIds, *, symbol: str = "") -> VenueOrder:
    """Return an order that the venue shows. symbol: the one asked for, if one was. Raises Unusable."""
    row = _row(raw, "an order")
    quantity = _number(row, "amount", least=math.nextafter(0.0, 1.0))
    state = _STATES.get(str(row.get("status")))
    if state is None:
        raise Unusable(f"an order with status {row.get('status')!r}")
    filled = _number(row, "filled", default=0.0 if state is VenueState.OPEN else None)
    if state is VenueState.FILLED and filled < quantity * (1.0 - _EXACT):
        state = VenueState.CANCELLED  # "closed" of a venue that does not tell why
    venue_id, found = _text(row, "id"), _symbol(row, symbol)
    shown = str(row.get("clientOrderId") or "")
    client_id = ids.from_venue(shown) or ids.linked(found, venue_id)
    ids.link(found, venue_id, client_id)
    stop_price = _stop_price(row)
    return VenueOrder(
        venue_id=venue_id,
        client_id=client_id,
        symbol=found,
        side=_side(row),
        quantity=quantity,
        filled=min(filled, quantity) if filled <= quantity * (1.0 + _EXACT) else filled,
        state=state,
        at_ms=_time(row, "lastUpdateTimestamp", "lastTradeTimestamp", "timestamp"),
        is_stop=stop_price is not None,
        average=_average(row, filled),
        price=_positive(row.get("price")),
        stop_price=stop_price,
        foreign_id=shown,
    )


def placed_of(raw: object, request: Request, ids: ClientIds, *, now_ms: int) -> VenueOrder:
    """Return the order that the answer to `request` confirms; venues leave out all of it but the id.

    now_ms: stands in where the answer has no time. Raises Unusable when the answer has no id, or is of another order.
    """
    row = _row(raw, "the answer to an order")
    venue_id = _text(row, "id")
    shown = str(row.get("clientOrderId") or "")
    _agree(row.get("symbol"), request.symbol, "symbol")
    _agree(row.get("side"), request.side.value, "side")
    _agree(ids.from_venue(shown) if shown else None, request.client_id, "client order id")
    amount = _positive(row.get("amount"))
    if amount is not None and not math.isclose(amount, request.quantity, rel_tol=_EXACT):
        raise Unusable(f"an answer for {amount} to an order of {request.quantity}")
    ids.link(request.symbol, venue_id, request.client_id)
    filled = _positive(row.get("filled")) or 0.0
    return VenueOrder(
        venue_id=venue_id,
        client_id=request.client_id,
        symbol=request.symbol,
        side=request.side,
        quantity=request.quantity,
        filled=min(filled, request.quantity),
        state=_placed_state(row, filled, request.quantity),
        at_ms=_time(row, "lastUpdateTimestamp", "lastTradeTimestamp", "timestamp", default=now_ms),
        is_stop=request.kind is RequestKind.STOP,
        average=_average(row, filled),
        price=request.limit_price,
        stop_price=request.stop_price,
        foreign_id=shown or ids.to_venue(request.client_id),
    )


def _placed_state(row: Mapping[str, Any], filled: float, quantity: float) -> VenueState:
    # Unless the answer says otherwise, an order that was taken is open: it will be looked up.
    state = _STATES.get(str(row.get("status")), VenueState.OPEN)
    if state is VenueState.FILLED and filled < quantity * (1.0 - _EXACT):
        return VenueState.OPEN
    return state


def trade_of(raw: object, ids: ClientIds, *, symbol: str = "", needs_fee: bool = False) -> VenueTrade:
    """Return a trade of the account. needs_fee: refuse one whose fee is not told yet. Raises Unusable."""
    row = _row(raw, "a trade")
    found, venue_id = _symbol(row, symbol), _text(row, "order")
    fee_cost, fee_coin = _fee(row, found, needs_fee=needs_fee)
    shown = str(row.get("clientOrderId") or "")
    return VenueTrade(
        trade_id=_text(row, "id"),
        venue_id=venue_id,
        client_id=ids.from_venue(shown) or ids.linked(found, venue_id),
        symbol=found,
        side=_side(row),
        quantity=_number(row, "amount", least=math.nextafter(0.0, 1.0)),
        price=_number(row, "price", least=math.nextafter(0.0, 1.0)),
        fee_cost=fee_cost,
        fee_coin=fee_coin,
        at_ms=_time(row, "timestamp"),
    )


def _fee(row: Mapping[str, Any], symbol: str, *, needs_fee: bool) -> tuple[float, str]:
    """Return cost and coin; a rebate counts as nothing, a fee that is not told as nothing in quote."""
    told = [fee for fee in (row.get("fees") or [row.get("fee")]) if isinstance(fee, Mapping)]
    costs = [(_number(fee, "cost", least=-math.inf), str(fee.get("currency") or "")) for fee in told if "cost" in fee]
    if needs_fee and not costs:
        raise Unusable("a trade whose fee is not told")
    paid = [(cost, coin) for cost, coin in costs if cost > 0.0]
    if len({coin for _, coin in paid}) > 1:
        raise Unusable(f"a trade with fees in several coins: {paid}")
    if not paid:
        return 0.0, symbol.partition("/")[2]
    if not paid[0][1]:
        raise Unusable("a trade whose fee has no coin")
    return math.fsum(cost for cost, _ in paid), paid[0][1]


def balances_of(raw: object, coins: Iterable[str]) -> dict[str, Balance]:
    """Return what the account holds of every coin of which it holds something.

    coins: those that matter: a line of one of them that makes no sense raises Unusable, and so does an account without
    a single line; other lines that make none are left out.
    """
    row = _row(raw, "an account")
    total = row.get("total")
    if not isinstance(total, Mapping) or not total:
        raise Unusable("an account without a single coin")
    matter = frozenset(coins)
    found = {}
    for coin in total:
        try:
            balance = _balance(row, str(coin))
        except Unusable:
            if coin in matter:
                raise
            continue
        if balance.total > 0.0:
            found[str(coin)] = balance
    return found


def _balance(row: Mapping[str, Any], coin: str) -> Balance:
    parts = {name: (row.get(name) or {}).get(coin) for name in ("free", "used", "total")}
    known = {name: _finite(value) for name, value in parts.items() if value is not None}
    if any(value is None or value < 0.0 for value in known.values()) or len(known) < 2:  # noqa: PLR2004  # two give the third
        raise Unusable(f"an account with {parts} {coin}")
    free = known["free"] if "free" in known else known["total"] - known["used"]  # type: ignore[operator]
    used = known["used"] if "used" in known else known["total"] - known["free"]  # type: ignore[operator]
    if free is None or used is None or min(free, used) < 0.0:
        raise Unusable(f"an account with {parts} {coin}")
    return Balance(free=free, used=used)


def quote_of(raw: object) -> Quote:
    """Return the best prices of a ticker. Raises Unusable when it has none at all."""
    row = _row(raw, "a ticker")
    quote = Quote(bid=_positive(row.get("bid")), ask=_positive(row.get("ask")), last=_positive(row.get("last")))
    if quote.bid is None and quote.ask is None and quote.last is None:
        raise Unusable("a ticker without a price")
    return quote


def market_of(
    symbol: str, market: Mapping[str, Any], precision_mode: int, fees: tuple[float | None, float | None] = (None, None)
) -> Market:
    """Return what a venue allows in one symbol. fees: maker and taker. Raises ConfigError for steps that are none."""
    filters = _filters(market)
    limits = market.get("limits") or {}
    lowest, highest = _band(filters)
    largest = [_positive((limits.get("amount") or {}).get("max"))]
    largest += [_positive(filters.get(name, {}).get("maxQty")) for name in ("LOT_SIZE", "MARKET_LOT_SIZE")]
    return Market(
        instrument=instrument_of(symbol, market, precision_mode),
        is_active=market.get("active") is not False,
        lowest_price=lowest,
        highest_price=highest,
        max_quantity=min((value for value in largest if value is not None), default=None),
        min_quantity=_positive((limits.get("amount") or {}).get("min")),
        maker=fees[0],
        taker=fees[1],
    )


def _filters(market: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    info = market.get("info")
    rows = info.get("filters") if isinstance(info, Mapping) else None
    return {str(row.get("filterType")): row for row in rows or () if isinstance(row, Mapping)}


def _band(filters: Mapping[str, Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """Return the narrowest band that holds for both sides, as multiples of the price."""
    keys = {
        "PERCENT_PRICE": (("multiplierDown",), ("multiplierUp",)),
        "PERCENT_PRICE_BY_SIDE": (("bidMultiplierDown", "askMultiplierDown"), ("bidMultiplierUp", "askMultiplierUp")),
    }
    lows, highs = [], []
    for name, (down, up) in keys.items():
        row = filters.get(name, {})
        lows += [value for key in down if (value := _positive(row.get(key))) is not None]
        highs += [value for key in up if (value := _positive(row.get(key))) is not None]
    return max(lows, default=None), min(highs, default=None)


def fees_of(raw: object) -> tuple[float | None, float | None]:
    """Return maker and taker rate of a ccxt trading fee, None where it does not tell."""
    row = raw if isinstance(raw, Mapping) else {}
    maker, taker = _finite(row.get("maker")), _finite(row.get("taker"))
    return maker, taker


# ---- fields -----------------------------------------------------------------------------------------------------
def _row(raw: object, what: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise Unusable(f"{type(raw).__name__} where {what} was expected")
    return raw


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value):
        raise Unusable(f"{key} {value!r}, which names nothing")
    return str(value)


def _symbol(row: Mapping[str, Any], wanted: str) -> str:
    found = _text(row, "symbol")
    if wanted and found != wanted:
        raise Unusable(f"something of {found} when {wanted} was asked for")
    return found


def _side(row: Mapping[str, Any]) -> Side:
    try:
        return Side(str(row.get("side")))
    except ValueError:
        raise Unusable(f"side {row.get('side')!r}") from None


def _agree(found: object, wanted: str, what: str) -> None:
    if found is not None and found != wanted:
        raise Unusable(f"an answer with {what} {found!r} to an order with {wanted!r}")


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _positive(value: object) -> float | None:
    number = _finite(value)
    return number if number is not None and number > 0.0 else None


def _number(row: Mapping[str, Any], key: str, *, least: float = 0.0, default: float | None = None) -> float:
    value = row.get(key)
    number = default if value is None else _finite(value)
    if number is None or number < least:
        raise Unusable(f"{key} {value!r}, which cannot be")
    return number


def _time(row: Mapping[str, Any], *keys: str, default: int | None = None) -> int:
    for key in keys:
        if (value := _positive(row.get(key))) is not None:
            return int(value)
    if default is None:
        raise Unusable(f"no time under {', '.join(keys)}")
    return default


def _stop_price(row: Mapping[str, Any]) -> float | None:
    values = (_positive(row.get(key)) for key in ("stopLossPrice", "triggerPrice", "stopPrice"))
    return next((value for value in values if value is not None), None)


def _average(row: Mapping[str, Any], filled: float) -> float | None:
    if filled <= 0.0:
        return None
    average, cost = _positive(row.get("average")), _positive(row.get("cost"))
    if average is not None:
        return average
    return None if cost is None else cost / filled
