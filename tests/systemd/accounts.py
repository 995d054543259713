"""Instances of sacd@ in a booted machine: their configuration, and what they say of themselves."""

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.systemd.booted import Machine

SACD = "/usr/local/bin/sacd"


@dataclass(frozen=True, kw_only=True)
class Account:
    """One instance. name: also that of its account."""

    machine: Machine
    name: str

    @property
    def unit(self) -> str:
        return f"sacd@{self.name}.service"

    @property
    def state(self) -> str:
        return f"/var/lib/sacd/{self.name}"

    @property
    def config(self) -> str:
        return f"/etc/sacd/{self.name}.toml"

    def configure(self, **changes: Any) -> None:
        """Write the configuration: the installed one under this name, with other values of its keys."""
        text = self.machine.path("/etc/sacd/paper.toml").read_text(encoding="utf-8")
        for key, value in {"instance": self.name, "state_dir": self.state, "port": 0, **changes}.items():
            text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {json.dumps(value)}", text, count=1)
            assert count == 1, key
        self.machine.path(self.config).write_text(text, encoding="utf-8")

    def drop_in(self, text: str) -> None:
        """Change the unit of this instance, below [Service]."""
        self.machine.drop_in(self.unit, f"[Service]\n{text}\n")

    def start(self, *, check: bool = True) -> int:
        """Start it, and return once it is ready, or is not."""
        return self.machine.run("systemctl", "start", self.unit, check=check).returncode

    def stop(self) -> None:
        self.machine.run("systemctl", "stop", self.unit)

    def show(self, name: str) -> str:
        return self.machine.show(self.unit, name)[name]

    def sacd(self, *arguments: str, check: bool = True) -> str:
        """Run the command line as the service's user and return what it prints."""
        user = ["setpriv", "--reuid=sacd", "--regid=sacd", "--clear-groups"]
        return self.machine.run(*user, SACD, *arguments, "--config", self.config, check=check).stdout

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.sacd("status", "--json"))
        return found

    def log(self) -> str:
        return self.machine.log(self.unit)
