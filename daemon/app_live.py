"""What a live run adds to a paper run: the account at the exchange, the broker over it, and the order they start in.

A new account is looked at before anything of it exists; one that holds something is protected first and looked at then,
and nothing is decided before both are done.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from daemon.books import AccountBooks
from daemon.broker_live import VenueBroker
from daemon.check_result import refuse_failed
from daemon.config import Config
from daemon.engine import Engine
from daemon.errors import ConfigError
from daemon.fold import Memory
from daemon.journal_restored import clear_marker
from daemon.live_checks import venue_checks
from daemon.paths import journal_path
from daemon.ports import Clock
from daemon.rate_budget import RateBudget
from daemon.reconcile import Reconciler
from daemon.retry import Uniform
from daemon.venue import Unauthorised
from daemon.venue_ccxt import CcxtVenue
from strategy.trader import Trader

_log = structlog.get_logger()


def make_budget(config: Config, clock: Clock) -> RateBudget:
    """Return what every request of this process to the exchange is taken from."""
    return RateBudget(clock, share=config.exchange.request_share, shared=config.exchange.budget_file)


def make_venue(config: Config, clock: Clock, budget: RateBudget, generator: Uniform) -> CcxtVenue:
    """Return the account at the exchange that `config`, with its credentials, names; connects to nothing yet."""
    return CcxtVenue(
        exchange_id=config.exchange.id,
        ccxt_options=config.exchange.ccxt,
        symbols=config.market.symbols,
        credentials=config.credentials(),
        instance=config.daemon.instance,
        clock=clock,
        budget=budget,
        generator=generator,
        sandbox=config.exchange.sandbox,
    )


class LiveAccount:
    """The account at the exchange of one run, from its first look to its last. budget: of every request to it."""

    def __init__(self, config: Config, clock: Clock, generator: Uniform, *, accept_recovery: bool) -> None:
        self.budget = make_budget(config, clock)
        self._config = config
        self._venue = make_venue(config, clock, self.budget, generator)
        self._clock = clock
        self._generator = generator
        self._accept_recovery = accept_recovery
        self._broker: VenueBroker | None = None
        self._reconciler: Reconciler | None = None
        self._following: asyncio.Task[None] | None = None
        self._has_started = False

    async def look(self, *, is_new: bool) -> None:
        """Do what `sacd check` does at the exchange. Raises what stands against trading there."""
        results = await venue_checks(self._config, self._venue, is_new=is_new)
        for result in results:
            if result.is_warning:
                _log.warning("check", name=result.name, detail=result.detail)
        refuse_failed(results)

    def open(self, trader: Trader, memory: Memory) -> VenueBroker:
        """Return the broker that trades where `trader` and `memory` stand."""
        settings, books = self._config.live_settings(), AccountBooks(trader, memory)
        for status in memory.orders.values():
            self._venue.remember(status.order.client_id)
        self._reconciler = Reconciler(
            venue=self._venue,
            books=books,
            settings=settings,
            clock=self._clock,
            initial_cash=self._config.daemon.initial_cash,
            accept_recovery=self._accept_recovery,
        )
        self._broker = VenueBroker(
            venue=self._venue,
            books=books,
            settings=settings,
            clock=self._clock,
            generator=self._generator,
            reconcile=self._reconciler,
        )
        return self._broker

    async def start(self, engine: Engine, *, is_new: bool) -> bool:
        """Settle, protect and reconcile what the books hold, then look whether trading may go on; returns True."""
        if self._broker is None or self._reconciler is None:
            raise TypeError("the account is opened before it is started")
        self._following = asyncio.create_task(engine.follow(self._broker), name="news")
        await self._beside(self._following, self._begin(self._broker, self._reconciler))
        if not is_new:
            await self._beside(self._following, self.look(is_new=False))
        clear_marker(journal_path(self._config))
        self._has_started = True
        _log.info(
            "reconciled",
            exchange=self._config.exchange.id,
            detail=self._reconciler.words() or "books and account agree",
        )
        return True

    async def _begin(self, broker: VenueBroker, reconciler: Reconciler) -> None:
        """Start the broker, once no order there says that the books are an old copy: they would act on what is gone."""
        try:
            await self._venue.open()
            await reconciler.clear_strays()
        except Unauthorised as error:
            raise ConfigError(f"the venue refuses the key: {error}") from error
        await broker.start()

    @staticmethod
    async def _beside(following: asyncio.Task[None], work: Coroutine[Any, Any, None]) -> None:
        """Do `work` while news are followed; whichever fails first is raised."""
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, following}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
            await task
        finally:
            task.cancel()
            await asyncio.wait({task})

    def reconfigure(self, config: Config) -> None:
        """Go by the caps of `config` from the next order on; whatever else is live needs another start."""
        self._config = config
        if self._broker is not None:
            self._broker.cap(config.live_settings())

    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """Begin what has to run for as long as the engine trades, and return it."""
        if self._broker is None or self._following is None:
            raise TypeError("the account is started before it is watched")
        return self._following, asyncio.create_task(self._broker.run(), name="broker")

    async def end(self) -> None:
        """Settle what is in flight, hear of it, and leave the exchange; protective stops stay there. Idempotent."""
        if self._broker is not None:
            if self._has_started and self._following is not None and not self._following.done():
                await self._broker.drain()
            await self._broker.close()
            if self._following is not None:
                await asyncio.wait({self._following})
                _tell_failure(self._following)
        await self._venue.close()


def _tell_failure(following: asyncio.Task[None]) -> None:
    """Log why the news could not be written to their end: it may be nothing but a consequence of what ended the run."""
    error = None if following.cancelled() else following.exception()
    if error is not None:
        _log.error("news_lost", reason=str(error))
