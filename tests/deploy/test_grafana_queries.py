"""Every query of every dashboard, asked of a real Prometheus that scrapes running daemons.

One test, because what it looks at takes a minute to happen and would otherwise happen once for each worker.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from daemon import journal_reader
from tests.deploy.panel_queries import Question, Span, choices, dashboards, panels, questions
from tests.deploy.picture import Picture
from tests.deploy.prometheus_server import Prometheus
from tests.deploy.scenes import GONE, LIVE, PAPER, Scene, watched
from tests.deploy.seen import merged

_NO_ORDERS = "paper sends no orders anywhere"
_NO_STREAM = "recorded candles have no stream"
_NO_HALT = "no limit of the planted account is ever reached"
ONLY_LIVE: Mapping[str, str] = {
    "sacd: trading / Way to the exchange / A": _NO_ORDERS,
    "sacd: trading / Answers of the exchange / A": _NO_ORDERS,
    "sacd: trading / Answers of the exchange / B": _NO_ORDERS,
    "sacd: health / Lag of candles / A": _NO_STREAM,
    "sacd: health / Lag of candles / B": _NO_STREAM,
    "sacd: health / Silence of the stream / A": _NO_STREAM,
    "sacd: trading / marks / Halted": _NO_HALT,
    "sacd: decisions / marks / Halted": _NO_HALT,
    "sacd: models / marks / Halted": _NO_HALT,
    "sacd: health / marks / Halted": _NO_HALT,
}
"""Queries that an account on paper has no data for, and why; the account at the test venue has."""


@pytest.mark.timeout(900)
def test_every_query_of_every_panel_returns_data(tmp_path: Path) -> None:
    with watched(tmp_path) as scene:
        without_data = list(_without_data(scene))
        choices_offered = {name: list(_offered(scene, name)) for name in ("instance", "symbol", "quote")}
        accounts, swaps = _accounts(scene), _swaps(scene.prometheus, scene)
        pages = {board["uid"]: _page(scene, board) for board in dashboards() if board["uid"] != "sacd-runbook"}
    asked = [question for board in dashboards() for question in questions(board)]
    assert without_data == []
    assert len(asked) > 100
    assert set(ONLY_LIVE) <= {question.where for question in asked}
    assert choices_offered == {
        "instance": [LIVE, PAPER],
        "symbol": ["BTC/USDT", "ETH/USDT"],
        "quote": ["USDT"],
    }
    assert accounts == [
        {"instance": GONE, "Value #A": 0.0},
        {"instance": LIVE, "Value #A": 1.0, "mode": "live", "source": "exchange", "timeframe": "1m"},
        {"instance": PAPER, "Value #A": 1.0, "mode": "paper", "source": "file", "timeframe": "1h"},
    ]
    assert swaps == _journalled(tmp_path)
    for uid, (page, titles) in pages.items():
        assert [title for title in titles if title not in page] == [], uid


def _without_data(scene: Scene) -> Iterator[str]:
    """Yield every query that answers otherwise than it should, and how."""
    for board in dashboards():
        for question in questions(board):
            on_paper = bool(question.ask(scene.prometheus, scene.span, PAPER))
            if question.where not in ONLY_LIVE and not on_paper:
                yield f"{question.where}: no data: {question.expr}"
            if question.where in ONLY_LIVE and on_paper:
                yield f"{question.where}: has data on paper, and must not be excused by: {ONLY_LIVE[question.where]}"
            if question.where in ONLY_LIVE and not question.ask(scene.prometheus, scene.span, LIVE):
                yield f"{question.where}: no data at the venue either: {question.expr}"
            if question.is_instant and not _is_finite(question, scene):
                yield f"{question.where}: shows NaN: {question.expr}"


def _is_finite(question: Question, scene: Scene) -> bool:
    """Tell whether all that stands there as a figure is one."""
    answers = [
        answer for instance in (PAPER, LIVE) for answer in question.answers(scene.prometheus, scene.span, instance)
    ]
    return all(answer.finite for answer in answers)


def _offered(scene: Scene, name: str) -> Iterator[str]:
    """Yield what there is to choose from, the same on every dashboard that has the choice."""
    offers = [choices(board, name, scene.prometheus, scene.span, PAPER) for board in dashboards()]
    found = {tuple(offer) for offer in offers if offer is not None}
    assert len(found) == 1
    yield from found.pop()


def _accounts(scene: Scene) -> list[dict[str, float | str]]:
    """Return the first columns of the table of all accounts."""
    (board,) = [board for board in dashboards() if board["uid"] == "sacd-health"]
    asked = [question for question in questions(board) if "All accounts" in question.where]
    answers = [question.ask(scene.prometheus, scene.span, PAPER) for question in asked]
    rows = sorted(merged(answers), key=lambda row: row["instance"])
    figures = {"Value #B", "Value #C", "Value #D", "Value #E"}
    assert [(row["instance"], figures - row.keys()) for row in rows] == [(GONE, figures), (LIVE, set()), (PAPER, set())]
    return [{name: value for name, value in row.items() if name not in figures} for row in rows]


def _swaps(prometheus: Prometheus, scene: Scene) -> dict[str, int]:
    """Return what the dashboard says of swaps, by cause."""
    (board,) = [board for board in dashboards() if board["uid"] == "sacd-models"]
    (question,) = [one for one in questions(board) if one.where == "sacd: models / Swaps / A"]
    counted = {answer.labels["cause"]: answer.samples[-1][1] for answer in question.ask(prometheus, scene.span, PAPER)}
    return {cause: round(count) for cause, count in counted.items() if count}


def _journalled(root: Path) -> dict[str, int]:
    """Return what the journal says of swaps, by cause."""
    entries = journal_reader.read(root / "paper" / "var" / "test-file.sqlite", kinds={"model"})
    causes = [entry.payload["cause"] for entry in entries if entry.payload["step"] == "serving"]
    return {cause: causes.count(cause) for cause in causes}


def _page(scene: Scene, board: dict[str, object]) -> tuple[str, list[str]]:
    """Return a dashboard as a page, and the titles that must stand there."""
    page, _ = Picture(dashboard=board, scene=scene, instance=PAPER).page()
    return page, [panel["title"].replace("$quote", "USDT") for panel in panels(board)]


def test_a_query_without_finite_values_has_no_data() -> None:
    class Silent(Prometheus):
        def __init__(self) -> None: ...

        def _ask(self, path: str, **parameters: object) -> object:
            return {"result": [{"metric": {}, "value": (1.0, "NaN")}, {"metric": {"a": "b"}, "value": (1.0, "2")}]}

    answers = Question(where="", expr="x", is_instant=True).ask(Silent(), Span(start_s=0.0, end_s=1.0), PAPER)
    assert [(answer.labels, answer.samples) for answer in answers] == [({"a": "b"}, [(1.0, 2.0)])]
