"""The memory of the compiled environments: one record per candle, per market and per account.

Everything an account is lies in one record, so that its state can be copied, stored and continued; numba reads the
fields by name at fixed places.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy.features import N_FEATURES
from strategy.instrument import Instrument
from strategy.risk import TradingState, VerdictReason
from strategy.trader import Reference, Setup
from training.errors import TrainingError
from training.history import History
from training.kernel_rounding import decimal_step, is_exact
from training.reward import COMPONENTS, STATE_SIZE
from training.trend import trend_shares

Record = Any
"""One record of the arrays below, as compiled code sees it: fields are attributes."""
Records = NDArray[np.void]

DAY_MS = 86_400_000
STATES = tuple(TradingState)
REASONS = tuple(VerdictReason)
"""A number in a record stands for the entry at that index; -1 is None."""
LONGEST_DELAY = 24
_N_REWARD = len(COMPONENTS) + 9
_PRICE_ROOM = 2.0  # the worst slippage is a tenth

CANDLE = np.dtype(
    [
        ("open_ms", "i8"),
        ("close_ms", "i8"),
        ("day", "i8"),
        ("open", "f8"),
        ("low", "f8"),
        ("close", "f8"),
        ("volume", "f8"),
        ("volatility", "f8"),
        ("average_range", "f8"),
        ("distance", "f8"),
        ("trend", "f8"),
        ("is_valid", "i8"),
        ("row", "f4", (N_FEATURES,)),
    ],
    align=True,
)
"""A candle and what it shows: the histories of all markets stand one after another in one array of these."""

MARKET = np.dtype(
    [
        ("first", "i8"),
        ("span_ms", "i8"),
        ("tick", "f8"),
        ("tick_digits", "f8"),
        ("tick_scale", "f8"),
        ("lot_digits", "f8"),
        ("lot_scale", "f8"),
        ("min_notional", "f8"),
        ("participation", "f8"),
        ("dead_band", "f8"),
        ("disagreement_limit", "f8"),
        ("volatility_target", "f8"),
        ("root_year", "f8"),
        ("root_horizon", "f8"),
        ("max_position", "f8"),
        ("max_drawdown", "f8"),
        ("stop_loss", "f8"),
        ("stop_atr_multiple", "f8"),
        ("stop_cooldown", "i8"),
        ("daily_loss", "f8"),
        ("max_orders_per_day", "i8"),
        ("max_turnover_per_day", "f8"),
        ("loss_streak", "i8"),
        ("loss_streak_cooldown", "i8"),
        ("halt_cooldown", "i8"),
        ("out_of_distribution", "f8"),
        ("decide_every", "i8"),
        ("ruin", "f8"),
        ("reward", "f8", (_N_REWARD,)),
    ],
    align=True,
)
"""What holds for every account that trades one history: steps, limits, parameters. first: index of its first candle."""

ACCOUNT = np.dtype(
    [
        # drawn at reset
        ("market", "i8"),
        ("end", "i8"),
        ("delay", "i8"),
        ("fee_rate", "f8"),
        ("slippage_rate", "f8"),
        ("edge_cost", "f8"),
        ("decide_offset", "i8"),
        # where it is
        ("at", "i8"),
        ("votes_cast", "i8"),
        # strategy/portfolio.py
        ("cash", "f8"),
        ("equity", "f8"),
        ("peak", "f8"),
        ("day", "i8"),
        ("day_start", "f8"),
        ("fees", "f8"),
        ("slippage", "f8"),
        ("wins", "i8"),
        ("losses", "i8"),
        ("quantity", "f8"),
        ("average_entry", "f8"),
        ("mark", "f8"),
        ("high", "f8"),
        ("trade_profit", "f8"),
        ("since_trade", "i8"),
        # the same, of the account and of its position, when it was last marked
        ("drawdown", "f8"),
        ("exposure", "f8"),
        # strategy/risk.py; refused: why nothing may be bought on the present candle
        ("state", "i8"),
        ("reason", "i8"),
        ("halted_ms", "i8"),
        ("risk_day", "i8"),
        ("orders_today", "i8"),
        ("turnover_today", "f8"),
        ("streak", "i8"),
        ("blocked_until_ms", "i8"),
        ("blocked_by", "i8"),
        ("refused", "i8"),
        # the protective stop, 0 when flat, for the whole quantity; the mean true range it is made from, -1 before any
        ("stop", "f8"),
        ("average_range", "f8"),
        # the order on its way to the next open: side +1, -1, or 0 for none
        ("order_side", "i8"),
        ("order_quantity", "f8"),
        ("order_reference", "f8"),
        # the last decision and what came of it; fills: time, signed quantity, price, fee of the last candle's fills
        ("action", "i8"),
        ("target", "f8"),
        ("verdict", "i8"),
        ("n_fills", "i8"),
        ("fills", "f8", (2, 4)),
        ("traded", "f8"),
        # a quantity had more digits than rounding tells apart
        ("is_inexact", "i8"),
        # training/reward.py; paid: sum of the episode's rewards over `steps`
        ("steps", "i8"),
        ("paid", "f8"),
        ("components", "f8", (len(COMPONENTS),)),
        ("reward_state", "f8", (STATE_SIZE,)),
        # votes under way, last, as most accounts have none: what every step touches lies together
        ("votes", "f4", (LONGEST_DELAY + 1, 3)),
    ],
    align=True,
)
"""One account: the environment's whole state."""

