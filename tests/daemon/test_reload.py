"""Another configuration while it runs: what may change, that all or nothing is taken, and what then goes by it."""

import asyncio
import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.app_reload import Parts, reload_json
from daemon.config import Config, load_config
from daemon.config_sections import Section
from daemon.errors import FatalError
from daemon.events import ConfigReloaded, ReloadOutcome
from daemon.fold import Fold, Recorded
from daemon.metrics import MetricsSink
from daemon.model_life import Phase
from daemon.ports import Record
from daemon.reload import Reloader, changes, may_change, values
from strategy.trader import Setup, Trader
from tests.daemon.engines import BUY, make_rig
from tests.daemon.live_places import configure_live, make_live_place
from tests.daemon.successions import CASH, House, Shown, Situation, make_situation, open_house
from tests.fakes.clock import ManualClock
from tests.fakes.serving import Place, make_place
from tests.fakes.trading import BTC, HOUR_MS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def config_of(place: Place, **sections: Any) -> Config:
    return load_config(place.configure(**sections), {})


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, Path | None):
        return Path("/x")
    if isinstance(value, dict):
        return {**value, "x": Path("/x")}
    return (*value, "x") if isinstance(value, tuple) else f"{value}x" if isinstance(value, str) else value + 1


def altered(section: Section, path: list[str]) -> Any:
    """A copy of a section with another value at a key, however that value would be judged."""
    name = next(name for name, field in type(section).model_fields.items() if (field.alias or name) == path[0])
    value = getattr(section, name)
    changed = altered(value, path[1:]) if isinstance(value, Section) else other(value)
    return section.model_copy(update={name: changed})


# ---- what differs, and what may ---------------------------------------------------------------------------------
def test_every_key_by_itself_is_found_to_differ_and_no_other_with_it(place: Place) -> None:
    config = config_of(place)
    keys = [key for key, _ in values(config)]
    assert len(keys) == len(set(keys)) > 80
    for key in keys:
        if key == "instruments":
            continue  # a table of sections, below
        assert [change.key for change in changes(config, altered(config, key.split(".")))] == [key]
    steps = {**config.steps, "X/Y": config.steps[BTC]}
    assert [change.key for change in changes(config, config.model_copy(update={"steps": steps}))] == ["instruments"]
    assert changes(config, config_of(place)) == ()


@pytest.mark.parametrize(
    ("key", "may"),
    [
        ("strategy.dead_band", True), ("strategy.model", False), ("risk.max_drawdown", True),
        ("execution.fee_rate", True), ("retrain.cron", True), ("retrain.runner", True), ("log.level", True),
        ("log.format", False), ("journal.keep", True), ("live.max_order_value", True),
        ("live.max_orders_per_minute", True), ("live.allow_unproven", False), ("live.collar", False),
        ("live.external", False), ("daemon.mode", False), ("daemon.instance", False), ("daemon.initial_cash", False),
        ("market.symbols", False), ("market.simulated.seed", False), ("exchange.ccxt", False), ("http.port", False),
        ("control.socket", False), ("instruments", False),
    ],
)  # fmt: skip
def test_what_may_change_is_what_can_between_two_candles(key: str, may: bool) -> None:
    assert may_change(key) is may


def test_what_arming_looked_at_cannot_change_while_it_runs(place: Place) -> None:
    """Keys, whose account it is, whether real money is meant, and the one ensemble that may trade unproved."""
    keys = [key for key, _ in values(config_of(place))]
    fixed = [key for key in keys if key.startswith(("daemon.", "market.", "exchange.", "instruments"))]
    assert not any(may_change(key) for key in [*fixed, "live.allow_unproven", "strategy.model"])


# ---- whole or not at all ----------------------------------------------------------------------------------------
class Asked:
    """A reloader over what a test says the file holds; `told` and `taken` are what came of it."""

    def __init__(self, config: Config) -> None:
        self.said: Config | Exception = config
        self.told: list[ConfigReloaded] = []
        self.taken: list[Config] = []
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.reloader = Reloader(
            config, Path("/etc/sacd/a.toml"), self._read, take=self._take, tell=self.told.append, clock=ManualClock()
        )

    def _read(self) -> Config:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    async def _take(self, config: Config, told: ConfigReloaded) -> None:
        await self.gate.wait()
        if self.fails:
            raise FatalError("the journal cannot be written")
        assert told.digest == config.digest()
        self.taken.append(config)


