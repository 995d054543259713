"""The memory of a run and the fold of journal entries, in the small; whole journals are folded in test_recovery.py."""

import json

import pytest

from daemon.errors import FatalError
from daemon.fold import Fold, Memory, Recorded, begin
from daemon.ports import CandleGroup, Entry
from strategy.benchmark import BuyAndHold
from strategy.features import WINDOW, FeatureWindow
from strategy.order import Order, OrderEvent, OrderKind, OrderState, OrderStatus, Side
from strategy.trader import Trader
from tests.fakes.trading import BTC, ETH, candle, random_table, setup, trader


def _order(name: str, symbol: str = BTC, **changes: object) -> Order:
    values = {
        "client_id": name, "symbol": symbol, "side": Side.SELL, "quantity": 2.0, "reference_price": 100.0,
        "decided_ms": 0, "reason": "voted", "reduces": True,
    }  # fmt: skip
    return Order(**{**values, **changes})  # type: ignore[arg-type]


def test_memory_comes_back_from_a_checkpoint_as_it_was() -> None:
    memory = Memory(hold=BuyAndHold(cash=0.1, fees=0.2, slippage=1 / 3, quantities={BTC: 1e-9}))
    memory.intend(_order("s-b"))
    memory.intend(_order("s-a", ETH))
    memory.move_order("s-b", OrderEvent.PARTLY_FILLED, 0.5, None)
    memory.take_candles(CandleGroup(candles=(candle(),)))
    again = Memory()
    again.restore(json.loads(json.dumps(memory.to_json(), sort_keys=True)))
    again.last = memory.last  # those are read from the candles of the journal
    assert again == memory
    assert list(again.orders) == ["s-b", "s-a"]


def test_orders_before_another_are_those_of_its_symbol_that_are_older() -> None:
    memory = Memory()
    orders = [_order("s-1"), _order("s-2", ETH), _order("s-3"), _order("s-4")]
    for order in orders:
        memory.intend(order)
    assert memory.before(orders[2]) == [orders[0]]
    assert memory.before(orders[1]) == []
    memory.move_order("s-1", OrderEvent.CANCELLED, 0.0, None)
    assert memory.before(orders[3]) == [orders[2]]


def test_an_order_is_followed_until_it_ends_and_then_forgotten() -> None:
    memory = Memory()
    memory.intend(_order("s-1"))
    assert memory.move_order("s-1", OrderEvent.ACCEPTED, 0.0, None).state is OrderState.OPEN
    assert memory.move_order("s-1", OrderEvent.PARTLY_FILLED, 0.5, None).filled == 0.5
    assert memory.move_order("s-1", OrderEvent.FILLED, 1.5, None).filled == 2.0
    assert memory.orders == {}
    assert memory.known("s-1") == OrderStatus(order=_order("s-1"), state=OrderState.FILLED, filled=2.0)
    for number in range(64):
        memory.intend(_order(f"s-later-{number}"))
        memory.move_order(f"s-later-{number}", OrderEvent.CANCELLED, 0.0, None)
    with pytest.raises(FatalError, match="s-1 moves, which is not in flight, has not ended lately"):
        memory.move_order("s-1", OrderEvent.FILLED, 1.5, None)


def test_a_stop_is_an_order_from_the_moment_it_triggers() -> None:
    memory, stop = Memory(), _order("s-stop", kind=OrderKind.STOP, stop_price=95.0)
    with pytest.raises(FatalError, match="no stop of ours"):
        memory.move_order("s-other", OrderEvent.FILLED, 2.0, OrderStatus(order=stop))
    assert memory.move_order("s-stop", OrderEvent.FILLED, 2.0, OrderStatus(order=stop)).state is OrderState.FILLED


def test_beginning_again_reaches_the_windows_too() -> None:
    """A window that lacks two candles is broken when none may be missing, and whole when two may."""
    table = random_table(WINDOW + 1, gaps=[100, 200])
    made = setup((BTC,), max_missing=0)
    subject = Trader(made, {BTC: FeatureWindow(0)}, 10_000.0)
    *before, last = table.candles()
    for one in before:
        assert subject.features[BTC].update(one) is None
    begin(subject, setup((BTC,), max_missing=2), None)
    assert subject.features[BTC].update(last) is not None


def test_an_entry_is_named_by_seq_and_kind_when_it_cannot_be_applied() -> None:
    fold = Fold(trader((BTC,)), 10_000.0)
    for kind, payload in (("candle", {}), ("fill", {}), ("order", {}), ("command", {"verb": "sell"}), ("risk", {})):
        entry = Entry(seq=17, at_ms=0, kind=kind, payload=payload)
        with pytest.raises(FatalError, match=rf"journal entry 17 \({kind}\) cannot be applied"):
            fold.apply(entry, Recorded((1.0,)))


def test_kinds_that_only_tell_change_nothing() -> None:
    fold = Fold(trader((BTC,)), 10_000.0)
    before = fold.trader.state()
    for kind in ("gap", "late_candle", "checkpoint", "stop", "bundle"):
        assert fold.apply(Entry(seq=1, at_ms=0, kind=kind, payload={}), Recorded((1.0,))) == []
    assert fold.trader.state() == before
