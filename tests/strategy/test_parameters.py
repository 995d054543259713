import json
import math
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.errors import InvalidParameters
from strategy.parameters import SHIPPED_LIMITS, SHIPPED_STRATEGY, CostModel, RiskLimits, StrategyParameters

Kind = type[CostModel] | type[StrategyParameters] | type[RiskLimits]

# Ranges as the documents state them: (record, field, smallest, largest).
RANGES: list[tuple[Kind, str, float, float]] = [
    (CostModel, "fee_rate", 0.0, 0.1),
    (CostModel, "slippage_rate", 0.0, 0.1),
    (CostModel, "participation", 1e-6, 1.0),
    (StrategyParameters, "dead_band", 0.0, 0.5),
    (StrategyParameters, "edge_multiple", 0.0, 100.0),
    (StrategyParameters, "edge_horizon", 1, 10_000),
    (StrategyParameters, "disagreement_limit", 0.0, 1.0),
    (StrategyParameters, "volatility_target", 0.01, 10.0),
    (StrategyParameters, "max_missing", 0, 100_000),
    (StrategyParameters, "decide_every", 1, 10_000),
    (StrategyParameters, "decide_offset", 0, 9_999),
    (RiskLimits, "max_position", 0.001, 1.0),
    (RiskLimits, "max_drawdown", 0.001, 0.99),
    (RiskLimits, "stop_loss", 0.001, 0.99),
    (RiskLimits, "stop_atr_multiple", 0.0, 100.0),
    (RiskLimits, "stop_cooldown", 0, 100_000),
    (RiskLimits, "daily_loss", 0.001, 0.99),
    (RiskLimits, "max_orders_per_day", 1, 100_000),
    (RiskLimits, "max_turnover_per_day", 0.01, 10_000.0),
    (RiskLimits, "loss_streak", 1, 10_000),
    (RiskLimits, "loss_streak_cooldown", 0, 100_000),
    (RiskLimits, "halt_cooldown", 0, 1_000_000),
    (RiskLimits, "out_of_distribution", 0.1, 1e6),
    (RiskLimits, "stale_feed_s", 1.0, 86_400.0),
    (RiskLimits, "clock_skew_s", 0.1, 3_600.0),
]
IDS = [f"{kind.__name__}.{name}" for kind, name, _, _ in RANGES]


def test_every_parameter_has_a_range() -> None:
    known = [(kind, field.name) for kind in (CostModel, StrategyParameters, RiskLimits) for field in fields(kind)]
    assert sorted(map(str, known)) == sorted(str((kind, name)) for kind, name, _, _ in RANGES)


@pytest.mark.parametrize(("kind", "name", "low", "high"), RANGES, ids=IDS)
def test_both_ends_of_a_range_are_allowed(kind: Kind, name: str, low: float, high: float) -> None:
    assert getattr(kind(**{name: low}), name) == low
    assert getattr(kind(**{name: high}), name) == high


@pytest.mark.parametrize(("kind", "name", "low", "high"), RANGES, ids=IDS)
def test_what_lies_outside_a_range_is_refused_with_name_value_and_range(
    kind: Kind, name: str, low: float, high: float
) -> None:
    is_whole = isinstance(low, int)
    below = low - 1 if is_whole else math.nextafter(low, -math.inf)
    above = high + 1 if is_whole else math.nextafter(high, math.inf)
    for value in (below, above):
        with pytest.raises(InvalidParameters) as refused:
            kind(**{name: value})
        assert str(refused.value) == f"{name} {value} is outside {low} .. {high}"


