"""A Ray cluster of two workers on this machine, started once for all of these tests."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training import tasks
from tests.training.command_line import Run
from tests.training.markets import write_table
from tests.training.runs import ROOT, SHORT, TABLE, id_of
from tests.training.tasks import task
from training import workers_ray
from training.errors import TrainingError
from training.workers import End, Outcome, Task
from training.workers_ray import RayPool

_RAY = "import sys; from ray.scripts.scripts import main; sys.argv[0] = 'ray'; main()"
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1", "PYTHONPATH": str(ROOT)}


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Return the address of a cluster that ends with these tests, and of which nothing is left."""
    port, place = free_port(), tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's sockets need short paths
    options = ["--num-cpus", "2", "--port", str(port), "--node-ip-address", "127.0.0.1", "--temp-dir", place]
    options += ["--include-dashboard=false", "--object-store-memory", "200000000", "--disable-usage-stats"]
    head = subprocess.Popen(
        [sys.executable, "-c", _RAY, "start", "--head", "--block", *options],
        env={**os.environ, **_QUIET},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until_s = time.monotonic() + 90
        while not answers(port):
            assert head.poll() is None, "the cluster did not start"
            assert time.monotonic() < until_s, "the cluster did not answer"
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        try:
            head.wait(30)
        finally:
            os.killpg(head.pid, signal.SIGKILL) if head.poll() is None else None
            shutil.rmtree(place, ignore_errors=True)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def ran(address: str, *work: Task, shared: Any = None) -> tuple[dict[int, Outcome], list[tuple[int, Any]]]:
    told: list[tuple[int, Any]] = []
    outcomes = RayPool(address).run(work, shared, lambda *word: told.append(word))
    return {outcome.index: outcome for outcome in outcomes}, told


def test_tasks_end_on_the_cluster_as_they_do_here(cluster: str, tmp_path: Path) -> None:
    (tmp_path / "count" / "deep").mkdir(parents=True)
    (tmp_path / "count" / "count").write_text("4")
    (tmp_path / "count" / "deep" / "kept").write_bytes(b"\0kept")
    outcomes, told = ran(
        cluster,
        task(tasks.echo, tmp_path / "echo", "mine"),
        task(tasks.refuse, tmp_path / "refuse"),
        task(tasks.blunder, tmp_path / "blunder"),
        task(tasks.die, tmp_path / "die", signal.SIGKILL),
        task(tasks.count_up, tmp_path / "count"),
        task(tasks.about_the_process, tmp_path / "process"),
        shared="all",
    )
    assert outcomes[0].value == {"shared": "all", "argument": "mine"}
    assert (0, 2) in told
    assert (outcomes[1].end, outcomes[1].reason) == (End.FAILED, "the candles are sour: give others")
    assert (outcomes[2].end, outcomes[2].reason.partition(" (")[0]) == (
        End.FAILED,
        "ZeroDivisionError: nobody foresaw this",
    )
    assert "in blunder" in (tmp_path / "blunder" / "error.txt").read_text()
    assert outcomes[3].end is End.DIED
    assert outcomes[3].reason.startswith("its worker died: WorkerCrashedError: ")
    # Its folder went there and came back.
    assert outcomes[4].value == 5
    assert (tmp_path / "count" / "count").read_text() == "5"
    assert (tmp_path / "count" / "deep" / "kept").read_bytes() == b"\0kept"
    process = outcomes[5].value
    assert process["pid"] != os.getpid()
    assert (process["priority"], set(process["threads"].values())) == (19, {"1"})
    assert (tmp_path / "process" / "made").exists()


def test_stopping_brings_back_what_was_saved_and_the_rest_never_begin(cluster: str, tmp_path: Path) -> None:
    pool, begun = RayPool(cluster), set()

    def tell(index: int, _: Any) -> None:
        begun.add(index)
        if len(begun) == 2:
            pool.stop()

    work = [task(tasks.until_stopped, tmp_path / str(index)) for index in range(3)]
    outcomes = {outcome.index: outcome for outcome in pool.run(work, None, tell)}
    assert {outcome.end for outcome in outcomes.values()} == {End.STOPPED}
    [waiting] = {0, 1, 2} - begun
    assert outcomes[waiting].reason == "it had not begun"
    assert [(tmp_path / str(index) / "saved").exists() for index in range(3)] == [index in begun for index in range(3)]


def test_an_ensemble_trained_on_the_cluster_is_the_one_trained_here(cluster: str, tmp_path: Path, run: Run) -> None:
    data = write_table(TABLE, tmp_path)
    for name, place in (("here", ["--workers", "1"]), ("there", ["--ray", cluster])):
        code, _, err = run("train", "--data", data, "--out", tmp_path / name, *SHORT, *place)
        assert code == 0, err
    assert id_of(tmp_path / "there") == id_of(tmp_path / "here")
    kept = {path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.safetensors")}
    assert kept == {path.relative_to(tmp_path / "there") for path in (tmp_path / "there").rglob("*.safetensors")}


def test_machines_with_other_versions_refuse_and_say_which(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = workers_ray.library_versions()
    monkeypatch.setattr(workers_ray, "library_versions", lambda: {**honest, "torch": "1.0"})
    outcomes, _ = ran(cluster, task(tasks.echo, tmp_path / "a"))
    assert outcomes[0].end is End.FAILED
    assert f"torch {honest['torch']} instead of 1.0: install the same on every machine" in outcomes[0].reason


# ---- without a cluster ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("address", ["nowhere", ":6379", "host:", "host:port", "auto", "ray://host"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(TrainingError, match=r"give host:port of the cluster's head, such as 10\.0\.0\.5:6379"):
        RayPool(address)


def test_an_address_where_nothing_answers_is_refused_within_seconds() -> None:
    start_s = time.monotonic()
    with pytest.raises(TrainingError, match=r"nothing answers there .*: start the cluster or correct it"):
        RayPool(f"127.0.0.1:{free_port()}")
    assert time.monotonic() - start_s < 15.0


def test_a_server_that_is_no_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_ray, "_ANSWERED_WITHIN_S", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TrainingError, match="something answers there that is no Ray cluster of this version"):
            RayPool(address)


def test_files_that_lead_out_of_their_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"a file called '\.\./evil', which does not lie in its folder"):
        workers_ray._fill(tmp_path / "folder", {"../evil": b"x"})
    assert not (tmp_path / "evil").exists()
