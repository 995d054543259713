"""`sacd parity`: runs the daemon's half of the proof and lets the training side compare it with its own two."""

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from daemon.candle_files import read_candles
from daemon.config import Config
from daemon.errors import DataError, SacdError
from daemon.progress import progress
from daemon.serving import load_model
from daemon.trace import write_setup, write_trace
from strategy.candle import Timeframe
from strategy.errors import InvalidCandle
from strategy.instrument import Instrument
from strategy.trader import Setup

_INSTRUMENT = {"tick": 0.01, "lot": 0.00001, "min_notional": 5.0}
"""Steps of a symbol the configuration says nothing of."""
_EXIT_NO = 3


def prove(config: Config, data: Path, symbol: str | None = None) -> dict[str, Any]:
    """Return the counts of `sacd parity` for one file: what differs between environment, backtest and daemon.

    symbol: BASE/QUOTE; None takes it from the file's name.
    Raises SacdError for a name that does not tell it and when the training side cannot run, InvalidInstrument for a
    symbol of another form, DataError for a broken file, ArtifactError for a bundle that cannot serve.
    """
    symbol = _symbol(config, data) if symbol is None else symbol
    steps = config.steps.get(symbol)
    instrument = Instrument(symbol=symbol, **_INSTRUMENT) if steps is None else steps.instrument(symbol)
    setup = Setup(
        instance="parity",
        timeframe=config.timeframe,
        instruments={symbol: instrument},
        strategy=config.strategy_parameters(),
        limits=config.risk_limits(),
        costs=config.cost_model(),
    )
    candles = len(read_candles(data, symbol=symbol, timeframe=config.timeframe))
    with tempfile.TemporaryDirectory() as directory:
        trace, stored = Path(directory) / "daemon.npz", Path(directory) / "setup.json"
        cash, bundle = config.daemon.initial_cash, load_model(config)
        with progress(f"daemon, {data.name}", candles) as tell:
            asyncio.run(write_trace(data, setup, bundle, cash, trace, tell))
        write_setup(setup, cash, stored)
        return _compare(data, config.strategy.model, trace, stored)


def _symbol(config: Config, data: Path) -> str:
    """Return the symbol that a file's name tells, as in `btcusdt-1h.csv.gz`: in a quote currency of the configuration.

    The rule is that of `sacd data`: all before the timeframe, else before the first dot, without `-` and `_`.
    """
    market = _market(data)
    symbols = (*config.market.symbols, *config.steps)
    for quote in sorted({symbol.partition("/")[2].upper() for symbol in symbols}, key=len, reverse=True):
        if market.isalnum() and market.endswith(quote) and len(market) > len(quote) + 1:
            return f"{market.removesuffix(quote)}/{quote}"
    quotes = ", ".join(sorted({symbol.partition("/")[2] for symbol in symbols}))
    raise SacdError(
        f"{data}: the name does not tell a symbol in a configured quote currency ({quotes}): name the file like "
        "btcusdt-1h.csv.gz, or give --symbol BASE/QUOTE"
    )


def _market(data: Path) -> str:
    parts = data.name.partition(".")[0].replace("_", "-").split("-")
    at = next((at for at, part in enumerate(parts) if _is_timeframe(part)), len(parts))
    return "".join(parts[:at]).upper()


def _is_timeframe(text: str) -> bool:
    try:
        Timeframe.parse(text)
    except InvalidCandle:
        return False
    return True


def _compare(data: Path, model: Path, trace: Path, setup: Path) -> dict[str, Any]:
    arguments = ["--data", str(data), "--model", str(model), "--trace", str(trace), "--setup", str(setup)]
    done = subprocess.run(
        [sys.executable, "-m", "training", "parity", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode not in {0, _EXIT_NO}:
        if "No module named 'gymnasium'" in done.stderr:
            raise SacdError("the environment needs gymnasium: run `make test` once and use .venv-dev/bin/sacd parity")
        said = done.stderr.strip().splitlines() or ["the comparison failed"]
        raise DataError(said[-1].removeprefix("sacd parity: "))
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise SacdError(f"the comparison of {data.name} said no JSON: {done.stdout[:80]!r}") from error
    return {"file": data.name, **result}
