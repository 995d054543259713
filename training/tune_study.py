"""The study: which trials it holds, who has the next, and what becomes of lost ones.

Any number of processes, on any number of machines, may work on one study; the storage is all they share. A trial whose
process died is void: it leaves the study as Optuna's FAIL, and its choice is queued again, so that the number of trials
a person asked for stays what it is.
"""

import socket
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from training.errors import TrainingError
from training.tune_storage import is_free, open_storage, plain_errors

_LEAST_TO_WEIGH = 10
_MOST_ATTEMPTS = 2
_WORKER, _OUTCOME, _REASON, _ATTEMPT, _FOLDER = "worker", "outcome", "reason", "attempt", "folder"
_FINGERPRINT = "fingerprint"
FOLDS = "folds"
"""User attribute of a trial: the scores of the folds it has finished."""
DONE, PRUNED, UNUSABLE, RUNNING, WAITING = "done", "pruned", "unusable", "running", "waiting"
ENDS = (DONE, PRUNED, UNUSABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One trial as a person sees it. number: 1, 2 ... without void ones.  outcome: one of the five above.

    score: of a finished trial, the mean over the folds; of a pruned one the last that was reported.  folds: scores of
    those finished.  seconds: it took, None while it runs.  reason: why it has no score.
    """

    number: int
    outcome: str
    score: float | None
    chosen: Mapping[str, Any]
    folds: tuple[float, ...]
    seconds: float | None
    reason: str

    @property
    def has_ended(self) -> bool:
        """True when nothing more comes of it."""
        return self.outcome not in (RUNNING, WAITING)


# ---- the study -------------------------------------------------------------------------------------------------
def open_study(storage: str, name: str, sampler: BaseSampler | None = None, pruner: Any = None) -> Study:  # noqa: ANN401
    """Return the study `name` in `storage`, made when it is not there.

    storage: a database URL as SQLAlchemy takes it, or `journal:PATH`.  Raises TrainingError, without any password,
    when it cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with plain_errors(storage):
        return optuna.create_study(
            storage=open_storage(storage, _queue_again),
            study_name=name,
            sampler=sampler,
            pruner=pruner,
            direction="maximize",
            load_if_exists=True,
        )


def require_same(study: Study, fingerprint: Mapping[str, Any]) -> None:
    """Note what the study searches, or raise TrainingError naming what differs from what it has searched so far."""
    stored = study.user_attrs.get(_FINGERPRINT)
    if stored is None:
        study.set_user_attr(_FINGERPRINT, dict(fingerprint))
        return
    differs = sorted(key for key in {*stored, *fingerprint} if stored.get(key) != fingerprint.get(key))
    if differs:
        told = "; ".join(
            f"{key}: {_brief(stored.get(key))} before, {_brief(fingerprint.get(key))} now" for key in differs
        )
        raise TrainingError(
            f"study {study.study_name} searched something else ({told}): its trials cannot be compared with new ones; "
            "give the same again, another --out, or another --study"
        )


def _brief(value: Any) -> str:  # noqa: ANN401 - JSON
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - what fits in a message


# ---- trials -----------------------------------------------------------------------------------------------------
def place_of(number: int, trials: Sequence[FrozenTrial]) -> int:
    """Return how many trials that are not void come before Optuna's `number`."""
    return sum(trial.number < number and trial.state is not TrialState.FAIL for trial in trials)


def next_trial(
    study: Study, distributions: dict[str, BaseDistribution], most: int, lock: Path, worker: str = ""
) -> optuna.Trial | None:
    """Return a trial to work on, None when the study has `most`.

    lock: the file this process holds while it lives.  worker: names the process, see `recover`.  Processes that begin
    at once may make one too many: the later ones void theirs.
    """
    recover(study)
    trials = study.get_trials(deepcopy=False)
    is_full = place_of(len(trials), trials) >= most
    if is_full and not any(trial.state is TrialState.WAITING for trial in trials):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # heartbeats without Optuna's own loop; `beat` gives them
        trial = study.ask(fixed_distributions=distributions)
    if place_of(trial.number, study.get_trials(deepcopy=False)) >= most:
        study.tell(trial, state=TrialState.FAIL)
        return None
    trial.set_user_attr(_WORKER, [socket.gethostname(), str(lock), worker])
    return trial


def folder_of(trial: optuna.Trial) -> str:
    """Return the name of the folder in which the trial, or the one it repeats, keeps its checkpoints."""
    return str(trial.user_attrs.get(_FOLDER, f"trial-{trial.number:04d}"))


def finish(study: Study, trial: optuna.Trial, score: float) -> None:
    """Note that every fold was scored."""
    trial.set_user_attr(_OUTCOME, DONE)
    study.tell(trial, score)


def give_up(study: Study, trial: optuna.Trial) -> None:
    """Note that the pruner ended it."""
    trial.set_user_attr(_OUTCOME, PRUNED)
    study.tell(trial, state=TrialState.PRUNED)


def condemn(study: Study, trial: optuna.Trial, reason: str) -> None:
    """Note that nothing can be made of its choice. Kept as pruned, so that the sampler learns to avoid it."""
    trial.set_user_attr(_OUTCOME, UNUSABLE)
    trial.set_user_attr(_REASON, reason)
    study.tell(trial, state=TrialState.PRUNED)


def postpone(study: Study, trial: optuna.Trial) -> None:
    """Void a trial that was interrupted and queue it again; its folder and its finished folds stay."""
    frozen = study.get_trials(deepcopy=False)[trial.number]
    study.tell(trial, state=TrialState.FAIL)
    _queue(study, frozen, attempt=int(frozen.user_attrs.get(_ATTEMPT, 1)))


def beat(study: Study, trial: optuna.Trial) -> None:
    """Tell a database on another machine that this trial's process lives."""
    storage = study._storage  # noqa: SLF001 - Optuna beats only inside its own loop, which cannot be stopped cleanly
    if isinstance(storage, BaseHeartbeat) and storage.get_heartbeat_interval() is not None:
        storage.record_heartbeat(trial._trial_id)  # noqa: SLF001


def recover(study: Study, *, is_alone: bool = False, ended: str | None = None) -> int:
    """Void every running trial whose process is gone, and queue it again once. Returns how many there were.

    Gone is told by the lock that a process holds while it lives, on this machine; from others, where the storage is a
    database, by a silence of a quarter of an hour.  ended: the name of a worker known to have ended.  is_alone: nobody
    else works on the study, so that also a trial nobody has signed is lost.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # tested here
        optuna.storages.fail_stale_trials(study)
    lost = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, lock, worker = trial.user_attrs.get(_WORKER, (None, None, None))
        is_gone = host == socket.gethostname() and is_free(Path(lock))
        if is_gone or (host is None and is_alone) or (ended is not None and worker == ended):
            lost += _void(study, trial)
    return lost


def _void(study: Study, trial: FrozenTrial) -> bool:
    is_last = int(trial.user_attrs.get(_ATTEMPT, 1)) >= _MOST_ATTEMPTS
    try:
        study.tell(trial.number, state=TrialState.PRUNED if is_last else TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):  # another process was faster
        return False
    if not is_last:
        _queue_again(study, trial)
    return True


def _queue_again(study: Study, trial: FrozenTrial) -> None:
    _queue(study, trial, attempt=int(trial.user_attrs.get(_ATTEMPT, 1)) + 1)


def _queue(study: Study, trial: FrozenTrial, attempt: int) -> None:
    kept = {
        _ATTEMPT: attempt,
        _FOLDER: trial.user_attrs.get(_FOLDER, f"trial-{trial.number:04d}"),
        FOLDS: trial.user_attrs.get(FOLDS, []),
    }
    study.enqueue_trial(trial.params, user_attrs=kept)


def standings(study: Study) -> list[Standing]:
    """Return every trial that is not void, in the order they began."""
    trials = study.get_trials(deepcopy=False)
    kept = [trial for trial in trials if trial.state is not TrialState.FAIL]
    return [_standing(place + 1, trial) for place, trial in enumerate(kept)]


def _standing(number: int, trial: FrozenTrial) -> Standing:
    attrs, reason = trial.user_attrs, ""
    match trial.state:
        case TrialState.COMPLETE:
            outcome = DONE
        case TrialState.RUNNING:
            outcome = RUNNING
        case TrialState.WAITING:
            outcome = WAITING
        case _:
            outcome = attrs.get(_OUTCOME, UNUSABLE)
            unsigned = f"its process died {_MOST_ATTEMPTS} times" if outcome == UNUSABLE else ""
            reason = attrs.get(_REASON, unsigned)
    chosen = trial.params or trial.system_attrs.get("fixed_params", {})
    return Standing(
        number=number,
        outcome=outcome,
        score=trial.value if outcome in (DONE, PRUNED) else None,
        chosen=chosen,
        folds=tuple(attrs.get(FOLDS, ())),
        seconds=None if trial.duration is None else trial.duration.total_seconds(),
        reason=reason,
    )


def importances(study: Study) -> dict[str, float]:
    """Return how much each searched setting mattered, the most first, sum 1; empty with too few finished trials.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023): which settings tell the better tenth of the trials from the others.
    It needs nothing but NumPy, and no forest fitted to a few dozen points.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({trial.value for trial in finished}) < _LEAST_TO_WEIGH:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of few trials, which the report says in its own words
        return optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
