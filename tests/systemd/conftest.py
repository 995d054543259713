"""Machines that the tests of a module share: booting one takes seconds. Each test has an instance of its own in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.booted import Machine, booted
from tests.systemd.installed import installed_once, trainer_layer


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root under which sacd is installed; to be looked at, never to be changed."""
    folder = tmp_path_factory.getbasetemp()
    return installed_once(folder.parent if folder.name.startswith("popen-gw") else folder)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, installed: Path) -> Iterator[Machine]:
    """A machine with sacd on it, up to where a person would begin."""
    folder = tmp_path_factory.mktemp("machine")
    trainer, binds = trainer_layer(folder, installed)
    with booted(folder / "root", [installed, trainer], binds) as found:
        found.run("systemd-sysusers")
        found.run("systemd-tmpfiles", "--create", "/usr/local/lib/tmpfiles.d/sacd.conf")
        yield found
