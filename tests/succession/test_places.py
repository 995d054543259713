"""A planted place is one that a daemon trades in: its configuration holds, and its first decision is the first due."""

from pathlib import Path

from daemon import journal_reader
from daemon.config import load_config
from strategy.parameters import RiskLimits
from tests.daemon.programs import Running
from tests.fakes.serving import SYMBOLS
from tests.succession.places import RETRAIN, make_planted
from tests.succession.planted import HOUR_MS, STRATEGY, Kind


def test_the_daemon_trades_under_what_the_ensembles_were_made_for(tmp_path: Path) -> None:
    planted = make_planted(tmp_path, before=10, after=10)
    config = load_config(planted.place.config, {})
    assert config.strategy_parameters() == STRATEGY
    assert config.retrain.shadow_decisions == RETRAIN["shadow_decisions"]
    planted.configure(risk={"max_drawdown": 0.2}, retrain={"shadow_least": 7})
    changed = load_config(planted.place.config, {})
    assert changed.risk_limits().max_drawdown == 0.2
    assert changed.risk_limits().out_of_distribution > RiskLimits().out_of_distribution
    assert (changed.retrain.shadow_least, changed.retrain.watch_decisions) == (7, RETRAIN["watch_decisions"])


def test_the_registry_serves_the_incumbent_and_takes_others(tmp_path: Path) -> None:
    planted = make_planted(tmp_path, before=10, after=10, incumbent=Kind.FOLLOWS)
    name = planted.add(Kind.OPPOSES)
    assert planted.current != name
    assert {planted.current, name, "current"} == {path.name for path in planted.registry.iterdir()}


def test_a_daemon_decides_on_every_candle_from_the_start_through_the_flip(tmp_path: Path) -> None:
    planted = make_planted(tmp_path, before=30, after=10)
    with Running(planted.place.config) as running:
        code, error = running.end()
    assert (code, error) == (0, "")
    decisions = list(journal_reader.read(planted.place.journal(), kinds={"decision"}))
    assert len(decisions) == 40 * len(SYMBOLS)
    assert {entry.payload["model"] for entry in decisions} == {planted.current}
    assert all(entry.payload["votes"] is not None for entry in decisions)
    assert planted.flip_ms == planted.start_ms + 30 * HOUR_MS
