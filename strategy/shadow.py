"""Two accounts of play money, side by side: what the old ensemble and the new one would earn after costs.

Both see the feature rows that the live trader has computed, trade the same instruments under the same limits, begin
flat with the same cash and fill as in simulation: what is decided on candle t fills at the open of t+1. What holds up
the live account alone (a pause, a silent feed, a closed market) does not hold up these, so that the difference
between them is that of the ensembles and of nothing else. Pure like the trader they are made of: the same calls in
the same order give the same state, bit for bit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from strategy.candle import Candle
from strategy.decision import Decision, decide
from strategy.errors import BadState
from strategy.features import FeatureRow
from strategy.portfolio import Portfolio
from strategy.session import Session
from strategy.trader import Outcome, Reference, Setup, Sight, Trader, Voters, Votes, ask

_LEAST = float(np.finfo(np.float64).tiny)
"""Equity that counts as none: the logarithm of nothing is no number."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contender:
    """An ensemble that trades play money. id: short id of its bundle.  reference: where its training rows lie."""

    id: str
    voters: Voters
    reference: Reference | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standing:
    """Where one side stands after a due decision.

    equity: quote.  drawdown: from its own peak, a share.  fault: why it had no votes on a candle since the last mark,
    "" when it had on all of them.  votes: (n_members, 3) by symbol, without those that nobody voted on.  decisions: by
    symbol, before the risk manager saw them.
    """

    equity: float
    drawdown: float
    fault: str
    votes: Mapping[str, Votes]
    decisions: Mapping[str, Decision]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, of each decision action, reason, exposure and target."""
        return {
            "equity": self.equity,
            "drawdown": self.drawdown,
            "fault": self.fault,
            "votes": {symbol: votes.tolist() for symbol, votes in self.votes.items()},
            "decisions": {symbol: _decision_json(decision) for symbol, decision in self.decisions.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marked:
    """Both sides after a due decision.

    difference: growth of the new account since the last mark, less that of the old one, each the logarithm of a ratio
    of equities; None at the first mark, before which neither had decided.
    """

    open_ms: int
    close_ms: int
    difference: float | None
    old: Standing
    new: Standing

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        times = {"open_ms": self.open_ms, "close_ms": self.close_ms}
        return {**times, "difference": self.difference, "old": self.old.to_json(), "new": self.new.to_json()}


def _decision_json(decision: Decision) -> dict[str, Any]:
    return {
        "action": decision.action.value,
        "reason": decision.reason.value,
        "exposure": decision.exposure,
        "target": decision.target,
    }


class _Handed:
    """A feature source that hands out the row it was given: no window is kept, no feature computed again."""

    def __init__(self) -> None:
        self.row: FeatureRow | None = None

    def update(self, candle: Candle) -> FeatureRow | None:  # noqa: ARG002 - the row of this very candle was given
        return self.row

    def push(self, candle: Candle) -> None:
        """Pass over a candle that nothing is decided on."""


class Account:
    """One side: a trader on a simulated exchange, and what it was worth at the last mark. Moved by its pair alone."""

    def __init__(self, setup: Setup, rows: Mapping[str, _Handed], cash: float, contender: Contender) -> None:
        self.contender = contender
        self.session = Session(Trader(setup, rows, cash, contender.reference))
        self._marked: float | None = None
        self._fault = ""

    @property
    def portfolio(self) -> Portfolio:
        """What it holds and is worth."""
        return self.session.trader.portfolio

    def begin(self, setup: Setup) -> None:
        """Continue under another setup. Raises InvalidInstrument when a symbol is missing there."""
        self.session.trader.begin(setup, self.contender.reference)
        self.session.exchange.begin(setup.instruments, setup.costs)

    def on_candles(self, candles: Sequence[Candle]) -> list[Outcome]:
        """Fill what was waiting and decide on the rows that were handed out."""
        _, outcomes = self.session.on_candles(candles, self.contender.voters)
        self._fault = self._fault or self.session.trader.fault
        return outcomes

    def on_warm(self, candles: Sequence[Candle]) -> None:
        """Fill what was waiting, and decide nothing."""
        self.session.settle(candles)
        self.session.trader.warm(candles)

    def growth(self) -> float | None:
        """Return the logarithm of equity now over equity at the last mark, None before the first one."""
        if self._marked is None:
            return None
        return _log(self.portfolio.equity) - _log(self._marked)

    def mark(self, outcomes: Sequence[Outcome]) -> Standing:
        """Return where it stands, and count growth and faults from here on."""
        portfolio, fault = self.portfolio, self._fault
        self._marked, self._fault = portfolio.equity, ""
        return Standing(
            equity=portfolio.equity,
            drawdown=portfolio.drawdown,
            fault=fault,
            votes={o.sight.candle.symbol: o.votes for o in outcomes if o.votes is not None},
            decisions={o.sight.candle.symbol: o.verdict.decision for o in outcomes},
        )

    def state(self) -> dict[str, Any]:
        """Return all that changes while it trades, as JSON types."""
        return {
            "id": self.contender.id,
            "trader": self.session.trader.state(),
            "exchange": self.session.exchange.state(),
            "marked": self._marked,
            "fault": self._fault,
        }

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Continue from a `state`. Raises BadState, KeyError or TypeError when it was stored by something else."""
        marked, fault = stored["marked"], stored["fault"]
        if stored["id"] != self.contender.id:
            raise BadState(f"stored account is that of ensemble {stored['id']!r}, not of {self.contender.id}")
        if not (isinstance(fault, str) and (marked is None or 0.0 <= marked < math.inf)):
            raise BadState(f"stored account: {marked!r} is no worth at the last mark, or {fault!r} no fault in words")
        self.session.trader.restore(stored["trader"])
        self.session.exchange.restore(stored["exchange"])
        self._marked, self._fault = marked, fault


