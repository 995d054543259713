"""What a ccxt exchange says about its markets and what a user may override, turned into our values or clear errors.

Pure and without ccxt: dictionaries in, values out.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from daemon.errors import ConfigError
from strategy.errors import InvalidInstrument
from strategy.instrument import Instrument

DECIMAL_PLACES = 2
TICK_SIZE = 4
"""ccxt's numbers for its precision modes; the third, SIGNIFICANT_DIGITS, gives no fixed step."""

# Only what a spot account needs: the other hosts of binance are never called with these markets.
_BINANCE_PUBLIC = ("public", "ws.spot")
_BINANCE_ACCOUNT = ("private", "sapi", "fapiPublic", "dapiPublic", "ws.ws-api.spot")
_BINANCE_DEFAULTS: Mapping[str, Any] = {
    "defaultType": "spot",
    "fetchMarkets": {"types": ["spot"]},
    "fetchCurrencies": False,
    "fetchMargins": False,
}


def with_defaults(exchange_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return ccxt's constructor argument: spot only and within the rate limit, unless `options` says otherwise."""
    defaults = _BINANCE_DEFAULTS if _is_binance(exchange_id) else {"defaultType": "spot"}
    return {"enableRateLimit": True, **options, "options": {**defaults, **options.get("options", {})}}


def refuse_half_redirected(exchange_id: str, options: Mapping[str, Any]) -> None:
    """Raise ConfigError when some addresses point away from the exchange and others still point to it.

    ccxt merges `urls` key by key, so one that is left out goes to the real exchange, signed with the user's key.
    """
    api = options.get("urls", {}).get("api", {})
    given = dict(_flat(api)) if isinstance(api, Mapping) else {}
    if not given or not _is_binance(exchange_id):
        return
    needed = _BINANCE_PUBLIC + (_BINANCE_ACCOUNT if options.get("apiKey") else ())
    if left := [key for key in needed if key not in given]:
        raise ConfigError(
            f"[exchange] urls.api: {', '.join(sorted(given))} overridden, but {', '.join(left)} would still go to the "
            f"real {exchange_id}; override {'it' if len(left) == 1 else 'them'} too"
        )
    if "/stream" not in str(given["ws.spot"]):
        raise ConfigError(
            f"[exchange] urls.api.ws.spot {given['ws.spot']!r} does not contain /stream, from which ccxt tells spot "
            "from futures; let it end in /stream/ws"
        )


def enter_sandbox(exchange_id: str, exchange: Any) -> None:  # noqa: ANN401  # ccxt's own
    """Turn a ccxt exchange to the venue's own test market. Raises ConfigError where it has none."""
    if not (exchange.urls or {}).get("test"):
        raise ConfigError(
            f"[exchange] sandbox: ccxt knows no test venue of {exchange_id}; set sandbox = false, or choose an "
            "exchange that has one"
        )
    exchange.set_sandbox_mode(True)


def refuse_left_over(exchange_id: str, options: Mapping[str, Any], effective: Any) -> None:  # noqa: ANN401  # ccxt's own
    """Raise ConfigError as `refuse_half_redirected` does, for every exchange whose addresses are plain strings.

    effective: `urls["api"]` of the exchange as constructed.
    """
    api = options.get("urls", {}).get("api", {})
    if _is_binance(exchange_id) or not isinstance(api, Mapping) or not isinstance(effective, Mapping):
        return
    given = dict(_flat(api))
    if given and (left := [key for key, _ in _flat(effective) if key not in given]):
        raise ConfigError(
            f"[exchange] urls.api: {', '.join(sorted(given))} overridden, but {', '.join(left)} would still go to the "
            f"real {exchange_id}; override every one"
        )


def instrument_of(symbol: str, market: Mapping[str, Any], precision_mode: int) -> Instrument:
    """Return the steps of a ccxt market. Raises ConfigError when the venue does not state them as fixed steps."""
    precision = market.get("precision") or {}
    minimum = ((market.get("limits") or {}).get("cost") or {}).get("min")
    try:
        return Instrument(
            symbol=symbol,
            tick=_step(precision.get("price"), precision_mode),
            lot=_step(precision.get("amount"), precision_mode),
            min_notional=float(minimum or 0.0),
        )
    except (InvalidInstrument, TypeError, ValueError) as error:
        raise ConfigError(
            f"[market] symbols: {symbol} cannot be traded here: its steps are unusable: {error}"
        ) from None


def refuse_unsafe_options(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for ccxt options with which real orders could be doubled, or secrets written to a log."""
    if options.get("verbose"):
        raise ConfigError("[exchange] verbose = true would write keys and signatures to the log; take it out")
    if options.get("enableRateLimit", True) is not True:
        raise ConfigError(
            "[exchange] enableRateLimit = false would lift the limit that all requests share; take it out"
        )
    for path, value in _flat(options):
        name = path.rpartition(".")[2]
        if name == "maxRetriesOnFailure" and value != 0:
            raise ConfigError(
                f"[exchange] {path} = {value!r} would let ccxt send an order again whose answer was lost; take it out"
            )
        if name in {"sandbox", "sandboxMode", "testnet"} and value:
            raise ConfigError(f"[exchange] {path}: the test venue is chosen by [exchange] sandbox = true alone")


def refuse_sandbox_overrides(options: Mapping[str, Any]) -> None:
    """Raise ConfigError when addresses are given that ccxt would drop on its way into the sandbox."""
    urls = options.get("urls", {})
    if "api" in urls and "test" not in urls:
        raise ConfigError(
            "[exchange] urls.api is not used with sandbox = true, where ccxt takes urls.test: give the addresses "
            "there, or set sandbox = false"
        )


def spot_market(
    exchange_id: str, symbol: str, markets: Mapping[str, Any], *, may_be_halted: bool = False
) -> Mapping[str, Any]:
    """Return the ccxt market called `symbol`. may_be_halted: also when no orders are taken there now.

    Raises ConfigError when it is unknown, not spot, or not traded now.
    """
    market = markets.get(symbol)
    if market is None:
        near = near_matches(symbol, markets)
        raise ConfigError(f"[market] symbols: {exchange_id} has no {symbol!r}{near}")
    if market.get("spot") is False:
        raise ConfigError(f"[market] symbols: {symbol} of {exchange_id} is not a spot market")
    if market.get("active") is False and not may_be_halted:
        raise ConfigError(f"[market] symbols: {exchange_id} does not trade {symbol} at present; take it out")
    found: Mapping[str, Any] = market
    return found


def near_matches(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean A, B?` for the names nearest to `word`, or nothing."""
    by_upper = {name.upper(): name for name in known}
    near = difflib.get_close_matches(word.upper(), by_upper, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(by_upper[name] for name in near)}?" if near else ""


def _is_binance(exchange_id: str) -> bool:
    return exchange_id in {"binance", "binanceus"}


def _step(precision: Any, mode: int) -> float:  # noqa: ANN401  # a number or None, from ccxt
    if mode == TICK_SIZE:
        return float(precision)
    if mode == DECIMAL_PLACES:
        return float(f"1e-{int(precision)}")
    raise ValueError("the venue counts significant digits, so a step depends on the price")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
