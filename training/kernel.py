"""The compiled environment: what strategy/session.py does for one account with one symbol, bit for bit.

Candle by candle: the order on its way and the stop meet the candle, the account is marked and reviewed, votes become
a decision, the decision an order. `training/trader_env.py` is the definition that tests hold this to. What plain
Python spreads over frozen values stands here in one record per account, changed in place.
"""

import math

import numpy as np
from numpy.typing import NDArray

from strategy.features import N_FEATURES
from strategy.observation import N_OBSERVATION, OBSERVATION_LIMIT
from training.compiled import compiled
from training.kernel_costs import (
    buying_price,
    least_of_affordable,
    least_of_volume,
    selling_price,
    sum_of_lots,
)
from training.kernel_decision import Mean, alone, decide, is_due, kind_of, mean_of, size_cap, wait, warm_up
from training.kernel_records import LONGEST_DELAY, Record, Records
from training.kernel_risk import (
    after_round_trip,
    after_stop_fill,
    assess,
    move_stop,
    refusal,
    value,
)
from training.reward import reward

RUINED, CUT_OFF, INEXACT, NOT_FINITE, OVER = 1, 2, 4, 8, 16
"""What `step` returns, added together: equity is gone, the episode ends, and three reasons why nothing counts."""
_RING = LONGEST_DELAY + 1
_NOBODY: Mean = (0.0, 0.0, 0.0, 0.0)

Votes = NDArray[np.float32]


# ---- what a candle does -----------------------------------------------------------------------------------------
@compiled
def look(market: Record, account: Record, candle: Record) -> None:
    """Mark the account at the close, review it, and take in what the candle shows."""
    close = candle.close
    account.mark = close
    account.high = max(account.high, close) if account.quantity > 0.0 else 0.0
    account.since_trade += 1
    before = account.equity
    account.equity = account.cash + account.quantity * close
    account.peak = max(account.peak, account.equity)
    day = max(account.day, candle.day)
    if day != account.day:
        account.day, account.day_start = day, before
    value(market, account, candle.close_ms)
    account.refused = refusal(market, account, candle.close_ms)
    if candle.is_valid:
        account.average_range = candle.average_range


@compiled
def settle(market: Record, account: Record, candle: Record) -> None:
    """Let the order on its way and the stop meet a new candle."""
    account.n_fills = 0
    side = account.order_side
    if side != 0:
        account.order_side = 0
        quantity = least_of_volume(market, account, account.order_quantity, candle.volume)
        if side > 0:
            price = buying_price(market, account, candle.open)
            quantity = least_of_affordable(market, account, quantity, price)
            if quantity > 0.0:
                _bought(market, account, candle, quantity, price)
        else:
            price = selling_price(market, account, candle.open)
            quantity = min(quantity, account.quantity)
            if quantity > 0.0:
                _sold(market, account, candle, quantity, price, account.order_reference, False)
    if account.stop > 0.0 and candle.low <= account.stop:
        quantity = least_of_volume(market, account, account.quantity, candle.volume)
        if quantity > 0.0:
            reference = account.stop
            price = selling_price(market, account, min(candle.open, reference))
            _sold(market, account, candle, quantity, price, reference, True)


@compiled
def _bought(market: Record, account: Record, candle: Record, quantity: float, price: float) -> None:
    notional, held = quantity * price, account.quantity
    paid = notional * account.fee_rate
    account.average_entry = (held * account.average_entry + notional) / (held + quantity)
    account.quantity = sum_of_lots(market, account, held, quantity)
    account.trade_profit -= paid
    account.high = max(account.high, price)
    account.slippage += (price - account.order_reference) * quantity
    _paid(account, candle, notional + paid, paid, quantity, price)
    account.traded += notional
    move_stop(market, account)


@compiled
def _sold(  # noqa: PLR0917 - compiled code takes its arguments by position
    market: Record, account: Record, candle: Record, quantity: float, price: float, reference: float, by_stop: bool
) -> None:
    notional = quantity * price
    paid = notional * account.fee_rate
    rest = sum_of_lots(market, account, account.quantity, -quantity)
    profit = account.trade_profit + (price - account.average_entry) * quantity - paid
    account.quantity, account.trade_profit = rest, profit
    if rest == 0.0:
        account.average_entry, account.high, account.trade_profit = 0.0, 0.0, 0.0
    account.slippage += (reference - price) * quantity
    _paid(account, candle, paid - notional, paid, -quantity, price)
    account.traded += notional
    if by_stop:
        after_stop_fill(market, account, notional, candle.open_ms)
    if rest == 0.0:
        won = profit > 0.0
        if won:
            account.wins += 1
        else:
            account.losses += 1
        after_round_trip(market, account, won, candle.open_ms)
    move_stop(market, account)


@compiled
def _paid(  # noqa: PLR0917 - compiled code takes its arguments by position
    account: Record, candle: Record, amount: float, fee: float, change: float, price: float
) -> None:
    """Take `amount` from the cash, begin the fill's day, and note the fill."""
    before = account.equity
    account.cash -= amount
    account.equity = account.cash + account.quantity * account.mark
    if candle.day > account.day:
        account.day, account.day_start = candle.day, before
    account.fees += fee
    account.since_trade = 0
    fill = account.fills[account.n_fills]
    fill[0], fill[1], fill[2], fill[3] = candle.open_ms, change, price, fee
    account.n_fills += 1


