"""What is written into the journal comes back as it was, bit for bit."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import records
from daemon.journal_format import decode, encode
from daemon.ports import CandleGroup, Record
from strategy.candle import Candle
from strategy.errors import InvalidCandle
from strategy.order import Fill, Order, OrderKind, OrderState, OrderStatus, Side
from tests.fakes.trading import BTC, ETH, HOUR_MS, candle

amounts = st.floats(min_value=1e-9, max_value=1e12, allow_nan=False)


def _through(record: Record) -> dict[str, object]:
    """The payload as a reader gets it."""
    return decode(1, encode(record)[1].encode())


@st.composite
def candles(draw: st.DrawFn) -> Candle:
    low, opened, closed, high = sorted(draw(st.lists(amounts, min_size=4, max_size=4)))
    volume = draw(st.floats(min_value=0.0, max_value=1e15))
    return Candle(
        symbol=BTC, open_ms=draw(st.integers(0, 500_000)) * HOUR_MS, span_ms=HOUR_MS,
        open=opened, high=high, low=low, close=closed, volume=volume,
    )  # fmt: skip


@given(candles(), st.booleans())
def test_candles_keep_every_bit(one: Candle, is_backfill: bool) -> None:
    group = CandleGroup(candles=(one,), is_backfill=is_backfill)
    assert records.read_group(_through(records.of_group(group))) == group


@given(amounts, amounts, amounts, st.sampled_from(Side))
def test_fills_and_orders_keep_every_bit(quantity: float, price: float, fee: float, side: Side) -> None:
    fill = Fill(
        fill_id="a.1", client_id="a", symbol=BTC, side=side, quantity=quantity, price=price, fee=fee, at_ms=7,
        reference_price=price,
    )  # fmt: skip
    assert records.read_fill(_through(records.of_fill(fill))) == fill
    order = Order(
        client_id="a", symbol=BTC, side=Side.SELL, quantity=quantity, reference_price=price, decided_ms=7,
        reason="voted", reduces=True, kind=OrderKind.STOP, stop_price=price,
    )  # fmt: skip
    status = OrderStatus(order=order, state=OrderState.PARTIALLY_FILLED, filled=quantity / 3)
    assert records.read_status(json.loads(json.dumps(records.of_status(status)))) == status


@pytest.mark.parametrize("joint", [0.1 + 0.05, None])
def test_a_drift_record_says_how_far_of_how_much_and_when(joint: float | None) -> None:
    record = records.of_drift(joint, 0.15, 7, is_beyond=joint is not None)
    assert record.kind == "drift"
    assert _through(record) == {"at_ms": 7, "joint": joint, "limit": 0.15, "is_beyond": joint is not None}


@given(st.lists(st.floats(-1.0, 1.0, width=32), min_size=9, max_size=9))
def test_votes_keep_every_bit(values: list[float]) -> None:
    votes = np.array(values, np.float32).reshape(3, 3)
    again = records.read_votes(json.loads(json.dumps({"votes": votes.tolist()})))
    assert again is not None
    assert again.tobytes() == votes.tobytes()


@given(candles(), candles())
def test_two_candles_have_one_digest_only_when_they_are_equal(one: Candle, other: Candle) -> None:
    assert (records.digest("", one) == records.digest("", other)) is (one == other)


def test_a_digest_covers_the_candles_before_it() -> None:
    first, altered, second = candle(at=1), candle(at=1, close=100.0, volume=1.0), candle(at=2)
    whole = records.digest(records.digest("", first), second)
    assert whole != records.digest("", second)
    assert whole != records.digest(records.digest("", altered), second)
    assert records.digest("", candle(BTC)) != records.digest("", candle(ETH))


def test_a_record_that_is_no_candle_any_more_is_refused() -> None:
    payload = _through(records.of_group(CandleGroup(candles=(candle(),))))
    payload["candles"][0][2] = 50.0  # type: ignore[index]
    with pytest.raises(InvalidCandle, match="BTC/USDT"):
        records.read_group(payload)
