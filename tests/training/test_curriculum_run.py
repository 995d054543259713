import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strategy.parameters import CostModel
from tests.fakes.trading import BTC
from tests.training.markets import history
from tests.training.members import SCORED, last_of, plan
from training import curriculum_run
from training.curriculum import Curriculum, make_stages
from training.curriculum_run import STATE, StageReport, train_by_stages
from training.errors import Interrupted, TrainingError
from training.history import History
from training.member import MemberProgress, MemberResult
from training.model_state import weights_of
from training.plan import MemberPlan, Validation
from training.validation import Score

PRACTICE = History(history(48 * 6 + 30, seed=3), 48)
IMPOSSIBLE, SURE = (99.0, 99.0, 99.0), (-99.0, -99.0, -99.0)
PLAN = plan(steps=1_200, validation=Validation(every=200))
"""Half of 1,200 steps are 100 for each of six tries."""


def course(thresholds: tuple[float, float, float] = IMPOSSIBLE, **changes: Any) -> Curriculum:
    return Curriculum(**{"days": 2, "move_days": 1, "tries": 2, "thresholds": thresholds, **changes})


def run(folder: Path, curriculum: Curriculum, chosen: MemberPlan = PLAN, **how: Any) -> tuple[MemberResult, Any]:
    folder.mkdir(exist_ok=True)
    return train_by_stages([PRACTICE], [SCORED], chosen, folder, curriculum, **how)


def learned(result: MemberResult) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in weights_of(result.model).items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MemberResult, tuple[StageReport, ...]]:
    """Return a run in which no stage is ever reached."""
    folder = tmp_path_factory.mktemp("whole")
    result, stages = run(folder, course())
    return folder, result, stages


def scripted(monkeypatch: pytest.MonkeyPatch, *scores: float) -> list[list[History]]:
    """Let stages be scored by `scores` in turn; return what they were scored on."""
    left: Iterator[float] = iter(scores)
    seen: list[list[History]] = []

    def validate(_: Any, histories: list[History], __: Any) -> Score:
        seen.append(list(histories))
        return Score(sharpe=next(left), total_return=0.0, max_drawdown=0.0, trades=1, exposure=0.0, actions={})

    monkeypatch.setattr(curriculum_run, "validate", validate)
    return seen


# ---- from stage to stage ----------------------------------------------------------------------------------------
def test_a_stage_that_is_never_reached_is_left_after_its_tries_and_says_so(
    whole: tuple[Path, MemberResult, tuple[StageReport, ...]],
) -> None:
    _, result, stages = whole
    assert [len(stage.scores) for stage in stages] == [2, 2, 2]
    for stage in stages:
        assert not stage.is_reached
        assert stage.words == f"not reached: {stage.scores[-1]:.2f} of 99 after 2 tries"
        assert stage.steps == 208  # rollouts are of 4 steps of 2 accounts: 104 steps a try
    assert result.steps == 1_200


def test_a_stage_that_is_reached_is_practised_once_and_its_steps_go_to_all_candles(tmp_path: Path) -> None:
    result, stages = run(tmp_path / "a", course(SURE))
    assert [len(stage.scores) for stage in stages] == [1, 1, 1]
    assert all(stage.is_reached for stage in stages)
    assert result.steps == 1_200
    index = json.loads((tmp_path / "a" / "checkpoint.json").read_bytes())
    assert index["steps"] == 1_200 - 3 * 104


def test_promotion_needs_the_threshold_of_each_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, 0.49, 0.5, 0.99, 0.31, 1.5)
    _, stages = run(tmp_path / "a", course((0.5, 1.0, 1.5)))
    assert [stage.words for stage in stages] == [
        "reached: 0.50 of 0.5 after 2 tries",
        "not reached: 0.31 of 1 after 2 tries",
        "reached: 1.50 of 1.5 after 1 try",
    ]


