import asyncio

from daemon.feed_queue import FeedQueue, HealthBoard
from daemon.ports import FeedEvent, FeedHealth, FeedStatus, Gap, MarketTrade

STALE, LIVE, RECONNECTING = FeedHealth.STALE, FeedHealth.LIVE, FeedHealth.RECONNECTING


def trade(symbol: str, price: float) -> MarketTrade:
    return MarketTrade(symbol=symbol, price=price, quantity=1.0, at_ms=1)


def gap(first_ms: int) -> Gap:
    return Gap(symbol="A/B", first_ms=first_ms, missing=1)


async def read(queue: FeedQueue) -> list[FeedEvent]:
    queue.end()
    events = []
    while (event := await queue.get()) is not None:
        events.append(event)
    return events


async def test_waiting_trades_are_conflated_per_symbol_and_never_move_ahead_of_a_lasting_event() -> None:
    queue = FeedQueue()
    for price in (1.0, 2.0, 3.0):
        queue.put_trade(trade("A/B", price))
        queue.put_trade(trade("C/D", price))
    queue.put(gap(1))
    queue.put_trade(trade("A/B", 4.0))
    queue.put_trade(trade("A/B", 5.0))
    assert await read(queue) == [trade("A/B", 3.0), trade("C/D", 3.0), gap(1), trade("A/B", 5.0)]


async def test_a_trade_that_was_read_is_not_replaced_afterwards() -> None:
    queue = FeedQueue()
    queue.put_trade(trade("A/B", 1.0))
    assert await queue.get() == trade("A/B", 1.0)
    queue.put_trade(trade("A/B", 2.0))
    assert await read(queue) == [trade("A/B", 2.0)]


async def test_history_waits_for_a_slow_reader_and_nothing_is_lost() -> None:
    queue = FeedQueue()
    for index in range(3_000):
        queue.put(gap(index))
    waiting = asyncio.ensure_future(queue.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    got = [await queue.get() for _ in range(2_500)]
    await waiting
    assert got + await read(queue) == [gap(index) for index in range(3_000)]


async def test_health_tells_the_worst_problem_and_each_change_once() -> None:
    queue = FeedQueue()
    board = HealthBoard(queue=queue)
    board.live("ready")
    board.report("a", RECONNECTING, "a lost")
    board.report("a", RECONNECTING, "a lost again")
    board.report("b", STALE, "b silent")
    board.report("b", STALE, "b silent")
    board.clear("b")
    board.clear("a")
    board.clear("a")
    told = [event.health for event in await read(queue) if isinstance(event, FeedStatus)]
    assert told == [LIVE, RECONNECTING, STALE, RECONNECTING, LIVE]


async def test_live_is_not_told_while_something_is_wrong() -> None:
    queue = FeedQueue()
    board = HealthBoard(queue=queue)
    board.report("a", STALE, "a silent")
    board.live("ready")
    assert [event.health for event in await read(queue) if isinstance(event, FeedStatus)] == [STALE]
