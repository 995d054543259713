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
from typing import Any, TextIO, TypeVar

import structlog
from rich.console import Console

from daemon.clock import SystemClock
from daemon.config import Config
from daemon.control import ControlServer
from daemon.engine import COMMANDS, Engine
from daemon.errors import ConfigError, FatalError, SacdError
from daemon.events import Decided, Event, Started
from daemon.feed_file import FileFeed
from daemon.feed_simulated import SimulatedFeed
from daemon.fold import Memory
from daemon.health import Health, candle_interval_s
from daemon.http import HttpServer
from daemon.journal import SqliteJournal
from daemon.log_sink import LogSink
from daemon.logs import Logs, LogStream, RotatingFile, configure_logging
from daemon.metrics import MetricsSink
from daemon.notify_systemd import SystemdNotifier
from daemon.paths import journal_path
from daemon.ports import Clock, Feed, FeedEvent, Sink
from daemon.recovery import Recovered, recover
from daemon.redact import Redactor
from daemon.run_record import account_of, run_record, version
from daemon.serving import load_model, make_engine, make_trader
from daemon.terminal import TerminalView
from strategy.bundle import Bundle
from strategy.features import WINDOW, FeatureWindow
from strategy.order import Order, OrderEvent, OrderReport, Side
from strategy.trader import Setup, Trader

_HISTORY = WINDOW + 100
"""Candles fetched before the first decision: the window, and some for those a venue lacks."""
_LAG_EVERY_S = 0.5
_log = structlog.get_logger()
_Answer = TypeVar("_Answer")


def make_feed(config: Config, clock: Clock) -> Feed:
    """Return the feed the configuration names."""
    market = config.market
    match market.source:
        case "simulated":
            return SimulatedFeed(
                symbols=market.symbols,
                timeframe=config.timeframe,
                instruments=config.instruments(),
                seed=market.simulated.seed,
                candles_per_second=market.candles_per_second,
                history=_HISTORY,
                clock=clock,
            )
        case "file":
            return FileFeed(
                paths=market.file.paths,
                symbols=market.symbols,
                timeframe=config.timeframe,
                instruments=config.instruments(),
                candles_per_second=market.candles_per_second,
                clock=clock,
                start_ms=market.file.start_ms,
                end_ms=market.file.end_ms,
                history=_HISTORY,
            )
        case "exchange":
            from daemon.feed_ccxt import CcxtFeed  # noqa: PLC0415 - only here, so that its parts load only when used

            return CcxtFeed(
                exchange_id=config.exchange.id,
                ccxt_options=config.exchange.ccxt,
                symbols=market.symbols,
                timeframe=config.timeframe,
                history=_HISTORY,
                clock=clock,
                stale_after_s=config.exchange.stale_after_s,
                grace_s=config.exchange.grace_s,
                generator=random.Random(),  # noqa: S311 - jitter of pauses, no secret
            )


