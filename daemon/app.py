"""The one place that builds objects: configuration in, a running daemon out, and an orderly end whatever happens.

Start, restart and upgrade all take the same way: bundle, journal, recovery, then candles.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import structlog
from rich.console import Console

from daemon import journal_reader
from daemon.app_feed import make_feed
from daemon.app_journal import open_or_restore
from daemon.app_reload import Parts, Reloads, reload_json, show_limits
from daemon.app_status import Account, status
from daemon.app_upkeep import Upkeep
from daemon.app_watchers import Guarded, Readiness
from daemon.clock import SystemClock
from daemon.companion import Bounds, Companion
from daemon.config import Config, load_config
from daemon.contenders import Contenders
from daemon.control import ControlServer
from daemon.engine import COMMANDS, Engine
from daemon.errors import ConfigError, FatalError, SacdError, TransientError
from daemon.events import Event, Started
from daemon.hangup import Hangup
from daemon.health import Health, candle_interval_s
from daemon.http import HttpServer
from daemon.journal import SqliteJournal
from daemon.journal_reader import has_entries
from daemon.journal_restored import clear_marker
from daemon.log_sink import LogSink
from daemon.logs import Logs, LogStream, RotatingFile, configure_logging
from daemon.metrics import MetricsSink
from daemon.model_life import Life
from daemon.notify_systemd import SystemdNotifier
from daemon.paths import journal_path
from daemon.ports import Clock, Feed, FeedEvent, Sink
from daemon.recent_news import RecentNews
from daemon.recovery import Recovered, recover
from daemon.redact import Redactor
from daemon.reload import Reloader
from daemon.run_record import account_of, money_of, run_record, version
from daemon.serving import load_model, make_engine, make_trader
from daemon.succession import Succession
from daemon.terminal import TerminalView
from daemon.trained_under import conditions_changed
from daemon.vitals import Echo, vitals_of
from daemon.vote_watch import VoteWatch
from strategy.bundle import Bundle
from strategy.features import FeatureWindow
from strategy.instrument import Instrument
from strategy.order import Order, OrderEvent, OrderReport, Side
from strategy.trader import Setup, Trader

if TYPE_CHECKING:
    from daemon.app_live import LiveAccount

_LAG_EVERY_S = 0.5
_TWICE_S = 0.5
"""A signal so soon after the first is the same one: `timeout` and some supervisors tell the process and its group."""
_PATIENCE_S = 300.0
"""What systemd is asked to wait for each further round of attempts to reach an exchange."""
_BLOCKED_S = 1.0
"""A loop that nothing ran in for so long is worth a line in the log."""
_log = structlog.get_logger()
_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class _Watchers:
    """Everything that watches, and what is served from it."""

    health: Health
    metrics: MetricsSink
    news: RecentNews
    view: TerminalView | None
    sinks: list[Sink]
    logs: Logs
    candle_interval_s: float

    def tell(self, event: Event) -> None:
        """Tell all of them what the engine does not."""
        for sink in self.sinks:
            sink.publish(event)


class App:
    """One daemon from start to end."""

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        console: Console,
        log_stream: TextIO,
        *,
        bundle: Bundle | None = None,
        overrides: Mapping[str, Any] | None = None,
        accept_recovery: bool = False,
        clock: Clock | None = None,
        path: Path | None = None,
    ) -> None:
        """console: where a live view may be shown.  log_stream: where log lines go without one.

        bundle: the ensemble that was found fit to trade live; without one that of the configuration is loaded.
        overrides: what a person allowed for this run, for the journal.  accept_recovery: go on from a restored journal.
        clock: another one than the machine's, for rehearsals.  path: of the file that a reload reads; without one there
        is none.
        """
        self._config = config
        self._console = console
        self._bundle = bundle
        self._overrides = overrides
        self._accept_recovery = accept_recovery
        self._clock = SystemClock() if clock is None else clock
        self._generator = random.Random()  # noqa: S311 - jitter of pauses, no secret
        self._environ = environ
        self._notifier = SystemdNotifier(environ, os.getpid())
        self._has_view = TerminalView.suits(console)
        self._log_stream = log_stream
        self._stopping = asyncio.Event()
        self._view: TerminalView | None = None
        self._reason, self._told_to_stop_s = "end of data", 0.0
        self._is_open = False
        self._failure: FatalError | None = None
        self._path = path
        self._reloads = Reloads(self._notifier, self._clock, is_stopping=self._stopping.is_set)
        self._hangup = Hangup(reload=self._reloads.ask, end=lambda: self._stop("SIGHUP of a terminal that is gone"))

    async def run(self) -> None:
        """Trade until the feed ends or a signal comes. Raises SacdError; whatever was opened is closed."""
        async with AsyncExitStack() as stack:
            self._listen_for_signals(stack)
            self._make_state_dir()
            logs = self._logs(stack)
            bundle = load_model(self._config) if self._bundle is None else self._bundle
            account = self._account(stack)
            feed = make_feed(self._config, self._clock, None if account is None else account.budget)
            stack.push_async_callback(feed.close)
            if self._has_view and feed.is_live:
                self._console.print(f"connecting to {self._config.exchange.id} ...", style="dim")
            opened = await self._unless_stopped(self._look(feed, account))
            if opened is None:
                _log.info("stopped", reason=self._reason, detail="before the account was opened")
                return
            watchers = self._watchers(feed.is_live, logs)
            url = await self._serve_http(stack, watchers)
            # What can be refused without the account has been: only now is there a file of it.
            journal, _ = open_or_restore(journal_path(self._config), self._clock, self._accept_recovery)
            stack.push_async_callback(journal.close)
            if account is None:
                clear_marker(journal_path(self._config))  # a paper account goes on from whatever was restored
            else:
                stack.push_async_callback(account.end)  # before the journal closes: what it still tells is written
            self._warn_of_changed(bundle)
            setup = self._setup(opened)
            trader = make_trader(setup, bundle, self._config.daemon.initial_cash)
            succession = self._succession(setup, bundle, watchers.metrics)
            watchers.sinks.append(Guarded(succession))
            companion = succession.companion
            recovered = recover(journal_path(self._config), trader, account_of(self._config), companion)
            broker = None if account is None else account.open(trader, recovered.memory)
            engine = make_engine(
                trader,
                recovered.memory,
                bundle,
                broker=broker,
                journal=journal,
                clock=self._clock,
                sinks=watchers.sinks,
                cash=self._config.daemon.initial_cash,
                checkpoint_every=self._config.journal.checkpoint_every,
                is_live=feed.is_live,
                companion=companion,
            )
            # What can still be refused comes before the first record of the run.
            events = feed.events(dict(recovered.memory.last))
            await self._serve_control(stack, watchers, engine, succession)
            await self._begin(stack, succession, engine, bundle)
            self._show(stack, watchers, url)
            tell = _log.warning if recovered.mismatches else _log.info
            tell("recovered", decisions=recovered.memory.decisions, mismatches=recovered.mismatches, metrics=url)
            self._announce(watchers.sinks, engine, companion.life, recovered)
            if account is None:
                await self._reopen(engine, feed.is_live)
            elif not await self._unless_stopped(account.start(engine, is_new=recovered.is_new)):
                await account.end()
                await engine.stop(self._reason)
                return
            self._is_open = True
            upkeep = Upkeep(self._config, self._clock, journal, engine, watch=watchers.metrics)
            self._take_reloads(engine, succession, upkeep, watchers, account)
            beside = [*upkeep.tasks(), *succession.tasks(), *self._watch_over(feed, journal, engine, watchers)]
            await self._trade(engine, events, watchers, account, beside=beside, succession=succession)
            if account is not None:
                await upkeep.last_backup()

    async def _begin(self, stack: AsyncExitStack, succession: Succession, engine: Engine, bundle: Bundle) -> None:
        await engine.start(lambda setup: run_record(self._config, setup, bundle, self._overrides))
        stack.push_async_callback(succession.end)
        opening = next(iter(journal_reader.read(journal_path(self._config), limit=1)))
        await succession.begin(engine, bundle.manifest.short_id, opening.at_ms)

    def _succession(self, setup: Setup, bundle: Bundle, metrics: MetricsSink) -> Succession:
        config = self._config
        contenders = Contenders(config.strategy.model, config.market.timeframe, bundle)
        companion = Companion(setup, config.daemon.initial_cash, Bounds.of(config.retrain), contenders.find)
        return Succession(
            config,
            self._clock,
            companion,
            contenders,
            environ=self._environ,
            make_id=lambda: self._generator.randbytes(8).hex(),
            overrides=self._overrides,
            tell_next=metrics.set_next_retrain,
        )

    def _warn_of_changed(self, bundle: Bundle) -> None:
        """Say when votes are acted upon otherwise than in training: their effect there proves nothing here."""
        changed = conditions_changed(self._config, bundle.manifest)
        if changed:
            _log.warning("not_what_was_trained_under", model=bundle.manifest.short_id, changed=list(changed))

    def _account(self, stack: AsyncExitStack) -> "LiveAccount | None":
        """Return the account at the exchange, None on paper."""
        if not self._config.is_live:
            return None
        from daemon.app_live import LiveAccount  # noqa: PLC0415 - only here, so that its parts load only when used

        account = LiveAccount(self._config, self._clock, self._generator, accept_recovery=self._accept_recovery)
        stack.push_async_callback(account.end)
        return account

    async def _look(self, feed: Feed, account: "LiveAccount | None") -> Mapping[str, Instrument]:
        """Return the steps of the symbols; a new account at an exchange is looked at before anything of it exists."""
        instruments = await self._answer(feed)
        if account is not None and not has_entries(journal_path(self._config)):
            await account.look(is_new=True)
        return instruments

    async def _answer(self, feed: Feed) -> Mapping[str, Instrument]:
        """Return the steps of the symbols. An account that may hold something waits for a silent exchange.

        Ending instead would leave it to whoever starts us again, and systemd stops doing so after a few failures.
        """
        while True:
            try:
                return await feed.instruments()
            except TransientError as error:
                if not self._config.is_live or not has_entries(journal_path(self._config)):
                    raise
                _log.warning("waiting_for_exchange", reason=str(error))
                self._notifier.extend(_PATIENCE_S)
                if self._has_view:
                    self._console.print(f"no answer from {self._config.exchange.id} yet: asked again", style="dim")

    def _show(self, stack: AsyncExitStack, watchers: _Watchers, url: str) -> None:
        if watchers.view is not None:
            watchers.view.metrics_url = f"{url}metrics" if url else ""
            watchers.view.start()
            stack.callback(watchers.view.stop)

    async def _unless_stopped(self, asked: Coroutine[Any, Any, _Answer]) -> _Answer | None:
        """Return what the venue answers, None when a signal comes first."""
        answer, stopping = asyncio.create_task(asked), asyncio.create_task(self._stopping.wait())
        await asyncio.wait({answer, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if answer.done():
            return answer.result()
        answer.cancel()
        await asyncio.wait({answer})
        return None

    # ---- building -----------------------------------------------------------------------------------------------
    def _make_state_dir(self) -> None:
        directory = self._config.daemon.state_dir
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"daemon.state_dir = {directory}: cannot be made ({error.strerror}); name a directory we may write"
            ) from error

    def _logs(self, stack: AsyncExitStack) -> Logs:
        stream: LogStream = self._log_stream
        if self._has_view:
            # The screen belongs to the view; lines go beside the journal.
            path = journal_path(self._config).with_suffix(".log")
            try:
                stream = RotatingFile(path)
            except OSError as error:
                raise ConfigError(
                    f"daemon.state_dir: {path} cannot be written ({error.strerror}); name a directory we may write"
                ) from error
        logs = configure_logging(
            level=self._config.log.level,
            form=self._config.log.format,
            stream=stream,
            now_ms=self._clock.now_ms,
            redactor=Redactor(self._config.secrets()),
        )
        stack.callback(logs.close)
        return logs

    def _setup(self, instruments: Mapping[str, Any]) -> Setup:
        config = self._config
        return Setup(
            instance=config.daemon.instance,
            timeframe=config.timeframe,
            instruments={symbol: instruments[symbol] for symbol in config.market.symbols},
            strategy=config.strategy_parameters(),
            limits=config.risk_limits(),
            costs=config.cost_model(),
            # The journal may lack orders of the very candle that it ends with, or of the next: they keep their ids.
            first_sequence=self._clock.now_ms() // 1_000 if self._accept_recovery else 0,
        )

    def _watchers(self, is_live: bool, logs: Logs) -> _Watchers:
        config, path = self._config, journal_path(self._config)
        pace = candle_interval_s(
            is_live=is_live,
            span_ms=config.timeframe.span_ms,
            candles_per_second=config.market.candles_per_second,
        )
        health = Health(self._clock, is_live=is_live, candle_interval_s=pace)
        metrics = MetricsSink(
            symbols=config.market.symbols,
            is_live=is_live,
            version=version(),
            clock=self._clock,
            slippage_rate=config.cost_model().slippage_rate,
        )
        show_limits(metrics, config, pace)
        metrics.set_config(config.digest(), self._clock.now_ms())
        metrics.at_scrape(lambda: metrics.count_dropped("log", logs.dropped))
        view = None
        if self._has_view:
            view = self._view = TerminalView(self._console, self._clock, journal=str(path))
        news, log = RecentNews(self._clock), LogSink(_log, journal=str(path))
        sinks: list[Sink] = [health, metrics, news, log, VoteWatch(_log)]
        if view is not None:
            sinks.append(view)
        return _Watchers(health, metrics, news, view, [Guarded(sink) for sink in sinks], logs, pace)

    async def _reopen(self, engine: Engine, is_live: bool) -> None:
        """Hand what was in flight to the venue again; on a live feed an old purchase is stale and ends instead.

        An old sale is not: what it was to sell is still held.
        """
        now_ms, span_ms = self._clock.now_ms(), self._config.timeframe.span_ms
        fresh, stale = list[Order](), list[Order]()
        for open_order in list(engine.memory.orders.values()):
            order = open_order.order
            is_old = is_live and now_ms - order.decided_ms > span_ms
            (stale if is_old and order.side is Side.BUY else fresh).append(order)
        engine.expire(
            OrderReport(
                client_id=order.client_id,
                symbol=order.symbol,
                event=OrderEvent.EXPIRED,
                at_ms=now_ms,
                detail="decided before a pause longer than a candle",
            )
            for order in stale
        )
        await engine.resubmit(fresh)

    async def _serve_control(
        self, stack: AsyncExitStack, watchers: _Watchers, engine: Engine, succession: Succession
    ) -> None:
        control = ControlServer(
            self._config.control_socket,
            lambda verb, args: self._control(engine, watchers, succession, verb, args),
        )
        stack.push_async_callback(control.close)
        await control.start()

    async def _serve_http(self, stack: AsyncExitStack, watchers: _Watchers) -> str:
        if not self._config.http.enabled:
            return ""
        config = self._config.http
        http = HttpServer(
            config.host,
            config.port,
            watchers.health.report,
            watchers.metrics.render,
            allowed_hosts=config.allowed_hosts,
        )
        stack.push_async_callback(http.close)
        await http.start()
        return http.url

    def _announce(self, sinks: Sequence[Sink], engine: Engine, life: Life, recovered: Recovered) -> None:
        trader, config, model = engine.trader, self._config, engine.model
        started = Started(
            instance=config.daemon.instance,
            mode=config.daemon.mode,
            source=config.market.source,
            symbols=config.market.symbols,
            timeframe=config.market.timeframe,
            quote=trader.setup.instruments[config.market.symbols[0]].quote,
            model_id=model.id,
            members=model.members,
            cash=config.daemon.initial_cash,
            resumed=not recovered.is_new,
            decisions=recovered.memory.decisions,
            portfolio=trader.portfolio,
            risk=trader.risk,
            warm_up=_missing(trader),
            at_ms=self._clock.now_ms(),
            orders=tuple(engine.memory.orders.values()),
            exchange=config.exchange.id if config.market.source == "exchange" else "",
            money=money_of(config) if config.is_live else "",
            life=life,
            seen_until_ms=model.seen_until_ms,
        )
        for sink in sinks:
            sink.publish(started)

    # ---- running ------------------------------------------------------------------------------------------------
    def _listen_for_signals(self, stack: AsyncExitStack) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop, signal.Signals(number).name)
        self._hangup.listen()
        stack.callback(self._hangup.leave)

    async def _trade(
        self,
        engine: Engine,
        events: AsyncIterator[FeedEvent],
        watchers: _Watchers,
        account: "LiveAccount | None",
        *,
        beside: Sequence[asyncio.Task[None]],
        succession: Succession,
    ) -> None:
        metrics = watchers.metrics
        metrics.at_scrape(lambda: metrics.set_feed_age(engine.feed_age_s))
        readiness = Readiness(self._notifier, lambda: _missing(engine.trader))
        watchers.sinks.append(Guarded(readiness))
        trading = asyncio.create_task(engine.run(events))
        helpers = [
            asyncio.create_task(self._measure_lag(metrics)),
            asyncio.create_task(self._reloads.run()),
            *beside,
        ]
        # Apart: it is fed while the run ends, too, which may take longer than systemd waits for it.
        watchdog = asyncio.create_task(self._feed_watchdog(watchers, readiness))
        venue = [] if account is None else account.tasks()
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({trading, stopping, watchdog, *helpers, *venue}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._notifier.stopping("ending")
            await engine.quiesce(trading, helpers)
            stopping.cancel()
            ended = [task for task in (trading, watchdog, *helpers, *venue) if task.done()]
            # Beside each other: a trainer has its time to end while what is in flight is settled.
            ending = asyncio.create_task(succession.end())
            if account is not None:
                await account.end()
            await ending
            watchdog.cancel()
        if self._failure is not None:
            raise self._failure
        failed = [task for task in ended if not task.cancelled() and task.exception() is not None]
        if failed:
            raise failed[0].exception() or SacdError("a task ended without a reason")
        await engine.stop(self._reason)

    def _stop(self, name: str) -> None:
        if self._stopping.is_set():
            return
        self._reason, self._told_to_stop_s = f"{name} received", self._clock.monotonic_s()
        self._stopping.set()
        _log.info("stopping", reason=self._reason)
        if self._view is not None:
            self._view.end_begins(self._reason)
        # A second signal ends the process at once, even if the loop hangs; the journal is whole at every instruction.
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, self._end_at_once)

    def _end_at_once(self, number: int, _frame: object) -> None:
        if self._clock.monotonic_s() - self._told_to_stop_s < _TWICE_S:
            return
        if self._view is not None:
            self._view.stop()  # else the terminal stays as the view has made it
        print("sacd: ended at once; the next start finds out what became of it", file=sys.stderr, flush=True)  # noqa: T201
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    async def _measure_lag(self, metrics: MetricsSink) -> None:
        while True:
            before_s = self._clock.monotonic_s()
            await self._clock.sleep_s(_LAG_EVERY_S)
            lag_s = max(0.0, self._clock.monotonic_s() - before_s - _LAG_EVERY_S)
            metrics.observe_loop_lag(lag_s)
            if lag_s >= _BLOCKED_S:
                _log.warning("loop_blocked", seconds=round(lag_s, 3))

    async def _feed_watchdog(self, watchers: _Watchers, readiness: Readiness) -> None:
        interval_s = self._notifier.watchdog_s
        while True:
            await self._clock.sleep_s(interval_s or 3_600.0)
            if interval_s is not None and watchers.health.report().is_alive:
                self._notifier.watchdog()
                if not self._stopping.is_set():
                    readiness.wait(_PATIENCE_S)

    def _watch_over(
        self, feed: Feed, journal: SqliteJournal, engine: Engine, watchers: _Watchers
    ) -> Sequence[asyncio.Task[None]]:
        """Let feed, journal and decision loop be looked at between candles too; returns the tasks that do."""
        echo, stale_after_s = Echo(self._clock, journal.answer), self._config.exchange.stale_after_s
        vitals = vitals_of(feed=feed, stale_after_s=stale_after_s, journal=echo, busy_s=lambda: engine.busy_s)
        watchers.health.watch(*vitals)
        work = [echo.run(), engine.watch()] if feed.is_live else [echo.run()]
        return [asyncio.create_task(watching) for watching in work]

    def _take_reloads(
        self,
        engine: Engine,
        succession: Succession,
        upkeep: Upkeep,
        watchers: _Watchers,
        account: "LiveAccount | None",
    ) -> None:
        """Read another configuration, when asked to from here on, and put it in force everywhere."""
        if self._path is None:
            return

        def adopt(config: Config) -> None:
            self._config = config
            self._warn_of_changed(succession.bundle)

        parts = Parts(
            engine=engine,
            succession=succession,
            upkeep=upkeep,
            metrics=watchers.metrics,
            logs=watchers.logs,
            account=account,
            overrides=self._overrides,
            candle_interval_s=watchers.candle_interval_s,
            adopt=adopt,
        )
        read = partial(load_config, self._path, self._environ)
        self._reloads.begin(
            Reloader(self._config, self._path, read, take=parts.take, tell=watchers.tell, clock=self._clock)
        )

    # ---- control ------------------------------------------------------------------------------------------------
    async def _control(
        self, engine: Engine, watchers: _Watchers, succession: Succession, verb: str, args: Mapping[str, Any]
    ) -> dict[str, Any]:
        if verb == "status":
            account = Account.of(self._config)
            return status(engine, watchers.health, account, watchers.news, succession.status())
        if not self._is_open:
            raise SacdError(f"sacd is starting and cannot {verb} yet: ask again in a moment")
        try:
            if verb in COMMANDS:
                return {"effect": await engine.command(verb, "socket")}
            if verb == "reload":
                return reload_json(await self._reloads.now("socket"))
            return {"effect": await succession.command(verb, args)}
        except FatalError as error:
            # The account has moved and the journal has not: whoever asked is told, and the daemon ends.
            self._failure = error
            self._stopping.set()
            raise


def _missing(trader: Trader) -> int:
    """Return how many candles the emptiest window of features still needs."""
    return max(window.missing_until_full for window in trader.features.values() if isinstance(window, FeatureWindow))


def run_until_done(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run the daemon's loop and return the exit code; the program's one broad except stands here."""
    try:
        asyncio.run(main())
    except SacdError as error:
        print(f"sacd: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the last resort: said once, in full in the log, and systemd restarts us
        _log.exception("failed")
        print(f"sacd: failed unexpectedly: {type(error).__name__}: {error}; the log has the details", file=sys.stderr)  # noqa: T201
        return 1
    return 0
