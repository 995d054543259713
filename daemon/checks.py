"""`sacd check`: everything that can be found out before trading, each with a plain verdict."""

import ipaddress
import os
import shutil
from collections.abc import Awaitable, Callable

from daemon import journal_reader
from daemon.app_feed import make_feed
from daemon.arming import refuse_other_journal
from daemon.check_result import CheckResult, good, warns
from daemon.clock import SystemClock
from daemon.config import Config
from daemon.credentials import credentials_of
from daemon.disk_room import LOW_BYTES
from daemon.errors import ConfigError, SacdError
from daemon.live_checks import venue_checks
from daemon.machine_checks import machine_checks, readiness_check
from daemon.paths import journal_path
from daemon.serving import load_model
from daemon.trained_under import conditions_changed
from daemon.venue import Venue
from strategy.errors import StrategyError

__all__ = ["CheckResult", "MakeVenue", "run_checks"]

MakeVenue = Callable[[Config], Venue]
"""Makes the venue of a configuration that has credentials; connects to nothing yet."""


async def run_checks(config: Config, make_venue: MakeVenue) -> list[CheckResult]:
    """Look at ensemble, state directory, journal and market; in live mode also at all that real orders need.

    The configuration itself was checked by loading it. make_venue: called in live mode only.
    """
    looks: list[tuple[str, Callable[[Config], Awaitable[str]]]] = [
        ("ensemble", _ensemble),
        ("state directory", _state_dir),
        ("journal", _journal),
        ("market", _market),
    ]
    digest = f"{config.daemon.mode}, source {config.market.source}, {', '.join(config.market.symbols)}"
    results = [good("configuration", digest)]
    for name, look in looks:
        try:
            results.append(good(name, await look(config)))
        except (SacdError, StrategyError) as error:
            results.append(CheckResult.of_error(name, error))
    results += [*_conditions(config), _http(config)]
    return [*results, *await _live(config, make_venue)] if config.is_live else results


async def _live(config: Config, make_venue: MakeVenue) -> list[CheckResult]:
    """Look at what only real orders need; at the exchange with the key itself, where there is one."""
    results = [*machine_checks(config), *_readiness(config)]
    if not all(result.is_good for result in results if result.name == "credentials"):
        return results  # there is nothing to ask the exchange with
    config = config.with_credentials(credentials_of(config.credential_file))
    try:
        venue = make_venue(config)
    except ConfigError as error:
        return [*results, CheckResult.of_error("exchange", error)]
    try:
        return [*results, *await venue_checks(config, venue)]
    finally:
        await venue.close()


def _readiness(config: Config) -> list[CheckResult]:
    try:
        return [readiness_check(config, load_model(config).manifest)]
    except SacdError:
        return []  # told as that of the ensemble


def _conditions(config: Config) -> list[CheckResult]:
    try:
        changed = conditions_changed(config, load_model(config).manifest)
    except SacdError:
        return []  # told as that of the ensemble
    if not changed:
        return [good("conditions", "what the ensemble was trained under")]
    return [warns("conditions", f"not what the ensemble was trained under: {'; '.join(changed)}")]


def _http(config: Config) -> CheckResult:
    http = config.http
    if not http.enabled:
        return good("http", "off")
    detail = f"{http.host} port {http.port}"
    # The configuration lets through nothing but addresses and this name.
    if http.host == "localhost" or ipaddress.ip_address(http.host).is_loopback:
        return good("http", detail)
    return warns("http", f"{detail}: metrics and health are readable by whoever reaches this address")


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
    if free < LOW_BYTES:
        raise SacdError(f"{directory}: {free / 2**20:.0f} MiB free, want {LOW_BYTES / 2**20:.0f}: make room")
    return f"{directory}, {free / 2**30:.1f} GiB free"


async def _journal(config: Config) -> str:
    path = journal_path(config)
    if not path.exists():
        return f"{path}: none yet, a new account begins"
    found = journal_reader.verify(path)
    if not found.is_sound:
        raise SacdError(f"{path}: damaged at entry {found.first_bad_seq}: {found.reason}")
    refuse_other_journal(config)
    return f"{path}: {found.entries} entries, all sound"


async def _market(config: Config) -> str:
    feed = make_feed(config, SystemClock())
    try:
        instruments = await feed.instruments()
    finally:
        await feed.close()
    steps = (f"{i.symbol} tick {i.tick:g} lot {i.lot:g}" for i in instruments.values())
    return f"{config.market.source}: {', '.join(steps)}"
