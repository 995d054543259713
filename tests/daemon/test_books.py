"""The books as a live broker reads them: always what trader and memory hold now."""

from daemon.books import AccountBooks
from daemon.fold import Memory
from daemon.ports import Books
from strategy.order import Fill, Order, OrderEvent, OrderState, Side
from tests.fakes.trading import BTC, candle, trader


def _order() -> Order:
    return Order(
        client_id="s-1", symbol=BTC, side=Side.BUY, quantity=2.0, reference_price=100.0, decided_ms=0, reason="voted",
        reduces=False,
    )  # fmt: skip


def _fill(order: Order, fill_id: str, quantity: float) -> Fill:
    return Fill(
        fill_id=fill_id, client_id=order.client_id, symbol=BTC, side=order.side, quantity=quantity, price=100.0,
        fee=0.0, at_ms=0, reference_price=100.0,
    )  # fmt: skip


def test_a_new_account_knows_nothing_of_the_venue_yet() -> None:
    books: Books = AccountBooks(trader((BTC,), 1_000.0), Memory())
    assert (books.cash(), books.held(BTC), books.mark(BTC)) == (1_000.0, 0.0, 0.0)
    assert books.foreign("USDT") is None
    assert (books.orders(), books.known("s-1"), books.fill_ids("s-1"), books.stop(BTC)) == ((), None, frozenset(), None)


def test_books_follow_orders_fills_and_what_is_somebody_elses() -> None:
    account, memory = trader((BTC,), 1_000.0), Memory()
    books, order = AccountBooks(account, memory), _order()
    memory.take_foreign("USDT", 7.0)
    memory.intend(order)
    assert [status.state for status in books.orders()] == [OrderState.INTENDED]
    memory.move_order("s-1", OrderEvent.PARTLY_FILLED, 0.5, None)
    done = _fill(order, "t-1", 0.5)
    assert memory.take_fill(done, "USDT") is False
    stop = account.on_fill(done, is_stop=False)
    account.portfolio = account.portfolio.mark([candle(BTC, 1, 101.0)])
    assert (books.cash(), books.held(BTC), books.mark(BTC)) == (950.0, 0.5, 101.0)
    assert (books.foreign("USDT"), books.foreign("BTC")) == (7.0, 0.0)
    assert books.fill_ids("s-1") == {"t-1"}
    assert books.stop(BTC) == stop is not None
    memory.move_order("s-1", OrderEvent.CANCELLED, 0.0, None)
    assert books.orders() == ()
    known = books.known("s-1")
    assert known is not None
    assert (known.state, known.filled) == (OrderState.CANCELLED, 0.5)
