"""Votes at the end of their range are counted and, once per streak, told."""

from typing import Any

import pytest

from daemon.vote_watch import VoteWatch, saturated
from tests.fakes import events

LOUD, QUIET = ((1.0, 0.9, 0.9), (-0.995, 0.1, 0.1)), ((1.0, 0.9, 0.9), (0.98, 0.1, 0.1))
Votes = tuple[tuple[float, float, float], ...]


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.warnings: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        raise AssertionError((event, fields))

    def warning(self, event: str, **fields: Any) -> None:
        self.warnings.append((event, fields))


def _told(*votes: Votes | None) -> list[tuple[str, dict[str, Any]]]:
    lines = Lines()
    watch = VoteWatch(lines)
    for cast in votes:
        watch.publish(events.decided(events.hold(), votes=cast))
    return lines.warnings


@pytest.mark.parametrize(("votes", "count"), [(LOUD, 2), (QUIET, 1), (((0.9899, 1.0, 1.0),), 0)])
def test_only_directions_beyond_0_99_count_either_way(votes: Votes, count: int) -> None:
    decided = events.decided(events.hold(), votes=votes)
    assert decided.outcome.votes is not None
    assert saturated(decided.outcome.votes) == count


@pytest.mark.fault(56)
def test_a_streak_of_24_is_told_once_with_symbol_and_model() -> None:
    assert _told(*[LOUD] * 23) == []
    fields = {"symbol": events.BTC, "decisions": 24, "model": "3f9a2c1b7e4d5a6b"}
    assert _told(*[LOUD] * 60) == [("votes_saturated", fields)]


def test_one_member_that_is_not_at_its_end_breaks_the_streak_and_another_may_follow() -> None:
    assert _told(*[LOUD] * 23, QUIET, *[LOUD] * 23) == []
    assert len(_told(*[LOUD] * 24, QUIET, *[LOUD] * 24)) == 2


def test_warming_up_neither_counts_nor_breaks_a_streak() -> None:
    assert len(_told(*[LOUD] * 12, None, *[LOUD] * 12)) == 1
