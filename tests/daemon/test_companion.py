"""What accompanies the account: figures by hand, advice at its bounds, drift, and that nothing is known but by records.

A real trader on a market whose features are always there; what ensembles vote a test says.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.companion import Advice, Bounds, Companion
from daemon.errors import ArtifactError
from daemon.model_life import Cause, Phase, Swap, of_confirmed, of_kept, of_serving, of_shadow, of_swapping
from daemon.ports import CandleGroup, Record
from strategy.errors import BadState, StrategyError
from strategy.features import N_FEATURES
from strategy.shadow import Contender
from strategy.trader import Outcome, Reference, Setup, Trader
from tests.daemon.engines import BUSY, BUY, HOLD, SELL, START
from tests.daemon.successions import Part, Rows, Shown
from tests.fakes.trading import BTC, ETH, candle, setup

OLD, NEW, THIRD = "a" * 16, "b" * 16, "c" * 16
PLAN = {"scale": 0.005, "horizon": 10, "least": 2, "alpha": 0.4}
FREE = {"fee_rate": 0.0, "slippage_rate": 0.0, **BUSY, "stop_loss": 0.9, "max_drawdown": 0.9, "daily_loss": 0.9}
"""Nothing costs anything, and no limit is near."""
CASH = 10_000.0


class Market:
    """A trader and its companion, driven candle by candle as the engine drives them. written: what was journalled."""

    def __init__(
        self,
        *,
        symbols: Sequence[str] = (BTC,),
        bounds: Mapping[str, Any] | None = None,
        parts: dict[str, Part] | None = None,
        references: Mapping[str, float] | None = None,
        **changes: Any,
    ) -> None:
        """references: where the training of an ensemble has each feature, by id; 0 where nothing is said."""
        self.parts = {OLD: Part(HOLD), NEW: Part(BUY)} if parts is None else parts
        self.references = references or {}
        self.bounds = Bounds(**{"regret": 0.03, "drift_limit": 0.0, "drift_half_life": 10, **(bounds or {})})
        self.setup: Setup = setup(symbols, **{**FREE, **changes})
        self.rows = Rows()
        self.trader = Trader(self.setup, {symbol: Shown(self.rows) for symbol in symbols}, CASH)
        self.companion = self.make()
        self.serving, self.at = OLD, START
        self.written: list[Record] = []
        self.told: list[Any] = []

    def make(self) -> Companion:
        return Companion(self.setup, CASH, self.bounds, self.find)

    def find(self, short_id: str) -> Contender:
        if short_id not in self.parts:
            raise ArtifactError(f"bundle {short_id}: it is gone")
        mean = self.references.get(short_id, 0.0)
        reference = Reference.of([mean] * N_FEATURES, [1.0] * N_FEATURES, 2.0)
        return Contender(id=short_id, voters=self.parts[short_id], reference=reference)

    def step(self, *records: Record) -> None:
        for record in records:
            self._write(record)

    def _write(self, record: Record) -> None:
        self.written.append(record)
        self.companion.apply(record)

    def serve(self, model: str, previous: str, cause: Cause, plan: Mapping[str, Any] | None = None) -> None:
        self.serving = model
        self.step(of_serving(model, previous, cause, self.at, detail="why", test=plan))

    def see(self, close: float = 100.0, *, only: Sequence[str] = ()) -> Sequence[Outcome]:
        """Let one more hour close; returns what was decided."""
        symbols = only or tuple(self.setup.instruments)
        candles = tuple(candle(symbol, self.at, close, volume=1e9) for symbol in symbols)
        self.at += 1
        outcomes = self.trader.on_candles(candles, self.parts[self.serving])
        self.told.append((CandleGroup(candles=candles), outcomes))
        self.companion.on_candles(*self.told[-1])
        for record in self.companion.take():
            self._write(record)
        return outcomes

    def run(self, *closes: float) -> None:
        for close in closes:
            self.see(close)

    def of_kind(self, kind: str) -> list[Mapping[str, Any]]:
        return [record.payload for record in self.written if record.kind == kind]


def rising(count: int, factor: float = 1.01) -> list[float]:
    return [100.0 * factor**i for i in range(count)]


def shadowed(**changes: Any) -> Market:
    """A candidate that buys in shadow beside an incumbent that holds."""
    market = Market(**changes)
    market.serve(OLD, "", Cause.FOUND)
    market.step(of_shadow(NEW, OLD, market.at, request="", test=PLAN))
    return market


def watched(**changes: Any) -> Market:
    """One that buys and serves, watched beside the one that held before."""
    market = Market(**changes)
    market.serve(OLD, "", Cause.FOUND)
    market.serve(NEW, OLD, Cause.HAND, {**PLAN, "horizon": 6, "least": 1, "alpha": 0.01})
    return market


# ---- what is compared -------------------------------------------------------------------------------------------
def test_while_nothing_is_compared_nothing_is_said() -> None:
    market = Market()
    market.serve(OLD, "", Cause.FOUND)
    market.run(100.0, 101.0)
    assert market.companion.comparison is None
    assert market.companion.advice() == (Advice.WAIT, "")
    assert [record.kind for record in market.written] == ["model"]


def test_a_mark_says_what_each_account_is_worth_and_by_how_much_the_new_one_grew_more() -> None:
    market = shadowed()
    market.run(100.0, 100.0, 110.0)
    first, second, third = market.of_kind("shadow")
    target = first["decisions"][BTC]["new"]["target"]
    quantity = int(target * CASH / 100.0 / 0.0001 + 1e-9) * 0.0001  # bought at 100, in lots
    assert target == pytest.approx(0.5)
    assert first["decisions"][BTC]["old"] == {"action": "hold", "target": 0.0}
    assert (first["difference"], first["count"]) == (None, 0)
    assert (second["difference"], second["count"]) == (0.0, 1)  # bought at its open, 100, and worth that at its close
    worth = CASH + quantity * 10.0
    assert third["equity"] == {"old": CASH, "new": pytest.approx(worth)}
    assert third["difference"] == pytest.approx(np.log(worth / CASH))
    assert third["lead"] == pytest.approx(worth / CASH - 1.0)
    assert third["mean"] == pytest.approx(np.log(worth / CASH) / 2.0)
    assert (third["phase"], third["old"], third["new"], third["of"]) == ("shadow", OLD, NEW, 10)
    assert third["open_ms"] == market.told[-1][0].candles[0].open_ms


def test_a_mark_says_what_the_other_one_would_have_decided_on_the_very_observations_of_the_account() -> None:
    market = shadowed(symbols=(BTC, ETH))
    market.see()
    (mark,) = market.of_kind("shadow")
    assert set(mark["same"]) == {BTC, ETH}
    assert mark["same"][BTC]["votes"] == [[1.0, 1.0, 1.0]] * 3
    assert mark["same"][BTC]["action"] == "buy"
    assert mark["same"][BTC]["live_target"] == 0.0
    market.serve(NEW, OLD, Cause.PROVED, PLAN)
    market.see()
    mark = market.of_kind("shadow")[-1]
    assert mark["phase"] == "watch"
    assert mark["same"][BTC]["votes"] == [[0.0, 0.0, 0.0]] * 3  # of the former one: it is the other one now
    assert mark["same"][BTC]["live_target"] > 0.0


def test_a_candle_on_which_nothing_is_due_is_no_comparison() -> None:
    market = shadowed(decide_every=4)
    market.run(*rising(9))
    due = [group.candles[0].open_ms for group, _ in market.told if group.candles[0].close_ms // 3_600_000 % 4 == 0]
    assert [mark["open_ms"] for mark in market.of_kind("shadow")] == due


def test_what_was_said_is_handed_over_once() -> None:
    market = shadowed()
    market.see()
    assert market.companion.take() == []


def test_candles_of_the_past_move_the_accounts_and_compare_nothing() -> None:
    market = shadowed()
    market.run(100.0, 100.0)
    group = CandleGroup(candles=(candle(BTC, market.at, 120.0, volume=1e9),), is_backfill=True)
    market.at += 1
    market.trader.warm(group.candles)
    market.companion.on_warm(group)
    assert market.companion.take() == []
    market.see(120.0)
    assert market.of_kind("shadow")[-1]["equity"]["new"] == pytest.approx(CASH + 50.0 * 20.0)


# ---- what is to be done -----------------------------------------------------------------------------------------
def test_a_candidate_is_put_forward_once_it_is_proved_and_not_before_the_least_number_of_decisions() -> None:
    market = Market()
    market.serve(OLD, "", Cause.FOUND)
    market.step(of_shadow(NEW, OLD, 0, request="", test={**PLAN, "least": 8}))
    for close in rising(8):
        market.see(close)
        assert market.companion.advice() == (Advice.WAIT, "")
    comparison = market.companion.comparison
    assert comparison is not None
    assert (comparison.count, comparison.p_better <= 0.4) == (7, True)
    market.see(rising(9)[-1])
    advice, why = market.companion.advice()
    assert advice is Advice.PROMOTE
    assert why.startswith("ahead by ")
    assert "basis points a decision after 8 decisions, p = 0." in why


@pytest.mark.parametrize(
    ("vote", "factor", "told"),
    [
        (BUY, 0.97, "no better: behind by "),
        (HOLD, 1.01, "not shown to be better: behind by 0.0 basis points a decision after 10 decisions, p = 1"),
    ],
    ids=["worse", "the same"],
)
def test_a_candidate_is_dropped_when_it_is_worse_and_when_its_time_is_over(
    vote: tuple[float, float, float], factor: float, told: str
) -> None:
    market = shadowed(parts={OLD: Part(HOLD), NEW: Part(vote)})
    market.run(*rising(11, factor))
    advice, why = market.companion.advice()
    assert advice is Advice.KEEP
    assert why.startswith(told)


def test_a_candidate_that_was_proved_stays_so_after_its_time_for_whoever_has_to_decide() -> None:
    market = shadowed()
    market.run(*rising(15))
    assert market.companion.advice()[0] is Advice.PROMOTE


@pytest.mark.parametrize("failing", [OLD, NEW])
def test_only_the_failure_of_the_candidate_counts_against_it(failing: str) -> None:
    market = shadowed(parts={OLD: Part(HOLD), NEW: Part(HOLD)})
    market.see()
    market.parts[failing].fault = "no numbers"
    market.see()
    expected = (Advice.WAIT, "") if failing == OLD else (Advice.KEEP, "the candidate failed: no numbers")
    assert market.companion.advice() == expected
    assert market.companion.fault == ("it had no votes on a full window" if failing == OLD else "")


def test_a_failure_between_two_comparisons_is_not_forgotten() -> None:
    market = shadowed(decide_every=4, parts={OLD: Part(HOLD), NEW: Part(HOLD)})
    while market.at % 4 != 0:
        market.see()
    market.parts[NEW].fault = "once"
    market.see()
    market.parts[NEW].fault = ""
    for _ in range(8):
        market.see()
    assert market.companion.advice() == (Advice.KEEP, "the candidate failed: once")


def test_a_watch_ends_well_after_its_decisions() -> None:
    market = watched()
    market.run(*rising(7))
    assert market.companion.advice()[0] is Advice.CONFIRM
    comparison = market.companion.comparison
    assert comparison is not None
    assert (comparison.count, comparison.of) == (6, 6)
    market.step(of_confirmed(NEW, 0, figures={}))
    assert market.companion.comparison is None
    assert market.companion.life.phase is Phase.STEADY


@pytest.mark.parametrize(("fall", "advice"), [(0.059, Advice.WAIT), (0.0605, Advice.ROLL_BACK)])
def test_a_watch_ends_when_the_former_one_leads_by_the_regret_limit_and_not_a_little_before(
    fall: float, advice: Advice
) -> None:
    market = watched()  # holds half of its capital: a fall of six hundredths costs three
    market.run(100.0, 100.0, 100.0 * (1.0 - fall))
    found, why = market.companion.advice()
    assert found is advice
    assert why == ("the former one is ahead by 3.0% of the account" if advice is Advice.ROLL_BACK else "")


def test_a_watch_ends_when_the_new_one_is_plainly_worse_though_not_by_much() -> None:
    market = Market(bounds={"regret": 0.9})
    market.serve(OLD, "", Cause.FOUND)
    market.serve(NEW, OLD, Cause.HAND, {**PLAN, "horizon": 100, "least": 1, "alpha": 0.4})
    market.run(*rising(20, 0.995))
    advice, why = market.companion.advice()
    assert advice is Advice.ROLL_BACK
    assert why.startswith("worse than the former one: behind by ")


def test_a_failure_in_a_watch_is_not_made_good_by_a_later_vote() -> None:
    market = watched()
    market.see()
    market.parts[NEW].fault = "once"
    market.see()
    market.parts[NEW].fault = ""
    market.see()
    assert market.companion.advice() == (Advice.ROLL_BACK, "it failed: it had no votes on a full window")
    market.serve(OLD, NEW, Cause.ROLLBACK)
    assert market.companion.fault == ""


def test_the_accounts_of_one_that_proved_itself_go_on_and_what_it_earned_in_shadow_counts_no_more() -> None:
    market = shadowed()
    market.run(*rising(6))
    worth = market.of_kind("shadow")[-1]["equity"]["new"]
    assert worth > CASH
    market.serve(NEW, OLD, Cause.PROVED, {**PLAN, "horizon": 6, "least": 1})
    comparison = market.companion.comparison
    assert comparison is not None
    assert (comparison.count, comparison.lead, comparison.p_better, comparison.of) == (0, 0.0, 1.0, 6)
    market.see(rising(6)[-1])  # the price stays: the accounts are worth what they were
    assert market.of_kind("shadow")[-1]["equity"]["new"] == pytest.approx(worth)
    assert market.of_kind("shadow")[-1]["lead"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("cause", [Cause.HAND, Cause.PROVED])
def test_any_other_swap_begins_with_new_accounts(cause: Cause) -> None:
    market = shadowed(parts={OLD: Part(HOLD), NEW: Part(BUY), THIRD: Part(HOLD)})
    market.run(*rising(6))
    market.serve(THIRD, OLD, cause, PLAN)
    market.see(200.0)
    mark = market.of_kind("shadow")[-1]
    assert (mark["old"], mark["new"], mark["equity"]) == (OLD, THIRD, {"old": CASH, "new": CASH})


def test_a_shadow_that_is_dropped_is_compared_no_more() -> None:
    market = shadowed()
    market.run(*rising(3))
    market.step(of_kept(NEW, 0, reason="x", figures={}))
    before = len(market.written)
    market.run(*rising(3))
    assert len(market.written) == before
    assert (market.companion.comparison, market.companion.scale) == (None, None)


def test_a_swap_that_has_only_begun_changes_nothing_of_the_comparison() -> None:
    market = shadowed()
    market.run(*rising(3))
    before = market.companion.comparison
    market.step(of_swapping(Swap(old=OLD, new=NEW, cause=Cause.PROVED, detail=""), 0))
    assert market.companion.comparison == before
    assert market.companion.scale == PLAN["scale"]


# ---- one that is gone -------------------------------------------------------------------------------------------
def test_a_candidate_that_cannot_be_found_any_more_is_dropped_with_the_reason_also_after_a_restart() -> None:
    market = shadowed(parts={OLD: Part(HOLD)})
    told = (Advice.KEEP, f"it cannot be compared: bundle {NEW}: it is gone")
    assert market.companion.advice() == told
    market.see()
    assert market.of_kind("shadow") == []
    again = market.make()
    again.restore(json.loads(json.dumps(market.companion.state())))
    assert again.advice() == told


def test_a_watch_without_the_former_one_cannot_go_on_but_a_failure_still_counts() -> None:
    market = watched(parts={OLD: Part(HOLD), NEW: Part(BUY)})
    stored = market.companion.state()
    del market.parts[OLD]
    again = market.make()
    again.restore(stored)
    assert again.advice() == (Advice.CONFIRM, f"it cannot be compared: bundle {OLD}: it is gone")
    market.companion, market.parts[NEW].fault = again, "x"
    market.see()
    assert again.advice() == (Advice.ROLL_BACK, "it had no votes on a full window")


# ---- votes ------------------------------------------------------------------------------------------------------
def test_the_fault_of_the_serving_one_goes_with_the_next_vote_and_not_with_a_candle_nobody_was_asked_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    market = Market(symbols=(BTC, ETH))
    market.serve(OLD, "", Cause.FOUND)
    market.parts[OLD].fault = "no numbers"
    market.see()
    assert market.companion.fault == "it had no votes on a full window"
    market.parts[OLD].fault = ""
    for window in market.trader.features.values():
        monkeypatch.setattr(window, "update", lambda _candle: None)
    market.see()
    assert market.companion.fault == "it had no votes on a full window"
    monkeypatch.undo()
    market.see(only=[ETH])
    assert market.companion.fault == ""


# ---- drift ------------------------------------------------------------------------------------------------------
def test_drift_is_not_known_before_an_ensemble_serves_and_then_only_after_some_candles() -> None:
    market = Market(bounds={"drift_half_life": 30})
    market.see()
    assert market.companion.drift is None
    market.serve(OLD, "", Cause.FOUND)
    market.run(100.0, 100.0)
    assert market.companion.drift is None
    market.see()  # a tenth of the half-life
    drift = market.companion.drift
    assert drift is not None
    assert (drift.joint, drift.is_beyond, len(drift.features)) == (0.0, False, N_FEATURES)  # rows as in training


def test_drift_is_that_of_the_averages_of_all_candles_since() -> None:
    market = Market()
    market.serve(OLD, "", Cause.FOUND)
    market.rows.value = 3.0
    market.see()
    square = 1.0 + (1.0 - 0.5**0.1) * (9.0 - 1.0)  # half-life of 10 candles, from 1 on
    share = (square - 1.0) / (square + 4.0)
    drift = market.companion.drift
    assert drift is not None
    assert list(drift.features) == pytest.approx([share] * N_FEATURES)
    assert drift.joint == pytest.approx(share)


def test_crossing_the_limit_is_said_once_either_way_and_coming_back_takes_nine_tenths() -> None:
    market = Market(bounds={"drift_limit": 0.3})
    market.serve(OLD, "", Cause.FOUND)
    market.rows.value = 4.0
    joints = list[float]()
    while not market.of_kind("drift"):
        market.see()
        drift = market.companion.drift
        assert drift is not None
        joints.append(drift.joint)
    assert [joint > 0.3 for joint in joints] == [False] * (len(joints) - 1) + [True]
    said = market.of_kind("drift")[0]
    assert said == {
        "at_ms": market.told[-1][0].candles[0].close_ms, "joint": joints[-1], "limit": 0.3, "is_beyond": True,
    }  # fmt: skip
    assert market.companion.is_drifted
    market.run(100.0, 100.0)
    assert len(market.of_kind("drift")) == 1
    market.rows.value = 1.0
    while len(market.of_kind("drift")) == 1:
        market.see()
    drift = market.companion.drift
    assert drift is not None
    assert drift.joint < 0.27
    assert (market.of_kind("drift")[1]["is_beyond"], drift.is_beyond) == (False, False)


def test_another_ensemble_is_measured_against_its_own_training_and_what_is_not_known_is_held_against_nobody() -> None:
    market = Market(bounds={"drift_limit": 0.3, "drift_half_life": 20}, references={NEW: 9.0})
    market.serve(OLD, "", Cause.FOUND)
    market.rows.value = 10.0
    market.run(*[100.0] * 10)
    assert market.companion.is_drifted
    market.serve(NEW, OLD, Cause.HAND, PLAN)
    assert market.companion.drift is None
    market.see()
    assert market.of_kind("drift")[-1]["joint"] is None
    assert not market.companion.is_drifted
    market.run(100.0, 100.0)
    drift = market.companion.drift
    assert drift is not None
    assert drift.joint == pytest.approx(0.0)  # one spread from its own mean: as in training


def test_a_limit_that_changed_over_a_restart_is_said_once_however_many_candles_are_folded_again() -> None:
    before = Market()  # without a limit
    before.serve(OLD, "", Cause.FOUND)
    before.rows.value = 10.0
    before.run(*[100.0] * 6)
    again = Market(bounds={"drift_limit": 0.2})
    again.step(*before.written)
    for group, outcomes in before.told:
        again.companion.on_candles(group, outcomes)
    (left,) = again.companion.take()
    assert (left.kind, left.payload["is_beyond"]) == ("drift", True)


# ---- the journal, and memory ------------------------------------------------------------------------------------
def lived() -> Market:
    """A market in which everything happens: a shadow, a swap, a watch, drift both ways, a failure."""
    market = shadowed(symbols=(BTC, ETH), bounds={"drift_limit": 0.3, "regret": 0.5}, decide_every=2)
    market.run(*rising(8))
    market.rows.value = 6.0
    market.run(*rising(6))
    market.serve(NEW, OLD, Cause.PROVED, PLAN)
    market.rows.value = 1.0
    market.parts[OLD].fault = "x"
    market.run(*rising(9, 0.99))
    market.see(90.0, only=[ETH])
    return market


def folded(market: Market, *, keeps: Callable[[Record], bool] = lambda _: True) -> Companion:
    """Return what recovery makes of the records of a market, those that `keeps` says were written."""
    companion, records = market.make(), iter(market.written)
    # As the journal has them: steps before candles stand before them, what candles made behind them.
    pending = [next(records), next(records)]
    for record in pending:
        companion.apply(record)
    made = [record for record in records if keeps(record)]
    for group, outcomes in market.told:
        companion.on_candles(group, outcomes)
        while made and made[0].kind != "model" and _is_of(made[0], group):
            companion.apply(made.pop(0))
        while made and made[0].kind == "model" and made[0].payload["at_ms"] * 3_600_000 <= group.candles[0].close_ms:
            companion.apply(made.pop(0))
    return companion


def _is_of(record: Record, group: CandleGroup) -> bool:
    candle_ = group.candles[0]
    return candle_.open_ms == record.payload.get("open_ms") or candle_.close_ms == record.payload.get("at_ms")


def as_text(companion: Companion) -> str:
    return json.dumps(companion.state())


def test_recovery_comes_to_the_same_state_and_has_nothing_to_add() -> None:
    market = lived()
    assert {record.kind for record in market.written} == {"model", "shadow", "drift"}
    companion = folded(market)
    assert as_text(companion) == as_text(market.companion)
    assert companion.take() == []


def test_what_a_kill_kept_from_the_journal_is_what_recovery_has_to_add() -> None:
    market = lived()
    last = market.of_kind("shadow")[-1]
    companion = folded(market, keeps=lambda record: record.payload is not last)
    assert [dict(record.payload) for record in companion.take()] == [dict(last)]


def test_what_another_machine_would_have_said_and_was_not_written_then_is_not_added_later() -> None:
    market = lived()
    companion = folded(market, keeps=lambda record: record.kind != "drift")
    assert [record.kind for record in companion.take()] in ([], ["drift"])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.93, 0.99, 1.0, 1.01, 1.06]), st.booleans()), min_size=1, max_size=12),
    st.data(),
)
def test_a_checkpoint_at_any_moment_changes_nothing_of_what_follows(
    moves: list[tuple[float, bool]], data: st.DataObject
) -> None:
    market = shadowed(bounds={"drift_limit": 0.2})
    cut, close, again = data.draw(st.integers(0, len(moves))), 100.0, None
    for i, (factor, is_swap) in enumerate([*moves, (1.0, False)]):
        if i == cut:
            again = market.make()
            again.restore(json.loads(as_text(market.companion)))
        if is_swap and market.companion.life.phase is Phase.SHADOW:
            market.serve(NEW, OLD, Cause.PROVED, PLAN)
            if again is not None:
                again.apply(market.written[-1])
        close *= factor
        market.rows.value = 1.0 + 5.0 * (i % 3)
        before = len(market.written)
        market.see(close)
        if again is not None:
            again.on_candles(*market.told[-1])
            taken = again.take()
            assert json.dumps([asdict(r) for r in taken]) == json.dumps([asdict(r) for r in market.written[before:]])
            for record in taken:
                again.apply(record)
    assert again is not None
    assert as_text(again) == as_text(market.companion)
    assert again.advice() == market.companion.advice()


def test_other_steps_of_the_venue_hold_for_the_accounts_too() -> None:
    market = shadowed()
    market.see()
    coarse = {symbol: replace(instrument, lot=10.0) for symbol, instrument in market.setup.instruments.items()}
    market.companion.begin(replace(market.setup, instruments=coarse))
    market.run(100.0, 100.0, 110.0)
    mark = market.of_kind("shadow")[-1]
    assert (mark["equity"]["new"] - CASH) / 10.0 % 10.0 == pytest.approx(0.0)


@pytest.mark.parametrize(
    "payload", [{}, {"step": "jump", "at_ms": 0}, {"step": "serving", "at_ms": 0, "model": NEW}], ids=str
)
def test_a_record_that_cannot_be_read_is_refused(payload: dict[str, Any]) -> None:
    market = shadowed()
    with pytest.raises(BadState, match="model record"):
        market.companion.apply(Record(kind="model", payload=payload))


@pytest.mark.parametrize("key", ["life", "trial", "drift"])
def test_a_stored_state_that_is_none_is_refused(key: str) -> None:
    market = shadowed()
    market.run(100.0, 100.0)
    stored = json.loads(as_text(market.companion))
    stored[key] = {**stored[key], "phase": "nonsense", "count": "many", "squares": [1.0], "test": {"plan": PLAN}}
    with pytest.raises(StrategyError):
        market.make().restore(stored)


def test_one_that_sells_what_it_has_not_got_does_nothing() -> None:
    market = shadowed(parts={OLD: Part(HOLD), NEW: Part(SELL)})
    market.run(*rising(3))
    assert market.of_kind("shadow")[-1]["equity"] == {"old": CASH, "new": CASH}
