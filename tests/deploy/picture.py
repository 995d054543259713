"""Pictures of the dashboards: what the queries of their panels answered, plotted where Grafana would put the panels.

    python -m tests.deploy.picture [FOLDER]

Prometheus, its rules, the queries and sacd are the real ones; Grafana is not there, and the plots are our own.
"""

import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.deploy.commands import command
from tests.deploy.panel_queries import Question, dashboards, marks, questions, where
from tests.deploy.plots import draw
from tests.deploy.prometheus_server import SCRAPE_S, Answer
from tests.deploy.scenes import PAPER, Scene, recorded, watched
from tests.deploy.seen import Box, Seen
from tests.deploy.strokes import DIM, bar, text

WIDTH = 1_600
_GAP, _UNIT, _HEAD, _FOOT = 8, 30, 64, 30
_TITLE = 30
"""Pixels: between panels, of a row, of the line above them and the one below, of a panel's title."""
_STYLE = "margin:0;background:#111217;font-family:Inter,'DejaVu Sans',sans-serif"
_CHOSEN = {"datasource": "sacd", "symbol": "All"}
_NOT_GRAFANA = (
    "The panels' queries, answered by Prometheus and plotted where Grafana places the panels. Not Grafana itself."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a dashboard shows of a scene.

    instance: the account.  until: the headline before which it ends, "" for all of it.
    """

    dashboard: Mapping[str, Any]
    scene: Scene
    instance: str
    caption: str = ""
    until: str = ""

    def page(self) -> tuple[str, int]:
        """Return it as a page of HTML, and its height in pixels."""
        panels = list(self._panels())
        bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
        height = _HEAD + bottom * (_UNIT + _GAP) + _FOOT
        caption = text((2 * _GAP, height - 10), f"{self.caption} {_NOT_GRAFANA}", size=12, color=DIM)
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}">'
        inside = self._head() + "".join(map(self._placed, panels)) + caption
        return f'<!doctype html><meta charset="utf-8"><body style="{_STYLE}">{svg}{inside}</svg></body>', height

    def _panels(self) -> Iterator[Mapping[str, Any]]:
        for panel in self.dashboard["panels"]:
            if panel["title"] == self.until:
                return
            yield panel

    def _head(self) -> str:
        parts = [text((16, 39), self.dashboard["title"], size=20, weight=600)]
        x = 220.0
        for choice in self.dashboard["templating"]["list"]:
            if choice["hide"] == 0:
                words = f"{choice['label']}: {_CHOSEN.get(choice['name'], self.instance)}"
                wide = len(words) * 7.4 + 20
                parts += [bar((x, 18), wide, 28, "#202226"), text((x + 10, 37), words, size=13)]
                x += wide + 10
        links = "   ".join(f"\u25c8 {link['title']}" for link in self.dashboard["links"])
        return "".join(parts) + text((WIDTH - 16, 37), links, size=13, color="#6e9fff", anchor="end")

    def _placed(self, panel: Mapping[str, Any]) -> str:
        place, column = panel["gridPos"], (WIDTH - _GAP) / 24
        box = Box(width=place["w"] * column - _GAP, height=place["h"] * (_UNIT + _GAP) - _GAP)
        x, y = _GAP + place["x"] * column, _HEAD + place["y"] * (_UNIT + _GAP)
        is_row = panel["type"] == "row"
        inside = text((4, 20), f"\u2304 {panel['title']}", size=15, weight=600) if is_row else self._panel(panel, box)
        return f'<g transform="translate({x:.1f} {y:.1f})">{inside}</g>'

    def _panel(self, panel: Mapping[str, Any], box: Box) -> str:
        seen = Seen(answers=self._answers(panel), span=self.scene.span, marks=self._marked())
        drawn = draw(panel, seen, Box(width=box.width - 16, height=box.height - _TITLE - 8))
        frame = f'width="{box.width:.1f}" height="{box.height:.1f}" rx="2"'
        clip = f"c{panel['id']}"
        return (
            f'<clipPath id="{clip}"><rect {frame}/></clipPath><g clip-path="url(#{clip})">'
            f'<rect {frame} fill="#181b1f" stroke="#2f3239"/><g transform="translate(8 {_TITLE})">{drawn}</g>'
            f"{text((8, 20), self._title(panel), size=13, weight=600)}</g>"
        )

    def _answers(self, panel: Mapping[str, Any]) -> list[list[Answer]]:
        asked = {question.where: question for question in questions(self.dashboard)}
        places = [where(self.dashboard, panel, target) for target in panel["targets"]]
        return [asked[place].ask(self.scene.prometheus, self.scene.span, self.instance) for place in places]

    def _title(self, panel: Mapping[str, Any]) -> str:
        about = f'sacd_instance_info{{instance="{self.instance}"}}'
        (told,) = self.scene.prometheus.instant(about, self.scene.span.end_s)
        return str(panel["title"].replace("$quote", told.labels["quote"]))

    def _marked(self) -> list[tuple[float, str]]:
        """Return time and colour of all that is marked in the graphs."""
        found = set[tuple[float, str]]()
        for mark in marks(self.dashboard):
            question = Question(where=mark["name"], expr=mark["target"]["expr"], is_instant=False)
            for answer in question.ask(self.scene.prometheus, self.scene.span, self.instance):
                found |= {(at, mark["iconColor"]) for at in _moments(answer, is_moment=mark["useValueForTime"])}
        return sorted(found)


def _moments(answer: Answer, *, is_moment: bool) -> set[float]:
    """Return when a mark is set: at its values, or at the beginning and the end of each span in which it holds."""
    if is_moment:
        return {value / 1_000.0 for _, value in answer.finite}
    times = [at for at, _ in answer.finite]
    around = zip([-math.inf, *times[:-1]], times, [*times[1:], math.inf], strict=True)
    return {at for before, at, after in around if max(at - before, after - at) > 2.0 * SCRAPE_S}


def shoot(page: str, height: int, target: Path) -> None:
    """Have Chromium paint a page."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "page.html")
        source.write_text(page, encoding="utf-8")
        subprocess.run(
            [
                command("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{height}", f"--screenshot={target}",
                source.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )  # fmt: skip


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    boards = {dashboard["uid"]: dashboard for dashboard in dashboards()}
    for name, (scene, until, caption) in _PICTURES.items():
        with tempfile.TemporaryDirectory() as folder, scene(Path(folder)) as seen:
            board = boards[f"sacd-{name}"]
            picture = Picture(dashboard=board, scene=seen, instance=PAPER, caption=caption, until=until)
            shoot(*picture.page(), target / f"dashboard-{name}.png")


_PICTURES: Mapping[str, tuple[Callable[[Path], AbstractContextManager[Scene]], str, str]] = {
    "trading": (
        recorded,
        "Orders at the exchange (live accounts)",
        "Binance's hourly candles of 2021 and 2022 in minutes, traded on paper by the ensemble that ships.",
    ),
    "models": (
        partial(watched, pace=5.0),
        "",
        "A made-up market that turns: a candidate proves itself, takes over, and is taken back.",
    ),
}


if __name__ == "__main__":
    main()
