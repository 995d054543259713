"""What `sacd status` shows of a running daemon."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from daemon import wording
from daemon.config import Config
from daemon.engine import Engine
from daemon.health import Health
from daemon.models_status import ModelsStatus
from daemon.recent_news import RecentNews
from daemon.run_record import money_of
from strategy.order import OrderKind, OrderState, OrderStatus

_AT_VENUE = frozenset({OrderState.OPEN, OrderState.PARTIALLY_FILLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Which account it is. exchange: None for a market of our own making.  money: None on paper."""

    instance: str
    mode: str
    exchange: str | None = None
    money: str | None = None

    @classmethod
    def of(cls, config: Config) -> "Account":
        """Return that of a configuration."""
        return cls(
            instance=config.daemon.instance,
            mode=config.daemon.mode,
            exchange=config.exchange.id if config.market.source == "exchange" else None,
            money=money_of(config) if config.is_live else None,
        )


def status(
    engine: Engine, health: Health, account: Account, news: RecentNews, models: ModelsStatus | None
) -> dict[str, Any]:
    """Return what `sacd status` shows: the documented object of `--json`.

    models: None where nobody looks after the ensembles.
    """
    trader, memory = engine.trader, engine.memory
    portfolio, state = trader.portfolio, trader.risk
    orders = list(memory.orders.values())
    return {
        "instance": account.instance,
        "mode": account.mode,
        "exchange": account.exchange,
        "money": account.money,
        "state": state.state.value,
        "reason": None if state.reason is None else state.reason.value,
        "paused": state.is_paused,
        "no_exposure": wording.hindrances(state),
        "model": engine.model.id,
        "models": None if models is None else models.to_json(),
        "equity": portfolio.equity,
        "cash": portfolio.cash,
        "drawdown": portfolio.drawdown,
        "fees": portfolio.fees,
        "hold_equity": memory.hold_equity(trader),
        "decisions": memory.decisions,
        "orders_in_flight": sum(known.order.kind is not OrderKind.STOP for known in orders),
        "orders": [_order(known) for known in orders],
        "positions": {symbol: _position(engine, symbol, orders) for symbol in portfolio.positions},
        "foreign": None if memory.foreign is None else dict(memory.foreign),
        "news": news.to_json(),
        "health": health.report().to_json(),
    }


def _position(engine: Engine, symbol: str, orders: Sequence[OrderStatus]) -> dict[str, Any]:
    trader, memory = engine.trader, engine.memory
    position, stop, is_at_venue = trader.portfolio.positions[symbol], trader.stops[symbol], memory.foreign is not None
    stops = [known for known in orders if known.order.kind is OrderKind.STOP and known.order.symbol == symbol]
    resting = sum(known.order.quantity - known.filled for known in stops if known.state in _AT_VENUE)
    return {
        "quantity": position.quantity,
        "average_entry": position.average_entry,
        "mark": position.mark,
        "exposure": trader.portfolio.exposure(symbol),
        "unrealised_return": position.unrealised_return,
        "stop": None if stop is None else stop.stop_price,
        "stop_at_venue": resting if is_at_venue else None,
        "last_candle_ms": memory.last[symbol].open_ms if symbol in memory.last else None,
    }


def _order(known: OrderStatus) -> dict[str, Any]:
    order = known.order
    return {
        "client_id": order.client_id,
        "symbol": order.symbol,
        "side": order.side.value,
        "kind": order.kind.value,
        "state": known.state.value,
        "quantity": order.quantity,
        "filled": known.filled,
        "stop_price": order.stop_price,
        "decided_ms": order.decided_ms,
    }
