"""Puts another configuration in force in every part of a running daemon, between two candles."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from daemon.app_upkeep import Upkeep
from daemon.config import Config
from daemon.engine import Engine
from daemon.errors import FatalError, SacdError
from daemon.events import ConfigReloaded
from daemon.logs import Logs
from daemon.metrics import MetricsSink
from daemon.notify_systemd import SystemdNotifier
from daemon.ports import Clock
from daemon.reload import Reloader
from daemon.run_record import run_record
from daemon.succession import Succession
from daemon.wording_config import reload_words
from strategy.trader import Setup

if TYPE_CHECKING:
    from daemon.app_live import LiveAccount

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that goes by the configuration while the daemon runs.

    account: at the exchange, None on paper.  overrides: what a person allowed for this run.  candle_interval_s: as the
    metrics show it.  adopt: called with the configuration too, for whoever builds all this.
    """

    engine: Engine
    succession: Succession
    upkeep: Upkeep
    metrics: MetricsSink
    logs: Logs
    account: "LiveAccount | None"
    overrides: Mapping[str, Any] | None
    candle_interval_s: float
    adopt: Callable[[Config], None]

    async def take(self, config: Config, told: ConfigReloaded) -> None:
        """Put `config`, of the same account, in force. told: what changes, for the journal. Raises FatalError."""

        def changed(setup: Setup) -> Setup:
            parameters, limits, costs = config.strategy_parameters(), config.risk_limits(), config.cost_model()
            return replace(setup, strategy=parameters, limits=limits, costs=costs)

        await self.engine.reconfigure(
            changed,
            lambda setup: run_record(config, setup, self.succession.bundle, self.overrides),
            {"source": told.source, "changes": _changes(told)},
            checkpoint_every=config.journal.checkpoint_every,
            follow=lambda: self._follow(config),
        )

    def _follow(self, config: Config) -> None:
        self.succession.reconfigure(config)
        self.upkeep.reconfigure(config.journal)
        if self.account is not None:
            self.account.reconfigure(config)
        show_limits(self.metrics, config, self.candle_interval_s)
        self.logs.set_level(config.log.level)
        self.adopt(config)


class Reloads:
    """Takes what asks for a reload, from the first signal to the last command, and tells systemd of each."""

    def __init__(self, notifier: SystemdNotifier, clock: Clock, *, is_stopping: Callable[[], bool]) -> None:
        self._notifier = notifier
        self._clock = clock
        self._is_stopping = is_stopping
        self._asked = asyncio.Event()
        self._reloader: Reloader | None = None

    def ask(self) -> None:
        """Have the configuration read anew; what is asked while the daemon starts waits until it trades."""
        if self._is_stopping():
            _log.info("reload_ignored", reason="sacd is stopping")
        self._asked.set()

    def begin(self, reloader: Reloader) -> None:
        """Go on with `reloader` whenever asked from here on."""
        self._reloader = reloader

    async def run(self) -> None:
        """Do what `ask` asks for, until cancelled. Raises FatalError."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self.now("signal")
            except FatalError:
                raise
            except SacdError as error:
                _log.warning("reload_ignored", reason=str(error))

    async def now(self, source: str) -> ConfigReloaded:
        """Read the configuration anew, and take it if it can be taken; returns what became of it.

        Raises SacdError when there is nothing to read or the daemon is about to end, FatalError when it has to end.
        """
        if self._is_stopping():
            raise SacdError("sacd is stopping: its next start reads the configuration")
        if self._reloader is None:
            raise SacdError("this sacd was not started from a file: there is nothing to read anew")
        self._notifier.reloading(self._clock.monotonic_s())
        event = await self._reloader.reload(source)
        self._notifier.reloaded("trading" if event.is_in_force else f"trading; {reload_words(event)}")
        return event


def show_limits(metrics: MetricsSink, config: Config, candle_interval_s: float) -> None:
    """Let the metrics hold other figures against what `config` says."""
    metrics.set_limits(
        config.risk_limits(),
        config.strategy_parameters(),
        drift=config.retrain.drift_limit,
        candle_interval_s=candle_interval_s,
    )
    metrics.set_slippage(config.cost_model().slippage_rate)


def reload_json(event: ConfigReloaded) -> dict[str, Any]:
    """Return what `sacd reload` shows: the documented object of `--json`."""
    return {
        "outcome": event.outcome.value,
        "effect": reload_words(event),
        "file": event.file,
        "changes": _changes(event),
        "restart": list(event.restart),
        "mistakes": list(event.mistakes),
        "digest": event.digest,
    }


def _changes(event: ConfigReloaded) -> list[dict[str, Any]]:
    return [{"key": change.key, "old": change.old, "new": change.new} for change in event.changes]
