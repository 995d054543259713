"""What this machine says before real orders: money, disk, time, keys, other daemons, and the ensemble's evaluation.

Asks no exchange and changes nothing.
"""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from daemon.check_result import CheckResult, bad, good, warns
from daemon.config import Config
from daemon.credentials import credentials_of
from daemon.disk_room import LOW_BYTES, LOW_SHARE
from daemon.errors import SacdError
from daemon.paths import journal_path
from daemon.readiness import read_readiness, refuse_unready
from daemon.run_record import money_of
from daemon.time_sync import time_sync
from strategy.manifest import BundleManifest

_CONFIGURATION = 78


def machine_checks(config: Config, *, is_start: bool = False) -> list[CheckResult]:
    """Look at what this machine says: money, disk, time, rate budget and, unless we are the one, other daemons."""
    looks: list[tuple[str, Callable[[Config], CheckResult]]] = [
        ("money", _money),
        ("disk", _disk),
        ("time sync", _time_sync),
        ("rate budget", _rate_budget),
    ]
    if not is_start:
        looks += [("credentials", _credentials), ("one instance", _one_instance)]
    results = []
    for name, look in looks:
        try:
            results.append(look(config))
        except SacdError as error:
            results.append(CheckResult.of_error(name, error))
        except OSError as error:
            results.append(bad(name, f"{error.filename}: {error.strerror}"))
    return results


def readiness_check(config: Config, manifest: BundleManifest) -> CheckResult:
    """Return whether the ensemble may trade real money."""
    try:
        readiness = read_readiness(config.strategy.model, manifest)
        unproven = refuse_unready(readiness, config.live.allow_unproven)
    except SacdError as error:
        return CheckResult.of_error("readiness", error)
    if unproven:
        return warns("readiness", f"{readiness}; allowed by [live] allow_unproven, which is journalled")
    return good("readiness", str(readiness))


def _money(config: Config) -> CheckResult:
    where = f'{config.exchange.id}, account "{config.daemon.instance}"'
    match money_of(config):
        case "sandbox":
            return good("money", f"SANDBOX of {where}: NO REAL MONEY")
        case "local":
            return good("money", f"A VENUE ON THIS MACHINE in the place of {where}: NO REAL MONEY")
        case _:
            return good("money", f"REAL MONEY at {where}")


def _disk(config: Config) -> CheckResult:
    state_dir = config.daemon.state_dir
    existing = next(d for d in (state_dir, *state_dir.parents) if d.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        wrong = f"{existing}: cannot be written (read-only, or another owner): nothing could be journalled"
        return bad("disk", f"{wrong}; name another [daemon] state_dir, or change its owner", _CONFIGURATION)
    usage = shutil.disk_usage(existing)
    detail = f"{state_dir}: {usage.free / 2**20:.0f} MiB free, {usage.free / usage.total:.1%}"
    if usage.free < LOW_BYTES:
        return bad("disk", f"{detail}; want {LOW_BYTES / 2**20:.0f} MiB: make room")
    if usage.free < LOW_SHARE * usage.total:
        return warns("disk", f"{detail}; make room before it is below {LOW_BYTES / 2**20:.0f} MiB")
    return good("disk", detail)


def _time_sync(_: Config) -> CheckResult:
    is_synchronised, detail = time_sync()
    if is_synchronised:
        return good("time sync", detail)
    return warns("time sync", f"{detail}: let systemd-timesyncd or chrony keep it, or orders will be refused one day")


def _rate_budget(config: Config) -> CheckResult:
    exchange, share = config.exchange, f"{config.exchange.request_share:.0%} of the request limit"
    if exchange.budget_file is None:
        return good("rate budget", f"{share} of {exchange.id}, shared with no other daemon")
    directory = exchange.budget_file.parent
    if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
        wrong = f"exchange.budget_file = {exchange.budget_file}: its directory is missing or cannot be written"
        return bad("rate budget", f"{wrong}; make it, writable for every daemon that shares it", _CONFIGURATION)
    return good("rate budget", f"{share} of {exchange.id}, shared through {exchange.budget_file}")


def _credentials(config: Config) -> CheckResult:
    names = ", ".join(sorted(credentials_of(config.credential_file)))
    return good("credentials", f"{config.credential_file}: {names}")


def _one_instance(config: Config) -> CheckResult:
    path = journal_path(config)
    holder = lock_holder(path.with_name(f"{path.name}.lock"))
    if holder is not None:
        return bad("one instance", f"journal {path} is in use by process {holder}: stop that sacd", _CONFIGURATION)
    return good("one instance", f"no other sacd has {path}")


def lock_holder(lock: Path) -> str | None:
    """Return the process that holds a journal's lock, None when nobody does; makes no file."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return None
