import pytest

from strategy.features import FEATURE_NAMES, compute
from strategy.trader import Reference
from tests.fakes.trading import HOUR_MS
from tests.training.markets import history
from training.reference import reference_of

ROWS = compute(history(400, seed=3).open_ms, history(400, seed=3).values, HOUR_MS, 48)


def test_the_reference_is_where_the_training_rows_lie() -> None:
    """Second source: sums written out per feature, and the 99.9 % quantile of a sorted list."""
    seen = [list(map(float, row)) for row in ROWS.values[-400:]]
    stored = reference_of([ROWS])
    assert len(stored.mean) == len(FEATURE_NAMES)
    mean = [sum(column) / 400 for column in zip(*seen, strict=True)]
    columns = list(zip(zip(*seen, strict=True), mean, strict=True))
    spread = [(sum((value - m) ** 2 for value in column) / 400) ** 0.5 for column, m in columns]
    assert stored.mean == pytest.approx(mean, abs=1e-9)
    assert stored.std == pytest.approx(spread, abs=1e-9)
    distances = sorted(
        (sum(((v - m) / (s or 1.0)) ** 2 for v, m, s in zip(row, mean, spread, strict=True)) / len(mean)) ** 0.5
        for row in seen
    )
    low = distances[398]  # the 99.9 % of 400 sorted values stand at 398.601
    assert stored.limit == pytest.approx(low + 0.601 * (distances[399] - low))


def test_the_traders_distance_puts_the_training_rows_inside() -> None:
    stored = reference_of([ROWS])
    measure = Reference.of(stored.mean, stored.std, stored.limit)
    distances = [measure.distance(row) for row in ROWS.values[-400:]]
    assert sum(distance > 1.0 for distance in distances) <= 1
    assert max(distances) < 1.2
