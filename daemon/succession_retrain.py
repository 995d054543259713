"""Asking for retrainings, and hearing what came of them: the daemon's side of it. The trainer is another process.

Everything is known from the journal and from files, so that a daemon that was killed takes up a retraining where it
was. Whatever the trainer does, the incumbent trades on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from daemon import crash_points
from daemon.companion import Companion
from daemon.config import Config
from daemon.errors import ArtifactError, FatalError, SacdError
from daemon.model_life import Life, Outcome, Phase, Retrain, RetrainBy, of_requested, of_trained
from daemon.paths import journal_path
from daemon.ports import Clock, Record
from daemon.retrain_child import TrainerChild
from daemon.retrain_files import (
    RESULT,
    RetrainRequest,
    clear_result,
    is_running,
    read_progress,
    read_result,
    waiting_request,
    withdraw_request,
    write_request,
)
from daemon.retrain_result import RetrainResult
from daemon.schedule import Due, Past, RetrainSchedule, Timetable

_HOUR_MS = 3_600_000
_GRACE_MS = 120_000
"""After its time limit: a trainer that has not answered then never will."""
_GONE_AFTER_S = 10.0
"""A trainer that takes a request holds its lock a moment later; one that has let go of it has left its result."""
_DRIFT_PAUSE_MS = 7 * 24 * _HOUR_MS
"""Between retrainings that drift asks for: it lasts for weeks, and candles to judge by come one by one."""
_UNDER_WAY = "a retraining is under way: `sacd status` tells how far it is"
_log = structlog.get_logger()


class Retraining:
    """One account's retrainings, one at a time."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        companion: Companion,
        *,
        note: Callable[[Record], Awaitable[None]],
        refuse: Callable[[], None],
        environ: Mapping[str, str],
        make_id: Callable[[], str],
    ) -> None:
        """note: writes a step into the journal.  refuse: raises ArtifactError where no other ensemble could serve.

        environ: of the daemon, from which a trainer gets what it needs.  make_id: 16 hexadecimal digits, ever others.
        """
        self._config = config
        self._clock = clock
        self._companion = companion
        self._note = note
        self._refuse = refuse
        self._directory = config.daemon.state_dir / "retrain"
        self._environ = environ
        self._make_id = make_id
        self._child: TrainerChild | None = None
        self._ended = ""
        self._is_adopted = False
        self._told: dict[str, str] = {}
        self._waiting: asyncio.Task[None] | None = None
        self._alone_since_s: float | None = None
        self._asking = asyncio.Lock()
        self._began_ms = clock.now_ms()
        self._schedule = RetrainSchedule(_timetable(config), self._past, self._on_due, clock)
        self.progress: str | None = None
        """What the running trainer tells, in words; None while none runs."""

    @property
    def _life(self) -> Life:
        return self._companion.life

    async def begin(self, began_ms: int) -> None:
        """Take up what a former run left: a trainer that runs is waited for, one that was killed is started again.

        began_ms: when the account was opened, from which intervals are counted.
        """
        self._began_ms = began_ms
        retrain = self._life.retrain
        if retrain is None or not self._life.is_retraining or self._clock.now_ms() >= self._deadline_ms(retrain):
            return
        try:
            self._is_adopted = await asyncio.to_thread(self._is_answered)
        except ArtifactError as error:
            self._tell_once("retrain_not_taken_up", str(error))
            return
        if not self._is_adopted:
            await self._start(retrain)

    def _is_answered(self) -> bool:
        """Return whether a trainer works, or has left something to be read. Raises ArtifactError."""
        try:
            return is_running(self._directory) or (self._directory / RESULT).exists()
        except OSError as error:
            raise self._closed_to_us(error) from error

    def _closed_to_us(self, error: OSError) -> ArtifactError:
        return ArtifactError(
            f"{self._directory}: it cannot be looked into ({error.strerror}): correct its owner and mode"
        )

    def _tell_once(self, event: str, reason: str) -> None:
        if self._told.get(event) != reason:
            self._told[event] = reason
            _log.error(event, reason=reason)

    def reconfigure(self, config: Config) -> None:
        """Go by another configuration of the same account.

        A trainer under way was told what to do when it began; of what may change, only a shorter time limit holds for
        it.
        """
        self._config = config
        self._schedule.begin(_timetable(config))

    async def end(self) -> None:
        """End the trainer that is ours; the next run starts it again, and it goes on where it was."""
        if self._child is not None:
            await self._child.stop()

    # ---- the schedule -------------------------------------------------------------------------------------------
    @property
    def next_ms(self) -> int | None:
        """When the schedule asks next, None without one."""
        return self._schedule.next_ms

    async def keep_schedule(self) -> None:
        """Ask whenever the schedule says so, until cancelled."""
        await self._schedule.run()

    def rearm(self) -> None:
        """Look at the schedule anew: the journal says something else."""
        self._schedule.rearm()

    def _past(self) -> Past:
        return Past.of(self._life, self._began_ms)

    async def _on_due(self, due: Due) -> None:
        if self._life.phase is not Phase.STEADY:
            return  # offered again: a new candidate would take the place of one whose comparison has not ended
        try:
            self._refuse()
        except ArtifactError as error:
            self._tell_once("retrain_not_asked", str(error))
            return
        await self.ask(RetrainBy.SCHEDULE, scheduled_ms=due.scheduled_ms)

    # ---- asking -------------------------------------------------------------------------------------------------
    async def by_hand(self) -> str:
        """Ask for a retraining now; returns the effect in words.

        Raises SacdError when one runs already, and when none can begin.
        """
        if self._life.is_retraining:
            raise SacdError(_UNDER_WAY)
        self._refuse()
        if not await self.ask(RetrainBy.HAND):
            raise SacdError(_UNDER_WAY)
        retrain = self._life.retrain
        if retrain is not None and retrain.outcome is Outcome.FAILED:
            raise SacdError(f"the retraining could not begin: {retrain.reason}")
        return "a retraining was asked for; `sacd status` tells how far it is; usually nothing changes in the end"

    async def ask(self, by: RetrainBy, *, scheduled_ms: int | None = None) -> bool:
        """Write down that one is asked for, and ask; returns False while another one is under way.

        A request that cannot be left is a retraining that failed.
        """
        async with self._asking:
            if self._life.is_retraining:
                return False  # two asked at once
            now_ms, request = self._clock.now_ms(), self._make_id()
            serving = self._life.serving
            await self._note(of_requested(request, by, now_ms, scheduled_ms=scheduled_ms, incumbent=serving))
            crash_points.at("requested")
            retrain = self._life.retrain
            if retrain is not None:
                await self._start(retrain)
            return True

    async def _start(self, retrain: Retrain) -> None:
        """Leave the request where the trainer finds it, and start one where nobody else does."""
        self._ended, self._alone_since_s, self._is_adopted = "", None, False
        try:
            if await asyncio.to_thread(waiting_request, self._directory) != retrain.request:
                await asyncio.to_thread(write_request, self._directory, self._request(retrain))
            if self._config.retrain.runner == "child":
                await self._begin_child(retrain)
        except FatalError:
            raise
        except (SacdError, OSError) as error:
            await self.fail(str(error))

    async def _begin_child(self, retrain: Retrain) -> None:
        left_ms = self._deadline_ms(retrain) - self._clock.now_ms()
        # Never longer than a whole one: the clock may have been set back since it was asked for.
        seconds = max(1.0, min(left_ms, self._limit_ms) / 1_000)
        memory_mib = self._config.retrain.memory_mib
        child = TrainerChild(self._directory, self._clock, self._environ, seconds=seconds, memory_mib=memory_mib)
        await child.start()
        self._child = child
        self._waiting = asyncio.create_task(self._wait_for(child))

    async def _wait_for(self, child: TrainerChild) -> None:
        ended = await child.wait()
        if self._child is child:
            self._child, self._ended = None, ended.reason
        tell = _log.warning if ended.is_failure else _log.info
        tell("trainer_ended", reason=ended.reason)

    def _request(self, retrain: Retrain) -> RetrainRequest:
        config, settings = self._config, self._config.retrain
        return RetrainRequest(
            request=retrain.request,
            at_ms=retrain.at_ms,
            by=retrain.by,
            registry=config.strategy.model.parent,
            incumbent=self._life.serving,
            journal=journal_path(config),
            exchange=config.exchange.id if config.market.source == "exchange" else "",
            timeframe=config.market.timeframe,
            symbols=config.market.symbols,
            data=settings.data,
            fetch=settings.fetch,
            workers=settings.workers,
            steps=settings.steps,
            deadline_ms=self._deadline_ms(retrain),
            memory_mib=settings.memory_mib,
            holdout_days=settings.holdout_days,
            gate_confidence=settings.gate_confidence,
            max_drawdown=config.risk_limits().max_drawdown,
        )

    def _deadline_ms(self, retrain: Retrain) -> int:
        return retrain.at_ms + self._limit_ms

    @property
    def _limit_ms(self) -> int:
        return round(self._config.retrain.limit_hours * _HOUR_MS)

    # ---- what drift asks for ------------------------------------------------------------------------------------
    async def heed_drift(self) -> None:
        """Ask for a retraining when the market has moved away from what the serving ensemble was trained on."""
        trigger, drift, life = self._config.retrain.drift_trigger, self._companion.drift, self._life
        if trigger == 0.0 or drift is None or drift.joint < trigger or life.is_retraining:
            return
        if life.phase is not Phase.STEADY:
            return  # as with the schedule: a new candidate would take the place of one that is still compared
        # One that lies in the future was asked for while the clock was wrong.
        if life.retrain is None or abs(self._clock.now_ms() - life.retrain.at_ms) >= _DRIFT_PAUSE_MS:
            self._refuse()
            await self.ask(RetrainBy.DRIFT)

    # ---- hearing ------------------------------------------------------------------------------------------------
    async def look(self) -> RetrainResult | None:
        """Return what the trainer left for the newest request, once; one that ended without a word has failed.

        A candidate waits while a former one is still watched: two comparisons at once would blur both.
        Raises ArtifactError when nothing can be known of the trainer.
        """
        try:
            result = await asyncio.to_thread(self._result)
        except ArtifactError as error:
            await self.fail(str(error))
            return None
        if self._asking.locked():
            return None  # asked for this very moment: nobody has had the time to answer
        retrain = self._life.retrain  # as it is now: another one may have been asked for meanwhile
        if retrain is None or not self._life.is_retraining or (result and result.request != retrain.request):
            if result is not None:
                _log.warning("stale_result", request=result.request, remedy="none needed: it is removed")
                await self.clear()
            return None
        if result is None:
            await self._look_at_trainer(retrain)
            return None
        if result.outcome is Outcome.CANDIDATE and self._life.phase is Phase.WATCH:
            self.progress = f"{result.candidate} waits until {self._life.serving} is watched no longer"
            return None
        self.progress = None
        return result

    def _result(self) -> RetrainResult | None:
        return read_result(self._directory)

    async def clear(self) -> None:
        """Remove the result, which stands in the journal now."""
        try:
            await asyncio.to_thread(clear_result, self._directory)
        except OSError as error:
            self._tell_once("result_left", str(error))

    async def _look_at_trainer(self, retrain: Retrain) -> None:
        overdue_ms = self._clock.now_ms() - self._deadline_ms(retrain)
        if overdue_ms > _GRACE_MS:
            await self.end()
            await self.fail(self._too_late())
            return
        self.progress = await asyncio.to_thread(self._progress)
        is_there = await asyncio.to_thread(self._is_anybody_there, retrain)
        now_s = self._clock.monotonic_s()
        if is_there:
            self._alone_since_s = None
        elif self._alone_since_s is None:
            self._alone_since_s = now_s
        elif now_s - self._alone_since_s >= _GONE_AFTER_S or self._ended:
            await self._end_without_trainer(self._too_late() if overdue_ms > 0 else "")

    def _too_late(self) -> str:
        return f"no result within {self._config.retrain.limit_hours:g} hours"

    async def _end_without_trainer(self, reason: str) -> None:
        """Start the trainer of a former run, which has ended with that run, once more; any other has failed."""
        async with self._asking:
            retrain = self._life.retrain
            if retrain is None or not self._life.is_retraining or await asyncio.to_thread(self._is_answered):
                return  # in the very moment in which we looked
            if self._is_adopted and not reason:
                await self._start(retrain)
            else:
                await self.fail(reason or f"no result: {self._ended or 'the trainer is gone'}")

    def _is_anybody_there(self, retrain: Retrain) -> bool:
        """Return whether a trainer works, or may still take the request. Raises ArtifactError."""
        try:
            if self._child is not None or is_running(self._directory):
                return True
        except OSError as error:
            raise self._closed_to_us(error) from error
        is_unit = self._config.retrain.runner == "unit"
        return is_unit and waiting_request(self._directory) == retrain.request

    def _progress(self) -> str | None:
        try:
            progress = read_progress(self._directory)
        except ArtifactError as error:
            return str(error)
        return None if progress is None else progress.words

    async def fail(self, reason: str) -> None:
        """Write down that the newest retraining came to nothing, and leave nothing of it that could still answer."""
        self.progress = None
        try:
            await asyncio.to_thread(withdraw_request, self._directory)
        except OSError as error:
            self._tell_once("request_left", str(error))
        retrain = self._life.retrain
        if retrain is not None and self._life.is_retraining:
            now_ms = self._clock.now_ms()
            ended = of_trained(retrain.request, Outcome.FAILED, now_ms, reason=reason, candidate="", report={})
            await self._note(ended)
        await self.clear()


def _timetable(config: Config) -> Timetable:
    retrain = config.retrain
    return Timetable(cron=retrain.cron, every_hours=retrain.every_hours, retry_hours=retrain.retry_hours)
