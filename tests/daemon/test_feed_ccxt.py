"""The feed against a real REST and websocket server on loopback, through ccxt's own `binance`, unmodified."""

import asyncio
import gc
import itertools
import json
import logging
import random
import subprocess
import sys
import time
import warnings
from typing import Any

import pytest

from daemon.errors import ConfigError, TransientError
from daemon.feed_ccxt import CcxtFeed
from daemon.ports import CandleGroup, FeedEvent, FeedHealth, FeedStatus, Gap, LateCandle, MarketTrade
from strategy.candle import Timeframe
from tests.daemon.feeds import FIRST, NAN, SPAN, SPEED, FastClock, at, candle, feed_of, live, reading, venue_with
from tests.fakes.binance import Values, walk


# ---- start ----------------------------------------------------------------------------------------------------------
async def test_instruments_carry_the_steps_the_venue_lists() -> None:
    async with venue_with(3) as venue:
        feed = feed_of(venue)
        instrument = (await feed.instruments())["BTC/USDT"]
        await feed.close()
    assert (instrument.tick, instrument.lot, instrument.min_notional) == (0.01, 0.00001, 5.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"symbols": ("BTC/USTD",)}, ["BTC/USTD", "binance", "BTC/USDT"]),
        ({"symbols": ("OLD/USDT",)}, ["OLD/USDT", "does not trade"]),
        ({"exchange_id": "binanse"}, ["[exchange] id: ", "binanse", "did you mean binance"]),
        ({"timeframe": Timeframe.parse("7m")}, ["7m", "5m"]),
    ],
    ids=["unknown symbol", "halted symbol", "unknown exchange", "unknown timeframe"],
)
async def test_what_the_venue_does_not_have_is_named_with_a_remedy(settings: dict[str, Any], words: list[str]) -> None:
    venue = venue_with(3, "BTC/USDT", "OLD/USDT")
    venue.markets["OLDUSDT"].status = "BREAK"
    async with venue:
        feed = feed_of(venue)
        feed = CcxtFeed(
            **{
                "exchange_id": "binance",
                "ccxt_options": venue.ccxt_options(),
                "symbols": ("BTC/USDT",),
                "timeframe": Timeframe.parse("1m"),
                "history": 3,
                "clock": FastClock(venue),
                "stale_after_s": 20.0,
                "generator": random.Random(0),
                **settings,
            }
        )
        with pytest.raises(ConfigError) as caught:
            await feed.instruments()
        await feed.close()
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("left_out", ["public", "ws"])
async def test_half_redirected_addresses_are_refused(left_out: str) -> None:
    venue = venue_with(1)
    options = venue.ccxt_options()
    del options["urls"]["api"][left_out]
    with pytest.raises(ConfigError, match=r"would still go to the real binance"):
        feed_of(venue, ccxt_options=options)


async def test_with_a_key_the_account_addresses_must_be_redirected_too() -> None:
    venue = venue_with(1)
    options = venue.ccxt_options()
    del options["urls"]["api"]["private"]
    feed_of(venue, ccxt_options=options)
    with pytest.raises(ConfigError, match=r"private would still go"):
        feed_of(venue, ccxt_options={**options, "apiKey": "key"})


@pytest.mark.fault(10)
async def test_an_unreachable_venue_is_a_transient_error_without_its_address_query() -> None:
    venue = venue_with(1)
    await venue.start()
    options = venue.ccxt_options()
    await venue.stop()
    feed = feed_of(venue, ccxt_options=options)
    with pytest.raises(TransientError) as caught:
        await feed.instruments()
    await feed.close()
    assert "?" not in str(caught.value)
    assert str(caught.value).startswith("binance could not be reached in 6 attempts: ExchangeNotAvailable")
    assert 'set [market] source = "simulated"' in str(caught.value)


