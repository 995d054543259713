"""What the images start, run for real: the start, the health check and the trainer's loop."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.programs import Running, environment
from tests.deploy.images import DEPLOY, ROOT
from tests.deploy.prometheus_server import free_port

PROGRAMS = DEPLOY / "docker"
SHIPPED = (ROOT / "models" / "current").readlink()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with `lib` as /usr/local/lib/sacd of the image, `bin` on the path, and an empty registry."""
    tmp_path.chmod(0o755)
    (tmp_path / "lib").mkdir()
    for name in ("start", "trainer", "healthcheck"):
        shutil.copy(PROGRAMS / name, tmp_path / "lib" / name)
    shutil.copytree(ROOT / "models", tmp_path / "lib" / "models", symlinks=True)
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "sacd", f'exec {sys.executable} -m daemon "$@"')
    program(tmp_path / "bin" / "python", f'exec {sys.executable} "$@"')
    (tmp_path / "models").mkdir()
    (tmp_path / "config.toml").write_bytes((ROOT / "config.toml").read_bytes())
    return tmp_path


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def variables(place: Path, **changes: str) -> dict[str, str]:
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    return environment({"PATH": path, "SACD_STRATEGY__MODEL": str(place / "models" / "current"), **changes})


def start(place: Path, *verb: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [place / "lib" / "start", *verb],
        cwd=place,
        env=variables(place, **changes),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def contents(registry: Path) -> dict[str, bytes | str]:
    """Return everything below a registry by its path: where a link leads, what a file holds."""
    return {
        str(path.relative_to(registry)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in registry.rglob("*")
        if path.is_symlink() or path.is_file()
    }


# ---- the registry in the volume ----
def test_the_first_start_fills_the_registry_with_what_the_image_holds(place: Path) -> None:
    listed = start(place, "models", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert contents(place / "models") == contents(ROOT / "models")
    assert {path.stat().st_mode & 0o077 for path in (place / "models").rglob("*") if not path.is_symlink()} == {0}


def test_a_later_start_leaves_a_changed_registry_as_it_is(place: Path) -> None:
    start(place, "models", "list")
    (place / "models" / "current").unlink()
    (place / "models" / "current").symlink_to("another")
    (place / "models" / "trials.jsonl").write_text("one more\n", encoding="utf-8")
    before = contents(place / "models")
    start(place, "models", "list")
    assert contents(place / "models") == before


def test_a_registry_that_was_filled_by_half_is_completed_and_nothing_in_it_replaced(place: Path) -> None:
    (place / "models" / "trials.jsonl").write_text("mine\n", encoding="utf-8")
    start(place, "models", "list")
    expected = {**contents(ROOT / "models"), "trials.jsonl": b"mine\n"}
    assert contents(place / "models") == expected


def test_a_registry_that_may_not_be_written_is_one_line_with_the_remedy(place: Path) -> None:
    (place / "models").rmdir()
    run = start(place, "run")
    assert run.returncode == 78
    me, mine = os.geteuid(), os.getegid()
    told = f"sacd: {place / 'models'}: user {me} may not write there; chown -R {me}:{mine} what is mounted there\n"
    assert run.stderr == told


def test_an_ensemble_of_ones_own_needs_no_registry_of_the_image(place: Path) -> None:
    own = place / "models" / "mine"
    shutil.copytree(ROOT / "models" / SHIPPED, own)
    checked = start(place, "check", SACD_STRATEGY__MODEL=str(own))
    assert f"ensemble: {SHIPPED}" in checked.stdout
    assert [path.name for path in (place / "models").iterdir()] == ["mine"]


# ---- the health check ----
def healthcheck(port: int | str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-I", PROGRAMS / "healthcheck"],
        env={"SACD_HTTP__PORT": str(port)},
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_running_daemon_is_healthy_and_answers_to_the_names_it_was_given(place: Path) -> None:
    port = free_port()
    changes = {"SACD_HTTP__HOST": "0.0.0.0", "SACD_HTTP__PORT": str(port), "SACD_HTTP__ALLOWED_HOSTS": '["sacd"]'}  # noqa: S104
    command = [str(place / "lib" / "start"), "run"]
    with Running(place / "config.toml", command=command, **variables(place, **changes)):
        until(lambda: healthcheck(port).returncode == 0, "the daemon is ready")
        told = json.loads(healthcheck(port).stdout)
        answers = {name: status(port, name) for name in (f"sacd:{port}", "sacd", "elsewhere.example")}
    assert told["ready"] is True
    assert answers == {f"sacd:{port}": 200, "sacd": 200, "elsewhere.example": 421}
    assert healthcheck(port).returncode == 1


def status(port: int, host: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics", headers={"Host": host})
    return connection.getresponse().status


def test_what_does_not_answer_is_unhealthy_in_one_line() -> None:
    run = healthcheck(free_port())
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.splitlines() == ["sacd does not answer: [Errno 111] Connection refused"]


# ---- the trainer ----
ID = "00000000000000aa"


class Trainer:
    """The loop in the background, as the service `trainer` runs it, looking ten times a second."""

    def __init__(self, place: Path) -> None:
        self.directory = place / "retrain"
        self.directory.mkdir()
        self._place = place

    def ask(self, request: str = ID) -> None:
        """Ask for something that a trainer cannot do: its symbols are missing."""
        text = json.dumps({"format": 1, "request": request})
        (self.directory / ".new").write_text(text, encoding="utf-8")
        (self.directory / ".new").rename(self.directory / "request.json")

    def begin(self, *, python: str = "") -> None:
        """python: what stands in its place, as a shell script; $4 is the directory."""
        if python:
            program(self._place / "bin" / "python", python)
        self.process = subprocess.Popen(
            [self._place / "lib" / "trainer", self.directory, "0.1"],
            env=variables(self._place),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Return exit code and output, after a signal to the loop alone."""
        if number is not None:
            self.process.send_signal(number)
        told, _ = self.process.communicate(timeout=60)
        return self.process.returncode, told

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def trainer(place: Path) -> Iterator[Trainer]:
    found = Trainer(place)
    yield found
    found.kill()


def until(is_so: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    """Wait for another program, whose clock is real."""
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.1)


def test_every_request_is_answered_by_a_real_trainer(trainer: Trainer) -> None:
    trainer.begin()
    result = trainer.directory / "result.json"
    for request in (ID, "00000000000000bb"):
        trainer.ask(request)
        until(result.exists, f"an answer to {request}")
        told = json.loads(result.read_text(encoding="utf-8"))
        assert (told["request"], told["outcome"]) == (request, "failed")
        assert "keys missing or unknown" in told["reason"]
        result.unlink()
    assert trainer.end(signal.SIGTERM)[0] == 0


def test_without_a_request_it_ends_at_once_when_told_to(trainer: Trainer) -> None:
    trainer.begin()
    with pytest.raises(subprocess.TimeoutExpired):
        trainer.process.wait(timeout=0.5)
    started = time.monotonic()
    assert trainer.end(signal.SIGTERM) == (0, "")
    assert time.monotonic() - started < 5.0


def test_told_to_end_it_passes_that_on_and_waits_for_the_trainer(trainer: Trainer) -> None:
    trainer.ask()
    trainer.begin(
        python="""cd "$4" && mv request.json taken && nice >niceness
        trap 'sleep 1; mv taken request.json; exit 1' TERM
        touch begun
        while :; do sleep 0.1; done"""
    )
    until((trainer.directory / "begun").exists, "a trainer took the request")
    assert trainer.end(signal.SIGTERM)[0] == 0
    assert (trainer.directory / "request.json").exists()
    assert (trainer.directory / "niceness").read_text(encoding="utf-8") == "19\n"


def test_a_trainer_that_cannot_take_its_request_ends_the_loop(trainer: Trainer) -> None:
    trainer.ask()
    trainer.begin(python="echo no room; exit 5")
    request = trainer.directory / "request.json"
    assert trainer.end() == (5, f"no room\ntrainer: it ended with 5 and left {request} where it was\n")


def test_a_failure_does_not_end_the_loop_when_the_next_request_is_there_already(trainer: Trainer) -> None:
    trainer.ask()
    trainer.begin(
        python="""cd "$4" && echo x >>begun && [ "$(wc -l <begun)" -gt 1 ] && exec rm request.json
        cp request.json next && mv next request.json; exit 1"""
    )
    until(lambda: not (trainer.directory / "request.json").exists(), "a second trainer")
    assert trainer.end(signal.SIGTERM) == (0, "")


def test_a_trainer_that_dies_at_work_does_not_end_the_loop(trainer: Trainer) -> None:
    trainer.ask()
    trainer.begin(python="""rm "$4/request.json"; echo x >>"$4/begun"; kill -KILL $$""")
    begun = trainer.directory / "begun"
    until(begun.exists, "a first trainer")
    trainer.ask()
    until(lambda: begun.read_text(encoding="utf-8").count("x") == 2, "a second trainer")
    assert trainer.process.poll() is None


# ---- under the restrictions of the compose file ----
def test_the_daemon_trades_read_only_as_nobody_in_particular_without_any_capability(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("file systems can only be arranged by root")
    inside = f"""
        cd {place}
        export PATH={place}/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={ROOT} SACD_LOG__FORMAT=json
        export SACD_DAEMON__STATE_DIR=/var/lib/sacd/state SACD_STRATEGY__MODEL=/var/lib/sacd/models/current
        export SACD_HTTP__PORT={free_port()}
        lib/start run >/tmp/log 2>&1 &
        tries=0
        until python -I lib/healthcheck >/dev/null 2>&1; do
            tries=$((tries + 1))
            [ $tries -lt 60 ] || {{ cat /tmp/log; exit 1; }}
            sleep 1
        done
        echo ready
        grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs)' /proc/$!/status
        for place in /etc /usr /var/lib/sacd {ROOT} {place}; do
            touch $place/new 2>/dev/null && echo "wrote $place"
        done
        kill -TERM $!
        wait $!
        echo "ended with $?"
    """
    folder = place / "contained"
    folder.mkdir()
    readable = dict.fromkeys(map(str, (ROOT, sys.prefix, sys.base_prefix, place)))
    run = subprocess.run(
        [Path(__file__).parent / "contained", folder, *readable, "--", "sh", "-c", inside],
        check=False,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=240,
    )
    if run.returncode == 77:
        pytest.skip(run.stderr.strip())
    assert run.stdout.splitlines() == [
        "ready",
        "Uid:\t990\t990\t990\t990",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "ended with 0",
    ], run.stderr
    journal = folder / "state" / "paper-simulated.sqlite"
    assert (journal.stat().st_uid, journal.stat().st_mode & 0o077) == (990, 0)
    assert (folder / "models" / "current").readlink() == SHIPPED
