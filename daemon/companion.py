"""What accompanies the account: a pair of ensembles compared on play money, drift, and the life of the ensembles.

Implements `ports.Companion`. Runs after the orders of a candle have left, so that no decision waits for it, and again
in recovery over what stands in the journal, with the same outcome. What follows from it is done by `succession.py`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from daemon.config_sections import RetrainSection
from daemon.errors import ArtifactError
from daemon.model_life import Life, Phase
from daemon.ports import CandleGroup, DriftMarked, Record
from daemon.records import of_drift
from strategy.conduct import Conduct
from strategy.decision import Decision
from strategy.drift import Drift, is_beyond
from strategy.sequential import PairedTest, TestPlan
from strategy.shadow import Contender, Marked, Pair, on_same
from strategy.trader import Outcome, Setup, Votes

Find = Callable[[str], Contender]
"""Returns the ensemble with a short id. Raises ArtifactError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What ends a watch or forbids exposure. regret: share of the account.  drift_limit: joint drift, 0 for none.

    drift_half_life: candles.
    """

    regret: float
    drift_limit: float
    drift_half_life: int

    @classmethod
    def of(cls, retrain: RetrainSection) -> "Bounds":
        """Return those of [retrain]."""
        return cls(regret=retrain.regret_limit, drift_limit=retrain.drift_limit, drift_half_life=retrain.drift_candles)


class Advice(StrEnum):
    """What the comparison says is to be done."""

    WAIT = "wait"
    PROMOTE = "promote"
    KEEP = "keep"
    ROLL_BACK = "roll_back"
    CONFIRM = "confirm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two ensembles, compared so far. of: decisions that it takes at most.  lead: of the new one's account, a share."""

    old: str
    new: str
    count: int
    of: int
    mean: float
    p_better: float
    p_worse: float
    lead: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class _Trial:
    """A pair under comparison. lead: log of how much more the new one's account has grown since the test began.

    conduct, fault: of the new one.
    """

    pair: Pair
    test: PairedTest
    conduct: Conduct
    lead: float = 0.0
    fault: str = ""


