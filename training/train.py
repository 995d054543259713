"""Trains SAC members on recorded candles and writes them as one bundle.

Each member has its own seed and its own run of Stable-Baselines3 on one thread, so that the same seed gives the same
weights, the same files and the same bundle id.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback

from strategy.candle_table import CandleTable
from strategy.decision import ACTION_RULE_VERSION
from strategy.features import FeatureTable
from strategy.manifest import BundleManifest, DataRecord, FeatureRecord, Reference, TrainingRecord
from strategy.observation import OBSERVATION_HASH, OBSERVATION_SCHEMA
from training.env import Episode, History, TradingEnv
from training.errors import TrainingError
from training.export import TrainedMember, export_actor, write_bundle
from training.market import Conditions, first_symbols, setup_of
from training.reward import RewardWeights

_EDGE_QUANTILE = 0.999
_REPORT_EVERY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SacSettings:
    """How one member learns; the names are Stable-Baselines3's.

    weight_decay: AdamW's. It keeps the policy from becoming so steep that float32 rounding moves its answers.
    """

    learning_rate: float = 3e-4
    batch_size: int = 256
    gamma: float = 0.997
    tau: float = 0.005
    train_freq: int = 4
    gradient_steps: int = 1
    learning_starts: int = 2_000
    buffer_size: int = 200_000
    use_sde: bool = False
    weight_decay: float = 0.3
    net_arch: tuple[int, ...] = (64, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One training run. steps: of the environment, per member.  command: the command line that repeats it."""

    members: int
    steps: int
    seed: int
    command: str
    sac: SacSettings
    conditions: Conditions
    weights: RewardWeights
    episode: Episode


def member_seeds(seed: int, members: int) -> list[int]:
    """Return one seed per member, drawn from the run's seed."""
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(members, np.uint32)]


def train_member(
    histories: Sequence[History], plan: Plan, seed: int, progress: Callable[[int], None] | None = None
) -> SAC:
    """Return one trained policy. progress: told the steps done.  Raises TrainingError when it learned nothing."""
    setup = setup_of([history.table for history in histories], plan.conditions, "train")
    env = TradingEnv(histories, setup, episode=plan.episode, weights=plan.weights)
    sac = plan.sac
    model = SAC(
        "MlpPolicy",
        env,
        seed=seed,
        device="cpu",
        learning_rate=sac.learning_rate,
        batch_size=sac.batch_size,
        gamma=sac.gamma,
        tau=sac.tau,
        train_freq=sac.train_freq,
        gradient_steps=sac.gradient_steps,
        learning_starts=sac.learning_starts,
        buffer_size=min(sac.buffer_size, plan.steps),
        use_sde=sac.use_sde,
        policy_kwargs={
            "net_arch": list(sac.net_arch),
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"weight_decay": sac.weight_decay},
        },
    )
    try:
        model.learn(plan.steps, callback=_Progress(progress))
    except ValueError as error:  # what torch raises when it is to draw an action from NaN
        if _is_finite(model):
            raise
        raise _diverged(seed) from error
    if not _is_finite(model):
        raise _diverged(seed)
    return model


def _is_finite(model: SAC) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in model.policy.actor.parameters())


def _diverged(seed: int) -> TrainingError:
    return TrainingError(f"member with seed {seed}: the weights are not finite; lower the learning rate")


class _Progress(BaseCallback):
    """Tells how many steps are done."""

    def __init__(self, progress: Callable[[int], None] | None) -> None:
        super().__init__()
        self._progress = progress

    def _on_step(self) -> bool:
        if self._progress is not None and self.num_timesteps % _REPORT_EVERY == 0:
            self._progress(self.num_timesteps)
        return True


