"""From a plan to a model of Stable-Baselines3 that is ready to learn, and from a model to what it would do.

SAC is what the ensembles are made of; the others are there to be compared with it, and cannot be exported.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from strategy.errors import StrategyError
from strategy.policy import Ensemble
from training.blinding import ignore_unseen
from training.errors import TrainingError
from training.export import actor_of, build_actor
from training.fast_sac import FastSAC
from training.plan import MemberPlan, Settings
from training.scalars import Scalars

FloatArray = NDArray[np.float32]
Act = Callable[[FloatArray], FloatArray]
"""Observations (n, N_OBSERVATION) float32 -> actions (n, 3) float32."""

CHOICES: FloatArray = np.array(
    [[-1, 1, 1], [-1, 0.5, 1], [-1, 0.25, 1], [0, 0, 1], [1, 0.25, 1], [1, 0.5, 1], [1, 1, 1]], np.float32
)
"""What DQN chooses from, (7, 3): sell all, half, a quarter; hold; buy a quarter, half, all of max_position."""

_PPO_ROLLOUT = 2_048
_A2C_ROLLOUT = 16
_EXPLORING = 0.2
"""Share of a run over which DQN's random choices fall to their last rate of 5 %."""


class DiscreteActions(VecEnvWrapper):
    """The environments of `venv` with one of `CHOICES` as the action."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv, action_space=spaces.Discrete(len(CHOICES)))

    def reset(self) -> Any:  # noqa: ANN401 - as VecEnv declares it
        """Start all episodes."""
        return self.venv.reset()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take (n_envs,) indices of `CHOICES`."""
        self.venv.step_async(CHOICES[actions])

    def step_wait(self) -> Any:  # noqa: ANN401 - as VecEnv declares it
        """Return what the environments return."""
        return self.venv.step_wait()


def build_model(plan: MemberPlan, env: VecEnv, *, tensorboard: Path | None = None, from_step: int = 0) -> BaseAlgorithm:
    """Return a fresh model of the plan's algorithm that practises in `env`, seeded by the plan.

    Settings that an algorithm does not have, such as the replay buffer's of PPO, decide nothing there.
    tensorboard: folder for scalars, None for none.  from_step: scalars of later steps, written before a resumed run
    was killed, are hidden.  Raises TrainingError when the plan ends before learning begins.
    """
    if plan.algorithm in {"sac", "dqn"} and plan.steps <= plan.settings.learning_starts:
        raise TrainingError(
            f"{plan.steps} steps end before learning begins: give more than learning_starts, "
            f"{plan.settings.learning_starts}"
        )
    make = {"sac": _sac, "ppo": _ppo, "a2c": _a2c, "dqn": _dqn}[plan.algorithm]
    model = make(plan, env)
    ignore_unseen(model, plan.settings.inputs, plan.settings.net_arch)
    model.set_logger(Logger(None, [] if tensorboard is None else [Scalars(tensorboard, from_step)]))
    return model


def deterministic_act(model: BaseAlgorithm) -> Act:
    """Return what the model would do, without exploring; of SAC, the answers its exported twin would give.

    It keeps the weights of this moment where it can. Raises TrainingError when they are not finite.
    """
    if isinstance(model, SAC):
        return _twin(model)

    def act(observations: FloatArray) -> FloatArray:
        answers, _ = model.policy.predict(observations, deterministic=True)
        return CHOICES[answers] if isinstance(model, DQN) else np.asarray(answers, np.float32)

    return act


def _twin(model: SAC) -> Act:
    try:
        ensemble = Ensemble([build_actor(actor_of(model), "the policy")], [1.0])
    except StrategyError as error:
        raise TrainingError(f"{error}; lower the learning rate") from error

    def act(observations: FloatArray) -> FloatArray:
        return ensemble.act(observations)[:, 0]

    return act


# ---- the algorithms ---------------------------------------------------------------------------------------------
def _sac(plan: MemberPlan, env: VecEnv) -> SAC:
    chosen = plan.settings
    return FastSAC(
        "MlpPolicy",
        env,
        tau=chosen.tau,
        gradient_steps=chosen.gradient_steps,
        use_sde=chosen.use_sde,
        sde_sample_freq=chosen.sde_sample_freq,
        **_replaying(plan),
        **_common(plan),
    )


def _dqn(plan: MemberPlan, env: VecEnv) -> DQN:
    """Let the targets follow softly at every update, as SAC's do: one `tau` then means the same to both."""
    chosen = plan.settings
    return DQN(
        "MlpPolicy",
        DiscreteActions(env),
        tau=chosen.tau,
        gradient_steps=chosen.gradient_steps,
        target_update_interval=chosen.train_freq * chosen.n_envs,
        exploration_fraction=_EXPLORING,
        **_replaying(plan),
        **_common(plan),
    )


def _ppo(plan: MemberPlan, env: VecEnv) -> PPO:
    """Make rollouts of whole batches: SB3 would end each pass over a rollout with a smaller one.

    A run ends with a whole rollout, so that one is at most a tenth of a short run.
    """
    chosen = plan.settings
    whole = chosen.batch_size // math.gcd(chosen.batch_size, chosen.n_envs)
    wanted = min(_PPO_ROLLOUT, plan.steps // 10)
    steps = max(round(wanted / chosen.n_envs / whole), 1) * whole
    return PPO("MlpPolicy", env, n_steps=steps, batch_size=chosen.batch_size, **_exploring(chosen), **_common(plan))


def _a2c(plan: MemberPlan, env: VecEnv) -> A2C:
    chosen = plan.settings
    return A2C("MlpPolicy", env, n_steps=_A2C_ROLLOUT, **_exploring(chosen), **_common(plan))


def _common(plan: MemberPlan) -> dict[str, Any]:
    chosen = plan.settings
    return {
        "seed": plan.seed,
        "device": "auto" if plan.algorithm == "sac" else "cpu",
        "learning_rate": _rate(chosen),
        "gamma": chosen.gamma,
        "policy_kwargs": {
            "net_arch": list(chosen.net_arch),
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"weight_decay": chosen.weight_decay},
        },
    }


def _replaying(plan: MemberPlan) -> dict[str, Any]:
    chosen = plan.settings
    return {
        "batch_size": chosen.batch_size,
        "train_freq": chosen.train_freq,
        "learning_starts": chosen.learning_starts,
        # A buffer that is never filled takes memory for nothing; a row holds one step of every account.
        "buffer_size": min(chosen.buffer_size, plan.steps + chosen.n_envs),
    }


def _exploring(chosen: Settings) -> dict[str, Any]:
    return {"use_sde": chosen.use_sde, "sde_sample_freq": chosen.sde_sample_freq}


def _rate(chosen: Settings) -> float | LinearSchedule:
    """Return the learning rate: a number or an object of SB3's own, both of which its archives keep."""
    if chosen.final_learning_rate is None:
        return chosen.learning_rate
    return LinearSchedule(chosen.learning_rate, chosen.final_learning_rate, 1.0)
