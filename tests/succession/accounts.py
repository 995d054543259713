"""An account on disk, with the ensembles that accompany it, driven by hand and without a clock.

Everything is built as the app builds it. After each event the succession is let do whatever follows from it, so that
the same candles give the same life, whenever the account was interrupted.
"""

import contextlib
import io
import itertools
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from daemon import journal_reader
from daemon.app import App
from daemon.app_feed import make_feed
from daemon.companion import Bounds, Companion
from daemon.config import Config, load_config
from daemon.contenders import Contenders
from daemon.errors import FatalError, SacdError
from daemon.journal import SqliteJournal
from daemon.model_life import Life
from daemon.paths import journal_path
from daemon.ports import CandleGroup, Entry, FeedEvent
from daemon.recovery import recover
from daemon.run_record import account_of, run_record
from daemon.serving import load_model, make_engine, make_trader
from daemon.succession import Succession
from strategy.bundle import Bundle
from strategy.trader import Trader
from tests.fakes.clock import ManualClock


class Account:
    """One run of an account: `open`, `trade`, then `stop`, or `die` as a kill would leave it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.path = journal_path(config)
        self.clock = ManualClock()
        self.hindrances: list[str] = []
        self.bundle = load_model(config)
        self._app = _app(config, self.clock)
        self.trader, self.succession = _parts(config, self._app, self.bundle, self.clock)

    @classmethod
    async def open(cls, config_file: Path, *, backfilled: Collection[int] = (), heeds: bool = True) -> Self:
        """backfilled: open times of candles that come too late to be decided on.  heeds: what a run finds to do."""
        self = cls(load_config(config_file, {}))
        self._backfilled = backfilled
        self.config.daemon.state_dir.mkdir(exist_ok=True)
        self._feed = make_feed(self.config, self.clock)
        self._journal = SqliteJournal.open(self.path, self.clock)
        await self._feed.instruments()
        recovered = recover(self.path, self.trader, account_of(self.config), self.companion)
        self.mismatches = recovered.mismatches
        self.engine = make_engine(
            self.trader,
            recovered.memory,
            self.bundle,
            journal=self._journal,
            clock=self.clock,
            sinks=[self.succession],
            cash=self.config.daemon.initial_cash,
            checkpoint_every=self.config.journal.checkpoint_every,
            is_live=False,
            companion=self.companion,
        )
        await self.engine.start(lambda setup: run_record(self.config, setup, self.bundle))
        opening = next(iter(journal_reader.read(self.path, limit=1)))
        await self.succession.begin(self.engine, self.bundle.manifest.short_id, opening.at_ms)
        await self._app._reopen(self.engine, is_live=False)
        self._events = self._feed.events(dict(self.engine.memory.last))
        if heeds:
            await self.heed()
        return self

    @property
    def companion(self) -> Companion:
        return self.succession.companion

    @property
    def life(self) -> Life:
        return self.companion.life

    @property
    def last_seq(self) -> int:
        return self._journal.last_seq

    # ---- trading ------------------------------------------------------------------------------------------------
    async def trade(self, groups: int) -> None:
        """Take so many groups of candles that are decided on, with all that comes before and between them."""
        for _ in range(groups):
            await self.take()
            await self.heed()

    async def trade_all(self) -> None:
        """Heed what the last run left, and take everything that is left."""
        await self.heed()
        with contextlib.suppress(StopAsyncIteration):
            while True:
                await self.trade(1)

    async def take(self) -> None:
        """Take the next group of candles that is decided on, and let nobody act on what follows from it."""
        is_decided = False
        while not is_decided:
            event = await anext(self._events)
            if isinstance(event, CandleGroup):
                event = replace(event, is_backfill=event.is_backfill or event.candles[0].open_ms in self._backfilled)
                is_decided = not event.is_backfill
            await self._run(event)

    async def _run(self, event: FeedEvent) -> None:
        async def one() -> AsyncIterator[FeedEvent]:
            yield event

        await self.engine.run(one())

    async def heed(self) -> None:
        """Let the succession do all there is to do."""
        self.succession._woken.set()
        while self.succession._woken.is_set():
            self.succession._woken.clear()
            for look in (self.succession._look_at_ensembles, self.succession._look_at_retraining):
                try:
                    await look()
                except FatalError:
                    raise
                except SacdError as error:  # as the task does that looks after them: what hinders it is told
                    self.hindrances.append(str(error))

    # ---- ending -------------------------------------------------------------------------------------------------
    async def stop(self) -> None:
        """End in order."""
        await self.engine.stop("test")
        await self.die()

    async def die(self) -> None:
        """End without a last word: what was not written is lost."""
        await self._journal.close()
        await self._feed.close()

    def state(self) -> dict[str, Any]:
        """Return all that is known of the account and of what accompanies it."""
        return {"trader": self.trader.state(), "companion": self.companion.state()}


def state_on_disk(config: Config, journal: Path) -> dict[str, Any]:
    """Return the state that the next start would make of a journal, what it finds missing there included."""
    clock = ManualClock()
    trader, succession = _parts(config, _app(config, clock), load_model(config), clock)
    companion = succession.companion
    recover(journal, trader, account_of(config), companion)
    for record in companion.take():
        if record.kind == "drift":
            trader.set_drifted(is_drifted=record.payload["is_beyond"])
        companion.apply(record)
    return {"trader": trader.state(), "companion": companion.state()}


def _app(config: Config, clock: ManualClock) -> App:
    return App(config, {}, Console(file=io.StringIO()), io.StringIO(), clock=clock)


def _parts(config: Config, app: App, bundle: Bundle, clock: ManualClock) -> tuple[Trader, Succession]:
    setup = app._setup(config.instruments())
    contenders = Contenders(config.strategy.model, config.market.timeframe, bundle)
    retrain, cash = config.retrain, config.daemon.initial_cash
    bounds = Bounds(regret=retrain.regret_limit, drift_limit=retrain.drift_limit, drift_half_life=retrain.drift_candles)
    companion = Companion(setup, cash, bounds, contenders.find)
    ids = (f"{number:016x}" for number in itertools.count(1))
    succession = Succession(config, clock, companion, contenders, environ={}, make_id=lambda: next(ids))
    return make_trader(setup, bundle, cash), succession


# ---- what the journal says --------------------------------------------------------------------------------------
def steps(journal: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the steps in the life of the ensembles, by name, with what they say."""
    return [(entry.payload["step"], entry.payload) for entry in entries(journal, "model")]


def entries(journal: Path, *kinds: str) -> list[Entry]:
    return list(journal_reader.read(journal, kinds=kinds))