async def test_a_file_that_changes_what_may_change_is_taken_whole_with_old_and_new_values(place: Place) -> None:
    asked = Asked(config_of(place))
    asked.said = config_of(place, risk={"max_drawdown": 0.1}, log={"level": "error"}, retrain={"every_hours": 0.0})
    event = await asked.reloader.reload("socket")
    assert (event.outcome, event.source, event.is_in_force) == (ReloadOutcome.TAKEN, "socket", True)
    found = {change.key: (change.old, change.new) for change in event.changes}
    assert found == {"risk.max_drawdown": (0.25, 0.1), "log.level": ("info", "error")}
    assert asked.taken == [asked.said] == [asked.reloader.config]
    assert asked.told == [event]
    assert event.digest == asked.said.digest()
    json.dumps(reload_json(event), allow_nan=False)


async def test_a_file_that_says_the_same_changes_nothing(place: Place) -> None:
    config = config_of(place)
    asked = Asked(config)
    asked.said = config_of(place)
    event = await asked.reloader.reload("signal")
    assert (event.outcome, event.changes, event.digest) == (ReloadOutcome.UNCHANGED, (), config.digest())
    assert asked.taken == []


async def test_one_key_that_needs_a_restart_keeps_all_others_from_being_taken_and_every_such_key_is_named(
    place: Place,
) -> None:
    config = config_of(place)
    asked = Asked(config)
    asked.said = config_of(
        place, risk={"max_drawdown": 0.1}, http={"port": 1}, market={"symbols": [BTC], "candles_per_second": 3.0}
    )
    event = await asked.reloader.reload("signal")
    assert event.outcome is ReloadOutcome.NEEDS_RESTART
    assert event.restart == ("market.symbols", "market.candles_per_second", "http.port")
    assert (event.changes, event.digest) == ((), config.digest())
    assert (asked.taken, asked.reloader.config) == ([], config)


@pytest.mark.fault(45)
async def test_an_invalid_file_keeps_the_old_configuration_and_every_mistake_is_told(place: Place) -> None:
    config = config_of(place)
    asked = Asked(config)
    file = place.config
    file.write_text(
        file.read_text("utf-8").replace('"max_drawdown" = 0.25', "max_drawdown = 25\nstop_los = 1"), "utf-8"
    )
    asked._read = lambda: load_config(file, {})  # type: ignore[method-assign]
    asked.reloader._read = asked._read
    event = await asked.reloader.reload("signal")
    assert event.outcome is ReloadOutcome.INVALID
    assert [mistake.split(" = ")[0] for mistake in event.mistakes] == ["risk.max_drawdown", "risk.stop_los"]
    assert (asked.taken, asked.reloader.config, event.digest) == ([], config, config.digest())
    file.unlink()
    event = await asked.reloader.reload("signal")
    assert event.outcome is ReloadOutcome.INVALID
    assert len(event.mistakes) == 1
    assert str(file) in event.mistakes[0]


async def test_the_environment_stands_above_the_file_in_a_reload_too(place: Place) -> None:
    environ = {"SACD_RISK__MAX_DRAWDOWN": "0.2"}
    file = place.config
    asked = Asked(load_config(file, environ))
    config_of(place, risk={"max_drawdown": 0.1})
    asked.reloader._read = lambda: load_config(file, environ)
    assert (await asked.reloader.reload("signal")).outcome is ReloadOutcome.UNCHANGED


async def test_a_configuration_that_cannot_be_written_down_is_not_in_force_and_the_error_goes_on(place: Place) -> None:
    config = config_of(place)
    asked = Asked(config)
    asked.said, asked.fails = config_of(place, risk={"max_drawdown": 0.1}), True
    with pytest.raises(FatalError):
        await asked.reloader.reload("signal")
    assert asked.reloader.config == config
    assert asked.told == []


async def test_two_that_ask_at_once_are_answered_one_after_the_other(place: Place) -> None:
    asked = Asked(config_of(place))
    asked.said = config_of(place, risk={"max_drawdown": 0.1})
    asked.gate.clear()
    first, second = (asyncio.create_task(asked.reloader.reload(source)) for source in ("signal", "socket"))
    await asyncio.sleep(0.05)
    assert not first.done()
    asked.gate.set()
    assert [(await task).outcome for task in (first, second)] == [ReloadOutcome.TAKEN, ReloadOutcome.UNCHANGED]
    assert len(asked.taken) == 1


