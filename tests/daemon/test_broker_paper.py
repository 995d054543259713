"""The paper venue, on recorded candles and on live trades: one contract, and what differs between the two."""

from collections.abc import Callable, Sequence

import pytest

from daemon.broker_paper import PaperBroker
from daemon.ports import CandleGroup, MarketTrade
from strategy.instrument import Instrument
from strategy.order import OrderReport, Side
from strategy.parameters import CostModel
from tests.contracts.broker import BrokerContract, Desk, Purse, order
from tests.fakes.trading import BTC, HOUR_MS, candle, setup


def _desk(*, is_live: bool, costs: CostModel | None = None) -> Desk:
    purse, at = Purse(), [0]
    broker = PaperBroker(
        instruments={BTC: Instrument(symbol=BTC, tick=0.01, lot=0.0001, min_notional=5.0)},
        costs=costs or CostModel(),
        funds=lambda: purse.cash,
        held=lambda _: purse.held,
        is_live=is_live,
    )

    def move(price: float) -> Sequence[OrderReport]:
        at[0] += 1
        trade = MarketTrade(symbol=BTC, price=price, quantity=1.0, at_ms=at[0] * HOUR_MS)
        group = CandleGroup(candles=(candle(at=at[0], close=price),))
        reports = []
        for report in broker.on_market(trade if is_live else group):
            if report.fill is not None:
                purse.apply(report.fill)
            reports.append(report)
        return reports

    return Desk(broker=broker, move=move, account=purse)


class TestOnRecordedCandles(BrokerContract):
    @pytest.fixture
    def desk(self) -> Desk:
        return _desk(is_live=False)


class TestOnLiveTrades(BrokerContract):
    @pytest.fixture
    def desk(self) -> Desk:
        return _desk(is_live=True)


async def test_on_a_live_feed_candles_fill_nothing_that_trades_fill() -> None:
    desk = _desk(is_live=True)
    desk.account.held = 1.0
    await desk.broker.submit(order())
    desk.broker.protect(BTC, order(7, Side.SELL, stop=95.0))
    assert list(desk.broker.on_market(CandleGroup(candles=(candle(at=1, close=96.0, low=90.0),)))) == []
    assert [report.client_id for report in desk.move(94.0)] == ["s-test-0", "s-test-7"]


async def test_candles_that_were_missed_on_a_live_feed_fill_what_waited() -> None:
    desk = _desk(is_live=True)
    desk.account.held = 1.0
    desk.broker.protect(BTC, order(7, Side.SELL, stop=95.0))
    group = CandleGroup(candles=(candle(at=1, close=96.0, low=90.0),), is_backfill=True)
    (filled,) = desk.broker.on_market(group)
    assert filled.fill is not None
    assert filled.fill.price == 94.95  # the stop, worse by 5 basis points: 94.9525, on the tick below


@pytest.mark.parametrize("is_live", [False, True])
async def test_an_order_takes_no_more_than_its_share_of_the_volume(is_live: bool) -> None:
    desk = _desk(is_live=is_live, costs=CostModel(participation=0.0005))
    list(desk.broker.on_market(CandleGroup(candles=(candle(at=0),))))  # 1,000 traded: half a coin is our share
    await desk.broker.submit(order())
    part, _ = desk.move(100.0)
    assert part.fill is not None
    assert part.fill.quantity == 0.5


async def test_the_volume_of_the_last_known_candle_bounds_the_first_live_trade() -> None:
    purse = Purse()
    make: Callable[..., PaperBroker] = PaperBroker
    broker = make(
        instruments={BTC: Instrument(symbol=BTC, tick=0.01, lot=0.0001, min_notional=5.0)},
        costs=CostModel(participation=0.0005),
        funds=lambda: purse.cash,
        held=lambda _: purse.held,
        is_live=True,
        last=[candle(at=0)],
    )
    await broker.submit(order())
    reports = list(broker.on_market(MarketTrade(symbol=BTC, price=100.0, quantity=1.0, at_ms=1)))
    assert reports[0].fill is not None
    assert reports[0].fill.quantity == 0.5


@pytest.mark.parametrize("is_live", [False, True])
async def test_what_waits_fills_at_the_costs_of_the_moment(is_live: bool) -> None:
    desk = _desk(is_live=is_live)
    await desk.broker.submit(order())
    desk.broker.begin(setup((BTC,), slippage_rate=0.01, fee_rate=0.002))
    (report,) = desk.move(100.0)
    assert report.fill is not None
    assert report.fill.price == 101.0  # 100, worse by 1 %
    assert report.fill.fee == pytest.approx(report.fill.quantity * 101.0 * 0.002)
