"""Programs that a Prometheus scrapes: an account on paper that lives through a swap and back, one at a test venue."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from daemon.clock import SystemClock
from daemon.control import ControlError, NotRunning, call
from strategy.parameters import SHIPPED_LIMITS, SHIPPED_STRATEGY
from tests.conftest import find_recorded
from tests.daemon.programs import Running
from tests.deploy.panel_queries import Span
from tests.deploy.prometheus_server import SCRAPE_S, Prometheus, free_port
from tests.fakes.serving import ROOT, Place
from tests.live.house import House
from tests.live.nursery import Nursery
from tests.succession.places import make_planted
from tests.succession.planted import Kind
from tests.succession.swift import BEFORE, Swift

PAPER, LIVE, GONE = "paper", "live", "gone"
"""Instances: two accounts, and one of which nothing is heard."""
_AFTER = 3_000
"""Candles after the market has turned: more than there is time for, so that the program does not come to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What was seen. span: while all of them ran."""

    prometheus: Prometheus
    span: Span


@contextlib.contextmanager
def watched(root: Path, pace: float = 12.0) -> Iterator[Scene]:
    """Let both accounts live under the eyes of Prometheus until everything that can be seen has happened.

    pace: candle times a second; the ensembles need some three hundred for shadow, swap, watch and rollback.
    """
    ports = {PAPER: free_port(), LIVE: free_port(), GONE: free_port()}
    paper = _paper(root / "paper")
    with contextlib.ExitStack() as stack:
        prometheus = stack.enter_context(Prometheus(root, ports))
        started_s = _now_s()
        stack.enter_context(_on_paper(paper, ports[PAPER], pace))
        stack.enter_context(_live(root / "live", ports[LIVE]))
        asyncio.run(_direct(paper))
        for what, expr in _EVENTS.items():
            prometheus.until(partial(_holds, prometheus, expr), what, 400.0)
        # Once more, so that a comparison goes on while somebody looks.
        asyncio.run(_try_candidate(paper))
        compared = f'sacd_shadow_decisions{{instance="{PAPER}"}} > 0'
        prometheus.until(partial(_holds, prometheus, compared), "the candidate is compared again", 400.0)
        yield _seen(prometheus, started_s, PAPER, LIVE)


_EVENTS: Mapping[str, str] = {
    "the candidate was taken back": f'sacd_model_swaps_total{{instance="{PAPER}",cause="rollback"}} > 0',
    "a retraining ended": f'sacd_last_retrain_timestamp_seconds{{instance="{PAPER}"}} > 0',
    "the journal was backed up": f'sacd_last_backup_timestamp_seconds{{instance="{PAPER}"}} > 0',
    "the live account bought and sold": (f'min(sum by (side) (sacd_fills_total{{instance="{LIVE}"}})) > 0'),
    "the live account halted": f'max_over_time(sacd_trading_state{{instance="{LIVE}",state="halted"}}[1h]) > 0',
}
"""What must have happened before anybody looks, by what tells so."""


@contextlib.contextmanager
def recorded(root: Path) -> Iterator[Scene]:
    """Let the ensemble that ships trade the two recorded years it was evaluated on, in five minutes.

    The last month is left over, so that the program does not come to its end while somebody looks.
    """
    port = free_port()
    with contextlib.ExitStack() as stack:
        prometheus = stack.enter_context(Prometheus(root, {PAPER: port}))
        started_s = _now_s()
        stack.enter_context(Running(_recorded_config(root, port)))
        newest = f'sacd_last_candle_timestamp_seconds{{instance="{PAPER}"}} > {_ENOUGH_S}'
        prometheus.until(partial(_holds, prometheus, newest), "the last month of the candles", 1_500.0)
        yield _seen(prometheus, started_s, PAPER)


_ENOUGH_S = round(datetime(2022, 12, 1, tzinfo=UTC).timestamp())


def _recorded_config(root: Path, port: int) -> Path:
    files = {f"{coin}/USDT": find_recorded(f"binance/{coin.lower()}usdt-1h.csv.gz") for coin in ("BTC", "ETH")}
    place = Place(root=root, model=ROOT / "models" / "current", files=files)
    sections: dict[str, Mapping[str, Any]] = {
        "market": {"candles_per_second": 60.0},
        "market.file": {"start": "2021-01-01"},
        "strategy": SHIPPED_STRATEGY.to_json(),
        "risk": SHIPPED_LIMITS.to_json(),
        "retrain": {"drift_limit": 0.15},
        "http": {"port": port},
    }
    return place.configure(state="var", **sections)


def _now_s() -> float:
    return SystemClock().now_ms() / 1_000.0


def _holds(prometheus: Prometheus, expr: str) -> bool:
    return bool(prometheus.instant(expr, _now_s()))


def _seen(prometheus: Prometheus, started_s: float, *instances: str) -> Scene:
    """Return what there is to see, once scrapes and rules have taken in what happened last.

    It ends at a moment at which all answered: on a busy machine a scrape may be late, and what is not scraped is stale.
    """
    settled_s = _now_s() + 3.0 * SCRAPE_S
    prometheus.until(lambda: _now_s() > settled_s, "the next scrapes", 60.0)
    moments = list[float]()

    def all_answer() -> bool:
        moments.append(_now_s())
        up = prometheus.instant(f'sum(up{{instance=~"{"|".join(instances)}"}})', moments[-1])
        return [answer.samples[-1][1] for answer in up] == [len(instances)]

    prometheus.until(all_answer, f"{' and '.join(instances)} answer", 60.0)
    return Scene(prometheus=prometheus, span=Span(start_s=started_s, end_s=moments[-1]))


def _paper(root: Path) -> Swift:
    root.mkdir()
    planted = make_planted(root, before=BEFORE, after=_AFTER)
    return Swift(planted=planted, incumbent=planted.current, candidate=planted.add(Kind.FOLLOWS))


@contextlib.contextmanager
def _on_paper(place: Swift, port: int, pace: float) -> Iterator[None]:
    config = place.configure(
        market={"candles_per_second": pace},
        retrain={"every_hours": 1_000.0},
        journal={"backup_every_s": 10.0},
        http={"port": port},
    )
    with Running(config) as running:
        yield
        code, _, said = running.signal(signal.SIGTERM)
        assert code == 0, said


@contextlib.contextmanager
def _live(root: Path, port: int) -> Iterator[None]:
    root.mkdir()
    limits = {"max_drawdown": 0.005, "halt_cooldown": 5}
    with House(root, http={"port": port}, risk=limits) as house, Nursery() as nursery:
        life = house.live(nursery)
        yield
        assert life.kill(signal.SIGTERM) == 0, house.log[-3_000:]


async def _direct(place: Swift) -> None:
    """Ask the account on paper for a retraining, and to try the candidate."""
    await _ask(_socket(place), "retrain", {})
    await _try_candidate(place)


async def _try_candidate(place: Swift) -> None:
    await _ask(_socket(place), "shadow", {"model": place.candidate})


def _socket(place: Swift) -> Path:
    return place.root / "var.sock"


async def _ask(socket: Path, verb: str, args: Mapping[str, Any]) -> None:
    """Ask until it runs."""
    async with asyncio.timeout(60.0):
        while True:
            try:
                await call(socket, verb, args)
            except NotRunning:
                await asyncio.sleep(0.1)
            except ControlError as error:
                if "is starting" not in str(error):
                    raise
                await asyncio.sleep(0.1)
            else:
                return
