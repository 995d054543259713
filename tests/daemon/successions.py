"""An account whose ensembles come and go: real bundles in a real registry, all else on fakes; time stands still.

What each ensemble votes a test says from candle to candle, by the ensemble's id. Threads are played at once, and a
trainer is started by name only, so that a look goes through to its end while no time passes.
"""

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon import succession, succession_retrain
from daemon.broker_paper import PaperBroker
from daemon.companion import Bounds, Companion
from daemon.config import Config, load_config
from daemon.contenders import Contenders
from daemon.engine import Engine, Model
from daemon.errors import ArtifactError
from daemon.fold import Fold, Memory, Recorded
from daemon.model_life import Life
from daemon.models import set_current
from daemon.ports import CandleGroup
from daemon.registry_links import serving_names
from daemon.retrain_child import Ended
from daemon.retrain_files import REQUEST, RESULT, RetrainRefused
from daemon.run_record import run_record
from daemon.serving import model_of, reference_of
from daemon.succession import Succession
from strategy.candle import Candle
from strategy.errors import StrategyError
from strategy.features import N_FEATURES, FeatureRow
from strategy.regime import Regime, Trend, Volatility
from strategy.shadow import Contender
from strategy.trader import Setup, Trader, Votes
from tests.daemon.engines import HOLD, START, SlowJournal
from tests.fakes.clock import ManualClock
from tests.fakes.serving import Place, make_place, write_bundle
from tests.fakes.trading import BTC, HOUR_MS

CASH = 100_000.0
Vote = tuple[float, float, float]
RETRAIN: Mapping[str, Any] = {
    "shadow_decisions": 10,
    "shadow_least": 2,
    "shadow_alpha": 0.4,
    "watch_decisions": 4,
    "regret_limit": 0.03,
    "regret_alpha": 0.01,
    "drift_limit": 0.0,
    "drift_candles": 10,
    "retry_hours": 6.0,
}
"""So short that a handful of candles decide."""


# ---- who votes --------------------------------------------------------------------------------------------------
class Part:
    """Three members of one mind, told what to vote; `fault` makes them fail as an ensemble does."""

    def __init__(self, vote: Vote = HOLD) -> None:
        self.vote = vote
        self.fault = ""
        self.weights: NDArray[np.float64] = np.full(3, 1.0 / 3.0)

    def act(self, observations: NDArray[np.float32]) -> Votes:
        if self.fault:
            raise StrategyError(self.fault)
        return np.tile(np.array(self.vote, np.float32), (len(observations), 3, 1))


class Played(Contenders):
    """The ensembles of a registry, read and verified as ever, that vote as their parts say."""

    def __init__(self, model: Path, served: Any, parts: Mapping[str, Part]) -> None:
        super().__init__(model, "1h", served)
        self._parts = parts

    def find(self, short_id: str) -> Contender:
        bundle = self.bundle(short_id)
        return Contender(id=short_id, voters=self._parts[short_id], reference=reference_of(bundle))

    def model(self, short_id: str) -> Model:
        return replace(model_of(self.bundle(short_id)), voters=self._parts[short_id])


@dataclass
class Rows:
    """What every feature shows, in training spreads. seen: by open time, so that a candle shows the same again."""

    value: float = 1.0
    seen: dict[int, float] = field(default_factory=dict)


