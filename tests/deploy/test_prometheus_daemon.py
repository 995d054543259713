"""A real Prometheus with our rules over real daemons that are well: one on paper, one live at the test venue."""

import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.daemon.programs import Running
from tests.deploy.commands import command
from tests.deploy.prometheus_server import SCRAPE_S, Prometheus, free_port
from tests.deploy.promql import read
from tests.deploy.rules import rules
from tests.deploy.test_prometheus_rules import ANNOUNCED
from tests.fakes.serving import ROOT, Place
from tests.live.nursery import Nursery
from tests.live.rehearsal import Rehearsal

PAPER, LIVE = "paper", "live"
LOOK_S = 20.0
"""How long they are watched, once both trade."""
BOTH_TRADE = "count(sum by (instance) (sacd_fills_total) > 0) == 2"
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What there was to see. pages: `/metrics` of each instance.  span: seconds, beginning and end."""

    prometheus: Prometheus
    pages: Mapping[str, str]
    span: tuple[float, float]

    def ever(self, expr: str) -> list[Mapping[str, str]]:
        """Return the labels of every series that an expression had at any time."""
        return [answer.labels for answer in self.prometheus.over(expr, *self.span, SCRAPE_S)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    root, ports = tmp_path_factory.mktemp("watched"), {PAPER: free_port(), LIVE: free_port()}
    (root / "live").mkdir()
    paper = Place(root=root, model=ROOT / "models" / "current", files={})
    config = paper.configure(market={"candles_per_second": 24.0}, http={"port": ports[PAPER]})
    with (
        Prometheus(root, ports) as prometheus,
        Running(config),
        Nursery() as nursery,
        Rehearsal(root / "live", nursery, http={"port": ports[LIVE]}) as house,
    ):
        house.begin()
        began_s = _now_s()
        prometheus.until(lambda: prometheus.instant(BOTH_TRADE, _now_s()), "both trade", 120.0)
        end_s = _now_s() + LOOK_S
        prometheus.until(lambda: _now_s() > end_s, "they were watched for a while", 60.0)
        yield Seen(
            prometheus=prometheus,
            pages={instance: _page(port) for instance, port in ports.items()},
            span=(began_s, end_s),
        )
        house.finish()


def _now_s() -> float:
    return time.time()  # noqa: TID251 - of Prometheus, whose clock is real


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
        text: str = page.read().decode()
        return text


@pytest.mark.parametrize("instance", [PAPER, LIVE])
def test_the_linter_finds_nothing_in_what_a_daemon_tells(seen: Seen, instance: str) -> None:
    run = subprocess.run(
        [command("promtool"), "check", "metrics"],
        input=seen.pages[instance],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("instance", [PAPER, LIVE])
def test_nothing_is_wrong_with_a_daemon_that_is_well(seen: Seen, instance: str) -> None:
    fired = seen.ever(f'ALERTS{{alertstate="firing",instance="{instance}"}}')
    assert [labels["alertname"] for labels in fired] == []


def test_prometheus_evaluates_every_rule_without_an_error(seen: Seen) -> None:
    groups: list[dict[str, Any]] = seen.prometheus._ask("rules")["groups"]
    evaluated = {rule["name"]: (rule["health"], rule.get("lastError")) for group in groups for rule in group["rules"]}
    assert evaluated == {rule.name: ("ok", None) for rule in rules()}


def test_daemons_tell_every_metric_that_an_alert_asks_for(seen: Seen) -> None:
    recorded = {rule.name for rule in rules() if not rule.is_alert}
    asked = {name for rule in rules() for name in read(rule.expr).metrics} - recorded - ANNOUNCED
    told = {labels["__name__"] for labels in seen.ever('{__name__=~".+"}')}
    assert asked - told == set()


def test_every_recorded_series_is_recorded_but_the_one_that_needs_a_day(seen: Seen) -> None:
    missing = [rule.name for rule in rules() if not rule.is_alert and not seen.ever(rule.name)]
    assert missing == ["instance:sacd_equity_return:ratio_1d"]
