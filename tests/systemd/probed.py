"""Runs probe.py in the place of a service's program, with everything else of its unit as it is."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.systemd.booted import Machine

_PROBE = "/etc/sacd/probe.py"


def put_probe(machine: Machine) -> None:
    """Put the probe where services may read it."""
    machine.path(_PROBE).write_text(Path(__file__).with_name("probe.py").read_text(encoding="utf-8"), encoding="utf-8")


def probe(
    machine: Machine, unit: str, python: str, out: str, attempts: Iterable[str], *, changes: str = ""
) -> Mapping[str, Any]:
    """Return what came of `attempts` under the restrictions of `unit`, with `changes` of a person to its [Service].

    out: a directory that it may write to.
    """
    put_probe(machine)
    command = " ".join((python, "-B", _PROBE, f"{out}/probe.json", *attempts))
    ours = f"Type=exec\nWatchdogSec=0\nRestart=no\nExecStart=\nExecStart={command}"
    machine.drop_in(unit, f"[Unit]\nOnFailure=\n[Service]\n{ours}\n{changes}\n")
    machine.run("systemctl", "start", unit)
    machine.until(lambda: machine.show(unit, "ActiveState")["ActiveState"] in {"inactive", "failed"}, "its end", unit)
    return _read(machine, unit, out)


def probe_freely(machine: Machine, python: str, out: str, attempts: Iterable[str]) -> Mapping[str, Any]:
    """Return what came of `attempts` by the same user without any restriction."""
    put_probe(machine)
    command = " ".join((python, "-B", _PROBE, f"{out}/probe.json", *attempts))
    machine.path("/run/systemd/system/free-probe.service").write_text(
        f"[Service]\nType=oneshot\nUser=sacd\nExecStart={command}\n", encoding="utf-8"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "free-probe.service")
    return _read(machine, "free-probe.service", out)


def _read(machine: Machine, unit: str, out: str) -> Mapping[str, Any]:
    place = machine.path(f"{out}/probe.json")
    assert place.exists(), machine.log(unit)
    found: Mapping[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    place.unlink()
    return found
