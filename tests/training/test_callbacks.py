import itertools
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.members import PLANS, PRACTICE, SCORED, files_up_to, plan, stopping_after, trained
from training import callbacks, member_run
from training.callbacks import BestModel, Checkpointing, EarlyStopping, Health, Telling, Validating
from training.checkpoint import INDEX
from training.errors import Diverged, Interrupted, TrainingError
from training.member import MemberProgress, train_member
from training.monitor import MONITOR
from training.packing import unpack
from training.plan import Validation
from training.reward import COMPONENTS, RewardSettings
from training.validation import Score
from training.vector_env import Step, VectorTradingEnv


def score(value: float | None) -> Score:
    """Return a score of `value`; None is that of a policy that never traded."""
    trades = 0 if value is None else 1
    return Score(sharpe=value or 0.0, total_return=0.0, max_drawdown=0.0, trades=trades, exposure=0.0, actions={})


def model_at(steps: int, **parts: Any) -> Any:
    return SimpleNamespace(num_timesteps=steps, **parts)


def lines_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / MONITOR).read_bytes().splitlines())
    return [line for line in lines if line["kind"] == kind]


# ---- early stopping ---------------------------------------------------------------------------------------------
def ends_after(scores: list[float | None], patience: int, min_delta: float) -> int | None:
    """Return how many scores were told when training ended, None when it went on."""
    stopping = EarlyStopping(patience, min_delta)
    for count, value in enumerate(scores, start=1):
        stopping.on_score(model_at(0), score(value))
        if not stopping._on_step():
            return count
    return None


@pytest.mark.parametrize(
    ("scores", "patience", "min_delta", "end"),
    [
        ([1.0, 0.9, 0.8], 2, 0.0, 3),
        ([1.0, 0.9, 1.1, 1.0, 1.0], 2, 0.0, 5),
        ([1.0, 1.0], 1, 0.0, 2),  # the same again is no improvement
        ([1.0, 1.05, 1.09], 2, 0.1, 3),  # too small a rise does not count, nor do two of them together
        ([1.0, 1.05, 1.11, 1.1, 1.2], 2, 0.1, 5),
        ([-3.0, -2.0, -1.0], 1, 0.5, None),
        ([1.0] * 50, 0, 0.0, None),  # no patience means no end
        ([None] * 50, 2, 0.0, None),  # a policy that never traded yet is given time
        ([None, None, -1.0, -2.0, -0.5, -1.0, -1.0], 2, 0.0, 7),
        ([-1.0, None, None], 2, 0.0, 3),  # to stop trading is no improvement
    ],
)
def test_training_ends_after_as_many_scores_in_vain(
    scores: list[float | None], patience: int, min_delta: float, end: int | None
) -> None:
    assert ends_after(scores, patience, min_delta) == end


def test_early_stopping_ends_the_run_at_its_score_and_gives_the_best_weights(tmp_path: Path) -> None:
    chosen = PLANS["sac-early"]
    result = trained(tmp_path, chosen)
    scores = {line["step"]: line["score"] if line["trades"] else None for line in lines_of(tmp_path, "score")}
    assert result.is_early
    assert len(scores) == ends_after(list(scores.values()), 5, 0.0)
    assert result.steps == max(scores) < chosen.steps
    traded = {steps: value for steps, value in scores.items() if value is not None}
    assert result.best_steps == max(traded, key=lambda steps: traded[steps])
    assert result.score == traded[result.best_steps]
    best = unpack((tmp_path / "best.safetensors").read_bytes())
    held = {name: tensor.numpy() for name, tensor in result.model.policy.state_dict().items()}
    assert all(np.array_equal(best[name], array) for name, array in held.items())


# ---- validation and the best model ------------------------------------------------------------------------------
def test_scores_come_at_every_multiple_and_at_the_end(tmp_path: Path) -> None:
    trained(tmp_path, plan({"train_freq": 7, "n_envs": 1}, steps=500, validation=Validation(every=150)))
    # Rollouts of 7 begin at 154, 301 and 455, the first ones not before the multiples; the run ends with one at 504.
    assert [line["step"] for line in lines_of(tmp_path, "score")] == [154, 301, 455, 504]


