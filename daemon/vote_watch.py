"""Votes at the end of their range: an ensemble that always shouts says nothing, and is told of.

Actions are squashed, so that no weight, however large, takes one out of its box; what large weights do is drive every
vote to its edge, whatever the market does.
"""

from collections import Counter

from daemon.events import Decided, Event
from daemon.log_sink import Logger
from strategy.trader import Votes

SATURATED = 0.99
"""A direction beyond this, either way, is at the end of its range -1 .. 1."""
STREAK = 24
"""Decisions in a row on which every member was, before it is told."""


def saturated(votes: Votes) -> int:
    """Return how many members' directions are at the end of their range. votes: (n_members, 3)."""
    return sum(abs(direction) > SATURATED for direction in votes[:, 0].tolist())


class VoteWatch:
    """A sink that warns, once per streak, of a symbol on which every member has long voted with all its strength."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._streaks: Counter[str] = Counter()

    def publish(self, event: Event) -> None:
        """Look at decisions; everything else says nothing about votes."""
        if not isinstance(event, Decided) or event.outcome.votes is None:
            return
        symbol, votes = event.outcome.sight.candle.symbol, event.outcome.votes
        if saturated(votes) < len(votes):
            self._streaks[symbol] = 0
            return
        self._streaks[symbol] += 1
        if self._streaks[symbol] == STREAK:
            self._logger.warning("votes_saturated", symbol=symbol, decisions=STREAK, model=event.model_id)
