"""What the queries of a panel answered, as the series and rows that Grafana makes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.deploy.figures import CLASSIC, Look, look
from tests.deploy.panel_queries import Span, legend
from tests.deploy.prometheus_server import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Pixels that a panel has below its title."""

    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Answers to each query of a panel, and what is marked in its graphs: time and colour."""

    answers: Sequence[Sequence[Answer]]
    span: Span
    marks: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series under its name. samples: time and value, finite ones only."""

    look: Look
    samples: Sequence[tuple[float, float]]
    color: str
    labels: Mapping[str, str]

    @property
    def last(self) -> float:
        return self.samples[-1][1]


def series_of(panel: Mapping[str, Any], seen: Seen) -> list[Series]:
    found = list[Series]()
    for target, answers in zip(panel["targets"], seen.answers, strict=True):
        for answer in answers:
            own = look(panel, legend(target["legendFormat"], answer.labels))
            color = own.color or CLASSIC[len(found) % len(CLASSIC)]
            found.append(Series(look=own, samples=answer.finite, color=color, labels=answer.labels))
    return found


def merged(answers: Sequence[Sequence[Answer]]) -> list[dict[str, float | str]]:
    """Return the rows that Grafana's transformation `merge` makes: those whose common labels agree become one.

    The name of a metric is such a label: rows of two metrics stay apart.
    """
    rows = list[dict[str, float | str]]()
    for number, own in enumerate(answers):
        value = f"Value #{chr(ord('A') + number)}" if len(answers) > 1 else "Value"
        for answer in own:
            fitting = [row for row in rows if value not in row and _agree(row, answer.labels)]
            row = fitting[0] if fitting else {}
            if not fitting:
                rows.append(row)
            row.update({**answer.labels, value: answer.samples[-1][1]})
    return rows


def _agree(row: Mapping[str, float | str], labels: Mapping[str, str]) -> bool:
    return all(row.get(name, words) == words for name, words in labels.items())