def test_a_score_is_not_told_twice() -> None:
    told: list[float] = []
    listener = SimpleNamespace(on_score=lambda model, value: told.append(value.value))
    validating = Validating(lambda model: score(model.num_timesteps), 100, [listener])
    for steps in (0, 99, 100, 101, 350, 399, 400):
        validating.model = model_at(steps)
        validating.on_rollout_start()
    validating.finish()
    assert told == [100, 350, 400]


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([-1.0, 0.5, 0.5, 0.4], 1),  # of equal ones the first
        ([None, -1.0, -2.0, None], 1),  # whoever trades is better than whoever does not
        ([None, None, None], 2),  # of those who do not the last
    ],
)
def test_the_best_is_whoever_scores_highest_of_those_that_trade(
    scores: list[float | None], best: int, tmp_path: Path
) -> None:
    parts = {"policy": torch.nn.Linear(1, 1), "_get_torch_save_params": lambda: (["policy"], [])}
    model = BestModel(tmp_path)
    for steps, value in enumerate(scores):
        model.on_score(model_at(steps, **parts), score(value))
    assert (model.steps, model.value) == (best, scores[best] or 0.0)


def test_the_best_weights_do_not_change_with_the_model(tmp_path: Path) -> None:
    network = torch.nn.Linear(1, 1)
    best = BestModel(tmp_path)
    best.on_score(model_at(1, policy=network, _get_torch_save_params=lambda: (["policy"], [])), score(1.0))
    assert best.weights is not None
    before = best.weights["weight"].copy()
    with torch.no_grad():
        network.weight += 1.0
    np.testing.assert_array_equal(best.weights["weight"], before)
    np.testing.assert_array_equal(unpack((tmp_path / "best.safetensors").read_bytes())["weight"], before)


# ---- checkpoints ------------------------------------------------------------------------------------------------
class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def checkpoints_at(
    monkeypatch: pytest.MonkeyPatch, *, every: int, every_s: float, step_s: float, cost_s: float, steps: int = 1000
) -> list[int]:
    """Return the steps at which checkpoints were written when a step takes `step_s` and writing one `cost_s`."""
    clock, wrote = Clock(), []

    def save(state: Any, model: Any, added: int, *, is_final: bool) -> None:
        wrote.append(model.num_timesteps)
        clock.now_s += cost_s

    monkeypatch.setattr(callbacks, "capture", lambda model: {})
    health = SimpleNamespace(require_finite=lambda: None)
    made = Checkpointing(
        SimpleNamespace(save=save),  # type: ignore[arg-type]
        health,  # type: ignore[arg-type]
        {},
        every=every,
        every_s=every_s,
        total=steps,
        clock=clock,
    )
    for step in range(steps):
        made.model = model_at(step, n_envs=1)
        made.on_rollout_start()
        clock.now_s += step_s
    return wrote


def test_checkpoints_come_by_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    wrote = checkpoints_at(monkeypatch, every=250, every_s=1e9, step_s=1.0, cost_s=0.0)
    assert wrote == [250, 500, 750]


def test_checkpoints_come_by_time_where_steps_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    wrote = checkpoints_at(monkeypatch, every=10_000, every_s=600.0, step_s=2.0, cost_s=0.0)
    assert wrote == [300, 600, 900]


def test_slow_checkpoints_take_no_more_than_a_thirtieth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    wrote = checkpoints_at(monkeypatch, every=10, every_s=600.0, step_s=1.0, cost_s=5.0)
    assert len(wrote) * 5.0 <= 1000.0 / 30.0 + 5.0
    assert all(later - earlier >= 150 for earlier, later in itertools.pairwise(wrote))


def test_whoever_is_stopped_is_told_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as told:
        trained(tmp_path, PLANS["sac"], should_stop=stopping_after(1))
    text = f"interrupted at step 200 of 900; the checkpoint in {tmp_path} is whole: run again to go on from there"
    assert str(told.value) == text
    assert json.loads((tmp_path / INDEX).read_bytes())["steps"] == 200


def test_should_stop_is_asked_about_every_200_steps(tmp_path: Path) -> None:
    asked: list[int] = []
    trained(tmp_path, PLANS["sac"], should_stop=lambda: bool(asked.append(1)))
    assert len(asked) == 4  # of 900 steps, at 200, 400, 600 and 800


