"""The search as a whole: workers in processes, what survives them, and what a second start does."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.tune_objectives import Hill, Inline, hill, job
from training.errors import TrainingError
from training.tune import Job, Progress, Result, tune
from training.tune_study import open_study, standings
from training.workers import LocalPool

CONTEXT = multiprocessing.get_context("spawn")


def search(asked: Job, workers: int = 0, **options: Any) -> Result:
    """Search in so many processes; with none of them, in this one."""
    return tune(asked, {"of": "a hill"}, lambda: LocalPool(workers) if workers else Inline(), workers or 1, **options)


def chosen(result: Result) -> list[dict[str, Any]]:
    return [dict(standing.chosen) for standing in result.standings]


def outcomes(result: Result) -> list[str]:
    return [standing.outcome for standing in result.standings]


def stop_at(progress: Callable[[Progress], bool]) -> Callable[[Progress], None]:
    """Return a listener that interrupts this process, as Ctrl-C does, when `progress` is as wanted."""

    def tell(told: Progress) -> None:
        if progress(told):
            os.kill(os.getpid(), signal.SIGINT)

    return tell


def test_one_seed_and_one_worker_give_the_same_trials_and_scores(tmp_path: Path) -> None:
    results = [search(job(tmp_path / name, trials=13)) for name in ("a", "b")]
    assert chosen(results[0]) == chosen(results[1])
    assert [s.score for s in results[0].standings] == [hill(**s.chosen) for s in results[0].standings]
    assert outcomes(results[0]) == ["done"] * 13
    best = results[0].best
    assert best is not None
    assert best.score == max(hill(**values) for values in chosen(results[0]))


def test_two_workers_share_the_trials_and_none_is_done_twice(tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = search(job(tmp_path, Hill(log=log, delay_s=0.02), trials=12), workers=2)
    lines = log.read_text().splitlines()
    assert outcomes(result) == ["done"] * 12
    assert len(lines) == len({line.split()[0] for line in lines}) == 12
    assert len({str(values) for values in chosen(result)}) == 12


def test_trials_below_the_median_are_given_up(tmp_path: Path) -> None:
    result = search(job(tmp_path, trials=20, rungs=dict.fromkeys(range(3), 0.5)))
    assert outcomes(result)[:5] == ["done"] * 5  # nothing to compare with
    given_up = [hill(**s.chosen) for s in result.standings if s.outcome == "pruned"]
    assert given_up
    assert max(given_up) < max(hill(**s.chosen) for s in result.standings if s.outcome == "done")


def test_processes_and_this_one_find_the_same(tmp_path: Path) -> None:
    here, there = search(job(tmp_path / "a", trials=12)), search(job(tmp_path / "b", trials=12), workers=1)
    assert [(dict(s.chosen), s.score) for s in here.standings] == [(dict(s.chosen), s.score) for s in there.standings]


def test_ctrl_c_keeps_what_is_done_and_a_second_start_completes_the_same_trials(tmp_path: Path) -> None:
    asked = job(tmp_path / "a", Hill(delay_s=0.05), trials=6)
    first = search(asked, workers=1, tell=stop_at(lambda told: told.number == 3))
    assert first.is_interrupted
    assert outcomes(first)[:2] == ["done", "done"]
    assert len(first.standings) <= 3
    told: list[Progress] = []
    second = search(asked, tell=told.append)
    assert outcomes(second) == ["done"] * 6
    assert [progress.number for progress in told if progress.is_earlier] == [1, 2]
    # The interrupted trial moves to the end of its turn, the others come as if nothing had been.
    whole = search(job(tmp_path / "b", trials=6))
    assert sorted(map(str, chosen(second))) == sorted(map(str, chosen(whole)))


def test_more_trials_can_be_asked_for_later(tmp_path: Path) -> None:
    few = search(job(tmp_path / "a", trials=3))
    more = search(job(tmp_path / "a", trials=5))
    assert chosen(more)[:3] == chosen(few)
    assert chosen(more) == chosen(search(job(tmp_path / "b", trials=5)))


def test_a_worker_that_is_killed_is_replaced_and_its_trial_done_again(tmp_path: Path) -> None:
    killed, log = tmp_path / "kill", tmp_path / "log"
    killed.touch()
    result = search(job(tmp_path, Hill(killed=killed, log=log), trials=4), workers=1)
    assert outcomes(result) == ["done"] * 4
    numbers, rates, _, folders = zip(*(line.split() for line in log.read_text().splitlines()), strict=True)
    assert len(numbers) == 5
    assert rates[0] == rates[1]
    assert folders[0] == folders[1]


def in_a_process(asked: Job) -> None:
    search(asked, workers=1)


def test_kill_9_of_the_search_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    asked = job(tmp_path / "a", Hill(delay_s=0.1), trials=8)
    (tmp_path / "a").mkdir()
    process = CONTEXT.Process(target=in_a_process, args=(asked,))
    process.start()
    study = open_study(asked.storage, asked.study)
    deadline_s = time.monotonic() + 60.0
    while sum(standing.outcome == "done" for standing in standings(study)) < 3:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    process.kill()
    process.join()
    before = [standing for standing in standings(study) if standing.outcome == "done"]
    result = search(asked)
    assert outcomes(result) == ["done"] * 8
    assert set(map(repr, before)) <= set(map(repr, result.standings))


def test_a_study_of_something_else_is_refused_and_untouched(tmp_path: Path) -> None:
    search(job(tmp_path, trials=2))
    with pytest.raises(TrainingError, match="searched something else \\(of: a hill before, a valley now\\)"):
        tune(job(tmp_path, trials=3), {"of": "a valley"}, Inline, 1)
    assert len(standings(open_study(job(tmp_path).storage, "test"))) == 2


def test_choices_without_a_score_are_noted_with_their_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    result = search(job(tmp_path, Hill(failure="the losses are not finite"), trials=12))
    assert len(result.standings) == 12
    for standing in result.standings:
        assert standing.outcome == ("unusable" if standing.chosen["share"] < 0.5 else "done")
        assert standing.reason == ("the losses are not finite" if standing.outcome == "unusable" else "")
    assert {"unusable", "done"} == set(outcomes(result))
    assert result.fault == ""


def test_five_trials_in_a_row_without_a_score_end_the_search(tmp_path: Path) -> None:
    never = job(tmp_path, Never(), trials=20)
    result = search(never)
    assert result.fault == "5 trials in a row have no score, the last: it never traded"
    assert outcomes(result) == ["unusable"] * 5


class Never:
    """No choice has a score."""

    def open(self) -> Any:
        return self.score

    def score(self, *_: Any) -> float:
        raise TrainingError("it never traded")


class Broken:
    """What nobody foresaw."""

    def open(self) -> Any:
        return self.score

    def score(self, *_: Any) -> float:
        raise KeyError("a mistake in the program")


def test_an_error_nobody_foresaw_ends_the_search_in_words_and_can_be_gone_on_from(tmp_path: Path) -> None:
    result = search(job(tmp_path, Broken(), trials=3))
    assert "KeyError: 'a mistake in the program'" in result.fault
    assert "a mistake in the program" in (tmp_path / "error.txt").read_text()
    assert outcomes(result) == ["waiting"]
    assert outcomes(search(job(tmp_path, trials=3))) == ["done"] * 3


def test_the_time_is_up_when_it_is_and_the_rest_is_done_later(tmp_path: Path) -> None:
    asked = job(tmp_path, Hill(delay_s=0.2), trials=30)
    started_s = time.monotonic()
    result = search(asked, timeout_s=2.0)
    assert time.monotonic() - started_s < 20.0
    assert result.is_time_up
    assert not result.is_interrupted
    assert 0 < result.ended < 30


def test_two_searches_of_one_study_at_once_share_it(tmp_path: Path) -> None:
    asked = job(tmp_path, Hill(delay_s=0.05), trials=10)
    open_study(asked.storage, asked.study)  # both would make it
    other = CONTEXT.Process(target=in_a_process, args=(asked,))
    other.start()
    result = search(asked, workers=1)
    other.join()
    assert other.exitcode == 0
    final = standings(open_study(asked.storage, asked.study))
    assert [standing.outcome for standing in final] == ["done"] * 10
    assert len(result.standings) <= 10


def test_a_trial_nobody_had_signed_yet_when_all_was_killed_is_done_again(tmp_path: Path) -> None:
    asked = job(tmp_path, trials=3)
    open_study(asked.storage, asked.study).ask(fixed_distributions=asked.distributions)
    assert outcomes(search(asked)) == ["done"] * 3


def test_nothing_but_the_study_and_its_lock_stays_in_the_directory(tmp_path: Path) -> None:
    search(job(tmp_path, trials=2))
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"study.sqlite", "lock"}
    assert threading.active_count() == 1
