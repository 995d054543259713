"""What `sudo deploy/prepare` makes, and that Mosquitto takes it: names, passwords and the access list."""

import importlib.machinery
import importlib.util
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.crash.forking import die_with_parent
from tests.deploy.commands import command
from tests.deploy.images import DEPLOY, ROOT, compose
from tests.deploy.prometheus_server import free_port

LIVE = compose("compose.yaml", "compose.live.yaml")


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("prepare", str(DEPLOY / "prepare"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("prepare", loader))  # type: ignore[arg-type]
    loader.exec_module(module)
    return module


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Return who was made the owner of which file, by its final name, without being root."""
    found = dict[str, int]()

    def chown(path: Path, user: int, group: int) -> None:
        assert user == group
        found[path.name.removeprefix(".").removesuffix(".new")] = user

    monkeypatch.setattr(os, "chown", chown)
    return found


def read(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return mode and contents of every file by its path."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mode & 0o777, path.read_bytes()) for path in files}


# ---- what it makes ----
def test_everything_the_compose_file_mounts_and_the_repository_lacks_is_made(
    prepare: ModuleType, owners: dict[str, int], tmp_path: Path
) -> None:
    prepare.prepare(tmp_path)
    binds = [
        volume for service in LIVE["services"].values() for volume in service["volumes"] if isinstance(volume, dict)
    ]
    needed = {bind["source"] for bind in binds} | {secret["file"] for secret in LIVE["secrets"].values()}
    lacking = [place for place in needed if not (DEPLOY / place).exists() or place in {"./etc", "./data"}]
    missing = [place for place in lacking if not (tmp_path / place).exists() and place != "./secrets/exchange.toml"]
    assert missing == []
    assert (tmp_path / "etc" / "config.toml").read_bytes() == (ROOT / "config.toml").read_bytes()


def test_each_file_belongs_to_who_reads_it_and_no_secret_is_for_others(
    prepare: ModuleType, owners: dict[str, int], tmp_path: Path
) -> None:
    prepare.prepare(tmp_path)
    assert owners == {
        "config.toml": 0,
        "grafana_admin_password": int(LIVE["services"]["grafana"]["user"].split(":")[0]),
        "mosquitto_passwords": int(LIVE["services"]["mosquitto"]["user"].split(":")[0]),
        "mosquitto_acl": int(LIVE["services"]["mosquitto"]["user"].split(":")[0]),
        "mqtt_password_sacd": 990,
        "mqtt_password_operator": 0,
        "mqtt_password_reader": 0,
    }
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    made = read(tmp_path)
    assert {mode for name, (mode, _) in made.items() if name.startswith("secrets/")} == {0o400}
    assert made["etc/config.toml"][0] == 0o644


def test_what_is_there_stays_and_only_what_is_missing_is_made(
    prepare: ModuleType, owners: dict[str, int], tmp_path: Path
) -> None:
    prepare.prepare(tmp_path)
    (tmp_path / "etc" / "config.toml").write_text("# mine\n", encoding="utf-8")
    (tmp_path / "secrets" / "mosquitto_acl").unlink()
    before = read(tmp_path)
    assert prepare.prepare(tmp_path) == [tmp_path / "secrets" / "mosquitto_acl"]
    after = read(tmp_path)
    assert after.pop("secrets/mosquitto_acl") == (0o400, (DEPLOY / "mosquitto" / "acl.example").read_bytes())
    assert after == before


def test_passwords_are_long_and_never_twice_the_same(
    prepare: ModuleType, owners: dict[str, int], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        prepare.prepare(tmp_path / name)
    passwords = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*password*") if path.is_file()]
    plain = [text for text in passwords if ":" not in text]
    assert len(plain) == len(set(plain)) == 8
    assert [text for text in plain if re.fullmatch(r"[\w-]{32}", text) is None] == []


def test_without_being_root_it_says_so_and_makes_nothing(
    prepare: ModuleType, owners: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match="prepare: run it as root, for instance by sudo"):
        prepare.main()
    assert owners == {}


# ---- the broker ----
class Broker:
    """A real Mosquitto with our configuration, on a port of its own."""

    def __init__(self, folder: Path, prepare: ModuleType) -> None:
        (folder / "data").mkdir()
        (folder / "secrets").mkdir()
        self._passwords = {user: prepare.password() for user in prepare.MQTT_USERS}
        lines = [f"{user}:{prepare.mosquitto_hash(text)}" for user, text in self._passwords.items()]
        (folder / "secrets" / "mosquitto_passwords").write_text("\n".join(lines), encoding="utf-8")
        acl = (DEPLOY / "mosquitto" / "acl.example").read_text(encoding="utf-8")
        (folder / "secrets" / "mosquitto_acl").write_text(acl, encoding="utf-8")
        self.port = free_port()
        text = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text(encoding="utf-8")
        places = {"/run/secrets": f"{folder}/secrets", "/mosquitto/data": f"{folder}/data"}
        for there, here in {**places, "listener 1883": f"listener {self.port} 127.0.0.1"}.items():
            assert there in text
            text = text.replace(there, here)
        if os.geteuid() == 0:  # it would become the user mosquitto, to whom our folder is closed
            text += "\nuser root\n"
        self._config, self._log = folder / "mosquitto.conf", folder / "mosquitto.log"
        self._config.write_text(text, encoding="utf-8")

    def begin(self) -> None:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [command("mosquitto"), "-c", self._config],
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel and nothing else
            )
        end = time.monotonic() + 30.0
        while not self._listens():
            assert self.process.poll() is None, self._log.read_text(encoding="utf-8")
            assert time.monotonic() < end, "Mosquitto did not start"
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", self.port)) == 0

    def _as(self, user: str, password: str | None = None) -> list[str]:
        known = self._passwords.get(user, "") if password is None else password
        return ["-h", "127.0.0.1", "-p", str(self.port), *(["-u", user, "-P", known] if user else [])]

    def publish(self, user: str, topic: str, *, password: str | None = None) -> int:
        """Leave a message that stays; return the exit code, 0 also when the access list drops it."""
        given = [*self._as(user, password), "-V", "mqttv5", "-q", "1", "-r", "-t", topic, "-m", f"by {user}"]
        run = subprocess.run([command("mosquitto_pub"), *given], check=False, capture_output=True, timeout=30)
        return run.returncode

    def sees(self, user: str, topic: str) -> bool:
        """Return whether a user is given the message that stays at a topic."""
        given = [*self._as(user), "-V", "mqttv5", "-t", topic, "-C", "1", "-W", "1"]
        run = subprocess.run([command("mosquitto_sub"), *given], check=False, capture_output=True, timeout=30)
        return run.stdout != b""


@pytest.fixture(scope="module")
def broker(prepare: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    found = Broker(tmp_path_factory.mktemp("broker"), prepare)
    found.begin()
    yield found
    found.process.kill()
    found.process.wait()


def test_nobody_comes_in_without_a_name_and_its_password(broker: Broker) -> None:
    wrong = "a guess"
    assert broker.publish("sacd", "sacd/known/status") == 0
    assert broker.publish("", "sacd/known/status") != 0
    assert broker.publish("sacd", "sacd/known/status", password=wrong) != 0
    assert broker.publish("nobody", "sacd/known/status", password=wrong) != 0


TELLS = ("status", "candle", "decision", "order", "fill", "risk", "equity", "model")


@pytest.mark.parametrize("what", TELLS)
def test_what_the_daemon_tells_reaches_operator_and_reader(broker: Broker, what: str) -> None:
    topic = f"sacd/told/{what}"
    assert broker.publish("sacd", topic) == 0
    assert broker.sees("operator", topic)
    assert broker.sees("reader", topic)


def test_a_command_reaches_the_daemon_from_the_operator_and_no_reader(broker: Broker) -> None:
    topic = "sacd/asked/command/pause"
    assert broker.publish("operator", topic) == 0
    assert broker.sees("sacd", topic)
    assert not broker.sees("reader", topic)


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        ("sacd", "sacd/x/command/resume"),
        ("reader", "sacd/x/command/flatten"),
        ("reader", "sacd/x/status"),
        ("operator", "sacd/x/equity"),
    ],
)
def test_what_a_user_may_not_write_arrives_nowhere(broker: Broker, user: str, topic: str) -> None:
    broker.publish(user, topic)
    assert not broker.sees("operator", topic)  # who may read all of it
