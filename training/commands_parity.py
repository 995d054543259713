"""The training side's half of `sacd parity`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from strategy.trader import Setup
from training.bundles import read_serving_bundle
from training.candles import read_candle_file
from training.commands_common import EXIT_NO, needs_extra
from training.console import print_json


def add_parity(parser: argparse.ArgumentParser) -> None:
    """Declare the half of `sacd parity` that compares; the daemon wrote `--trace` and `--setup` before."""
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--setup", type=Path, required=True)
    parser.set_defaults(run=_parity)


def _parity(args: argparse.Namespace) -> int:
    parity = needs_extra("training.parity")
    stored = json.loads(args.setup.read_text())
    setup, cash, bundle = Setup.from_json(stored["setup"]), stored["cash"], read_serving_bundle(args.model)
    symbol = next(iter(setup.instruments))
    table = read_candle_file(args.data, symbol=symbol, timeframe=setup.timeframe).table
    with np.load(args.trace, allow_pickle=False) as arrays:
        daemon = parity.Trace.of_arrays(arrays)
    reference = parity.backtest_trace(table, setup, bundle, cash)
    environment = parity.environment_trace(table, setup, bundle, cash)
    compiled = parity.compiled_trace(table, setup, bundle, cash)
    result = parity.compare(symbol, reference, {"environment": environment, "compiled": compiled, "daemon": daemon})
    print_json(asdict(result))
    return 0 if result.is_equal else EXIT_NO