class _Guarded:
    """A sink that cannot stop the main path: one that fails is reported once and left out from then on."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._has_failed = False

    def publish(self, event: Event) -> None:
        if self._has_failed:
            return
        try:
            self._sink.publish(event)
        except Exception:  # noqa: BLE001 - whoever watches may fail in any way; trading goes on without it
            self._has_failed = True
            _log.exception("sink_failed", sink=type(self._sink).__name__)


class _Readiness:
    """Tells systemd, and the log, when the first candle of the present has gone all the way through."""

    def __init__(self, notifier: SystemdNotifier) -> None:
        self._notifier = notifier
        self._is_ready = False

    def publish(self, event: Event) -> None:
        if not self._is_ready and isinstance(event, Decided):
            self._is_ready = True
            self._notifier.ready("trading")
            _log.info("ready")


@dataclass(slots=True)
class _Watchers:
    """Everything that watches, and what is served from it."""

    health: Health
    metrics: MetricsSink
    view: TerminalView | None
    sinks: Sequence[Sink]


class App:
    """One daemon from start to end."""

    def __init__(self, config: Config, environ: Mapping[str, str], console: Console, log_stream: TextIO) -> None:
        """console: where a live view may be shown.  log_stream: where log lines go without one."""
        self._config = config
        self._console = console
        self._clock = SystemClock()
        self._notifier = SystemdNotifier(environ, os.getpid())
        self._has_view = TerminalView.suits(console)
        self._log_stream = log_stream
        self._stopping = asyncio.Event()
        self._reason = "end of data"
        self._is_open = False
        self._failure: FatalError | None = None

    async def run(self) -> None:
        """Trade until the feed ends or a signal comes. Raises SacdError; whatever was opened is closed."""
        self._listen_for_signals()
        async with AsyncExitStack() as stack:
            self._make_state_dir()
            stack.callback(self._logs().close)
            bundle = load_model(self._config)
            feed = make_feed(self._config, self._clock)
            stack.push_async_callback(feed.close)
            if self._has_view and feed.is_live:
                self._console.print(f"connecting to {self._config.exchange.id} ...", style="dim")
            instruments = await self._unless_stopped(feed.instruments())
            if instruments is None:
                _log.info("stopped", reason=self._reason, detail="before the account was opened")
                return
            watchers = self._watchers(feed.is_live)
            url = await self._serve_http(stack, watchers)
            # What can be refused without the account has been: only now is there a file of it.
            journal = SqliteJournal.open(journal_path(self._config), self._clock)
            stack.push_async_callback(journal.close)
            setup = self._setup(instruments)
            trader = make_trader(setup, bundle, self._config.daemon.initial_cash)
            recovered = recover(journal_path(self._config), trader, account_of(self._config))
            engine = self._engine(
                trader,
                recovered.memory,
                bundle=bundle,
                is_live=feed.is_live,
                journal=journal,
                sinks=watchers.sinks,
            )
            # What can still be refused comes before the first record of the run.
            events = feed.events(dict(recovered.memory.last))
            await self._serve_control(stack, watchers, engine)
            await engine.start(run_record(self._config, setup, bundle))
            await self._reopen(engine, feed.is_live)
            self._is_open = True
            if watchers.view is not None:
                watchers.view.metrics_url = f"{url}metrics" if url else ""
                watchers.view.start()
                stack.callback(watchers.view.stop)
            tell = _log.warning if recovered.mismatches else _log.info
            tell("recovered", decisions=recovered.memory.decisions, mismatches=recovered.mismatches, metrics=url)
            self._announce(watchers.sinks, engine, bundle, recovered)
            await self._trade(engine, events, watchers, is_live=feed.is_live)

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

    def _logs(self) -> Logs:
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
        return configure_logging(
            level=self._config.log.level,
            form=self._config.log.format,
            stream=stream,
            now_ms=self._clock.now_ms,
            redactor=Redactor(self._config.secrets()),
        )

    def _setup(self, instruments: Mapping[str, Any]) -> Setup:
        config = self._config
        return Setup(
            instance=config.daemon.instance,
            timeframe=config.timeframe,
            instruments={symbol: instruments[symbol] for symbol in config.market.symbols},
            strategy=config.strategy_parameters(),
            limits=config.risk_limits(),
            costs=config.cost_model(),
        )

    def _watchers(self, is_live: bool) -> _Watchers:
        config, path = self._config, journal_path(self._config)
        pace = candle_interval_s(
            is_live=is_live,
            span_ms=config.timeframe.span_ms,
            candles_per_second=config.market.candles_per_second,
        )
        health = Health(self._clock, is_live=is_live, candle_interval_s=pace)
        metrics = MetricsSink(symbols=config.market.symbols, is_live=is_live, version=version())
        view = None
        if self._has_view:
            view = TerminalView(self._console, self._clock, journal=str(path))
        sinks: list[Sink] = [health, metrics, _Readiness(self._notifier), LogSink(_log, journal=str(path))]
        if view is not None:
            sinks.append(view)
        return _Watchers(health, metrics, view, [_Guarded(sink) for sink in sinks])

    def _engine(
        self,
        trader: Trader,
        memory: Memory,
        *,
        bundle: Bundle,
        is_live: bool,
        journal: SqliteJournal,
        sinks: Sequence[Sink],
    ) -> Engine:
        return make_engine(
            trader,
            memory,
            bundle,
            journal=journal,
            clock=self._clock,
            sinks=sinks,
            cash=self._config.daemon.initial_cash,
            checkpoint_every=self._config.journal.checkpoint_every,
            is_live=is_live,
        )

    async def _reopen(self, engine: Engine, is_live: bool) -> None:
        """Hand what was in flight to the venue again; on a live feed an old purchase is stale and ends instead.

        An old sale is not: what it was to sell is still held.
        """
        now_ms, span_ms = self._clock.now_ms(), self._config.timeframe.span_ms
        fresh, stale = list[Order](), list[Order]()
        for status in list(engine.memory.orders.values()):
            is_old = is_live and now_ms - status.order.decided_ms > span_ms
            (stale if is_old and status.order.side is Side.BUY else fresh).append(status.order)
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

    async def _serve_control(self, stack: AsyncExitStack, watchers: _Watchers, engine: Engine) -> None:
        control = ControlServer(self._config.control_socket, lambda verb, _args: self._control(engine, watchers, verb))
        stack.push_async_callback(control.close)
        await control.start()

    async def _serve_http(self, stack: AsyncExitStack, watchers: _Watchers) -> str:
        if not self._config.http.enabled:
            return ""
        http = HttpServer(
            self._config.http.host, self._config.http.port, watchers.health.report, watchers.metrics.render
        )
        stack.push_async_callback(http.close)
        await http.start()
        return http.url

    def _announce(self, sinks: Sequence[Sink], engine: Engine, bundle: Bundle, recovered: Recovered) -> None:
        trader, config = engine.trader, self._config
        windows = [f.missing_until_full for f in trader.features.values() if isinstance(f, FeatureWindow)]
        started = Started(
            instance=config.daemon.instance,
            mode=config.daemon.mode,
            source=config.market.source,
            symbols=config.market.symbols,
            timeframe=config.market.timeframe,
            quote=trader.setup.instruments[config.market.symbols[0]].quote,
            model_id=bundle.manifest.short_id,
            members=len(bundle.manifest.members),
            cash=config.daemon.initial_cash,
            resumed=not recovered.is_new,
            decisions=recovered.memory.decisions,
            portfolio=trader.portfolio,
            risk=trader.risk,
            warm_up=max(windows),
            at_ms=self._clock.now_ms(),
        )
        for sink in sinks:
            sink.publish(started)

    # ---- running ------------------------------------------------------------------------------------------------
    def _listen_for_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop, signal.Signals(number).name)

    async def _trade(
        self, engine: Engine, events: AsyncIterator[FeedEvent], watchers: _Watchers, *, is_live: bool
    ) -> None:
        trading = asyncio.create_task(engine.run(events))
        helpers = [
            asyncio.create_task(self._measure_lag(watchers.metrics)),
            asyncio.create_task(self._feed_watchdog(watchers)),
        ]
        if is_live:
            helpers.append(asyncio.create_task(engine.watch()))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({trading, stopping, *helpers}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._notifier.stopping("ending")
            await engine.quiesce(trading)
            for task in (*helpers, stopping):
                task.cancel()
        if self._failure is not None:
            raise self._failure
        failed = [t for t in (trading, *helpers) if t.done() and not t.cancelled() and t.exception() is not None]
        if failed:
            raise failed[0].exception() or SacdError("a task ended without a reason")
        await engine.stop(self._reason)

    def _stop(self, name: str) -> None:
        self._reason = f"{name} received"
        self._stopping.set()
        # A second signal ends the process at once; the journal is whole at every instruction.
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)

    async def _measure_lag(self, metrics: MetricsSink) -> None:
        while True:
            before_s = self._clock.monotonic_s()
            await self._clock.sleep_s(_LAG_EVERY_S)
            metrics.observe_loop_lag(max(0.0, self._clock.monotonic_s() - before_s - _LAG_EVERY_S))

    async def _feed_watchdog(self, watchers: _Watchers) -> None:
        interval_s = self._notifier.watchdog_s
        while True:
            await self._clock.sleep_s(interval_s or 3_600.0)
            if interval_s is not None and watchers.health.report().is_alive:
                self._notifier.watchdog()

    # ---- control ------------------------------------------------------------------------------------------------
    async def _control(self, engine: Engine, watchers: _Watchers, verb: str) -> dict[str, Any]:
        if verb not in COMMANDS:
            return status(engine, watchers.health)
        if not self._is_open:
            raise SacdError(f"sacd is starting and cannot {verb} yet: ask again in a moment")
        try:
            return {"effect": await engine.command(verb, "socket")}
        except FatalError as error:
            # The account has moved and the journal has not: whoever asked is told, and the daemon ends.
            self._failure = error
            self._stopping.set()
            raise


def status(engine: Engine, health: Health) -> dict[str, Any]:
    """Return what `sacd status` shows: the documented object of `--json`."""
    trader, memory = engine.trader, engine.memory
    portfolio, state = trader.portfolio, trader.risk
    return {
        "state": state.state.value,
        "reason": None if state.reason is None else state.reason.value,
        "paused": state.is_paused,
        "model": engine.model.id,
        "equity": portfolio.equity,
        "cash": portfolio.cash,
        "drawdown": portfolio.drawdown,
        "fees": portfolio.fees,
        "hold_equity": memory.hold_equity(trader),
        "decisions": memory.decisions,
        "orders_in_flight": len(memory.orders),
        "positions": {
            symbol: {
                "quantity": position.quantity,
                "average_entry": position.average_entry,
                "mark": position.mark,
                "exposure": portfolio.exposure(symbol),
                "unrealised_return": position.unrealised_return,
                "stop": None if (stop := trader.stops[symbol]) is None else stop.stop_price,
                "last_candle_ms": memory.last[symbol].open_ms if symbol in memory.last else None,
            }
            for symbol, position in portfolio.positions.items()
        },
        "health": health.report().to_json(),
    }


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
