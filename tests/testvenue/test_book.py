"""The engine room against sums done by hand: who trades with whom, at which price, and what it costs."""

import itertools
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.testvenue.accounts import Account, FeeMode
from daemon.testvenue.events import BalancesChanged, Change, OrderChanged, Traded
from daemon.testvenue.market import Market, Status
from daemon.testvenue.orders import BookOrder, OrderType, Refusal, RefusalKind, State, TimeInForce
from strategy.order import Side
from tests.testvenue.venues import SECRET, SYMBOL, D, Hands, market

LIMIT, MARKET, POST, STOP, STOP_LIMIT = (
    OrderType.LIMIT, OrderType.MARKET, OrderType.POST_ONLY, OrderType.STOP, OrderType.STOP_LIMIT
)  # fmt: skip


def trades(order: BookOrder) -> list[tuple[Decimal, Decimal]]:
    return [(execution.price, execution.quantity) for execution in order.executions]


# ---- taking ---------------------------------------------------------------------------------------------------------
def test_a_market_order_walks_the_book_and_pays_its_fee_in_what_it_receives() -> None:
    hands = Hands()
    hands.account(USDT=2_000)
    order = hands.place("buy", MARKET, 15)
    assert order.state is State.FILLED
    assert trades(order) == [(D("100.01"), D(10)), (D("100.02"), D(5))]
    # 10 * 100.01 + 5 * 100.02 = 1500.20; a thousandth of 15 BTC stays with the house
    assert hands.held() == {"USDT": (D("499.80"), D(0)), "BTC": (D("14.985"), D(0))}


def test_a_market_order_into_a_thin_book_ends_expired_with_what_there_was() -> None:
    hands = Hands()
    hands.account(USDT=5_000)
    order = hands.place("buy", MARKET, 25)
    assert (order.state, order.filled) == (State.EXPIRED, D(20))
    # 10 * 100.01 + 10 * 100.02 = 2000.30, nothing stays bound
    assert hands.held()["USDT"] == (D("2999.70"), D(0))


def test_an_empty_book_refuses_a_market_order() -> None:
    hands = Hands()
    hands.account(USDT=100)
    hands.book.offer(SYMBOL, Side.SELL, [])
    with pytest.raises(Refusal) as caught:
        hands.place("buy", MARKET, 1)
    assert caught.value.kind is RefusalKind.NO_LIQUIDITY


def test_an_ioc_order_takes_up_to_its_limit_and_expires() -> None:
    hands = Hands()
    hands.account(USDT=5_000)
    order = hands.place("buy", LIMIT, 15, price="100.01", time_in_force=TimeInForce.IOC)
    assert (order.state, order.filled) == (State.EXPIRED, D(10))
    assert hands.held()["USDT"] == (D(5_000) - D("1000.10"), D(0))


def test_an_ioc_order_out_of_reach_expires_with_nothing() -> None:
    hands = Hands()
    hands.account(USDT=5_000)
    order = hands.place("buy", LIMIT, 1, price="100.00", time_in_force=TimeInForce.IOC)
    assert (order.state, order.filled) == (State.EXPIRED, D(0))
    assert hands.held() == {"USDT": (D(5_000), D(0))}


def test_a_fok_order_fills_whole_or_not_at_all() -> None:
    hands = Hands()
    hands.account(USDT=5_000)
    missed = hands.place("buy", LIMIT, 21, price="100.02", time_in_force=TimeInForce.FOK)
    assert (missed.state, missed.filled) == (State.EXPIRED, D(0))
    whole = hands.place("buy", LIMIT, 20, price="100.02", time_in_force=TimeInForce.FOK)
    assert (whole.state, whole.filled) == (State.FILLED, D(20))


def test_a_purchase_for_an_amount_of_quote_buys_whole_lots() -> None:
    hands = Hands()
    hands.account(USDT=5_000)
    order = hands.place("buy", MARKET, quote_quantity="500")
    # 500 / 100.01 = 4.99950004...: rounded down to the lot of 0.00001
    assert (order.state, order.filled, order.quantity) == (State.FILLED, D("4.9995"), D("4.9995"))
    assert hands.held()["USDT"][0] == D(5_000) - D("4.9995") * D("100.01")


