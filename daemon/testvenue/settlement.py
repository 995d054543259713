"""Coins change hands: what an order binds, what a trade moves, what it costs. Exact to the last digit."""

from collections.abc import Sequence
from decimal import Decimal

from daemon.testvenue.accounts import Account, FeeMode, House, fee_of
from daemon.testvenue.market import Market
from daemon.testvenue.matching import Match
from daemon.testvenue.orders import ZERO, BookOrder, Execution, OrderType, State
from strategy.order import Side


def reserve(account: Account, order: BookOrder, matches: Sequence[Match]) -> None:
    """Bind what `order` may need: all it sells, or what it may pay. Raises Refusal (FUNDS)."""
    amount = order.remaining if order.side is Side.SELL else _most_paid(order, matches) * _fee_factor(account)
    account.lock(order.reserve_asset, amount)
    order.reserve = amount


def reserve_again(account: Account, order: BookOrder, matches: Sequence[Match]) -> None:
    """Bind what `order` needs now that its price has come. Raises Refusal (FUNDS).

    Anew for a purchase at market, whose cost was a guess, and for the first time where stops bind nothing.
    """
    if order.side is Side.BUY and not order.type.has_limit:
        release(account, order)
        cost = sum((match.price * match.quantity for match in matches), ZERO) * _fee_factor(account)
        account.lock(order.reserve_asset, cost)
        order.reserve = cost
    elif not order.reserve:
        reserve(account, order, matches)


def release(account: Account, order: BookOrder) -> None:
    """Free what is still bound for `order`."""
    account.unlock(order.reserve_asset, order.reserve)
    order.reserve = ZERO


def settle(
    account: Account, house: House, market: Market, order: BookOrder, match: Match, *, is_maker: bool, trade_id: int,
    now_ms: int, lag_ms: int, coin_price: Decimal | None,
) -> Execution:  # fmt: skip
    """Carry one side of a trade through `account`, against the house, and return it as an execution."""
    value = match.price * match.quantity
    used = _used(account, order, match)
    account.unlock(order.reserve_asset, used)
    order.reserve -= used
    gained, paid = (match.quantity, -value) if order.side is Side.BUY else (-match.quantity, value)
    for asset, amount in ((market.base, gained), (market.quote, paid)):
        account.add(asset, amount)
        house.add(asset, -amount)
    fee = fee_of(
        account, side=order.side, base=market.base, quote=market.quote, quantity=match.quantity, price=match.price,
        is_maker=is_maker, coin_price=coin_price,
    )  # fmt: skip
    account.add(fee.asset, -fee.amount)
    house.add(fee.asset, fee.amount)
    order.filled += match.quantity
    order.spent += value
    order.updated_ms = now_ms
    order.state = State.FILLED if order.remaining == ZERO else State.PARTLY_FILLED
    execution = Execution(
        trade_id=trade_id, order_id=order.order_id, account=account.key, symbol=market.symbol, side=order.side,
        price=match.price, quantity=match.quantity, fee=fee.amount, fee_asset=fee.asset, is_maker=is_maker,
        at_ms=now_ms, visible_ms=now_ms + lag_ms, client_id=order.client_id,
    )  # fmt: skip
    order.executions.append(execution)
    return execution


def _most_paid(order: BookOrder, matches: Sequence[Match]) -> Decimal:
    if order.type is OrderType.MARKET:
        return sum((match.price * match.quantity for match in matches), ZERO)
    return order.remaining * (order.price if order.type.has_limit else order.stop_price)


def _used(account: Account, order: BookOrder, match: Match) -> Decimal:
    if order.side is Side.SELL:
        return match.quantity
    price = order.price if order.type.has_limit else match.price
    return match.quantity * price * _fee_factor(account)


def _fee_factor(account: Account) -> Decimal:
    # A purchase that pays its fee in quote has to bind the fee as well.
    return 1 + max(account.maker, account.taker) if account.fee_mode is FeeMode.QUOTE else Decimal(1)