# ---- what is recorded -------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    chosen = plan(reward=RewardSettings(excess_return=1.0, diversity=0.5, cost=0.1))
    trained(folder, chosen)
    return folder


def test_an_episodes_components_add_up_to_its_reward(recorded: Path) -> None:
    episodes = lines_of(recorded, "episode")
    for line in episodes:
        # float32 rewards against float64 components
        assert line["reward"] == pytest.approx(sum(line["components"].values()), rel=1e-4, abs=1e-4)
        assert set(line["components"]) <= {"excess_return", "diversity", "cost"} < set(COMPONENTS)
    assert any("cost" in line["components"] for line in episodes)


def test_every_step_belongs_to_one_episode(recorded: Path) -> None:
    episodes = lines_of(recorded, "episode")
    ends: dict[int, int] = {}
    for line in episodes:  # two accounts: each episode of `length` candles takes twice as many steps
        ends[line["account"]] = ends.get(line["account"], 0) + 2 * line["length"]
        assert line["step"] == ends[line["account"]]
    assert set(ends) == {0, 1}
    assert {line["length"] for line in episodes} == {60}


def test_a_line_tells_losses_and_rate(recorded: Path) -> None:
    for kind in ("score", "episode"):
        line = lines_of(recorded, kind)[-1]
        assert {"actor_loss", "critic_loss", "ent_coef", "ent_coef_loss", "learning_rate"} <= set(line["losses"])
        assert line["steps_per_s"] > 0


