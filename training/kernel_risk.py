"""The risk manager: strategy/risk.py and strategy/stops.py, compiled for an account of one symbol.

The order of operations is theirs: a change there that is not made here shows in tests/training/test_kernel.py.
"""

from strategy.risk import TradingState, VerdictReason
from strategy.stops import NEAREST_STOP
from training.compiled import compiled
from training.kernel_costs import (
    buying_price,
    ceil_quantity,
    floor_price,
    floor_quantity,
    least_of_affordable,
)
from training.kernel_records import Record, code

_ACTIVE, _REDUCING = code(TradingState.ACTIVE), code(TradingState.REDUCING)
_HALTED_STATE, _HALTED = code(TradingState.HALTED), code(VerdictReason.HALTED)
_NOTHING = -1
_VOTED = code(VerdictReason.VOTED)
_DRAWDOWN, _DAILY_LOSS = code(VerdictReason.MAX_DRAWDOWN_EXCEEDED), code(VerdictReason.DAILY_LOSS_LIMIT)
_POSITION, _STOP_LOSS = code(VerdictReason.MAX_POSITION_EXCEEDED), code(VerdictReason.STOP_LOSS_TRIGGERED)
_ORDER_RATE, _TURNOVER = code(VerdictReason.ORDER_RATE), code(VerdictReason.TURNOVER_BUDGET)
_STREAK, _STOP_COOLDOWN = code(VerdictReason.LOSS_STREAK), code(VerdictReason.STOP_COOLDOWN)
_OUT_OF_DISTRIBUTION = code(VerdictReason.OUT_OF_DISTRIBUTION)
_MINIMUM_NOTIONAL, _CASH = code(VerdictReason.MINIMUM_NOTIONAL), code(VerdictReason.INSUFFICIENT_CASH)


# ---- the account as a whole -------------------------------------------------------------------------------------
@compiled
def value(market: Record, account: Record, now_ms: int) -> None:
    """Note drawdown and exposure of an account that was marked, after checking it as a whole."""
    account.drawdown = max(0.0, 1.0 - account.equity / account.peak)
    _review(market, account, now_ms)
    equity = account.equity
    account.exposure = account.quantity * account.mark / equity if equity > 0.0 else 0.0


@compiled
def _review(market: Record, account: Record, now_ms: int) -> None:
    """Check drawdown, daily loss, cool-down and a new day."""
    _begin_day(account, account.day)
    is_flat = not (account.quantity > 0.0 and account.quantity * account.mark >= market.min_notional)
    if account.state == _HALTED_STATE:
        if market.halt_cooldown > 0 and now_ms >= account.halted_ms + market.halt_cooldown * market.span_ms:
            account.state, account.reason, account.halted_ms = _ACTIVE, _NOTHING, 0
            account.peak, account.drawdown = account.equity, 0.0
        return
    if account.drawdown >= market.max_drawdown:
        account.state = _HALTED_STATE if is_flat else _REDUCING
        account.reason, account.halted_ms = _DRAWDOWN, now_ms
    elif account.reason == _DRAWDOWN:
        if is_flat:
            account.state, account.halted_ms = _HALTED_STATE, now_ms
    elif account.state == _ACTIVE:
        day_loss = 1.0 - account.equity / account.day_start if account.day_start > 0.0 else 0.0
        if day_loss >= market.daily_loss:
            account.state, account.reason = _REDUCING, _DAILY_LOSS


@compiled
def _begin_day(account: Record, day: int) -> None:
    if day == account.risk_day:
        return
    account.risk_day, account.orders_today, account.turnover_today = day, 0, 0.0
    if account.reason == _DAILY_LOSS:
        account.state, account.reason = _ACTIVE, _NOTHING


@compiled
def after_stop_fill(market: Record, account: Record, notional: float, at_ms: int) -> None:
    """Count a fill of the protective stop against its day, and start the cool-down."""
    _begin_day(account, account.day)
    account.orders_today += 1
    account.turnover_today += notional
    _after_stop(market, account, at_ms)


@compiled
def after_round_trip(market: Record, account: Record, won: bool, at_ms: int) -> None:
    """Count losing streaks after a position was closed, and start their cool-down."""
    streak = 0 if won else account.streak + 1
    if streak >= market.loss_streak:
        _block(account, _cool_ms(at_ms, market.loss_streak_cooldown, market.span_ms), _STREAK)
        streak = 0
    account.streak = streak


