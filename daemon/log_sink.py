"""Plain structured lines for those who read a log instead of a screen: stable event names, details as fields.

Candles of one time are one line. What only fills the window is told once per some hundred candles.
"""

from collections.abc import Mapping
from typing import Any, Protocol, assert_never

from daemon import wording, wording_config, wording_live, wording_models
from daemon.events import (
    AccountMarked,
    CandleTaken,
    CommandTaken,
    ConfigReloaded,
    Decided,
    Event,
    ExitForced,
    Filled,
    JournalWritten,
    ModelStep,
    OrderMoved,
    Protected,
    ShadowMarked,
    Started,
    Stopped,
)
from daemon.model_life import Cause, Outcome, Phase
from daemon.ports import DriftMarked, External, FeedHealth, FeedStatus, Gap, LateCandle, NewSteps, OrderPath, StopLost
from strategy.candle import Candle
from strategy.order import Fill, Order, OrderState
from strategy.portfolio import Portfolio
from strategy.risk import Approved, TradingState, VerdictReason

_SUMMARISED = 500
"""Candles per line while the window fills."""
_NEWS: Mapping[type, str] = {
    ExitForced: "forced_exit",
    External: "external_change",
    NewSteps: "new_steps",
    OrderPath: "order_path",
    StopLost: "stop_lost",
}
_STEPS: Mapping[str, str] = {
    "requested": "retrain_requested",
    "trained": "retrain_ended",
    "shadow": "shadow_begins",
    "kept": "shadow_ended",
    "swapping": "model_swapping",
    "serving": "model_serves",
    "swap_failed": "swap_failed",
    "confirmed": "model_confirmed",
    "pinned": "model_pinned",
}
_OF_A_STEP = (
    "request", "by", "outcome", "candidate", "incumbent", "model", "previous", "old", "new", "cause", "source",
    "is_pinned",
)  # fmt: skip
"""What a line takes over from the record of a step as it stands; the words of it stand in `detail`."""
_TROUBLE = frozenset({OrderState.UNKNOWN, OrderState.REJECTED, OrderState.NOT_PLACED})


class Logger(Protocol):
    """What is needed of a structlog logger."""

    def info(self, event: str, **fields: Any) -> Any:  # noqa: ANN401 - as structlog has it
        """Write a line of plain news."""
        ...

    def warning(self, event: str, **fields: Any) -> Any:  # noqa: ANN401
        """Write a line somebody should look at."""
        ...

    def error(self, event: str, **fields: Any) -> Any:  # noqa: ANN401
        """Write a line somebody should be called for."""
        ...