def test_taking_again_finds_what_the_first_one_left() -> None:
    hands = Hands()
    hands.account(USDT=5_000)
    hands.place("buy", MARKET, 8)
    assert trades(hands.place("buy", MARKET, 4)) == [(D("100.01"), D(2)), (D("100.02"), D(2))]


# ---- resting --------------------------------------------------------------------------------------------------------
def test_a_resting_order_binds_its_coins_and_a_cancel_frees_them() -> None:
    hands = Hands()
    hands.account(USDT=1_000)
    order = hands.place("buy", LIMIT, 2, price=90)
    assert (order.state, hands.held()["USDT"]) == (State.NEW, (D(820), D(180)))
    hands.book.cancel("A", order, "request")
    assert (order.state, hands.held()["USDT"]) == (State.CANCELLED, (D(1_000), D(0)))


def test_a_better_price_than_the_limit_frees_the_difference() -> None:
    hands = Hands()
    hands.account(USDT=2_000)
    order = hands.place("buy", LIMIT, 12, price="100.01")
    assert (order.state, order.filled) == (State.PARTLY_FILLED, D(10))
    assert hands.held()["USDT"] == (D(2_000) - D("1200.12"), D("200.02"))


def test_price_comes_first_then_time() -> None:
    hands = Hands()
    for key in "ABC":
        hands.account(key, USDT=1_000)
    early = hands.place("buy", LIMIT, 1, price=90, key="A")
    late = hands.place("buy", LIMIT, 1, price=90, key="B")
    better = hands.place("buy", LIMIT, 1, price=91, key="C")
    hands.account("D", BTC=10)
    hands.book.offer(SYMBOL, Side.BUY, [])
    seller = hands.place("sell", MARKET, "2.5", key="D")
    assert trades(seller) == [(D(91), D(1)), (D(90), D(1)), (D(90), D("0.5"))]
    assert [order.filled for order in (better, early, late)] == [D(1), D(1), D("0.5")]


def test_an_account_stands_before_the_house_at_the_same_price() -> None:
    hands = Hands()
    hands.account("A", USDT=1_000)
    hands.account("B", BTC=10)
    resting = hands.place("buy", LIMIT, 1, price="99.99", key="A")
    hands.place("sell", MARKET, 1, key="B")
    assert resting.state is State.FILLED


def test_a_price_that_goes_through_an_order_fills_it_whole_and_one_at_it_only_so_far() -> None:
    hands = Hands()
    hands.account(USDT=1_000)
    through, at = hands.place("buy", LIMIT, 2, price=95), hands.place("buy", LIMIT, 2, price=94)
    hands.book.move(SYMBOL, D(94), D("0.5"))
    assert (through.filled, at.filled) == (D(2), D("0.5"))
    # resting orders trade at their own price: 2 * 95 + 0.5 * 94 = 237, and 1.5 * 94 = 141 stays bound
    assert hands.held()["USDT"] == (D(1_000) - D(237) - D(141), D(141))


def test_a_post_only_order_that_would_take_is_refused_and_binds_nothing() -> None:
    hands = Hands()
    hands.account(USDT=1_000)
    with pytest.raises(Refusal) as caught:
        hands.place("buy", POST, 1, price="100.01")
    assert caught.value.kind is RefusalKind.WOULD_TAKE
    assert hands.held() == {"USDT": (D(1_000), D(0))}
    assert hands.place("buy", POST, 1, price="100.00").state is State.NEW


def test_an_account_never_trades_with_itself() -> None:
    hands = Hands()
    hands.account(USDT=1_000, BTC=5)
    resting = hands.place("sell", LIMIT, 1, price="100.005".rstrip("5"))
    taker = hands.place("buy", MARKET, 1)
    assert resting.state is State.PREVENTED
    assert trades(taker) == [(D("100.01"), D(1))]
    assert hands.held()["BTC"] == (D(5) + D("0.999"), D(0))


def test_two_accounts_trade_with_each_other_coin_for_coin() -> None:
    hands = Hands()
    hands.account("A", BTC=1)
    hands.account("B", USDT=200)
    hands.place("sell", LIMIT, 1, price=100, key="A")
    hands.place("buy", MARKET, 1, key="B")
    assert hands.held("A") == {"BTC": (D(0), D(0)), "USDT": (D("99.9"), D(0))}
    assert hands.held("B") == {"USDT": (D(100), D(0)), "BTC": (D("0.999"), D(0))}
    assert hands.book.house.holdings["USDT"] == D("-200") + D("0.1")


