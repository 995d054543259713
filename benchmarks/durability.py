"""What one durable decision costs, against one fdatasync of 200 bytes on the same file system.

A decision is six records of about 2 KB together, appended through `await journal.append(...)` from an asyncio loop,
thread hop and hash chain included. The floor appends 200 bytes to a file and calls fdatasync. Both take turns, so that
whatever else the machine does falls on both.
"""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import structlog

from benchmarks.result import Result
from benchmarks.timing import Rounds, spread
from daemon.journal import SqliteJournal
from daemon.ports import Record

_ROUNDS = 15
_PER_ROUND = 40
_WARM_UP = 20


class _WallClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep_s(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(*, quick: bool = False) -> list[Result]:
    """Return the one result of this module; takes a few seconds."""
    # The log line about the opened journal would stand between the results.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".durability-") as directory:
        taken = asyncio.run(_measure(Path(directory), 1 if quick else _ROUNDS))
    ratios = taken.ratios("lower")
    return [
        Result(
            name="durable decision",
            ratio=median(ratios),
            target=2.0,
            better="lower",
            ours=f"{taken.ours * 1e6:.0f} us, six records in one commit",
            reference=f"{taken.reference * 1e6:.0f} us, one fdatasync of 200 bytes",
            note=spread(ratios),
        )
    ]


async def _measure(directory: Path, rounds: int) -> Rounds:
    """Return the medians of each round: seconds of a durable decision, seconds of the floor."""
    journal = SqliteJournal.open(directory / "journal.db", _WallClock())
    descriptor = os.open(directory / "floor", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        for candle in range(_WARM_UP):
            await _decide(journal, candle)
        pairs = [await _round(journal, descriptor) for _ in range(rounds)]
    finally:
        os.close(descriptor)
        await journal.close()
    return Rounds(ours_s=[ours for ours, _ in pairs], reference_s=[floor for _, floor in pairs])


async def _round(journal: SqliteJournal, descriptor: int) -> tuple[float, float]:
    # One of each in turn: how long a disk takes to sync jumps by twenty times from one second to the next.
    pairs = [(await _decide(journal, candle), _sync(descriptor)) for candle in range(_PER_ROUND)]
    return median(ours for ours, _ in pairs), median(floor for _, floor in pairs)


async def _decide(journal: SqliteJournal, candle: int) -> float:
    records = _decision(candle)
    started_s = time.perf_counter()
    await journal.append(records)
    return time.perf_counter() - started_s


def _sync(descriptor: int) -> float:
    started_s = time.perf_counter()
    os.write(descriptor, b"x" * 200)
    os.fdatasync(descriptor)
    return time.perf_counter() - started_s


def _decision(candle: int) -> list[Record]:
    """Return what one candle leaves in the journal when it trades: about 2 KB of payload."""
    at_ms = 1_600_000_000_000 + candle * 3_600_000
    price = 42_000.0 + candle / 7.0
    votes = [[0.61 + member / 31.0, 0.42 + candle / 977.0, 0.83 - member / 57.0] for member in range(3)]
    order = {"client_id": f"s-btcusdt-3f9a1c2e-{at_ms}-1", "symbol": "BTC/USDT", "side": "buy", "quantity": 0.01234}
    row = [price / (1.0 + index) for index in range(35)]
    return [
        Record(kind="candle", payload={"symbol": "BTC/USDT", "open_ms": at_ms, "values": [price] * 4 + [123.456]}),
        Record(kind="decision", payload={"symbol": "BTC/USDT", "votes": votes, "row": row, "target": 0.25}),
        Record(kind="risk", payload={"state": "active", "peak": 10_512.25, "equity": 10_498.75, "drawdown": 0.00128}),
        Record(kind="order", payload={**order, "reason": "policy", "reference_price": price, "state": "intended"}),
        Record(kind="fill", payload={**order, "price": price * 1.001, "fee": 0.5187, "at_ms": at_ms, "fill_id": "1"}),
        Record(kind="checkpoint", payload={"cash": 7_312.5, "positions": {"BTC/USDT": row[:6]}, "equity": 10_498.75}),
    ]
