"""Candles of any exchange by ccxt's REST calls: within its rate limit, patient with troubles, plain about refusals.

The only file of `training` that imports ccxt, and only when a fetch begins. Public data need no key: whatever secrets
the options hold are left out before ccxt sees them.
"""

import difflib
import json
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from strategy.candle import Timeframe
from training.errors import TrainingError
from training.fetch_pages import Row

_T = TypeVar("_T")
_ATTEMPTS = 8
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
_UNTOLD_S = 2.0  # a shorter pause is no news
_LONGEST_WAIT_S = 300.0  # what a venue may ask us to wait; beyond it a person decides
_PAGE = 500  # where ccxt does not know what the venue gives
_LARGEST_PAGE = 1_000
_ROW = 6  # open time and five values
_DAY = Timeframe.parse("1d")
_SECRETS = (
    "apiKey", "secret", "password", "uid", "login", "token", "privateKey", "walletAddress", "accountId", "twofa",
)  # fmt: skip
_DEFAULTS = {"defaultType": "spot", "fetchCurrencies": False, "fetchMargins": False}
_REFUSALS = {
    "401": "it asks for a key: its candles are not public, choose another exchange",
    "403": "it does not serve this address (blocked by country, or by a firewall on the way): use --proxy",
    "407": "the proxy wants a password: give --proxy http://USER:PASSWORD@HOST:PORT",
    "451": "it does not serve this country: choose another exchange, or use --proxy where that is lawful",
}


