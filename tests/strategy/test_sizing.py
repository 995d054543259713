import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.parameters import CostModel, StrategyParameters
from strategy.sizing import exposure_cap, pays_for_itself

HOURS_PER_YEAR = 8_760.0


@pytest.mark.parametrize(
    ("target", "volatility", "per_year", "cap"),
    [
        # 0.5 % per candle over 10,000 candles is 0.005 * 100 = 50 % a year.
        pytest.param(0.3, 0.005, 10_000.0, 0.6, id="more than the target"),
        pytest.param(0.5, 0.005, 10_000.0, 1.0, id="at the target"),
        pytest.param(0.3, 0.001, 10_000.0, 3.0, id="calmer than the target"),
        pytest.param(0.3, 0.03, 10_000.0, 0.1, id="ten times the target"),
        pytest.param(0.3, 0.0, 10_000.0, 1.0, id="no movement bounds nothing"),
        pytest.param(0.2, 0.02, 365.0, 0.2 / (0.02 * 19.1049731745428), id="daily candles"),
    ],
)
def test_exposure_is_capped_where_capital_has_the_target_volatility(
    target: float, volatility: float, per_year: float, cap: float
) -> None:
    found = exposure_cap(StrategyParameters(volatility_target=target), volatility, per_year)
    assert found == pytest.approx(cap, rel=1e-12)


@given(st.floats(0.0001, 0.2), st.floats(1.0, 10.0), st.floats(0.01, 10.0))
def test_more_volatility_never_allows_more_exposure(volatility: float, factor: float, target: float) -> None:
    parameters = StrategyParameters(volatility_target=target)
    calm = exposure_cap(parameters, volatility, HOURS_PER_YEAR)
    assert 0.0 < exposure_cap(parameters, volatility * factor, HOURS_PER_YEAR) <= calm


# Volatility 0.1 % over 25 candles is a move of 0.5 %, in proportion to conviction; a round trip costs 0.3 %.
@pytest.mark.parametrize(
    ("multiple", "conviction", "pays"),
    [
        pytest.param(1.0, 1.0, True, id="0.5 % against 0.3 %"),
        pytest.param(1.0, 0.61, True, id="0.305 % against 0.3 %"),
        pytest.param(1.0, 0.59, False, id="0.295 % against 0.3 %"),
        pytest.param(2.0, 1.0, False, id="0.5 % against 0.6 %"),
        pytest.param(1.6, 1.0, True, id="0.5 % against 0.48 %"),
        pytest.param(0.0, 0.0, True, id="switched off"),
        pytest.param(0.01, 0.0, False, id="no conviction"),
    ],
)
def test_a_trade_must_hope_for_more_than_it_costs(multiple: float, conviction: float, pays: bool) -> None:
    parameters = StrategyParameters(edge_multiple=multiple, edge_horizon=25)
    costs = CostModel(fee_rate=0.001, slippage_rate=0.0005)
    assert pays_for_itself(parameters, costs, 0.001, conviction) is pays


@given(st.floats(0.0, 0.1), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_more_conviction_never_makes_a_trade_worse(volatility: float, one: float, other: float) -> None:
    less, more = sorted((one, other))
    parameters, costs = StrategyParameters(), CostModel()
    assert pays_for_itself(parameters, costs, volatility, more) >= pays_for_itself(parameters, costs, volatility, less)


def test_without_costs_every_trade_pays() -> None:
    free = CostModel(fee_rate=0.0, slippage_rate=0.0)
    assert pays_for_itself(StrategyParameters(), free, 1e-9, math.ulp(0.0))
