"""What a policy sees and says, as Gymnasium describes it: the same for every form of the environment."""

import gymnasium
import numpy as np
from numpy.typing import NDArray

from strategy.decision import ACTION_HIGH, ACTION_LOW
from strategy.observation import N_OBSERVATION, OBSERVATION_LIMIT


def observation_space() -> gymnasium.Space[NDArray[np.float32]]:
    """Return what a policy sees."""
    return gymnasium.spaces.Box(-OBSERVATION_LIMIT, OBSERVATION_LIMIT, (N_OBSERVATION,), np.float32)


def action_space() -> gymnasium.Space[NDArray[np.float32]]:
    """Return what a policy says: direction, size, confidence."""
    return gymnasium.spaces.Box(np.array(ACTION_LOW, np.float32), np.array(ACTION_HIGH, np.float32), dtype=np.float32)
