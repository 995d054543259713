"""What a person reads while a search runs."""

import pytest

from training import tune_display
from training.tune import Progress
from training.tune_display import Display, short
from training.tune_study import Standing


def standing(number: int, score: float | None, outcome: str = "done", reason: str = "") -> Standing:
    chosen = {"tau": 0.01234567, "batch_size": 1024}
    return Standing(number=number, outcome=outcome, score=score, chosen=chosen, folds=(), seconds=60.0, reason=reason)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now_s = [1000.0]
    monkeypatch.setattr(tune_display.time, "monotonic", lambda: now_s[0])
    return now_s


def test_each_trial_that_ends_is_a_line_with_the_best_and_the_time_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Display(4, dict) as shown:
        for number, ended in enumerate(
            (standing(1, 0.5), standing(2, 0.25, "pruned"), standing(3, None, "unusable", "it diverged")), 1
        ):
            clock[0] += 60.0
            shown.tell(Progress(number=number, share=1.0, standing=ended))
    assert capsys.readouterr().err.splitlines() == [
        "trial 1 of 4: 0.500, 60 s; the best so far: tau 0.0123, batch_size 1,024; 3.0 min left",
        "trial 2 of 4: given up at 0.250, 0 folds done, 60 s; best 0.500 of trial 1; 2.0 min left",
        "trial 3 of 4: no score: it diverged, 60 s; best 0.500 of trial 1; 60 s left",
    ]


def test_trials_of_an_earlier_run_are_not_told_again_but_count(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Display(3, dict) as shown:
        shown.tell(Progress(number=1, share=1.0, standing=standing(1, 0.9), is_earlier=True))
        clock[0] += 10.0
        shown.tell(Progress(number=2, share=1.0, standing=standing(2, 0.1)))
    assert capsys.readouterr().err.splitlines() == [
        "trial 2 of 3: 0.100, 60 s; best 0.900 of trial 1; 10 s left"  # one of this run's took ten seconds
    ]


def test_a_pipe_hears_of_a_long_trial_every_half_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Display(2, dict) as shown:
        for step in range(10):
            clock[0] += 10.0
            shown.tell(Progress(number=1, share=(step + 1) / 20))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0] == "0 of 2 trials, 1 running; 6.2 min left"  # 0.15 of two in 30 s leaves 1.85: 370 s


def test_values_are_told_with_the_digits_that_matter() -> None:
    assert [short(value) for value in (1.5e-05, 0.99731, 250_000, "64,64")] == [
        "1.5e-05",
        "0.99731",
        "250,000",
        "64,64",
    ]
