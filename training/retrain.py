"""A retraining from request to result: candles up to now, a candidate by the incumbent's recipe, and the gate.

Whoever asks is answered in files alone, see training/retrain_exchange.py. Nothing is decided here but whether the
candidate may be tried: whether it ever serves, the daemon finds out by watching it. Cheap reasons to refuse come first:
nothing is trained that could not be judged.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strategy.bundle import Bundle
from strategy.errors import StrategyError
from training.bundle_files import into_registry
from training.bundles import conditions_of, read_serving_bundle
from training.commands_common import minute
from training.errors import BundleError, Interrupted, NoMember, TrainingError
from training.fetch_ccxt import CcxtVenue
from training.market import setup_of
from training.retrain_data import Gathered, Venue, gather
from training.retrain_exam import Exam, exam_of
from training.retrain_exchange import Exchange, Result
from training.retrain_gate import Check, Difference, Terms, Verdict, examine, refusal
from training.retrain_request import Request
from training.retrain_split import Split, TooSoon, split_of
from training.retrain_train import Prepared, plan_of, prepare, train
from training.trials import VARIABLE, Kind, Ledger, Trial, fingerprint
from training.workers import LocalPool, Pool, stopped_by_signals

_LEDGER = "trials.jsonl"
_PASSES = 4  # of the candles that judge, see `examine`
_LONGEST = 3_900
"""Letters of a reason: the daemon takes 4,000."""


def _say(line: str) -> None:
    print(f"sacd retrain: {line}", file=sys.stderr, flush=True)  # noqa: T201


def _machine_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a retraining works with. say: told, in words, of each step."""

    make_pool: Callable[[int], Pool] = LocalPool
    make_venue: Callable[[str], Venue] = CcxtVenue
    now_ms: Callable[[], int] = _machine_ms
    say: Callable[[str], None] = _say


class OutOfTime(TrainingError):
    """The deadline of the request has passed."""


def retrain(directory: Path, means: Means | None = None) -> Mapping[str, Any] | None:
    """Answer the request in `directory` and return the answer, as JSON types; None when nothing is asked for.

    Raises Interrupted when told to end, with the request left for the next time; TrainingError when another trainer
    works there, when the request cannot be understood, and when the answer cannot be written.
    """
    means = Means() if means is None else means
    with Exchange(directory) as exchange:
        request = exchange.claim()
        if request is None:
            return None
        told = exchange.answered(request)
        if told is not None:
            exchange.publish(request.request, told)
            return told
        stop = _Stop(request.deadline_ms, means.now_ms)
        with stopped_by_signals(stop.ask):
            try:
                result = _answer(_Job(request, exchange, stop, means))
            except (Interrupted, KeyboardInterrupt):
                exchange.put_back(request)
                raise Interrupted(
                    "told to end; what is done is kept, and the next start goes on with the request"
                ) from None
            exchange.finish(result)
        return result.to_json()


def _answer(job: "_Job") -> Result:
    """Return what came of a request, whatever it was; only being told to end is no answer."""
    try:
        return job.work()
    except TooSoon as error:
        return job.result("kept", str(error))
    except NoMember as error:
        return job.result("kept", _told_here(error))
    except Interrupted:
        raise
    except (TrainingError, StrategyError) as error:
        return job.result("failed", _told_here(error))
    except MemoryError as error:
        return job.result("failed", f"not enough memory ({error}): give more, or fewer workers")
    except Exception as error:  # noqa: BLE001 - the edge of the process: whoever waits for an answer gets one
        traceback.print_exc()
        return job.result("failed", f"{type(error).__name__}: {error} (the log of the trainer says where)")


def _told_here(error: Exception) -> str:
    """Return what an error says without the advice to whoever runs `sacd train`: here nothing is left to go on with."""
    text = str(error)
    for advice in ("; figures: ", "; what is done is kept"):
        text = text.partition(advice)[0]
    return text


