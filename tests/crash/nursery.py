"""Lives of a paper daemon: a process that has everything imported forks one child per life, and kills it when told.

Each child runs the real `daemon.app.App` on a configuration, with its feed cut at a candle so that it can end by
itself. `python -m tests.crash.nursery` reads one JSON object per line and answers with one.
"""

import io
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as `sacd` sets it; threads would not survive the fork either

from rich.console import Console

import daemon.app
from daemon import journal_reader
from daemon.app import App, run_until_done
from daemon.broker_paper import PaperBroker
from daemon.config import load_config
from daemon.journal import SqliteJournal
from daemon.ports import CandleGroup, Feed, FeedEvent
from strategy.candle import Candle
from tests.crash.forking import ForkServer, serve

ACCOUNT_KINDS = ("candle", "gap", "decision", "order", "fill", "command", "risk")


# ---- the child's side -------------------------------------------------------------------------------------------
class Cut:
    """A feed that ends before the first candle that opens at `end_ms` or later."""

    def __init__(self, feed: Feed, end_ms: int) -> None:
        self.is_live = feed.is_live
        self._feed = feed
        self._end_ms = end_ms
        self.instruments, self.close = feed.instruments, feed.close

    async def events(self, resume: Mapping[str, Candle]) -> AsyncIterator[FeedEvent]:
        async for event in self._feed.events(resume):
            if isinstance(event, CandleGroup) and event.candles[0].open_ms >= self._end_ms:
                return
            yield event


def die_at(owner: type, method: str, count: int, *, before: bool) -> None:
    """Let the process kill itself around the `count`-th call of a coroutine method."""
    whole, calls = getattr(owner, method), 0

    async def mortal(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if before and calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        result = await whole(self, *arguments)
        if not before and calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, method, mortal)


def _live(config: str, end_ms: int, death: Sequence[Any] | None) -> int:
    make = daemon.app.make_feed
    daemon.app.make_feed = lambda config, clock, budget: Cut(make(config, clock, budget), end_ms)  # type: ignore[assignment]
    if death is not None:
        name, count, before = death
        die_at(SqliteJournal if name == "append" else PaperBroker, name, count, before=before)
    loaded = load_config(Path(config), {})
    with Path(config).with_suffix(".log").open("a", encoding="utf-8") as log:
        return run_until_done(lambda: App(loaded, {}, Console(file=io.StringIO()), log).run())


def main() -> None:
    serve(lambda asked: _live(asked["config"], asked["end_ms"], asked["death"]))


# ---- the test's side --------------------------------------------------------------------------------------------
class Nursery(ForkServer):
    """Starts lives in a process of its own."""

    def __init__(self) -> None:
        super().__init__("tests.crash.nursery")

    def live(
        self,
        config: Path,
        end_ms: int,
        *,
        delay_s: float | None = None,
        death: tuple[str, int, bool] | None = None,
    ) -> int:
        """Let a daemon live until the feed ends, a delay is over or it dies; returns its exit code, -9 when killed."""
        self.send({"config": str(config), "end_ms": end_ms, "delay_s": delay_s, "death": death})
        code, _ = self.ended()
        return code


def story(journal: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Return all that happened to the account, in order, without runs, stops and checkpoints."""
    return [(entry.kind, entry.payload) for entry in journal_reader.read(journal, kinds=ACCOUNT_KINDS)]


def last_state(journal: Path) -> Mapping[str, Any]:
    """Return the state a clean stop has written."""
    checkpoint = journal_reader.last_of_kind(journal, "checkpoint")
    assert checkpoint is not None
    return {name: checkpoint.payload[name] for name in ("trader", "memory")}


def order_ids(told: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return the client ids of all orders that were ever intended, as often as they were."""
    ids = [payload["order"]["client_id"] for kind, payload in told if kind == "decision" and payload["order"]]
    return ids + [order["client_id"] for kind, payload in told if "orders" in payload for order in payload["orders"]]


if __name__ == "__main__":
    main()