class LogSink:
    """A `daemon.ports.Sink` that writes what happens to a structlog logger.

    journal: where the journal lies, told when the run ends.
    """

    def __init__(self, logger: Logger, *, journal: str = "") -> None:
        self._logger = logger
        self._journal = journal
        self._started_ms: int | None = None
        self._pending: list[Candle] = []
        self._filling: list[Candle] = []
        self._is_quiet = False
        self._is_beyond = False

    def publish(self, event: Event) -> None:  # noqa: C901, PLR0912  # one line per kind of event
        """Write the lines `event` is worth."""
        match event:
            case CandleTaken():
                self._candle(event)
                return
            case Decided():
                self._decided(event)
                return
            case JournalWritten() | Protected():
                return  # what becomes of a stop is told with its order
            case DriftMarked() if event.is_beyond == self._is_beyond:
                return
            case _:
                self._flush()
        match event:
            case Started():
                self._started(event)
            case OrderMoved():
                self._order(event)
            case Filled():
                self._logger.info("fill", **_fill_fields(event.fill))
            case AccountMarked():
                self._account(event)
            case CommandTaken():
                self._logger.info("command", verb=event.verb, source=event.source, effect=event.effect)
            case ConfigReloaded():
                self._reloaded(event)
            case FeedStatus():
                write = self._logger.info if event.health is FeedHealth.LIVE else self._logger.warning
                write("feed", health=event.health.value, detail=wording.one_line(event.detail))
            case Gap():
                first = wording.moment(event.first_ms)
                self._logger.warning("gap", symbol=event.symbol, first=first, missing=event.missing)
            case LateCandle():
                self._late(event)
            case ModelStep():
                self._step(event)
            case ShadowMarked():
                self._compared(event.payload)
            case DriftMarked():
                self._drifted(event)
            case ExitForced() | External() | NewSteps() | OrderPath() | StopLost():
                self._live(event)
            case Stopped():
                self._stopped(event)
            case _:
                assert_never(event)

    # ---- candles and decisions ----------------------------------------------------------------------------------
    def _candle(self, event: CandleTaken) -> None:
        if self._pending and self._pending[0].open_ms != event.candle.open_ms:
            self._flush()
        if event.is_backfill:
            self._flush()
            self._fill_window(event.candle)
        else:
            self._pending.append(event.candle)
            self._is_quiet = False

    def _fill_window(self, candle: Candle) -> None:
        self._is_quiet = True
        self._filling.append(candle)
        if len(self._filling) >= _SUMMARISED:
            self._end_filling()

    def _end_filling(self) -> None:
        if self._filling:
            first, last = self._filling[0], self._filling[-1]
            begin, end = wording.moment(first.open_ms), wording.moment(last.close_ms)
            self._logger.info("warm_up", candles=len(self._filling), first=begin, last=end)
            self._filling = []

    def _flush(self) -> None:
        """Write the candles that wait for their time to be complete."""
        if self._pending:
            self._end_filling()
            closes = {candle.symbol: _rounded(candle.close) for candle in self._pending}
            self._logger.info("candle", at=wording.moment(self._pending[0].close_ms), close=closes)
            self._pending = []

    def _decided(self, event: Decided) -> None:
        outcome = event.outcome
        if outcome.verdict.reason is VerdictReason.WARMING_UP:
            self._pending = [c for c in self._pending if c.symbol != outcome.sight.candle.symbol]
            self._fill_window(outcome.sight.candle)
            return
        self._flush()
        self._is_quiet = False
        decision, votes = outcome.verdict.decision, outcome.votes
        fields: dict[str, Any] = {
            "symbol": decision.symbol,
            "at": wording.moment(outcome.sight.candle.close_ms),
            "verdict": wording.verdict_words(outcome.verdict),
            "reason": outcome.verdict.reason.value,
            "action": decision.action.value,
            "votes": [] if votes is None else [[round(x, 3) for x in vote] for vote in votes.tolist()],
            "disagreement": round(decision.disagreement, 4),
            "exposure": round(decision.exposure, 4),
            "target": round(decision.target, 4),
            "distance": round(outcome.sight.distance, 3),
            "latency_ms": round(event.latency_s * 1e3, 3),
            "seq": event.seq,
        }
        if outcome.stop is not None and outcome.stop.stop_price is not None:
            fields["stop"] = _rounded(outcome.stop.stop_price)
        if isinstance(outcome.verdict, Approved):
            fields |= _order_fields(outcome.verdict.order)
        self._logger.info("decision", **fields)

    # ---- the rest -----------------------------------------------------------------------------------------------
    def _started(self, event: Started) -> None:
        self._started_ms = event.at_ms
        state, why = wording.state_words(event.risk)
        is_real = event.mode == "live"
        write = self._logger.warning if is_real else self._logger.info
        where = {"exchange": event.exchange, "money": wording.money_words(event.money)} if is_real else {}
        write(
            "started",
            instance=event.instance,
            mode="LIVE" if is_real else event.mode,
            **where,
            source=event.source,
            symbols=list(event.symbols),
            timeframe=event.timeframe,
            model=event.model_id,
            members=event.members,
            resumed=event.resumed,
            decisions=event.decisions,
            warm_up=event.warm_up,
            state=state.lower(),
            why=why,
            **_account_fields(event.portfolio),
        )

    def _order(self, event: OrderMoved) -> None:
        write = self._logger.warning if event.state in _TROUBLE else self._logger.info
        report = event.report
        write(
            "order",
            symbol=report.symbol,
            **_order_fields(event.order),
            state=event.state.value,
            detail=wording.one_line(report.detail),
        )

    def _account(self, event: AccountMarked) -> None:
        if self._is_quiet:
            return
        state, why = wording.state_words(event.risk)
        hold = None if event.hold_equity is None else round(event.hold_equity, 2)
        write = self._logger.warning if event.risk.state is TradingState.HALTED else self._logger.info
        write("account", **_account_fields(event.portfolio), hold_equity=hold, state=state.lower(), why=why)

    def _reloaded(self, event: ConfigReloaded) -> None:
        write = self._logger.info if event.is_in_force else self._logger.error
        write(
            "config_reloaded" if event.is_in_force else "config_kept",
            outcome=event.outcome.value,
            source=event.source,
            file=event.file,
            changes=wording_config.change_words(event.changes),
            restart=list(event.restart),
            mistakes=list(event.mistakes),
            digest=event.digest,
        )

    def _late(self, event: LateCandle) -> None:
        candle, known = event.candle, event.known
        self._logger.warning(
            "late_candle",
            symbol=candle.symbol,
            at=wording.moment(candle.close_ms),
            close=_rounded(candle.close),
            known_close=_rounded(known.close),
        )

    # ---- the ensembles ------------------------------------------------------------------------------------------
    def _step(self, event: ModelStep) -> None:
        payload = event.payload
        name, write = _STEPS[payload["step"]], self._logger.info
        match payload["step"]:
            case "trained" if Outcome(payload["outcome"]) is Outcome.FAILED:
                write = self._logger.warning
            case "serving" if Cause(payload["cause"]) is Cause.ROLLBACK:
                name, write = "model_rolled_back", self._logger.error
            case "swap_failed":
                write = self._logger.error
        fields = {key: payload[key] for key in _OF_A_STEP if key in payload}
        write(name, detail=wording_models.step_words(payload), **fields, phase=event.life.phase.value)

    def _compared(self, payload: Mapping[str, Any]) -> None:
        is_watch = Phase(payload["phase"]) is Phase.WATCH
        difference = payload["difference"]
        self._logger.info(
            "shadow_compared",
            phase=payload["phase"],
            decisions=payload["count"],
            of=payload["of"],
            difference_bp=None if difference is None else round(1e4 * difference, 3),
            mean_bp=round(1e4 * payload["mean"], 3),
            lead=round(payload["lead"], 6),
            p=round(payload["p_worse" if is_watch else "p_better"], 4),
        )

    def _drifted(self, event: DriftMarked) -> None:
        """Tell that the market has crossed the limit."""
        self._is_beyond = event.is_beyond
        words = wording_models.beyond_words(event.joint, event.features, is_beyond=event.is_beyond)
        far = {name: round(distance, 3) for name, distance in wording_models.farthest(event.features)}
        write = self._logger.warning if event.is_beyond else self._logger.info
        name = "drift_beyond" if event.is_beyond else "drift_within"
        write(name, detail=words, joint=round(event.joint, 4), farthest=far)

    # ---- a venue, and the end -----------------------------------------------------------------------------------
    def _live(self, news: wording_live.LiveNews) -> None:
        write = self._logger.warning if wording_live.is_trouble(news) else self._logger.info
        write(_NEWS[type(news)], detail=wording_live.live_words(news), **_live_fields(news))

    def _stopped(self, event: Stopped) -> None:
        self._end_filling()
        length_s = None if self._started_ms is None else round((event.at_ms - self._started_ms) / 1e3, 1)
        hold = None if event.hold_equity is None else round(event.hold_equity, 2)
        self._logger.info(
            "stopped",
            reason=wording.one_line(event.reason),
            ran_s=length_s,
            decisions=event.decisions,
            orders=event.orders,
            fills=event.fills,
            gain=_gain(event.portfolio.equity, event.cash),
            hold_equity=hold,
            hold_gain=None if event.hold_equity is None else _gain(event.hold_equity, event.cash),
            quote=event.quote,
            state=wording.state_words(event.risk)[0].lower(),
            journal=self._journal,
            **_account_fields(event.portfolio),
        )


