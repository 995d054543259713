"""What the exchange has to say before real orders: asked by `sacd check` and by the start itself, one verdict each.

Only reads: nothing here creates, cancels or arms anything at the exchange.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from daemon import journal_reader
from daemon.check_result import CheckResult, bad, good, warns
from daemon.config import Config
from daemon.errors import SacdError
from daemon.journal_reader import has_entries
from daemon.paths import journal_path
from daemon.redact import Redactor
from daemon.venue import Abilities, Market, Permissions, Quote, Unauthorised, Venue
from strategy.errors import StrategyError

_SKEW_WARNS_MS, _SKEW_FAILS_MS = 1_000.0, 5_000.0
_FEES_DIFFER = 0.01
_ROOM = 1.5
"""A position that can be worth no more than this many smallest orders may fall below what can be sold."""
_ORDER_KINDS = frozenset({"decision", "exit", "command", "risk", "intent"})
_NOT_ARMED, _CONFIGURATION = 3, 78


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What the looks at the exchange share. is_new: the account begins with this start."""

    config: Config
    venue: Venue
    is_new: bool


async def venue_checks(config: Config, venue: Venue, *, is_new: bool | None = None) -> list[CheckResult]:
    """Look at the exchange with the key that is to trade; opens `venue`, which the caller closes.

    config: with credentials, which no verdict shows.  is_new: whether the account begins now, as the journal says when
    it is None. What is wrong with a market stops a new account; one that may hold something there is only warned, as
    it has to be looked after.
    """
    redact = Redactor(config.secrets()).text
    results = await _results(config, venue, not has_entries(journal_path(config)) if is_new is None else is_new)
    return [replace(result, detail=redact(result.detail)) for result in results]


async def _results(config: Config, venue: Venue, is_new: bool) -> list[CheckResult]:
    opened = await _opened(config, venue)
    if not opened.is_good:
        return [opened]
    look = _Look(config=config, venue=venue, is_new=is_new)
    looks: list[tuple[str, Callable[[_Look], Awaitable[Sequence[CheckResult]]]]] = [
        ("key", _key),
        ("permissions", _permissions),
        ("clock", _clock),
        ("markets", _markets),
        ("open orders", _open_orders),
    ]
    results = [opened, *_abilities(venue.abilities)]
    for name, ask in looks:
        try:
            results += await ask(look)
        except Unauthorised as error:
            results.append(bad("key", _unauthorised(config, error), _CONFIGURATION))
            break  # whatever else needs the key would say the same
        except (SacdError, StrategyError) as error:
            results.append(CheckResult.of_error(name, error))
    return results


async def _opened(config: Config, venue: Venue) -> CheckResult:
    try:
        await venue.open()
    except Unauthorised as error:
        return bad("key", _unauthorised(config, error), _CONFIGURATION)
    except SacdError as error:
        return CheckResult.of_error("exchange", error)
    return good("exchange", f"{config.exchange.id} answers")


def _unauthorised(config: Config, error: Unauthorised) -> str:
    return f"{config.exchange.id} refuses the key: {error}; correct {config.credential_file}, or make a new key"


async def _key(look: _Look) -> list[CheckResult]:
    """Tell whether the key opens the account, and whether a new account finds the money it is to begin with."""
    config, balances = look.config, await look.venue.balances()
    quote = config.market.symbols[0].partition("/")[2]
    free = balances[quote].free if quote in balances else 0.0
    results = [good("key", f"opens the account at {config.exchange.id}")]
    wanted = config.daemon.initial_cash
    if look.is_new and free < wanted:
        wrong = f"{free:.2f} {quote} free, and [daemon] initial_cash = {wanted:.2f}"
        return [*results, bad("balance", f"{wrong}: lower it to what sacd may use, or deposit", _CONFIGURATION)]
    begins = f", of which {wanted:.2f} become sacd's" if look.is_new else ""
    return [*results, good("balance", f"{free:.2f} {quote} free{begins}")]