# ---- history --------------------------------------------------------------------------------------------------------
async def test_2400_candles_come_over_three_pages_exactly_once_each_and_the_newest_may_be_decided_on() -> None:
    venue = venue_with(3_000)
    async with venue, reading(feed_of(venue, history=2_400)) as reader:
        await reader.until_candle(2_999)
        pages = [query for query in venue.klines_asked if query["limit"] == "1000"]
    assert reader.opened() == list(range(600, 3_000))
    assert [group.is_backfill for group in reader.groups] == [True] * 2_399 + [False]
    assert [group.candles[0].values for group in reader.groups] == walk(1, 3_001)[600:3_000]
    assert 3 <= len(pages) <= 4, "three pages, and one look whether a candle closed meanwhile"


async def test_only_what_follows_the_known_candle_is_fetched() -> None:
    venue = venue_with(50)
    known = candle(40, venue.markets["BTCUSDT"].candles[at(40)])
    async with venue, reading(feed_of(venue, history=2_400), {"BTC/USDT": known}) as reader:
        await reader.until_candle(49)
    assert reader.opened() == list(range(41, 50))
    assert not reader.of(LateCandle)


async def test_a_known_candle_that_the_venue_now_tells_differently_is_late() -> None:
    venue = venue_with(10)
    known = candle(8, (1.0, 2.0, 0.5, 1.5, 3.0))
    async with venue, reading(feed_of(venue), {"BTC/USDT": known}) as reader:
        await reader.until_candle(9)
    (late,) = reader.of(LateCandle)
    assert (late.known, late.candle) == (known, candle(8, walk(1, 11)[8]))


async def test_a_journal_that_ends_after_the_venues_newest_candle_is_refused() -> None:
    venue = venue_with(10)
    known = candle(500, (1.0, 2.0, 0.5, 1.5, 3.0))
    async with venue:
        with pytest.raises(ConfigError, match=r"\[daemon\] state_dir: .* belongs to another market"):
            await anext(feed_of(venue).events({"BTC/USDT": known}))


async def test_history_of_several_symbols_comes_in_time_order_and_in_the_configured_order() -> None:
    venue = venue_with(1_500, "BTC/USDT", "ETH/USDT")
    del venue.markets["BTCUSDT"].candles[at(1_490)]
    async with venue, reading(feed_of(venue, "ETH/USDT", "BTC/USDT", history=1_200)) as reader:
        await reader.until_candle(1_499)
    symbols = {group.candles[0].open_ms: [c.symbol for c in group.candles] for group in reader.groups}
    assert list(symbols) == [at(i) for i in range(300, 1_500)]
    assert symbols.pop(at(1_490)) == ["ETH/USDT"]
    assert all(names == ["ETH/USDT", "BTC/USDT"] for names in symbols.values())


@pytest.mark.fault(4)
async def test_a_hole_in_history_is_reported_before_the_candle_behind_it() -> None:
    venue = venue_with(30)
    for index in (20, 21, 22):
        del venue.markets["BTCUSDT"].candles[at(index)]
    async with venue, reading(feed_of(venue, history=15)) as reader:
        await reader.until_candle(29)
    (gap,) = reader.of(Gap)
    assert gap == Gap(symbol="BTC/USDT", first_ms=at(20), missing=3)
    assert reader.opened() == [15, 16, 17, 18, 19, 23, 24, 25, 26, 27, 28, 29]
    after = reader.seen[reader.seen.index(gap) + 1]
    assert isinstance(after, CandleGroup)
    assert after.candles[0].open_ms == at(23)


@pytest.mark.parametrize(
    "fault",
    [
        (503, {}, "Service Unavailable"),
        (429, {"Retry-After": "1"}, '{"code": -1003, "msg": "Too many requests."}'),
        (200, {}, "<html>maintenance</html>"),
        (200, {}, "[[1,"),
        (200, {}, "null"),
        (200, {}, '{"unexpected": true}'),
    ],
    ids=["503", "429", "html", "cut short", "null", "object"],
)
async def test_history_survives_a_venue_that_answers_nonsense(fault: tuple[int, dict[str, str], str]) -> None:
    venue = venue_with(20)
    async with venue:
        feed = feed_of(venue, history=10)
        await feed.instruments()
        venue.rest_faults.extend([fault] * 2)
        async with reading(feed) as reader:
            await reader.until_candle(19)
    assert reader.opened() == list(range(10, 20))
    assert reader.statuses()[-1] is FeedHealth.LIVE


