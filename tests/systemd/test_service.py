"""sacd@.service under a real systemd, with every restriction of its sandbox."""

import pytest

from tests.systemd.accounts import Account
from tests.systemd.booted import Machine


def test_what_was_installed_trades_at_once(machine: Machine) -> None:
    account = Account(machine=machine, name="paper")
    account.start()
    assert account.show("StatusText") == "trading"
    machine.until(lambda: account.status()["decisions"] > 10, "more than ten decisions", account.unit)
    print(account.status())