async def _permissions(look: _Look) -> list[CheckResult]:
    found = await look.venue.permissions()
    return [_withdrawal(found), _trading(found), _addresses(found)]


def _withdrawal(found: Permissions) -> CheckResult:
    if found.may_withdraw:
        right = (
            "make one without that permission: sacd never needs it, and whoever steals this key could empty the account"
        )
        return bad("withdrawal", f"the key may withdraw; {right}", _NOT_ARMED)
    if found.may_withdraw is None:
        return warns("withdrawal", "the exchange does not tell whether the key may withdraw: see to it that it may not")
    return good("withdrawal", "the key may not withdraw")


def _trading(found: Permissions) -> CheckResult:
    if found.may_trade is None:
        return warns("trading", "the exchange does not tell whether the key may trade")
    if not found.may_trade:
        return bad("trading", "the key may only read; allow it to trade on the spot market", _NOT_ARMED)
    return good("trading", "the key may trade")


def _addresses(found: Permissions) -> CheckResult:
    if found.is_bound_to_ip:
        return good("key addresses", "the key works from chosen addresses only")
    doubt = "works from any address" if found.is_bound_to_ip is False else "may work from any address"
    return warns("key addresses", f"the key {doubt}: bind it to that of this machine at the exchange")


async def _clock(look: _Look) -> list[CheckResult]:
    offset_ms = await look.venue.clock_offset_ms()
    if offset_ms is None:
        return [warns("clock", "the exchange does not tell its time")]
    detail = f"{look.config.exchange.id} is {abs(offset_ms):.0f} ms {'ahead of' if offset_ms > 0 else 'behind'} us"
    right = "set this machine's clock, and keep it synchronised"
    if abs(offset_ms) > _SKEW_FAILS_MS:
        return [bad("clock", f"{detail}, and more than {_SKEW_FAILS_MS:.0f} ms is refused: {right}")]
    if abs(offset_ms) > _SKEW_WARNS_MS:
        return [warns("clock", f"{detail}: {right}")]
    return [good("clock", detail)]


def _abilities(can: Abilities) -> list[CheckResult]:
    if not can.has_stop:
        stops = warns("stop orders", "none here: positions are protected only while sacd runs and is connected")
    elif not can.has_market_stop:
        stops = warns("stop orders", "only with a limit price: a fall faster than that leaves the position open")
    else:
        stops = good("stop orders", "protect positions at the exchange, also while sacd is down")
    stream = good("user stream", "tells fills at once")
    if not can.has_user_stream:
        stream = warns("user stream", "none here: fills are found by asking, some seconds later")
    detail = "armed while a purchase rests" if can.has_dead_man else "none here: sacd cancels what rests by itself"
    return [stops, stream, good("dead-man switch", detail)]


async def _markets(look: _Look) -> list[CheckResult]:
    markets = await look.venue.markets(refresh=True)  # which also asks for the account's fees
    results = []
    for symbol in look.config.market.symbols:
        market = markets.get(symbol)
        if market is None:
            wrong = f"{look.config.exchange.id} has no such market: correct [market] symbols"
            results.append(bad(f"market {symbol}", wrong, _CONFIGURATION))
            continue
        found = _market(look.config, symbol, market, await look.venue.quote(symbol))
        results.append(
            found if look.is_new or found.is_good else warns(found.name, f"{found.detail}; nothing is bought")
        )
    return [*results, _fees(look.config, markets)]


def _market(config: Config, symbol: str, market: Market, quote: Quote) -> CheckResult:
    name = f"market {symbol}"
    if not market.is_active:
        wrong = f"{config.exchange.id} does not trade it at present: take it out of [market] symbols"
        return bad(name, wrong, _CONFIGURATION)
    price = quote.last or quote.ask or quote.bid
    if price is None:
        return warns(name, "has no price now, so that the smallest order cannot be told")
    least = _least_value(market, price)
    for limit, value in _limits(config, market, price):
        if least > value:
            wrong = f"the smallest order is {least:.2f} {market.instrument.quote}, and {limit} is {value:.2f}"
            return bad(name, f"{wrong}: raise it, or take the symbol out", _CONFIGURATION)
    detail = f"tick {market.instrument.tick:g}, lot {market.instrument.lot:g}, smallest order {least:.2f}"
    if worries := "; ".join(_worries(config, market, price, least)):
        return warns(name, f"{detail}; {worries}")
    return good(name, detail)