# ---- live -----------------------------------------------------------------------------------------------------------
async def test_a_candle_is_final_when_the_venue_shows_the_next_one_and_not_before() -> None:
    venue = venue_with(10)
    async with live(venue, skew_ms=10 * 86_400_000) as reader:
        await reader.until_candle(9)
        # The local clock is ten days ahead, so the venue is asked again and again; it knows nothing later.
        for price in (101.0, 102.0, 103.0):
            await venue.form("BTCUSDT", at(10), (100.0, 110.0, 90.0, price, 1.0))
            await asyncio.sleep(0.1)
        assert reader.opened()[-1] == 9
        assert len(venue.klines_asked) > 4, "the clock must have triggered the question"
        final = (100.0, 111.0, 89.0, 104.0, 7.0)
        await venue.close_candle("BTCUSDT", at(10), final)
        await reader.until_candle(10)
    assert reader.groups[-1] == CandleGroup(candles=(candle(10, final),), is_backfill=False)


@pytest.mark.fault(3)
@pytest.mark.parametrize("seed", range(4))
async def test_shuffled_updates_never_yield_a_candle_that_the_venue_has_not_closed(seed: int) -> None:
    venue, generator = venue_with(5, seed=seed), random.Random(seed)
    book = venue.markets["BTCUSDT"].candles
    truth = walk(seed + 100, 12)
    messages: list[tuple[int, Values]] = []
    for index, (o, h, low, c, v) in enumerate(truth, start=5):
        partial = [(o, max(o, p), min(o, p), p, v * k / 4) for k, p in enumerate((o, h, low, c), start=1)]
        messages += [(at(index), values) for values in partial[:-1]] + [(at(index), truth[index - 5])]
    for start in range(0, len(messages), 6):  # windows that reach over the ends of candles
        messages[start : start + 6] = generator.sample(messages[start : start + 6], len(messages[start : start + 6]))
    async with live(venue) as reader:
        newest = 0
        for open_ms, values in messages:
            if open_ms > newest:  # REST tells the truth: all before the newest is closed
                newest = open_ms
                for index in range(5, (newest - FIRST) // SPAN):
                    book[at(index)] = truth[index - 5]
                book[newest] = values
                venue.now_ms = newest + 1
            await venue.push_candle("BTCUSDT", open_ms, values)
            await asyncio.sleep(generator.uniform(0.0, 0.01))
        await reader.until_candle(15)
        got = [c for group in reader.groups for c in group.candles]
    assert [c.open_ms for c in got] == [at(i) for i in range(16)]
    assert [c.values for c in got if c.open_ms >= at(5)] == truth[:11]
    assert not reader.of(LateCandle)


async def test_trades_come_between_candles_with_the_venues_time() -> None:
    venue = venue_with(5)
    async with live(venue) as reader:
        await venue.trade("BTCUSDT", 101.25, 0.5, at_ms=at(5) + 17)
        await reader.until(lambda: bool(reader.of(MarketTrade)))
    assert reader.of(MarketTrade) == [MarketTrade(symbol="BTC/USDT", price=101.25, quantity=0.5, at_ms=at(5) + 17)]


@pytest.mark.fault(5)
async def test_repeated_candles_change_nothing() -> None:
    venue = venue_with(5)
    async with live(venue) as reader:
        final = (100.0, 111.0, 89.0, 104.0, 7.0)
        await venue.close_candle("BTCUSDT", at(5), final)
        await reader.until_candle(5)
        for _ in range(5):
            await venue.push_candle("BTCUSDT", at(5), final, is_closed=True)
        await venue.close_candle("BTCUSDT", at(6), (104.0, 105.0, 103.0, 104.5, 2.0))
        await reader.until_candle(6)
    assert reader.opened() == list(range(7))
    assert not reader.of(LateCandle)


@pytest.mark.fault(6)
async def test_a_late_correction_is_reported_once_and_the_final_candle_stays() -> None:
    venue = venue_with(5)
    async with live(venue) as reader:
        first, corrected = (100.0, 111.0, 89.0, 104.0, 7.0), (100.0, 112.0, 89.0, 104.0, 7.5)
        await venue.close_candle("BTCUSDT", at(5), first)
        await reader.until_candle(5)
        venue.markets["BTCUSDT"].candles[at(5)] = corrected
        await venue.push_candle("BTCUSDT", at(5), corrected, is_closed=True)
        for index in (6, 7):
            await venue.close_candle("BTCUSDT", at(index), (104.0, 105.0, 103.0, 104.5, 2.0))
            await reader.until_candle(index)
    assert reader.of(LateCandle) == [LateCandle(candle=candle(5, corrected), known=candle(5, first))]
    assert [c.values for g in reader.groups for c in g.candles if c.open_ms == at(5)] == [first]


@pytest.mark.fault(4)
async def test_candles_the_stream_skipped_come_from_rest_before_the_next_decision() -> None:
    venue = venue_with(5)
    book = venue.markets["BTCUSDT"].candles
    async with live(venue) as reader:
        await reader.until_candle(4)
        for index, values in enumerate(walk(9, 3), start=5):
            book[at(index)] = values
        await venue.form("BTCUSDT", at(8), (100.0, 100.0, 100.0, 100.0, 0.0))
        await reader.until_candle(7)
    assert reader.opened() == list(range(8))
    assert [group.is_backfill for group in reader.groups[-3:]] == [True, True, False]
    assert not reader.of(Gap)


@pytest.mark.fault(4)
async def test_candles_the_venue_does_not_have_are_a_gap() -> None:
    venue = venue_with(5)
    async with live(venue) as reader:
        await reader.until_candle(4)
        await venue.form("BTCUSDT", at(5), (100.0, 101.0, 99.0, 100.0, 1.0))
        await venue.form("BTCUSDT", at(9), (100.0, 101.0, 99.0, 100.0, 1.0))
        await venue.close_candle("BTCUSDT", at(9), (100.0, 101.0, 99.0, 100.5, 1.0))
        await reader.until_candle(9)
    assert reader.opened() == [0, 1, 2, 3, 4, 5, 9]
    assert reader.of(Gap) == [Gap(symbol="BTC/USDT", first_ms=at(6), missing=3)]


@pytest.mark.fault(3)
async def test_a_row_from_the_far_future_closes_nothing() -> None:
    venue = venue_with(5)
    async with live(venue) as reader:
        await reader.until_candle(4)
        venue.markets["BTCUSDT"].candles[at(5_000_000)] = (100.0, 101.0, 99.0, 100.0, 1.0)
        await venue.push_candle("BTCUSDT", at(5_000_000), (100.0, 101.0, 99.0, 100.0, 1.0))
        await asyncio.sleep(0.4)
        assert reader.opened()[-1] == 4
        del venue.markets["BTCUSDT"].candles[at(5_000_000)]
        await venue.close_candle("BTCUSDT", at(5), (100.0, 101.0, 99.0, 100.0, 1.0))
        await reader.until_candle(5)
    assert not reader.of(Gap)


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    "broken",
    [(NAN, 101.0, 99.0, 100.0, 1.0), (100.0, 101.0, 99.0, None, 1.0), (100.0, 98.0, 99.0, 100.0, 1.0)],
    ids=["NaN", "None", "high below low"],
)
async def test_a_broken_candle_is_taken_from_rest_and_left_out_when_rest_has_it_so_too(broken: Values) -> None:
    venue = venue_with(5)
    sound = (100.0, 101.0, 99.0, 100.0, 1.0)
    async with live(venue) as reader:
        await venue.push_candle("BTCUSDT", at(5), broken)
        venue.markets["BTCUSDT"].candles[at(5)] = sound
        await venue.form("BTCUSDT", at(6), sound)
        await reader.until_candle(5)
        assert reader.statuses()[-1] is FeedHealth.LIVE
        venue.markets["BTCUSDT"].candles[at(6)] = broken
        await venue.form("BTCUSDT", at(7), sound)
        await reader.until(lambda: reader.statuses()[-1] is FeedHealth.STALE)
        assert str(at(6)) in reader.of(FeedStatus)[-1].detail
        await venue.close_candle("BTCUSDT", at(7), sound)
        await reader.until_candle(7)
        assert reader.statuses()[-1] is FeedHealth.LIVE
    assert reader.opened() == [0, 1, 2, 3, 4, 5, 7]
    assert reader.of(Gap) == [Gap(symbol="BTC/USDT", first_ms=at(6), missing=1)]