# ---- stops ----------------------------------------------------------------------------------------------------------
def test_a_stop_binds_what_it_sells_and_sells_once_the_price_is_there() -> None:
    hands = Hands()
    hands.account(BTC=2)
    stop = hands.place("sell", STOP, 2, stop_price=95)
    assert (stop.is_working, hands.held()["BTC"]) == (False, (D(0), D(2)))
    hands.book.move(SYMBOL, D("95.01"))
    assert stop.state is State.NEW
    hands.book.move(SYMBOL, D("94"))
    assert stop.state is State.FILLED
    # the house bids 94 less half of 0.0002 of it: 93.99 on the grid
    assert trades(stop) == [(D("93.99"), D(2))]


def test_a_stop_limit_rests_when_the_price_has_run_past_its_limit() -> None:
    hands = Hands()
    hands.account(BTC=2)
    stop = hands.place("sell", STOP_LIMIT, 2, stop_price=95, price="94.5")
    hands.book.move(SYMBOL, D(90))
    assert (stop.state, stop.is_working, stop.filled) == (State.NEW, True, D(0))
    hands.book.move(SYMBOL, D("94.5"))
    assert (stop.state, trades(stop)) == (State.FILLED, [(D("94.5"), D(2))])


def test_a_stop_whose_price_is_passed_is_refused() -> None:
    hands = Hands()
    hands.account(BTC=2)
    with pytest.raises(Refusal) as caught:
        hands.place("sell", STOP, 2, stop_price=100)
    assert caught.value.kind is RefusalKind.WOULD_TRIGGER


def test_a_take_profit_waits_for_the_price_to_rise() -> None:
    hands = Hands()
    hands.account(BTC=2)
    order = hands.place("sell", OrderType.TAKE_PROFIT, 2, stop_price=110)
    hands.book.move(SYMBOL, D(90))
    assert order.state is State.NEW
    hands.book.move(SYMBOL, D(111))
    assert order.state is State.FILLED


def test_a_sale_that_moves_the_price_triggers_the_stop_below_it() -> None:
    hands = Hands()
    hands.account("A", BTC=1)
    hands.account("B", BTC=15)
    stop = hands.place("sell", STOP, 1, stop_price="99.98", key="A")
    hands.place("sell", MARKET, 15, key="B")
    assert (stop.state, trades(stop)) == (State.FILLED, [(D("99.98"), D(1))])


# ---- fees -----------------------------------------------------------------------------------------------------------
def test_fees_in_quote_leave_the_base_whole() -> None:
    hands = Hands()
    hands.account(fee_mode=FeeMode.QUOTE, USDT=1_000)
    hands.place("buy", MARKET, 1)
    # 100.01 and a thousandth of it, rounded down to eight places: 0.10001
    assert hands.held() == {"USDT": (D("899.88999"), D(0)), "BTC": (D(1), D(0))}


def test_fees_in_a_third_coin_cost_three_quarters_and_fall_back_when_it_is_used_up() -> None:
    hands = Hands(market(), Market(base="BNB", quote="USDT", last=D(300)))
    hands.account(fee_mode=FeeMode.COIN, USDT=10_000, BNB="0.0003")
    first = hands.place("buy", MARKET, 1)
    # 100.01 * 0.001 * 0.75 / 300 = 0.000250025, rounded down
    assert (first.executions[0].fee, first.executions[0].fee_asset) == (D("0.00025002"), "BNB")
    second = hands.place("buy", MARKET, 1)
    assert (second.executions[0].fee, second.executions[0].fee_asset) == (D("0.001"), "BTC")


def test_the_side_that_rested_pays_the_maker_fee() -> None:
    hands = Hands()
    account = Account(key="A", secret=SECRET, maker=D("0.0002"), taker=D("0.001"))
    hands.book.open_account(account, {"USDT": D(1_000)})
    order = hands.place("buy", LIMIT, 1, price=99)
    hands.book.move(SYMBOL, D(98))
    assert (order.executions[0].fee, order.executions[0].is_maker) == (D("0.0002"), True)


