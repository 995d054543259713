"""The `sacd` command as a person runs it: processes of their own, real signals, real pipes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.fakes.serving import ROOT

SACD = [sys.executable, "-m", "daemon"]


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the program sees: this environment without anything that would configure it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SACD_", "STATE_DIR", "CREDENTIALS_DIR"))}
    return {**clean, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(changes or {})}


def sacd(*arguments: str | Path, cwd: Path, **changes: str) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end."""
    command = [*SACD, *map(str, arguments)]
    return subprocess.run(
        command, check=False, cwd=cwd, env=environment(changes), capture_output=True, text=True, timeout=120
    )


class Running:
    """A daemon in the background. `lines`: what it has logged so far, as JSON objects."""

    def __init__(self, config: Path, *, command: Sequence[str] = (*SACD, "run"), **changes: str) -> None:
        self.lines: list[dict[str, Any]] = []
        self.raw: list[str] = []
        self._arrived = threading.Condition()
        self.process = subprocess.Popen(
            [*command, "--config", str(config)],
            cwd=config.parent,
            env=environment({"SACD_LOG__FORMAT": "json", **changes}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._arrived:
                self.raw.append(line)
                if line.startswith("{"):
                    self.lines.append(json.loads(line))
                self._arrived.notify_all()
        with self._arrived:
            self._arrived.notify_all()

    def wait_for(self, event: str, count: int = 1, timeout_s: float = 60.0) -> dict[str, Any]:
        """Return the `count`-th line called `event`."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.called(event)) >= count, timeout_s), self.raw[-5:]
            return self.called(event)[count - 1]

    def called(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    def signal(self, number: signal.Signals) -> tuple[int, float, str]:
        """Send a signal; returns exit code, seconds until the end, and what it said on standard error."""
        started = time.monotonic()
        self.process.send_signal(number)
        code, error = self.end()
        return code, time.monotonic() - started, error

    def end(self, timeout_s: float = 60.0) -> tuple[int, str]:
        """Wait for the end; returns exit code and standard error."""
        assert self.process.stderr is not None
        error = self.process.stderr.read()
        code = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code, error