async def test_the_stream_stands_in_while_rest_is_down() -> None:
    venue = venue_with(5)
    async with live(venue) as reader:
        await reader.until_candle(4)
        venue.rest_faults.extend([(503, {}, "down")] * 10_000)
        await venue.form("BTCUSDT", at(5), (100.0, 101.0, 99.0, 100.0, 1.0))
        final = (100.0, 102.0, 98.0, 101.0, 3.0)
        await venue.close_candle("BTCUSDT", at(5), final)
        await reader.until_candle(5)
        venue.rest_faults.clear()
        await venue.close_candle("BTCUSDT", at(6), final)
        await reader.until_candle(6)
    assert reader.groups[-2].candles == (candle(5, final),)
    assert reader.opened() == list(range(7))


# ---- several symbols ------------------------------------------------------------------------------------------------
async def test_symbols_that_close_together_are_one_group_in_configured_order_whoever_comes_first() -> None:
    venue = venue_with(5, "BTC/USDT", "ETH/USDT")
    values = (100.0, 101.0, 99.0, 100.0, 1.0)
    async with live(venue, "ETH/USDT", "BTC/USDT") as reader:
        for index, order in ((5, ("BTCUSDT", "ETHUSDT")), (6, ("ETHUSDT", "BTCUSDT"))):
            for market in order:
                await venue.close_candle(market, at(index), values)
                await asyncio.sleep(0.02)
            await reader.until_candle(index)
    last = [[c.symbol for c in group.candles] for group in reader.groups[-2:]]
    assert last == [["ETH/USDT", "BTC/USDT"]] * 2
    assert [group.is_backfill for group in reader.groups[-2:]] == [False, False]


