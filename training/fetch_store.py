"""Where fetched candles lie: pages as they come in an unfinished file, then Parquet with provenance, all or nothing.

The unfinished file is lines of JSON, each behind its checksum, so that whatever a kill or a full disk leaves is a whole
number of pages and at most one torn line, which is cut off. It ends with a seal, the provenance, written before the
Parquet file takes its place: a fetch that died between the two files knows what to write beside the first.
"""

import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from strategy.candle import Timeframe
from strategy.candle_table import VALUE_COLUMNS, CandleTable
from training.candles import parse_candles, read_bytes
from training.data import encoded, provenance_path
from training.disk import write_together
from training.errors import TrainingError
from training.fetch_pages import Gap, Page, Restated, joined

_LOCK = ".fetch.lock"
_BEGIN, _PAGE, _SEAL = "begin", "page", "seal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a file holds candles of, and of which venue."""

    exchange: str
    symbol: str
    timeframe: Timeframe

    @property
    def file(self) -> str:
        """Name of the Parquet file: `btcusdt-1h.parquet`."""
        market = "".join(letter for letter in self.symbol if letter.isalnum()).lower()
        return f"{market}-{self.timeframe.name}.parquet"

    @property
    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        return {"exchange": self.exchange, "symbol": self.symbol, "timeframe": self.timeframe.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedGap:
    """Missing candles. confirmed: whether the venue showed, asked twice, both edges and nothing between them."""

    first_ms: int
    missing: int
    confirmed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The provenance of a fetched file; stored beside it as `<file>.json`.

    asked_ms: from when on candles were asked for.  first_ms, last_ms: open times.  older_withheld: whether the venue
    has older ones that it does not give.  restated: what the venue later showed otherwise than the file holds it.
    fetched_ms: when the file was last changed, by this machine's clock.  ccxt: version.
    """

    file: str
    exchange: str
    symbol: str
    timeframe: str
    asked_ms: int
    rows: int
    first_ms: int
    last_ms: int
    sha256: str
    gaps: tuple[FetchedGap, ...]
    older_withheld: bool
    restated: tuple[Restated, ...]
    fetched_ms: int
    ccxt: str


@dataclass(slots=True, kw_only=True)
class Held:
    """What lies in a directory of one market, finished and unfinished.

    asked_ms: from when on candles were asked for, None when nothing lies there.  fetched: provenance of the finished
    file, None when there is none.  unfinished: pages that it does not hold.
    """

    asked_ms: int | None = None
    fetched: Fetched | None = None
    tables: list[CandleTable] = field(default_factory=list)
    confirmed: set[Gap] = field(default_factory=set)
    restated: dict[int, Restated] = field(default_factory=dict)
    is_late: bool = False
    unfinished: int = 0

    def add(self, page: Page) -> None:
        """Take one more page. A candle that is held already stays as it is."""
        self.tables.append(page.table)
        self.unfinished += 1
        self.confirmed.update(page.confirmed)
        self.restated.update((restated.open_ms, restated) for restated in page.restated)
        self.is_late = self.is_late or page.is_late

    @property
    def base(self) -> str | None:
        """The sha256 of the finished file."""
        return None if self.fetched is None else self.fetched.sha256

    def table(self) -> CandleTable | None:
        """Return all candles held, in order of time, None when there are none."""
        if len(self.tables) > 1:
            self.tables = [joined(self.tables)]
        return self.tables[0] if self.tables and len(self.tables[0]) else None


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep every other fetch out of `directory`, which is made when it is missing.

    Raises TrainingError when another one works there, or when it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _unwritable(directory, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
        yield
    except BlockingIOError as error:
        raise TrainingError(
            f"{directory}: another fetch works in this directory: wait until it is done, or give another one"
        ) from error
    finally:
        os.close(descriptor)


class Store:
    """The files of one market in `directory`, which the caller has locked."""

    def __init__(self, directory: Path, key: Key) -> None:
        self._key = key
        self.path = directory / key.file
        self.unfinished = directory / f".{key.file}.unfinished"
        self._descriptor: int | None = None

    def load(self) -> Held:
        """Return what lies there, after a fetch that died at its last step has been brought to its end.

        Raises TrainingError when a file is there that is not ours, of another market, changed, or unreadable.
        """
        for path in (self.path, provenance_path(self.path)):
            for left_over in path.parent.glob(f".{path.name}.????????"):  # by a kill in `write_together`
                left_over.unlink()
        lines = self._lines()
        data = read_bytes(self.path) if self.path.exists() else None
        sha256 = None if data is None else hashlib.sha256(data).hexdigest()
        if sha256 is not None and lines and lines[-1]["kind"] == _SEAL and lines[-1]["sha256"] == sha256:
            self._finish_sealed(lines.pop())
            lines = []
        held = Held() if data is None else self._finished(data, str(sha256))
        if lines:
            self._add_unfinished(held, lines)
        return held

    def begin(self, held: Held, asked_ms: int) -> None:
        """Let pages be appended to what `load` returned. Raises TrainingError when that cannot be written."""
        try:
            self._descriptor = os.open(self.unfinished, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _unwritable(self.unfinished, error) from error
        if held.unfinished == 0:
            os.ftruncate(self._descriptor, 0)
            self._write({"kind": _BEGIN, **self._key.facts, "asked_ms": asked_ms, "base": held.base})

    def append(self, page: Page) -> None:
        """Keep one more page. Raises TrainingError when it cannot be written."""
        self._write(
            {
                "kind": _PAGE,
                "open_ms": page.table.open_ms.tolist(),
                "values": page.table.values.tolist(),
                "confirmed": [asdict(gap) for gap in page.confirmed],
                "restated": [asdict(restated) for restated in page.restated],
                "is_late": page.is_late,
            }
        )

    def finish(self, table: CandleTable, **facts: Any) -> Fetched:  # noqa: ANN401 - the other fields of Fetched
        """Put `table` and its provenance in place, and forget the unfinished file.

        Raises TrainingError when they cannot be written.
        """
        data = encoded(table, self.path)
        fetched = Fetched(
            file=self.path.name,
            **self._key.facts,
            rows=len(table),
            first_ms=int(table.open_ms[0]),
            last_ms=int(table.open_ms[-1]),
            sha256=hashlib.sha256(data).hexdigest(),
            **facts,
        )
        self._write({"kind": _SEAL, **asdict(fetched)})
        if self._descriptor is not None:
            os.fsync(self._descriptor)
        write_together({self.path: data, provenance_path(self.path): _json(asdict(fetched))})
        self.forget()
        return fetched

    def forget(self) -> None:
        """Remove the unfinished file: nothing in it is needed."""
        self.close()
        self.unfinished.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the unfinished file, which stays; idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    # ---- the unfinished file ------------------------------------------------------------------------------------
    def _write(self, record: Mapping[str, Any]) -> None:
        if self._descriptor is None:
            raise TrainingError(f"{self.unfinished}: not open")
        text = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
        rest = memoryview(b"%08x %s\n" % (zlib.crc32(text), text))
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise _unwritable(self.unfinished, error) from error

    def _lines(self) -> list[dict[str, Any]]:
        """Return the whole lines of the unfinished file, and cut off what was torn."""
        if not self.unfinished.exists():
            return []
        data, lines, end = read_bytes(self.unfinished), [], 0
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n") or line[:8] != b"%08x" % zlib.crc32(line[9:-1]):
                break
            lines.append(json.loads(line[9:]))
            end += len(line)
        if end < len(data):
            os.truncate(self.unfinished, end)
        return lines

    def _add_unfinished(self, held: Held, lines: list[dict[str, Any]]) -> None:
        if lines[-1]["kind"] == _SEAL:  # sealed, but the Parquet file did not take its place
            seal = lines.pop()
            text = json.dumps(seal, separators=(",", ":"), allow_nan=False).encode()
            os.truncate(self.unfinished, self.unfinished.stat().st_size - len(text) - 10)
        begin = lines[0]
        self._refuse_other(self.unfinished, begin)
        if begin["base"] != held.base:
            raise TrainingError(
                f"{self.unfinished}: these pages go on from a {self.path.name} that is not here any more: put it back, "
                "or delete the unfinished file to begin anew"
            )
        held.asked_ms = begin["asked_ms"]
        for line in lines[1:]:
            held.add(self._page(line))

    def _page(self, line: Mapping[str, Any]) -> Page:
        values = np.array(line["values"], np.float64).reshape(-1, len(VALUE_COLUMNS))
        times = np.array(line["open_ms"], np.int64)
        return Page(
            table=CandleTable(symbol=self._key.symbol, timeframe=self._key.timeframe, open_ms=times, values=values),
            confirmed=tuple(Gap(**gap) for gap in line["confirmed"]),
            restated=tuple(_restated(record) for record in line["restated"]),
            is_late=line["is_late"],
        )

    # ---- the finished file --------------------------------------------------------------------------------------
    def _finish_sealed(self, seal: dict[str, Any]) -> None:
        del seal["kind"]
        write_together({provenance_path(self.path): _json(seal)})
        self.forget()

    def _finished(self, data: bytes, sha256: str) -> Held:
        record = self._provenance()
        self._refuse_other(self.path, record)
        if record["sha256"] != sha256:
            raise TrainingError(
                f"{self.path}: changed since it was fetched (sha256 {sha256}, was {record['sha256']}): put back what "
                "was fetched, or move it away to begin anew"
            )
        fetched = _fetched_of(record)
        return Held(
            asked_ms=fetched.asked_ms,
            fetched=fetched,
            tables=[parse_candles(data, self.path, symbol=self._key.symbol, timeframe=self._key.timeframe)],
            confirmed={Gap(first_ms=gap.first_ms, missing=gap.missing) for gap in fetched.gaps if gap.confirmed},
            restated={restated.open_ms: restated for restated in fetched.restated},
            is_late=fetched.older_withheld,
        )

    def _provenance(self) -> dict[str, Any]:
        try:
            record = json.loads(read_bytes(provenance_path(self.path)))
            missing = Fetched.__dataclass_fields__.keys() - record.keys()
        except (TrainingError, ValueError, AttributeError):
            missing = {"all"}
        if missing:
            raise TrainingError(
                f"{self.path}: this file was not made by `sacd data fetch` ({provenance_path(self.path).name} does not "
                "say so): give another directory"
            )
        found: dict[str, Any] = record
        return found

    def _refuse_other(self, path: Path, record: Mapping[str, Any]) -> None:
        theirs = {name: record.get(name) for name in self._key.facts}
        if theirs != self._key.facts:
            told = " ".join(str(value) for value in theirs.values())
            raise TrainingError(f"{path}: this file holds candles of {told}: give another directory")


def _fetched_of(record: Mapping[str, Any]) -> Fetched:
    known = {name: record[name] for name in Fetched.__dataclass_fields__}
    gaps = tuple(FetchedGap(**gap) for gap in record["gaps"])
    return Fetched(**{**known, "gaps": gaps, "restated": tuple(_restated(item) for item in record["restated"])})


def _restated(record: Mapping[str, Any]) -> Restated:
    kept = record["kept"]
    return Restated(open_ms=record["open_ms"], kept=None if kept is None else tuple(kept), venue=tuple(record["venue"]))


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=2, allow_nan=False).encode() + b"\n"


def _unwritable(path: Path, error: OSError) -> TrainingError:
    return TrainingError(
        f"{path}: cannot be written ({error.strerror}): free space or give another place; what was fetched before is "
        "kept, and the same command goes on from it"
    )
