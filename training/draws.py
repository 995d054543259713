"""What a reset draws: market, length, start, costs and delay, in the order of training/trader_env.py."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One episode. market: index of the history.  start, end: indices of its candles.  fee, slippage: factors.

    delay: decisions by which votes take effect later.  offset: of decisions, in candles; None is the setup's.
    """

    market: int
    start: int
    end: int
    fee: float
    slippage: float
    delay: int
    offset: int | None = None


class Draws:
    """Draws episodes of given histories from any generator."""

    def __init__(
        self, histories: Sequence[History], episode: Episode, randomisation: Randomisation, decide_every: int = 1
    ) -> None:
        """decide_every: of the strategy parameters; where the offset varies, each episode draws one below it."""
        self._decide_every = decide_every
        self._symbols = [history.symbol for history in histories]
        self._lasts = [len(history.candles) - 2 for history in histories]
        self._episode, self._length = episode, episode.length
        self._varied = randomisation
        self._starts = [self._possible(history) for history in histories]

    def _possible(self, history: History) -> Sequence[int]:
        """Return the starts that leave room for the shortest episode; the first one where none does."""
        if self._length is None:
            return [int(history.starts[0])]
        least = self._episode.shortest or self._length
        latest = max(history.starts[0], len(history.candles) - 1 - least)
        starts: list[int] = history.starts[history.starts <= latest].tolist()
        return starts

    def draw(self, rng: np.random.Generator, options: Mapping[str, Any] | None = None) -> Drawn:
        """Return the next episode; `options` may name `history` (index) and `start` (candle index) instead.

        Raises TrainingError for other options, and for an index that leaves nothing to see or no candle to fill on.
        """
        chosen = dict(options or {})
        market = int(chosen.pop("history", rng.integers(len(self._starts))))
        _require("history", market, len(self._starts))
        last, starts = self._lasts[market], self._starts[market]
        length = self._episode.drawn_length(rng)
        room = 1 if length is None else max(1, bisect_right(starts, last + 1 - length))
        drawn = starts[0] if length is None else starts[int(rng.integers(room))]
        start = int(chosen.pop("start", drawn))
        if chosen:
            raise TrainingError(f"reset: unknown options {sorted(chosen)}; known are history and start")
        _require("start", start, last + 1)
        end = last + 1 if length is None else min(last + 1, start + length)
        # What does not vary takes nothing from the generator.
        fee, slippage = (low if low == high else rng.uniform(low, high) for low, high in self._varied.rates)
        most = self._varied.most_delay
        delay = int(rng.integers(most + 1)) if most else 0
        varies = self._varied.offset and self._decide_every > 1
        offset = int(rng.integers(self._decide_every)) if varies else None
        return Drawn(market=market, start=start, end=end, fee=fee, slippage=slippage, delay=delay, offset=offset)

    def __repr__(self) -> str:
        """Return what is drawn from, in words that are equal when it is."""
        starts = [(starts[0], starts[-1], len(starts)) for starts in self._starts]
        return f"Draws({self._symbols}, {starts}, {self._episode}, {self._varied})"

    def symbol(self, market: int) -> str:
        """Return the symbol of a history."""
        return self._symbols[market]


def _require(name: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise TrainingError(f"reset: {name} {index} is outside 0 .. {count - 1}")