@compiled
def _after_stop(market: Record, account: Record, at_ms: int) -> None:
    _block(account, _cool_ms(at_ms, market.stop_cooldown, market.span_ms), _STOP_COOLDOWN)


@compiled
def _cool_ms(at_ms: int, candles: int, span_ms: int) -> int:
    return (at_ms // span_ms + 1 + candles) * span_ms


@compiled
def _block(account: Record, until_ms: int, reason: int) -> None:
    if until_ms > account.blocked_until_ms:
        account.blocked_until_ms, account.blocked_by = until_ms, reason


@compiled
def refusal(market: Record, account: Record, now_ms: int) -> int:
    """Return why nothing may be bought now, -1 when it may."""
    if account.state == _HALTED_STATE:
        return _HALTED
    if account.state == _REDUCING:
        return int(account.reason)
    if now_ms < account.blocked_until_ms:
        return int(account.blocked_by)
    if account.orders_today >= market.max_orders_per_day:
        return _ORDER_RATE
    if account.turnover_today >= market.max_turnover_per_day * account.equity:
        return _TURNOVER
    return _NOTHING


# ---- one decision -----------------------------------------------------------------------------------------------
@compiled
def assess(market: Record, account: Record, distance: float, now_ms: int) -> None:
    """Turn the noted decision into an order, or into the reason why there is none."""
    exposure = account.exposure
    if account.quantity > 0.0:
        limit = market.max_position
        if account.reason == _DRAWDOWN:
            _sell(market, account, exposure, 0.0, _DRAWDOWN)
            return
        if account.stop > 0.0 and account.mark <= account.stop:
            _sell(market, account, exposure, 0.0, _STOP_LOSS)
            if account.order_side != 0:
                _after_stop(market, account, now_ms)
            return
        if exposure > limit and account.target >= limit:
            _sell(market, account, exposure, limit, _POSITION)
            return
    if account.target < exposure:
        _sell(market, account, exposure, account.target, account.verdict)
    elif account.target > exposure:
        _buy(market, account, exposure, distance)


@compiled
def _sell(market: Record, account: Record, exposure: float, target: float, reason: int) -> None:
    held, mark = account.quantity, account.mark
    quantity = held
    if target > 0.0:
        excess = ceil_quantity(market, account, (exposure - target) * account.equity / mark)
        smallest = ceil_quantity(market, account, market.min_notional / mark)
        quantity = min(held, max(excess, smallest))
    if (held - quantity) * mark < market.min_notional:
        quantity = held
    if quantity * mark < market.min_notional:
        account.verdict = _MINIMUM_NOTIONAL
        return
    _order(account, -1, quantity, reason)


@compiled
def _buy(market: Record, account: Record, exposure: float, distance: float) -> None:
    mark, reason = account.mark, int(account.verdict)
    if account.refused != _NOTHING:
        account.verdict = account.refused
        return
    if distance > market.out_of_distribution:
        account.verdict = _OUT_OF_DISTRIBUTION
        return
    target = min(account.target, market.max_position)
    wanted = floor_quantity(market, account, max(0.0, target - exposure) * account.equity / mark)
    quantity = least_of_affordable(market, account, wanted, buying_price(market, account, mark))
    if quantity < wanted:
        reason = _CASH
    budget = market.max_turnover_per_day * account.equity - account.turnover_today
    if quantity * mark > budget:
        quantity, reason = floor_quantity(market, account, budget / mark), _TURNOVER
    if quantity <= 0.0 or quantity * mark < market.min_notional:
        account.verdict = reason if reason != _VOTED else _MINIMUM_NOTIONAL
        return
    _order(account, 1, quantity, reason)


@compiled
def _order(account: Record, side: int, quantity: float, reason: int) -> None:
    account.order_side, account.order_quantity, account.order_reference = side, quantity, account.mark
    account.verdict = reason
    account.orders_today += 1
    account.turnover_today += quantity * account.mark


@compiled
def move_stop(market: Record, account: Record) -> None:
    """Keep exactly one protective stop for what is held, and none when flat."""
    if account.quantity <= 0.0:
        account.stop = 0.0
        return
    price = account.average_entry * (1.0 - market.stop_loss)
    if market.stop_atr_multiple > 0.0 and account.average_range >= 0.0:
        away = max(market.stop_atr_multiple * account.average_range, NEAREST_STOP)
        price = max(price, account.high * (1.0 - away))
    # A stop never falls, and the one there is lies on the grid.
    if price > account.stop:
        account.stop = max(floor_price(market, price), market.tick, account.stop)
