"""What the journal says at the start of a run: whose account it is, and everything its decisions rest on."""

import importlib.metadata
import ipaddress
import platform
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from daemon.config import Config
from daemon.ports import Record
from strategy.bundle import Bundle
from strategy.observation import OBSERVATION_HASH
from strategy.trader import Setup


def account_of(config: Config) -> dict[str, Any]:
    """Return what must stay the same for an account to be continued."""
    venue: dict[str, Any] = {"exchange": config.exchange.id} if config.market.source == "exchange" else {}
    if config.is_live:
        venue["money"] = money_of(config)
    return {
        "instance": config.daemon.instance,
        "mode": config.daemon.mode,
        "source": config.market.source,
        **venue,
        "symbols": list(config.market.symbols),
        "timeframe": config.market.timeframe,
        "cash": config.daemon.initial_cash,
    }


def money_of(config: Config) -> str:
    """Return whose money live orders move: "real", "sandbox" (the exchange's test market), or "local" (this machine's).

    Only addresses of this machine itself are local: a name could lead anywhere.
    """
    if config.exchange.sandbox:
        return "sandbox"
    hosts = [urlsplit(address).hostname for address in _addresses(config.exchange.ccxt.get("urls"))]
    return "local" if hosts and all(map(_is_loopback, hosts)) else "real"


def _addresses(values: object) -> Iterator[str]:
    if isinstance(values, Mapping):
        for value in values.values():
            yield from _addresses(value)
    elif isinstance(values, str):
        yield values


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def run_record(config: Config, setup: Setup, bundle: Bundle, overrides: Mapping[str, Any] | None = None) -> Record:
    """Return what the journal says at the start of a run: enough to recompute every decision of it.

    overrides: what a person allowed for this run although a check would have refused it.
    """
    return Record(
        kind="run",
        payload={
            "account": account_of(config),
            "setup": setup.to_json(),
            "model": bundle.manifest.id,
            "weights": bundle.ensemble.weights.tolist(),
            "observation_hash": OBSERVATION_HASH,
            **({"overrides": dict(overrides)} if overrides is not None else {}),
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
