"""An account on disk that a test drives by hand: the parts the app builds, without its screens, servers and signals."""

import io
import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from daemon.app import App
from daemon.app_feed import make_feed
from daemon.clock import SystemClock
from daemon.config import Config, load_config
from daemon.engine import Engine
from daemon.fold import Memory
from daemon.journal import SqliteJournal
from daemon.paths import journal_path
from daemon.ports import Broker, FeedEvent, Record
from daemon.recovery import Recovered, recover
from daemon.run_record import account_of, run_record
from daemon.serving import load_model, make_engine, make_trader
from strategy.bundle import Bundle
from strategy.trader import Setup, Trader
from tests.daemon.engines import ObligingBroker, TinyVenue

HISTORY = 2_501
"""Groups of candles the simulated market gives as history."""


class Account:
    """One run of an account: `open`, `trade`, then `stop`, or `die` as a kill would leave it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.path = journal_path(config)
        self._app = App(config, {}, Console(file=io.StringIO()), io.StringIO())

    @classmethod
    async def open(cls, config_file: Path) -> Self:
        self = cls(load_config(config_file, {}))
        self.config.daemon.state_dir.mkdir(exist_ok=True)
        bundle, clock = load_model(self.config), SystemClock()
        self._feed = make_feed(self.config, clock)
        self._journal = SqliteJournal.open(self.path, clock)
        await self._feed.instruments()
        self.recovered, trader = recovered(self.config)
        self.engine = _engine(self.config, trader, self.recovered.memory, bundle, self._journal, broker=None)
        await self.engine.start(lambda setup: run_record(self.config, setup, bundle))
        await self._app._reopen(self.engine, is_live=False)
        self._events = self._feed.events(dict(self.engine.memory.last))
        return self

    async def trade(self, groups: int) -> None:
        """Take so many events of the feed."""

        async def some() -> AsyncIterator[FeedEvent]:
            for _ in range(groups):
                yield await anext(self._events)

        await self.engine.run(some())

    async def stop(self) -> dict[str, Any]:
        """End in order; returns the trader's state."""
        await self.engine.stop("test")
        return await self.die()

    async def die(self) -> dict[str, Any]:
        """End without a last word: what was not written is lost. Returns the trader's state."""
        await self._journal.close()
        await self._feed.close()
        return self.engine.trader.state()


def recovered(config: Config) -> tuple[Recovered, Trader]:
    """Return what recovery makes of the journal as it lies there."""
    app = App(config, {}, Console(file=io.StringIO()), io.StringIO())
    trader = make_trader(app._setup(config.instruments()), load_model(config), config.daemon.initial_cash)
    return recover(journal_path(config), trader, account_of(config)), trader


def copy_state(source: Path, target: Path) -> Path:
    """Copy a state directory; returns the copied journal."""
    shutil.copytree(source, target)
    return next(itertools.chain(target.glob("*.sqlite")))


class LiveAccount:
    """One run of an account at a venue that a test plays: `open`, `trade`, then `die`. Its candles are simulated."""

    def __init__(self, config: Config, venue: TinyVenue) -> None:
        self.config = config
        self.path = journal_path(config)
        self.venue = venue
        self.broker = ObligingBroker(venue)

    @classmethod
    async def open(cls, config_file: Path, venue: TinyVenue) -> Self:
        self = cls(load_config(config_file, {}), venue)
        self.config.daemon.state_dir.mkdir(exist_ok=True)
        bundle, clock = load_model(self.config), SystemClock()
        self._feed = make_feed(self.config, clock)
        self._journal = SqliteJournal.open(self.path, clock)
        await self._feed.instruments()
        self.recovered, trader = recovered_live(self.config)
        self.engine = _engine(self.config, trader, self.recovered.memory, bundle, self._journal, broker=self.broker)
        await self.engine.start(lambda setup: _live_run(self.config, setup, bundle))
        self.broker.groups.append(venue.settle(self.recovered.memory))
        await self.engine.follow(self.broker)
        self._events = self._feed.events(dict(self.engine.memory.last))
        return self

    async def trade(self, groups: int) -> None:
        """Take so many events of the feed, and after each what the venue has to tell."""

        async def one() -> AsyncIterator[FeedEvent]:
            yield await anext(self._events)

        for _ in range(groups):
            await self.engine.run(one())
            await self.engine.follow(self.broker)

    async def die(self) -> dict[str, Any]:
        """End without a last word. Returns the trader's state."""
        await self._journal.close()
        await self._feed.close()
        return self.engine.trader.state()


def recovered_live(config: Config) -> tuple[Recovered, Trader]:
    """Return what recovery makes of the journal of a live account."""
    app = App(config, {}, Console(file=io.StringIO()), io.StringIO())
    trader = make_trader(app._setup(config.instruments()), load_model(config), config.daemon.initial_cash)
    return recover(journal_path(config), trader, {**account_of(config), "mode": "live"}), trader


def _live_run(config: Config, setup: Setup, bundle: Bundle) -> Record:
    record = run_record(config, setup, bundle)
    return Record(kind="run", payload={**record.payload, "account": {**account_of(config), "mode": "live"}})


def _engine(
    config: Config, trader: Trader, memory: Memory, bundle: Bundle, journal: SqliteJournal, *, broker: Broker | None
) -> Engine:
    return make_engine(
        trader,
        memory,
        bundle,
        broker=broker,
        journal=journal,
        clock=SystemClock(),
        sinks=[],
        cash=config.daemon.initial_cash,
        checkpoint_every=config.journal.checkpoint_every,
        is_live=False,
    )
