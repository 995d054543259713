import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy import features, observation
from strategy.features import FEATURE_HASH, N_FEATURES
from strategy.observation import (
    N_OBSERVATION,
    OBSERVATION_HASH,
    OBSERVATION_LIMIT,
    OBSERVATION_SCHEMA,
    PORTFOLIO_NAMES,
    observe,
)
from strategy.parameters import RiskLimits
from strategy.portfolio import Portfolio, Position
from tests.fakes.trading import BTC, ETH

LIMITS = RiskLimits(max_position=0.5, max_drawdown=0.15, stop_loss=0.05)
ROW = np.linspace(-1.0, 1.0, N_FEATURES, dtype=np.float32)
FLAT = Portfolio.open(10_000.0, (BTC, ETH))


def holding(position: Position, cash: float = 9_000.0, peak: float = 10_000.0) -> Portfolio:
    """Return an account that holds only this BTC position beside its cash."""
    equity = cash + position.value
    return replace(FLAT, cash=cash, positions={BTC: position, ETH: Position()}, equity=equity, peak=peak)


def seen(portfolio: Portfolio, stop: float | None = None, *, may_buy: bool = True) -> dict[str, float]:
    entries = observe(ROW, portfolio, BTC, stop, LIMITS, may_buy=may_buy)[N_FEATURES:]
    return dict(zip(PORTFOLIO_NAMES, entries.tolist(), strict=True))


def entries(**values: float) -> Any:
    return pytest.approx({name: values.get(name, 0.0) for name in PORTFOLIO_NAMES}, rel=1e-6, abs=1e-7)


def test_the_features_come_first_and_unchanged() -> None:
    found = observe(ROW, FLAT, BTC, None, LIMITS, may_buy=True)
    assert found.dtype == np.float32
    assert found.shape == (N_OBSERVATION,) == (N_FEATURES + 6,)
    assert found[:N_FEATURES].tobytes() == ROW.tobytes()


def test_a_flat_account_shows_only_that_it_may_buy() -> None:
    assert seen(FLAT) == entries(may_buy=1.0)


def test_a_flat_and_halted_account_shows_its_drawdown() -> None:
    # 8,500 of 10,000 is a drawdown of 15 %, the limit; half a day since the last trade is 12 / (12 + 24).
    lost = replace(FLAT, equity=8_500.0, cash=8_500.0, positions={BTC: Position(since_trade=12), ETH: Position()})
    assert seen(lost, may_buy=False) == entries(drawdown=1.0, since_trade=1 / 3, may_buy=0.0)


def test_a_held_position_by_hand() -> None:
    # 10 coins bought at 100, now at 104: 1,040 of a capital of 10,040 / 2 is 20.717 %, of the 50 % allowed 41.434 %.
    # +4 % is 0.8 stop losses, squashed to 0.8 / 1.8.  The stop at 98.8 is 5 % below the mark: one stop loss away.
    position = Position(quantity=10.0, average_entry=100.0, mark=104.0, high=104.0, since_trade=24)
    assert seen(holding(position, peak=10_040.0), 98.8) == entries(
        exposure=0.4143426, unrealised_return=0.4444444, since_trade=0.5, stop_distance=1.0, may_buy=1.0
    )


def test_a_losing_position_by_hand() -> None:
    # Bought at 100, now at 98: 980 of a capital of 4,990.  -2 % is -0.4 stop losses, squashed to -0.4 / 1.4.
    # Equity 9,980 of a peak of 10,000 is 0.2 % of the 15 % allowed.  The stop at 97.02 is 1 % away, 0.2 stop losses.
    position = Position(quantity=10.0, average_entry=100.0, mark=98.0, high=101.0, since_trade=0)
    assert seen(holding(position), 97.02, may_buy=False) == entries(
        exposure=980 / 4_990 / 0.5,
        unrealised_return=-0.4 / 1.4,
        drawdown=0.002 / 0.15,
        stop_distance=0.2,
        may_buy=0.0,
    )


def test_a_mark_below_the_stop_shows_a_negative_distance() -> None:
    position = Position(quantity=10.0, average_entry=100.0, mark=90.0, high=100.0)
    assert seen(holding(position), 93.6)["stop_distance"] == pytest.approx(-0.8, rel=1e-6)  # (1 - 1.04) / 0.05


