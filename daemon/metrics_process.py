"""The program itself: what it is, its loop, its journal with the disk and the copies of it, and what it had to drop."""

import platform

from daemon.events import JournalWritten, Started
from daemon.metrics_catalogue import Catalogue

COMMANDS = ("pause", "resume", "flatten")
COPIES = ("made", "failed")
QUEUES = ("log",)
MODES = ("paper", "live")
SOURCES = ("simulated", "file", "exchange")

# Upper bounds of histograms, chosen around what was measured: a commit takes 0.2 ms.
_COMMIT_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
_LOOP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class ProcessMetrics:
    """How the program does, apart from what it trades."""

    def __init__(self, make: Catalogue, version: str) -> None:
        """version: of the program."""
        self._make_journal(make)
        self.loop_lag = make.histogram("sacd_loop_lag_seconds", "How late the event loop wakes a sleeper", _LOOP_S)
        self._dropped = make.counter(
            "sacd_dropped_total", "What a bounded queue lost because its reader was too slow", "queue"
        )
        self._drops = dict.fromkeys(QUEUES, 0)
        for queue in QUEUES:
            self._dropped.labels(queue)
        self.commands = make.counter("sacd_commands_total", "Commands of an operator that were done", "verb")
        for verb in COMMANDS:
            self.commands.labels(verb)
        build = make.info("sacd_build", "The program that runs", "version", "python")
        build.info({"version": version, "python": platform.python_version()})
        self._instance = make.info(
            "sacd_instance",
            "What it was started as; `account` is `[daemon] instance`",
            "account",
            "mode",
            "source",
            "timeframe",
            "quote",
        )
        self._started = make.gauge("sacd_started_timestamp_seconds", "When it was ready for the first candle")

    def _make_journal(self, make: Catalogue) -> None:
        self._commit = make.histogram(
            "sacd_journal_commit_seconds", "From handing records to the journal to having them on disk", _COMMIT_S
        )
        self._records = make.counter("sacd_journal_records_total", "Records written to the journal")
        backups = make.counter("sacd_journal_backups_total", "Copies of the whole journal that were begun", "result")
        self._backups = {result: backups.labels(result) for result in COPIES}
        self._last_backup = make.gauge(
            "sacd_last_backup_timestamp_seconds", "When the newest copy of this run was made and proved sound"
        )
        self._free = make.gauge("sacd_disk_free_bytes", "Room left for us on the disk of the journal")
        self._size = make.gauge("sacd_disk_size_bytes", "Size of that disk")

    def start(self, event: Started) -> None:
        """Take what it was started as."""
        names = ("mode", "source", "timeframe", "quote")
        self._instance.info({"account": event.instance, **{name: getattr(event, name) for name in names}})
        self._started.set(event.at_ms / 1_000)

    def write(self, event: JournalWritten) -> None:
        """Take a transaction of the journal."""
        self._commit.observe(event.seconds)
        self._records.inc(event.records)

    def set_disk(self, free_bytes: int, size_bytes: int) -> None:
        """Take the room on the disk of the journal."""
        self._free.set(free_bytes)
        self._size.set(size_bytes)

    def count_backup(self, made_ms: int | None) -> None:
        """Take that a copy was made at this moment, None for one that failed."""
        self._backups["failed" if made_ms is None else "made"].inc()
        if made_ms is not None:
            self._last_backup.set(made_ms / 1_000)

    def count_dropped(self, queue: str, total: int) -> None:
        """Take how many entries a queue has dropped since the process began."""
        self._dropped.labels(queue).inc(total - self._drops[queue])
        self._drops[queue] = total