class Shown:
    """A feature window that is always full; all features of its row have the same value."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def push(self, candle: Candle) -> None:
        """Nothing is remembered."""

    def update(self, candle: Candle) -> FeatureRow | None:
        row = np.full(N_FEATURES, self._rows.seen.setdefault(candle.open_ms, self._rows.value), np.float32)
        return FeatureRow(row, 0.02, 0.01, Regime(Trend.FLAT, Volatility.NORMAL))


# ---- who trains -------------------------------------------------------------------------------------------------
class Trainer:
    """Stands for `TrainerChild`: notes that it was started, and ends when a test says so."""

    def __init__(self, seconds: float, refusal: str) -> None:
        self.seconds = seconds
        self.is_stopped = False
        self._refusal = refusal
        self._end: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        if self._refusal:
            raise RetrainRefused(self._refusal)

    async def wait(self) -> Ended:
        return await asyncio.shield(self._end)

    async def stop(self) -> Ended:
        self.is_stopped = True
        return await self.end("ended with the daemon", is_failure=False)

    async def end(self, reason: str, *, is_failure: bool = True) -> Ended:
        """Let its process end."""
        if not self._end.done():
            self._end.set_result(Ended(reason=reason, is_failure=is_failure))
        return await self.wait()


# ---- the account ------------------------------------------------------------------------------------------------
@dataclass
class Situation:
    """What stays over a restart: the disk, the time, the market, and what ensembles vote."""

    place: Place
    clock: ManualClock
    parts: dict[str, Part]
    trainers: list[Trainer] = field(default_factory=list)
    refusal: str = ""
    """Why no trainer can be started, "" while one can."""
    rows: Rows = field(default_factory=Rows)
    at: int = START
    ids: Any = field(default_factory=lambda: map("{:016x}".format, itertools.count(1)))

    @property
    def registry(self) -> Path:
        return self.place.root / "models"

    def add(self, seed: int, vote: Vote = HOLD) -> str:
        """Put another ensemble into the registry; returns its id."""
        name = write_bundle(self.registry, seed=seed).name
        self.parts[name] = Part(vote)
        return name

    def config(self, **changes: Mapping[str, Any]) -> Config:
        usual = {
            "strategy": {"model": str(self.registry / "current")},
            "retrain": RETRAIN,
            "market": {"symbols": [BTC]},
        }
        merged = {name: {**usual.get(name, {}), **changes.get(name, {})} for name in (*usual, *changes)}
        return load_config(self.place.configure(**merged), {})


class House:
    """One run of the account: engine, companion and succession, from the journal's end on."""

    def __init__(self, situation: Situation, config: Config, journal: SlowJournal) -> None:
        self.situation, self.config, self.journal = situation, config, journal
        self.clock = situation.clock
        self.told: list[Any] = []
        self.next_retrain: list[int | None] = []
        self.contenders = self._contenders()
        companion = self._companion()
        self.trader, self.memory = self.folded(companion)
        self.succession = Succession(
            config,
            self.clock,
            companion,
            self.contenders,
            environ={},
            make_id=lambda: next(situation.ids),
            tell_next=self.next_retrain.append,
        )
        self.engine = self._engine(companion)
        self.tasks: Sequence[asyncio.Task[None]] = ()

    # ---- parts --------------------------------------------------------------------------------------------------
    def _contenders(self) -> Played:
        model = self.config.strategy.model
        name = model.readlink().name if model.is_symlink() else model.name
        served = Contenders(model, "1h", _NO_BUNDLE).bundle(name)
        return Played(model, served, self.situation.parts)

    def _companion(self) -> Companion:
        retrain = self.config.retrain
        bounds = Bounds(
            regret=retrain.regret_limit, drift_limit=retrain.drift_limit, drift_half_life=retrain.drift_candles
        )
        return Companion(self.setup, CASH, bounds, self.contenders.find)

    @property
    def setup(self) -> Setup:
        config = self.config
        return Setup(
            instance=config.daemon.instance,
            timeframe=config.timeframe,
            instruments=config.instruments() or _steps(self.situation),
            strategy=config.strategy_parameters(),
            limits=config.risk_limits(),
            costs=config.cost_model(),
        )

    @property
    def found(self) -> str:
        """Short id of what the registry's link leads to."""
        return serving_names(self.situation.registry)[0]

    def folded(self, companion: Companion | None) -> tuple[Trader, Memory]:
        """Return what recovery makes of the journal, and bring `companion` there."""
        features = {symbol: Shown(self.situation.rows) for symbol in self.setup.instruments}
        trader = Trader(self.setup, features, CASH)
        fold, voters = Fold(trader, CASH, companion), Recorded(())
        for entry in self.journal.entries:
            if entry.kind == "run":
                fold.begin(entry.payload, None)
                voters = Recorded(tuple(entry.payload["weights"]))
            assert fold.apply(entry, voters) == []
        fold.finish()
        return trader, fold.memory

    def _engine(self, companion: Companion) -> Engine:
        trader = self.trader
        trader.begin(self.setup, reference_of(self.contenders.bundle(self.found)))
        broker = PaperBroker(
            instruments=trader.setup.instruments,
            costs=trader.setup.costs,
            funds=lambda: trader.portfolio.cash,
            held=lambda symbol: trader.portfolio.positions[symbol].quantity,
            is_live=False,
            last=self.memory.last.values(),
        )
        return Engine(
            trader=trader,
            memory=self.memory,
            model=self.contenders.model(self.found),
            broker=broker,
            journal=self.journal,
            clock=self.clock,
            sinks=[self, self.succession],
            cash=CASH,
            checkpoint_every=1_000,
            companion=companion,
        )

    def publish(self, event: Any) -> None:
        self.told.append(event)

    # ---- a run --------------------------------------------------------------------------------------------------
    async def begin(self, *, looks: bool = True) -> None:
        """Begin as the app does. looks: whether the succession begins to look after the ensembles at once."""
        bundle = self.contenders.bundle(self.found)
        await self.engine.start(lambda setup: run_record(self.config, setup, bundle))
        await self.engine.resubmit([status.order for status in self.memory.orders.values()])
        await self.succession.begin(self.engine, self.found, START * HOUR_MS)
        if looks:
            self.look_after()
            await self.settle()

    def look_after(self) -> None:
        self.tasks = self.succession.tasks()

    async def settle(self, seconds: float = 0.0) -> None:
        """Let all that can happen do so within so much time; raises what a task failed with."""
        await self.clock.advance(seconds)
        for _ in range(5):
            await self.clock.settle()
        for task in self.tasks:
            if task.done():
                task.result()

    async def candle(self, close: float = 100.0) -> None:
        """Let the next hour close at a price, and the succession see it."""
        self.situation.at += 1
        at_ms = self.situation.at * HOUR_MS
        self.clock.step_wall((at_ms + HOUR_MS - self.clock.now_ms()) / 1_000 + 1.0)
        values = {"open": close, "high": close, "low": close, "close": close, "volume": 1e9}
        candles = tuple(
            Candle(symbol=symbol, open_ms=at_ms, span_ms=HOUR_MS, **values) for symbol in self.setup.instruments
        )

        async def one() -> Any:
            yield CandleGroup(candles=candles)

        await self.engine.run(one())
        await self.settle(1.0)

    async def command(self, verb: str, **args: Any) -> str:
        effect = await self.succession.command(verb, args)
        await self.settle()
        return effect

    async def die(self) -> None:
        """End at this moment, as a kill would: nothing more is written."""
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)

    async def again(self, config: Config | None = None, *, looks: bool = True) -> "House":
        """Start anew after `die`, from what stands in the journal."""
        await self.die()
        house = House(self.situation, config or self.config, self.journal)
        await house.begin(looks=looks)
        return house

    # ---- what can be seen ---------------------------------------------------------------------------------------
    @property
    def life(self) -> Life:
        return self.succession.companion.life

    @property
    def steps(self) -> list[str]:
        """Steps in the life of the ensembles, in the order of the journal."""
        return [entry.payload["step"] for entry in self.journal.entries if entry.kind == "model"]

    def last(self, step: str) -> Mapping[str, Any]:
        """Payload of the last step of that kind."""
        found = [e.payload for e in self.journal.entries if e.kind == "model" and e.payload["step"] == step]
        return found[-1]

    def of_kind(self, kind: str) -> list[Any]:
        return [entry.payload for entry in self.journal.entries if entry.kind == kind]

    def events(self, kind: type) -> list[Any]:
        return [event for event in self.told if isinstance(event, kind)]

    def check_memory(self) -> None:
        """What stands in the journal, folded again, is what is in memory: nothing else may be known."""
        companion = self._companion()
        trader, memory = self.folded(companion)
        assert trader.state() == self.trader.state()
        assert memory.last == self.memory.last
        assert companion.state() == self.succession.companion.state()
        # What was said of the last candle is written with what comes next.
        waiting = [record for record in self.engine._ledger.waiting if record.kind in {"shadow", "drift"}]
        assert json.dumps([asdict(r) for r in companion.take()]) == json.dumps([asdict(r) for r in waiting])

    # ---- the trainer --------------------------------------------------------------------------------------------
    @property
    def directory(self) -> Path:
        return self.config.daemon.state_dir / "retrain"

    def request(self) -> dict[str, Any]:
        """What stands in request.json."""
        values: dict[str, Any] = json.loads((self.directory / "request.json").read_text("utf-8"))
        return values

    def answer(self, outcome: str = "candidate", candidate: str = "", **changes: Any) -> Path:
        """Leave the answer of a trainer, which has taken the newest request."""
        (self.directory / REQUEST).unlink(missing_ok=True)
        retrain = self.life.retrain
        values: dict[str, Any] = {
            "format": 1,
            "request": "f" * 16 if retrain is None else retrain.request,
            "outcome": outcome,
            "candidate": candidate,
            "reason": "in words",
            "report": report(),
        }
        path = self.directory / RESULT
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(json.dumps(values | changes), "utf-8")
        return path