DESK = np.dtype([("market", MARKET), ("account", ACCOUNT)], align=True)
"""A single account with what it trades under."""


def code(reason: VerdictReason | TradingState) -> int:
    """Return the number that stands for `reason` in a record."""
    return STATES.index(reason) if isinstance(reason, TradingState) else REASONS.index(reason)


def tape_of(histories: Sequence[History], reference: Reference | None) -> Records:
    """Return the candles of all histories, one after another, (n,) of CANDLE."""
    tape = np.zeros(sum(len(history.table) for history in histories), CANDLE)
    first = 0
    for history in histories:
        part = tape[first : first + len(history.table)]
        _fill(part, history, reference)
        first += len(part)
    return tape


def _fill(part: Records, history: History, reference: Reference | None) -> None:
    table, rows = history.table, history.rows
    part["open_ms"] = table.open_ms
    part["close_ms"] = table.open_ms + table.timeframe.span_ms
    part["day"] = table.open_ms // DAY_MS
    for name, column in (("open", 0), ("low", 2), ("close", 3), ("volume", 4)):
        part[name] = table.values[:, column]
    part["volatility"], part["average_range"] = rows.context[:, 0], rows.context[:, 1]
    part["is_valid"], part["row"] = rows.is_valid, rows.values
    part["trend"] = np.where(rows.is_valid, trend_shares(rows.values), 0.0)
    if reference is not None:
        # Row by row, as the trader measures it: a sum over many rows at once might add in another order.
        for index in np.flatnonzero(rows.is_valid).tolist():
            part["distance"][index] = reference.distance(rows.values[index])


def markets_of(histories: Sequence[History], setup: Setup, cash: float, reward: NDArray[np.float64]) -> Records:
    """Return what each history is traded under, (n,) of MARKET.

    cash: quote, what an account begins with.  reward: of `reward_parameters`.  Raises TrainingError for a symbol the
    setup does not know, and for steps that prices or quantities of this account cannot be rounded to exactly.
    """
    markets, first = np.zeros(len(histories), MARKET), 0
    for market, history in zip(markets, histories, strict=True):
        if history.symbol not in setup.instruments:
            known = ", ".join(setup.instruments)
            raise TrainingError(f"{history.symbol}: no instrument in the setup, which knows {known}; add one")
        instrument = setup.instruments[history.symbol]
        market["first"] = first
        first += len(history.table)
        market["ruin"], market["reward"] = 0.1 * cash, reward
        _set_steps(market, instrument)
        _set_parameters(market, setup)
        _check_range(market, instrument, history, cash)
    return markets


def _set_steps(market: Record, instrument: Instrument) -> None:
    market["tick"], market["min_notional"] = instrument.tick, instrument.min_notional
    for name, step in (("tick", instrument.tick), ("lot", instrument.lot)):
        digits, scale = decimal_step(f"{instrument.symbol}: {name}", step)
        market[f"{name}_digits"], market[f"{name}_scale"] = digits, scale


def _set_parameters(market: Record, setup: Setup) -> None:
    limits, strategy = setup.limits, setup.strategy
    for source in (limits, strategy):
        for name, value in source.to_json().items():
            if name in (MARKET.names or ()):
                market[name] = value
    market["span_ms"], market["participation"] = setup.timeframe.span_ms, setup.costs.participation
    market["root_year"] = np.sqrt(setup.timeframe.candles_per_year)
    market["root_horizon"] = np.sqrt(float(strategy.edge_horizon))


def _check_range(market: Record, instrument: Instrument, history: History, cash: float) -> None:
    """Refuse what would have more than 15 significant digits in steps: the compiled rounding would guess."""
    values = history.table.values
    highest, lowest = float(values[:, :4].max()), float(values[:, :4].min())
    if not is_exact(highest * _PRICE_ROOM, float(market["tick_digits"]), float(market["tick_scale"])):
        raise TrainingError(
            f"{history.symbol}: prices up to {highest} have too many digits in ticks of {instrument.tick}: "
            "give a coarser tick"
        )
    if not is_exact(cash / lowest, float(market["lot_digits"]), float(market["lot_scale"])):
        raise TrainingError(
            f"{history.symbol}: {cash} of cash buy so much at {lowest} that it has too many digits in lots of "
            f"{instrument.lot}: give a coarser lot or less cash"
        )
