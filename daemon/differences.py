"""What a difference between the books and the venue means: amounts per coin in, `External`s out. Pure.

Afterwards ours + foreign is the venue's total of every coin, and neither is below 0: what belongs to us never exceeds
what the venue has, and a loss takes the part that the rule names first, then the other. Looking again at the same
venue finds nothing.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from daemon import wording
from daemon.live_settings import ExternalRule
from daemon.ports import External
from strategy.instrument import Instrument

_ROUNDING = 1e-6
"""What the venue's rounding of values and fees may add up to, as a share of the quote: a cent in ten thousand."""
_FLOAT_NOISE = 1e-12
"""What float64 sums leave behind, as a share of the amount."""
_SAME_TRADE = 0.05
"""What one coin lost and another gained is one trade when their values differ by no more than this share: the mark
is the last close, and a fee is paid."""
OPENING = "found at the opening"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coin:
    """One coin by the books and at the venue, at one moment. All amounts in that coin.

    symbol: the traded symbol whose base it is, "" for the quote.  total: at the venue, free and bound.  price: quote
    per coin, 1.0 for the quote, 0 when there is none.  tolerance: no more than this is no difference (`tolerances`).
    """

    asset: str
    symbol: str
    ours: float
    foreign: float
    total: float
    price: float
    tolerance: float

    @property
    def change(self) -> float:
        """What came (or went, < 0) without us."""
        return self.total - (self.ours + self.foreign)

    @property
    def is_explained(self) -> bool:
        """True when the books say what the venue says, and nobody is owed anything."""
        return abs(self.change) <= self.tolerance and min(self.ours, self.foreign) >= -self.tolerance


def tolerances(instruments: Mapping[str, Instrument], totals: Mapping[str, float]) -> dict[str, float]:
    """Return per coin how far books and venue may be apart.

    A base: half a lot, below which nothing can be traded.  The quote: one tick of one lot, the smallest value that a
    trade can differ by, or a millionth of it, since the venue rounds the value and the fee of each trade its own way.
    """
    quote = next(iter(instruments.values())).quote
    step = min(instrument.tick * instrument.lot for instrument in instruments.values())
    allowed = {quote: max(step, _ROUNDING * totals.get(quote, 0.0))}
    for instrument in instruments.values():
        allowed[instrument.base] = max(0.5 * instrument.lot, _FLOAT_NOISE * totals.get(instrument.base, 0.0))
    return allowed


def opening(coins: Iterable[Coin], instance: str, at_ms: int) -> list[External]:
    """Return what an account is opened with at the venue: all that is not ours belongs to somebody else."""
    return [
        External(
            external_id=_external_id(instance, coin),
            asset=coin.asset,
            symbol=coin.symbol,
            ours=0.0,
            foreign=coin.total - coin.ours,
            price=coin.price,
            halts=False,
            at_ms=at_ms,
            detail=OPENING,
        )
        for coin in coins
    ]


def differences(coins: Sequence[Coin], rule: ExternalRule, instance: str, at_ms: int) -> list[External]:
    """Return what the books have to take in so that they say what the venue says; empty when they do already.

    coins: all of the account.  What comes stands before what goes, so that equity never dips below what it ends at.
    The same books and the same venue always give the same ids.
    """
    changed = [coin for coin in coins if not coin.is_explained]
    trade = _trade_words(changed)
    told = [_external(coin, rule, trade, instance, at_ms) for coin in changed]
    return sorted(told, key=lambda external: -external.ours * external.price)


def _external(coin: Coin, rule: ExternalRule, trade: str, instance: str, at_ms: int) -> External:
    # What nobody can value cannot become part of what we trade with.
    ours, foreign = _shared_out(coin, rule if coin.price > 0.0 else ExternalRule.IGNORE)
    return External(
        external_id=_external_id(instance, coin),
        asset=coin.asset,
        symbol=coin.symbol,
        ours=ours - coin.ours,
        foreign=foreign - coin.foreign,
        price=coin.price,
        halts=rule is ExternalRule.HALT and _halts(coin, ours, trade),
        at_ms=at_ms,
        detail=f"{_change_words(coin)}{trade or _move_words(coin)}{_effect_words(coin, ours)}",
    )


def _shared_out(coin: Coin, rule: ExternalRule) -> tuple[float, float]:
    """Return what is ours and what is foreign of the venue's total, both >= 0."""
    if rule is ExternalRule.ADOPT:
        foreign = min(max(coin.foreign, 0.0), coin.total)
        return coin.total - foreign, foreign
    ours = min(max(coin.ours, 0.0), coin.total)
    return ours, coin.total - ours


def _halts(coin: Coin, ours: float, trade: str) -> bool:
    # The quote would halt every symbol: not when it only paid for a trade, whose symbol halts, and our cash is whole.
    return bool(coin.symbol) or not trade or ours < coin.ours - coin.tolerance


def _external_id(instance: str, coin: Coin) -> str:
    text = json.dumps([instance, coin.asset, coin.ours, coin.foreign, coin.total])
    return f"x-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


# ---- words ------------------------------------------------------------------------------------------------------
def _trade_words(changed: Sequence[Coin]) -> str:
    """Return the trades by hand that would explain all changes together, "" when none would."""
    bases = [coin for coin in changed if coin.symbol]
    paid = -sum(coin.change for coin in changed if not coin.symbol)
    worth = sum(coin.change * coin.price for coin in bases)
    size = sum(abs(coin.change) * coin.price for coin in bases)
    if not bases or paid == 0.0 or abs(paid - worth) > _SAME_TRADE * size:
        return ""
    what = [f"{'bought' if c.change > 0.0 else 'sold'} {_amount(c.change)} {c.asset}" for c in bases]
    price = f" at about {wording.price(paid / bases[0].change)}" if len(bases) == 1 else ""
    return f": looks like somebody {' and '.join(what)}{price}"


def _move_words(coin: Coin) -> str:
    if abs(coin.change) <= coin.tolerance:
        return ""
    return f": {'came from elsewhere' if coin.change > 0.0 else 'withdrawn, spent or sold elsewhere'}"


def _change_words(coin: Coin) -> str:
    if abs(coin.change) <= coin.tolerance:
        return f"the books hold less than nothing of {coin.asset}"
    return f"{_amount(coin.change)} {coin.asset} {'more' if coin.change > 0.0 else 'less'} than the books say"


def _effect_words(coin: Coin, ours: float) -> str:
    moved = ours - coin.ours
    if abs(moved) <= coin.tolerance:
        return "; ours is unchanged"
    return f"; ours {'rises' if moved > 0.0 else 'falls'} by {_amount(moved)} to {_amount(ours)} {coin.asset}"


def _amount(value: float) -> str:
    return wording.quantity(abs(value))
