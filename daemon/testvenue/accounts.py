"""Accounts of the test venue: what they hold, what they pay, what their key may do; and the house that is the rest.

Every coin that an account gains or loses comes from or goes to another account or the house, so that the sum over
all of them never changes.
"""

from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

from daemon.testvenue.orders import ZERO, Refusal, RefusalKind
from strategy.order import Side

_SATOSHI = Decimal("0.00000001")


class FeeMode(StrEnum):
    """In which coin an account pays its fees."""

    RECEIVED = "received"
    """Out of what the trade brings: base for a purchase, quote for a sale."""
    QUOTE = "quote"
    COIN = "coin"
    """In `fee_coin` with a discount, while there is enough of it; else as RECEIVED."""


@dataclass(slots=True)
class Holding:
    """What an account has of one coin."""

    free: Decimal = ZERO
    locked: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        """Free and locked together."""
        return self.free + self.locked


@dataclass(slots=True, kw_only=True)
class KeyRights:
    """What an API key may do."""

    may_read: bool = True
    may_trade: bool = True
    may_withdraw: bool = False
    is_bound_to_ip: bool = True
    is_revoked: bool = False


@dataclass(slots=True, kw_only=True)
class Account:
    """One account, reached by one API key. maker, taker: fee rates as shares."""

    key: str
    secret: str
    name: str = ""
    """What audit and control call it; never the key."""
    maker: Decimal = Decimal("0.001")
    taker: Decimal = Decimal("0.001")
    fee_mode: FeeMode = FeeMode.RECEIVED
    fee_coin: str = "BNB"
    fee_discount: Decimal = Decimal("0.25")
    uid: int = 0
    rights: KeyRights = field(default_factory=KeyRights)
    holdings: dict[str, Holding] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    """Coins whose holding changed since the book last told."""

    def holding(self, asset: str) -> Holding:
        """Return what it has of `asset`, to read; change it through `add`, `lock` and `unlock`."""
        return self.holdings.setdefault(asset, Holding())

    def add(self, asset: str, amount: Decimal) -> None:
        """Change the free amount. Raises Refusal (FUNDS) when that would leave less than nothing."""
        holding = self.holding(asset)
        if holding.free + amount < ZERO:
            raise Refusal(RefusalKind.FUNDS, f"{holding.free} {asset} free, {-amount} needed")
        holding.free += amount
        self.touched.add(asset)

    def lock(self, asset: str, amount: Decimal) -> None:
        """Bind a free amount to an order. Raises Refusal (FUNDS)."""
        self.add(asset, -amount)
        self.holding(asset).locked += amount

    def unlock(self, asset: str, amount: Decimal) -> None:
        """Free a bound amount. Raises ValueError for more than is bound: the book has miscounted."""
        holding = self.holding(asset)
        if holding.locked < amount:
            raise ValueError(f"{holding.locked} {asset} bound, {amount} to be freed")
        holding.locked -= amount
        self.add(asset, amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fee:
    """A fee: so much of which coin."""

    amount: Decimal
    asset: str


def fee_of(
    account: Account, *, side: Side, base: str, quote: str, quantity: Decimal, price: Decimal, is_maker: bool,
    coin_price: Decimal | None,
) -> Fee:  # fmt: skip
    """Return what a trade costs, to eight places, rounded down.

    coin_price: quote per fee coin, None when there is no price for it.
    """
    rate = account.maker if is_maker else account.taker
    value = quantity * price
    if account.fee_mode is FeeMode.COIN and coin_price:
        amount = _floor(value * rate * (1 - account.fee_discount) / coin_price)
        if account.holding(account.fee_coin).free >= amount:
            return Fee(amount=amount, asset=account.fee_coin)
    if account.fee_mode is not FeeMode.QUOTE and side is Side.BUY:
        return Fee(amount=_floor(quantity * rate), asset=base)
    return Fee(amount=_floor(value * rate), asset=quote)


def _floor(amount: Decimal) -> Decimal:
    return amount.quantize(_SATOSHI, rounding=ROUND_DOWN)


class House:
    """Everybody else: takes the other side of trades, all fees, and what is deposited and withdrawn. May owe."""

    def __init__(self) -> None:
        self.holdings: dict[str, Decimal] = {}

    def add(self, asset: str, amount: Decimal) -> None:
        """Change what the house has (less than nothing when it owes)."""
        self.holdings[asset] = self.holdings.get(asset, ZERO) + amount