def test_a_stage_is_scored_on_its_own_held_out_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scripted(monkeypatch, 9.0, 9.0, 9.0)
    run(tmp_path / "a", course((0.5, 1.0, 1.5)))
    stages = make_stages([PRACTICE], course(), CostModel())
    for histories, stage in zip(seen, stages, strict=True):
        assert [int(made.table.open_ms[made.starts[0]]) for made in histories] == [w.from_ms for w in stage.held]
        assert [made.symbol for made in histories] == [BTC]


def test_the_report_is_json_with_what_was_measured(whole: tuple[Path, MemberResult, tuple[StageReport, ...]]) -> None:
    rows = json.loads(json.dumps([stage.to_json() for stage in whole[2]], allow_nan=False))
    assert [row["stage"] for row in rows] == ["easy", "medium", "hard"]
    for row in rows:
        assert set(row) == {
            "stage", "windows", "held_out", "volatility", "move", "cost", "threshold",
            "tries", "steps", "scores", "score", "is_reached", "words",
        }  # fmt: skip
        assert (row["windows"], row["held_out"], row["is_reached"]) == (2, 1, False)


# ---- what is carried on -----------------------------------------------------------------------------------------
def test_each_part_begins_with_the_weights_and_optimisers_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    train = curriculum_run.train_member

    def watched(*args: Any, prepare: Any, **how: Any) -> MemberResult:
        def note(model: Any) -> None:
            if prepare is not None:
                prepare(model)
            state = model.critic.optimizer.state_dict()["state"]
            steps = {float(moments["step"]) for moments in state.values()}
            begun.append(({name: array.tobytes() for name, array in weights_of(model).items()}, steps))

        return train(*args, prepare=note, **how)

    monkeypatch.setattr(curriculum_run, "train_member", watched)
    folder = tmp_path / "a"
    run(folder, course(SURE))
    ends = [last_of(folder / "curriculum" / f"try-{n}-{name}") for n, name in enumerate(("easy", "medium", "hard"))]
    assert len(begun) == 4
    assert begun[0][1] == set()  # the first optimiser has not taken a step
    for (weights, steps), end in zip(begun[1:], ends, strict=True):
        assert weights == end["weights"]
        assert len(steps) == 1
    # An update every 4 steps of each of two accounts, after the tenth of 100 steps that is random: they go on counting.
    counts = [steps.pop() for _, steps in begun[1:]]
    assert counts[0] > 0
    assert counts == pytest.approx([counts[0], 2 * counts[0], 3 * counts[0]])


def test_the_first_part_begins_as_it_was_prepared(tmp_path: Path) -> None:
    called: list[int] = []
    run(tmp_path / "a", course(SURE), prepare=lambda model: called.append(model.num_timesteps))
    assert called == [0]


def test_the_rate_falls_only_in_the_last_part_and_seeds_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[MemberPlan] = []
    train = curriculum_run.train_member

    def watched(histories: Any, validation: Any, chosen: MemberPlan, *args: Any, **how: Any) -> MemberResult:
        plans.append(chosen)
        return train(histories, validation, chosen, *args, **how)

    monkeypatch.setattr(curriculum_run, "train_member", watched)
    falling = replace(PLAN, settings=replace(PLAN.settings, final_learning_rate=1e-5))
    run(tmp_path / "a", course(SURE), falling)
    assert [each.settings.final_learning_rate for each in plans] == [None, None, None, 1e-5]
    assert [each.validation for each in plans] == [None, None, None, PLAN.validation]
    assert [each.steps for each in plans] == [100, 100, 100, 888]
    assert [each.settings.learning_starts for each in plans] == [10, 10, 10, 88]
    assert len({each.seed for each in plans}) == 4


def test_progress_counts_all_parts_together(tmp_path: Path) -> None:
    told: list[MemberProgress] = []
    run(tmp_path / "a", course(SURE), tell=told.append)
    steps = [each.steps for each in told]
    assert steps == sorted(steps)
    assert steps[-1] == 1_200
    assert {each.total for each in told} == {1_200}


# ---- the same weights -------------------------------------------------------------------------------------------
def test_the_same_seed_gives_the_same_weights(
    tmp_path: Path, whole: tuple[Path, MemberResult, tuple[StageReport, ...]]
) -> None:
    result, stages = run(tmp_path / "again", course())
    assert learned(result) == learned(whole[1])
    assert stages == whole[2]