@pytest.mark.fault(12)
async def test_a_slow_symbol_delays_the_others_no_longer_than_the_grace_and_then_comes_alone() -> None:
    venue = venue_with(5, "BTC/USDT", "ETH/USDT")
    values = (100.0, 101.0, 99.0, 100.0, 1.0)
    async with live(venue, "BTC/USDT", "ETH/USDT", grace_s=4.0) as reader:
        await reader.until_candle(4)
        began = time.monotonic()
        await venue.close_candle("BTCUSDT", at(5), values)
        await reader.until_candle(5, "BTC/USDT")
        assert time.monotonic() - began >= 4.0 / SPEED * 0.9
        await venue.close_candle("ETHUSDT", at(5), values)
        await reader.until_candle(5, "ETH/USDT")
    assert [[c.symbol for c in group.candles] for group in reader.groups[-2:]] == [["BTC/USDT"], ["ETH/USDT"]]
    assert reader.groups[-1].candles[0].open_ms == at(5)


# ---- connections ----------------------------------------------------------------------------------------------------
@pytest.mark.fault(2)
@pytest.mark.parametrize("how", ["close frame", "cut cable"])
async def test_a_drop_in_the_middle_of_a_candle_loses_nothing(how: str) -> None:
    venue = venue_with(5)
    async with live(venue) as reader:
        await reader.until_candle(4)
        await venue.form("BTCUSDT", at(5), (100.0, 101.0, 99.0, 100.0, 1.0))
        venue.refuses_sockets = True
        if how == "cut cable":
            venue.abort()
        else:
            await venue.cut()
        finals = walk(5, 3)
        for index, values in enumerate(finals, start=5):
            venue.markets["BTCUSDT"].candles[at(index)] = values
        await venue.form("BTCUSDT", at(8), (100.0, 101.0, 99.0, 100.0, 1.0))
        await reader.until(lambda: FeedHealth.RECONNECTING in reader.statuses())
        venue.refuses_sockets = False
        await venue.subscribed("btcusdt@kline_1m", "btcusdt@trade")
        await venue.close_candle("BTCUSDT", at(8), (100.0, 101.0, 99.0, 100.0, 1.0))
        await venue.trade("BTCUSDT", 100.0, 1.0)
        await reader.until_candle(8)
        await reader.until(lambda: reader.statuses()[-1] is FeedHealth.LIVE)
    assert reader.opened() == list(range(9))
    got = [c.values for group in reader.groups for c in group.candles if at(5) <= c.open_ms < at(8)]
    assert got == finals


