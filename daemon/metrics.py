"""What Prometheus sees: a sink that turns events into metrics in a registry of its own.

Names carry the prefix `sacd_` and base units; every label has a closed set of values, all of them present from the
start, so that a rate is never missing its first step. `python -m daemon.metrics` prints the table in docs/metrics.md.
"""

import math
from collections.abc import Callable, Sequence
from typing import assert_never

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest

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
    ReloadOutcome,
    ShadowMarked,
    Started,
    Stopped,
)
from daemon.metrics_catalogue import Catalogue
from daemon.metrics_config import ConfigMetrics
from daemon.metrics_limits import LIMITS, LimitMetrics
from daemon.metrics_live import CHANGES, STEPS, LiveMetrics
from daemon.metrics_models import OUTCOMES, SIDES, ModelMetrics
from daemon.metrics_process import COMMANDS, COPIES, MODES, QUEUES, SOURCES, ProcessMetrics
from daemon.model_life import Cause, Phase
from daemon.ports import (
    Clock,
    DriftMarked,
    External,
    FeedHealth,
    FeedStatus,
    Gap,
    LateCandle,
    NewSteps,
    OrderPath,
    StopLost,
)
from daemon.vote_watch import saturated
from strategy.order import Order, OrderKind, OrderState, Side
from strategy.parameters import RiskLimits, StrategyParameters
from strategy.portfolio import Portfolio
from strategy.risk import Approved, Hold, Refused, RiskState, TradingState, Verdict, VerdictReason

_VERDICTS = ("approved", "hold", "refused")
_ARRIVALS = ("live", "backfill")
_RESTRICTIONS = ("paused", "stale_feed", "clock_skew", "order_path", "drift")
_SYMBOL_RESTRICTIONS = ("halted", "market_closed")
_RESULTS = ("won", "lost")
_THAN_MODEL = ("worse", "better")

# Upper bounds of histograms, chosen around what was measured: a decision takes less than 1 ms.
_LAG_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_DECISION_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_SLIPPAGE = (-0.005, -0.002, -0.001, -0.0005, 0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02)


