"""The daemon's part of the parity proof: run the engine over a recorded file and write down what it saw and did."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from daemon import journal_reader
from daemon.clock import SystemClock
from daemon.events import AccountMarked, Event
from daemon.feed_file import FileFeed
from daemon.fold import Memory
from daemon.journal import SqliteJournal
from daemon.serving import make_engine, make_trader
from strategy.bundle import Bundle
from strategy.observation import N_OBSERVATION
from strategy.trader import Setup


class _Equity:
    """Keeps what the account was worth after each group of candles."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self.values: list[float] = []
        self._progress = progress

    def publish(self, event: Event) -> None:
        if isinstance(event, AccountMarked):
            self.values.append(event.portfolio.equity)
            if len(self.values) % 500 == 0:
                self._progress(len(self.values))


async def write_trace(  # noqa: PLR0917 - the parts of one experiment
    data: Path, setup: Setup, bundle: Bundle, cash: float, out: Path, progress: Callable[[int], None]
) -> None:
    """Drive the real engine, journal and paper broker over `data` and store arrays of what is in the journal."""
    symbol, clock = next(iter(setup.instruments)), SystemClock()
    feed = FileFeed(
        paths={symbol: data},
        symbols=(symbol,),
        timeframe=setup.timeframe,
        instruments=setup.instruments,
        candles_per_second=0.0,
        clock=clock,
    )
    await feed.instruments()
    trader, equity = make_trader(setup, bundle, cash), _Equity(progress)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "parity.sqlite"
        journal = SqliteJournal.open(path, clock)
        engine = make_engine(
            trader,
            Memory(),
            bundle,
            journal=journal,
            clock=clock,
            sinks=[equity],
            cash=cash,
            checkpoint_every=1_000_000,
            is_live=feed.is_live,
        )
        await engine.run(feed.events({}))
        await engine.stop("end of data")
        await journal.close()
        arrays = _arrays(path, len(bundle.manifest.members))
    np.savez(out, **arrays, equity=np.array(equity.values))


def write_setup(setup: Setup, cash: float, out: Path) -> None:
    """Write what the account was made of, for the other side to build the same."""
    out.write_text(json.dumps({"setup": setup.to_json(), "cash": cash}), encoding="utf-8")


def _arrays(path: Path, members: int) -> dict[str, Any]:
    """Return observations, votes, targets and trades as they stand in a journal of one symbol."""
    observations, votes, targets, trades = [], [], [], []
    for entry in journal_reader.read(path, kinds={"decision", "fill"}):
        payload = entry.payload
        if entry.kind == "fill":
            sign = 1.0 if payload["side"] == "buy" else -1.0
            trades.append((payload["at_ms"], payload["quantity"] * sign, payload["price"], payload["fee"]))
            continue
        seen = payload["observation"]
        observations.append(bytes(4 * N_OBSERVATION) if seen is None else bytes.fromhex(seen))
        votes.append(np.zeros((members, 3)) if payload["votes"] is None else payload["votes"])
        targets.append(payload["target"])
    return {
        "observations": np.frombuffer(b"".join(observations), np.float32).reshape(-1, N_OBSERVATION),
        "votes": np.array(votes, np.float32).reshape(-1, members, 3),
        "targets": np.array(targets),
        "trades": np.array(trades).reshape(-1, 4),
    }
