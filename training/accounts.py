"""Accounts of the compiled environments: their memory, how an episode begins, and what went wrong in words."""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from strategy.risk import VerdictReason
from strategy.trader import Reference, Setup
from training import kernel, kernel_calls
from training.draws import Drawn
from training.errors import TrainingError
from training.history import History
from training.kernel_records import ACCOUNT, Records, code, markets_of, tape_of
from training.reward import REWARDS, RewardSettings, reward_parameters


class Accounts:
    """Accounts on the same histories. The arrays are those compiled code works on; nobody else writes them.

    tape: candles of all histories, (n_candles,) of CANDLE.  markets: (n_histories,) of MARKET.  records: (count,) of
    ACCOUNT, as given.
    """

    def __init__(
        self,
        histories: Sequence[History],
        setup: Setup,
        records: Records,
        *,
        cash: float,
        reward: RewardSettings | None = None,
        reference: Reference | None = None,
    ) -> None:
        """setup.instruments must hold the symbol of every history; records: zeros; cash: quote, > 0.

        Raises TrainingError.
        """
        if not histories:
            raise TrainingError("no history to practise on: give at least one")
        if not cash > 0.0:
            raise TrainingError(f"cash {cash}: give more than 0")
        settings = REWARDS["timing"] if reward is None else reward
        parameters = reward_parameters(settings, setup.limits, setup.timeframe.candles_per_year)
        self.setup, self.cash = setup, cash
        self.tape = tape_of(histories, reference)
        self.markets = markets_of(histories, setup, cash, parameters)
        self.records = records
        self._firsts: list[int] = self.markets["first"].tolist()
        self._opened = self._blank()

    def _blank(self) -> Records:
        """Return an account that holds nothing but its cash."""
        blank = np.zeros((), ACCOUNT)
        for name in ("cash", "equity", "peak", "day_start"):
            blank[name] = self.cash
        for name in ("day", "risk_day", "reason", "refused"):
            blank[name] = -1
        blank["average_range"] = -1.0
        blank["blocked_by"] = code(VerdictReason.STOP_COOLDOWN)
        return blank

    def begin(self, index: int, drawn: Drawn, market: int | None = None) -> None:
        """Open an account for an episode, and let it see the first candle. market: instead of the drawn one."""
        costs, strategy = self.setup.costs, self.setup.strategy
        fee_rate, slippage_rate = costs.fee_rate * drawn.fee, costs.slippage_rate * drawn.slippage
        self.records[index] = self._opened
        record = self.records[index]
        traded = drawn.market if market is None else market
        first = self._firsts[traded]
        record["market"], record["at"], record["end"] = traded, first + drawn.start, first + drawn.end
        record["delay"], record["fee_rate"], record["slippage_rate"] = drawn.delay, fee_rate, slippage_rate
        record["decide_offset"] = strategy.decide_offset if drawn.offset is None else drawn.offset
        record["edge_cost"] = strategy.edge_multiple * (2.0 * (fee_rate + slippage_rate))
        kernel_calls.begin(self.tape, self.markets, self.records, index)

    def open_ms(self, index: int) -> int:
        """Return the open time of the candle an account sees."""
        return int(self.tape["open_ms"][self.records["at"][index]])

    def refuse(self, index: int, flags: int, action: NDArray[Any]) -> NoReturn:
        """Raise TrainingError saying why a step of an account did not count."""
        name = f"account {index}"
        if flags & kernel.OVER:
            raise TrainingError(f"{name}: no episode is under way: call reset before step")
        if flags & kernel.NOT_FINITE:
            raise TrainingError(f"{name}: action {action.tolist()} is not of finite numbers: the policy has diverged")
        equity = float(self.records["equity"][index])
        raise TrainingError(
            f"{name}: at an equity of {equity} a quantity has more than 15 digits in lots, too many to round exactly: "
            "give a coarser lot or less cash"
        )


FAILED = kernel.OVER | kernel.NOT_FINITE | kernel.INEXACT
"""Flags of a step that does not count."""
