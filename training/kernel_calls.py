"""The calls from Python into the compiled environment: one for a single account, one for many.

A call costs more than what it computes, and most of that is handing over arrays: a single account gets few of them, and
those as bytes, which numba recognises faster than records.
"""

import math

import numpy as np
from numpy.typing import NDArray

from strategy.observation import N_OBSERVATION
from training import kernel
from training.compiled import compiled
from training.kernel import NOT_FINITE, look
from training.kernel_prefetch import CACHE_LINE, prefetch
from training.kernel_records import CANDLE, DESK, Records

Bytes = NDArray[np.uint8]
_AHEAD = 4
_CANDLE_LINES = -(-CANDLE.itemsize // CACHE_LINE)
_ACCOUNT_LINES = 9  # up to the reward's memory, of which a step touches little
_step, _observe, _judge, _go_on = kernel.step, kernel.observe, kernel.judge, kernel.go_on


@compiled
def begin(tape: Records, markets: Records, accounts: Records, index: int) -> None:
    """Let an account that was just opened see its first candle."""
    account = accounts[index]
    look(markets[account.market], account, tape[account.at])


@compiled
def observe_at(tape: Records, markets: Records, accounts: Records, index: int, out: NDArray[np.float32]) -> None:
    """Write what one of the accounts sees, (N_OBSERVATION,)."""
    account = accounts[index]
    _observe(tape, markets[account.market], account, out, 0)


@compiled
def observe_all(tape: Records, markets: Records, accounts: Records, out: NDArray[np.float32]) -> None:
    """Write what every account sees, (n, N_OBSERVATION)."""
    flat = out.reshape(-1)
    for index in range(len(accounts)):
        account = accounts[index]
        _observe(tape, markets[account.market], account, flat, index * N_OBSERVATION)


@compiled
def judge(
    tape: Records, markets: Records, accounts: Records, votes: NDArray[np.float32], weights: NDArray[np.float64]
) -> None:
    """Let several members decide for the first account, see `kernel.judge`."""
    account = accounts[0]
    _judge(tape, markets[account.market], account, votes, weights)


@compiled
def go_on(tape: Records, markets: Records, accounts: Records) -> None:
    """Take the first account one candle on, see `kernel.go_on`."""
    account = accounts[0]
    _go_on(tape, markets[account.market], account)


@compiled
def step_one(
    tape: Bytes, desk: Bytes, action: NDArray[np.float32], out: NDArray[np.float32]
) -> tuple[float, int, float, int]:
    """Step one account and write what it sees then. tape: of CANDLE.  desk: one DESK.

    Returns reward and flags, see `kernel.step`, equity, and the number of the verdict.
    """
    candles, place = tape.view(CANDLE), desk.view(DESK)[0]
    market, account = place.market, place.account
    direction, size, confidence = np.float64(action[0]), np.float64(action[1]), np.float64(action[2])
    earned, flags = _step(candles, market, account, direction, size, confidence)
    _observe(candles, market, account, out, 0)
    return earned, flags, account.equity, account.verdict


@compiled
def step_all(  # noqa: PLR0917 - compiled code takes its arguments by position
    tape: Records,
    markets: Records,
    accounts: Records,
    actions: NDArray[np.float32],
    out: NDArray[np.float32],
    rewards: NDArray[np.float32],
    flags: NDArray[np.uint8],
) -> int:
    """Step every account and write what each sees then. Returns all flags of all accounts together.

    An action that is not of finite numbers is flagged before any account moves.
    """
    together = 0
    for index in range(len(accounts)):
        total = np.float64(actions[index, 0]) + np.float64(actions[index, 1]) + np.float64(actions[index, 2])
        flags[index] = 0 if math.isfinite(total) else NOT_FINITE
        together |= flags[index]
    if together:
        return together
    flat = out.reshape(-1)
    for index in range(len(accounts)):
        if index + _AHEAD < len(accounts):
            coming, following = tape[accounts[index + _AHEAD].at + 1], accounts[index + _AHEAD // 2]
            for line in range(_CANDLE_LINES):
                prefetch(coming, line * CACHE_LINE)
            for line in range(_ACCOUNT_LINES):
                prefetch(following, line * CACHE_LINE)
        account = accounts[index]
        market = markets[account.market]
        direction, size = np.float64(actions[index, 0]), np.float64(actions[index, 1])
        earned, state = _step(tape, market, account, direction, size, np.float64(actions[index, 2]))
        _observe(tape, market, account, flat, index * N_OBSERVATION)
        rewards[index], flags[index] = earned, state
        together |= state
    return together