class MetricsSink:
    """A sink that counts and measures what the engine tells, and renders it for a scrape.

    The values of a symbol are absent until its first candle, decision or fill. A figure that does not exist, such as
    the stop of a flat account before it is known, is NaN.
    """

    def __init__(
        self, *, symbols: Sequence[str], is_live: bool, version: str, clock: Clock, slippage_rate: float
    ) -> None:
        """symbols: all that are traded.  is_live: of the feed; only then a lag exists.  version: of the program.

        slippage_rate: what the cost model expects a fill to be worse than its reference, as a share.
        """
        # Without it every counter and histogram gets a second series, which Prometheus does not use.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        catalogue = Catalogue(registry)
        self._registry = registry
        self._market = _Market(catalogue, symbols, is_live=is_live)
        self._decisions = _Decisions(catalogue, symbols)
        self._models = ModelMetrics(catalogue)
        self._orders = _Orders(catalogue, symbols, slippage_rate)
        self._live = LiveMetrics(catalogue, symbols, clock)
        self._account = _Account(catalogue)
        self._limits = LimitMetrics(catalogue)
        self._config = ConfigMetrics(catalogue)
        self._process = ProcessMetrics(catalogue, version)
        self._refreshers: list[Callable[[], None]] = []
        self.rows = tuple(catalogue.rows)

    def publish(self, event: Event) -> None:  # noqa: C901, PLR0912, PLR0915  # one case per event, nothing else
        """Take an event of the engine."""
        match event:
            case Started():
                self._process.start(event)
                self._models.start(event)
                self._account.mark(event.portfolio, event.risk, None)
                self._live.start(event.orders)
            case CandleTaken():
                self._market.take(event)
            case Decided():
                self._decisions.decide(event, self._market.received_ms)
                self._models.decide(event)
            case OrderMoved():
                self._orders.move(event)
                self._live.move(event)
            case Filled():
                self._orders.fill(event)
                self._live.fill(event)
            case AccountMarked() | Stopped():
                self._account.mark(event.portfolio, event.risk, event.hold_equity)
            case JournalWritten():
                self._process.write(event)
            case CommandTaken():
                self._process.commands.labels(event.verb).inc()
            case ConfigReloaded():
                self._config.reload(event)
            case FeedStatus():
                self._market.feed(event.health)
            case Gap():
                self._market.gap(event)
            case LateCandle():
                self._market.late.labels(event.candle.symbol).inc()
            case ModelStep():
                self._models.step(event)
            case ShadowMarked():
                self._models.compare(event)
            case DriftMarked():
                self._models.drift(event)
            case Protected():
                self._live.protect(event)
            case ExitForced():
                self._live.exits.labels(event.order.symbol).inc()
            case OrderPath():
                self._live.path.set(event.is_open)
            case External():
                self._live.external(event)
            case StopLost():
                self._live.lost.labels(event.symbol).inc()
            case NewSteps():
                pass  # which markets are closed comes with the account
            case _:
                assert_never(event)

    def observe_loop_lag(self, seconds: float) -> None:
        """Take how much later than asked for the event loop woke a sleeper."""
        self._process.loop_lag.observe(seconds)

    def set_next_retrain(self, at_ms: int | None) -> None:
        """Take when the schedule asks for the next retraining, None when it does not."""
        self._models.set_next_retrain(at_ms)

    def set_limits(
        self, risk: RiskLimits, strategy: StrategyParameters, *, drift: float, candle_interval_s: float
    ) -> None:
        """Take what other figures are held against; again when the configuration has changed.

        drift: from which on nothing is bought, 0 for no limit.  candle_interval_s: after which the next candle is due.
        """
        self._limits.take(risk, strategy, drift=drift, candle_interval_s=candle_interval_s)

    def set_slippage(self, rate: float) -> None:
        """Take what the cost model expects a fill to be worse than its reference, as a share, from the next fill on."""
        self._orders.slippage_rate = rate

    def set_config(self, digest: str, at_ms: int) -> None:
        """Take which configuration it was started with."""
        self._config.begin(digest, at_ms)

    def set_feed_age(self, seconds: float | None) -> None:
        """Take how long a live feed has been silent, None for any other feed."""
        self._market.age.set(math.nan if seconds is None else seconds)

    def set_disk(self, *, free_bytes: int, size_bytes: int) -> None:
        """Take the room on the disk of the journal."""
        self._process.set_disk(free_bytes, size_bytes)

    def count_backup(self, made_ms: int | None) -> None:
        """Take that a copy of the journal was made, proved sound at that moment; None for one that failed."""
        self._process.count_backup(made_ms)

    def count_dropped(self, queue: str, total: int) -> None:
        """Take how many entries a bounded queue, one of QUEUES, has dropped since the process began."""
        self._process.count_dropped(queue, total)

    def at_scrape(self, refresh: Callable[[], None]) -> None:
        """Have `refresh` called before every rendering, for what nobody tells when it changes."""
        self._refreshers.append(refresh)

    def render(self) -> bytes:
        """Return all metrics in the Prometheus text format 0.0.4; takes a few milliseconds."""
        self._live.settle()
        for refresh in self._refreshers:
            refresh()
        return generate_latest(self._registry)


class _Market:
    """What came in."""

    def __init__(self, make: Catalogue, symbols: Sequence[str], *, is_live: bool) -> None:
        self._is_live = is_live
        self.received_ms: int | None = None
        self._candles = make.counter("sacd_candles_total", "Final candles taken into the window", "symbol", "arrival")
        self._lag = make.histogram(
            "sacd_candle_lag_seconds", "From the close of a candle to its arrival; live feeds only", _LAG_S, "symbol"
        )
        self._closed = make.gauge("sacd_last_candle_timestamp_seconds", "Close of the newest candle", "symbol")
        self._received = make.gauge(
            "sacd_last_candle_received_timestamp_seconds", "When the newest candle arrived, by our clock", "symbol"
        )
        self._gaps = make.counter("sacd_gaps_total", "Holes in the candles that the venue really has", "symbol")
        self._missing = make.counter("sacd_missing_candles_total", "Candles missing in those holes", "symbol")
        self.late = make.counter(
            "sacd_late_candles_total",
            "Late copies of a final candle that differ from it; they change nothing",
            "symbol",
        )
        self._health = make.gauge("sacd_feed_health", "1 for the present health of the feed, else 0", "health")
        self._reconnects = make.counter("sacd_feed_reconnects_total", "Times the feed lost its stream")
        self.age = make.gauge("sacd_feed_age_seconds", "Since a live feed last brought news; NaN for other feeds")
        self._feed: FeedHealth | None = None
        for symbol in symbols:
            for arrival in _ARRIVALS:
                self._candles.labels(symbol, arrival)
            for metric in (self._gaps, self._missing, self.late):
                metric.labels(symbol)
            if is_live:
                self._lag.labels(symbol)
        for health in FeedHealth:
            self._health.labels(health.value)

    def take(self, event: CandleTaken) -> None:
        candle = event.candle
        self._candles.labels(candle.symbol, _ARRIVALS[event.is_backfill]).inc()
        self._closed.labels(candle.symbol).set(candle.close_ms / 1_000)
        self._received.labels(candle.symbol).set(event.at_ms / 1_000)
        self.received_ms = event.at_ms
        if self._feed is None:  # recorded and simulated feeds say nothing of themselves: candles are the proof
            self.feed(FeedHealth.LIVE)
        if self._is_live and not event.is_backfill:
            self._lag.labels(candle.symbol).observe((event.at_ms - candle.close_ms) / 1_000)

    def feed(self, health: FeedHealth) -> None:
        if health is FeedHealth.RECONNECTING and self._feed is not health:
            self._reconnects.inc()
        self._feed = health
        for known in FeedHealth:
            self._health.labels(known.value).set(known is health)

    def gap(self, event: Gap) -> None:
        self._gaps.labels(event.symbol).inc()
        self._missing.labels(event.symbol).inc(event.missing)