class CcxtVenue:
    """`training.fetch.Exchange` over one exchange of ccxt.

    exchange_id: ccxt's name.  options: for ccxt's constructor, as they are but for secrets.  url: takes the place of
    scheme and host in every REST address.  proxy: http:// or https:// address for all requests.
    say: told, in words, of every pause that a person would notice.  sleep, generator: how pauses are made, and their
    jitter.
    Raises TrainingError when the exchange is unknown, has no candles, or an option cannot work.
    """

    def __init__(
        self,
        exchange_id: str,
        *,
        options: Mapping[str, Any] | None = None,
        url: str | None = None,
        proxy: str | None = None,
        sandbox: bool = False,
        say: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
        generator: random.Random | None = None,
    ) -> None:
        import ccxt  # type: ignore[import-untyped]  # noqa: PLC0415  # a second and 80 MB, for who fetches alone

        self.name = f"{exchange_id} sandbox" if sandbox else exchange_id
        self.version = str(ccxt.__version__)
        self._ccxt = ccxt
        self._id = exchange_id
        self._say = say
        self._sleep = sleep
        self._generator = generator or random.Random()  # noqa: S311  # jitter of pauses
        self._exchange = self._build(options or {}, sandbox=sandbox)
        if url is not None:
            self._exchange.urls["api"] = _moved(self._exchange.urls["api"], _address("--url", url))
        if proxy is not None:
            address = urlunsplit(_address("--proxy", proxy))
            self._exchange.proxies = {"http": address, "https": address}
        if self._exchange.has.get("fetchOHLCV") is not True:
            raise TrainingError(f"{self._id} offers no candles: choose another exchange")

    def _build(self, options: Mapping[str, Any], *, sandbox: bool) -> Any:  # noqa: ANN401  # ccxt has no types
        if self._id not in self._ccxt.exchanges:
            near = _near(self._id, self._ccxt.exchanges)
            raise TrainingError(f"--exchange {self._id!r}: ccxt knows no such exchange{near}")
        if options.get("verbose"):
            raise TrainingError("--config: verbose = true would print every request; take it out")
        public = {name: value for name, value in options.items() if name not in _SECRETS}
        settings = {"enableRateLimit": True, **public, "options": {**_DEFAULTS, **public.get("options", {})}}
        try:
            exchange = getattr(self._ccxt, self._id)(settings)
            kinds = exchange.options.get("fetchMarkets")
            if isinstance(kinds, dict) and "spot" in (kinds.get("types") or ()):
                kinds["types"] = ["spot"]  # derivatives lie at other hosts, and are many
            has_sandbox = bool(exchange.urls["api"]) and bool(exchange.urls.get("test"))
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            raise TrainingError(f"--config: ccxt cannot use these options ({_brief(error)})") from None
        if sandbox and not has_sandbox:
            raise TrainingError(f"--sandbox: {self._id} has none that ccxt knows: leave it out")
        if sandbox:
            exchange.set_sandbox_mode(True)
        return exchange

    def check(self, symbols: Iterable[str], timeframe: Timeframe) -> None:
        """Load the venue's markets. Raises TrainingError when one of `symbols`, or the timeframe, is not among them."""
        offered = self._exchange.timeframes or {}
        if offered and timeframe.name not in offered:
            raise TrainingError(f"--timeframe {timeframe.name}: {self._id} offers {', '.join(offered)}")
        markets = self._patiently(self._exchange.load_markets, _are_markets)
        for symbol in symbols:
            if symbol not in markets:
                raise TrainingError(f"--symbol {symbol}: {self._id} has no such market{_near(symbol, markets)}")
            if markets[symbol].get("spot") is False:
                raise TrainingError(f"--symbol {symbol}: not a spot market of {self._id}")

    def page(self, symbol: str) -> int:
        """Return how many candles one question may ask for, as ccxt knows it."""
        limit = self._exchange.feature_value(symbol, "fetchOHLCV", "limit", _PAGE)
        return min(limit, _LARGEST_PAGE) if isinstance(limit, int) and limit > 0 else _PAGE

    def coarse(self, timeframe: Timeframe) -> Timeframe | None:
        """Return days where the venue has them and they are longer than `timeframe`."""
        return _DAY if _DAY.name in (self._exchange.timeframes or {}) and timeframe.span_ms < _DAY.span_ms else None

    def rows(self, symbol: str, timeframe: str, since_ms: int | None, limit: int) -> Sequence[Row]:
        """Return candles as the venue has them, the forming one included. Raises TrainingError."""
        rows: Sequence[Row] = self._patiently(
            lambda: self._exchange.fetch_ohlcv(symbol, timeframe, since_ms, limit),
            lambda answer: _are_rows(answer) and (len(answer) > 0 or self._was_json()),
        )
        return rows

    def _was_json(self) -> bool:
        """Tell whether the last answer was an object or a list: of a cut off text ccxt makes no rows and no error."""
        try:
            return isinstance(json.loads(self._exchange.last_http_response), list | dict)
        except (TypeError, ValueError):
            return False

    def now_ms(self) -> int | None:
        """Return the venue's clock, None when it does not tell. Raises TrainingError."""
        if self._exchange.has.get("fetchTime") is not True:
            return None
        return int(self._patiently(self._exchange.fetch_time, lambda now: isinstance(now, int | float) and now > 0))

    def close(self) -> None:
        """Close the connections; idempotent."""
        if self._exchange.session is not None:
            self._exchange.session.close()

    # ---- troubles -----------------------------------------------------------------------------------------------
    def _patiently(self, call: Callable[[], _T], is_whole: Callable[[Any], bool]) -> _T:
        """Return what `call` gives; troubles that may pass are waited out, with growing pauses."""
        trouble = ""
        for attempt in range(_ATTEMPTS):
            try:
                answer = call()
                if is_whole(answer):
                    return answer
                trouble, asked_s = "the answer is not what was asked for", 0.0
            except Exception as error:  # noqa: BLE001  # a broken body makes ccxt's parsers stumble in any way
                trouble, asked_s = self._explained(error), self._retry_after_s(error)
            if attempt < _ATTEMPTS - 1:
                ceiling_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
                pause_s = asked_s + self._generator.uniform(0.0, ceiling_s)
                if pause_s > _UNTOLD_S:
                    self._say(f"{trouble}; asking again in {pause_s:.0f} s")
                self._sleep(pause_s)
        raise TrainingError(
            f"{self._id} did not answer in {_ATTEMPTS} attempts: {trouble}. Check the network; the same command goes "
            "on from what was fetched"
        )

    def _explained(self, error: Exception) -> str:
        """Return what to say of a trouble that may pass. Raises TrainingError for one that will not."""
        ccxt, text = self._ccxt, _brief(error)
        status = re.search(r" https?://\S+ (\d{3}) ", str(error))
        if status and status[1] in _REFUSALS:
            raise TrainingError(f"{self._id} refuses (HTTP {status[1]}): {_REFUSALS[status[1]]}") from None
        if isinstance(error, ccxt.RestrictedLocation):
            raise TrainingError(f"{self._id} refuses: {_REFUSALS['451']} ({text})") from None
        if isinstance(error, ccxt.AuthenticationError):
            raise TrainingError(f"{self._id} refuses: {_REFUSALS['401']} ({text})") from None
        if isinstance(error, (ccxt.BadRequest, ccxt.NotSupported, ccxt.ArgumentsRequired, ccxt.InvalidProxySettings)):
            raise TrainingError(f"{self._id} refuses: {text}: change what is asked for (--from, --timeframe)") from None
        return text

    def _retry_after_s(self, error: Exception) -> float:
        """Return how long the venue asks us to wait. Raises TrainingError when that is too long to sit through."""
        if not isinstance(error, (self._ccxt.DDoSProtection, self._ccxt.RateLimitExceeded)):
            return 0.0
        headers = {str(name).lower(): value for name, value in (self._exchange.last_response_headers or {}).items()}
        value = str(headers.get("retry-after", ""))
        wait_s = float(value) if re.fullmatch(r"[0-9]{1,9}", value) else 0.0
        if wait_s > _LONGEST_WAIT_S:
            raise TrainingError(
                f"{self._id} is not to be asked for another {wait_s:,.0f} s: run the same command after that, it goes "
                "on from what was fetched"
            ) from None
        return wait_s


