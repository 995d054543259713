"""Lives of a paper daemon whose ensembles succeed one another, killed around every step of it.

Each child runs the real `daemon.app.App`. Its feed gives the next candle only once the succession has done whatever the
last one called for, so that a swap falls between the same two candles whatever the machine does; `is_free` lets them
come as they may. `python -m tests.crash.succession_nursery` reads one JSON object per line and answers with the file
operations on the registry that the child made, one per line, and its exit code.
"""

import asyncio
import io
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as `sacd` sets it; threads would not survive the fork either

from rich.console import Console

import daemon.app
from daemon import crash_points
from daemon.app import App, run_until_done
from daemon.config import load_config
from daemon.events import Event
from daemon.journal import SqliteJournal
from daemon.model_life import Phase
from daemon.ports import CandleGroup, Feed, FeedEvent
from daemon.succession import Succession
from strategy.candle import Candle
from tests.crash.file_operations import Operation, end_at_unseen_changes, watched
from tests.crash.forking import ForkServer, serve
from tests.crash.nursery import die_at
from tests.succession.swift import Swift

UNSEEN = 71
"""Exit code of a life that changed the registry in a way that nobody watches."""
KILLED = frozenset({-signal.SIGKILL, -signal.SIGALRM})
"""Exit codes of a life that was killed: from outside, or at its own alarm, which nothing handles."""
FOREVER = 2**53


# ---- the child's side -------------------------------------------------------------------------------------------
class _Watched(Succession):
    """A succession that says when it has nothing left to do."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._at_rest = asyncio.Event()
        _WATCHED.append(self)

    def publish(self, event: Event) -> None:
        super().publish(event)
        if self._woken.is_set():
            self._at_rest.clear()

    async def _rest(self) -> None:
        if not self._woken.is_set():
            self._at_rest.set()
        try:
            await super()._rest()
        finally:
            self._at_rest.clear()

    async def quiet(self) -> None:
        """Wait until it waits for something to happen."""
        await self._at_rest.wait()

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever tried."""
        life = self.companion.life
        return not life.previous and life.phase is Phase.STEADY


_WATCHED: list[_Watched] = []


class _Paced:
    """A feed that ends before the first candle that opens at `end_ms` or later, and waits for the succession."""

    def __init__(self, feed: Feed, asked: Mapping[str, Any]) -> None:
        self.is_live = feed.is_live
        self._feed = feed
        self._asked = asked
        self._is_alarmed = False
        self.instruments, self.close = feed.instruments, feed.close

    async def events(self, resume: Mapping[str, Candle]) -> AsyncIterator[FeedEvent]:
        succession = _WATCHED[-1]
        async for event in self._feed.events(resume):
            if isinstance(event, CandleGroup) and not event.is_backfill:
                self._alarm(event.candles[0].open_ms)
                await self._wait(succession)
                if event.candles[0].open_ms >= self._asked["end_ms"]:
                    return
                if event.candles[0].open_ms >= self._asked["shadow_ms"] and succession.is_new:
                    await succession.command("shadow", {"model": self._asked["candidate"]})
                    await self._wait(succession)
            yield event
        await self._wait(succession)

    def _alarm(self, open_ms: int) -> None:
        """Have the kernel kill this process in a moment, whatever it does then."""
        alarm_s = self._asked["death"].get("alarm_s")
        if alarm_s is not None and not self._is_alarmed and open_ms >= self._asked["death"]["alarm_ms"]:
            self._is_alarmed = True
            signal.setitimer(signal.ITIMER_REAL, alarm_s)

    async def _wait(self, succession: _Watched) -> None:
        if not self._asked["is_free"]:
            await succession.quiet()


class _Dying:
    """Where a life is to be killed: at a crash point, or around a file operation of a swap."""

    def __init__(self, asked: Mapping[str, Any], registry: str) -> None:
        self._registry = registry
        self._point, self._at = asked.get("point"), asked.get("count")
        self._operation = asked.get("operation"), asked.get("side")
        self._signal = signal.Signals[asked.get("by", "SIGKILL")]
        self._passed: dict[str, int] = {}
        self._is_swapping = False
        self.made: list[Operation] = []

    def pass_point(self, name: str) -> None:
        self._passed[name] = self._passed.get(name, 0) + 1
        if name == self._point and self._passed[name] == self._at:
            os.kill(os.getpid(), self._signal)
        self._is_swapping = name == "swapping"

    def before(self, _index: int, operation: Operation) -> None:
        if self._is_of_swap(operation):
            self._die_at(len(self.made), "before")
            self.made.append(operation)

    def after(self, _index: int, operation: Operation) -> None:
        if self._is_of_swap(operation):
            self._die_at(len(self.made) - 1, "after")

    def _is_of_swap(self, operation: Operation) -> bool:
        return self._is_swapping and any(argument.startswith(self._registry) for argument in operation.arguments)

    def _die_at(self, index: int, side: str) -> None:
        if (index, side) == self._operation:
            os.kill(os.getpid(), self._signal)


def _live(asked: Mapping[str, Any]) -> int:
    make = daemon.app.make_feed
    daemon.app.make_feed = lambda config, clock, budget: _Paced(make(config, clock, budget), asked)  # type: ignore[assignment]
    daemon.app.Succession = _Watched  # type: ignore[misc]
    loaded = load_config(Path(asked["config"]), {})
    registry, death = str(loaded.strategy.model.parent), asked["death"]
    if death.get("append"):
        die_at(SqliteJournal, "append", death["append"], before=death["side"] == "before")
    end_at_unseen_changes(UNSEEN, registry)
    dying = _Dying(death, registry)
    crash_points.hook = dying.pass_point
    with watched(dying.before, dying.after), Path(asked["config"]).with_suffix(".log").open("a") as log:
        code = run_until_done(lambda: App(loaded, {}, Console(file=io.StringIO()), log).run())
    for operation in dying.made:
        os.write(1, json.dumps([operation.call, *operation.arguments]).encode() + b"\n")
    return code


# ---- the test's side --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Where a life is killed: when it passes a crash point for the `count`-th time; "before" or "after" a file
    operation of the first swap that it begins, or one of its transactions, by number; `alarm_s` after it is given its
    first candle that opens at `alarm_ms` or later. by: the signal, where it can be another one.
    """

    point: str = ""
    count: int = 1
    operation: int = -1
    append: int = 0
    side: str = ""
    alarm_s: float | None = None
    alarm_ms: int = 0
    by: str = "SIGKILL"


class SuccessionNursery(ForkServer):
    """Starts lives in a process of its own."""

    def __init__(self) -> None:
        super().__init__("tests.crash.succession_nursery")

    def live(
        self,
        place: Swift,
        end_ms: int = FOREVER,
        death: Death | None = None,
        *,
        delay_s: float | None = None,
        is_free: bool = False,
    ) -> tuple[int, Sequence[Operation]]:
        """Let a daemon live until the candles end, or `end_ms`, or it dies, at the latest after `delay_s`.

        Returns its exit code and, of a life that was not killed, the file operations of its swaps on the registry.
        """
        self.send(
            {
                "config": str(place.config),
                "candidate": place.candidate,
                "shadow_ms": place.shadow_ms,
                "end_ms": end_ms,
                "death": {} if death is None else asdict(death),
                "delay_s": delay_s,
                "is_free": is_free,
            }
        )
        code, lines = self.ended()
        told = [json.loads(line) for line in lines]
        return code, [Operation(call=call, arguments=tuple(arguments)) for call, *arguments in told]


if __name__ == "__main__":
    serve(_live)