async def test_a_secret_is_never_told_neither_as_a_value_that_changed_nor_as_a_mistake(place: Place) -> None:
    def read(number: int) -> Config:
        return load_config(place.config, {"SACD_EXCHANGE__CCXT__httpsProxy": f"http://me:cAnArY-{number}@127.0.0.1:1"})

    asked = Asked(read(1))
    asked.said = read(2)
    event = await asked.reloader.reload("signal")
    assert event.restart == ("exchange.ccxt",)
    place.configure(extra='[exchange.ccxt]\npassword = "cAnArY-3"\n')
    asked.reloader._read = lambda: load_config(place.config, {})
    wrong = await asked.reloader.reload("signal")
    assert len(wrong.mistakes) == 1
    assert "cAnArY" not in f"{event!r}{reload_json(event)}{wrong!r}"


# ---- live -------------------------------------------------------------------------------------------------------
async def test_live_the_credentials_of_the_run_go_on_and_caps_may_be_moved_but_not_what_was_armed(
    tmp_path: Path,
) -> None:
    place = make_live_place(tmp_path)
    armed = load_config(place.config, {}).with_credentials({"apiKey": "k", "secret": "s"})
    asked = Asked(armed)
    read = load_config(configure_live(place, live={"max_order_value": 123.0}), {})
    assert read.credentials() == {}
    asked.said = read
    event = await asked.reloader.reload("signal")
    assert [change.key for change in event.changes] == ["live.max_order_value"]
    assert asked.reloader.config.credentials() == {"apiKey": "k", "secret": "s"}
    asked.said = load_config(configure_live(place, live={"max_order_value": 123.0, "allow_unproven": "0" * 16}), {})
    assert (await asked.reloader.reload("signal")).restart == ("live.allow_unproven",)


async def test_live_a_cap_that_is_taken_away_is_a_mistake(tmp_path: Path) -> None:
    place = make_live_place(tmp_path)
    asked = Asked(load_config(place.config, {}))
    configure_live(place, live={"max_order_value": 0.0})
    asked.reloader._read = lambda: load_config(place.config, {})
    event = await asked.reloader.reload("signal")
    assert event.outcome is ReloadOutcome.INVALID
    assert "live.max_order_value" in event.mistakes[0]


# ---- what goes by it --------------------------------------------------------------------------------------------
class Told:
    """Stands for the log and for the upkeep: notes what it was given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def set_level(self, level: str) -> None:
        self.given.append(level)

    def reconfigure(self, section: Any) -> None:
        self.given.append(section)


class Reloaded:
    """A house whose configuration is read anew."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.logs, self.upkeep = Told(), Told()
        self.metrics = MetricsSink(
            symbols=(BTC,), is_live=False, version="", clock=house.clock, slippage_rate=house.setup.costs.slippage_rate
        )
        logs: Any = self.logs
        upkeep: Any = self.upkeep
        self.parts = Parts(
            engine=house.engine, succession=house.succession, upkeep=upkeep, metrics=self.metrics, logs=logs,
            account=None, overrides=None, candle_interval_s=3_600.0, adopt=self._adopt,
        )  # fmt: skip
        self.said = house.config
        self.reloader = Reloader(
            house.config, Path("a.toml"), lambda: self.said, take=self.parts.take, tell=house.publish, clock=house.clock
        )

    def _adopt(self, config: Config) -> None:
        self.house.config = config

    async def take(self, **changes: Mapping[str, Any]) -> ConfigReloaded:
        self.said = self.house.situation.config(**changes)
        event = await self.reloader.reload("signal")
        await self.house.settle()
        return event


@pytest.fixture
def situation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Situation:
    return make_situation(tmp_path, monkeypatch)


async def stand(house: House, candles: int) -> None:
    for _ in range(candles):
        await house.candle()


def pair_of(house: House) -> Any:
    """The two accounts that are compared."""
    trial = house.succession.companion._trial
    assert trial is not None
    return trial.pair


async def rise(house: House, candles: int = 3) -> None:
    for _ in range(candles):
        last = house.memory.last
        await house.candle((next(iter(last.values())).close if last else 100.0) * 1.001)


def runs(house: House) -> list[Mapping[str, Any]]:
    return house.of_kind("run")


