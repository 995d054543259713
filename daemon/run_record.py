"""What the journal says at the start of a run: whose account it is, and everything its decisions rest on."""

import importlib.metadata
import platform
import sqlite3
from typing import Any

import numpy as np

from daemon.config import Config
from daemon.ports import Record
from strategy.bundle import Bundle
from strategy.observation import OBSERVATION_HASH
from strategy.trader import Setup


def account_of(config: Config) -> dict[str, Any]:
    """Return what must stay the same for an account to be continued."""
    venue = {"exchange": config.exchange.id} if config.market.source == "exchange" else {}
    return {
        "instance": config.daemon.instance,
        "mode": config.daemon.mode,
        "source": config.market.source,
        **venue,
        "symbols": list(config.market.symbols),
        "timeframe": config.market.timeframe,
        "cash": config.daemon.initial_cash,
    }


def run_record(config: Config, setup: Setup, bundle: Bundle) -> Record:
    """Return what the journal says at the start of a run: enough to recompute every decision of it."""
    return Record(
        kind="run",
        payload={
            "account": account_of(config),
            "setup": setup.to_json(),
            "model": bundle.manifest.id,
            "weights": bundle.ensemble.weights.tolist(),
            "observation_hash": OBSERVATION_HASH,
            "config": config.public(),
            "config_digest": config.digest(),
            "versions": {
                "sacd": version(),
                "python": platform.python_version(),
                "numpy": np.__version__,
                "sqlite": sqlite3.sqlite_version,
                "machine": platform.machine(),
            },
        },
    )


def version() -> str:
    """Return the version of the installed program."""
    return importlib.metadata.version("sacd")
