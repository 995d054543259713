"""Which members may join the ensemble, and with what weight."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.errors import TrainingError
from training.ranges import require

WEIGHTINGS = ("equal", "score")
_ONLY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """What a trained member did.

    score: its last word on validation candles.  trades: its fills on them; both None without validation.
    buy, sell, hold: shares of its answers to observations, of sum 1.
    """

    score: float | None
    trades: int | None
    buy: float
    sell: float
    hold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What a member must have shown. least_score: on validation, None asks for none.  least_trades: fills there.

    A member that answers everything with one action is refused whatever these say: it has learned nothing that an
    ensemble could use. Raises TrainingError for impossible values.
    """

    least_score: float | None = None
    least_trades: int = 1

    def __post_init__(self) -> None:
        if self.least_score is not None:
            require("least-score", self.least_score, -1e6, 1e6)
        require("least-trades", self.least_trades, 0, 1_000_000_000)


def fault_of(conduct: Conduct, gates: Gates) -> str:
    """Return why a member is left out, in words; empty when it may join."""
    for action in ("buy", "sell", "hold"):
        if getattr(conduct, action) >= _ONLY:
            return f"it answers {action} to everything"
    if conduct.score is not None and not math.isfinite(conduct.score):
        return f"its score {conduct.score} is not a number"
    if conduct.trades is not None and conduct.trades < gates.least_trades:
        return f"{conduct.trades} trades on the validation candles are fewer than {gates.least_trades}"
    if gates.least_score is not None and conduct.score is not None and conduct.score < gates.least_score:
        return f"its score {conduct.score:.3f} on the validation candles is below {gates.least_score:g}"
    return ""


def weights_of(scores: Sequence[float | None], weighting: str) -> list[float]:
    """Return each member's share in the ensemble; the shares are positive and sum to 1.

    equal: 1 / n.  score: exp(score) over the sum of all exp(score), so that a Sharpe ratio one higher weighs 2.7 times
    as much, and differences as small as chance makes them weigh next to nothing.
    Raises TrainingError for another weighting, and for `score` without scores.
    """
    if weighting == "equal":
        return [1.0 / len(scores)] * len(scores)
    if weighting != "score":
        raise TrainingError(f"--weighting {weighting}: give one of {', '.join(WEIGHTINGS)}")
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        raise TrainingError("--weighting score needs scores: give --validation above 0, or --weighting equal")
    # The largest is taken off first: the shares stay, and no exponential overflows.
    parts = [math.exp(max(score - max(known), _LEAST_EXPONENT)) for score in known]
    return [part / math.fsum(parts) for part in parts]


_LEAST_EXPONENT = -50.0  # weights must stay positive