@compiled
def _judge(market: Record, account: Record, candle: Record, mean: Mean, voted: bool) -> None:
    """Turn votes, or nobody's, into a decision on the present candle, and that into an order and a stop."""
    if voted:
        decide(market, account, mean, account.exposure, candle.volatility)
        if not is_due(market, account, candle.close_ms):
            wait(account, account.exposure)
    else:
        warm_up(account, account.exposure)
    assess(market, account, candle.distance if candle.is_valid else 0.0, candle.close_ms)
    move_stop(market, account)


# ---- one account ------------------------------------------------------------------------------------------------
@compiled
def judge(tape: Records, market: Record, account: Record, votes: Votes, weights: NDArray[np.float64]) -> None:
    """Let several members decide: `target`, `action` and `verdict` of the account say what came of it.

    votes: (n_members, 3), finite; of length 0 when nobody votes.  weights: (n_members,), of sum 1.
    """
    mean, voted = _NOBODY, len(votes) > 0
    if voted:
        mean = mean_of(votes, weights)
    _judge(market, account, tape[account.at], mean, voted)


@compiled
def go_on(tape: Records, market: Record, account: Record) -> None:
    """Take the account one candle on: its `fills` and `equity` say what that did."""
    account.at += 1
    candle = tape[account.at]
    settle(market, account, candle)
    look(market, account, candle)


@compiled
def step(  # noqa: PLR0917 - compiled code takes its arguments by position
    tape: Records, market: Record, account: Record, direction: float, size: float, confidence: float
) -> tuple[float, int]:
    """Decide on the present candle and go to the next one that can be seen and that a decision falls on.

    Returns the reward and flags. NOT_FINITE: the action is no number, and nothing happened.  OVER: the episode had
    ended before, and nothing happened.  INEXACT: a quantity was beyond what rounding tells apart.
    """
    if account.at >= account.end:
        return 0.0, OVER
    if not math.isfinite(direction + size + confidence):
        return 0.0, NOT_FINITE
    before, price = account.equity, account.mark
    account.traded = 0.0
    mean, voted = _vote(tape, market, account, direction, size, confidence)
    candle = tape[account.at]
    _judge(market, account, candle, mean, voted)
    verdict, astray = account.verdict, _astray(market, account, candle)
    go_on(tape, market, account)
    while account.at < account.end and not _is_asked(market, account, tape[account.at]):
        _judge(market, account, tape[account.at], _NOBODY, False)
        go_on(tape, market, account)
    account.verdict = verdict
    earned = reward(
        market.reward,
        account.reward_state,
        account.equity / before - 1.0,
        account.mark / price - 1.0,
        account.drawdown,
        account.traded * (account.fee_rate + account.slippage_rate) / before,
        kind_of(direction),
        astray,
        account.components,
    )
    account.steps += 1
    account.paid += earned
    flags = RUINED if account.equity <= market.ruin else 0
    if account.at >= account.end:
        flags += CUT_OFF
    if account.is_inexact:
        flags += INEXACT
    return earned, flags


@compiled
def _astray(market: Record, account: Record, candle: Record) -> float:
    """Return by how much the exposure that is wanted exceeds the trend rule's, as a share of max_position."""
    excess: float = account.target - candle.trend * size_cap(market, candle.volatility)
    return excess / float(market.max_position)


@compiled
def _is_asked(market: Record, account: Record, candle: Record) -> bool:
    """Tell whether the policy is asked on a candle: it shows something, and a decision falls on it."""
    return candle.is_valid != 0 and is_due(market, account, candle.close_ms)


@compiled
def _vote(  # noqa: PLR0917 - compiled code takes its arguments by position
    tape: Records, market: Record, account: Record, direction: float, size: float, confidence: float
) -> tuple[Mean, bool]:
    """Return the vote that takes effect now, and whether there is one: the first may still be under way."""
    if not _is_asked(market, account, tape[account.at]):
        return _NOBODY, False
    if account.delay == 0:
        return alone(direction, size, confidence), True
    cast = account.votes_cast
    now = account.votes[cast % _RING]
    now[0], now[1], now[2] = direction, size, confidence
    account.votes_cast = cast + 1
    if cast < account.delay:
        return _NOBODY, False
    old = account.votes[(cast - account.delay) % _RING]
    return alone(np.float64(old[0]), np.float64(old[1]), np.float64(old[2])), True


@compiled
def observe(tape: Records, market: Record, account: Record, out: NDArray[np.float32], first: int) -> None:
    """Write the N_OBSERVATION numbers the policy sees, from out[first] on; zeros where the window is not full.

    out: (n,). A place in a whole array, for the row of one would be counted in and out at each step.
    """
    candle = tape[account.at]
    if not candle.is_valid:
        for index in range(N_OBSERVATION):
            out[first + index] = 0.0
        return
    row, place = candle.row, np.uint64(first)
    # Unsigned, so that nobody asks of each number whether it is counted from the end: then they are copied together.
    for index in range(np.uint64(N_FEATURES)):
        out[place + index] = row[index]
    unrealised = away = 0.0
    if account.quantity > 0.0:
        unrealised = (account.mark / account.average_entry - 1.0) / market.stop_loss
    if account.stop > 0.0:
        away = (1.0 - account.stop / account.mark) / market.stop_loss
    since, last = float(account.since_trade), first + N_FEATURES
    out[last] = min(account.exposure / market.max_position, OBSERVATION_LIMIT)
    out[last + 1] = unrealised / (1.0 + abs(unrealised))
    out[last + 2] = min(account.drawdown / market.max_drawdown, OBSERVATION_LIMIT)
    out[last + 3] = since / (since + 24.0)
    out[last + 4] = max(min(away, OBSERVATION_LIMIT), -OBSERVATION_LIMIT)
    out[last + 5] = 1.0 if account.refused == -1 else 0.0