async def test_it_is_on_disk_with_old_and_new_values_before_anything_goes_by_it_and_a_checkpoint_follows(
    situation: Situation,
) -> None:
    house = await open_house(situation)
    reloaded = Reloaded(house)
    await rise(house)
    before, batches = house.trader.setup, len(house.journal.batches)
    house.journal.gate.clear()
    taking = asyncio.create_task(reloaded.take(risk={"max_drawdown": 0.11}, execution={"fee_rate": 0.002}))
    await house.clock.settle()
    assert house.trader.setup is before
    assert (reloaded.logs.given, house.config.risk.max_drawdown) == ([], 0.25)
    house.journal.gate.set()
    assert (await taking).outcome is ReloadOutcome.TAKEN
    assert (house.trader.setup.limits.max_drawdown, house.trader.setup.costs.fee_rate) == (0.11, 0.002)
    written, after = house.journal.batches[batches:][:2]
    assert (written[-1], after[-1]) == ("run", "checkpoint")
    run = runs(house)[-1]
    assert run["reload"] == {
        "source": "signal",
        "changes": [
            {"key": "risk.max_drawdown", "old": 0.25, "new": 0.11},
            {"key": "execution.fee_rate", "old": 0.001, "new": 0.002},
        ],
    }
    assert run["config"]["risk"]["max_drawdown"] == 0.11
    assert run["config_digest"] == house.config.digest()
    assert run["setup"]["limits"]["max_drawdown"] == 0.11
    assert run["model"] == runs(house)[0]["model"]
    await rise(house)
    house.check_memory()


async def test_the_record_of_a_reload_names_the_ensemble_that_serves_by_then_and_not_that_of_the_start(
    situation: Situation,
) -> None:
    house = await open_house(situation)
    reloaded, model = Reloaded(house), situation.add(6, BUY)
    await rise(house)
    await house.command("promote", model=model)
    await reloaded.take(risk={"max_drawdown": 0.11})
    assert runs(house)[-1]["model"][:16] == model
    await house.command("rollback")
    assert runs(house)[-1]["config"]["risk"]["max_drawdown"] == 0.11  # a swap after it rests on the new one
    assert "reload" not in runs(house)[-1]
    await rise(house)
    house.check_memory()


async def test_decisions_and_fills_after_it_rest_on_the_new_parameters_and_those_before_it_on_the_old(
    situation: Situation,
) -> None:
    house = await open_house(situation)
    reloaded = Reloaded(house)
    situation.parts[house.found].vote = BUY
    await stand(house, 2)
    await reloaded.take(risk={"max_position": 0.1}, execution={"slippage_rate": 0.01, "fee_rate": 0.0})
    await stand(house, 2)
    first, second = house.of_kind("fill")[:2]
    worse = [fill["price"] / fill["reference_price"] - 1.0 for fill in (first, second)]
    assert worse == pytest.approx([0.0005, -0.01])
    assert first["fee"] > 0.0
    exposures = [payload["target"] for payload in house.of_kind("decision")]
    assert max(exposures[:2]) > 0.2
    assert exposures[-1] == pytest.approx(0.1, abs=0.01)
    assert second["side"] == "sell"  # cut down to the new limit
    assert second["fee"] == 0.0
    house.check_memory()
    again = await house.again()
    assert again.trader.state() == house.trader.state()
    await again.die()


async def test_accounts_in_shadow_go_by_the_new_parameters_too(situation: Situation) -> None:
    house = await open_house(situation)
    reloaded, model = Reloaded(house), situation.add(6, BUY)
    await house.command("shadow", model=model)
    await rise(house, 2)
    await reloaded.take(risk={"max_position": 0.1})
    await rise(house, 3)
    assert pair_of(house).new.portfolio.exposure(BTC) == pytest.approx(0.1, abs=0.02)
    assert house.life.phase is Phase.SHADOW
    house.check_memory()


async def test_a_limit_of_drift_that_is_taken_away_lets_purchases_go_on_and_a_start_knows_what_was_measured(
    situation: Situation,
) -> None:
    house = await open_house(situation, retrain={"drift_limit": 0.15})
    reloaded = Reloaded(house)
    situation.rows.value = 9.0
    await rise(house, 12)
    assert house.trader.risk.is_drifted
    await reloaded.take(retrain={"drift_limit": 0.0, "drift_candles": 30})
    await rise(house, 2)
    assert not house.trader.risk.is_drifted
    # A start begins at the checkpoint that the reload has left, and what it measures by is the new half-life.
    (checkpoint,) = [e for e in house.journal.entries if e.kind == "checkpoint"][-1:]
    companion = house._companion()
    trader = Trader(house.setup, {BTC: Shown(situation.rows)}, CASH)
    fold = Fold(trader, CASH, companion)
    fold.restore(checkpoint.payload)
    run = house.journal.entries[checkpoint.payload["run"] - 1].payload
    fold.begin(run, None)
    for entry in house.journal.entries[checkpoint.seq :]:
        assert fold.apply(entry, Recorded(tuple(run["weights"]))) == []
    assert companion.state()["drift"] == house.succession.companion.state()["drift"]
    assert trader.state() == house.trader.state()