def _live_fields(news: wording_live.LiveNews) -> Mapping[str, Any]:
    match news:
        case OrderPath():
            return {"open": news.is_open, "needs_person": news.needs_person}
        case External():
            amounts = {"ours": _rounded(news.ours), "foreign": _rounded(news.foreign)}
            return {"asset": news.asset, **amounts, "halts": news.halts, "change": news.external_id}
        case NewSteps():
            return {"closed": sorted(news.closed)}
        case StopLost():
            return {"symbol": news.symbol, "is_last": news.is_last}
        case ExitForced():
            return {"symbol": news.order.symbol, **_order_fields(news.order)}
        case _:
            assert_never(news)


def _account_fields(portfolio: Portfolio) -> Mapping[str, Any]:
    held = {symbol: p.quantity for symbol, p in portfolio.positions.items() if p.quantity > 0.0}
    return {
        "equity": round(portfolio.equity, 2),
        "cash": round(portfolio.cash, 2),
        "drawdown": round(portfolio.drawdown, 6),
        "fees": round(portfolio.fees, 2),
        "wins": portfolio.wins,
        "losses": portfolio.losses,
        "positions": held,
    }


def _order_fields(order: Order) -> Mapping[str, Any]:
    stop = {} if order.stop_price is None else {"stop_price": order.stop_price}
    return {"order": order.client_id, "side": order.side.value, "quantity": order.quantity, **stop}


def _fill_fields(fill: Fill) -> Mapping[str, Any]:
    slippage = (fill.price / fill.reference_price - 1.0) * fill.side.sign * 1e4
    return {
        "symbol": fill.symbol,
        "order": fill.client_id,
        "side": fill.side.value,
        "quantity": fill.quantity,
        "price": _rounded(fill.price),
        "fee": _rounded(fill.fee),
        "slippage_bp": round(slippage, 2),
        "at": wording.moment(fill.at_ms),
    }


def _gain(amount: float, began: float) -> float:
    return round(amount / began - 1.0, 6) if began > 0.0 else 0.0


def _rounded(value: float) -> float:
    """Return a price or fee to eight significant digits: enough for any venue, short enough for a line."""
    return float(f"{value:.8g}")
