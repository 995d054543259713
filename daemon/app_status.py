"""What `sacd status` shows of a running daemon."""

from typing import Any

from daemon.engine import Engine
from daemon.health import Health


def status(engine: Engine, health: Health) -> dict[str, Any]:
    """Return what `sacd status` shows: the documented object of `--json`."""
    trader, memory = engine.trader, engine.memory
    portfolio, state = trader.portfolio, trader.risk
    return {
        "state": state.state.value,
        "reason": None if state.reason is None else state.reason.value,
        "paused": state.is_paused,
        "model": engine.model.id,
        "equity": portfolio.equity,
        "cash": portfolio.cash,
        "drawdown": portfolio.drawdown,
        "fees": portfolio.fees,
        "hold_equity": memory.hold_equity(trader),
        "decisions": memory.decisions,
        "orders_in_flight": len(memory.orders),
        "positions": {
            symbol: {
                "quantity": position.quantity,
                "average_entry": position.average_entry,
                "mark": position.mark,
                "exposure": portfolio.exposure(symbol),
                "unrealised_return": position.unrealised_return,
                "stop": None if (stop := trader.stops[symbol]) is None else stop.stop_price,
                "last_candle_ms": memory.last[symbol].open_ms if symbol in memory.last else None,
            }
            for symbol, position in portfolio.positions.items()
        },
        "health": health.report().to_json(),
    }
