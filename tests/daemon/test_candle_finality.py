"""What makes a candle final, on rows written by hand and on histories invented by Hypothesis."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.candle_finality import CandleLedger, Final, Grouper, opens_at
from daemon.ports import Gap, LateCandle
from strategy.candle import Candle

SPAN = 60_000
LATER = 10**15


def row(index: int, close: float = 100.0) -> list[Any]:
    return [index * SPAN, 100.0, 200.0, 50.0, close, 1.0]


def candle(index: int, close: float = 100.0, symbol: str = "BTC/USDT") -> Candle:
    return Candle(
        symbol=symbol, open_ms=index * SPAN, span_ms=SPAN, open=100.0, high=200.0, low=50.0, close=close, volume=1.0
    )


def ledger(last: int | None = None) -> CandleLedger:
    return CandleLedger(symbol="BTC/USDT", span_ms=SPAN, last=None if last is None else candle(last))


def indices(finals: tuple[Final, ...]) -> list[int]:
    return [final.candle.open_ms // SPAN for final in finals]


@pytest.mark.fault(3)
def test_the_newest_row_is_never_final() -> None:
    book = ledger(9)
    assert indices(book.settle([row(10)]).finals) == []
    assert indices(book.settle([row(10), row(11)]).finals) == [10]
    assert book.edge_ms == 11 * SPAN


def test_a_hole_is_believed_only_with_a_second_answer_and_the_candle_before_it_waits_too() -> None:
    book = ledger(9)
    first = book.settle([row(10), row(13), row(14)])
    assert (indices(first.finals), first.doubt is None) == ([], False)
    second = book.settle([row(10), row(13), row(14)], venue_now_ms=LATER)
    assert indices(second.finals) == [10, 13]
    assert second.finals[1].gap == Gap(symbol="BTC/USDT", first_ms=11 * SPAN, missing=2)


def test_what_a_lagging_answer_left_out_is_no_gap_once_it_is_there() -> None:
    book = ledger(9)
    book.settle([row(10), row(12)])
    second = book.settle([row(10), row(11), row(12)], venue_now_ms=LATER)
    assert indices(second.finals) == [10, 11]
    assert [final.gap for final in second.finals] == [None, None]


def test_rows_after_the_venues_own_time_prove_nothing() -> None:
    settled = ledger(9).settle([row(10), row(5_000)], venue_now_ms=10 * SPAN + 1)
    assert settled.finals == ()


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    "broken",
    [
        [10 * SPAN, float("nan"), 200.0, 50.0, 100.0, 1.0],
        [10 * SPAN, 100.0, 200.0, 50.0, None, 1.0],
        [10 * SPAN, 100.0, 40.0, 50.0, 45.0, 1.0],
        [10 * SPAN, 100.0, 200.0, 50.0, 100.0, -1.0],
        [10 * SPAN, 100.0, float("inf"), 50.0, 100.0, 1.0],
    ],
    ids=["NaN", "None", "high below low", "negative volume", "infinite"],
)
def test_a_broken_candle_is_asked_again_then_left_out_and_counts_as_missing(broken: list[Any]) -> None:
    book = ledger(9)
    assert book.settle([broken, row(11)]).doubt is not None
    confirmed = book.settle([broken, row(11)], venue_now_ms=LATER)
    assert confirmed.finals == ()
    assert str(10 * SPAN) in confirmed.faults[0]
    after = book.settle([broken, row(11), row(12)])
    assert indices(after.finals) == [11]
    assert after.finals[0].gap == Gap(symbol="BTC/USDT", first_ms=10 * SPAN, missing=1)
    assert after.faults == (), "it was told once"


def test_a_broken_candle_that_is_sound_the_second_time_is_taken() -> None:
    book = ledger(9)
    book.settle([[10 * SPAN, 100.0, 200.0, 50.0, None, 1.0], row(11)])
    assert indices(book.settle([row(10), row(11)], venue_now_ms=LATER).finals) == [10]


@pytest.mark.fault(6)
def test_a_late_copy_is_told_once_per_value() -> None:
    book = ledger(9)
    book.settle([row(10), row(11)])
    late = LateCandle(candle=candle(10, 101.0), known=candle(10))
    assert book.settle([row(10, 101.0), row(11)]).late == (late,)
    assert book.settle([row(10, 101.0), row(11)]).late == ()
    assert book.settle([row(10, 102.0), row(11)]).late == (LateCandle(candle=candle(10, 102.0), known=candle(10)),)


@pytest.mark.parametrize("value", [None, True, "60000", float("nan"), -SPAN, 0, SPAN + 1, 1e300, float("inf")])
def test_an_open_time_off_the_grid_is_none(value: Any) -> None:
    assert opens_at([value, 1.0, 1.0, 1.0, 1.0, 1.0], SPAN) is None


def test_a_row_with_too_few_fields_opens_nowhere() -> None:
    assert opens_at([SPAN, 1.0], SPAN) is None
    assert opens_at([], SPAN) is None


@pytest.mark.fault(3)
@pytest.mark.fault(5)
@given(
    missing=st.sets(st.integers(2, 38), max_size=12),
    seed=st.integers(0, 2**32),
    answers=st.integers(1, 12),
)
def test_any_sequence_of_answers_gives_each_candle_once_in_order_and_accounts_for_every_hole(
    missing: set[int], seed: int, answers: int
) -> None:
    generator, book = random.Random(seed), ledger(0)
    present = [index for index in range(1, 41) if index not in missing]
    got: list[Final] = []
    edges = [*sorted(generator.sample(present, min(answers, len(present)))), 40]
    for edge in edges:
        shown = [row(index) for index in present if index <= edge and index >= edge - 60]
        generator.shuffle(shown)
        for confirmed in (None, LATER):
            settled = book.settle(shown + generator.sample(shown, len(shown) // 2), venue_now_ms=confirmed)
            assert all(final.candle.open_ms < edge * SPAN for final in settled.finals), "the newest is still forming"
            assert settled.late == settled.faults == ()
            got += settled.finals
    assert indices(tuple(got)) == [index for index in present if index < 40]
    holes = [
        index for final in got if final.gap for index in range(final.gap.first_ms // SPAN, final.candle.open_ms // SPAN)
    ]
    assert sorted(holes) == sorted(missing - {index for index in missing if index > max(present[:-1])})
    assert all(final.gap.missing == (final.candle.open_ms - final.gap.first_ms) // SPAN for final in got if final.gap)


# ---- groups ---------------------------------------------------------------------------------------------------------
def final(index: int, symbol: str) -> Final:
    return Final(candle=candle(index, symbol=symbol))


def shape(groups: list[tuple[Final, ...]]) -> list[list[tuple[str, int]]]:
    return [[(f.candle.symbol[0], f.candle.open_ms // SPAN) for f in group] for group in groups]


def grouper() -> Grouper:
    return Grouper(symbols=("B/USDT", "A/USDT"), grace_s=3.0)


def test_a_group_waits_for_every_symbol_and_keeps_the_configured_order() -> None:
    groups = grouper()
    groups.add(final(1, "A/USDT"), 0.0)
    assert groups.take(1.0) == []
    groups.add(final(1, "B/USDT"), 1.0)
    assert shape(groups.take(1.0)) == [[("B", 1), ("A", 1)]]


def test_grace_ends_the_wait_and_the_late_one_goes_alone_at_once() -> None:
    groups = grouper()
    groups.add(final(1, "A/USDT"), 0.0)
    assert groups.deadline_s() == 3.0
    assert groups.take(2.9) == []
    assert shape(groups.take(3.0)) == [[("A", 1)]]
    groups.add(final(1, "B/USDT"), 3.5)
    assert shape(groups.take(3.5)) == [[("B", 1)]]
    assert groups.deadline_s() is None


def test_a_symbol_that_has_moved_past_a_time_is_not_waited_for_there() -> None:
    groups = grouper()
    groups.add(final(1, "A/USDT"), 0.0)
    groups.add(final(2, "B/USDT"), 0.0)
    assert shape(groups.take(0.0)) == [[("A", 1)]]


@given(order=st.permutations([(symbol, index) for symbol in ("A/USDT", "B/USDT") for index in range(5)]))
def test_groups_do_not_depend_on_the_order_of_arrival_between_symbols(order: list[tuple[str, int]]) -> None:
    groups, got = grouper(), []
    queues = {symbol: iter(range(5)) for symbol in ("A/USDT", "B/USDT")}
    for symbol, _ in order:  # per symbol in time order, interleaved at will
        groups.add(final(next(queues[symbol]), symbol), 0.0)
        got += groups.take(0.0)
    assert shape(got) == [[("B", index), ("A", index)] for index in range(5)]


# ---- prices that cannot be ------------------------------------------------------------------------------------------
@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("close", "price", "is_believed"),
    [
        (151.0, 150.0, True),
        (151.0, 100.0, False),
        (49.0, 51.0, True),
        (49.0, 99.0, False),
        (151.0, None, True),  # a venue that does not tell its price has said it twice
    ],
)
def test_a_newest_close_half_away_is_believed_only_when_the_market_has_gone_there(
    close: float, price: float | None, is_believed: bool
) -> None:
    book, rows = ledger(last=1), [[2 * SPAN, 100.0, 200.0, 40.0, close, 1.0], row(3)]
    doubted = book.settle(rows)
    assert doubted.finals == ()
    assert doubted.doubt == f"BTC/USDT candle at {2 * SPAN}: closes at {close:g}, the one before it at 100"
    settled = book.settle(rows, venue_now_ms=LATER, price=price)
    assert settled.doubt is None
    assert [final.candle.close for final in settled.finals] == [close] * is_believed
    assert [fault.endswith(f"the market trades at {price:g}") for fault in settled.faults] == [True] * (not is_believed)


@pytest.mark.fault(7)
def test_a_candle_left_out_for_its_price_counts_as_missing_and_the_next_one_is_held_against_the_one_before_it() -> None:
    book, spike = ledger(last=1), row(2, 199.0)
    book.settle([spike, row(3, 199.0)], venue_now_ms=LATER, price=101.0)
    (final,) = book.settle([spike, row(3, 102.0), row(4, 102.0)]).finals
    assert final.candle.close == 102.0
    assert final.gap == Gap(symbol="BTC/USDT", first_ms=2 * SPAN, missing=1)


def test_a_fall_of_two_fifths_is_a_candle_like_any_other() -> None:
    (final,) = ledger(last=1).settle([row(2, 60.0), row(3, 60.0)]).finals
    assert final.candle.close == 60.0