class Companion:
    """Everything that is known of the ensembles of one account besides what they decide."""

    def __init__(self, setup: Setup, cash: float, bounds: Bounds, find: Find) -> None:
        """cash: what each account in shadow begins with, in quote.  find: asked for both when a comparison begins."""
        self._life = Life()
        self.fault = ""
        """Why the serving ensemble had no votes; in a watch also when it has had some since. "" while it works."""
        self.is_drifted = False
        self._missing = ""
        self._setup = setup
        self._cash = cash
        self._bounds = bounds
        self._find = find
        self._trial: _Trial | None = None
        self._drift: Drift | None = None
        self._waiting: list[Record] = []

    # ---- candles ------------------------------------------------------------------------------------------------
    def on_candles(self, group: CandleGroup, outcomes: Sequence[Outcome]) -> None:
        """Take candles that were decided on."""
        self._look_at_votes(outcomes)
        self._measure(group, outcomes)
        if self._trial is not None:
            marked = self._trial.pair.on_candles([outcome.sight for outcome in outcomes])
            if marked is not None:
                self._compare(self._trial, marked, outcomes)

    def _look_at_votes(self, outcomes: Sequence[Outcome]) -> None:
        asked = [outcome for outcome in outcomes if outcome.sight.observation is not None]
        if any(outcome.votes is None for outcome in asked):
            self.fault = "it had no votes on a full window"
        elif asked and self.life.phase is not Phase.WATCH:
            self.fault = ""

    def _measure(self, group: CandleGroup, outcomes: Sequence[Outcome]) -> None:
        rows = [outcome.sight.row.values for outcome in outcomes if outcome.sight.row is not None]
        if self._drift is None or not rows:
            return
        self._drift.update(rows)
        joint, limit, was = self._drift.joint, self._bounds.drift_limit, self._was_drifted()
        beyond = is_beyond(joint, limit, was=was)
        if beyond != was:
            self._waiting.append(of_drift(joint, limit, group.candles[0].close_ms, is_beyond=beyond))

    def _was_drifted(self) -> bool:
        """Tell what was said last; in recovery it may wait, where the limit was another one when the candles came."""
        said = (record.payload["is_beyond"] for record in reversed(self._waiting) if record.kind == "drift")
        return next(said, self.is_drifted)

    def _compare(self, trial: _Trial, marked: Marked, outcomes: Sequence[Outcome]) -> None:
        test, lead = trial.test, trial.lead
        if marked.difference is not None:
            test, lead = test.after(marked.difference), lead + marked.difference
        closes = {outcome.sight.candle.symbol: outcome.sight.candle.close for outcome in outcomes}
        conduct = trial.conduct.after(marked.new.votes, closes)
        self._trial = replace(trial, test=test, conduct=conduct, lead=lead, fault=trial.fault or marked.new.fault)
        # What the one that does not serve says to the very observations that the account was decided on.
        other = trial.pair.new if self.life.phase is Phase.SHADOW else trial.pair.old
        same = on_same(self._setup, outcomes, other.contender.voters)
        payload = {"phase": self.life.phase.value, **_compared(self._trial).to_json(), **_figures(marked)}
        self._waiting.append(Record(kind="shadow", payload={**payload, "same": _same(same, outcomes)}))

    def on_warm(self, group: CandleGroup) -> None:
        """Take candles that lie in the past."""
        if self._trial is not None:
            self._trial.pair.on_warm(group.candles)

    def begin(self, setup: Setup) -> None:
        """Continue under other parameters or steps."""
        self._setup = setup
        if self._trial is not None:
            self._trial.pair.begin(setup)

    def bound(self, bounds: Bounds) -> None:
        """Go by other bounds from the next candle on; what was measured so far stays."""
        measured = None if self._drift is None else self._drift.state()
        self._bounds = bounds
        if measured is not None:
            self._follow_drift(self.life.serving)
            if self._drift is not None:
                self._drift.restore(measured)

    # ---- what is known ------------------------------------------------------------------------------------------
    @property
    def life(self) -> Life:
        """Where the ensembles of the account stand."""
        return self._life

    @property
    def comparison(self) -> Comparison | None:
        """How the comparison stands, None when nothing is compared."""
        return None if self._trial is None else _compared(self._trial)

    @property
    def drift(self) -> DriftMarked | None:
        """How far the market lies from the training candles; None while that is not known."""
        drift = self._drift
        if drift is None or drift.joint is None:
            return None
        return DriftMarked(joint=drift.joint, features=drift.features.tolist(), is_beyond=self.is_drifted)

    @property
    def scale(self) -> float | None:
        """What the difference of the two per decision is taken for; None while nothing is compared."""
        return None if self._trial is None else self._trial.test.plan.scale

    def advice(self) -> tuple[Advice, str]:
        """Return what the comparison says is to be done, and why in words."""
        match self.life.phase:
            case Phase.SHADOW:
                return self._advice_in_shadow()
            case Phase.WATCH:
                return self._advice_in_watch()
            case Phase.STEADY:
                return Advice.WAIT, ""

    def _advice_in_shadow(self) -> tuple[Advice, str]:
        trial = self._trial
        if trial is None:
            return Advice.KEEP, self._missing
        if trial.fault or trial.conduct.fault:
            return Advice.KEEP, f"the candidate failed: {trial.fault or trial.conduct.fault}"
        test = trial.test
        if test.count >= test.plan.least and test.p_better <= test.plan.alpha:
            return Advice.PROMOTE, _in_words(test)
        if test.p_worse <= test.plan.alpha:
            return Advice.KEEP, f"no better: {_in_words(test)}"
        if test.count >= test.plan.horizon:
            return Advice.KEEP, f"not shown to be better: {_in_words(test)}"
        return Advice.WAIT, ""

    def _advice_in_watch(self) -> tuple[Advice, str]:
        trial = self._trial
        if trial is None:
            return (Advice.ROLL_BACK, self.fault) if self.fault else (Advice.CONFIRM, self._missing)
        if fault := self.fault or trial.fault or trial.conduct.fault:
            return Advice.ROLL_BACK, f"it failed: {fault}"
        test = trial.test
        regret = -math.expm1(trial.lead)
        if regret >= self._bounds.regret:
            return Advice.ROLL_BACK, f"the former one is ahead by {regret:.1%} of the account"
        if test.p_worse <= test.plan.alpha:
            return Advice.ROLL_BACK, f"worse than the former one: {_in_words(test)}"
        if test.count >= test.plan.horizon:
            return Advice.CONFIRM, _in_words(test)
        return Advice.WAIT, ""

    # ---- the journal --------------------------------------------------------------------------------------------
    def take(self) -> Sequence[Record]:
        """Return what is to be journalled, and let go of it."""
        taken, self._waiting = self._waiting, []
        return taken

    def apply(self, record: Record) -> None:
        """Take a record that is on disk. Raises StrategyError for one that cannot be read."""
        self._forget(record.kind)
        match record.kind:
            case "drift":
                self.is_drifted = bool(record.payload["is_beyond"])
            case "model":
                self._step(record.payload)

    def _forget(self, kind: str) -> None:
        """Let go, in recovery, of what was worked out again and stands in the journal, up to this kind.

        What came before it and was not written then, as another machine may round otherwise, is not written now.
        """
        kinds = [waiting.kind for waiting in self._waiting]
        if kind in kinds:
            del self._waiting[: kinds.index(kind) + 1]

    def _step(self, payload: Mapping[str, Any]) -> None:
        self._life = self.life.after(payload)
        match payload["step"]:
            case "shadow":
                self._begin_trial(payload["incumbent"], payload["candidate"], payload["test"])
            case "serving":
                self._serve(payload)
            case "kept" | "confirmed":
                self._trial = None

    def _serve(self, payload: Mapping[str, Any]) -> None:
        model, plan, trial = payload["model"], payload["test"], self._trial
        self.fault = ""
        self._follow_drift(model)
        if plan is None:
            self._trial = None
        elif trial is not None and _ids(trial.pair) == (payload["previous"], model):
            # The accounts go on; what they have earned so far is what chose the new one, and counts no more.
            test = PairedTest(plan=TestPlan.from_json(plan))
            self._trial = _Trial(trial.pair, test, Conduct())
        else:
            self._begin_trial(payload["previous"], model, plan)

    def _begin_trial(self, old: str, new: str, plan: Mapping[str, Any]) -> None:
        self._trial, self._missing = None, ""
        try:
            pair = Pair(self._setup, self._cash, self._find(old), self._find(new))
        except ArtifactError as error:
            self._missing = f"it cannot be compared: {error}"
            return
        self._trial = _Trial(pair, PairedTest(plan=TestPlan.from_json(plan)), Conduct())

    def _follow_drift(self, model: str) -> None:
        try:
            reference = self._find(model).reference
        except ArtifactError:
            self._drift = None  # the one that serves is another one: a "found" step follows, which names it
            return
        self._drift = None if reference is None else Drift(reference, self._bounds.drift_half_life)

    # ---- memory -------------------------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return all that changes, as JSON types, for a checkpoint."""
        trial, drift = self._trial, self._drift
        return {
            "life": self.life.to_json(),
            "fault": self.fault,
            "is_drifted": self.is_drifted,
            "missing": self._missing,
            "trial": None if trial is None else _trial_json(trial),
            "drift": None if drift is None else drift.state(),
        }

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Continue from a `state`. Raises BadState when it was stored by something else."""
        self._life = Life.from_json(stored["life"])
        self.fault, self.is_drifted = stored["fault"], stored["is_drifted"]
        if stored["drift"] is not None:
            self._follow_drift(self.life.serving)
            if self._drift is not None:
                self._drift.restore(stored["drift"])
        self._missing, trial = stored["missing"], stored["trial"]
        if trial is None:
            return
        self._begin_trial(trial["old"], trial["new"], trial["test"]["plan"])
        if self._trial is not None:
            self._trial.pair.restore(trial["pair"])
            test, conduct = PairedTest.from_json(trial["test"]), Conduct.from_json(trial["conduct"])
            lead, fault = float(trial["lead"]), str(trial["fault"])
            self._trial = replace(self._trial, test=test, conduct=conduct, lead=lead, fault=fault)


def _trial_json(trial: _Trial) -> dict[str, Any]:
    old, new = _ids(trial.pair)
    return {
        "old": old,
        "new": new,
        "pair": trial.pair.state(),
        "test": trial.test.to_json(),
        "conduct": trial.conduct.to_json(),
        "lead": trial.lead,
        "fault": trial.fault,
    }


def _ids(pair: Pair) -> tuple[str, str]:
    return pair.old.contender.id, pair.new.contender.id


def _compared(trial: _Trial) -> Comparison:
    old, new = _ids(trial.pair)
    test = trial.test
    return Comparison(
        old=old,
        new=new,
        count=test.count,
        of=test.plan.horizon,
        mean=test.mean,
        p_better=test.p_better,
        p_worse=test.p_worse,
        lead=math.expm1(trial.lead),
    )


def _figures(marked: Marked) -> dict[str, Any]:
    """Return what a `shadow` record tells of both accounts."""
    sides = {"old": marked.old, "new": marked.new}
    decisions: dict[str, dict[str, Any]] = {}
    for side, standing in sides.items():
        for symbol, decision in standing.decisions.items():
            wanted = {"action": decision.action.value, "target": decision.target}
            decisions.setdefault(symbol, {})[side] = wanted
    return {
        "open_ms": marked.open_ms,
        "difference": marked.difference,
        "equity": {side: standing.equity for side, standing in sides.items()},
        "drawdown": {side: standing.drawdown for side, standing in sides.items()},
        "decisions": decisions,
    }


def _same(same: Mapping[str, tuple[Votes | None, Decision]], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the other one's votes and decisions on the live observations, and what was decided live."""
    live = {outcome.sight.candle.symbol: outcome.verdict.decision for outcome in outcomes}
    return {
        symbol: {
            "votes": None if votes is None else votes.tolist(),
            "action": decision.action.value,
            "target": decision.target,
            "live_target": live[symbol].target,
        }
        for symbol, (votes, decision) in same.items()
    }


def _in_words(test: PairedTest) -> str:
    is_ahead = test.mean > 0.0
    p = test.p_better if is_ahead else test.p_worse
    where = "ahead" if is_ahead else "behind"
    return f"{where} by {abs(test.mean) * 1e4:.1f} basis points a decision after {test.count} decisions, p = {p:.2g}"
