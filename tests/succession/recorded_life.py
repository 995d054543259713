"""A life of ensembles on recorded candles, half a year in a minute: what a person would see over many months.

    python -m tests.succession.recorded_life [FOLDER]

Real are the candles (Binance's BTC and ETH, from July 2019 on), the daemon, its trainer, the gate, the comparison, the
swap and the rollback. Staged is who meets whom: the incumbent follows every single candle and pays for it, and the
candidate is the ensemble that ships, which **was trained on these very candles**. So this shows that the machinery does
what it says, and nothing about what an ensemble earns.
"""

import asyncio
import contextlib
import csv
import gzip
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon import journal_reader
from daemon.control import ControlError, NotRunning, call
from daemon.models import set_current
from daemon.ports import Entry
from strategy.candle import Candle
from tests.conftest import find_recorded
from tests.crash.forking import die_with_parent
from tests.daemon.programs import environment
from tests.fakes.serving import ROOT
from tests.succession.planted import LIMITS, STRATEGY, Kind, write_ensemble

HOUR_MS = 3_600_000
FILES = {"BTC/USDT": "binance/btcusdt-1h.csv.gz", "ETH/USDT": "binance/ethusdt-1h.csv.gz"}
FIRST, START, END = "2019-03-15", "2019-07-01", "2020-12-31"
"""The first candle that fills a window, the first that is decided on, the first that is not read."""
PACE = 150.0
"""Candle times a second."""
_LONGEST_S = 240.0
_SHIPPED = "c5a531e4ebf4bb31"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What became of it. steps: the journal's `model` records.  marks: its `shadow` records.  names: who is who."""

    journal: Path
    registry: Path
    steps: Sequence[Entry]
    marks: Sequence[Entry]
    names: Mapping[str, str]


def live(root: Path) -> Told:
    """Let the account live through its candles in the empty folder `root`; returns what its journal says."""
    return asyncio.run(_Life(root).live())


class _Life:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry = root / "models"
        self.state = root / "var"
        self.socket = root / "control.sock"
        shutil.copytree(ROOT / "models" / _SHIPPED, self.registry / _SHIPPED)
        files = {symbol: _cut(symbol, root) for symbol in FILES}
        candles = [list(_read(symbol, path)) for symbol, path in files.items()]
        self.restless = write_ensemble(self.registry, Kind.RESTLESS, candles)
        self.steep = write_ensemble(self.registry, Kind.SATURATED, candles)
        set_current(self.registry, self.restless)
        self.config = root / "config.toml"
        self.config.write_text(_configuration(files, self), encoding="utf-8")
        self.journal = self.state / "life-file.sqlite"

    async def live(self) -> Told:
        log = (self.root / "log").open("wb")
        with log:
            daemon = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "daemon", "run", "--config", str(self.config),
                stdout=log, stderr=log, env=self._environment(), preexec_fn=die_with_parent,
            )  # fmt: skip
            try:
                directing, ending = asyncio.ensure_future(self._direct()), asyncio.ensure_future(daemon.wait())
                await asyncio.wait({directing, ending}, timeout=_LONGEST_S, return_when=asyncio.FIRST_COMPLETED)
                if not directing.done():
                    directing.cancel()
                    raise AssertionError(f"it did not come to its end: {self._last_words()}")
                directing.result()
                daemon.terminate()
                await asyncio.wait_for(ending, _LONGEST_S)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    daemon.kill()
        names = {self.restless: "restless", _SHIPPED: "shipped", self.steep: "steep"}
        return Told(
            journal=self.journal,
            registry=self.registry,
            steps=self._steps(),
            marks=self._entries("shadow"),
            names=names,
        )

    def _last_words(self) -> str:
        steps = [step.payload["step"] for step in self._steps()] if self.journal.exists() else []
        return f"steps {steps}, log ends {(self.root / 'log').read_text()[-2_000:]}"

    def _environment(self) -> dict[str, str]:
        return environment({"SACD_TRIALS": str(self.root / "trials.jsonl")})

    async def _direct(self) -> None:
        """Do what a person would, each time the one before has come to its end."""
        await self._until_decided(40)  # so many days that the incumbent has not seen
        await self._ask("retrain", {})
        await self._until(lambda step: step["step"] == "trained")
        await self._ask("shadow", {"model": self.steep})
        await self._until(lambda step: step["step"] == "kept")
        await self._ask("shadow", {"model": _SHIPPED})
        await self._until(lambda step: step["step"] == "confirmed")
        await self._ask("promote", {"model": self.restless})
        await self._until(lambda step: step["step"] == "serving" and step["cause"] == "rollback")

    async def _until_decided(self, days: int) -> None:
        while (await self._ask("status", {}))["decisions"] < days * 24 * len(FILES):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.1)

    async def _ask(self, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
        while True:
            try:
                return await call(self.socket, verb, args)
            except NotRunning:
                await asyncio.sleep(0.05)
            except ControlError as error:
                if "is starting" not in str(error):
                    raise
                await asyncio.sleep(0.05)

    async def _until(self, is_it: Callable[[Mapping[str, Any]], bool]) -> None:
        while not any(is_it(step.payload) for step in self._steps()):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.2)

    def _steps(self) -> Sequence[Entry]:
        return self._entries("model")

    def _entries(self, kind: str) -> Sequence[Entry]:
        return list(journal_reader.read(self.journal, kinds={kind}))


