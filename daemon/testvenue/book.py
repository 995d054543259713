"""The engine room of the test venue: accounts, orders, matching, balances. Neutral words; dialects translate.

Synchronous and deterministic: it acts when it is called, at the time that `now_ms` says, and tells its listeners what
happened in the order in which it happened. It knows no network, no file and no exchange by name.

For a dialect: `place`, `cancel`, `find`, `orders_of`, `executions_of` raise `Refusal`; `listen` hears every `Event`;
accounts and markets may be read freely. Whoever scripts the market calls `move`, `offer`, `transfer`.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from daemon.testvenue import settlement
from daemon.testvenue.accounts import Account, House
from daemon.testvenue.events import (
    BalancesChanged,
    BookChanged,
    CandleChanged,
    Change,
    Event,
    KeyRevoked,
    OrderChanged,
    Traded,
    Transferred,
)
from daemon.testvenue.filters import check
from daemon.testvenue.habits import Habits
from daemon.testvenue.market import Market, Status
from daemon.testvenue.matching import Level, Match, in_line, is_better, plan, reaches
from daemon.testvenue.orders import (
    ZERO,
    BookOrder,
    Execution,
    NewOrder,
    OrderType,
    Refusal,
    RefusalKind,
    State,
    TimeInForce,
)
from strategy.order import Side

OPPOSITE = {Side.BUY: Side.SELL, Side.SELL: Side.BUY}


class Book:
    """Everything that is true at the venue. lag_ms: lookups show an order or trade only this long after it happened."""

    def __init__(self, markets: Iterable[Market], *, now_ms: Callable[[], int], habits: Habits | None = None) -> None:
        self.habits = habits or Habits()
        self.markets = {market.symbol: market for market in markets}
        self.accounts: dict[str, Account] = {}
        self.house = House()
        self.orders: dict[int, BookOrder] = {}
        self.lag_ms = 0
        self.now_ms = now_ms
        self._order_ids = itertools.count(1)
        self._listeners: list[Callable[[Event], None]] = []
        self._depth = 0

    # ---- who listens, who trades ------------------------------------------------------------------------------------
    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event from now on; it must return at once and change nothing here."""
        self._listeners.append(listener)

    def open_account(self, account: Account, balances: dict[str, Decimal]) -> Account:
        """Add an account that holds `balances`. Raises ValueError for a key that is taken."""
        if account.key in self.accounts:
            raise ValueError(f"account {account.name!r}: its key already has an account")
        account.uid = account.uid or len(self.accounts) + 1
        account.name = account.name or f"account-{account.uid}"
        self.accounts[account.key] = account
        for asset, amount in balances.items():
            self._receive(account, asset, amount)
        self._tell_balances()
        return account

    def transfer(self, key: str, asset: str, delta: Decimal) -> None:
        """Deposit (delta > 0) or withdraw free coins. Raises Refusal (FUNDS)."""
        account = self.accounts[key]
        self._receive(account, asset, delta)
        self._tell(Transferred(account=key, asset=asset, delta=delta, at_ms=self.now_ms()))
        self._tell_balances()

    def revoke(self, key: str) -> None:
        """Let the account's key stop working."""
        self.accounts[key].rights.is_revoked = True
        self._tell(KeyRevoked(account=key))

    def market(self, symbol: str) -> Market:
        """Return a listed market. Raises Refusal (NO_SUCH_MARKET)."""
        market = self.markets.get(symbol)
        if market is None or market.status is Status.DELISTED:
            raise Refusal(RefusalKind.NO_SUCH_MARKET, f"no market {symbol}")
        return market

    # ---- orders -----------------------------------------------------------------------------------------------------
    def admit(self, key: str, new: NewOrder) -> list[Match]:
        """Return the trades that `new` would make now. Raises Refusal when it would not be taken; changes nothing."""
        account, market = self.accounts[key], self.market(new.symbol)
        if market.status is not Status.TRADING or not market.last:
            raise Refusal(RefusalKind.CLOSED, f"{market.symbol} is not trading")
        mine = [order for order in self._open(account.key) if order.symbol == market.symbol]
        if new.client_id and any(order.client_id == new.client_id for order in self._open(account.key)):
            raise Refusal(RefusalKind.DUPLICATE, f"an open order has the client id {new.client_id}")
        stops = sum(order.type.is_conditional for order in mine)
        check(new, market.rules, market.last, open_orders=len(mine), open_stops=stops)
        if new.type.is_conditional:
            self._check_trigger(market, new)
            return []
        if self._would_take(market, new):
            if self.habits.refuses_taking_posts:
                raise Refusal(RefusalKind.WOULD_TAKE, f"price {new.price} meets the other side")
            return []
        matches = self._plan(market, account.key, new)
        if new.type is OrderType.MARKET and not matches:
            raise Refusal(RefusalKind.NO_LIQUIDITY, f"nothing stands on the other side of {market.symbol}")
        return matches

    def place(self, key: str, new: NewOrder) -> BookOrder:
        """Take an order and let it trade; return it as it then is. Raises Refusal, and then nothing has changed."""
        matches = self.admit(key, new)
        account, market, now = self.accounts[key], self.market(new.symbol), self.now_ms()
        waits = new.type.is_conditional
        order = BookOrder(
            order_id=next(self._order_ids), account=key, client_id=new.client_id, symbol=new.symbol, side=new.side,
            type=new.type, time_in_force=new.time_in_force, quantity=new.quantity, price=new.price,
            stop_price=new.stop_price, quote_quantity=new.quote_quantity, created_ms=now, updated_ms=now,
            visible_ms=now + self.lag_ms, reserve_asset=market.quote if new.side is Side.BUY else market.base,
            is_api=new.is_api, is_working=not waits, working_ms=-1 if waits else now,
        )  # fmt: skip
        if self.habits.stops_bind or not waits:
            settlement.reserve(account, order, matches)
        if new.quote_quantity:
            order.quantity = sum((match.quantity for match in matches), ZERO)
        self.orders[order.order_id] = order
        self._tell_order(order, Change.ACCEPTED)
        if waits:
            market.waiting.append(order)
        elif self._would_take(market, order):
            order.detail = "Post only order"
            self._end(market, order, State.CANCELLED, Change.CANCELLED)
        else:
            self._execute(market, order, matches)
        self._trigger_all(market)
        self._tell_balances()
        return order

    def cancel(self, key: str, order: BookOrder, request_id: str = "") -> None:
        """End an open order. Raises Refusal (NO_SUCH_ORDER) when it is not open or not this account's."""
        if order.account != key or not order.is_open:
            raise Refusal(RefusalKind.NO_SUCH_ORDER, f"order {order.order_id} is not open")
        self._end(self.markets[order.symbol], order, State.CANCELLED, Change.CANCELLED, request_id)
        self._tell_balances()

    # ---- lookups ----------------------------------------------------------------------------------------------------
    def find(self, key: str, *, symbol: str, order_id: int | None = None, client_id: str = "") -> BookOrder | None:
        """Return the order with that id, or the latest with that client id; None when there is none (yet to be seen).

        A client id alone finds an open order before any that has ended.
        """
        found = [
            order
            for order in self.orders_of(key, symbol)
            if (order_id is None or order.order_id == order_id) and (not client_id or order.client_id == client_id)
        ]
        return max(found, key=lambda order: (order.is_open, order.order_id), default=None)

    def orders_of(self, key: str, symbol: str | None = None) -> list[BookOrder]:
        """Return an account's orders that lookups show by now, oldest first."""
        now = self.now_ms()
        return [
            order
            for order in self.orders.values()
            if order.account == key and symbol in {None, order.symbol} and order.visible_ms <= now
        ]

    def executions_of(self, key: str, symbol: str | None = None) -> list[Execution]:
        """Return an account's trades that lookups show by now, in the order in which they happened."""
        now = self.now_ms()
        found = [
            execution
            for order in self.orders.values()
            if order.account == key and symbol in {None, order.symbol}
            for execution in order.executions
            if execution.visible_ms <= now
        ]
        return sorted(found, key=lambda execution: (execution.at_ms, execution.trade_id))

    def total(self, asset: str) -> Decimal:
        """Return the sum of a coin over all accounts and the house: always 0."""
        held = (account.holdings[asset].total for account in self.accounts.values() if asset in account.holdings)
        return sum(held, self.house.holdings.get(asset, ZERO))

    # ---- the market moves -------------------------------------------------------------------------------------------
    def move(self, symbol: str, price: Decimal, quantity: Decimal | None = None) -> None:
        """Let somebody trade at `price`, then let the house offer anew around it and stops trigger.

        Resting orders that the price went through fill whole, those at it up to `quantity` (None: whole) in line.
        """
        market = self.markets[symbol]
        self.roll(symbol)
        side = Side.SELL if price < market.last or not market.last else Side.BUY
        left = quantity
        for maker in self._met(market, price):
            take = maker.remaining if maker.price != price or left is None else min(maker.remaining, left)
            if take > ZERO:
                left = left if left is None or maker.price != price else left - take
                self._fill(market, maker, Match(maker, maker.price, take), is_maker=True)
        amount = market.rules.lot if quantity is None else quantity
        if amount > ZERO:
            self._print(market, price, amount, side)
        market.last = price
        market.refill()
        self._tell_book(market)
        self._trigger_all(market)
        self._tell_balances()

    def meet(self, market: Market, order: BookOrder, quantity: Decimal) -> None:
        """Let somebody trade with a resting order at its own price, as far as `quantity` goes; the price stays."""
        take, last = min(quantity, order.remaining), market.last
        if order in market.resting and take > ZERO:
            self._fill(market, order, Match(order, order.price, take), is_maker=True)
            market.last = last
            self._tell_book(market)
            self._tell_balances()

    def offer(self, symbol: str, side: Side, levels: Sequence[tuple[Decimal, Decimal]]) -> None:
        """Let the house offer exactly these (price, quantity), best first, until the price moves."""
        market = self.markets[symbol]
        market.offer(side, levels)
        self._tell_book(market)

    def refill(self, symbol: str) -> None:
        """Let the house offer anew around the last price."""
        market = self.markets[symbol]
        market.refill()
        self._tell_book(market)

    def roll(self, symbol: str) -> None:
        """Close the candles that are over by now."""
        market = self.markets[symbol]
        closed = market.candles.roll(self.now_ms())
        for open_ms in closed:
            self._tell(CandleChanged(symbol=symbol, open_ms=open_ms, is_closed=True))
        if closed and market.candles.newest_ms is not None:
            self._tell(CandleChanged(symbol=symbol, open_ms=market.candles.newest_ms, is_closed=False))

    def end(self, order: BookOrder, state: State = State.EXPIRED) -> None:
        """Let the venue itself end an open order: a stop that it drops, a market that it delists."""
        if order.is_open:
            change = Change.CANCELLED if state is State.CANCELLED else Change.EXPIRED
            self._end(self.markets[order.symbol], order, state, change)
            self._tell_balances()

    # ---- inside -----------------------------------------------------------------------------------------------------
    def _plan(self, market: Market, key: str, wanted: NewOrder | BookOrder) -> list[Match]:
        is_new = isinstance(wanted, NewOrder)
        return plan(
            market.standing(OPPOSITE[wanted.side]), side=wanted.side, limit=wanted.price,
            quantity=wanted.quantity if isinstance(wanted, NewOrder) else wanted.remaining,
            budget=wanted.quote_quantity if is_new else ZERO, lot=market.rules.lot, own=key,
        )  # fmt: skip

    def _check_trigger(self, market: Market, new: NewOrder) -> None:
        falls = (new.side is Side.SELL) == (new.type in {OrderType.STOP, OrderType.STOP_LIMIT})
        is_passed = (market.last <= new.stop_price) if falls else (market.last >= new.stop_price)
        if is_passed and self.habits.refuses_passed_stops:
            raise Refusal(RefusalKind.WOULD_TRIGGER, f"stop price {new.stop_price} is passed, last is {market.last}")

    def _would_take(self, market: Market, order: NewOrder | BookOrder) -> bool:
        best = market.best(OPPOSITE[order.side])
        return order.type is OrderType.POST_ONLY and best is not None and reaches(order.side, order.price, best)

    def _execute(self, market: Market, order: BookOrder, matches: Sequence[Match]) -> None:
        """Let a working order make its trades; the rest rests or ends, as its kind says."""
        reached = sum((match.quantity for match in matches), ZERO)
        if order.time_in_force is TimeInForce.FOK and reached < order.remaining:
            matches = []
        for match in matches:
            if match.quantity:
                self._trade(market, order, match)
            elif isinstance(match.maker, BookOrder):
                self._end(market, match.maker, State.PREVENTED, Change.EXPIRED)
        if not order.is_open:
            return
        if order.type.has_limit and order.time_in_force is TimeInForce.GTC:
            market.resting.append(order)
            self._tell_book(market)
        else:
            self._end(market, order, State.EXPIRED, Change.EXPIRED)

    def _trade(self, market: Market, taker: BookOrder, match: Match) -> None:
        if isinstance(match.maker, Level):
            match.maker.quantity -= match.quantity
            trade_id = self._fill(market, taker, match, is_maker=False)
        else:
            trade_id = self._fill(market, match.maker, match, is_maker=True)
            self._fill(market, taker, match, is_maker=False, trade_id=trade_id)
        market.house = {side: [level for level in levels if level.quantity] for side, levels in market.house.items()}
        self._tell_book(market)

    def _fill(
        self, market: Market, order: BookOrder, match: Match, *, is_maker: bool, trade_id: int | None = None
    ) -> int:
        """Settle one side of a trade; the first side prints it, and its id names the other one too."""
        if trade_id is None:
            taker = OPPOSITE[order.side] if is_maker else order.side
            trade_id = self._print(market, match.price, match.quantity, taker)
        execution = settlement.settle(
            self.accounts[order.account], self.house, market, order, match, is_maker=is_maker, trade_id=trade_id,
            now_ms=self.now_ms(), lag_ms=self.lag_ms, coin_price=self._coin_price(order.account, market.quote),
        )  # fmt: skip
        self._tell_order(order, Change.TRADED, execution)
        if not order.is_open:
            self._leave(market, order)
        return trade_id

    def _print(self, market: Market, price: Decimal, quantity: Decimal, taker: Side) -> int:
        now = self.now_ms()
        self.roll(market.symbol)
        trade = Traded(
            symbol=market.symbol,
            trade_id=next(market.trade_ids),
            price=price,
            quantity=quantity,
            taker=taker,
            at_ms=now,
        )
        market.trades.append(trade)
        market.candles.add(price, quantity, now)
        market.last = price
        self._tell(trade)
        if market.candles.newest_ms is not None:
            self._tell(CandleChanged(symbol=market.symbol, open_ms=market.candles.newest_ms, is_closed=False))
        return trade.trade_id

    def _met(self, market: Market, price: Decimal) -> list[BookOrder]:
        """Return the resting orders that a trade at `price` meets: at it, or gone through."""
        met: list[BookOrder] = []
        for side in Side:
            line = in_line(side, (order for order in market.resting if order.side is side))
            met.extend(order for order in line if order.price == price or is_better(side, order.price, price))
        return met

    def _trigger_all(self, market: Market) -> None:
        while due := [order for order in market.waiting if market.is_triggered(order)]:
            for order in due:
                if order.is_open:
                    self._trigger(market, order)

    def _trigger(self, market: Market, order: BookOrder) -> None:
        market.waiting.remove(order)
        order.is_working, order.working_ms, order.updated_ms = True, self.now_ms(), self.now_ms()
        matches = self._plan(market, order.account, order)
        try:
            settlement.reserve_again(self.accounts[order.account], order, matches)
        except Refusal as refusal:
            order.detail = str(refusal)
            self._end(market, order, State.EXPIRED, Change.EXPIRED)
            return
        self._execute(market, order, matches)

    def _end(self, market: Market, order: BookOrder, state: State, change: Change, request_id: str = "") -> None:
        order.state, order.updated_ms = state, self.now_ms()
        stood = order in market.resting
        self._leave(market, order)
        self._tell_order(order, change, request_id=request_id)
        if stood:
            self._tell_book(market)

    def _leave(self, market: Market, order: BookOrder) -> None:
        settlement.release(self.accounts[order.account], order)
        for line in (market.resting, market.waiting):
            if order in line:
                line.remove(order)

    def _coin_price(self, key: str, quote: str) -> Decimal | None:
        coin = self.accounts[key].fee_coin
        if coin == quote:
            return Decimal(1)
        market = self.markets.get(f"{coin}/{quote}")
        return market.last if market is not None and market.last else None

    def _open(self, key: str) -> list[BookOrder]:
        # Only what rests or waits is open, so that a long history costs nothing.
        return [
            order
            for market in self.markets.values()
            for order in (*market.resting, *market.waiting)
            if order.account == key
        ]

    def _receive(self, account: Account, asset: str, amount: Decimal) -> None:
        account.add(asset, amount)
        self.house.add(asset, -amount)

    def _tell_order(
        self, order: BookOrder, change: Change, execution: Execution | None = None, request_id: str = ""
    ) -> None:
        copy = replace(order, executions=list(order.executions))
        now = self.now_ms()
        self._tell(OrderChanged(order=copy, change=change, at_ms=now, execution=execution, request_id=request_id))

    def _tell_book(self, market: Market) -> None:
        market.book_id += 1
        self._tell(BookChanged(symbol=market.symbol, at_ms=self.now_ms()))

    def _tell_balances(self) -> None:
        for account in self.accounts.values():
            if account.touched:
                coins = sorted(account.touched)
                account.touched.clear()
                held = {coin: (account.holding(coin).free, account.holding(coin).locked) for coin in coins}
                self._tell(BalancesChanged(account=account.key, balances=held, at_ms=self.now_ms()))

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