class _Decisions:
    """What the ensemble wanted and what became of it."""

    def __init__(self, make: Catalogue, symbols: Sequence[str]) -> None:
        self._latency = make.histogram(
            "sacd_decision_latency_seconds", "From the candles' arrival to their decisions on disk", _DECISION_S
        )
        self._decided = make.gauge(
            "sacd_last_decision_timestamp_seconds", "When the newest decision was on disk, by our clock"
        )
        verdicts = make.counter(
            "sacd_verdicts_total", "Verdicts of the risk manager, one per decision", "verdict", "reason"
        )
        self._verdicts = {
            (kind, reason): verdicts.labels(kind, reason.value) for kind in _VERDICTS for reason in VerdictReason
        }
        self._target = make.gauge(
            "sacd_target_exposure_ratio", "Wanted position, as a share of the symbol's capital", "symbol"
        )
        self._disagreement = make.gauge(
            "sacd_disagreement_ratio", "Spread of the members' votes, 0 (one mind) to 1 (opposite extremes)", "symbol"
        )
        self._distance = make.gauge(
            "sacd_distribution_distance", "How unlike the training data the features are; 1 is typical", "symbol"
        )
        self._saturated = make.counter(
            "sacd_saturated_votes_total", "Votes of members whose direction was at the end of its range", "symbol"
        )
        for symbol in symbols:
            self._saturated.labels(symbol)

    def decide(self, event: Decided, received_ms: int | None) -> None:
        sight, votes, verdict = event.outcome.sight, event.outcome.votes, event.outcome.verdict
        symbol, decision = sight.candle.symbol, verdict.decision
        self._latency.observe(event.latency_s)
        if received_ms is not None:
            self._decided.set(received_ms / 1_000 + event.latency_s)
        self._verdicts[_kind(verdict), verdict.reason].inc()
        self._target.labels(symbol).set(decision.target)
        if sight.row is not None:
            self._distance.labels(symbol).set(sight.distance)
        if votes is not None:
            self._disagreement.labels(symbol).set(decision.disagreement)
            self._saturated.labels(symbol).inc(saturated(votes))


def _kind(verdict: Verdict) -> str:
    match verdict:
        case Approved():
            return "approved"
        case Hold():
            return "hold"
        case Refused():
            return "refused"
        case _:
            assert_never(verdict)


