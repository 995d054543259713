"""Recorded candles come out as they went in; a random market is its seed's."""

import random
from pathlib import Path

import pytest

from daemon.errors import DataError
from daemon.testvenue.candles import Row
from daemon.testvenue.market import Market
from daemon.testvenue.orders import OrderType
from daemon.testvenue.players import POINTS, CandlePlayer, WalkPlayer, path_of, read_candles
from daemon.testvenue.server import TestVenue
from tests.fakes.clock import ManualClock
from tests.testvenue.venues import SYMBOL, D

HEADER = "timestamp_ms,open,high,low,close,volume\n"
FIRST = 1_600_000_020_000


def venue() -> TestVenue:
    return TestVenue([Market(base="BTC", quote="USDT", last=D(100))], clock=ManualClock(1_700_000_025_000))


def recorded(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "candles.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_played_candle_is_the_recorded_one(tmp_path: Path) -> None:
    rows = read_candles(recorded(
        tmp_path, f"{FIRST},100,100,100,100,1", f"{FIRST + 60_000},101,112.5,90.25,95,8",
        f"{FIRST + 120_000},96,99,92,98,4", f"{FIRST + 180_000},98,98,98,98,1",
    ))  # fmt: skip
    played = venue()
    player = CandlePlayer(played, SYMBOL, rows)
    player.begin(1)
    while not player.is_over:
        player.step()
    shown = {
        open_ms: (row.open, row.high, row.low, row.close, row.volume)
        for open_ms, row in played.book.markets[SYMBOL].candles.rows.items()
    }
    assert shown == {open_ms: (row.open, row.high, row.low, row.close, row.volume) for open_ms, row in rows}


def test_a_falling_candle_goes_up_first_and_a_rising_one_down() -> None:
    falling = read_row("100,110,90,95,1")
    rising = read_row("95,110,90,100,1")
    assert path_of(falling) == [D(100), D(110), D(90), D(95)]
    assert path_of(rising) == [D(95), D(90), D(110), D(100)]
    assert len(path_of(rising)) == POINTS


def read_row(values: str) -> Row:
    opened, high, low, close, volume = (D(value) for value in values.split(","))
    return Row(opened, high, low, close, volume)


def test_a_recorded_crash_triggers_the_stop_within_its_candle(tmp_path: Path) -> None:
    rows = read_candles(recorded(tmp_path, f"{FIRST},100,100,100,100,1", f"{FIRST + 60_000},100,101,60,99,8"))
    played = venue()
    account = played.add_account("KEY", "SECRET", {"BTC": 1})
    player = CandlePlayer(played, SYMBOL, rows)
    player.begin(1)
    played.control(
        {"do": "order", "account": account.name, "symbol": SYMBOL, "side": "sell", "type": OrderType.STOP.value,
         "quantity": "1", "stop_price": "80"}
    )  # fmt: skip
    player.step()
    # down to 60 before the close: sold at the bid there, 60 less half of 0.0002 of it on the grid
    assert played.account(account.name).holding("USDT").free == D("59.99") * D("0.999")


def test_history_that_is_moved_to_the_present_ends_where_it_begins(tmp_path: Path) -> None:
    rows = read_candles(recorded(tmp_path, *(f"{FIRST + i * 60_000},{100 + i},110,90,{100 + i},1" for i in range(5))))
    played = venue()
    player = CandlePlayer(played, SYMBOL, rows)
    player.begin_now(3)
    this_minute = 1_699_999_980_000  # 22:13:00 of 2023-11-14, the clock says 22:13:45
    assert list(played.book.markets[SYMBOL].candles.rows) == [this_minute - n * 60_000 for n in (3, 2, 1)]
    player.point(0)
    assert list(played.book.markets[SYMBOL].candles.rows)[-1] == this_minute
    assert played.book.markets[SYMBOL].last == D(103)


def walked(seed: int, seconds: int = 50) -> TestVenue:
    made = venue()
    player = WalkPlayer(made, SYMBOL, random.Random(seed))
    player.begin_now(20, 100.0)
    for _ in range(seconds):
        player.second()
    return made


def test_a_walk_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    prices = [[trade.price for trade in walked(seed).book.markets[SYMBOL].trades] for seed in (1, 1, 2)]
    assert prices[0] == prices[1] != prices[2]


def test_a_walks_candles_are_sound_and_end_with_the_one_that_is_forming() -> None:
    market = walked(1).book.markets[SYMBOL]
    assert list(market.candles.rows) == [1_699_999_980_000 - n * 60_000 for n in range(20, -1, -1)]
    for row in market.candles.rows.values():
        assert row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high
        assert row.volume > 0
        assert row.close % market.rules.tick == 0


def test_minutes_without_a_trade_close_flat_and_without_a_hole() -> None:
    made = walked(1)
    made.time.shift_ms = 3 * 60_000
    made.market(SYMBOL).roll()
    rows = made.book.markets[SYMBOL].candles.rows
    assert list(rows)[-4:] == [1_699_999_980_000 + n * 60_000 for n in range(4)]
    last = list(rows.values())[-1]
    assert last.open == last.high == last.low == last.close
    assert last.volume == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEADER, "no rows"),
        (HEADER + "1,2,3\n", "line 2"),
        (HEADER + f"{FIRST},1,2,x,1,1\n", "line 2"),
        (HEADER + f"{FIRST},1,1,1,nan,1\n", "line 2"),
        ("a,b\n1,2\n", "line 2"),
    ],
)
def test_a_broken_file_is_refused_by_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "broken.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=says):
        read_candles(path)
