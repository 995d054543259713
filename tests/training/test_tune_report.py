"""The page of a search, and the numbers in it."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import numpy as np
import optuna
import pytest

from training import tune_study
from training.charts import Axis
from training.folds import Fold
from training.plan import MemberPlan
from training.tune import Result
from training.tune_report import Best, Context, chance_best, page
from training.tune_space import make_search

DAY_MS = 86_400_000
SEARCH = make_search(MemberPlan(seed=0, steps=100), [], [])
CONTEXT = Context(
    files=[("<b>btcusdt-1h.csv", "ab" * 32)],
    symbols=["BTC/USDT"],
    folds=[
        Fold(
            index=k,
            practice_to_ms=(99 + 10 * k) * DAY_MS,
            from_ms=(100 + 10 * k) * DAY_MS,
            to_ms=(110 + 10 * k) * DAY_MS,
        )
        for k in range(2)
    ],
    search=SEARCH,
    base=SEARCH.base,
    begin_ms=0,
    trials=30,
    checks=10,
)


def study_of(scores: Sequence[float | str]) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))
    for score in scores:
        trial = study.ask(fixed_distributions=SEARCH.distributions)
        if isinstance(score, str):
            tune_study.condemn(study, trial, score)
        else:
            trial.set_user_attr("folds", [score - 1.0, score + 1.0])
            tune_study.finish(study, trial, score)
    return study


def page_of(scores: Sequence[float | str]) -> str:
    study = study_of(scores)
    result = Result(standings=tuple(tune_study.standings(study)), importances=tune_study.importances(study))
    best = result.best
    told = None
    if best is not None:
        told = Best(
            study="s",
            trials=result.ended,
            number=best.number,
            score=best.score or 0.0,
            folds=list(best.folds),
            settings=SEARCH.values(best.chosen),
            set=[],
            command="sacd train --out 'a b'",
        )
    return page(CONTEXT, result, told)


SCORES = [0.1 * k for k in range(12)] + ["diverged <at step 3>"]


def test_the_page_is_well_formed_and_fetches_and_runs_nothing() -> None:
    text = page_of(SCORES)
    body = re.sub(r"<(meta[^>]*)>", r"<\1/>", text.removeprefix("<!doctype html>\n"))
    assert ET.fromstring(body).tag == "html"  # noqa: S314 - our own page
    assert "<script" not in text
    assert "http" not in text
    assert "url(" not in text
    assert len(text) < 200_000


def test_every_trial_stands_in_the_table_and_in_the_history() -> None:
    text = page_of(SCORES)
    for number, score in enumerate(SCORES, 1):
        told = f"{score:.3f}" if isinstance(score, float) else "no score: diverged &lt;at step 3&gt;"
        assert f"<td>{number}</td><td>{told}</td>" in text
        assert f"<title>trial {number}: {told}</title>" in text
    assert text.count('class="unusable"') == 1


def test_the_page_says_in_words_that_the_best_of_many_is_no_evidence() -> None:
    text = page_of(SCORES)
    assert "The best of 13 trials is not evidence" in text
    assert "13 of 30 trials have ended: 12 were scored on every fold, 0 were given up early, 1 have no score." in text
    assert "up to 10 looks" in text
    assert "No candle from 1970-05-01 on was used." in text  # day 120
    assert "sacd train --out &#x27;a b&#x27;" in text
    assert "&lt;b&gt;btcusdt" in text


def test_a_search_without_any_score_still_has_a_page_with_the_reasons() -> None:
    text = page_of(["diverged", "diverged"])
    assert "No trial has a score yet." in text
    assert text.count("no score: diverged") == 2


def test_few_trials_are_drawn_without_importances() -> None:
    assert "Too few finished trials to tell." in page_of([1.0])


def test_the_best_of_chance_is_what_drawing_normals_gives() -> None:
    rng = np.random.default_rng(3)
    for count in (10, 50, 200):
        scores = rng.normal(size=count)
        scores = (scores - scores.mean()) / scores.std(ddof=1) * 0.5 + 1.0
        drawn = 1.0 + 0.5 * rng.normal(size=(20_000, count)).max(axis=1).mean()
        assert chance_best(list(scores)) == pytest.approx(drawn, abs=0.03)
    assert chance_best([1.0, 2.0, 3.0, 4.0]) is None


def test_axes_place_values_and_choose_round_ticks() -> None:
    plain = Axis(low=0.0, high=10.0, begin=100.0, end=200.0)
    assert (plain.at(0.0), plain.at(5.0), plain.at(10.0)) == (100.0, 150.0, 200.0)
    assert plain.ticks() == [0.0, 5.0, 10.0]
    log = Axis(low=1e-5, high=1e-3, begin=0.0, end=1.0, is_log=True)
    assert log.at(1e-4) == pytest.approx(0.5)
    assert log.ticks() == pytest.approx([1e-5, 1e-4, 1e-3])
    assert Axis(low=2.0, high=2.0, begin=0.0, end=10.0).at(2.0) == 5.0
