"""The findings: what the figures show is said, and nothing that they do not show."""

from dataclasses import replace
from typing import Any

import pytest

from tests.training.evaluations import DAY_MS, START_MS, sample
from training.evaluation import Evaluation, Range, Refit
from training.report_words import Side, findings, refutations, span_words

SAMPLE = sample(days=1_461, symbols=("BTC/USDT", "LTC/USDT"))


def said(evaluation: Evaluation) -> dict[str, Side]:
    return {finding.text: finding.side for finding in findings(evaluation)}


def side_of(evaluation: Evaluation, *words: str) -> Side:
    (side,) = [side for text, side in said(evaluation).items() if all(word in text for word in words)]
    return side


def with_sharpe(low: float | None, high: float | None) -> Evaluation:
    bounds = Range(value=0.5, low=low, high=high)
    return replace(SAMPLE, bootstrap=replace(SAMPLE.bootstrap, sharpe=bounds))


def with_metrics(**changes: Any) -> Evaluation:
    return replace(SAMPLE, metrics=replace(SAMPLE.metrics, **changes))


@pytest.mark.parametrize(
    ("low", "high", "words", "side"),
    [
        (-0.4, 1.9, "from \u22120.40 to 1.90: it contains 0, so chance alone can explain it", Side.AGAINST),
        (0.1, 1.9, "from 0.10 to 1.90: all of it above 0, before the number of trials is counted", Side.FOR),
        (-1.9, -0.1, "all of it below 0; it loses more than chance explains", Side.AGAINST),
        (None, None, "has no interval: nothing tells it from chance", Side.AGAINST),
        (0.0, 1.0, "it contains 0", Side.AGAINST),
    ],
)
def test_the_interval_of_the_sharpe_ratio(low: float | None, high: float | None, words: str, side: Side) -> None:
    assert side_of(with_sharpe(low, high), words) is side


@pytest.mark.parametrize(
    ("unseen_from_ms", "words", "side"),
    [
        (START_MS, "None of the candles from 2019-01-01 to 2022-12-31 was used", Side.FOR),
        (START_MS + 365 * DAY_MS, "Candles before 2020-01-01, 25\u00a0% of the span, were used", Side.AGAINST),
        (START_MS + 1_461 * DAY_MS, "All candles, up to 2022-12-31, were used to make it", Side.AGAINST),
    ],
)
def test_seen_candles_are_no_evidence(unseen_from_ms: int, words: str, side: Side) -> None:
    assert side_of(replace(SAMPLE, unseen_from_ms=unseen_from_ms), words) is side


def test_a_symbol_it_was_never_trained_on_is_named() -> None:
    assert side_of(SAMPLE, "never trained on LTC/USDT") is Side.NOTE
    assert not [text for text in said(replace(SAMPLE, symbols_seen=SAMPLE.symbols)) if "never trained" in text]


@pytest.mark.parametrize(("value", "side"), [(0.96, Side.FOR), (0.949, Side.AGAINST), (None, Side.AGAINST)])
def test_the_number_of_trials_is_always_told(value: float | None, side: Side) -> None:
    deflated = replace(SAMPLE.deflated, value=value)
    assert side_of(replace(SAMPLE, deflated=deflated), "214 trials", "ledger") is side


@pytest.mark.parametrize(("needed", "side"), [(1_461.0, Side.FOR), (1_462.0, Side.AGAINST)])
def test_a_span_shorter_than_the_record_needed_is_too_short(needed: float, side: Side) -> None:
    deflated = replace(SAMPLE.deflated, days_needed=needed)
    assert side_of(replace(SAMPLE, deflated=deflated), "To tell such a Sharpe ratio from 0") is side


def test_baselines_are_grouped_by_what_the_intervals_say() -> None:
    assert side_of(SAMPLE, "is above that of buy and hold by more than chance explains") is Side.FOR
    assert (
        side_of(SAMPLE, "cannot be told from volatility-targeted hold, moving-average cross, momentum and trend rule")
        is Side.AGAINST
    )
    differences = {"momentum": Range(value=-1.0, low=-1.5, high=-0.2)}
    worse = replace(SAMPLE, bootstrap=replace(SAMPLE.bootstrap, differences=differences))
    assert side_of(worse, "is below that of momentum by more than chance explains") is Side.AGAINST


@pytest.mark.parametrize("rival", ["volatility-targeted hold", "trend rule"])
@pytest.mark.parametrize(("sharpe", "side"), [(9.0, Side.FOR), (-9.0, Side.AGAINST)])
def test_the_rivals_that_matter_are_named_whether_beaten_or_not(rival: str, sharpe: float, side: Side) -> None:
    words = f"above that of the {rival}" if side is Side.FOR else f"did not beat the {rival}"
    assert side_of(with_metrics(sharpe=sharpe), words) is side


@pytest.mark.parametrize(("earned", "side"), [(50.0, Side.FOR), (-0.9, Side.AGAINST)])
def test_the_return_stands_beside_that_of_buying_and_holding(earned: float, side: Side) -> None:
    assert side_of(with_metrics(total_return=earned), "It earned", "buying and holding") is side


