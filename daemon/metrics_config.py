"""The configuration in force, and what became of attempts to give another one to a daemon that runs."""

from daemon.events import ConfigReloaded, ReloadOutcome
from daemon.metrics_catalogue import Catalogue


class ConfigMetrics:
    """Which configuration it is, and since when."""

    def __init__(self, make: Catalogue) -> None:
        self._info = make.info(
            "sacd_config", "The configuration in force: sha256 of it without secrets, as in the run record", "digest"
        )
        reloads = make.counter(
            "sacd_config_reloads_total", "Times that the configuration was read anew while it ran", "outcome"
        )
        self._reloads = {outcome: reloads.labels(outcome.value) for outcome in ReloadOutcome}
        self._is_well = make.gauge(
            "sacd_config_last_reload_successful", "1 while what was read last is what is in force, else 0"
        )
        self._read = make.gauge(
            "sacd_config_last_reload_success_timestamp_seconds",
            "When the configuration was last read and is in force since, or was already: the start counts",
        )

    def begin(self, digest: str, at_ms: int) -> None:
        """Take what it was started with."""
        self._in_force(digest, at_ms)

    def reload(self, event: ConfigReloaded) -> None:
        """Take what became of an attempt."""
        self._reloads[event.outcome].inc()
        if event.is_in_force:
            self._in_force(event.digest, event.at_ms)
        else:
            self._is_well.set(0)

    def _in_force(self, digest: str, at_ms: int) -> None:
        self._info.info({"digest": digest})
        self._is_well.set(1)
        self._read.set(at_ms / 1_000)
