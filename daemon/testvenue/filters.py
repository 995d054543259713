"""What a market allows in an order: steps, limits, price band; every rule may be changed while the venue runs."""

from dataclasses import dataclass
from decimal import Decimal

from daemon.testvenue.orders import ZERO, NewOrder, OrderType, Refusal, RefusalKind
from strategy.order import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of one market. Prices quote per base, quantities base, values quote; 0 switches a rule off.

    bid_up .. ask_down: the band of limit prices, as multiples of the last price, per side.
    market_lot: quantity step of market orders, where it differs.  max_orders: open orders per account, stops included.
    """

    tick: Decimal = Decimal("0.01")
    min_price: Decimal = Decimal("0.01")
    max_price: Decimal = Decimal(1_000_000)
    lot: Decimal = Decimal("0.00001")
    min_quantity: Decimal = Decimal("0.00001")
    max_quantity: Decimal = Decimal(9_000)
    market_lot: Decimal = ZERO
    market_min_quantity: Decimal = ZERO
    market_max_quantity: Decimal = Decimal(1_000)
    min_value: Decimal = Decimal(5)
    max_value: Decimal = Decimal(9_000_000)
    bid_up: Decimal = Decimal(5)
    bid_down: Decimal = Decimal("0.2")
    ask_up: Decimal = Decimal(5)
    ask_down: Decimal = Decimal("0.2")
    max_orders: int = 200
    max_stops: int = 5

    def floor(self, quantity: Decimal) -> Decimal:
        """Return the largest multiple of the lot that is not above `quantity`."""
        return quantity - quantity % self.lot if self.lot else quantity


def check(order: NewOrder, rules: Rules, last: Decimal, *, open_orders: int, open_stops: int) -> None:
    """Raise Refusal when `order` breaks a rule. last: of a trade, from which the band and market values are counted.

    open_orders, open_stops: what the account has open in this market already.
    """
    for name, price in (("price", order.price), ("stop price", order.stop_price)):
        if price:
            _check_steps(price, (rules.min_price, rules.max_price, rules.tick), RefusalKind.PRICE, name)
    if order.type.has_limit:
        _check_band(order, rules, last)
    if order.quantity:
        _check_quantity(order, rules)
    _check_value(order, rules, last)
    if rules.max_orders and open_orders >= rules.max_orders:
        raise Refusal(RefusalKind.TOO_MANY_ORDERS, f"{open_orders} orders open, {rules.max_orders} allowed")
    if order.type.is_conditional and rules.max_stops and open_stops >= rules.max_stops:
        raise Refusal(RefusalKind.TOO_MANY_STOPS, f"{open_stops} stops open, {rules.max_stops} allowed")


def _check_quantity(order: NewOrder, rules: Rules) -> None:
    steps = (rules.min_quantity, rules.max_quantity, rules.lot)
    _check_steps(order.quantity, steps, RefusalKind.QUANTITY, "quantity")
    if order.type is OrderType.MARKET:
        steps = (rules.market_min_quantity, rules.market_max_quantity, rules.market_lot)
        _check_steps(order.quantity, steps, RefusalKind.MARKET_QUANTITY, "quantity")


def _check_steps(value: Decimal, allowed: tuple[Decimal, Decimal, Decimal], kind: RefusalKind, name: str) -> None:
    low, high, step = allowed
    if value < low or (high and value > high):
        raise Refusal(kind, f"{name} {value} is not within {low} .. {high}")
    if step and value % step:
        raise Refusal(kind, f"{name} {value} is not a multiple of {step}")


def _check_band(order: NewOrder, rules: Rules, last: Decimal) -> None:
    buys = order.side is Side.BUY
    down, up = (rules.bid_down, rules.bid_up) if buys else (rules.ask_down, rules.ask_up)
    if (up and order.price > last * up) or order.price < last * down:
        raise Refusal(RefusalKind.PRICE_BAND, f"price {order.price} is not within {last * down} .. {last * up}")


def _check_value(order: NewOrder, rules: Rules, last: Decimal) -> None:
    price = order.price or order.stop_price or last
    value = order.quote_quantity or order.quantity * price
    if value < rules.min_value or (rules.max_value and value > rules.max_value):
        raise Refusal(RefusalKind.VALUE, f"value {value} is not within {rules.min_value} .. {rules.max_value}")