def test_a_scores_line_tells_the_whole_score(recorded: Path) -> None:
    line = lines_of(recorded, "score")[-1]
    assert line["score"] == line["sharpe"]
    assert sum(line["actions"].values()) == pytest.approx(1.0)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard itself reads: tag -> (step, value)."""
    reader = EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=True).Reload()
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def test_tensorboard_shows_scores_components_and_what_sb3_logs(recorded: Path) -> None:
    shown = scalars(recorded)
    known = {
        "validation/sharpe",
        "validation/trades",
        "reward/excess_return",
        "train/critic_loss",
        "rollout/ep_rew_mean",
    }
    assert known <= set(shown)
    told = [(line["step"], pytest.approx(line["sharpe"], rel=1e-6)) for line in lines_of(recorded, "score")]
    assert shown["validation/sharpe"] == told


def test_a_resumed_run_is_recorded_as_one_run(recorded: Path, tmp_path: Path) -> None:
    chosen = plan(reward=RewardSettings(excess_return=1.0, diversity=0.5, cost=0.1))
    with pytest.raises(Interrupted):
        trained(tmp_path, chosen, should_stop=stopping_after(2))
    with (tmp_path / MONITOR).open("ab") as file:  # what a killed run writes after its last checkpoint
        file.write(b'{"kind": "score", "step": 450, "sc')
    trained(tmp_path, chosen)
    for kind in ("episode", "score"):
        both = [lines_of(folder, kind) for folder in (recorded, tmp_path)]
        for line in itertools.chain(*both):
            line.pop("steps_per_s", None)
        assert both[0] == both[1]
    steps = Counter(step for step, _ in scalars(tmp_path)["validation/sharpe"])
    assert steps == Counter(line["step"] for line in lines_of(tmp_path, "score"))


def test_progress_is_told_about_every_200_steps_and_at_the_end(tmp_path: Path) -> None:
    told: list[MemberProgress] = []
    result = trained(tmp_path, PLANS["sac-gsde"], tell=told.append)
    steps = [progress.steps for progress in told]
    assert steps[-1] == 900
    assert all(190 <= later - earlier <= 230 for earlier, later in itertools.pairwise(steps[:-1]))
    assert {progress.total for progress in told} == {900}
    assert told[0].score is None
    assert told[-1].best == result.score
    assert told[-1].score == lines_of(tmp_path, "score")[-1]["score"]


def test_telling_counts_steps_of_all_accounts() -> None:
    told: list[int] = []
    telling = Telling(told.append, every=200)
    for steps in range(64, 1000, 64):
        telling.model = model_at(steps)
        telling.on_step()
    assert told == [64, 320, 576, 832]


# ---- what has gone wrong ----------------------------------------------------------------------------------------
class Faulty(VectorTradingEnv):
    """Practice whose reward is no number from the 400th step on."""

    wrong = float("nan")
    count = 0

    def step_wait(self) -> Step:
        observations, rewards, dones, infos = super().step_wait()
        self.count += 1
        if self.count >= 200:
            rewards[1] = self.wrong
        return observations, rewards, dones, infos


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_number_ends_training_and_spoils_nothing(
    wrong: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_run, "VectorTradingEnv", Faulty)
    monkeypatch.setattr(Faulty, "wrong", wrong)
    monkeypatch.setattr(callbacks, "_MOST_COST", 0.0)
    with pytest.raises(TrainingError) as told:
        trained(tmp_path, PLANS["sac"])
    assert str(told.value) == (
        f"member with seed 7, step 400: a reward is {wrong}; look at the candles with `sacd data verify` and at the "
        "settings of the reward; the checkpoint of step 360 is whole: run again to go on from there"
    )
    assert not isinstance(told.value, Diverged)
    kept = json.loads((tmp_path / INDEX).read_bytes())
    assert kept["steps"] == 360
    state = unpack((tmp_path / "checkpoint" / kept["state"]["name"]).read_bytes())
    assert all(np.isfinite(array).all() for array in state["model"]["weights"].values())


def healthy_up_to(gamma: float, largest: float) -> Health:
    health = Health(gamma)
    health.model = model_at(1)
    health.locals["rewards"] = np.array([largest, 0.1], np.float32)
    assert health._on_step()
    return health


def test_a_loss_beyond_any_value_the_rewards_allow_ends_training() -> None:
    # The largest reward of 2 on each of 1 / (1 - 0.99) = 100 candles: a value of 200, an error of 40,000 squared. With
    # the room that is left for entropy and for learners that err, 100 x (10 x 200)^2.
    health = healthy_up_to(0.99, 2.0)
    for value in (0.0, -3.9e8, 3.9e8):
        health.model.logger = SimpleNamespace(name_to_value={"train/critic_loss": value, "train/std": 1e30})
        health.on_rollout_start()
    for value in (4.1e8, -4.1e8, float("nan"), float("inf")):
        health.model.logger = SimpleNamespace(name_to_value={"train/critic_loss": value})
        with pytest.raises(Diverged, match=r"train/critic_loss is .*, beyond 4e\+08: lower the learning rate"):
            health.on_rollout_start()


def _to_nan(model: BaseAlgorithm) -> None:
    with torch.no_grad():
        next(model.policy.parameters()).fill_(torch.nan)


@pytest.mark.parametrize("name", ["sac", "ppo", "a2c", "dqn"])
def test_weights_that_are_no_numbers_end_training(name: str, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"member with seed 7, step \d+: .*lower the learning rate") as told:
        trained(tmp_path, PLANS[name], prepare=_to_nan)
    assert "\n" not in str(told.value)
    assert not (tmp_path / INDEX).exists()


@pytest.mark.parametrize("name", ["sac", "sac-gsde", "ppo", "dqn"])
def test_a_learning_rate_that_is_far_too_high_ends_in_a_clear_message_or_in_finite_weights(
    name: str, tmp_path: Path
) -> None:
    chosen = PLANS[name]
    wild = plan(
        {"learning_rate": 1.0, "weight_decay": 0.0, "use_sde": chosen.settings.use_sde}, algorithm=chosen.algorithm
    )
    try:
        result = trained(tmp_path, wild)
    except Diverged as told:
        assert "member with seed 7, step" in str(told)  # noqa: PT017 - either end will do
    else:
        assert all(torch.isfinite(p).all() for p in result.model.policy.parameters())


def test_a_disk_that_is_full_from_the_beginning_is_told(tmp_path: Path) -> None:
    with files_up_to(1_000), pytest.raises(TrainingError, match=r"cannot be written.*there is no checkpoint yet"):
        trained(tmp_path, PLANS["sac"])


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"taken: cannot be written: Not a directory; there is no checkpoint yet"):
        train_member([PRACTICE], [SCORED], PLANS["sac"], tmp_path / "taken")