class _Stop:
    """When to end before the work is done."""

    def __init__(self, deadline_ms: int, now_ms: Callable[[], int]) -> None:
        self._deadline_ms, self._now_ms = deadline_ms, now_ms
        self._is_asked = False
        self.pool: Pool | None = None

    @property
    def left_s(self) -> float:
        """Seconds to the deadline, one at least."""
        return max(1.0, (self._deadline_ms - self._now_ms()) / 1_000)

    def ask(self) -> None:
        """Be told to end, by a signal."""
        self._is_asked = True
        if self.pool is not None:
            self.pool.stop()

    def look(self) -> None:
        """Stop the pool when the deadline has passed."""
        if self.pool is not None and self._is_late:
            self.pool.stop()

    def check(self) -> None:
        """Raise OutOfTime after the deadline, whoever else wants it to end; Interrupted when told to."""
        if self._is_late:
            raise OutOfTime(
                f"deadline: it was not done by {minute(self._deadline_ms)} UTC: give it more hours, fewer steps or "
                "more workers"
            )
        if self._is_asked:
            raise Interrupted("told to end")

    @property
    def _is_late(self) -> bool:
        return self._now_ms() >= self._deadline_ms


@dataclass(slots=True, kw_only=True)
class _Story:
    """What is known so far; failures tell it too."""

    data: dict[str, Any] | None = None
    gate: tuple[Check, ...] = ()
    difference: Difference | None = None
    trials: int = 0
    members: int = 0
    notes: list[str] = field(default_factory=list)


class _Job:
    """One request as it is worked on."""

    def __init__(self, request: Request, exchange: Exchange, stop: _Stop, means: Means) -> None:
        self._request, self._exchange, self._stop, self._means = request, exchange, stop, means
        self._folder = exchange.folder(request.request)
        self._start_s = time.monotonic()
        self._story = _Story()

    def result(self, outcome: str, reason: str, candidate: str = "") -> Result:
        """Return the answer, with all that is known."""
        story = self._story
        report = {
            "data": story.data,
            "gate": [check.to_json() for check in story.gate],
            "difference": _measured(story.difference),
            "trials": story.trials,
            "seconds": round(time.monotonic() - self._start_s, 3),
            "members": story.members,
            "notes": story.notes,
        }
        reason = reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}..."
        self._means.say(f"{outcome}: {reason}")
        return Result(request=self._request.request, outcome=outcome, reason=reason, candidate=candidate, report=report)

    def work(self) -> Result:
        """Return what came of the request. Raises TooSoon, NoMember, Interrupted, TrainingError and StrategyError."""
        request = self._request
        self._begin("candles", f"incumbent {request.incumbent}, asked for by {request.by}")
        incumbent = read_serving_bundle(request.registry / request.incumbent)
        plan = plan_of(incumbent.manifest, request)
        gathered = self._gather()
        self._story.notes += gathered.notes
        seen_to_ms = incumbent.manifest.training.end_ms
        split = split_of(gathered.tables, seen_to_ms, request.holdout_days, request.at_ms)
        self._story.data = _told(gathered, split)
        prepared = prepare(incumbent.manifest, plan, gathered, split)
        self._story.notes += prepared.notes
        place = self._train(prepared)
        return self._judge(incumbent, place, gathered, split)

    def _begin(self, stage: str, words: str) -> None:
        self._stop.check()
        self._means.say(f"{stage}: {words}")
        self._exchange.progress(stage, 0, 0, words, always=True)

    def _gather(self) -> Gathered:
        def say(words: str) -> None:
            self._begin("candles", words)

        return gather(
            self._request, self._folder, say=say, make_venue=self._means.make_venue, limit_s=self._stop.left_s
        )

    def _train(self, prepared: Prepared) -> Path:
        """Return where the candidate lies."""
        plan = prepared.run.plan
        self._begin("training", f"{plan.members} members, {plan.member.steps:,} steps each")
        workers = self._request.workers or len(os.sched_getaffinity(0))
        pool = self._stop.pool = self._means.make_pool(min(workers, plan.members))

        def tell(done: int, total: int, words: str) -> None:
            self._exchange.progress("training", done, total, words)
            self._stop.look()

        try:
            trained, place = train(prepared, self._folder, pool, self._ledger(), tell)
        except Interrupted:
            self._stop.check()  # it was the deadline
            raise
        finally:
            self._stop.pool = None
        self._story.members = len(trained.manifest.members)
        return place

    def _ledger(self) -> Ledger:
        """Return where every candidate is counted: beside the ensembles, unless the environment says where."""
        return Ledger(Path(os.environ.get(VARIABLE) or self._request.registry / _LEDGER))

    def _judge(self, incumbent: Bundle, place: Path, gathered: Gathered, split: Split) -> Result:
        self._begin("gate", f"{split.days} days that neither has seen")
        try:
            candidate = read_serving_bundle(place)
        except BundleError as error:
            self._story.gate = (_compatible(str(error)),)
            return self.result("kept", f"refused by the gate: {error}")
        verdict = self._examined(incumbent, candidate, _exam(incumbent, gathered, split), split)
        self._story.gate, self._story.difference = (_compatible(""), *verdict.checks), verdict.difference
        if reason := refusal(self._story.gate):
            return self.result("kept", f"refused by the gate: {reason}")
        self._stop.check()
        into_registry(place, self._request.registry)
        better = next(check for check in verdict.checks if check.name == "better")
        return self.result("candidate", f"passed the gate: {better.words}", candidate.manifest.short_id)

    def _examined(self, incumbent: Bundle, candidate: Bundle, exam: Exam, split: Split) -> Verdict:
        """Return what the gate says; that it is asked is written down before anybody can know the answer."""
        ledger, trial = self._ledger(), _trial(incumbent, candidate, exam, split)
        ledger.record([trial.scored(None, 1, is_over=False)])
        self._story.trials = ledger.tally().only(Kind.RETRAIN).count
        total = _PASSES * sum(len(table.slice(exam.from_ms, None)) for table in exam.tables)

        def progress(done: int) -> None:
            self._stop.check()
            self._exchange.progress("gate", done, total, f"{done:,} of {total:,} candles")

        terms = Terms(
            confidence=self._request.gate_confidence,
            max_drawdown=self._request.max_drawdown,
            trials=self._story.trials,
        )
        verdict = examine(exam, incumbent, candidate, terms, progress)
        ledger.record([trial.scored(verdict.sharpe, 1)])
        return verdict