def _cut(symbol: str, root: Path) -> Path:
    """Write the span that is lived through into a file of its own; returns its path."""
    path = root / f"{symbol.replace('/', '').lower()}-1h.csv"
    first_ms, end_ms = _ms(FIRST), _ms(END)
    with gzip.open(find_recorded(FILES[symbol]), "rt", encoding="utf-8") as source, path.open("w") as target:
        rows = csv.reader(source)
        writer = csv.writer(target)
        writer.writerow(next(rows))
        writer.writerows(row for row in rows if first_ms <= int(row[0]) < end_ms)
    return path


def _read(symbol: str, path: Path) -> Iterator[Candle]:
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield Candle(
                symbol=symbol,
                open_ms=int(row["timestamp_ms"]),
                span_ms=HOUR_MS,
                **{name: float(row[name]) for name in ("open", "high", "low", "close", "volume")},
            )


def _ms(day: str) -> int:
    return round(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1_000)


def _configuration(files: Mapping[str, Path], life: _Life) -> str:
    sections: dict[str, Mapping[str, Any]] = {
        "daemon": {"instance": "life", "state_dir": str(life.state)},
        "market": {"source": "file", "symbols": list(FILES), "candles_per_second": PACE},
        "market.file": {"start": START},
        "market.file.paths": {symbol: str(path) for symbol, path in files.items()},
        "strategy": {**STRATEGY.to_json(), "decide_every": 1, "model": str(life.registry / "current")},
        "risk": LIMITS.to_json(),
        "retrain": {
            "steps": 4_000,
            "holdout_days": 30.0,
            "shadow_decisions": 600,
            "watch_decisions": 150,
            "regret_limit": 0.02,
            "drift_limit": 0.0,
        },
        "http": {"enabled": False},
        "control": {"socket": str(life.socket)},
        "log": {"format": "json"},
    }
    for symbol in files:
        sections[f'instruments."{symbol}"'] = {"tick": 0.01, "lot": 0.00001, "min_notional": 5.0}
    return "".join(f"[{title}]\n{_lines(values)}\n" for title, values in sections.items())


def _lines(values: Mapping[str, Any]) -> str:
    quoted = {name if name.replace("_", "").isalnum() else f'"{name}"': value for name, value in values.items()}
    return "".join(f"{name} = {_toml(value)}\n" for name, value in quoted.items())


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return repr(value) if not isinstance(value, list) else "[" + ", ".join(map(_toml, value)) + "]"


# ---- told to a person -------------------------------------------------------------------------------------------
def lines(told: Told) -> Iterator[str]:
    """Yield the life, one line a step: the candle it fell on, and what the journal says."""
    candle = ""
    for entry in journal_reader.read(told.journal, kinds={"candle", "model"}):
        if entry.kind == "candle":
            candle = datetime.fromtimestamp(entry.payload["open_ms"] / 1_000, UTC).strftime("%Y-%m-%d %H:%M")
        else:
            words = _WORDS[entry.payload["step"]].format_map(entry.payload)
            yield f"{entry.seq:>6}  {candle or 'before':<16}  {_named(words, told.names)}"


_WORDS = {
    "requested": "a retraining is asked for ({by})",
    "trained": "retraining: {outcome}: {reason}",
    "shadow": "{candidate} in shadow beside {incumbent}",
    "kept": "{candidate} is dropped: {reason}",
    "swapping": "swap begins: {old} -> {new} ({cause})",
    "serving": "{model} serves ({cause}): {detail}",
    "confirmed": "{model} is watched no longer",
}


def _named(text: str, names: Mapping[str, str]) -> str:
    for short_id, name in names.items():
        text = text.replace(short_id, name.upper())
    return text


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for line in lines(live(folder)):
            print(line)  # noqa: T201
