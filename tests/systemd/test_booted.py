"""That the machine the other tests run services in is one, and that nothing gets out of it."""

import os
import platform
from pathlib import Path

from tests.systemd.booted import booted


def test_a_booted_machine_has_systemd_in_charge_and_is_cut_off_from_this_one(tmp_path: Path) -> None:
    name, layer = platform.node(), tmp_path / "layer"
    (layer / "etc/systemd/system").mkdir(parents=True)
    (layer / "etc/systemd/system/hello.service").write_text(
        "[Service]\nType=oneshot\nExecStart=/bin/cp /proc/1/comm /etc/first-process\n", encoding="utf-8"
    )
    with booted(tmp_path / "machine", [layer]) as machine:
        machine.run("systemctl", "start", "hello")
        assert machine.path("/etc/first-process").read_text(encoding="ascii") == "systemd\n"
        machine.run("hostname", "inside")
        assert machine.run("ls", "/sys/class/net").stdout.split() == ["lo"]
        for path in ("/proc/sys/kernel/panic", "/sys/kernel/mm/transparent_hugepage/enabled"):
            assert "Read-only" in machine.run("sh", "-c", f"echo 0 > {path}", check=False).stderr
        pid = machine.pid
    assert not Path(f"/proc/{pid}").exists()
    assert not Path("/etc/first-process").exists()
    assert platform.node() == name
    assert not list((tmp_path / "machine").iterdir())
    assert f"sacd-test-{os.getpid()}" not in Path("/proc/mounts").read_text(encoding="ascii")
