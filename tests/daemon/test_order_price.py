from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.live_settings import EntryStyle, OrderStyle
from daemon.order_price import Unfit, request_for, stop_for, whole_lots, within_balance
from daemon.venue import Market, Quote, Request, RequestKind
from strategy.instrument import Instrument
from strategy.order import Order, OrderKind, Side
from tests.fakes.live import instrument, settings
from tests.fakes.trading import BTC

MARKET = Market(instrument=instrument())
QUOTE = Quote(bid=99.99, ask=100.01, last=100.0)


def order(
    side: Side = Side.BUY, quantity: float = 1.0, reference: float = 100.0, *, reduces: bool | None = None
) -> Order:
    return Order(
        client_id="s-1",
        symbol=BTC,
        side=side,
        quantity=quantity,
        reference_price=reference,
        decided_ms=0,
        reason="voted",
        reduces=side is Side.SELL if reduces is None else reduces,
    )


def stop(quantity: float = 1.0, price: float = 95.0) -> Order:
    return replace(order(Side.SELL, quantity), kind=OrderKind.STOP, stop_price=price)


def sent(made: Request | Unfit) -> Request:
    assert isinstance(made, Request), made
    return made


def test_a_purchase_may_pay_the_collar_above_where_it_was_decided() -> None:
    made = sent(request_for(order(), 1.0, QUOTE, MARKET, settings(collar=0.005), funds=1e6))
    assert (made.kind, made.limit_price) == (RequestKind.LIMIT_IOC, 100.5)


def test_a_purchase_that_became_too_dear_is_left_alone() -> None:
    dear = Quote(bid=100.5, ask=100.51, last=100.5)
    assert request_for(order(), 1.0, dear, MARKET, settings(collar=0.005), funds=1e6) == Unfit(
        detail="price has left the collar: 100.51, decided at 100.00, 0.50% allowed"
    )


@pytest.mark.parametrize("bid", [200.0, 99.0, 50.0, 10.0])
def test_an_exit_leaves_at_whatever_is_bid(bid: float) -> None:
    made = sent(
        request_for(
            order(Side.SELL), 1.0, Quote(bid=bid, ask=None, last=None), MARKET, settings(collar=0.005), funds=1e6
        )
    )
    assert made.limit_price == pytest.approx(bid * 0.995, abs=0.01)
    assert made.limit_price <= bid


def test_an_exit_leaves_even_when_nobody_bids() -> None:
    made = sent(request_for(order(Side.SELL), 1.0, Quote(bid=None, ask=None, last=None), MARKET, settings(), funds=1e6))
    assert made.limit_price == 99.5


def test_a_sale_that_need_not_happen_keeps_to_its_collar() -> None:
    low = Quote(bid=99.0, ask=99.1, last=99.0)
    assert isinstance(
        request_for(order(Side.SELL, reduces=False), 1.0, low, MARKET, settings(collar=0.005), funds=1e6), Unfit
    )


def test_the_venues_price_band_is_kept() -> None:
    band = replace(MARKET, lowest_price=0.999, highest_price=1.001)
    assert sent(request_for(order(), 1.0, QUOTE, band, settings(collar=0.01), funds=1e6)).limit_price == 100.1
    assert sent(request_for(order(Side.SELL), 1.0, QUOTE, band, settings(collar=0.01), funds=1e6)).limit_price == 99.9


def test_a_market_order_has_no_price_and_a_maker_rests_at_the_bid() -> None:
    taken = sent(request_for(order(), 1.0, QUOTE, MARKET, settings(order=OrderStyle.MARKET), funds=1e6))
    assert (taken.kind, taken.limit_price) == (RequestKind.MARKET, None)
    made = sent(request_for(order(), 1.0, QUOTE, MARKET, settings(entry=EntryStyle.MAKER), funds=1e6))
    assert (made.kind, made.limit_price) == (RequestKind.POST_ONLY, 99.99)
    exit_ = sent(request_for(order(Side.SELL), 1.0, QUOTE, MARKET, settings(entry=EntryStyle.MAKER), funds=1e6))
    assert exit_.kind is RequestKind.LIMIT_IOC


@pytest.mark.parametrize(
    ("quantity", "why"), [(0.0004, "less than one lot"), (0.04, "value 4.0200 USDT below the minimum of 5.0000")]
)
def test_what_is_too_small_stays(quantity: float, why: str) -> None:
    made = request_for(order(quantity=quantity), quantity, QUOTE, MARKET, settings(), funds=1e6)
    assert isinstance(made, Unfit)
    assert why in made.detail


def test_less_than_the_smallest_order_stays_where_that_is_more_than_a_lot() -> None:
    market = replace(MARKET, min_quantity=0.5)
    made = request_for(order(), 0.499, QUOTE, market, settings(), funds=1e6)
    assert made == Unfit(detail="0.499 BTC below the minimum of 0.5")
    assert sent(request_for(order(), 0.5, QUOTE, market, settings(), funds=1e6)).quantity == 0.5
    assert isinstance(stop_for(stop(), 0.499, market, settings(), has_market_stop=True), Unfit)