@pytest.mark.parametrize(("kind", "name", "low", "high"), RANGES, ids=IDS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.1", None, True, [1]], ids=repr)
def test_what_is_no_number_is_refused(kind: Kind, name: str, low: float, high: float, value: Any) -> None:
    with pytest.raises(InvalidParameters, match=rf"^{name} .*{low} \.\. {high}$".replace("+", r"\+")):
        kind(**{name: value})


@pytest.mark.parametrize(
    ("kind", "name", "low", "high"),
    [row for row in RANGES if isinstance(row[2], int)],
    ids=[name for name, row in zip(IDS, RANGES, strict=True) if isinstance(row[2], int)],
)
def test_what_is_counted_must_be_whole(kind: Kind, name: str, low: int, high: int) -> None:
    with pytest.raises(InvalidParameters) as refused:
        kind(**{name: low + 1.5})
    assert str(refused.value) == f"{name} {low + 1.5} is not a whole number; it must lie within {low} .. {high}"


@pytest.mark.parametrize("record", [CostModel(), StrategyParameters(), RiskLimits()], ids=lambda r: type(r).__name__)
def test_a_record_survives_json(record: CostModel | StrategyParameters | RiskLimits) -> None:
    assert type(record).from_json(json.loads(json.dumps(record.to_json()))) == record


@given(st.floats(0.0, 0.1), st.floats(0.0, 0.1), st.floats(1e-6, 1.0))
def test_json_keeps_every_bit(fee: float, slippage: float, participation: float) -> None:
    record = CostModel(fee_rate=fee, slippage_rate=slippage, participation=participation)
    stored = json.loads(json.dumps(record.to_json()))
    assert CostModel.from_json(stored).to_json() == {
        "fee_rate": fee,
        "slippage_rate": slippage,
        "participation": participation,
    }


def test_unknown_and_missing_keys_are_all_named() -> None:
    with pytest.raises(InvalidParameters) as refused:
        CostModel.from_json({"fee_rate": 0.001, "spread": 0.1, "slippage_rate": 0.0})
    assert str(refused.value) == "CostModel: unknown or missing keys: participation, spread"


@pytest.mark.parametrize("value", ["0.001", None, {}, 7.0, math.nan], ids=repr)
def test_a_stored_value_that_is_wrong_is_refused(value: Any) -> None:
    with pytest.raises(InvalidParameters, match=r"^fee_rate .* 0\.0 \.\. 0\.1$"):
        CostModel.from_json({"fee_rate": value, "slippage_rate": 0.0, "participation": 0.1})


def test_a_round_trip_costs_fee_and_slippage_twice() -> None:
    assert CostModel(fee_rate=0.001, slippage_rate=0.0005).round_trip_rate == 0.003


def test_the_defaults_are_the_documented_ones() -> None:
    assert (CostModel().fee_rate, CostModel().slippage_rate) == (0.001, 0.0005)
    limits = RiskLimits()
    assert (limits.max_drawdown, limits.max_position, limits.stop_loss) == (0.15, 0.5, 0.05)


# ---- when a decision falls due ----------------------------------------------------------------------------------
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("every", "offset", "hours"),
    [(24, 0, [0]), (24, 6, [6]), (12, 5, [5, 17]), (8, 0, [0, 8, 16]), (1, 0, list(range(24))), (12, 17, [5, 17])],
)
def test_hourly_decisions_fall_on_the_same_hours_of_every_day(every: int, offset: int, hours: list[int]) -> None:
    rule = StrategyParameters(decide_every=every, decide_offset=offset)
    for day in (datetime(2017, 12, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC)):
        closes = [int(day.timestamp()) * 1_000 + hour * HOUR_MS for hour in range(24)]
        assert [hour for hour, close in enumerate(closes) if rule.is_due(close, HOUR_MS)] == hours


def test_candles_of_another_length_count_by_their_own_number() -> None:
    minutes = StrategyParameters(decide_every=4)  # of 15-minute candles: every hour
    quarter_ms = 900_000
    due = [
        n
        for n in range(1, 13)
        if minutes.is_due(1_700_000_100_000 // quarter_ms * quarter_ms + n * quarter_ms, quarter_ms)
    ]
    first = 1_700_000_100_000 // quarter_ms
    assert due == [n for n in range(1, 13) if (first + n) % 4 == 0]
    assert len(due) == 3


@given(st.integers(1, 10_000), st.integers(0, 9_999), st.integers(0, 2**32))
def test_one_of_so_many_candles_in_a_row_has_the_decision(every: int, offset: int, first: int) -> None:
    rule = StrategyParameters(decide_every=every, decide_offset=offset)
    due = [n for n in range(first, first + every) if rule.is_due(n * HOUR_MS, HOUR_MS)]
    assert len(due) == 1
    assert rule.is_due((due[0] + every) * HOUR_MS, HOUR_MS)


def test_the_shipped_ensemble_decides_once_a_day_under_far_stops() -> None:
    changed = {
        name: value
        for name, value in SHIPPED_STRATEGY.to_json().items()
        if value != getattr(StrategyParameters(), name)
    }
    assert changed == {"decide_every": 24, "volatility_target": 0.25, "dead_band": 0.05, "edge_multiple": 0.0}
    changed = {name: value for name, value in SHIPPED_LIMITS.to_json().items() if value != getattr(RiskLimits(), name)}
    assert changed == {"stop_loss": 0.2, "stop_atr_multiple": 40.0, "stop_cooldown": 72}
