"""Events as the engine publishes them, built from a few figures; and any sequence of them, for Hypothesis."""

import numpy as np
from hypothesis import strategies as st

from daemon.events import (
    AccountMarked,
    CandleTaken,
    Change,
    CommandTaken,
    ConfigReloaded,
    Decided,
    Event,
    ExitForced,
    Filled,
    JournalWritten,
    OrderMoved,
    Protected,
    ReloadOutcome,
    ShadowMarked,
    Started,
    Stopped,
)
from daemon.model_life import Cause, Outcome
from daemon.ports import DriftMarked, External, FeedHealth, FeedStatus, Gap, LateCandle, NewSteps, OrderPath, StopLost
from strategy.candle import Candle
from strategy.decision import Action, Decision, DecisionReason
from strategy.features import FEATURE_NAMES, N_FEATURES, FeatureRow
from strategy.order import Fill, Order, OrderEvent, OrderKind, OrderReport, OrderState, Side
from strategy.portfolio import Portfolio, Position
from strategy.regime import Regime, Trend, Volatility
from strategy.risk import Approved, Hold, Refused, RiskState, SymbolRisk, TradingState, Verdict, VerdictReason
from strategy.trader import Outcome as DecisionOutcome
from strategy.trader import Sight
from tests.fakes import model_steps

HOUR_MS = 3_600_000
BEGIN_MS = 1_635_944_400_000
"""2021-11-03 13:00 UTC."""
BTC = "BTC/USDT"


def candle(symbol: str = BTC, n: int = 0, close: float = 61_234.1) -> Candle:
    open_ms = BEGIN_MS + n * HOUR_MS
    return Candle(
        symbol=symbol, open_ms=open_ms, span_ms=HOUR_MS, open=close, high=close, low=close, close=close, volume=1.0
    )


def portfolio(
    cash: float = 10_000.0, peak: float | None = None, wins: int = 0, losses: int = 0, **held: Position
) -> Portfolio:
    """held: positions by symbol, given as `**{"BTC/USDT": Position(...)}`."""
    equity = cash + sum(position.value for position in held.values())
    return Portfolio(
        cash=cash,
        positions=held or {BTC: Position()},
        equity=equity,
        peak=equity if peak is None else peak,
        day_start=equity,
        wins=wins,
        losses=losses,
    )


def risk(state: TradingState = TradingState.ACTIVE, reason: VerdictReason | None = None, **fields: bool) -> RiskState:
    return RiskState(symbols={BTC: SymbolRisk()}, state=state, reason=reason, **fields)


def started(symbols: tuple[str, ...] = (BTC,), warm_up: int = 0, **changes: object) -> Started:
    fields = {
        "instance": "paper-1",
        "mode": "paper",
        "source": "simulated",
        "timeframe": "1h",
        "quote": "USDT",
        "model_id": "3f9a2c1b7e4d5a6b",
        "members": 3,
        "cash": 10_000.0,
        "resumed": False,
        "decisions": 0,
        "portfolio": portfolio(),
        "risk": risk(),
        "at_ms": BEGIN_MS,
    }
    return Started(symbols=symbols, warm_up=warm_up, **{**fields, **changes})


def taken(symbol: str = BTC, n: int = 0, close: float = 61_234.1, *, is_backfill: bool = False) -> CandleTaken:
    return CandleTaken(candle=candle(symbol, n, close), is_backfill=is_backfill, at_ms=BEGIN_MS + (n + 1) * HOUR_MS)


def order(
    symbol: str = BTC, side: Side = Side.BUY, quantity: float = 0.0123, client_id: str = "s-1", price: float = 61_234.1
) -> Order:
    return Order(
        client_id=client_id,
        symbol=symbol,
        side=side,
        quantity=quantity,
        reference_price=price,
        decided_ms=BEGIN_MS,
        reason="voted",
        reduces=side is Side.SELL,
    )


def stop_order(symbol: str = BTC, price: float = 58_200.0, client_id: str = "s-stop") -> Order:
    return Order(
        client_id=client_id,
        symbol=symbol,
        side=Side.SELL,
        quantity=1.0,
        reference_price=price,
        decided_ms=BEGIN_MS,
        reason="stop_loss_triggered",
        reduces=True,
        kind=OrderKind.STOP,
        stop_price=price,
    )


def decision(symbol: str = BTC, exposure: float = 0.0, target: float = 0.24, **means: float) -> Decision:
    action = Action.BUY if target > exposure else Action.SELL if target < exposure else Action.HOLD
    return Decision(
        symbol=symbol, action=action, reason=DecisionReason.VOTED, exposure=exposure, target=target, **means
    )


def approved(made: Order, exposure: float, target: float, reason: VerdictReason = VerdictReason.VOTED) -> Approved:
    return Approved(decision=decision(made.symbol, exposure, target), reason=reason, order=made)