class _Orders:
    """What was sent and what came back."""

    def __init__(self, make: Catalogue, symbols: Sequence[str], slippage_rate: float) -> None:
        self.slippage_rate = slippage_rate
        self._moved: Order | None = None
        states = make.counter("sacd_orders_total", "Reports that brought an order into this state", "kind", "state")
        self._states = {
            (kind, state): states.labels(kind.value, state.value) for kind in OrderKind for state in OrderState
        }
        self._fills = make.counter("sacd_fills_total", "Fills applied to the account", "symbol", "side")
        self._traded = make.counter("sacd_traded_quote_total", "Value of the fills", "symbol", "side")
        self._fees = make.counter("sacd_fees_quote_total", "Fees of the fills", "symbol")
        self._slippage = make.histogram(
            "sacd_fill_slippage_ratio",
            "How much worse than the price at the decision a fill was, as a share of it; negative is better",
            _SLIPPAGE,
        )
        self._excess = make.histogram(
            "sacd_fill_excess_slippage_ratio",
            "The same less the slippage that the cost model expects; fills of stops are not in it",
            _SLIPPAGE,
            "side",
        )
        beyond = make.counter(
            "sacd_fill_excess_slippage_quote_total",
            "Value by which fills were worse than the model expects, and by which they were better; stops not",
            "side",
            "than_model",
        )
        self._beyond = {(side, name): beyond.labels(side.value, name) for side in Side for name in _THAN_MODEL}
        self._below_stop = make.histogram(
            "sacd_stop_slippage_ratio", "How far below its price a stop sold, as a share of that price", _SLIPPAGE
        )
        for side in Side:
            self._excess.labels(side.value)
        for symbol in symbols:
            self._fees.labels(symbol)
            for side in Side:
                self._fills.labels(symbol, side.value)
                self._traded.labels(symbol, side.value)

    def move(self, event: OrderMoved) -> None:
        self._moved = event.order
        self._states[event.order.kind, event.state].inc()

    def fill(self, event: Filled) -> None:
        fill, moved = event.fill, self._moved
        slippage = (fill.price / fill.reference_price - 1.0) * fill.side.sign
        # The report that a fill came with is told right before it.
        if moved is not None and moved.client_id == fill.client_id and moved.kind is OrderKind.STOP:
            self._below_stop.observe(slippage)
        else:
            excess = slippage - self.slippage_rate
            self._excess.labels(fill.side.value).observe(excess)
            cost = excess * fill.quantity * fill.reference_price
            self._beyond[fill.side, _THAN_MODEL[cost < 0.0]].inc(abs(cost))
        self._slippage.observe(slippage)
        self._fills.labels(fill.symbol, fill.side.value).inc()
        self._traded.labels(fill.symbol, fill.side.value).inc(fill.notional)
        self._fees.labels(fill.symbol).inc(fill.fee)


class _Account:
    """What the account is worth and may do. Amounts are in quote."""

    def __init__(self, make: Catalogue) -> None:
        self._equity = make.gauge("sacd_equity_quote", "Cash and positions at the last close")
        self._peak = make.gauge("sacd_peak_equity_quote", "Highest equity, from which the drawdown is counted")
        self._drawdown = make.gauge("sacd_drawdown_ratio", "Fall of the equity from its peak")
        self._day_loss = make.gauge("sacd_day_loss_ratio", "Loss since 00:00 UTC as a share of the equity then")
        self._cash = make.gauge("sacd_cash_quote", "Cash of the account")
        self._hold = make.gauge(
            "sacd_hold_equity_quote", "What buying all symbols equally at the first decision would be worth now"
        )
        self._slippage = make.gauge("sacd_slippage_quote", "Cost of all fills against the prices at their decisions")
        self._trips = make.gauge(
            "sacd_round_trips", "Positions opened and closed over the life of the account", "result"
        )
        self._exposure = make.gauge("sacd_exposure_ratio", "Position, as a share of the symbol's capital", "symbol")
        self._position = make.gauge("sacd_position_base", "Quantity held", "symbol")
        self._mark = make.gauge("sacd_mark_price_quote", "Price at which the position is valued", "symbol")
        state = make.gauge("sacd_trading_state", "1 for what the account may do now, else 0", "state")
        self._states = {known: state.labels(known.value) for known in TradingState}
        restriction = make.gauge("sacd_trading_restricted", "1 while this alone forbids new exposure, else 0", "by")
        self._restrictions = tuple(restriction.labels(by) for by in _RESTRICTIONS)
        self._symbol_restricted = make.gauge(
            "sacd_symbol_restricted", "1 while this alone forbids new exposure in the symbol, else 0", "symbol", "by"
        )
        self._orders = make.gauge("sacd_orders_today", "Orders since 00:00 UTC, which the order rate limits")
        self._turnover = make.gauge("sacd_turnover_today_quote", "Traded value since 00:00 UTC, which a budget limits")

    def mark(self, portfolio: Portfolio, risk: RiskState, hold_equity: float | None) -> None:
        self._equity.set(portfolio.equity)
        self._peak.set(portfolio.peak)
        self._drawdown.set(portfolio.drawdown)
        self._day_loss.set(portfolio.day_loss)
        self._cash.set(portfolio.cash)
        self._slippage.set(portfolio.slippage)
        if hold_equity is not None:
            self._hold.set(hold_equity)
        for result, count in zip(_RESULTS, (portfolio.wins, portfolio.losses), strict=True):
            self._trips.labels(result).set(count)
        for symbol, position in portfolio.positions.items():
            self._exposure.labels(symbol).set(portfolio.exposure(symbol))
            self._position.labels(symbol).set(position.quantity)
            self._mark.labels(symbol).set(position.mark)
        self._limit(risk)

    def _limit(self, risk: RiskState) -> None:
        for state, gauge in self._states.items():
            gauge.set(state is risk.state)
        restricted = (risk.is_paused, risk.is_stale, risk.is_skewed, risk.is_cut_off, risk.is_drifted)
        for gauge, is_set in zip(self._restrictions, restricted, strict=True):
            gauge.set(is_set)
        for symbol, known in risk.symbols.items():
            for by, is_set in zip(_SYMBOL_RESTRICTIONS, (known.is_halted, known.is_closed), strict=True):
                self._symbol_restricted.labels(symbol, by).set(is_set)
        self._orders.set(risk.orders_today)
        self._turnover.set(risk.turnover_today)