class Pair:
    """The old ensemble and the new one, each with an account of its own, `old` and `new`."""

    def __init__(self, setup: Setup, cash: float, old: Contender, new: Contender) -> None:
        """Open both accounts.

        setup: of the live trader; all of its instruments are traded.  cash: quote, > 0, of each account.
        """
        self._setup, self._cash = setup, cash
        self._rows = {symbol: _Handed() for symbol in setup.instruments}
        self.old, self.new = self._open("old", old), self._open("new", new)
        self._marked_ms = 0

    def _open(self, side: str, contender: Contender) -> Account:
        return Account(_named(self._setup, side), self._rows, self._cash, contender)

    def begin(self, setup: Setup) -> None:
        """Continue under other parameters or steps. Raises InvalidInstrument when a symbol of the pair is missing."""
        self.old.begin(_named(setup, "old"))
        self.new.begin(_named(setup, "new"))
        self._setup = setup

    def on_candles(self, sights: Sequence[Sight]) -> Marked | None:
        """Fill what was waiting and let both decide on what the live trader saw; returns the figures when one was due.

        sights: of one open time, at least one, at most one per symbol. Where a row is missing an account is settled
        and marked to market, and what must be sold is sold. A decision is due on the candles of
        `StrategyParameters.is_due`, once per open time, when anybody could vote.
        """
        candles = [sight.candle for sight in sights]
        for sight in sights:
            self._rows[sight.candle.symbol].row = sight.row
        old, new = self.old.on_candles(candles), self.new.on_candles(candles)
        if not self._is_due(sights):
            return None
        self._marked_ms = candles[0].close_ms
        difference = self._difference()
        return Marked(
            open_ms=candles[0].open_ms,
            close_ms=candles[0].close_ms,
            difference=difference,
            old=self.old.mark(old),
            new=self.new.mark(new),
        )

    def _is_due(self, sights: Sequence[Sight]) -> bool:
        close_ms = sights[0].candle.close_ms
        # A candle that comes after the others of its time is decided on by itself, and is no further decision.
        is_later = close_ms > self._marked_ms
        is_due = self._setup.strategy.is_due(close_ms, self._setup.timeframe.span_ms)
        return is_later and is_due and any(sight.row is not None for sight in sights)

    def _difference(self) -> float | None:
        old, new = self.old.growth(), self.new.growth()
        return None if old is None or new is None else new - old

    def on_warm(self, candles: Sequence[Candle]) -> None:
        """Take candles of one open time that lie in the past: they fill what was waiting, nothing is decided."""
        self.old.on_warm(candles)
        self.new.on_warm(candles)

    def state(self) -> dict[str, Any]:
        """Return all that changes while they trade, as JSON types."""
        return {"old": self.old.state(), "new": self.new.state(), "marked_ms": self._marked_ms}

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Continue from a `state`. Raises BadState, and changes nothing, when it was stored by something else."""
        old, new = self._open("old", self.old.contender), self._open("new", self.new.contender)
        try:
            old.restore(stored["old"])
            new.restore(stored["new"])
            marked_ms = stored["marked_ms"]
        except (KeyError, TypeError) as error:
            raise BadState(f"stored accounts in shadow cannot be read: {error}") from error
        if isinstance(marked_ms, bool) or not isinstance(marked_ms, int):
            raise BadState(f"stored accounts in shadow: the last mark is at {marked_ms!r}, not at a time in ms")
        self.old, self.new, self._marked_ms = old, new, marked_ms


def on_same(setup: Setup, outcomes: Sequence[Outcome], voters: Voters) -> dict[str, tuple[Votes | None, Decision]]:
    """Return by symbol what `voters` vote on the live account's own observations, and would have decided there.

    outcomes: of the live trader, under `setup`.  The exposure is that which the live decision began from, so that the
    answer is the same whenever it is asked for; the risk manager is not. Votes are None where nobody was asked, or the
    ensemble failed.
    """
    sights = [outcome.sight for outcome in outcomes]
    found, _ = ask(voters, [sight.observation for sight in sights if sight.observation is not None])
    votes, rule = iter(found), setup.rule(tuple(voters.weights.tolist()))
    same = {}
    for outcome, sight in zip(outcomes, sights, strict=True):
        symbol, exposure = sight.candle.symbol, outcome.verdict.decision.exposure
        mine = None if sight.observation is None else next(votes)
        volatility = 0.0 if sight.row is None else sight.row.volatility
        is_due = setup.strategy.is_due(sight.candle.close_ms, setup.timeframe.span_ms)
        has_failed = mine is None and sight.observation is not None
        same[symbol] = mine, decide(rule, symbol, mine, exposure, volatility, is_due=is_due, has_failed=has_failed)
    return same


def _named(setup: Setup, side: str) -> Setup:
    """Return the setup under a name that no instance can have, so that no order id is like one of the live account."""
    return replace(setup, instance=f"{setup.instance}/{side}", first_sequence=0)


def _log(equity: float) -> float:
    return math.log(max(equity, _LEAST))