async def test_a_schedule_begins_changes_and_ends_with_the_configuration(situation: Situation) -> None:
    house = await open_house(situation)
    reloaded = Reloaded(house)
    assert house.next_retrain[-1] is None
    await reloaded.take(retrain={"every_hours": 100.0})
    assert house.next_retrain[-1] == house.situation.at * HOUR_MS + 100 * HOUR_MS
    await reloaded.take(retrain={"every_hours": 50.0})
    assert house.next_retrain[-1] == house.situation.at * HOUR_MS + 50 * HOUR_MS
    house.clock.step_wall(50 * 3_600.0)
    house.succession.publish(house.events(object)[-1])
    house.succession._retraining.rearm()
    await house.settle(1.0)
    assert [step for step in house.steps if step == "requested"] == ["requested"]
    await reloaded.take(retrain={"every_hours": 0.0})
    assert house.next_retrain[-1] is None


async def test_metrics_log_and_copies_follow(situation: Situation) -> None:
    house = await open_house(situation)
    reloaded = Reloaded(house)
    await reloaded.take(
        risk={"max_drawdown": 0.11}, retrain={"drift_limit": 0.2}, log={"level": "error"}, journal={"keep": 3},
        execution={"slippage_rate": 0.003},
    )  # fmt: skip
    shown = reloaded.metrics.render().decode()
    assert 'sacd_limit_ratio{limit="max_drawdown"} 0.11' in shown
    assert 'sacd_limit_ratio{limit="drift"} 0.2' in shown
    assert reloaded.metrics._orders.slippage_rate == 0.003
    assert reloaded.logs.given == ["error"]
    assert [section.keep for section in reloaded.upkeep.given] == [3]


async def test_checkpoints_come_as_often_as_the_new_configuration_says(situation: Situation) -> None:
    house = await open_house(situation)
    reloaded = Reloaded(house)
    await reloaded.take(journal={"checkpoint_every": 2})
    await rise(house, 5)
    seqs = [entry.payload["memory"]["decisions"] for entry in house.journal.entries if entry.kind == "checkpoint"]
    assert seqs == [0, 2, 4]


async def test_a_shorter_patience_with_a_silent_feed_holds_within_seconds() -> None:
    rig = make_rig(is_live=True, stale_feed_s=3_600.0)
    await rig.candle()
    watching = asyncio.create_task(rig.engine.watch())
    await rig.clock.advance(60.0)
    assert not rig.engine.trader.risk.is_stale
    limits = replace(rig.setup.limits, stale_feed_s=30.0)
    await rig.engine.reconfigure(
        lambda setup: replace(setup, limits=limits),
        rig_record,
        {},
        checkpoint_every=100,
        follow=lambda: None,
    )
    await rig.clock.advance(10.0)
    assert rig.engine.trader.risk.is_stale
    watching.cancel()


def rig_record(_setup: Setup) -> Record:
    return Record(kind="run", payload={})


# ---- the document -----------------------------------------------------------------------------------------------
def documented() -> dict[str, tuple[str, str]]:
    """Return default and mark of every key in docs/configure.md."""
    found, section = dict[str, tuple[str, str]](), ""
    for line in (ROOT / "docs" / "configure.md").read_text("utf-8").splitlines():
        if line.startswith("### ["):
            section = line.removeprefix("### [").removesuffix("]")
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if section and cells and cells[0].startswith("`"):
            key = section if section == "instruments" else f"{section}.{cells[0].strip('`')}"
            assert key not in found
            found[key] = (cells[1].strip("`"), cells[-1])
    return found


def test_the_document_has_every_key_once_with_its_default_and_whether_it_may_change() -> None:
    config = Config.model_validate({}, context=Path("/"))
    known = dict(values(config))
    table = documented()
    assert set(table) == set(known)
    assert {key: mark for key, (_, mark) in table.items()} == {
        key: "**yes**" if may_change(key) else "*restart*" for key in known
    }
    for key, (default, _) in table.items():
        if key != "instruments":
            value = tomllib.loads(f"x = {default}")["x"]
            expected = "" if known[key] is None else known[key]
            assert value == (expected if not isinstance(expected, str) else expected.removeprefix("/")), key
