"""Another configuration for a daemon that runs: read whole, compared key by key, taken whole or not at all.

What may change is what can change between two candles without anything else beginning anew. A file that also says
something that cannot is not taken in part: an operator who reads it must find there what is in force.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

from daemon.config import Config
from daemon.config_sections import Section
from daemon.errors import ConfigError
from daemon.events import Change, ConfigReloaded, ReloadOutcome
from daemon.ports import Clock
from daemon.redact import Json

_SECTIONS = frozenset({"strategy", "risk", "execution", "retrain"})
_KEYS = frozenset(
    {
        "journal.checkpoint_every",
        "journal.backup_every_s",
        "journal.keep",
        "live.max_order_value",
        "live.max_position_value",
        "live.max_orders_per_minute",
        "log.level",
    }
)
_FIXED = frozenset({"strategy.model"})
"""Another ensemble takes over by `sacd models promote`, which verifies, journals and can be taken back."""

Take = Callable[[Config, ConfigReloaded], Awaitable[None]]
"""Puts a configuration in force, given what is told of it; raises FatalError where that cannot be written down."""


def may_change(key: str) -> bool:
    """Tell whether `key`, such as risk.max_drawdown, may have another value while the daemon runs."""
    return key in _KEYS or (key.partition(".")[0] in _SECTIONS and key not in _FIXED)


def changes(old: Config, new: Config) -> tuple[Change, ...]:
    """Return what differs, in the order of the configuration; secrets of the exchange are among the values."""
    after = dict(values(new))
    return tuple(Change(key=key, old=value, new=after[key]) for key, value in values(old) if value != after[key])


def values(section: Section, prefix: str = "") -> Iterator[tuple[str, Json]]:
    """Yield every key with its value; a table whose names are free, such as retrain.data, is one value."""
    shown = section.model_dump(mode="json", by_alias=True)
    for name, field in type(section).model_fields.items():
        key, value = field.alias or name, getattr(section, name)
        if isinstance(value, Section):
            yield from values(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", shown[key]


class Reloader:
    """Reads the configuration anew when asked, one reading at a time. `config`: the one in force."""

    def __init__(
        self,
        config: Config,
        path: Path,
        read: Callable[[], Config],
        *,
        take: Take,
        tell: Callable[[ConfigReloaded], None],
        clock: Clock,
    ) -> None:
        """path: of the file that the daemon was started with.  read: returns what it says now, or raises ConfigError.

        tell: told what became of each reading.
        """
        self.config = config
        self._path = path
        self._read = read
        self._take = take
        self._tell = tell
        self._clock = clock
        self._turn = asyncio.Lock()

    async def reload(self, source: str) -> ConfigReloaded:
        """Read, compare and take; returns what became of it. source: what asked for it.

        Raises FatalError when a configuration that was to be taken could not be written down: the daemon has to end.
        """
        async with self._turn:
            event = await self._reload(source)
            self._tell(event)
        return event

    async def _reload(self, source: str) -> ConfigReloaded:
        told = ConfigReloaded(
            outcome=ReloadOutcome.UNCHANGED,
            source=source,
            file=str(self._path),
            digest=self.config.digest(),
            at_ms=self._clock.now_ms(),
        )
        try:
            # In a thread: it looks at files, and a disk may hang.
            read = await asyncio.to_thread(self._read)
        except ConfigError as error:
            return replace(told, outcome=ReloadOutcome.INVALID, mistakes=_lines(error))
        # Live, loading does not read them: those that the run was armed with go on.
        config = read.with_credentials(self.config.credentials())
        found = changes(self.config, config)
        if not found:
            return told
        restart = tuple(change.key for change in found if not may_change(change.key))
        if restart:
            return replace(told, outcome=ReloadOutcome.NEEDS_RESTART, restart=restart)
        taken = replace(told, outcome=ReloadOutcome.TAKEN, changes=found, digest=config.digest())
        await self._take(config, taken)
        self.config = config
        return taken


def _lines(error: ConfigError) -> tuple[str, ...]:
    head, *rest = str(error).splitlines()
    return tuple(line.strip() for line in rest) or (head,)
