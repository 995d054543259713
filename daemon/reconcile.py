"""Compares the account at the venue with the books, and says what has changed without us.

It only reads, but for stray orders of ours that an operator asked to have cleared away with `--accept-recovery`. A
balance can be older than the trades the books already know, or newer: a difference counts once two readings some
seconds apart show the same, while nothing of ours moves. What it then means stands in `differences.py`.
"""

import contextlib
from collections.abc import Mapping, Sequence

from daemon.differences import Coin, differences, opening, tolerances
from daemon.errors import ConfigError, TransientError, UnknownOutcome
from daemon.live_settings import ExternalRule, LiveSettings
from daemon.ports import Books, Clock, External
from daemon.venue import Balance, Venue, VenueOrder, VenueRefused, VenueState
from daemon.wording import count, quantity
from strategy.instrument import Instrument
from strategy.order import OrderKind, OrderState

_READINGS = 5
"""Readings at a start until two agree: an account that somebody else trades all the time is looked at again later."""
_Amounts = tuple[tuple[str, float, float, float], ...]


class Reconciler:
    """Finds what changed at the venue without us. `foreign_orders`: open orders of somebody else at the last start.

    initial_cash: quote that becomes ours when the account is opened.  accept_recovery: the operator says that the
    books are older than the account (a restored backup): stray orders of ours are cancelled at the start, and what
    the account holds of our unknown trades is taken in, whatever the rule.
    """

    def __init__(
        self,
        *,
        venue: Venue,
        books: Books,
        settings: LiveSettings,
        clock: Clock,
        initial_cash: float,
        accept_recovery: bool = False,
    ) -> None:
        self._venue = venue
        self._books = books
        self._settings = settings
        self._clock = clock
        self._initial_cash = initial_cash
        self._accept_recovery = accept_recovery
        self._seen: _Amounts = ()
        self._seen_s = 0.0
        self.foreign_orders = 0

    async def first(self) -> list[External]:
        """Return what a start finds, once every order of the books is settled; opens a new account.

        Takes one reading when all is well; a difference takes a second one `quiet_s` later. Empty too when readings
        never agree, as somebody else trades the account all the time: `again` goes on.
        Raises ConfigError for orders with our prefix that the books do not know, and for too little cash to open
        with; TransientError when the venue has no usable answer, or the account never rests while we recover.
        """
        await self.clear_strays()
        if self._books.foreign(await self._quote()) is None:
            return await self._open()
        rule = ExternalRule.ADOPT if self._accept_recovery else self._settings.external
        for _ in range(_READINGS):
            found = await self._compare(rule)
            if found is not None:
                return found
            await self._clock.sleep_s(self._settings.quiet_s)
        if self._accept_recovery:
            raise TransientError(
                f"the balances of the account changed in each of {_READINGS} readings, so what became of the trades"
                " that the restored journal lacks cannot be told: stop whatever else trades this account, start again"
            )
        return []

    async def again(self) -> list[External]:
        """Return what changed since; empty when nothing did, when it is not certain yet, or when we trade.

        A difference is reported by the second call that sees it, at least `quiet_s` after the first.
        Raises as `first`.
        """
        return await self._compare(self._settings.external) or []

    # ---- comparing ----------------------------------------------------------------------------------------------
    async def _compare(self, rule: ExternalRule) -> list[External] | None:
        """Return what the books have to take in; None when that is not certain yet."""
        coins = await self._coins()
        if self._is_trading():
            self._seen = ()
            return None
        if all(coin.is_explained for coin in coins):
            self._seen = ()
            return []
        if not self._is_confirmed(_amounts(coins)):
            return None
        self._seen = ()
        if await self._has_stop_moved():
            return None
        self._refuse(await self._strays())
        if self._is_trading() or not self._is_unchanged(coins):
            return None
        return differences(coins, rule, self._settings.instance, self._clock.now_ms())

    def _is_confirmed(self, amounts: _Amounts) -> bool:
        """Tell whether an earlier reading showed the very same; remember this one if not."""
        now_s = self._clock.monotonic_s()
        if amounts == self._seen:
            return now_s - self._seen_s >= self._settings.quiet_s
        self._seen, self._seen_s = amounts, now_s
        return False

    def _is_trading(self) -> bool:
        return any(status.order.kind is not OrderKind.STOP for status in self._books.orders())

    def _is_unchanged(self, coins: Sequence[Coin]) -> bool:
        return all((coin.ours, self._foreign(coin.asset)) == (self._ours(coin.symbol), coin.foreign) for coin in coins)

    async def _has_stop_moved(self) -> bool:
        """Tell whether a protective stop did, or may have done, what the books do not know yet."""
        for status in self._books.orders():
            if status.order.kind is not OrderKind.STOP or status.state is OrderState.INTENDED:
                continue  # an intended one waits for us
            found = await self._venue.find(status.order.symbol, status.order.client_id)
            if found is None or found.state is not VenueState.OPEN or found.filled > status.filled:
                return True
        return False

    # ---- reading ------------------------------------------------------------------------------------------------
    async def _coins(self) -> list[Coin]:
        """Return every coin of the account as books and venue have it; the books' side of the moment of the answer."""
        instruments = await self._instruments()
        balances = await self._venue.balances()
        symbols = {next(iter(instruments.values())).quote: "", **{i.base: s for s, i in instruments.items()}}
        totals = {asset: _balance(balances, asset).total for asset in symbols}
        allowed = tolerances(instruments, totals)
        marks = {asset: self._books.mark(symbol) if symbol else 1.0 for asset, symbol in symbols.items()}
        coins = [self._coin(asset, symbol, totals, marks, allowed) for asset, symbol in symbols.items()]
        unpriced = [c.asset for c in coins if not c.is_explained and c.price <= 0.0]
        if not unpriced:
            return coins
        marks |= {asset: await self._price(symbols[asset]) for asset in unpriced}
        return [self._coin(asset, symbol, totals, marks, allowed) for asset, symbol in symbols.items()]

    def _coin(
        self,
        asset: str,
        symbol: str,
        totals: Mapping[str, float],
        prices: Mapping[str, float],
        allowed: Mapping[str, float],
    ) -> Coin:
        return Coin(
            asset=asset,
            symbol=symbol,
            ours=self._ours(symbol),
            foreign=self._foreign(asset),
            total=totals[asset],
            price=prices[asset],
            tolerance=allowed[asset],
        )

    def _ours(self, symbol: str) -> float:
        return self._books.held(symbol) if symbol else self._books.cash()

    def _foreign(self, asset: str) -> float:
        return self._books.foreign(asset) or 0.0

    async def _price(self, symbol: str) -> float:
        """Return a price for what the books never valued: the last trade, or what is offered; 0 when there is none."""
        quote = await self._venue.quote(symbol)
        return next((price for price in (quote.last, quote.bid, quote.ask) if price is not None and price > 0.0), 0.0)

    async def _instruments(self) -> dict[str, Instrument]:
        markets = await self._venue.markets()
        return {symbol: markets[symbol].instrument for symbol in self._settings.symbols}

    async def _quote(self) -> str:
        return next(iter((await self._instruments()).values())).quote

    # ---- opening ------------------------------------------------------------------------------------------------
    async def _open(self) -> list[External]:
        coins = await self._coins()
        quote = next(coin for coin in coins if not coin.symbol)
        free = _balance(await self._venue.balances(), quote.asset).free
        if free < self._initial_cash:
            raise ConfigError(
                f"daemon.initial_cash = {self._initial_cash:.12g} {quote.asset}, but {free:.12g} {quote.asset} lie free"
                f" in the account: write at most that, or bring {self._initial_cash - free:.12g} {quote.asset} there"
            )
        return opening(coins, self._settings.instance, self._clock.now_ms())

    # ---- orders nobody knows ------------------------------------------------------------------------------------
    async def clear_strays(self) -> None:
        """Refuse, or cancel if asked to, open orders that bear our prefix and are in no book of ours.

        They say that the books are old, or that somebody else uses our name, so a start asks before the books act.
        Raises ConfigError naming them, TransientError when the venue does not answer or does not end them.
        """
        strays = await self._strays()
        if not self._accept_recovery:
            self._refuse(strays)
        if not strays:
            return
        for stray in strays:
            with contextlib.suppress(VenueRefused, UnknownOutcome):  # whether it has ended is looked up below
                await self._venue.cancel(stray.symbol, stray.client_id, stray.venue_id)
        for _ in range(self._settings.lookups):
            await self._clock.sleep_s(self._settings.lookup_every_s)
            strays = await self._strays()
            if not strays:
                return
        raise TransientError(f"cancelled, but still open at the venue: {_named(strays)}; start again in a minute")

    def _refuse(self, strays: Sequence[VenueOrder]) -> None:
        if strays:
            raise ConfigError(_stray_words(strays, self._settings.instance))

    async def _strays(self) -> list[VenueOrder]:
        found = await self._venue.open_orders()
        self.foreign_orders = sum(not order.client_id for order in found)
        return [order for order in found if order.client_id and self._books.known(order.client_id) is None]

    def words(self) -> str:
        """Return what is left alone at the venue, in words, "" when there is nothing."""
        if not self.foreign_orders:
            return ""
        return f"{count(self.foreign_orders, 'open order')} of somebody else left alone"


def _balance(balances: Mapping[str, Balance], asset: str) -> Balance:
    return balances.get(asset, Balance(free=0.0, used=0.0))


def _amounts(coins: Sequence[Coin]) -> _Amounts:
    return tuple((coin.asset, coin.ours, coin.foreign, coin.total) for coin in coins)


def _named(orders: Sequence[VenueOrder]) -> str:
    return ", ".join(f"{o.client_id} ({o.side} {quantity(o.quantity)} {o.symbol})" for o in orders)


def _stray_words(strays: Sequence[VenueOrder], instance: str) -> str:
    return (
        f"{count(len(strays), 'open order')} with the prefix of instance {instance!r} that the journal does not know:"
        f" {_named(strays)}. Another sacd trades this account under that name: give this one another daemon.instance."
        " Or the journal is an old copy: start with --accept-recovery, which cancels them and takes in what the account"
        " holds"
    )