def train(
    tables: Sequence[CandleTable],
    data: Sequence[DataRecord],
    plan: Plan,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> BundleManifest:
    """Train every member on `tables` and write the bundle to `out`, which must not exist or be empty.

    data: the files the tables came from.  progress: told member (0, 1 ...) and its steps done.
    Raises TrainingError; then nothing is written.
    """
    refuse_taken(out)
    if plan.steps <= plan.sac.learning_starts:
        raise TrainingError(
            f"--steps {plan.steps} end before learning begins: give more than {plan.sac.learning_starts}"
        )
    torch.set_num_threads(1)  # several threads add in another order, and the seed would no longer decide
    torch.use_deterministic_algorithms(mode=True)
    setup_of(tables, plan.conditions, "train")  # tables that do not go together are refused before the work
    histories = [History(table, plan.conditions.strategy.max_missing) for table in tables]
    observed = _sample(histories, plan)
    members = []
    for index, seed in enumerate(member_seeds(plan.seed, plan.members)):
        told = None if progress is None else (lambda steps, index=index: progress(index, steps))
        model = train_member(histories, plan, seed, told)
        actor = export_actor(model, observed)
        members.append(TrainedMember(actor=actor, seed=seed, weight=1.0 / plan.members))
    return write_bundle(
        out,
        members,
        action_rule_version=ACTION_RULE_VERSION,
        feature=FeatureRecord(hash=OBSERVATION_HASH, schema=OBSERVATION_SCHEMA),
        reference=reference_of([history.rows for history in histories]),
        costs=plan.conditions.costs.to_json(),
        risk=plan.conditions.limits.to_json(),
        strategy=plan.conditions.strategy.to_json(),
        training=_record(tables, data, plan),
    )


def refuse_taken(out: Path) -> None:
    """Raise TrainingError when `out` holds something or cannot be made: found out before the work, not after it."""
    if os.path.lexists(out) and (out.is_symlink() or not out.is_dir() or any(out.iterdir())):
        raise TrainingError(f"--out {out} is not empty: name a directory that does not exist yet")
    place = next(parent for parent in out.absolute().parents if os.path.lexists(parent))
    try:
        tempfile.TemporaryDirectory(dir=place).cleanup()
    except OSError as error:
        raise TrainingError(f"--out {out}: {place}: {error.strerror}; name a place that can be written") from error


def reference_of(rows: Sequence[FeatureTable]) -> Reference:
    """Return mean, spread and edge of the feature rows a policy was trained on."""
    seen = np.concatenate([table.values[table.is_valid] for table in rows]).astype(np.float64)
    mean, std = seen.mean(axis=0), seen.std(axis=0)
    scores = (seen - mean) / np.where(std > 0.0, std, 1.0)
    distance = np.sqrt((scores * scores).mean(axis=1))
    return Reference(
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
        limit=float(np.quantile(distance, _EDGE_QUANTILE)),
    )


def _sample(histories: Sequence[History], plan: Plan, count: int = 2_000) -> NDArray[np.float32]:
    """Return observations that random actions lead to: what the exported twin is compared on."""
    setup = setup_of([history.table for history in histories], plan.conditions, "train")
    env = TradingEnv(histories, setup, episode=plan.episode, weights=plan.weights)
    env.action_space.seed(plan.seed)
    observation, _ = env.reset(seed=plan.seed)
    seen = []
    for _ in range(count):
        seen.append(observation)
        observation, _, is_ruined, is_over, _ = env.step(env.action_space.sample())
        if is_ruined or is_over:
            observation, _ = env.reset()
    return np.stack(seen)


def _record(tables: Sequence[CandleTable], data: Sequence[DataRecord], plan: Plan) -> TrainingRecord:
    return TrainingRecord(
        command=plan.command,
        start_ms=min(int(table.open_ms[0]) for table in tables),
        end_ms=max(int(table.open_ms[-1]) + table.timeframe.span_ms for table in tables),
        steps=plan.steps,
        symbols=first_symbols(tables),
        timeframe=tables[0].timeframe.name,
        data=tuple(data),
    )