def _least_value(market: Market, price: float) -> float:
    """Return the value of the smallest order that is allowed at `price`, in quote."""
    instrument = market.instrument
    return instrument.ceil_quantity(max(instrument.lot, instrument.min_notional / price)) * price


def _limits(config: Config, market: Market, price: float) -> Iterator[tuple[str, float]]:
    yield "[live] max_order_value", config.live.max_order_value
    yield "[live] max_position_value", config.live.max_position_value
    yield _SHARE, _share(config)
    if market.max_quantity is not None:
        yield "the exchange's largest order", market.max_quantity * price


_SHARE = "what [daemon] initial_cash and [risk] max_position leave for one symbol"


def _share(config: Config) -> float:
    return config.daemon.initial_cash / len(config.market.symbols) * config.risk.max_position  # type: ignore[no-any-return]  # of the record the section was made from


def _worries(config: Config, market: Market, price: float, least: float) -> Iterator[str]:
    if min(config.live.max_position_value, _share(config)) < _ROOM * least:
        yield "a position can be hardly larger, and one that falls below it can be neither sold nor protected"
    if market.max_quantity is not None and config.live.max_order_value > market.max_quantity * price:
        yield f"[live] max_order_value is above the exchange's {market.max_quantity * price:.2f}"
    collar, low, high = config.live.collar, market.lowest_price, market.highest_price
    if (high is not None and 1.0 + collar > high) or (low is not None and 1.0 - collar < low):
        yield f"[live] collar = {collar} reaches beyond the exchange's price band {low} .. {high}, which refuses orders"


def _fees(config: Config, markets: Mapping[str, Market]) -> CheckResult:
    rates = [
        market.taker for symbol in config.market.symbols if (market := markets.get(symbol)) and market.taker is not None
    ]
    if not rates:
        return warns("fees", "the exchange does not tell them: compare [execution] fee_rate with your fee tier")
    highest, written = max(rates), config.execution.fee_rate
    if abs(highest - written) > _FEES_DIFFER * max(highest, written):
        right = f"write {highest:g}, or decisions weigh their costs wrongly"
        return warns("fees", f"this account pays {highest:g}, and [execution] fee_rate = {written:g}: {right}")
    return good("fees", f"{highest:g} of the traded value")


async def _open_orders(look: _Look) -> list[CheckResult]:
    """Tell whether our journal knows every order there that bears our name."""
    resting = await look.venue.open_orders()
    own = {order.client_id: order for order in resting if order.client_id}
    strange = sorted(own.keys() - _known(journal_path(look.config), own.keys()))
    if strange:
        order = own[strange[0]]
        wrong = (
            f'{len(strange)} of instance "{look.config.daemon.instance}" rest there and are not in its journal, such '
            f"as {order.client_id} in {order.symbol}: another sacd trades this account under the same name, or the "
            "journal was replaced"
        )
        right = "stop the other one or choose another [daemon] instance; cancel the orders at the exchange"
        return [bad("open orders", f"{wrong}; {right}", _CONFIGURATION)]
    return [good("open orders", f"{len(own)} ours, all journalled; {len(resting) - len(own)} of others, left alone")]


def _known(path: Path, ids: Collection[str]) -> set[str]:
    """Return those of `ids` that stand in the journal at `path`."""
    missing = set(ids)
    if not missing or not path.exists():
        return set()
    for entry in journal_reader.read(path, kinds=_ORDER_KINDS):
        text = str(entry.payload)
        missing -= {client_id for client_id in missing if f"'{client_id}'" in text}
        if not missing:
            break
    return set(ids) - missing
