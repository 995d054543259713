"""How the next trial is chosen, and which trials are given up."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from training.tune_study import place_of

_DRAWN_BLINDLY = 10
_LEAST_TO_COMPARE = 5


class NumberedSampler(BaseSampler):
    """TPE whose chance depends on the seed and on the trial's place alone.

    A sampler that lives as long as its process would, after a restart, draw again what it drew at the beginning; and
    two processes with one seed would draw the same.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._sampler = TPESampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Begin a trial."""
        place = place_of(trial.number, study.get_trials(deepcopy=False))
        seed = int(np.random.SeedSequence([self._seed, place]).generate_state(1)[0])
        self._sampler = TPESampler(seed=seed, n_startup_trials=_DRAWN_BLINDLY, constant_liar=True)
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw what is drawn together."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401 - of any dimension
        """Draw one value."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


class Rungs(optuna.pruners.BasePruner):
    """Gives up a trial whose latest value, at one of few steps, lies below a share of the others that came as far.

    Optuna's median rule asks at every step, only those that ran to their end, and by the best value ever reported.
    Over a policy's scores that ends nearly all: thirty noisy questions, a bar that rises with every survivor, and a
    lucky fold that hides the bad ones. Hyperband gives most trials a short run, which suits losses that are ordered
    early; here the first values are noise. So two questions a fold: the worst quarter goes in its middle, the worse
    half at its end.
    """

    def __init__(self, shares: Mapping[int, float]) -> None:
        """shares: by step, the share of the others that a trial must not be below."""
        self._shares = shares

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether to give up."""
        step = trial.last_step
        if step is None or step not in self._shares:
            return False
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        others = [other.intermediate_values[step] for other in ended if step in other.intermediate_values]
        if len(others) < _LEAST_TO_COMPARE:
            return False
        return trial.intermediate_values[step] < float(np.quantile(others, self._shares[step]))


def rungs_of(folds: int, checks: int) -> dict[int, float]:
    """Return the shares for trials that report `checks` times within each fold and once at its end."""
    shares = {}
    for fold in range(folds):
        first = fold * (checks + 1)
        shares[first + checks // 2] = 0.25
        shares[first + checks] = 0.5
    return shares
