"""A search whose workers are tasks of a Ray cluster."""

from pathlib import Path

from tests.training.test_workers_ray import cluster  # noqa: F401 - a fixture
from tests.training.tune_objectives import Hill, Inline, job
from training.tune import tune
from training.workers_ray import RayPool


def test_a_cluster_finds_what_this_machine_finds(cluster: str, tmp_path: Path) -> None:  # noqa: F811
    here = tune(job(tmp_path / "here", trials=6), {}, Inline, 1)
    (tmp_path / "there").mkdir()
    shared = f"journal:{tmp_path / 'journal.log'}"
    asked = job(tmp_path / "there", Hill(), trials=6, storage=shared, is_remote=True)
    there = tune(asked, {}, lambda: RayPool(cluster), 1)
    assert [(dict(s.chosen), s.score) for s in there.standings] == [(dict(s.chosen), s.score) for s in here.standings]
    assert list((tmp_path / "there").rglob("trial-*")) == []