@pytest.mark.parametrize(
    ("position", "stop", "name", "value"),
    [
        pytest.param(Position(quantity=1_000.0, average_entry=100.0, mark=100.0), 95.0, "exposure", 2.0, id="exposure"),
        pytest.param(Position(quantity=1.0, average_entry=1.0, mark=100.0), 1.0, "stop_distance", 2.0, id="far stop"),
        pytest.param(Position(quantity=1.0, average_entry=9.0, mark=1.0), 9.0, "stop_distance", -2.0, id="passed stop"),
    ],
)
def test_what_could_grow_without_end_is_cut_at_the_limit(
    position: Position, stop: float, name: str, value: float
) -> None:
    assert seen(holding(position), stop)[name] == value


def test_a_ruined_account_is_still_observed() -> None:
    ruined = replace(FLAT, cash=0.0, equity=0.0)
    assert seen(ruined, may_buy=False) == entries(drawdown=2.0)


@given(
    st.floats(0.0, 1e6),
    st.floats(0.0, 1e4),
    st.floats(0.01, 1e5),
    st.floats(0.01, 1e5),
    st.integers(0, 10**6),
)
def test_every_entry_lies_within_the_limit_and_is_the_same_again(
    cash: float, quantity: float, entry: float, mark: float, since: int
) -> None:
    position = Position(quantity=quantity, average_entry=entry, mark=mark, high=mark, since_trade=since)
    portfolio = holding(position, cash, peak=max(cash + quantity * mark, 1.0))
    stop = entry * 0.95 if quantity > 0.0 else None
    found = observe(ROW, portfolio, BTC, stop, LIMITS, may_buy=False)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= OBSERVATION_LIMIT
    assert found.tobytes() == observe(ROW.copy(), replace(portfolio), BTC, stop, LIMITS, may_buy=False).tobytes()


def test_each_symbol_shows_its_own_position() -> None:
    eth = Position(quantity=10.0, average_entry=100.0, mark=100.0, high=100.0)
    account = replace(FLAT, cash=9_000.0, positions={BTC: Position(), ETH: eth})
    assert seen(account)["exposure"] == 0.0
    of_eth = observe(ROW, account, ETH, 95.0, LIMITS, may_buy=True)
    assert of_eth[N_FEATURES] == np.float32(1_000.0 / 5_000.0 / 0.5)


def test_an_observation_is_a_new_array_each_time() -> None:
    first, second = (observe(ROW, FLAT, BTC, None, LIMITS, may_buy=True) for _ in range(2))
    first[:] = math.nan
    assert np.isfinite(second).all()
    assert np.isfinite(ROW).all()


# ---- hash ---------------------------------------------------------------------------------------------------------
def changed_hash(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> str:
    """Return OBSERVATION_HASH as it would be with one text of the module changed."""
    source = Path(observation.__file__).read_text(encoding="utf-8")
    assert old in source
    spec = importlib.util.spec_from_loader("changed_observation", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "changed_observation", module)
    exec(compile(source.replace(old, new), "changed_observation", "exec"), module.__dict__)  # noqa: S102 - our own
    return str(module.OBSERVATION_HASH)


def test_the_same_source_has_the_same_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    assert changed_hash(monkeypatch, "exposure", "exposure") == OBSERVATION_HASH


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('"may_buy")', '"can_buy")', id="a name"),
        pytest.param(', "may_buy")', ")", id="one entry less"),
        pytest.param('"exposure", "unrealised_return"', '"unrealised_return", "exposure"', id="their order"),
    ],
)
def test_the_hash_changes_with(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    assert changed_hash(monkeypatch, old, new) != OBSERVATION_HASH


def test_the_hash_changes_with_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "FEATURE_SCHEMA", {**features.FEATURE_SCHEMA, "version": 99})
    assert changed_hash(monkeypatch, "exposure", "exposure") != OBSERVATION_HASH


def test_the_schema_holds_features_and_portfolio() -> None:
    assert {**features.FEATURE_SCHEMA, "portfolio": list(PORTFOLIO_NAMES)} == OBSERVATION_SCHEMA
    assert OBSERVATION_HASH != FEATURE_HASH
