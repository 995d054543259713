"""Golden inputs: questions that an ensemble must answer sensibly before it serves.

The hashes of a bundle say that its bytes are those that were trained, not that they make a policy on this machine. So
it is asked here, before anything depends on it: fixed observations from where its own training lies.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from daemon.errors import ArtifactError
from strategy.bundle import Bundle
from strategy.errors import StrategyError
from strategy.manifest import ACTION_HIGH, ACTION_LOW, BundleManifest
from strategy.observation import OBSERVATION_LIMIT
from strategy.policy import Activation, Actor, Ensemble, Float32Array

QUESTIONS = 64
TOLERANCE = 1e-5
"""Of an answer against the same network in double precision: what rounding alone may do."""
LEAST_SPREAD = 1e-3
"""Of the ensemble's vote over all questions, in at least one of its three numbers: less is the same vote to all."""
_SEED = 6_101


def check_serves(bundle: Bundle) -> None:
    """Do nothing when the ensemble answers as one that may serve: with numbers, inside the box, and not always alike.

    Asks the ensemble, which must not be in use meanwhile. Raises ArtifactError naming what is wrong with its answers.
    """
    asked = questions(bundle.manifest)
    try:
        together = bundle.ensemble.act(asked)
        alone = np.stack([bundle.ensemble.act_one(observation) for observation in asked])
    except StrategyError as error:
        raise ArtifactError(f"{_called(bundle)} does not answer: {error}; keep using another one") from error
    for complaint in _complaints(bundle.ensemble, asked, together, alone):
        raise ArtifactError(f"{_called(bundle)} {complaint}; keep using another one")


def questions(manifest: BundleManifest) -> Float32Array:
    """Return (QUESTIONS, observation_size) float32, the same for the same reference: normal around its mean.

    Behind the features stands the account: flat and free to buy in every other question, anything in 0 .. 1 elsewhere.
    """
    rng, reference = np.random.default_rng(_SEED), manifest.reference
    features = len(reference.mean)
    asked = rng.random((QUESTIONS, manifest.observation_size))
    asked[::2, features:] = 0.0
    asked[::2, features:][:, -1:] = 1.0
    spread = rng.standard_normal((QUESTIONS, features)) * np.asarray(reference.std)
    asked[:, :features] = np.clip(np.asarray(reference.mean) + spread, -OBSERVATION_LIMIT, OBSERVATION_LIMIT)
    return asked.astype(np.float32)


def _called(bundle: Bundle) -> str:
    return f"bundle {bundle.manifest.short_id}: the ensemble"


def _complaints(ensemble: Ensemble, asked: Float32Array, together: Float32Array, alone: Float32Array) -> Iterator[str]:
    """Yield what is wrong with (questions, members, 3) answers to all questions at once, and one by one."""
    for index, actor in enumerate(ensemble.actors):
        answers = together[:, index]
        if not np.isfinite(answers).all():
            yield f"answers with what is no number ({actor.name})"
        if not ((answers >= ACTION_LOW) & (answers <= ACTION_HIGH)).all():
            yield f"leaves its box of actions ({actor.name})"
        # Written so that NaN counts too.
        if not (difference := float(np.abs(answers - _exactly(actor, asked)).max())) <= TOLERANCE:
            yield (
                f"answers otherwise than its weights say ({actor.name}, by {difference:.1e}, at most {TOLERANCE:.0e}): "
                "rounding moves it, or NumPy computes wrongly here"
            )
    if together.tobytes() != alone.tobytes():
        yield "answers otherwise alone than among others: votes could not be recomputed"
    votes = np.tensordot(ensemble.weights, together.astype(np.float64), axes=(0, 1))
    if np.ptp(votes, axis=0).max() < LEAST_SPREAD:
        shown = ", ".join(f"{part:.3f}" for part in votes[0])
        yield f"is degenerate: it votes ({shown}) whatever it is shown"


def _exactly(actor: Actor, asked: Float32Array) -> NDArray[np.float64]:
    """Return a member's answers by the plain formula of its network, in double precision."""
    values = asked.astype(np.float64)
    last = len(actor.weights) - 1
    for index, (weight, bias) in enumerate(zip(actor.weights, actor.biases, strict=True)):
        values = values @ weight.astype(np.float64).T + bias
        if index < last:
            values = np.maximum(values, 0.0) if actor.activation is Activation.RELU else np.tanh(values)
    clip = np.inf if actor.clip_mean is None else actor.clip_mean
    low, high = actor.low.astype(np.float64), actor.high.astype(np.float64)
    return low + 0.5 * (np.tanh(np.clip(values, -clip, clip)) + 1.0) * (high - low)
