"""Paging against venues of every habit, made of a history that the test knows: what comes out must be that history."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from strategy.candle import Timeframe
from strategy.candle_table import CandleTable
from training.errors import TrainingError
from training.fetch_pages import Gap, Market, Page, Restated, Row, joined

HOUR, DAY = 3_600_000, 86_400_000
T0 = 1_577_836_800_000  # 2020-01-01
HOURLY, DAILY = Timeframe.parse("1h"), Timeframe.parse("1d")
SYMBOL = "BTC/USDT"


def row(hour: int) -> list[float]:
    """Return the candle of that hour: every one has other values, exact in binary."""
    price = 100.0 + hour % 1000
    return [T0 + hour * HOUR, price, price + 0.5, price - 0.5, price + 0.25, float(hour % 7)]


def table(hours: Sequence[int]) -> CandleTable:
    rows = np.array([row(hour) for hour in hours], np.float64).reshape(-1, 6)
    return CandleTable(symbol=SYMBOL, timeframe=HOURLY, open_ms=rows[:, 0].astype(np.int64), values=rows[:, 1:])


# ---- habits: each gets all rows in order, `since`, `limit` and the span, and returns what the venue would ---------
def forward(rows: list[list[float]], since: int, limit: int, _: int) -> list[list[float]]:
    return [r for r in rows if r[0] >= since][:limit]


def window(rows: list[list[float]], since: int, limit: int, span: int) -> list[list[float]]:
    return [r for r in rows if since <= r[0] < since + limit * span]


def newest_of_window(rows: list[list[float]], since: int, limit: int, span: int) -> list[list[float]]:
    """As `window`, but never more than 12, the newest of them, newest first."""
    return window(rows, since, limit, span)[-12:][::-1]


def newest(rows: list[list[float]], since: int, limit: int, _: int) -> list[list[float]]:
    """The newest 30 whatever is asked, of which ccxt drops those before `since`."""
    return [r for r in rows[-30:] if r[0] >= since][:limit]


def untidy(rows: list[list[float]], since: int, limit: int, _: int) -> list[list[float]]:
    """From one before `since` on, every row twice, in reverse."""
    found = [r for r in rows if r[0] >= since - HOUR][:limit]
    return [*found, *found][::-1]


def short(rows: list[list[float]], since: int, limit: int, span: int) -> list[list[float]]:
    """Sometimes fewer than asked for, in the middle."""
    return forward(rows, since, max(2, limit // (1 + since // HOUR % 3)), span)


Habit = Callable[[list[list[float]], int, int, int], list[list[float]]]


@dataclass
class Venue:
    """A venue with one hourly history and the days built of it. edits: changes an answer before it is given."""

    rows_: list[list[float]]
    habit: Habit
    edits: Callable[[int, list[list[float]]], list[list[float]]] = lambda _, rows: rows
    day_offset: int = 0
    clock_ms: int | None = None
    asked: list[tuple[str, int | None, int]] = field(default_factory=list)
    name: str = "fake"
    version: str = "0"

    def rows(self, symbol: str, timeframe: str, since_ms: int | None, limit: int) -> Sequence[Row]:
        assert symbol == SYMBOL
        self.asked.append((timeframe, since_ms, limit))
        rows, span = self.rows_, HOUR
        if timeframe == "1d":
            opens = sorted({int(r[0] - self.day_offset) // DAY * DAY + self.day_offset for r in rows})
            rows, span = [[o, 1.0, 1.0, 1.0, 1.0, 1.0] for o in opens], DAY
        found = rows[-limit:] if since_ms is None else self.habit(rows, since_ms, limit, span)
        return self.edits(len(self.asked), [list(r) for r in found])

    def now_ms(self) -> int | None:
        return self.clock_ms


def venue_of(hours: Sequence[int], habit: Habit, **settings_: object) -> Venue:
    return Venue([row(hour) for hour in sorted(hours)], habit, **settings_)  # type: ignore[arg-type]


def market_of(venue: Venue, page: int = 20, coarse: Timeframe | None = DAILY) -> Market:
    market = Market(venue=venue, symbol=SYMBOL, timeframe=HOURLY, page=page, end_ms=0, coarse=coarse)
    market.end_ms = market.newest_ms()
    return market


def read(market: Market, known: CandleTable | None = None, from_hour: int = 0) -> tuple[list[Page], CandleTable]:
    pages = list(market.pages(known, T0 + from_hour * HOUR))
    return pages, joined([known.slice(0, 0) if known is not None else table([]), *(page.table for page in pages)])


def gaps_of(result: CandleTable) -> set[Gap]:
    return {Gap(first_ms=first_ms, missing=missing) for first_ms, missing in result.gaps()}


def confirmed(pages: Sequence[Page]) -> set[Gap]:
    return {gap for page in pages for gap in page.confirmed}


# ---- every habit gives the whole history --------------------------------------------------------------------------
WHOLE = [forward, window, newest_of_window, untidy, short]


@pytest.mark.parametrize("habit", WHOLE, ids=lambda habit: habit.__name__)
def test_an_unbroken_history_comes_whole_and_without_the_forming_candle(habit: Habit) -> None:
    venue = venue_of(range(200), habit)
    pages, result = read(market_of(venue))
    assert result == table(range(199))
    assert not any(page.is_late or page.restated for page in pages)


histories = st.lists(
    st.tuples(st.integers(1, 40), st.one_of(st.integers(1, 6), st.integers(20, 30), st.integers(30, 400))),
    min_size=1,
    max_size=8,
)


def hours_of(stretches: Sequence[tuple[int, int]]) -> list[int]:
    """Return hours: stretches of candles with a hole before each."""
    hours, at = [], 0
    for candles, hole in stretches:
        at += hole
        hours += range(at, at + candles)
        at += candles
    return hours


@given(histories, st.sampled_from(WHOLE), st.integers(0, 23), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_history_comes_whole_with_every_gap_confirmed(
    stretches: list[tuple[int, int]], habit: Habit, day_offset: int, has_days: bool
) -> None:
    hours = hours_of(stretches)
    venue = venue_of(hours, habit, day_offset=day_offset * HOUR)
    pages, result = read(market_of(venue, coarse=DAILY if has_days else None))
    assert result == table(hours[:-1])
    assert gaps_of(result) <= confirmed(pages)
    assert not any(page.restated for page in pages)


@given(histories, st.sampled_from(WHOLE), st.data())
@settings(max_examples=200, deadline=None)
def test_reading_on_from_any_candle_gives_exactly_the_rest(
    stretches: list[tuple[int, int]], habit: Habit, data: st.DataObject
) -> None:
    hours = hours_of(stretches)
    held = data.draw(st.integers(1, len(hours)))
    known = table(hours[:held][-data.draw(st.integers(1, 5)) :])
    pages, result = read(market_of(venue_of(hours, habit)), known)
    assert result == table([hour for hour in hours[:-1] if hour > hours[held - 1]])
    whole = joined([table(hours[:held]), result])
    assert gaps_of(whole.slice(int(known.open_ms[-1]))) <= confirmed(pages)


@given(histories, st.sampled_from([*WHOLE, newest]), st.integers(2, 60), st.integers(0, 1), st.booleans())
@example(stretches=[(13, 1)], habit=newest_of_window, number=3, left=0, has_days=False)
@example(stretches=[(30, 1)], habit=forward, number=4, left=1, has_days=False)
@settings(max_examples=300, deadline=None)
def test_one_answer_cut_off_makes_no_gap_and_confirms_none_that_is_not_there(
    stretches: list[tuple[int, int]], habit: Habit, number: int, left: int, has_days: bool
) -> None:
    hours = hours_of(stretches)
    venue = venue_of(hours, habit, edits=edited([number], lambda rows: sorted(rows)[:left]))
    pages, result = read(market_of(venue, coarse=DAILY if has_days else None))
    assert confirmed(pages) <= gaps_of(table(hours))
    assert result == table([(open_ms - T0) // HOUR for open_ms in result.open_ms.tolist()])
    if habit in WHOLE:
        assert result == table(hours[:-1])


# ---- what a venue does not give -----------------------------------------------------------------------------------
def test_a_venue_that_gives_its_newest_candles_only_is_told_from_one_that_has_no_older_ones() -> None:
    pages, result = read(market_of(venue_of(range(200), newest)))
    assert result == table(range(170, 199))
    assert [page.is_late for page in pages] == [True, False]
    pages, result = read(market_of(venue_of(range(180, 200), newest)))
    assert result == table(range(180, 199))
    assert not any(page.is_late for page in pages)


def test_a_hole_the_venue_no_longer_reaches_back_to_is_not_confirmed() -> None:
    pages, result = read(market_of(venue_of(range(200), newest)), table(range(100, 110)))
    assert result == table(range(170, 199))
    hole = Gap(first_ms=T0 + 110 * HOUR, missing=60)
    assert gaps_of(joined([table([109]), result])) == {hole}
    assert hole not in confirmed(pages)


def test_the_first_candle_is_found_with_few_questions() -> None:
    venue = venue_of(range(60_000, 60_100), window)
    _, result = read(market_of(venue, page=300), from_hour=-96_000)  # 18 years before: 520 windows
    assert result == table(range(60_000, 60_099))
    assert len(venue.asked) < 80


def test_a_candle_is_final_only_behind_a_later_one_whatever_the_clock_says() -> None:
    venue = venue_of(range(10), forward, clock_ms=T0 + 1_000 * HOUR)
    assert read(market_of(venue))[1] == table(range(9))


def test_a_row_from_the_future_makes_nothing_final() -> None:
    venue = venue_of([*range(10), 5_000], forward, clock_ms=T0 + 9 * HOUR + 1)
    assert read(market_of(venue))[1] == table(range(9))


def test_no_candle_before_the_first_wanted_one_or_at_the_end_is_taken() -> None:
    market = market_of(venue_of(range(100), untidy))
    market.end_ms = T0 + 50 * HOUR
    assert read(market, from_hour=10)[1] == table(range(10, 50))


def test_a_market_without_candles_is_named() -> None:
    with pytest.raises(TrainingError, match=r"BTC/USDT 1h shows no candles now"):
        market_of(venue_of([], forward))


def test_a_span_without_candles_gives_no_page() -> None:
    assert read(market_of(venue_of(range(100), forward)), from_hour=99)[0] == []


# ---- answers that are not to be believed at once ------------------------------------------------------------------
def edited(numbers: Sequence[int], change: Callable[[list[list[float]]], list[list[float]]]) -> object:
    return lambda number, rows: change(rows) if number in numbers else rows


def test_a_candle_that_is_missing_from_one_answer_only_comes_with_the_next() -> None:
    venue = venue_of(range(100), forward, edits=edited([2], lambda rows: rows[:5] + rows[8:]))
    pages, result = read(market_of(venue))
    assert result == table(range(99))
    assert confirmed(pages) == set()


@pytest.mark.parametrize("number", range(2, 12))
def test_an_answer_that_is_empty_once_loses_nothing(number: int) -> None:
    venue = venue_of(range(100), forward, edits=edited([number], lambda _: []))
    assert read(market_of(venue))[1] == table(range(99))


def test_a_gap_is_confirmed_although_one_answer_about_it_was_empty() -> None:
    hours = [*range(10), *range(12, 40)]
    for number in range(2, 9):
        pages, result = read(market_of(venue_of(hours, forward, edits=edited([number], lambda _: []))))
        assert result == table(hours[:-1])
        assert confirmed(pages) == {Gap(first_ms=T0 + 10 * HOUR, missing=2)}


def broken(rows: list[list[float]]) -> list[list[float]]:
    return [[r[0], r[1], r[3], r[2], *r[4:]] if r[0] == T0 + 30 * HOUR else r for r in rows]


def test_a_broken_candle_that_is_mended_when_asked_again_is_taken_as_mended() -> None:
    venue = venue_of(range(100), forward, edits=edited([3], broken))
    assert read(market_of(venue))[1] == table(range(99))


def test_a_broken_candle_is_named_and_what_came_before_it_is_kept() -> None:
    market = market_of(venue_of(range(100), forward, edits=edited(range(1, 99), broken)))
    got: list[Page] = []
    with pytest.raises(TrainingError) as refusal:
        got.extend(market.pages(None, T0))
    text = (
        "fake shows a candle that cannot be one: BTC/USDT 1h candle of 2020-01-02 06:00: high 129.5 is below low 130.5"
    )
    assert str(refusal.value).startswith(text)
    pages = iter(market_of(venue_of(range(100), forward, edits=edited(range(1, 99), broken))).pages(None, T0))
    assert next(pages).table == table(range(20))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: [*r[:5], None], "are not five numbers"),
        (lambda r: [r[0], 0.0, *r[2:]], "open 0.0 is not a positive finite price"),
        (lambda r: [r[0] + 60_000, *r[1:]], "open time is not a multiple of the timeframe"),
        (lambda r: [*r[:5], -1.0], "volume -1.0 is not a finite amount"),
    ],
    ids=["no-volume", "zero", "off-the-grid", "negative-volume"],
)
def test_every_kind_of_broken_candle_is_named(change: Callable[[list[float]], list[float]], fault: str) -> None:
    def all_broken(_: int, rows: list[list[float]]) -> list[list[float]]:
        return [change(r) if r[0] == T0 + 5 * HOUR else r for r in rows]

    with pytest.raises(TrainingError, match=fault):
        read(market_of(venue_of(range(100), forward, edits=all_broken)))


def test_one_candle_shown_with_two_values_is_refused() -> None:
    def twice(_: int, rows: list[list[float]]) -> list[list[float]]:
        return [*rows, *([*r[:5], 99.0] for r in rows if r[0] == T0)]

    with pytest.raises(TrainingError, match=r"2020-01-01 00:00: shown twice, with different values"):
        read(market_of(venue_of(range(100), forward, edits=twice)))


# ---- what the venue has changed -----------------------------------------------------------------------------------
def test_a_restated_candle_is_told_and_not_taken() -> None:
    def restate(_: int, rows: list[list[float]]) -> list[list[float]]:
        return [[*r[:5], 50.0] if r[0] == T0 + 8 * HOUR else r for r in rows]

    known = table([5, 6, 8, 9])
    pages, result = read(market_of(venue_of(range(30), forward, edits=restate)), known)
    assert result == table(range(10, 29))
    assert pages[0].restated == (
        Restated(open_ms=T0 + 7 * HOUR, kept=None, venue=tuple(row(7)[1:])),
        Restated(open_ms=T0 + 8 * HOUR, kept=tuple(row(8)[1:]), venue=(*row(8)[1:5], 50.0)),
    )


def test_of_two_tables_the_first_one_counts() -> None:
    other = CandleTable(symbol=SYMBOL, timeframe=HOURLY, open_ms=table([3]).open_ms, values=table([4]).values)
    assert joined([table([1, 3]), other, table([2])]) == table([1, 2, 3])