# ---- the table --------------------------------------------------------------------------------------------------
_HEAD = """# Metrics

`http://127.0.0.1:9464/metrics` (`[http]` in config.toml) in the Prometheus text format. This table is made by
`python -m daemon.metrics`; a test compares the two.

Counters count from the start of the process. Amounts called `quote` are in the currency that the symbols are paid in,
`base` in the currency that is bought. `exposure` is a share of the capital of one symbol, which is an equal share of
the equity. A value that is not known yet is `NaN` or absent, never 0.

| Metric | Type | Labels | Meaning |
| --- | --- | --- | --- |
"""

_TAIL = f"""
Values of labels:

- `symbol`: those of `[market] symbols`
- `arrival`: {", ".join(_ARRIVALS)}
- `health`: {", ".join(FeedHealth)}
- `verdict`: {", ".join(_VERDICTS)}
- `reason`: {", ".join(VerdictReason)}
- `state` of `sacd_orders_total`: {", ".join(OrderState)}
- `state` of `sacd_trading_state`: {", ".join(TradingState)}
- `phase`: {", ".join(Phase)}
- `cause`: {", ".join(Cause)}
- `outcome` of `sacd_retrains_total`: {", ".join(OUTCOMES)}
- `outcome` of `sacd_config_reloads_total`: {", ".join(ReloadOutcome)}
- `feature`: the names of the feature schema, which `sacd models show` lists
- `side` of `sacd_shadow_equity_quote`: {", ".join(SIDES)}
- `side` of all others: {", ".join(Side)}
- `than_model`: {", ".join(_THAN_MODEL)}
- `result` of `sacd_round_trips`: {", ".join(_RESULTS)}
- `by` of `sacd_trading_restricted`: {", ".join(_RESTRICTIONS)}
- `by` of `sacd_symbol_restricted`: {", ".join(_SYMBOL_RESTRICTIONS)}
- `kind` of `sacd_orders_total`: {", ".join(OrderKind)}
- `kind` of `sacd_external_changes_total`: {", ".join(CHANGES)}
- `step`: {", ".join(STEPS)}
- `verb`: {", ".join(COMMANDS)}
- `limit`: {", ".join(LIMITS)}
- `queue`: {", ".join(QUEUES)}
- `result` of `sacd_journal_backups_total`: {", ".join(COPIES)}
- `mode`: {", ".join(MODES)}
- `source`: {", ".join(SOURCES)}

Beside these stand the usual `process_*` metrics (CPU, memory, open files, start time) of the Prometheus client
library. They need `/proc/stat`: under systemd with `ProcSubset=pid` they are absent.
"""


def metrics_table() -> str:
    """Return docs/metrics.md: every metric with type, labels and meaning, as the code has it."""
    from daemon.clock import SystemClock  # noqa: PLC0415 - the table needs some clock, and none in particular

    rows = MetricsSink(symbols=(), is_live=True, version="", clock=SystemClock(), slippage_rate=0.0).rows
    lines = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {text} |"
        for name, kind, labels, text in rows
    ]
    return _HEAD + "\n".join(lines) + "\n" + _TAIL


if __name__ == "__main__":
    print(metrics_table(), end="")  # noqa: T201  # this is what it is for