def hold(reason: VerdictReason = VerdictReason.NEUTRAL, symbol: str = BTC) -> Hold:
    return Hold(decision=decision(symbol, 0.2, 0.2), reason=reason)


def refused(reason: VerdictReason = VerdictReason.STOP_COOLDOWN, symbol: str = BTC) -> Refused:
    return Refused(decision=decision(symbol, 0.2, 0.3), reason=reason)


def decided(
    verdict: Verdict,
    n: int = 0,
    *,
    votes: tuple[tuple[float, float, float], ...] | None = ((0.82, 0.5, 0.5), (-0.4, 0.5, 0.5), (0.05, 0.5, 0.5)),
    stop: Order | None = None,
    close: float = 61_234.1,
    seq: int = 1,
) -> Decided:
    row = FeatureRow(np.zeros(N_FEATURES, np.float32), 0.01, 0.01, Regime(Trend.UP, Volatility.HIGH))
    seen = Sight(candle(verdict.decision.symbol, n, close), None if votes is None else row, None, 1.0)
    cast = None if votes is None else np.array(votes, np.float32)
    return Decided(
        outcome=DecisionOutcome(seen, cast, verdict, stop), model_id="3f9a2c1b7e4d5a6b", latency_s=0.0013, seq=seq
    )


def fill(made: Order, price: float = 61_264.72, fee: float = 0.75, quantity: float | None = None) -> Filled:
    return Filled(
        fill=Fill(
            fill_id=f"{made.client_id}.1",
            client_id=made.client_id,
            symbol=made.symbol,
            side=made.side,
            quantity=made.quantity if quantity is None else quantity,
            price=price,
            fee=fee,
            at_ms=BEGIN_MS + HOUR_MS,
            reference_price=made.reference_price,
        )
    )


def moved(made: Order, state: OrderState, event: OrderEvent = OrderEvent.ACCEPTED, detail: str = "") -> OrderMoved:
    report = OrderReport(
        client_id=made.client_id, symbol=made.symbol, event=event, at_ms=BEGIN_MS + HOUR_MS, detail=detail
    )
    return OrderMoved(report=report, state=state, order=made)


def marked(account: Portfolio, hold_equity: float | None = 10_000.0, state: RiskState | None = None) -> AccountMarked:
    return AccountMarked(
        portfolio=account, risk=risk() if state is None else state, hold_equity=hold_equity, at_ms=BEGIN_MS
    )


def stopped(account: Portfolio, hold_equity: float | None = 10_912.02) -> Stopped:
    return Stopped(
        reason="interrupted",
        portfolio=account,
        risk=risk(),
        cash=10_000.0,
        decisions=1_204,
        orders=31,
        fills=30,
        hold_equity=hold_equity,
        quote="USDT",
        at_ms=BEGIN_MS + 761_000,
    )


def external(symbol: str = BTC, ours: float = 0.0, foreign: float = -0.1, **changes: object) -> External:
    fields = {
        "external_id": "x-1",
        "asset": symbol.partition("/")[0] or "USDT",
        "price": 60_000.0,
        "halts": False,
        "at_ms": BEGIN_MS,
        "detail": "0.1 BTC less than the books say",
    }
    return External(symbol=symbol, ours=ours, foreign=foreign, **{**fields, **changes})


def drifted(joint: float = 0.5, *, is_beyond: bool = False, **distances: float) -> DriftMarked:
    """distances: by name of the feature; the others lie at 0.1."""
    return DriftMarked(joint=joint, features=[distances.get(n, 0.1) for n in FEATURE_NAMES], is_beyond=is_beyond)


