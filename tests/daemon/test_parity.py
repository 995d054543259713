"""`sacd parity`: environment, backtest and daemon agree on recorded candles, and a difference anywhere is counted."""

import gzip
import itertools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from daemon.config import load_config
from daemon.errors import SacdError
from daemon.parity import _compare, _symbol
from daemon.serving import load_model
from daemon.trace import write_setup, write_trace
from strategy.trader import Setup
from tests.daemon.programs import SACD, environment, sacd
from tests.fakes.serving import BTC, Place, make_place, market_candles, write_csv

pytest.importorskip("gymnasium", reason="the environment's third of the proof needs gymnasium")
CANDLES = 3_400
COUNTS = ("observations_differ", "actions_differ", "trades_differ", "equity_differ")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("parity"))


def test_recorded_candles_with_real_gaps_come_out_byte_for_byte(
    place: Place, recorded_candles: Callable[[str], Path]
) -> None:
    with gzip.open(recorded_candles("binance/btcusdt-1h.csv.gz"), "rt", encoding="utf-8") as whole:
        lines = list(itertools.islice(whole, CANDLES + 1))
    times = [int(line.partition(",")[0]) for line in lines[1:]]
    gaps = sum(later - earlier > 3_600_000 for earlier, later in itertools.pairwise(times))
    assert gaps >= 2, "the slice has no real gaps"
    data = place.root / "btcusdt-1h.csv"
    data.write_text("".join(lines), encoding="utf-8")
    done = sacd("parity", "--data", data, "--json", cwd=place.root)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [told[key] for key in COUNTS] == [0, 0, 0, 0]
    assert told["candles"] == CANDLES
    (file,) = told["files"]
    assert file["observed"] > 500
    assert file["trades"] > 50


_BROKEN = """
import sys, dataclasses
from daemon import serving
class Cheaper(serving.PaperBroker):
    def __init__(self, *, costs, **rest):
        super().__init__(costs=dataclasses.replace(costs, slippage_rate=0.0), **rest)
serving.PaperBroker = Cheaper
sys.argv = ["sacd", "parity", "--data", sys.argv[1]]
from daemon.__main__ import main
main()
"""


def test_a_daemon_that_fills_cheaper_is_caught(place: Place) -> None:
    data = write_csv(place.root / "btcusdt-1h-cheap.csv", market_candles(BTC, 2_500))
    command = [SACD[0], "-c", _BROKEN, str(data)]
    done = subprocess.run(command, check=False, cwd=place.root, env=environment(), capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "0 differ" not in done.stdout.partition("trades ")[2].partition(",")[0]


@pytest.mark.parametrize(
    ("array", "counted"),
    [
        ("observations", "observations_differ"),
        ("votes", "actions_differ"),
        ("targets", "actions_differ"),
        ("trades", "trades_differ"),
        ("equity", "equity_differ"),
    ],
)
async def test_the_last_bit_of_any_array_of_the_daemon_is_compared(place: Place, array: str, counted: str) -> None:
    data = write_csv(place.root / "btcusdt-bit.csv", market_candles(BTC, 2_480))
    config = load_config(place.config, {})
    setup = Setup(
        instance="parity",
        timeframe=config.timeframe,
        instruments={BTC: config.steps[BTC].instrument(BTC)},
        strategy=config.strategy_parameters(),
        limits=config.risk_limits(),
        costs=config.cost_model(),
    )
    trace, stored = place.root / "trace.npz", place.root / "setup.json"
    if not trace.exists():
        await write_trace(data, setup, load_model(config), 1e5, trace, lambda _: None)
        write_setup(setup, 1e5, stored)
        assert [_compare(data, place.model, trace, stored)[key] for key in COUNTS] == [0, 0, 0, 0]
    arrays = {name: values.copy() for name, values in np.load(trace).items()}
    assert arrays["trades"].size
    arrays[array].reshape(-1).view(np.uint8)[-1] ^= 1
    altered = place.root / "altered.npz"
    np.savez(altered, **arrays)
    told = _compare(data, place.model, altered, stored)
    assert {key: told[key] for key in COUNTS if told[key]} == {counted: 1}


def test_a_broken_file_is_named(place: Place) -> None:
    data = place.root / "btcusdt-1h-broken.csv"
    data.write_text("timestamp_ms,open\n1,2\n", encoding="utf-8")
    done = sacd("parity", "--data", data, cwd=place.root)
    assert done.returncode == 1
    assert done.stderr.startswith("sacd: ")
    assert "btcusdt-1h-broken.csv" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("ethusdt-1h.csv.gz", "ETH/USDT"),
        ("BTCUSDT.csv", BTC),
        ("solusdt-1h.csv.gz", "SOL/USDT"),
        ("ADA_USDT-5m-2022q1.csv", "ADA/USDT"),
    ],
)
def test_the_symbol_is_read_from_the_name_of_the_file(place: Place, name: str, symbol: str) -> None:
    assert _symbol(load_config(place.config, {}), Path(name)) == symbol


@pytest.mark.parametrize("name", ["whatever.csv", "usdt-1h.csv", "btcusdt-cheap.csv", "btceur-1h.csv"])
def test_a_name_that_tells_no_symbol_is_refused_with_what_to_give(place: Place, name: str) -> None:
    with pytest.raises(SacdError, match=rf"{name}: the name does not tell .*\(USDT\).*--symbol BASE/QUOTE"):
        _symbol(load_config(place.config, {}), Path(name))


def test_a_symbol_that_is_stated_is_the_one_that_is_compared(place: Place) -> None:
    data = write_csv(place.root / "whatever.csv", market_candles(BTC, 2_480))
    done = sacd("parity", "--data", data, "--symbol", "SOL/USDT", "--json", cwd=place.root)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"][0]["symbol"] == "SOL/USDT"
    unstated = sacd("parity", "--data", data, cwd=place.root)
    assert (unstated.returncode, unstated.stderr.count("\n")) == (1, 1)
    assert unstated.stderr.startswith("sacd: ")
    uneven = sacd("parity", "--data", data, "--symbol", "SOL/USDT", "--symbol", BTC, cwd=place.root)
    assert (uneven.returncode, uneven.stdout) == (1, "")
    assert "give one for each --data" in uneven.stderr