# ---- refusals -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("order", "kind"),
    [
        ({"side": "buy", "type_": LIMIT, "quantity": 100, "price": 90}, RefusalKind.FUNDS),
        ({"side": "sell", "type_": MARKET, "quantity": 1}, RefusalKind.FUNDS),
        ({"side": "buy", "type_": LIMIT, "quantity": "0.1", "price": "90.001"}, RefusalKind.PRICE),
        ({"side": "buy", "type_": LIMIT, "quantity": "0.100001", "price": "90"}, RefusalKind.QUANTITY),
        ({"side": "buy", "type_": LIMIT, "quantity": "0.05", "price": "90"}, RefusalKind.VALUE),
        ({"side": "buy", "type_": LIMIT, "quantity": "1", "price": "600"}, RefusalKind.PRICE_BAND),
        ({"side": "buy", "type_": MARKET, "quantity": "1001"}, RefusalKind.MARKET_QUANTITY),
    ],
    ids=lambda value: str(value) if isinstance(value, RefusalKind) else "",
)
def test_what_cannot_be_is_refused_and_changes_nothing(order: dict[str, Any], kind: RefusalKind) -> None:
    hands = Hands()
    hands.account(USDT=1_000)
    told = len(hands.events)
    with pytest.raises(Refusal) as caught:
        hands.place(**order)
    assert caught.value.kind is kind
    assert hands.held()["USDT"] == (D(1_000), D(0))
    assert len(hands.events) == told


def test_a_client_id_is_taken_while_its_order_is_open_and_free_again_afterwards() -> None:
    hands = Hands()
    hands.account(USDT=1_000)
    first = hands.place("buy", LIMIT, 1, price=90, client_id="id")
    with pytest.raises(Refusal) as caught:
        hands.place("buy", LIMIT, 1, price=91, client_id="id")
    assert caught.value.kind is RefusalKind.DUPLICATE
    hands.book.cancel("A", first)
    second = hands.place("buy", MARKET, 1, client_id="id")
    third = hands.place("buy", MARKET, 1, client_id="id")
    assert second.state is third.state is State.FILLED
    assert hands.book.find("A", symbol=SYMBOL, client_id="id") is third


def test_a_cancel_that_comes_after_the_fill_is_refused() -> None:
    hands = Hands()
    hands.account(USDT=1_000)
    order = hands.place("buy", LIMIT, 1, price=90)
    hands.book.move(SYMBOL, D(89))
    with pytest.raises(Refusal) as caught:
        hands.book.cancel("A", order)
    assert (caught.value.kind, order.state) == (RefusalKind.NO_SUCH_ORDER, State.FILLED)


def test_a_market_that_pauses_takes_no_orders_but_lets_one_cancel() -> None:
    hands = Hands()
    hands.account(USDT=1_000)
    order = hands.place("buy", LIMIT, 1, price=90)
    hands.book.markets[SYMBOL].status = Status.BREAK
    with pytest.raises(Refusal) as caught:
        hands.place("buy", LIMIT, 1, price=90)
    assert caught.value.kind is RefusalKind.CLOSED
    hands.book.cancel("A", order)
    assert order.state is State.CANCELLED


def test_too_many_open_orders_and_stops_are_refused() -> None:
    hands = Hands(max_orders=3, max_stops=1)
    hands.account(USDT=1_000, BTC=3)
    hands.place("sell", STOP, 1, stop_price=95)
    with pytest.raises(Refusal) as caught:
        hands.place("sell", STOP, 1, stop_price=94)
    assert caught.value.kind is RefusalKind.TOO_MANY_STOPS
    for _ in range(2):
        hands.place("buy", LIMIT, 1, price=90)
    with pytest.raises(Refusal) as caught:
        hands.place("buy", LIMIT, 1, price=90)
    assert caught.value.kind is RefusalKind.TOO_MANY_ORDERS