def test_a_market_purchase_is_valued_at_the_present_price_as_the_venue_does() -> None:
    # 0.0499 at the 100.5 that the collar allows is 5.01, at the 100 of now 4.99: below the minimum of 5.
    market = replace(MARKET, instrument=Instrument(symbol=BTC, tick=0.01, lot=0.0001, min_notional=5.0))
    takes = settings(order=OrderStyle.MARKET, collar=0.005)
    assert isinstance(request_for(order(), 0.0499, QUOTE, market, takes, funds=1e6), Unfit)
    assert sent(request_for(order(), 0.0501, QUOTE, market, takes, funds=1e6)).limit_price is None


def test_ten_coins_in_lots_of_a_hundred_millionth_are_not_one_lot_more() -> None:
    fine = Instrument(symbol=BTC, tick=0.01, lot=1e-8, min_notional=5.0)
    assert whole_lots(fine, 10.0) == 10.0
    assert whole_lots(fine, 9.9999999999999) == 10.0  # what sums of float64 leave
    assert whole_lots(fine, 9.99999999) == 9.99999999


def test_a_closed_market_takes_nothing() -> None:
    assert isinstance(request_for(order(), 1.0, QUOTE, replace(MARKET, is_active=False), settings(), funds=1e6), Unfit)


def test_a_stop_sells_at_market_where_it_can_and_with_a_limit_below_where_it_must() -> None:
    plain = sent(stop_for(stop(), 1.0, MARKET, settings(), has_market_stop=True))
    assert (plain.stop_price, plain.limit_price) == (95.0, None)
    limited = sent(stop_for(stop(), 1.0, MARKET, settings(collar=0.005), has_market_stop=False))
    assert (limited.stop_price, limited.limit_price) == (95.0, 94.52)


def test_a_stop_of_dust_is_none() -> None:
    made = stop_for(stop(0.05), 0.05, MARKET, settings(), has_market_stop=True)
    assert isinstance(made, Unfit)
    assert made.detail.startswith("dust: ")


@given(
    side=st.sampled_from(Side),
    quantity=st.floats(1e-6, 1e4),
    reference=st.floats(0.05, 1e5),
    drift=st.floats(0.9, 1.1),
    collar=st.floats(0.0, 0.05),
)
def test_what_leaves_is_on_the_grid_no_larger_and_inside_the_collar(
    side: Side, quantity: float, reference: float, drift: float, collar: float
) -> None:
    bid = instrument().floor_price(reference * drift) + 0.01
    quote = Quote(bid=bid, ask=bid + 0.01, last=bid)
    made = request_for(order(side, quantity, reference), quantity, quote, MARKET, settings(collar=collar), funds=1e6)
    if isinstance(made, Unfit):
        assert side is Side.BUY or quantity * bid < 5.1 or quantity < 0.001
        return
    assert made.limit_price is not None
    assert made.quantity <= quantity * (1.0 + 1e-12)  # a sum a hair below the grid means the grid
    assert Decimal(repr(made.quantity)) % Decimal("0.001") == 0
    assert Decimal(repr(made.limit_price)) % Decimal("0.01") == 0
    assert made.quantity * made.limit_price >= 5.0
    if side is Side.BUY:
        assert made.limit_price <= reference * (1.0 + collar) * (1.0 + 1e-11)
    else:
        assert made.limit_price <= bid + 0.01


def test_a_purchase_shrinks_to_what_our_cash_covers_at_its_limit_price_with_the_fee() -> None:
    market = replace(MARKET, taker=0.001)
    # 100 at 0.5 % collar is 100.5; 50.25 / (100.5 * 1.001) = 0.49950..., on lots of 0.001 0.499
    made = sent(request_for(order(), 1.0, QUOTE, market, settings(collar=0.005), funds=50.25))
    assert (made.quantity, made.limit_price) == (0.499, 100.5)
    assert isinstance(request_for(order(), 1.0, QUOTE, market, settings(), funds=0.0), Unfit)


def test_a_sale_does_not_depend_on_cash() -> None:
    assert sent(request_for(order(Side.SELL), 1.0, QUOTE, MARKET, settings(), funds=0.0)).quantity == 1.0


@pytest.mark.parametrize(
    ("quantity", "free", "offered"),
    [
        (3.996, 3.9959999999999996, 3.996),  # what float64 leaves behind is no shortfall
        (1.0, 2.0, 1.0),
        (1.0, 0.9985, 0.998),  # a fee in base
        (1.0, 0.5, 1.0),  # a real difference, which the venue has to state
    ],
)
def test_a_sale_shrinks_for_fees_and_for_nothing_else(quantity: float, free: float, offered: float) -> None:
    assert whole_lots(instrument(), within_balance(quantity, free)) == offered
