"""The engine and the ensembles: one transaction for a swap, the order of records, and when drift begins to count."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from daemon.companion import Bounds, Companion
from daemon.engine import Model
from daemon.errors import ArtifactError, FatalError
from daemon.events import Decided, DriftMarked, Filled, ModelStep, ShadowMarked
from daemon.fold import Fold, Recorded
from daemon.model_life import Cause, Phase, of_kept, of_pinned, of_serving, of_shadow
from daemon.ports import NewSteps, Record
from strategy.errors import StrategyError
from strategy.features import N_FEATURES
from strategy.shadow import Contender
from strategy.trader import Reference, Setup, Trader
from tests.daemon.engines import BUY, HOLD, LiveRig, Rig, Voice, make_live_rig, make_rig
from tests.daemon.successions import Part, Rows, Shown
from tests.fakes.trading import BTC, ETH

OLD, NEW = "m" * 16, "b" * 16
PLAN = {"scale": 0.005, "horizon": 10, "least": 2, "alpha": 0.4}
REFERENCE = Reference.of([0.0] * N_FEATURES, [1.0] * N_FEATURES, 100.0)
FAR = 10.0


class Accompanied:
    """A rig with a companion. parts: who votes in shadow."""

    def __init__(
        self,
        symbols: tuple[str, ...] = (BTC,),
        *,
        drift_limit: float = 0.0,
        is_live: bool = False,
        rows: Rows | None = None,
    ) -> None:
        """rows: what features show."""
        make: Callable[..., Any] = make_live_rig if is_live else make_rig
        self.rig: Rig | LiveRig = make(symbols, out_of_distribution=1e6)
        self.rows = Rows() if rows is None else rows
        self.parts = {OLD: Part(HOLD), NEW: Part(BUY)}
        self.bounds = Bounds(regret=0.03, drift_limit=drift_limit, drift_half_life=10)
        self.companion = self.make_companion()
        engine = self.rig.engine
        engine.trader.features = self.features()
        engine._companion = self.companion

    def features(self) -> dict[str, Any]:
        return {symbol: Shown(self.rows) for symbol in self.rig.setup.instruments}

    def make_companion(self) -> Companion:
        return Companion(self.rig.setup, 10_000.0, self.bounds, self.find)

    def find(self, short_id: str) -> Contender:
        if short_id not in self.parts:
            raise ArtifactError(f"bundle {short_id}: it is gone")
        return Contender(id=short_id, voters=self.parts[short_id], reference=REFERENCE)

    async def start(self) -> None:
        await self.rig.engine.start(self.rig.run_record)
        found = of_serving(OLD, "", Cause.FOUND, 1, detail="the first run", test=None)
        await self.rig.engine.note([found])

    async def shadow(self) -> None:
        await self.rig.engine.note([of_shadow(NEW, OLD, 2, request="", test=PLAN)])

    async def serve(self, voters: Any, *, plan: Any = PLAN) -> Record:
        """Let another ensemble serve; returns its step."""
        step = of_serving(NEW, OLD, Cause.HAND, 3, detail="asked for by hand", test=plan)
        model = Model(id=NEW, voters=voters, members=3, seen_until_ms=77)
        await self.rig.engine.serve(model, REFERENCE, self.run_record, step)
        return step

    def run_record(self, setup: Setup) -> Record:
        record = self.rig.run_record(setup)
        return replace(record, payload={**record.payload, "model": NEW * 4, "weights": [1.0]})

    @property
    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.rig.journal.entries]

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.rig.told if isinstance(event, kind)]

    def check_memory(self) -> None:
        """What is in the journal, folded again with its votes, is what trader and companion know."""
        trader, companion = Trader(self.rig.setup, self.features(), 10_000.0), self.make_companion()
        fold, voters = Fold(trader, 10_000.0, companion), Recorded(())
        for entry in self.rig.journal.entries:
            if entry.kind == "run":
                fold.begin(entry.payload, None)
                voters = Recorded(tuple(entry.payload["weights"]))
            assert fold.apply(entry, voters) == []
        fold.finish()
        left = [record.kind for record in companion.take()]
        assert left == [record.kind for record in self.rig.engine._ledger.waiting if record.kind in {"shadow", "drift"}]
        if not left:
            assert trader.state() == self.rig.engine.trader.state()
        assert companion.state() == self.companion.state()


async def made(symbols: tuple[str, ...] = (BTC,), **changes: Any) -> Accompanied:
    house = Accompanied(symbols, **changes)
    await house.start()
    return house


# ---- steps ------------------------------------------------------------------------------------------------------
async def test_steps_are_written_all_or_none_and_heard_of_once_they_are_on_disk() -> None:
    house = await made()
    await house.shadow()
    dropped, pinned = of_kept(NEW, 3, reason="x", figures={}), of_pinned(4, is_pinned=True, source="hand")
    house.rig.journal.gate.clear()
    house.rig.journal.is_asked.clear()
    noting = asyncio.create_task(house.rig.engine.note([dropped, pinned]))
    await house.rig.journal.is_asked.wait()
    await house.rig.clock.settle()
    assert house.companion.life.phase is Phase.SHADOW
    assert len(house.told(ModelStep)) == 2
    house.rig.journal.gate.set()
    await noting
    assert house.rig.journal.batches[-1] == ["model", "model"]
    assert (house.companion.life.phase, house.companion.life.is_pinned) == (Phase.STEADY, True)
    told = house.told(ModelStep)
    assert [event.payload["step"] for event in told] == ["serving", "shadow", "kept", "pinned"]
    assert [event.life.is_pinned for event in told] == [False, False, False, True]  # each after its own step
    house.check_memory()


async def test_a_step_that_cannot_be_written_did_not_happen() -> None:
    house = await made()
    house.rig.journal.failure = "no space left"
    with pytest.raises(FatalError, match="no space left"):
        await house.shadow()
    assert house.companion.life.phase is Phase.STEADY
    assert len(house.told(ModelStep)) == 1


async def test_what_waits_to_be_written_stands_before_the_step_that_follows_from_it() -> None:
    house = await made()
    await house.shadow()
    await house.rig.candle()
    assert "shadow" not in house.kinds
    await house.rig.engine.note([of_kept(NEW, 3, reason="x", figures={})])
    assert house.rig.journal.batches[-1] == ["shadow", "model"]
    house.check_memory()


# ---- another ensemble -------------------------------------------------------------------------------------------
async def test_step_and_run_record_of_another_ensemble_are_one_transaction_and_later_decisions_are_its_own() -> None:
    house = await made()
    house.rig.voice.say(HOLD)
    await house.rig.candle()
    step = await house.serve(Voice(BUY))
    assert house.rig.journal.batches[-1] == ["model", "run"]
    await house.rig.candle()
    decided = [(entry.seq, entry.payload) for entry in house.rig.journal.entries if entry.kind == "decision"]
    runs = [entry.seq for entry in house.rig.journal.entries if entry.kind == "run"]
    assert [(seq > runs[1], payload["model"], payload["action"]) for seq, payload in decided] == [
        (False, OLD, "hold"),
        (True, NEW, "buy"),
    ]
    (told,) = [event for event in house.told(ModelStep) if event.payload == step.payload]
    assert (told.members, told.seen_until_ms, told.life.serving) == (3, 77, NEW)
    assert [event.model_id for event in house.told(Decided)] == [OLD, NEW]
    house.check_memory()


async def test_decisions_rest_on_the_training_of_the_one_that_serves() -> None:
    house = await made()
    await house.rig.candle()
    near = Reference.of([0.5] * N_FEATURES, [1.0] * N_FEATURES, 1.0)
    step = of_serving(NEW, OLD, Cause.HAND, 3, detail="", test=None)
    await house.rig.engine.serve(Model(id=NEW, voters=Voice(HOLD)), near, house.run_record, step)
    await house.rig.candle()
    distances = [payload["distance"] for payload in house.rig.of_kind("decision")]
    assert distances == [0.0, pytest.approx(0.5)]  # the rig has no reference; then half a spread from the mean


async def test_a_swap_that_cannot_be_written_leaves_the_one_that_serves() -> None:
    house = await made()
    house.rig.journal.failure = "no space left"
    with pytest.raises(FatalError, match="no space left"):
        await house.serve(Voice(BUY))
    assert house.rig.engine.model.id == OLD
    assert house.rig.engine.trader.reference is None
    assert house.companion.life.serving == OLD


async def test_a_swap_waits_until_the_candle_under_way_has_gone_all_the_way_through() -> None:
    house = await made()
    house.rig.voice.say(BUY)
    house.rig.journal.gate.clear()
    house.rig.journal.is_asked.clear()
    deciding = asyncio.create_task(house.rig.candle())
    await house.rig.journal.is_asked.wait()
    swapping = asyncio.create_task(house.serve(Voice(HOLD)))
    await house.rig.clock.settle()
    assert house.rig.engine.model.id == OLD
    house.rig.journal.gate.set()
    await asyncio.gather(deciding, swapping)
    assert [kind for kind in house.kinds if kind != "order"][-4:] == ["candle", "decision", "model", "run"]
    (asked,) = house.rig.broker.asked
    assert asked[0] == "submit"
    assert house.rig.engine.model.id == NEW
    house.check_memory()


async def test_the_checkpoint_after_a_swap_goes_by_the_new_run() -> None:
    house = await made()
    await house.serve(Voice(BUY))
    await house.rig.engine.stop("test")
    (checkpoint,) = house.rig.of_kind("checkpoint")
    runs = [entry.seq for entry in house.rig.journal.entries if entry.kind == "run"]
    assert checkpoint["run"] == runs[-1]
    assert checkpoint["companion"]["life"]["serving"] == NEW


async def test_new_steps_of_a_venue_after_a_swap_are_noted_under_the_ensemble_that_serves() -> None:
    house = Accompanied(is_live=True)
    await house.start()
    await house.serve(Voice(HOLD))
    steps = {BTC: replace(house.rig.setup.instruments[BTC], lot=0.01)}
    assert isinstance(house.rig, LiveRig)
    await house.rig.tell(NewSteps(instruments=steps))
    runs = house.rig.of_kind("run")
    assert [run["model"] for run in runs] == [OLD, NEW * 4, NEW * 4]
    assert runs[-1]["setup"]["instruments"][0]["lot"] == 0.01


# ---- what accompanies -------------------------------------------------------------------------------------------
async def test_a_comparison_is_made_after_the_orders_have_left_and_told_at_once() -> None:
    house = await made((BTC, ETH))
    await house.shadow()
    house.rig.voice.say(BUY)
    seen = list[int]()
    asked = house.rig.broker.asked
    on_candles = house.companion.on_candles

    def watched(group: Any, outcomes: Any) -> None:
        seen.append(len(asked))
        on_candles(group, outcomes)

    house.companion.on_candles = watched  # type: ignore[method-assign]
    await house.rig.candle()
    assert seen == [2]
    assert len(house.told(ShadowMarked)) == 1
    await house.rig.candle()
    assert [payload["open_ms"] for payload in house.rig.of_kind("shadow")] == [
        house.told(ShadowMarked)[0].payload["open_ms"]
    ]
    del house.companion.on_candles  # type: ignore[method-assign]
    house.check_memory()


async def test_drift_that_crosses_its_limit_forbids_purchases_from_the_next_decision_on_and_not_before() -> None:
    house = await made(drift_limit=0.3)
    house.rig.voice.say(BUY)
    house.rows.value = FAR
    while not house.companion.is_drifted:
        await house.rig.candle()
    crossed = len(house.rig.of_kind("decision"))
    assert crossed == len(house.told(DriftMarked))
    assert [event.is_beyond for event in house.told(DriftMarked)] == [False] * (crossed - 1) + [True]
    assert house.rig.engine.trader.risk.is_drifted
    await house.rig.engine.command("flatten", "test")
    await house.rig.engine.command("resume", "test")
    await house.rig.candle()
    decisions = house.rig.of_kind("decision")
    assert [payload["reason"] for payload in decisions[:1]] == ["voted"]
    assert decisions[-1]["reason"] == "drift"
    at = house.kinds.index("drift")
    assert house.kinds[:at].count("decision") == crossed
    house.check_memory()


async def test_a_market_that_is_back_may_be_bought_from_the_next_decision_on() -> None:
    house = await made(drift_limit=0.3)
    house.rows.value = FAR
    while not house.companion.is_drifted:
        await house.rig.candle()
    house.rig.voice.say(BUY)
    house.rows.value = 1.0
    while house.companion.is_drifted:
        await house.rig.candle()
    assert {payload["reason"] for payload in house.rig.of_kind("decision")[-2:]} == {"drift"}
    await house.rig.candle()
    assert house.rig.of_kind("decision")[-1]["reason"] == "voted"
    assert [payload["is_beyond"] for payload in house.rig.of_kind("drift")] == [True, False]
    await house.rig.candle()
    assert house.told(Filled)
    house.check_memory()


async def test_what_a_kill_kept_from_the_journal_is_written_when_the_next_run_begins() -> None:
    house = await made(drift_limit=0.3)
    await house.shadow()
    house.rows.value = FAR
    while not house.companion.is_drifted:
        await house.rig.candle()
    assert house.kinds[-1] == "decision"  # drift and comparison wait, and are lost now
    again = Accompanied(drift_limit=0.3, rows=house.rows)
    fold = Fold(again.rig.engine.trader, 10_000.0, again.companion)
    for entry in house.rig.journal.entries:
        if entry.kind == "run":
            fold.begin(entry.payload, None)
        fold.apply(entry, Recorded((1.0,)))
    assert not again.rig.engine.trader.risk.is_drifted
    await again.rig.engine.start(again.rig.run_record)
    assert again.kinds == ["drift", "shadow", "run"]
    assert again.rig.engine.trader.risk.is_drifted
    assert again.companion.state() == house.companion.state()
    assert len(again.told(ShadowMarked)) == 1


async def test_candles_of_the_past_reach_the_accounts_in_shadow() -> None:
    house = await made()
    await house.shadow()
    await house.rig.candle()
    await house.rig.candle(110.0, is_backfill=True)
    await house.rig.candle(110.0)
    marks = house.told(ShadowMarked)
    assert len(marks) == 2
    assert marks[-1].payload["count"] == 1
    await house.rig.engine.note([])
    house.check_memory()


# ---- votes that are none ----------------------------------------------------------------------------------------
class Failing:
    """Voters that fail as an ensemble does, or answer with what is no number."""

    weights = np.ones(1)

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def act(self, observations: Any) -> Any:
        if self._error is not None:
            raise self._error
        return np.full((len(observations), 1, 3), np.nan, np.float32)


@pytest.mark.parametrize(
    ("error", "fault"),
    [(StrategyError("weights of lead"), "weights of lead"), (None, "its votes are not finite numbers")],
)
async def test_an_ensemble_that_fails_holds_on_every_symbol_and_trading_goes_on_when_it_works(
    error: Exception | None, fault: str
) -> None:
    house = await made((BTC, ETH))
    house.rig.engine.model = replace(house.rig.engine.model, voters=Failing(error))
    await house.rig.candle()
    assert [payload["why"] for payload in house.rig.of_kind("decision")] == ["no_votes"] * 2
    assert (house.rig.engine.trader.fault, bool(house.companion.fault)) == (fault, True)
    assert house.rig.broker.asked == []
    house.rig.engine.model = replace(house.rig.engine.model, voters=Voice(BUY))
    await house.rig.candle()
    assert [what for what, _ in house.rig.broker.asked] == ["submit", "submit"]
    assert (house.rig.engine.trader.fault, house.companion.fault) == ("", "")
    house.check_memory()


# ---- the end ----------------------------------------------------------------------------------------------------
async def test_an_end_lets_the_step_under_way_reach_memory_and_no_later_one_begin() -> None:
    house = await made()
    await house.shadow()
    engine, go = house.rig.engine, asyncio.Event()
    house.rig.journal.gate.clear()
    house.rig.journal.is_asked.clear()

    async def later() -> None:
        await go.wait()
        await engine.note([of_pinned(4, is_pinned=True, source="hand")])

    under_way = asyncio.create_task(engine.note([of_kept(NEW, 3, reason="x", figures={})]))
    trading, waiting = asyncio.create_task(later()), asyncio.create_task(later())
    await house.rig.journal.is_asked.wait()
    ending = asyncio.create_task(engine.quiesce(trading, [under_way, waiting]))
    await house.rig.clock.settle()
    go.set()  # both stand behind the end now
    await house.rig.clock.settle()
    house.rig.journal.gate.set()
    await ending
    await asyncio.wait({under_way, waiting})
    assert [task.cancelled() for task in (under_way, trading, waiting)] == [False, True, True]
    assert house.kinds.count("model") == 3
    assert (house.companion.life.phase, house.companion.life.is_pinned) == (Phase.STEADY, False)
    await engine.stop("test")
    (checkpoint,) = house.rig.of_kind("checkpoint")
    assert checkpoint["companion"]["life"] == house.companion.life.to_json()