# ---- what is told, and what lookups show ----------------------------------------------------------------------------
def test_an_order_is_told_as_accepted_before_it_trades_and_balances_come_last() -> None:
    hands = Hands()
    hands.account(USDT=5_000)
    hands.events.clear()
    hands.place("buy", MARKET, 15)
    told = [
        event.change if isinstance(event, OrderChanged) else type(event)
        for event in hands.events
        if isinstance(event, OrderChanged | BalancesChanged | Traded)
    ]
    assert told == [Change.ACCEPTED, Traded, Change.TRADED, Traded, Change.TRADED, BalancesChanged]
    fills = [event.order.filled for event in hands.events if isinstance(event, OrderChanged)]
    assert fills == [D(0), D(10), D(15)]


def test_lookups_show_an_order_only_after_the_lag() -> None:
    hands = Hands()
    hands.account(USDT=1_000)
    hands.book.lag_ms = 500
    order = hands.place("buy", MARKET, 1, client_id="id")
    hands.now_ms += 499
    assert hands.book.find("A", symbol=SYMBOL, client_id="id") is None
    assert hands.book.executions_of("A") == []
    hands.now_ms += 1
    assert hands.book.find("A", symbol=SYMBOL, client_id="id") is order
    assert hands.book.executions_of("A") == order.executions


def test_one_account_sees_nothing_of_another() -> None:
    hands = Hands()
    hands.account("A", USDT=1_000)
    hands.account("B", USDT=1_000)
    order = hands.place("buy", LIMIT, 1, price=90, key="A")
    assert hands.book.orders_of("B") == []
    with pytest.raises(Refusal):
        hands.book.cancel("B", order)


# ---- coins are neither made nor lost --------------------------------------------------------------------------------
STEPS = st.tuples(
    st.sampled_from("AB"),
    st.sampled_from(["buy", "sell"]),
    st.sampled_from([MARKET, LIMIT, POST, STOP, STOP_LIMIT, OrderType.TAKE_PROFIT]),
    st.integers(1, 1_500),
    st.integers(9_500, 10_500),
    st.integers(9_500, 10_500),
    st.sampled_from(list(TimeInForce)),
    st.sampled_from(["order", "order", "order", "move", "cancel", "deposit"]),
)


@given(st.lists(STEPS, max_size=30), st.sampled_from(list(FeeMode)))
def test_no_sequence_of_orders_makes_or_loses_a_coin(steps: list[Any], fee_mode: FeeMode) -> None:
    hands = Hands(market(max_stops=0), Market(base="BNB", quote="USDT", last=D(300)))
    for key in "AB":
        hands.account(key, fee_mode, USDT=2_000, BTC=20, BNB="0.01")
    for step in steps:
        _do(hands, step)
        _check_books(hands)


def _do(hands: Hands, step: tuple[Any, ...]) -> None:
    key, side, order_type, quantity, price, stop_price, in_force, what = step
    amount, cents = D(quantity) / 100, D(price) / 100
    if what == "move":
        hands.book.move(SYMBOL, cents, amount)
    elif what == "deposit":
        hands.book.transfer(key, "USDT", amount)
    elif what == "cancel":
        for order in [order for order in hands.book.orders_of(key) if order.is_open][:1]:
            hands.book.cancel(key, order)
    else:
        values: dict[str, Any] = {"price": cents} if order_type.has_limit else {}
        values |= {"stop_price": D(stop_price) / 100} if order_type.is_conditional else {}
        try:
            hands.place(side, order_type, amount, key=key, time_in_force=in_force, **values)
        except Refusal:
            return


def _check_books(hands: Hands) -> None:
    for asset in ("USDT", "BTC", "BNB"):
        assert hands.book.total(asset) == 0
    for account, asset in itertools.product(hands.book.accounts.values(), ("USDT", "BTC", "BNB")):
        bound = sum(
            (order.reserve for order in hands.book.orders.values()
             if order.account == account.key and order.reserve_asset == asset), D(0)
        )  # fmt: skip
        assert account.holding(asset).locked == bound
        assert account.holding(asset).free >= 0
    for order in hands.book.orders.values():
        assert order.filled == sum((execution.quantity for execution in order.executions), D(0)) <= order.quantity
        assert order.is_open or order.reserve == 0
        for execution in order.executions:
            assert (
                not order.price
                or (execution.price <= order.price) == (order.side is Side.BUY)
                or (execution.price == order.price)
            )
