from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from strategy.bundle import Bundle
from strategy.errors import BadWeights, InvalidParameters
from strategy.features import WINDOW
from strategy.observation import N_OBSERVATION
from strategy.parameters import CostModel
from strategy.trader import Votes
from tests.fakes.bundles import random_arrays
from tests.fakes.trading import HOUR_MS
from tests.training.retrainings import SEEN_TO_MS, bundle, market, steady
from training.backtest import run
from training.bundles import conditions_of, reference_of
from training.market import setup_of
from training.retrain_exam import Exam, Watched, exam_of, sit
from training.retrain_split import split_of

TABLE = market(32)
SPLIT = split_of([TABLE], SEEN_TO_MS, 30.0, 0)


@pytest.fixture
def busy(tmp_path: Path) -> Bundle:
    return bundle(tmp_path / "busy", random_arrays(3, N_OBSERVATION), random_arrays(4, N_OBSERVATION))


@pytest.fixture
def exam(busy: Bundle) -> Exam:
    return exam_of([TABLE], setup_of([TABLE], conditions_of(busy.manifest), "test"), SPLIT)


class Said:
    """Votes as given, one after the other; an error is raised."""

    def __init__(self, *votes: "list[list[list[float]]] | None") -> None:
        self.weights: NDArray[np.float64] = np.ones(1)
        self._votes = list(votes)

    def act(self, _: NDArray[np.float32]) -> Votes:
        votes = self._votes.pop(0)
        if votes is None:
            raise BadWeights("no more")
        return np.array(votes, np.float32)


def test_an_exam_holds_the_days_that_judge_and_no_candle_more_than_their_windows_take(exam: Exam) -> None:
    (table,) = exam.tables
    assert int(table.open_ms[-1]) + HOUR_MS == SPLIT.to_ms
    before = (SPLIT.from_ms - int(table.open_ms[0])) // HOUR_MS
    assert WINDOW <= before <= WINDOW + exam.setup.strategy.max_missing


def test_the_account_is_that_of_the_daemon_s_trader(exam: Exam, busy: Bundle) -> None:
    shown = sit(exam, busy)
    record, _ = run(
        exam.tables, exam.setup, busy.ensemble, reference=reference_of(busy), start_ms=SPLIT.from_ms, cash=100_000.0
    )
    assert shown.track.equity[1:].tolist() == record.equity
    assert shown.track.close_ms.tolist() == record.close_ms
    assert (int(shown.track.close_ms[0]), int(shown.track.close_ms[-1])) == (SPLIT.from_ms + HOUR_MS, SPLIT.to_ms)
    assert (shown.asked, shown.failed) == (30 * 24, 0)
    assert len(shown.track.fills) > 10


def test_at_twice_the_costs_it_earns_less(exam: Exam, busy: Bundle) -> None:
    plain, dear = sit(exam, busy), sit(exam, busy, costs=2.0)
    assert dear.track.equity[-1] < plain.track.equity[-1]
    first, second = plain.track.fills[0], dear.track.fills[0]
    assert second.fee / second.notional == pytest.approx(2.0 * first.fee / first.notional)
    costly = replace(exam.setup, costs=CostModel(fee_rate=0.06))
    with pytest.raises(InvalidParameters, match=r"fee_rate 0\.12"):
        sit(replace(exam, setup=costly), busy, costs=2.0)


def test_progress_is_told_and_may_end_it(exam: Exam, busy: Bundle) -> None:
    told: list[int] = []
    sit(exam, busy, progress=told.append)
    assert told
    assert told == sorted(told)
    assert told[-1] <= 30 * 24

    def ended(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sit(exam, busy, progress=ended)


def test_votes_are_counted_as_they_are() -> None:
    good, high, low = [0.5, 0.5, 0.5], [0.995, 0.5, 0.5], [-1.0, 0.5, 0.5]
    none, endless = [float("nan"), 0.0, 0.0], [0.0, 0.0, float("inf")]
    watched = Watched(Said([[good, high], [low, low]], None, [[none, good], [good, endless]]))
    two = np.zeros((2, 3), np.float32)
    assert watched.act(two).shape == (2, 2, 3)
    assert (watched.asked, watched.failed, watched.directions, watched.saturated) == (2, 0, 4, 3)
    with pytest.raises(BadWeights):
        watched.act(two)
    assert (watched.asked, watched.failed) == (4, 2)
    assert np.isinf(watched.act(two)[1, 1, 2])
    assert (watched.asked, watched.failed, watched.saturated) == (6, 4, 3)


def test_an_ensemble_that_fails_holds_and_is_seen_to_fail(exam: Exam, busy: Bundle) -> None:
    class Failing:
        weights = busy.ensemble.weights

        def act(self, observations: NDArray[np.float32]) -> Votes:
            return np.full((len(observations), 2, 3), np.nan, np.float32)

    shown = sit(exam, replace(busy, ensemble=Failing()))  # type: ignore[arg-type]
    assert (shown.asked, shown.failed, len(shown.track.fills)) == (720, 720, 0)


def test_one_end_of_the_range_is_told_as_a_share(exam: Exam, tmp_path: Path) -> None:
    shown = sit(exam, bundle(tmp_path / "two", steady(9.0), steady(0.1)))
    assert shown.saturated == 0.5