@pytest.mark.parametrize(("percentile", "side", "words"), [
    (0.952, Side.FOR, "4.8\u00a0% did better"), (0.94, Side.AGAINST, "6.0\u00a0% did better: its timing may be luck"),
    (None, Side.NOTE, "cannot be held against random entries"),
])  # fmt: skip
def test_random_entries(percentile: float | None, side: Side, words: str) -> None:
    assert side_of(replace(SAMPLE, random=replace(SAMPLE.random, percentile=percentile)), words) is side


@pytest.mark.parametrize(
    ("changes", "words", "side"),
    [
        ({"round_trips": 0}, "No position was closed", Side.AGAINST),
        ({"round_trips": 1}, "Only 1 closed position: too few", Side.AGAINST),
        ({"round_trips": 29}, "Only 29 closed positions", Side.AGAINST),
        ({}, "43.8\u00a0% to 62.7\u00a0%: a coin would do as well", Side.NOTE),
        ({"win_rate_low": 0.51}, "55 of 103 closed positions won", Side.FOR),
        ({"win_rate_high": 0.49}, "55 of 103 closed positions won", Side.NOTE),
    ],
)
def test_trades(changes: dict[str, Any], words: str, side: Side) -> None:
    assert side_of(with_metrics(**changes), words) is side


def test_lost_years_are_named_with_their_loss() -> None:
    earned = (0.1, -0.12, 0.2, -0.05)
    years = tuple(replace(year, total_return=one) for year, one in zip(SAMPLE.years, earned, strict=True))
    words = "It lost in 2020 (\u221212.0\u00a0%) and 2022 (\u22125.0\u00a0%)"
    assert side_of(replace(SAMPLE, years=years), words) is Side.AGAINST
    good = tuple(replace(year, total_return=0.1, sharpe=5.0, hold_sharpe=1.0) for year in SAMPLE.years)
    assert side_of(replace(SAMPLE, years=good), "It earned in each of 4 calendar years") is Side.FOR
    assert not [text for text in said(replace(SAMPLE, years=good)) if "buying and holding was better" in text]


def test_costs_that_eat_the_profit_speak_against_it() -> None:
    stress = tuple(replace(one, metrics=replace(one.metrics, total_return=-0.01)) for one in SAMPLE.stress)
    assert side_of(replace(SAMPLE, stress=stress), "At twice the costs it earns \u22121.0\u00a0%") is Side.AGAINST
    assert side_of(replace(SAMPLE, stress=stress), "Acting 1 candle late it earns \u22121.0\u00a0%") is Side.AGAINST
    assert side_of(SAMPLE, "where costs are 5.3\u00d7 those assumed") is Side.NOTE


def test_the_worst_seed_is_named() -> None:
    sharpes = (0.4, -0.2, 1.1, 0.9, 0.5)
    pairs = zip(SAMPLE.members, sharpes, strict=True)
    members = tuple(replace(member, metrics=replace(member.metrics, sharpe=one)) for member, one in pairs)
    words = "the worst of 5 members (seed 2) has a Sharpe ratio of \u22120.20, the best 1.10"
    assert side_of(replace(SAMPLE, members=members), words) is Side.AGAINST


@pytest.mark.parametrize(("overfitting", "side"), [(0.19, Side.FOR), (0.41, Side.NOTE), (0.51, Side.AGAINST)])
def test_overfitting(overfitting: float, side: Side) -> None:
    refit = Refit(kind="combinatorial", folds=(), sharpes=(), overfitting=overfitting)
    best, *others = SAMPLE.members
    picked = replace(SAMPLE, members=(replace(best, weight=0.6), *others), refits=(refit,))
    assert side_of(picked, "probability of overfitting") is side
    assert side_of(picked, "says nothing of how the settings were chosen") is side


@pytest.mark.parametrize("overfitting", [0.0, 0.19, 0.41, 0.51, 1.0])
@pytest.mark.parametrize("members", [1, 5])
def test_overfitting_says_nothing_where_no_seed_is_picked(overfitting: float, members: int) -> None:
    refit = Refit(kind="combinatorial", folds=(), sharpes=(), overfitting=overfitting)
    equal = replace(SAMPLE, members=SAMPLE.members[:members], refits=(refit,))
    assert side_of(equal, "probability of overfitting", "the members weigh the same") is Side.NOTE


def test_what_would_refute_it_comes_from_its_own_figures() -> None:
    found = refutations(SAMPLE)
    assert found[0].startswith("a fall of more than 43.0\u00a0% from a peak")
    assert "1,182 days" in found[1]
    assert "volatility-targeted hold and trend rule" in found[2]


def test_the_span_in_one_line() -> None:
    expected = "BTC/USDT and LTC/USDT, candles of 1h, 2019-01-01 to 2022-12-31: 1,461 days (4.0 years)"
    assert span_words(SAMPLE) == expected
