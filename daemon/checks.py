"""`sacd check`: everything that can be found out before trading, each with a plain verdict."""

import ipaddress
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from daemon import journal_reader
from daemon.app import make_feed
from daemon.clock import SystemClock
from daemon.config import Config
from daemon.errors import SacdError
from daemon.paths import journal_path
from daemon.serving import load_model
from strategy.errors import StrategyError

_LEAST_FREE_BYTES = 500 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One thing that was looked at. detail: what was found, or what is wrong and what would be right.

    is_warning: good enough to start, but something to know.
    """

    name: str
    is_good: bool
    detail: str
    is_warning: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        return asdict(self)


async def run_checks(config: Config) -> list[CheckResult]:
    """Look at ensemble, state directory, journal and market. The configuration itself was checked by loading it."""
    looks: list[tuple[str, Callable[[Config], Awaitable[str]]]] = [
        ("ensemble", _ensemble),
        ("state directory", _state_dir),
        ("journal", _journal),
        ("market", _market),
    ]
    digest = f"{config.daemon.mode}, source {config.market.source}, {', '.join(config.market.symbols)}"
    results = [CheckResult(name="configuration", is_good=True, detail=digest)]
    for name, look in looks:
        try:
            results.append(CheckResult(name=name, is_good=True, detail=await look(config)))
        except (SacdError, StrategyError) as error:
            results.append(CheckResult(name=name, is_good=False, detail=str(error)))
    return [*results, _http(config)]


def _http(config: Config) -> CheckResult:
    http = config.http
    if not http.enabled:
        return CheckResult(name="http", is_good=True, detail="off")
    detail = f"{http.host} port {http.port}"
    # The configuration lets through nothing but addresses and this name.
    if http.host == "localhost" or ipaddress.ip_address(http.host).is_loopback:
        return CheckResult(name="http", is_good=True, detail=detail)
    warning = "metrics and health are readable by whoever reaches this address"
    return CheckResult(name="http", is_good=True, detail=f"{detail}: {warning}", is_warning=True)


async def _ensemble(config: Config) -> str:
    manifest = load_model(config).manifest
    trained = manifest.training
    return f"{manifest.short_id}, {len(manifest.members)} members, trained on {', '.join(trained.symbols)}"


async def _state_dir(config: Config) -> str:
    directory = config.daemon.state_dir
    existing = next(d for d in (directory, *directory.parents) if d.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise SacdError(f"{existing}: may not be written by this user: change its owner, or [daemon] state_dir")
    free = shutil.disk_usage(existing).free
    if free < _LEAST_FREE_BYTES:
        raise SacdError(f"{directory}: {free / 2**20:.0f} MiB free, want {_LEAST_FREE_BYTES / 2**20:.0f}: make room")
    return f"{directory}, {free / 2**30:.1f} GiB free"


async def _journal(config: Config) -> str:
    path = journal_path(config)
    if not path.exists():
        return f"{path}: none yet, a new account begins"
    found = journal_reader.verify(path)
    if not found.is_sound:
        raise SacdError(f"{path}: damaged at entry {found.first_bad_seq}: {found.reason}")
    return f"{path}: {found.entries} entries, all sound"


async def _market(config: Config) -> str:
    feed = make_feed(config, SystemClock())
    try:
        instruments = await feed.instruments()
    finally:
        await feed.close()
    steps = (f"{i.symbol} tick {i.tick:g} lot {i.lot:g}" for i in instruments.values())
    return f"{config.market.source}: {', '.join(steps)}"