@pytest.mark.fault(1)
async def test_a_mute_stream_is_noticed_reported_and_connected_again() -> None:
    venue = venue_with(5)
    async with live(venue, stale_after_s=8.0) as reader:
        await venue.form("BTCUSDT", at(5), (100.0, 101.0, 99.0, 100.0, 1.0))
        await venue.trade("BTCUSDT", 100.0, 1.0)
        await reader.until(lambda: bool(reader.of(MarketTrade)))
        opened = venue.sockets_opened
        venue.is_muted = True
        await venue.close_candle("BTCUSDT", at(5), (100.0, 101.0, 99.0, 100.0, 1.0))
        await reader.until(lambda: reader.statuses()[-1] is FeedHealth.STALE)
        assert "BTC/USDT" in reader.of(FeedStatus)[-1].detail
        await reader.until_candle(5)  # by REST, although the stream said nothing
        venue.is_muted = False
        await reader.until(lambda: venue.sockets_opened > opened or bool(reader.failure))
        await venue.subscribed("btcusdt@kline_1m")
        await venue.close_candle("BTCUSDT", at(6), (100.0, 101.0, 99.0, 100.0, 1.0))
        await reader.until_candle(6)
        async with asyncio.timeout(5):
            for step in itertools.count(1):  # a market that moves again
                await venue.form("BTCUSDT", at(7), (100.0, 101.0, 99.0, 100.0, float(step)))
                await venue.trade("BTCUSDT", 100.0, 1.0)
                await asyncio.sleep(0.02)
                if reader.statuses()[-1] is FeedHealth.LIVE:
                    break
    assert reader.opened() == list(range(7))


@pytest.mark.parametrize("text", ['{"e":"kline","s":"BTCUSDT","k":', '{"e":"kline","s":"BTCUSDT"}'])
async def test_a_frame_that_kills_ccxts_reader_is_recovered_from(text: str) -> None:
    venue = venue_with(5)
    async with live(venue, stale_after_s=8.0) as reader:
        await reader.until_candle(4)
        await venue.push_raw("btcusdt@kline_1m", text)
        opened = venue.sockets_opened
        async with asyncio.timeout(10):
            while venue.sockets_opened == opened:  # noqa: ASYNC110  # the venue has nothing to wait on
                await asyncio.sleep(0.02)
            await venue.subscribed("btcusdt@kline_1m")
        await venue.close_candle("BTCUSDT", at(5), (100.0, 101.0, 99.0, 100.0, 1.0))
        await reader.until_candle(5)
        await reader.until(lambda: reader.statuses()[-1] is FeedHealth.LIVE)
    assert FeedHealth.STALE in reader.statuses()
    assert reader.opened() == list(range(6))


