"""How far the market has moved away from the candles that an ensemble was trained on. Values only; docs/drift.md.

A feature is told by its mean square score: the average, over the recent candles, of the squared distance from the
training mean in training standard deviations. Half of it is, up to a constant, the cross-entropy of the recent rows
under the training normal, feature by feature: how much they would surprise who knows only the training. It is the sum
of squared shift and variance, and only that sum may be compared with 1: a slow feature stays on one side for months,
so that its recent mean lies off and its recent variance is small, but over the training candles both together are 1
for a slow and for a quick feature alike (law of total variance). Divergences that look at the two apart, such as
Kullback-Leibler's, call every month of a slow feature a drift.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strategy.errors import BadState

FloatArray = NDArray[np.float64]

_STILL = 4.0
"""A feature that stands still at its training mean counts a quarter of one that is infinitely far out: a slow one that
happens to lie near its mean does just that, and must not hide what the others show."""
_FAR = 0.5
"""More than this no feature counts in the joint figure: one that is broken must not look like a broad change."""
_KNOWN_AFTER = 0.1
"""Of the half-life: before so many candles there is no joint figure."""
_BACK = 0.9
"""Of the limit: below it the market is back, so that a figure beside the limit does not cross it all the time."""


class Distribution(Protocol):
    """Where the training rows lie, such as `strategy.trader.Reference`."""

    @property
    def mean(self) -> NDArray[np.float32]:
        """(N,) of each feature."""
        ...

    @property
    def inverse_std(self) -> NDArray[np.float32]:
        """(N,) of each feature."""
        ...


class Drift:
    """Exponentially weighted averages over all symbols of an account, against the training of one ensemble.

    They begin as if every candle before had been a training one. Averages of the first candles alone would be of
    fewer, but a few days of one market never look like years of many: of 206 beginnings within the very training
    candles of BTC/USDT, 193 would have passed for a drift within six days.
    """

    def __init__(self, reference: Distribution, half_life: int) -> None:
        """half_life: candle times, at least 1, after which a candle counts half."""
        self._rate = 1.0 - 0.5 ** (1.0 / half_life)
        self._known_after = _KNOWN_AFTER * half_life
        self.begin(reference)

    def begin(self, reference: Distribution) -> None:
        """Forget everything and measure against another training from here on."""
        self._mean = np.asarray(reference.mean, np.float64)
        self._inverse_std = np.asarray(reference.inverse_std, np.float64)
        self._count = 0
        self._squares = np.ones(len(self._mean))

    def update(self, rows: Sequence[NDArray[np.float32]]) -> None:
        """Take the feature rows, (N,) each, of one open time in the fixed order of symbols; none changes nothing.

        However many there are, an open time counts once: as the mean over its symbols.
        """
        if not rows:
            return
        squares = np.zeros(len(self._mean))
        for row in rows:
            score = (row - self._mean) * self._inverse_std
            squares += score * score
        self._squares += self._rate * (squares / len(rows) - self._squares)
        self._count += 1

    @property
    def features(self) -> FloatArray:
        """(N,) how far each feature lies from its training: 0 as then, 1/2 at six times the mean square, 1 at most.

        One that stays closer to its training mean than it did in training comes to 1/4 at most.
        """
        shares: FloatArray = np.abs((self._squares - 1.0) / (self._squares + _STILL))
        return shares

    @property
    def joint(self) -> float | None:
        """The root mean square of `features`, each as 1/2 at most: 0 as in training; None while too little is known.

        One feature alone, however far out, makes no more than 1/2 / sqrt(N) of it: only a broad change moves it far.
        """
        if self._count < self._known_after:
            return None
        shares = np.minimum(self.features, _FAR)
        return math.sqrt(math.fsum((shares * shares).tolist()) / len(shares))

    def state(self) -> dict[str, Any]:
        """Return all that has changed since the beginning, as JSON types that keep every bit."""
        return {"count": self._count, "squares": self._squares.tolist()}

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Continue from a `state`, measured against the same training. Raises BadState for anything else."""
        try:
            count, squares = stored["count"], np.array(stored["squares"], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise BadState(f"stored drift cannot be read: {error}") from error
        if type(count) is not int or count < 0:
            raise BadState(f"stored drift: count is {count!r}, not a number of candles")
        if squares.shape != self._mean.shape or not (np.isfinite(squares).all() and (squares >= 0.0).all()):
            raise BadState(f"stored drift: squares are not {len(self._mean)} finite numbers from 0 on")
        self._count, self._squares = count, squares


def is_beyond(joint: float | None, limit: float, *, was: bool) -> bool:
    """Tell whether the market lies beyond `limit` (0: there is none), given whether it `was` before.

    It comes back only below nine tenths of the limit. What is not known yet is held against nobody.
    """
    if joint is None or limit <= 0.0:
        return False
    return joint >= _BACK * limit if was else joint > limit
