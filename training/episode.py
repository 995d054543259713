"""How an episode of practice is drawn: its length, and what is varied from episode to episode."""

from dataclasses import dataclass

import numpy as np

from training.errors import TrainingError
from training.ranges import require

_LONGEST = 100_000_000
_MOST_DELAY = 24
_HIGHEST_FACTOR = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """How an episode is drawn. length: candles; None runs from the first full window to the end of the history.

    shortest: with it each reset draws the length, from `shortest` to `length`.  Raises TrainingError.
    """

    length: int | None = 1000
    shortest: int | None = None

    def __post_init__(self) -> None:
        if self.length is not None:
            require("episode length (candles, or none for all)", self.length, 1, _LONGEST)
        if self.shortest is None:
            return
        if self.length is None:
            raise TrainingError(f"episode shortest {self.shortest!r}: give a length too, or none of the two")
        require("episode shortest (candles, up to the length)", self.shortest, 1, self.length)

    def drawn_length(self, rng: np.random.Generator) -> int | None:
        """Return the length of one episode. What does not vary takes nothing from the generator."""
        if self.length is None or self.shortest is None:
            return self.length
        return int(rng.integers(self.shortest, self.length + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Randomisation:
    """What differs from episode to episode, so that a policy does not lean on one broker's exact terms.

    fee, slippage: bounds of factors drawn uniformly at each reset, by which the cost model's rates are multiplied.
    most_delay: decisions by which what the policy says is acted upon later; each reset draws 0 .. most_delay.  While
    the first answers are still on their way nobody votes, as on a window that is not full. Stops and limits are not
    delayed.  offset: whether each reset draws the hour of decisions, where not every candle has one (`decide_every`).
    The default varies nothing.
    """

    fee: tuple[float, float] = (1.0, 1.0)
    slippage: tuple[float, float] = (1.0, 1.0)
    most_delay: int = 0
    offset: bool = False

    def __post_init__(self) -> None:
        _require_bounds("randomised fee factors", self.fee)
        _require_bounds("randomised slippage factors", self.slippage)
        require("randomised most_delay (decisions)", self.most_delay, 0, _MOST_DELAY)
        if not isinstance(self.offset, bool):
            raise TrainingError(f"randomised offset {self.offset!r}: give true or false")

    @property
    def rates(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Bounds of the factors, in the order they are drawn in: fee, slippage."""
        return self.fee, self.slippage


def _require_bounds(place: str, bounds: object) -> None:
    if not isinstance(bounds, tuple) or len(bounds) != 2:  # noqa: PLR2004 - low and high
        raise TrainingError(f"{place} {bounds!r}: give the lowest and the highest, such as 0.5,2")
    for factor in bounds:
        require(place, factor, 0.0, _HIGHEST_FACTOR)
    if bounds[0] > bounds[1]:
        raise TrainingError(f"{place} {bounds[0]} .. {bounds[1]}: give the lowest first")