async def test_an_exchange_without_streams_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    import ccxt.pro  # noqa: PLC0415  # two seconds that only this file should cost

    class Bare(ccxt.pro.binance):  # type: ignore[misc]  # ccxt has no types
        def describe(self) -> Any:
            streams = {"has": {"watchOHLCV": False, "watchTrades": False}}
            return self.deep_extend(super().describe(), streams)

    monkeypatch.setattr(ccxt.pro, "binance", Bare)
    venue = venue_with(5)
    async with venue, reading(feed_of(venue)) as reader:
        await reader.until_candle(4)
        await venue.form("BTCUSDT", at(5), (100.0, 101.0, 99.0, 100.5, 1.0))
        await reader.until(lambda: any(trade.price == 100.5 for trade in reader.of(MarketTrade)))
        await venue.close_candle("BTCUSDT", at(5), (100.0, 101.0, 99.0, 100.0, 1.0))
        await reader.until_candle(5)
    assert venue.sockets_opened == 0
    assert reader.groups[-1].is_backfill is False


async def test_a_slow_reader_loses_trades_but_no_candle() -> None:
    venue = venue_with(5)
    async with venue:
        feed = feed_of(venue)
        events = feed.events({})
        seen: list[FeedEvent] = [await anext(events) for _ in range(3)]
        await venue.subscribed("btcusdt@kline_1m", "btcusdt@trade")
        for index in range(5, 25):
            for step in range(20):
                await venue.trade("BTCUSDT", 100.0 + step, 1.0, at_ms=at(index) + step)
            await venue.close_candle("BTCUSDT", at(index), (100.0, 101.0, 99.0, 100.0, 1.0))
            await asyncio.sleep(0.03)
        async with asyncio.timeout(10):
            while not any(isinstance(e, CandleGroup) and e.candles[0].open_ms == at(24) for e in seen):
                seen.append(await anext(events))
        await feed.close()
    times = [e.candles[0].open_ms for e in seen if isinstance(e, CandleGroup)]
    assert times == [at(i) for i in range(25)]
    assert 0 < sum(isinstance(e, MarketTrade) for e in seen) <= 60, "400 trades, at most a few between two candles"


# ---- the end --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", ["live", "cut off", "dialling"])
async def test_cancelling_closes_everything_within_two_seconds_without_a_warning(
    state: str, caplog: pytest.LogCaptureFixture
) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        async with live(venue_with(5)) as reader:
            if state != "live":
                reader.feed._clock.venue.refuses_sockets = True  # type: ignore[attr-defined]
                await reader.feed._clock.venue.cut()  # type: ignore[attr-defined]
                await asyncio.sleep(0.3 if state == "dialling" else 0.0)
            began = time.monotonic()
            await reader.feed.close()
            await reader.feed.close()
            assert time.monotonic() - began < 2.0
        await asyncio.sleep(0.1)
        gc.collect()
    assert not [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)]
    assert not [
        record.message for record in caplog.records if "nclosed" in record.message or "release" in record.message
    ]
    assert not complaints


async def test_no_secret_and_no_query_string_is_ever_shown(caplog: pytest.LogCaptureFixture) -> None:
    venue = venue_with(5)
    canary = "CANARY0123456789"
    with caplog.at_level(logging.DEBUG):
        async with venue:
            options = {**venue.ccxt_options(), "apiKey": canary, "secret": canary + "s"}
            feed = feed_of(venue, ccxt_options=options)
            await feed.instruments()
            venue.rest_faults.extend([(503, {}, f"down {canary}")] * 3)
            async with reading(feed) as reader:
                await reader.until_candle(4)
    shown = json.dumps([str(event) for event in reader.seen]) + caplog.text
    assert FeedHealth.STALE in reader.statuses()
    assert canary not in shown
    assert "klines?" not in shown


async def test_verbose_is_refused() -> None:
    venue = venue_with(1)
    with pytest.raises(ConfigError, match="verbose"):
        feed_of(venue, ccxt_options={**venue.ccxt_options(), "verbose": True})


def test_importing_the_feed_does_not_import_ccxt() -> None:
    code = "import sys, daemon.feed_ccxt; sys.exit(any(name.split('.')[0] == 'ccxt' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
