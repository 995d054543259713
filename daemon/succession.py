"""Which ensemble serves next: asks for retrainings, tries candidates in shadow, swaps, and takes swaps back.

A task of its own beside the main path, woken now and then. It never touches a decision: what it does to the account
goes through the engine, between two candles, journalled first. What it does follows from the journal alone, so that a
start after a kill takes up where the former run was. The usual outcome of all of it is that nothing changes.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from daemon import crash_points
from daemon.companion import Advice, Bounds, Companion
from daemon.config import Config
from daemon.contenders import Contenders
from daemon.engine import Engine
from daemon.errors import ArtifactError, FatalError, NotArmed, SacdError
from daemon.events import Event, ModelStep, ShadowMarked
from daemon.model_life import (
    Cause,
    Outcome,
    Phase,
    Swap,
    of_confirmed,
    of_kept,
    of_pinned,
    of_serving,
    of_shadow,
    of_swap_failed,
    of_swapping,
    of_trained,
)
from daemon.models import set_current
from daemon.models_status import DriftStatus, ModelsStatus
from daemon.ports import Clock, DriftMarked, Record
from daemon.readiness import read_readiness, refuse_unready
from daemon.retrain_result import RetrainResult
from daemon.run_record import run_record
from daemon.serving import reference_of
from daemon.succession_retrain import Retraining
from strategy.bundle import Bundle
from strategy.errors import StrategyError
from strategy.features import FEATURE_NAMES
from strategy.sequential import TestPlan

_LOOK_EVERY_S = 1.0
_RETRY_S, _MOST_RETRY_S = 60.0, 3_600.0
"""After a swap that failed: twice as long after each further one, up to an hour."""
_HOLDS_AFTER = 2
"""Attempts to take back an ensemble that failed, after which nothing more is bought by it."""
_WAYS_OUT = "let another one serve (`sacd models promote ID`)"
_FARTHEST = 3
"""Features that a person is told of."""
_log = structlog.get_logger()


class Succession:
    """Looks after the ensembles of one running account. Also a sink: a comparison that was marked wakes it."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        companion: Companion,
        contenders: Contenders,
        *,
        environ: Mapping[str, str],
        make_id: Callable[[], str],
        overrides: Mapping[str, Any] | None = None,
        tell_next: Callable[[int | None], None] = lambda _at_ms: None,
    ) -> None:
        """Begin with what recovery fills in.

        environ: of the daemon, for trainers.  make_id: for requests.  overrides: what a person allowed for this run.
        tell_next: told when the schedule asks for the next retraining, None without one, whenever that may change.
        """
        self.companion = companion
        self._config = config
        self._clock = clock
        self._contenders = contenders
        self._overrides = overrides
        self._engine: Engine | None = None
        self._retraining = Retraining(
            config,
            clock,
            companion,
            note=self._note,
            refuse=contenders.refuse_unswappable,
            environ=environ,
            make_id=make_id,
        )
        self._tell_next = tell_next
        self._woken = asyncio.Event()
        self._changing = asyncio.Lock()
        self._not_before_s = 0.0
        self._failures = 0
        self._held = ""
        self._is_failing = False
        self._told: dict[str, str] = {}

    def publish(self, event: Event) -> None:
        """Wake up for what may call for something."""
        if isinstance(event, ModelStep):
            self._retraining.rearm()
            self._tell_next(self._retraining.next_ms)
        if isinstance(event, ModelStep | ShadowMarked):
            self._woken.set()

    # ---- a run begins -------------------------------------------------------------------------------------------
    async def begin(self, engine: Engine, serving: str, began_ms: int) -> None:
        """Bring the life of the ensembles up to the one that was found serving, and take up a retraining.

        serving: its short id.  began_ms: when the account was opened.  A swap that was killed after its links had
        changed ends here; one killed before is carried out again.
        """
        self._engine = engine
        life, swap = self.companion.life, self.companion.life.swap
        if swap is not None and swap.new == serving:
            await self._note(*self._dropped_for(serving), self._of_serving(swap))
        elif life.serving != serving:
            if swap is not None:
                await self._note(of_swap_failed(swap, self._clock.now_ms(), reason="another ensemble was put in place"))
            detail = "the first run" if not life.serving else "the configured ensemble had changed"
            step = of_serving(serving, life.serving, Cause.FOUND, self._clock.now_ms(), detail=detail, test=None)
            await self._note(*self._dropped_for(serving), step)
        await self._retraining.begin(began_ms)
        self._tell_next(self._retraining.next_ms)

    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """Begin to look after them, and return the tasks that do until they are cancelled."""
        return [asyncio.create_task(work) for work in (self._run(), self._retraining.keep_schedule())]

    def reconfigure(self, config: Config) -> None:
        """Go by another configuration of the same account from here on; comparisons under way keep their plans."""
        self._config = config
        self.companion.bound(Bounds.of(config.retrain))
        self._retraining.reconfigure(config)
        self._tell_next(self._retraining.next_ms)
        self._woken.set()

    @property
    def bundle(self) -> Bundle:
        """The ensemble that serves."""
        return self._contenders.bundle(self._running().model.id)

    async def end(self) -> None:
        """End a trainer that is a child of ours; its request stays for the next run."""
        await self._retraining.end()

    async def _run(self) -> None:
        # Apart: what hinders a swap must not keep a trainer from being heard.
        parts = {"ensembles": self._look_at_ensembles, "retraining": self._look_at_retraining}
        while True:
            for name, look in parts.items():
                try:
                    await look()
                except FatalError:
                    raise
                except SacdError as error:
                    if self._is_news(name, str(error)):
                        _log.error("succession_hindered", reason=str(error))
            await self._rest()

    async def _rest(self) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep_s(_LOOK_EVERY_S))
        waking = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waking.cancel()
        self._woken.clear()

    def _is_news(self, subject: str, said: str) -> bool:
        """Tell whether that is not what was said of a subject last: what goes on being so is logged once."""
        is_news = self._told.get(subject) != said
        self._told[subject] = said
        return is_news

    # ---- what is to be done -------------------------------------------------------------------------------------
    async def _look_at_ensembles(self) -> None:
        self._heed_fault()
        async with self._changing:
            await self._finish_swap()
            await self._heed()

    async def _look_at_retraining(self) -> None:
        result = await self._retraining.look()
        if result is not None:
            async with self._changing:
                await self._conclude(result)
        await self._retraining.heed_drift()

    def _heed_fault(self) -> None:
        """Say once that the serving ensemble fails, and once that it works again."""
        serving, fault = self.companion.life.serving, self.companion.fault
        if fault:
            if not self._is_failing:
                reason = self._running().trader.fault or fault
                _log.error("ensemble_fails", model=serving, reason=reason, remedy=_WAYS_OUT)
        elif self._is_failing:
            _log.info("ensemble_votes_again", model=serving)
        self._is_failing = bool(fault)

    async def _finish_swap(self) -> None:
        """Carry out what a former run began."""
        swap = self.companion.life.swap
        if swap is not None:
            await self._carry_out(swap)

    async def _conclude(self, result: RetrainResult) -> None:
        """Write down how a retraining ended; a candidate goes into shadow in the same transaction."""
        if result.outcome is Outcome.CANDIDATE and self.companion.life.phase is Phase.WATCH:
            return  # a person has just put another one in place: it waits, as it would have
        now_ms, (outcome, reason, steps) = self._clock.now_ms(), await self._judged(result)
        ended = of_trained(
            result.request, outcome, now_ms, reason=reason, candidate=result.candidate, report=result.report
        )
        await self._note(ended, *steps)
        if steps:
            crash_points.at("shadowing")
        await self._retraining.clear()

    async def _judged(self, result: RetrainResult) -> tuple[Outcome, str, Sequence[Record]]:
        """Return how a retraining ended, why, and the steps that follow."""
        life, candidate = self.companion.life, result.candidate
        if result.outcome is not Outcome.CANDIDATE:
            return result.outcome, result.reason, ()
        if candidate in {life.serving, life.candidate}:
            does = "serves" if candidate == life.serving else "is in shadow"
            return Outcome.KEPT, f"it made {candidate} once more, which {does} already", ()
        try:
            steps = await self._into_shadow(candidate, request=result.request, scale=result.spread)
        except (ArtifactError, StrategyError) as error:
            return Outcome.FAILED, f"the candidate cannot be tried: {error}", ()
        return result.outcome, result.reason, steps

    def _may_try(self) -> bool:
        return self._clock.monotonic_s() >= self._not_before_s

    async def _heed(self) -> None:
        """Do what the comparison advises, where nothing forbids it."""
        life = self.companion.life
        advice, why = self.companion.advice()
        match advice:
            case Advice.KEEP:
                await self._note(of_kept(life.candidate, self._clock.now_ms(), reason=why, figures=self._figures()))
            case Advice.CONFIRM:
                confirmed = of_confirmed(life.serving, self._clock.now_ms(), reason=why, figures=self._figures())
                await self._note(confirmed)
            case Advice.PROMOTE if life.is_pinned or not self._config.retrain.automatic:
                if self._is_news("proved", life.candidate):
                    hindrance = f"{life.serving} is pinned" if life.is_pinned else "[retrain] automatic is false"
                    _log.warning("candidate_waits", model=life.candidate, proof=why, reason=hindrance)
            case Advice.PROMOTE if self._may_try():
                await self._promote_proved(life.candidate, why)
            case Advice.ROLL_BACK if life.previous and not life.is_pinned and self._may_try():
                await self._take_back(Swap(old=life.serving, new=life.previous, cause=Cause.ROLLBACK, detail=why))
            case Advice.PROMOTE | Advice.ROLL_BACK | Advice.WAIT:
                pass

    async def _promote_proved(self, candidate: str, why: str) -> None:
        try:
            self._refuse_unready(candidate)
        except SacdError as error:
            reason = f"proved in shadow ({why}), but {error}"
            await self._note(of_kept(candidate, self._clock.now_ms(), reason=reason, figures=self._figures()))
            return
        swap = Swap(old=self.companion.life.serving, new=candidate, cause=Cause.PROVED, detail=why)
        await self._swap(swap)

    async def _take_back(self, swap: Swap) -> None:
        """Let the former ensemble serve again; when that cannot be, the one that failed buys nothing more.

        Live, the former one must be such that the next start accepts it: it may have served under a permission that
        was withdrawn since, and an account that cannot be started again is worse than one that only sells.
        """
        try:
            self._contenders.refuse_unswappable()
            self._refuse_unready(swap.new)
        except (ArtifactError, NotArmed) as error:
            self._put_off()
            await self._hold(swap, error)
            raise
        try:
            await self._swap(swap)
        except ArtifactError as error:
            if self._failures >= _HOLDS_AFTER:
                await self._hold(swap, error)
            raise

    async def _hold(self, swap: Swap, error: SacdError) -> None:
        if self._held == swap.old:
            return  # once: a person who resumes has seen it
        self._held = swap.old
        reason = f"{swap.detail}, and {swap.new} cannot take its place: {error}"
        _log.error("paused_for_ensemble", model=swap.old, reason=reason, remedy=f"{_WAYS_OUT}, then `sacd resume`")
        if not self._running().trader.risk.is_paused:
            await self._running().command("pause", "models")

    def _refuse_unready(self, model: str) -> None:
        """Raise NotArmed for an ensemble that the next start would not let trade real money either."""
        if self._config.is_live:
            manifest = self._contenders.bundle(model).manifest
            readiness = read_readiness(self._contenders.registry / model, manifest)
            refuse_unready(readiness, self._config.live.allow_unproven)

    # ---- swapping -----------------------------------------------------------------------------------------------
    async def _swap(self, swap: Swap) -> None:
        self._contenders.refuse_unswappable()
        await self._note(of_swapping(swap, self._clock.now_ms()))
        await self._carry_out(swap)

    async def _carry_out(self, swap: Swap) -> None:
        """Change the links, then what decides.

        Raises ArtifactError or NotArmed, with nothing changed and that journalled, where it cannot be done.
        """
        crash_points.at("swapping")
        try:
            # In a thread: reading and checking takes longer than a candle may wait.
            bundle = await asyncio.to_thread(self._contenders.bundle, swap.new)
            self._refuse_unready(swap.new)
            await asyncio.to_thread(set_current, self._contenders.registry, swap.new)
        except (ArtifactError, NotArmed) as error:
            self._put_off()
            await self._note(of_swap_failed(swap, self._clock.now_ms(), reason=str(error)))
            raise

        crash_points.at("linked")

        def begun(setup: Any) -> Record:  # noqa: ANN401 - a Setup
            return run_record(self._config, setup, bundle, self._overrides)

        model, dropped = self._contenders.model(swap.new), self._dropped_for(swap.new)
        if dropped:
            await self._note(*dropped)
        await self._running().serve(model, reference_of(bundle), begun, self._of_serving(swap))
        crash_points.at("serving")
        self._failures, self._not_before_s = 0, 0.0

    def _dropped_for(self, model: str) -> Sequence[Record]:
        """Return the step that ends a shadow because `model` serves, which is not the one that was tried."""
        life = self.companion.life
        if life.phase is not Phase.SHADOW or life.candidate == model:
            return ()
        reason = f"{model} takes the place of {life.serving}, beside which it was tried"
        return (of_kept(life.candidate, self._clock.now_ms(), reason=reason, figures=self._figures()),)

    def _put_off(self) -> None:
        """Let what follows by itself wait, the longer the oftener it has failed."""
        self._failures += 1
        pause_s = min(_RETRY_S * 2.0 ** (self._failures - 1), _MOST_RETRY_S)
        self._not_before_s = self._clock.monotonic_s() + pause_s

    def _of_serving(self, swap: Swap) -> Record:
        plan = None if swap.cause is Cause.ROLLBACK else self._watch_plan()
        return of_serving(swap.new, swap.old, swap.cause, self._clock.now_ms(), detail=swap.detail, test=plan)

    # ---- comparisons --------------------------------------------------------------------------------------------
    async def _into_shadow(self, candidate: str, *, request: str = "", scale: float | None = None) -> list[Record]:
        """Return the steps by which a candidate begins to trade play money; one in shadow before it is dropped.

        scale: what the difference of the two per decision is usually like, None when nothing tells.
        Raises ArtifactError when it cannot be read or cannot serve.
        """
        life, now_ms = self.companion.life, self._clock.now_ms()
        await asyncio.to_thread(self._contenders.bundle, candidate)
        begins = of_shadow(candidate, life.serving, now_ms, request=request, test=self._shadow_plan(scale))
        if life.phase is not Phase.SHADOW:
            return [begins]
        reason = f"{candidate} takes its place in shadow"
        return [of_kept(life.candidate, now_ms, reason=reason, figures=self._figures()), begins]

    def _shadow_plan(self, scale: float | None) -> dict[str, Any]:
        retrain = self._config.retrain
        return TestPlan(
            scale=scale or self._usual_scale(),
            horizon=retrain.shadow_decisions,
            least=retrain.shadow_least,
            alpha=retrain.shadow_alpha,
        ).to_json()

    def _watch_plan(self) -> dict[str, Any]:
        retrain = self._config.retrain
        return TestPlan(
            scale=self.companion.scale or self._usual_scale(),
            horizon=retrain.watch_decisions,
            least=1,
            alpha=retrain.regret_alpha,
        ).to_json()

    def _usual_scale(self) -> float:
        """Return a tenth of what the account moves from decision to decision at the volatility it aims at.

        Ensembles that were made alike hold much the same: so much is what remains. A wrong guess costs power only.
        """
        strategy, timeframe = self._config.strategy_parameters(), self._config.timeframe
        decisions_per_year = timeframe.candles_per_year / strategy.decide_every
        return 0.1 * strategy.volatility_target / math.sqrt(decisions_per_year)

    def _figures(self) -> dict[str, Any]:
        comparison = self.companion.comparison
        return {} if comparison is None else comparison.to_json()

    # ---- what a person asks -------------------------------------------------------------------------------------
    async def command(self, verb: str, args: Mapping[str, Any]) -> str:
        """Do what a person asks of the ensembles; returns the effect in words. Raises SacdError."""
        if verb == "retrain":
            return await self._retraining.by_hand()
        async with self._changing:
            await self._finish_swap()
            match verb:
                case "promote":
                    return await self._promote(_model_in(args))
                case "rollback":
                    return await self._roll_back()
                case "pin":
                    return await self._pin(is_pinned=not args.get("off", False))
                case "shadow":
                    return await self._shadow(_model_in(args))
                case _:
                    raise SacdError(f"unknown command {verb!r}")

    async def _promote(self, model: str) -> str:
        life = self.companion.life
        if model == life.serving:
            return f"{model} serves already"
        await asyncio.to_thread(self._contenders.bundle, model)
        self._refuse_unready(model)
        await self._swap(Swap(old=life.serving, new=model, cause=Cause.HAND, detail="asked for by hand"))
        return f"{model} serves from the next candle on; {life.serving} is kept for a rollback"

    async def _roll_back(self) -> str:
        life = self.companion.life
        if not life.previous:
            raise SacdError("there is no former ensemble to go back to: `sacd models promote ID` takes any other")
        self._refuse_unready(life.previous)
        await self._swap(Swap(old=life.serving, new=life.previous, cause=Cause.ROLLBACK, detail="asked for by hand"))
        return f"{life.previous} serves again from the next candle on"

    async def _pin(self, *, is_pinned: bool) -> str:
        await self._note(of_pinned(self._clock.now_ms(), is_pinned=is_pinned, source="hand"))
        serving = self.companion.life.serving
        if is_pinned:
            return f"{serving} is pinned: no candidate takes its place and nothing is rolled back until `pin --off`"
        return f"{serving} is no longer pinned"

    async def _shadow(self, model: str) -> str:
        if model == self.companion.life.serving:
            raise SacdError(f"{model} serves already: there is nothing to compare it with")
        if model == self.companion.life.candidate:
            raise SacdError(f"{model} is in shadow already: to begin again would give chance another chance")
        if self.companion.life.phase is Phase.WATCH:
            raise SacdError(f"{self.companion.life.serving} is still watched beside the former one: wait for its end")
        await self._note(*await self._into_shadow(model))
        crash_points.at("shadowing")
        return f"{model} trades play money beside {self.companion.life.serving} from the next candle on"

    # ---- parts --------------------------------------------------------------------------------------------------
    def status(self) -> ModelsStatus:
        """Return where the ensembles stand, as a person is told."""
        drift, limit, comparison = self.companion.drift, self._config.retrain.drift_limit, self.companion.comparison
        return ModelsStatus.of(
            self.companion.life,
            None if comparison is None else comparison.to_json(),
            horizon=0 if comparison is None else comparison.of,
            next_retrain_ms=self._retraining.next_ms,
            drift=None if drift is None else DriftStatus(joint=drift.joint, limit=limit, features=farthest(drift)),
            progress=self._retraining.progress,
            fault=self.companion.fault,
        )

    async def _note(self, *steps: Record) -> None:
        await self._running().note(steps)

    def _running(self) -> Engine:
        if self._engine is None:
            raise FatalError("the succession of ensembles was asked before the engine began")
        return self._engine


def farthest(drift: DriftMarked) -> list[tuple[str, float]]:
    """Return the features that lie farthest from the training candles, the farthest first."""
    named = zip(FEATURE_NAMES, drift.features, strict=True)
    return sorted(named, key=lambda one: -one[1])[:_FARTHEST]


def _model_in(args: Mapping[str, Any]) -> str:
    model = args.get("model")
    if not isinstance(model, str):
        raise SacdError("which ensemble? give the id that `sacd models list` shows")
    return model