def _are_markets(answer: Any) -> bool:  # noqa: ANN401
    return isinstance(answer, Mapping) and len(answer) > 0


def _are_rows(answer: Any) -> bool:  # noqa: ANN401
    """Tell whether an answer is a list of rows that each begin with a time; ccxt makes other things of broken text."""
    return isinstance(answer, list) and all(
        isinstance(row, list) and len(row) >= _ROW and isinstance(row[0], int) and row[0] > 0 for row in answer
    )


def _address(option: str, url: str) -> Any:  # noqa: ANN401
    """Return the parts of an address. Raises TrainingError, without the address, which may hold a password."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
    if not is_good:
        raise TrainingError(f"{option}: not an address: give http://HOST:PORT or https://HOST")
    return parts


def _moved(addresses: Any, target: Any) -> Any:  # noqa: ANN401
    """Return ccxt's tree of addresses with scheme and host of `target`."""
    if isinstance(addresses, Mapping):
        return {name: _moved(address, target) for name, address in addresses.items()}
    if not isinstance(addresses, str):
        return addresses
    path = urlsplit(addresses).path
    return urlunsplit((target.scheme, target.netloc, target.path.rstrip("/") + path, "", ""))


def _brief(error: BaseException) -> str:
    """Return class and beginning of an error, on one line, without query strings and passwords."""
    text = re.sub(r"\?[^\s\"']*", "", str(error))
    text = re.sub(r"([a-z][a-z0-9+.-]{0,15}://)[^/\s\"']+(?=@)", r"\1***", text, flags=re.IGNORECASE)
    return " ".join(f"{type(error).__name__}: {text}".split())[:200]


def _near(word: str, known: Iterable[str]) -> str:
    by_upper = {name.upper(): name for name in known}
    near = difflib.get_close_matches(word.upper(), by_upper, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(by_upper[name] for name in near)}?" if near else ""
