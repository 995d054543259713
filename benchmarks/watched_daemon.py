"""`python -m benchmarks.watched_daemon --config FILE --out FILE`: the daemon, which notes how long its decisions take.

It is the whole daemon of `sacd run` with two additions: candles of the simulated market are let in one by one, each
when a beat comes in on standard input, and one more sink writes down what became of it. A beat is the moment it was
sent, as a double of the machine's monotonic clock, so that time spent in the pipe counts like time spent in a socket.
It prints a line when the first beat was decided on, ends when there are no more, and leaves its notes in FILE as
doubles: four per decision, in the order of `benchmarks.latencies.Samples`.
"""

import argparse
import asyncio
import os
import struct
import sys
from array import array
from collections.abc import AsyncIterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from daemon import app
from daemon.app_feed import make_feed
from daemon.clock import SystemClock
from daemon.config import load_config
from daemon.events import CandleTaken, Decided, Event, JournalWritten
from daemon.ports import CandleGroup, Feed, FeedEvent
from strategy.candle import Candle
from strategy.instrument import Instrument

BEAT = struct.Struct("d")


class Notes:
    """A sink that keeps four figures per decision; see `benchmarks.latencies.Samples`."""

    def __init__(self) -> None:
        self.figures = array("d")
        self.sent_s = 0.0
        """When the candle was sent that the engine has just taken or is about to take."""
        self._clock = SystemClock()
        self._open_ms = 0
        self._arrival_s = self._write_s = 0.0

    def publish(self, event: Event) -> None:
        """Look for the three moments that matter; of the symbols of one candle time the first stands for all."""
        match event:
            case CandleTaken(is_backfill=False) if event.candle.open_ms != self._open_ms:
                self._open_ms = event.candle.open_ms
                self._arrival_s = self._clock.monotonic_s() - self.sent_s
                self._write_s = 0.0
            case JournalWritten():
                self._write_s += event.seconds
            case Decided() if self._arrival_s > 0.0:
                if not self.figures:
                    print("decided", flush=True)
                self.figures.extend((self.sent_s, self._arrival_s, event.latency_s, self._write_s))
                self._arrival_s = 0.0


class Beaten:
    """A feed that lets each candle time in at a beat; implements `daemon.ports.Feed`."""

    is_live = False

    def __init__(self, feed: Feed, notes: Notes) -> None:
        self._feed = feed
        self._notes = notes

    async def instruments(self) -> Mapping[str, Instrument]:
        """See `Feed.instruments`."""
        return await self._feed.instruments()

    def events(self, resume: Mapping[str, Candle]) -> AsyncIterator[FeedEvent]:
        """See `Feed.events`; ends with the beats."""
        return self._in_time(self._feed.events(resume))

    async def close(self) -> None:
        """See `Feed.close`."""
        await self._feed.close()

    async def _in_time(self, events: AsyncIterator[FeedEvent]) -> AsyncIterator[FeedEvent]:
        beats = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(beats), sys.stdin)
        async for event in events:
            if isinstance(event, CandleGroup) and not event.is_backfill:
                try:
                    (self._notes.sent_s,) = BEAT.unpack(await beats.readexactly(BEAT.size))
                except asyncio.IncompleteReadError:
                    return
            yield event


class _Watched(app.App):
    """The daemon with one more who watches."""

    notes = Notes()

    def _watchers(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the daemon's own builds
        watchers = super()._watchers(*args, **kwargs)
        watchers.sinks = [*watchers.sinks, self.notes]
        return watchers


def main() -> int:
    """Trade at the beats of standard input; returns the exit code of `sacd run`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watched_daemon", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    # `App.run` makes its feed by this name, as the tests know that change it too.
    app.make_feed = lambda *args, **kwargs: Beaten(make_feed(*args, **kwargs), _Watched.notes)
    daemon = _Watched(load_config(arguments.config, os.environ), os.environ, Console(file=StringIO()), sys.stderr)
    code = app.run_until_done(daemon.run)
    with arguments.out.open("wb") as file:
        _Watched.notes.figures.tofile(file)
    return code


if __name__ == "__main__":
    sys.exit(main())