def _exam(incumbent: Bundle, gathered: Gathered, split: Split) -> Exam:
    setup = setup_of(gathered.tables, conditions_of(incumbent.manifest), "retrain")
    return exam_of(gathered.tables, setup, split)


def _measured(difference: Difference | None) -> dict[str, Any] | None:
    """Return the difference for the report, None where it gives a shadow no scale."""
    return None if difference is None or difference.spread is None else difference.to_json()


def _compatible(fault: str) -> Check:
    return Check(
        name="compatible",
        value=0.0 if fault else 1.0,
        threshold=1.0,
        passed=not fault,
        words=fault or "this program can serve it",
    )


def _trial(incumbent: Bundle, candidate: Bundle, exam: Exam, split: Split) -> Trial:
    symbols = tuple(table.symbol for table in exam.tables)
    recipe = {
        "retrain": candidate.manifest.id,
        "incumbent": incumbent.manifest.id,
        "span": [split.from_ms, split.to_ms],
        "symbols": list(symbols),
    }
    return Trial(
        kind=Kind.RETRAIN,
        recipe=fingerprint(recipe),
        from_ms=split.from_ms,
        to_ms=split.to_ms,
        symbols=symbols,
        words=f"candidate {candidate.manifest.short_id} for {incumbent.manifest.short_id}",
    )


def _told(gathered: Gathered, split: Split) -> dict[str, Any]:
    tables = gathered.tables
    return {
        "symbols": [table.symbol for table in tables],
        "start_ms": min(int(table.open_ms[0]) for table in tables),
        "practice_to_ms": split.practice_to_ms,
        "holdout_from_ms": split.from_ms,
        "end_ms": split.to_ms,
        "files": [{"name": file.name, "sha256": file.sha256} for file in gathered.files],
        "days_unseen": round(split.days_unseen, 3),
    }
