"""kill -9 at random and at chosen moments of a paper run: the account goes on as if nothing had happened."""

import random
from pathlib import Path

import pytest

from daemon import journal_reader
from daemon.errors import DataError
from daemon.simulated_market import ORIGIN_MS
from tests.crash.nursery import Nursery, last_state, order_ids, story
from tests.fakes.serving import Place, make_place
from tests.fakes.trading import HOUR_MS

KILLS = 60
FIRST_DECISION_MS = ORIGIN_MS + 2_501 * HOUR_MS
"""The simulated market's history ends here: a window and a hundred candles."""
ENOUGH_MS = FIRST_DECISION_MS + 100 * HOUR_MS
LONGEST = 3.0
"""How many times as long lives may become on a slow machine."""
KILLED = -9


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def _newest_ms(journal: Path) -> int:
    try:
        entries = journal_reader.tail(journal, 50) if journal.exists() else []
    except DataError:
        return 0  # killed while it was made; where it had held candles before, this is less than it was
    candles = [entry for entry in entries if entry.kind == "candle"]
    return int(candles[-1].payload["open_ms"]) if candles else 0


def _finish_and_compare(nursery: Nursery, place: Place, killed: Path, end_ms: int) -> None:
    """Let the account that was killed run to `end_ms`, and another one from the beginning, and compare them."""
    assert nursery.live(killed, end_ms) == 0
    assert nursery.live(place.configure(state="whole", name="whole.toml"), end_ms) == 0
    found = journal_reader.verify(place.journal("killed"))
    assert found.is_sound, found
    resumed, whole = story(place.journal("killed")), story(place.journal("whole"))
    assert len(resumed) == len(whole)
    for mine, expected in zip(resumed, whole, strict=True):
        assert mine == expected
    assert last_state(place.journal("killed")) == last_state(place.journal("whole"))
    ids = order_ids(resumed)
    assert len(ids) == len(set(ids))
    fills = [payload["fill_id"] for kind, payload in resumed if kind == "fill"]
    assert len(fills) == len(set(fills))
    sides = {payload["side"] for kind, payload in resumed if kind == "fill"}
    assert sides == {"buy", "sell"}, "an account that never trades proves nothing"


def _kill_often(nursery: Nursery, config: Path, journal: Path) -> list[int]:
    """Kill lives at random moments until enough was traded; returns the newest candle that each left behind.

    Where a machine is so slow that a life gets nowhere, the next ones are longer: what is traded is what is tested.
    """
    moments, reached, stretch = random.Random(20), [0], 1.0
    while len(reached) <= KILLS or reached[-1] <= ENOUGH_MS:
        assert len(reached) <= 3 * KILLS, "too little was traded between the kills"
        # Short lives die while they start, recover or warm up; longer ones while they trade.
        is_short = len(reached) % 3 == 1
        delay_s = moments.uniform(0.0, 0.25) if is_short else moments.uniform(0.1, 0.5)
        assert nursery.live(config, 2**53, delay_s=stretch * delay_s) == KILLED
        reached.append(_newest_ms(journal))
        if not is_short and reached[-1] == reached[-2]:
            stretch = min(LONGEST, 1.1 * stretch)
    return reached


def test_an_account_that_was_killed_60_times_equals_one_that_never_was(place: Place) -> None:
    config = place.configure(state="killed", name="killed.toml", journal={"checkpoint_every": 7})
    with Nursery() as nursery:
        reached = _kill_often(nursery, config, place.journal("killed"))
        assert reached == sorted(reached)
        _finish_and_compare(nursery, place, config, reached[-1] + 20 * HOUR_MS)


def test_dying_right_before_and_after_every_step_loses_and_doubles_nothing(place: Place) -> None:
    config = place.configure(state="killed", name="killed.toml", journal={"checkpoint_every": 5})
    with Nursery() as nursery:
        # 14 appends are the run, the history in groups of 400 and the first decisions.
        points = [("append", n, before) for n in (1, 2, 3, 5, 8, 9, 10, 14) for before in (True, False)]
        points += [("submit", n, before) for n in (1, 2, 3, 5) for before in (True, False)]
        for point in points:
            assert nursery.live(config, 2**53, death=point) == KILLED
        end_ms = _newest_ms(place.journal("killed")) + 10 * HOUR_MS
        _finish_and_compare(nursery, place, config, end_ms)