# ---- any event --------------------------------------------------------------------------------------------------
_symbols = st.sampled_from([BTC, "ETH/USDT", "1000SHIB.PERPETUAL-X/USDT.E-BRIDGED"])
_prices = st.floats(1e-12, 1e15)
_amounts = st.floats(0.0, 1e18)
_texts = st.text(max_size=200)
_states = st.builds(
    risk,
    st.sampled_from(TradingState),
    st.none() | st.sampled_from(VerdictReason),
    is_paused=st.booleans(),
    is_stale=st.booleans(),
    is_skewed=st.booleans(),
    is_drifted=st.booleans(),
)
_positions = st.builds(
    Position, quantity=st.just(0.0) | st.floats(1e-12, 1e15), average_entry=_prices, mark=_prices, high=_prices
)
_portfolios = st.builds(
    lambda cash, held: portfolio(cash, wins=3, losses=2, **held),
    st.floats(1e-6, 1e18),
    st.dictionaries(_symbols, _positions, max_size=3),
)
_orders = st.builds(
    order, _symbols, st.sampled_from(Side), st.floats(1e-12, 1e15), st.sampled_from(["a", "b", "c"]), _prices
)
_verdicts = st.one_of(
    st.builds(approved, _orders, st.floats(0.0, 2.0), st.floats(0.0, 1.0), st.sampled_from(VerdictReason)),
    st.builds(hold, st.sampled_from(VerdictReason), _symbols),
    st.builds(refused, st.sampled_from(VerdictReason), _symbols),
)
_life = st.lists(
    st.sampled_from(
        [
            model_steps.found(),
            model_steps.requested(),
            model_steps.trained(Outcome.CANDIDATE),
            model_steps.trained(Outcome.FAILED, reason="x\x1b[2J" * 40),
            model_steps.shadowed(),
            model_steps.dropped(),
            model_steps.serves(),
            model_steps.serves(model_steps.OLD, model_steps.NEW, Cause.ROLLBACK),
            model_steps.swap_failed(Cause.PROVED),
        ]
    ),
    min_size=1,
    max_size=5,
)
_compared = st.builds(
    model_steps.compared,
    st.sampled_from(["shadow", "watch"]),
    count=st.integers(0, 10**6),
    difference=st.none() | st.floats(-1.0, 1.0),
    mean=st.floats(-1.0, 1.0),
    lead=st.floats(-10.0, 10.0),
    p_better=st.floats(0.0, 1.0),
)
_vote = st.tuples(st.floats(-1.0, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))


def reloaded(
    outcome: ReloadOutcome = ReloadOutcome.TAKEN, source: str = "signal", file: str = "a.toml"
) -> ConfigReloaded:
    """A reading of the configuration with all that comes with its outcome."""
    return ConfigReloaded(
        outcome=outcome,
        source=source,
        file=file,
        changes=(Change(key="risk.max_drawdown", old=0.15, new=0.1),) if outcome is ReloadOutcome.TAKEN else (),
        restart=("http.port", "market.symbols") if outcome is ReloadOutcome.NEEDS_RESTART else (),
        mistakes=("risk.x = 1: no such key", "log.level: nonsense") if outcome is ReloadOutcome.INVALID else (),
        digest="d" * 64,
        at_ms=BEGIN_MS,
    )


any_event: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        started,
        st.lists(_symbols, min_size=1, unique=True).map(tuple),
        st.integers(0, 2_401),
        instance=_texts,
        mode=st.sampled_from(["paper", "live"]),
        exchange=_texts,
        money=st.sampled_from(["", "real", "sandbox", "local"]),
        model_id=_texts,
        resumed=st.booleans(),
        portfolio=_portfolios,
        risk=_states,
    ),
    st.builds(taken, _symbols, st.integers(0, 10_000), _prices, is_backfill=st.booleans()),
    st.builds(
        decided,
        _verdicts,
        st.integers(0, 10_000),
        votes=st.none() | st.lists(_vote, min_size=1, max_size=12).map(tuple),
        stop=st.none() | st.builds(stop_order, _symbols, _prices),
        seq=st.integers(1, 10**9),
    ),
    st.builds(fill, _orders, _prices, _amounts),
    st.builds(moved, _orders, st.sampled_from(OrderState), st.sampled_from(OrderEvent), _texts),
    st.builds(marked, _portfolios, st.none() | _amounts, _states),
    st.builds(JournalWritten, seconds=st.floats(0.0, 1e6), records=st.integers(1, 10)),
    st.builds(CommandTaken, verb=st.sampled_from(["pause", "flatten"]), source=_texts, effect=_texts),
    st.builds(reloaded, st.sampled_from(ReloadOutcome), _texts, _texts),
    st.builds(FeedStatus, health=st.sampled_from(FeedHealth), detail=_texts),
    st.builds(Gap, symbol=_symbols, first_ms=st.integers(0, 10**15), missing=st.integers(1, 10**6)),
    st.builds(LateCandle, candle=st.builds(candle, _symbols), known=st.builds(candle, _symbols)),
    st.builds(Protected, symbol=_symbols, stop=st.none() | st.builds(stop_order, _symbols, _prices)),
    st.builds(ExitForced, order=_orders),
    st.builds(OrderPath, is_open=st.booleans(), detail=_texts, needs_person=st.booleans()),
    st.builds(external, _symbols | st.just(""), _amounts, _amounts, halts=st.booleans(), detail=_texts),
    st.builds(NewSteps, instruments=st.just({}), closed=st.frozensets(_symbols)),
    st.builds(StopLost, symbol=_symbols, detail=_texts, is_last=st.booleans()),
    _life.map(lambda records: model_steps.events(*records)[-1]),
    st.builds(ShadowMarked, payload=_compared),
    st.builds(drifted, st.floats(0.0, 1e6), is_beyond=st.booleans(), return_1=st.floats(0.0, 1e6)),
    st.builds(stopped, _portfolios, st.none() | _amounts),
)