class _NoBundle:
    class manifest:  # noqa: N801 - stands for an attribute
        short_id = ""


_NO_BUNDLE: Any = _NoBundle


def _steps(situation: Situation) -> Mapping[str, Any]:
    return load_config(situation.place.configure(name="steps.toml", market={"symbols": [BTC]}), {}).instruments()


def report(spread: float = 0.005, **changes: Any) -> dict[str, Any]:
    """What a trainer tells of a candidate."""
    values: dict[str, Any] = {
        "data": {
            "symbols": [BTC], "start_ms": 0, "end_ms": 9, "holdout_from_ms": 5,
            "files": [{"name": "btc.csv", "sha256": "0" * 64}], "days_unseen": 90.0,
        },
        "gate": [{"name": "growth", "value": 1.0, "threshold": 0.0, "passed": True, "words": "grows more"}],
        "difference": {"mean_bp": 1.0, "spread": spread, "per": "decision", "count": 90},
        "trials": 3, "seconds": 60.0, "members": 3,
    }  # fmt: skip
    return values | changes


def make_situation(root: Path, monkeypatch: pytest.MonkeyPatch) -> Situation:
    """A registry of one ensemble, which serves; threads and trainers are played from here on."""
    monkeypatch.setattr(asyncio, "to_thread", _at_once)
    place = make_place(root)
    situation = Situation(place=place, clock=ManualClock(START * HOUR_MS), parts={place.model.name: Part()})
    set_current(situation.registry, place.model.name)

    def start(_directory: Path, _clock: Any, _environ: Any, *, seconds: float, memory_mib: int) -> Trainer:
        assert memory_mib == 4_096
        situation.trainers.append(Trainer(seconds, situation.refusal))
        return situation.trainers[-1]

    monkeypatch.setattr(succession_retrain, "TrainerChild", start)
    return situation


async def _at_once(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    await asyncio.sleep(0)
    done = work(*args, **kwargs)
    await asyncio.sleep(0)
    return done


async def open_house(situation: Situation, *, looks: bool = True, **changes: Mapping[str, Any]) -> House:
    """The first run of an account. changes: to sections of the configuration."""
    house = House(situation, situation.config(**changes), SlowJournal(situation.clock))
    await house.begin(looks=looks)
    return house


def breaking(monkeypatch: pytest.MonkeyPatch, reason: str) -> Callable[[], None]:
    """Let no link be changed from here on; returns what mends that."""

    def fail(registry: Path, name: str) -> None:
        raise ArtifactError(f"registry {registry}: {reason}")

    monkeypatch.setattr(succession, "set_current", fail)
    return lambda: monkeypatch.setattr(succession, "set_current", set_current)


def as_live(config: Config, allowed: str = "") -> Config:
    """The same configuration, as one that trades real money. allowed: [live] allow_unproven."""
    return config.model_copy(
        update={
            "daemon": config.daemon.model_copy(update={"mode": "live"}),
            "live": config.live.model_copy(update={"allow_unproven": allowed}),
        }
    )