def test_another_seed_gives_other_weights(
    tmp_path: Path, whole: tuple[Path, MemberResult, tuple[StageReport, ...]]
) -> None:
    result, _ = run(tmp_path / "other", course(), replace(PLAN, seed=8))
    assert learned(result) != learned(whole[1])


@pytest.mark.parametrize("asked", [1, 2, 3, 5])
def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_weights(
    tmp_path: Path,
    whole: tuple[Path, MemberResult, tuple[StageReport, ...]],
    monkeypatch: pytest.MonkeyPatch,
    asked: int,
) -> None:
    _ask_often(monkeypatch)
    folder, starts = tmp_path / "cut", 0
    while True:
        starts += 1
        try:
            result, stages = run(folder, course(), should_stop=_stopping(asked * 5))
            break
        except Interrupted:
            assert starts < 100
    assert starts > 1
    assert learned(result) == learned(whole[1])
    assert (result.steps, result.best_steps, result.score) == (whole[1].steps, whole[1].best_steps, whole[1].score)
    assert stages == whole[2]


def _stopping(count: int) -> Callable[[], bool]:
    asked = [0]

    def should_stop() -> bool:
        asked[0] += 1
        return asked[0] >= count

    return should_stop


def _ask_often(monkeypatch: pytest.MonkeyPatch) -> None:
    from training import member_run  # noqa: PLC0415

    checkpointing = member_run.Checkpointing
    monkeypatch.setattr(member_run, "Checkpointing", lambda *args, **how: checkpointing(*args, **how, ask=20))


@pytest.mark.parametrize("when", ["before the score is noted", "before the buffer is dropped"])
def test_a_kill_between_practice_and_note_changes_nothing(
    tmp_path: Path,
    whole: tuple[Path, MemberResult, tuple[StageReport, ...]],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    name = {"before the score is noted": "_write_tries", "before the buffer is dropped": "drop_replay"}[when]
    with monkeypatch.context() as patched:
        patched.setattr(curriculum_run, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", course())
    result, stages = run(tmp_path / "cut", course())
    assert learned(result) == learned(whole[1])
    assert stages == whole[2]


def test_a_finished_run_is_given_back_at_once(
    whole: tuple[Path, MemberResult, tuple[StageReport, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before, stages = whole
    monkeypatch.setattr(curriculum_run, "validate", None)  # nothing is left to score
    result, again = run(folder, course())
    assert learned(result) == learned(before)
    assert again == stages


def test_buffers_of_finished_tries_are_freed(whole: tuple[Path, MemberResult, tuple[StageReport, ...]]) -> None:
    assert list((whole[0] / "curriculum").rglob("replay-*")) == []
    assert len(list((whole[0] / "curriculum").iterdir())) == 6


# ---- bad input --------------------------------------------------------------------------------------------------
def test_another_curriculum_in_the_folder_is_refused_naming_what_differs(
    whole: tuple[Path, MemberResult, tuple[StageReport, ...]],
) -> None:
    with pytest.raises(TrainingError, match=r"it is of another run: curriculum tries was 2, is 1; change it back"):
        run(whole[0], course(tries=1))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', '{"format": "sacd curriculum 1"}'])
def test_a_damaged_state_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE).write_text(text)
    with pytest.raises(TrainingError, match=r"curriculum\.json: it .*remove the folder to begin anew"):
        run(tmp_path, course())


def test_a_try_whose_checkpoint_is_gone_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    run(folder, course(SURE))
    (folder / "curriculum" / "try-2-hard" / "checkpoint.json").unlink()
    with pytest.raises(TrainingError, match=r"try-2-hard: its checkpoint is gone: remove .* to begin the member anew"):
        run(folder, course(SURE))


def test_too_few_steps_are_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="leaves 16 steps for a try"):
        run(tmp_path / "a", course(), replace(PLAN, steps=200))
    assert list((tmp_path / "a").iterdir()) == []
