"""What an answer of a venue proves: told from what was seen on the wire, from the venue's codes, and last from ccxt.

Pure, and without ccxt: its classes are told by name, since a class is looked up by host in places and a testnet gets
another one. Whatever is not proven to be a refusal, or never to have left, is unknown.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from daemon.errors import SacdError, TransientError, UnknownOutcome
from daemon.venue import NotSent, RefusalKind, Unauthorised, VenueRefused

_TOO_MANY = 429
_BANNED = 418
_CLIENT_ERRORS = range(400, 500)
_SERVER_ERROR = 500
_LONGEST = 200  # characters of a foreign text that an error repeats
_PAUSE_S = 5.0  # after a refusal for haste that does not say how long
_BAN_S = 120.0  # Binance bans an address for at least two minutes


class Unusable(SacdError):
    """The venue answered, with something that cannot be what was asked for."""


class OffGrid(ValueError):
    """A quantity or price is not on the venue's grid."""


class Absent(TransientError):
    """The venue says that it knows no such order."""


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What was seen of one call on its way; filled by `venue_wire.py` while the call runs.

    is_change: the call may change something at the venue, rather than read.  is_handed_over: ccxt gave a request to the
    network layer.  is_traced: that layer reports what it does (a SOCKS proxy has one of its own).  is_connected: a
    connection was had, so that some of the request may have left.  status, body, retry_after_s: of the last answer.
    left_ms, answered_ms: our clock when the last request was handed over, and when its answer was there.
    """

    is_change: bool = False
    is_handed_over: bool = False
    is_traced: bool = False
    is_connected: bool = False
    status: int | None = None
    body: str = ""
    retry_after_s: float | None = None
    left_ms: float = 0.0
    answered_ms: float = 0.0

    @property
    def is_never_sent(self) -> bool:
        """True when nothing of the request can have left."""
        return not self.is_handed_over or (self.is_traced and not self.is_connected)

    @property
    def answer(self) -> Any:  # noqa: ANN401  # whatever the venue sent
        """Return the body as JSON, None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Meaning(StrEnum):
    """What an error says about the request."""

    UNKNOWN = "unknown"
    """It may have been carried out."""
    NEVER_SENT = "never_sent"
    LATER = "later"
    """Turned away for haste, before anything else was looked at."""
    CLOCK = "clock"
    """Turned away because our time, or our counter, is off."""
    KEY = "key"
    KNOWN_ID = "known_id"
    """The venue holds an order of that client id."""
    ABSENT = "absent"
    """The venue knows no such order."""
    FUNDS = "funds"
    FILTER = "filter"
    WOULD_TRADE = "would_trade"
    CLOSED = "closed"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """How a venue words its refusals. read: returns code and message of an answer, "" when it is no refusal.

    rules: patterns searched in that text, the first that fits decides.  explicit: what a refusal looks like whose
    meaning is not listed.
    """

    read: Callable[[Any], str]
    rules: tuple[tuple[re.Pattern[str], Meaning], ...]
    explicit: re.Pattern[str] = re.compile(r"(?!)")


def _rules(*rows: tuple[str, Meaning]) -> tuple[tuple[re.Pattern[str], Meaning], ...]:
    return tuple((re.compile(pattern, re.IGNORECASE), meaning) for pattern, meaning in rows)


def _binance(answer: Any) -> str:  # noqa: ANN401  # as the venue sent it
    if not isinstance(answer, dict) or not isinstance(answer.get("code"), int) or answer["code"] >= 0:
        return ""
    return f"{answer['code']} {answer.get('msg', '')}"


def _kraken(answer: Any) -> str:  # noqa: ANN401  # as the venue sent it
    errors = answer.get("error") if isinstance(answer, dict) else None
    return "; ".join(str(error) for error in errors) if isinstance(errors, list) else ""


def _okx(answer: Any) -> str:  # noqa: ANN401  # as the venue sent it
    if not isinstance(answer, dict) or str(answer.get("code", "0")) == "0":
        return ""
    rows = answer.get("data")
    row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    return f"{row.get('sCode') or answer['code']} {row.get('sMsg') or answer.get('msg', '')}"


def _bybit(answer: Any) -> str:  # noqa: ANN401  # as the venue sent it
    if not isinstance(answer, dict) or str(answer.get("retCode", "0")) == "0":
        return ""
    return f"{answer['retCode']} {answer.get('retMsg', '')}"


_BINANCE = Codes(
    # https://github.com/binance/binance-spot-api-docs/blob/master/errors.md (2026-07)
    read=_binance,
    rules=_rules(
        (r"duplicate order", Meaning.KNOWN_ID),
        (r"^-(1000|1001|1006|1007|1008)\b", Meaning.UNKNOWN),
        (r"^-(1003|1015|1034)\b", Meaning.LATER),
        (r"^-1021\b", Meaning.CLOCK),
        (r"^-(1002|1022|1099|1109|2008|2014|2015)\b|may not place or cancel|action is disabled", Meaning.KEY),
        (r"^-(1016|1121)\b|market is closed|not permitted for this account|symbol is restricted", Meaning.CLOSED),
        (r"^-(2011|2013|2026)\b", Meaning.ABSENT),
        (r"insufficient balance|balance is insufficient", Meaning.FUNDS),
        (r"would (immediately )?(trigger|match)", Meaning.WOULD_TRADE),
        (r"MAX_NUM|MAX_POSITION", Meaning.OTHER),  # no step of ours is old
        (r"^-1013\b|filter failure|^-11(0[0-6]|11|30)\b|price \* qty", Meaning.FILTER),
        # The matching engine's own word; listed messages stand above, any other one may be news to us.
        (r"^-1010\b", Meaning.UNKNOWN),
    ),
    explicit=re.compile(r"^-\d{4,5}\b"),
)
_KRAKEN = Codes(
    # https://docs.kraken.com/api/docs/guides/spot-errors (2025)
    read=_kraken,
    rules=_rules(
        (r"duplicate", Meaning.KNOWN_ID),
        (r"EService:(Unavailable|Busy|Timeout|Deadline)|Internal error", Meaning.UNKNOWN),
        (r"rate limit exceeded|too many requests|temporary lockout", Meaning.LATER),
        (r"EAPI:Invalid nonce", Meaning.CLOCK),
        (r"EAPI:(Invalid (key|signature)|Feature disabled)|permission denied|user locked|invalid session", Meaning.KEY),
        (
            r"Market in|unknown asset pair|invalid asset pair|trading agreement|not available for trading",
            Meaning.CLOSED,
        ),
        (r"unknown order|order not found", Meaning.ABSENT),
        (r"insufficient funds", Meaning.FUNDS),
        (r"post.?only", Meaning.WOULD_TRADE),
        (
            r"minimum not met|tick size|invalid (price|volume)|invalid arguments:(volume|price)|precision",
            Meaning.FILTER,
        ),
        (r"^E(Order|General|Query):", Meaning.OTHER),
    ),
)
_OKX = Codes(
    # https://www.okx.com/docs-v5/en/#error-code (2025)
    read=_okx,
    rules=_rules(
        (r"^51016\b|duplicated? client", Meaning.KNOWN_ID),
        (r"^(50001|50004|50013|50026|51149)\b", Meaning.UNKNOWN),
        (r"^(50011|50040|50061)\b", Meaning.LATER),
        (r"^(50102|50112)\b", Meaning.CLOCK),
        (r"^(5010[0-9]|5011[0134]|5012[0-9])\b", Meaning.KEY),
        (r"^(51008|51119|51131|51502)\b", Meaning.FUNDS),
        (r"^(51006|51020|51121|51136|51137|51138|51201|51202)\b", Meaning.FILTER),
        (r"^(51001|51021|51027|51028|51030|51155|50019)\b", Meaning.CLOSED),
        (r"^(51400|51401|51402|51410|51603)\b", Meaning.ABSENT),
    ),
)
_BYBIT = Codes(
    # https://bybit-exchange.github.io/docs/v5/error (2025)
    read=_bybit,
    rules=_rules(
        (r"^(170141|12141|110072)\b|duplicate", Meaning.KNOWN_ID),
        (r"^(10000|10016|170007|170001|170032)\b", Meaning.UNKNOWN),
        (r"^(10006|10018|10429|170005|170222)\b", Meaning.LATER),
        (r"^(10002|170000)\b", Meaning.CLOCK),
        (r"^(10003|10004|10005|10007|10010|33004)\b", Meaning.KEY),
        (r"^(170131|170033)\b", Meaning.FUNDS),
        (r"^(17013[2-9]|170140|170124|17019[34])\b", Meaning.FILTER),
        (r"^(170121|170202|170213)\b", Meaning.ABSENT),
        (r"^170218\b", Meaning.WOULD_TRADE),
    ),
)
CODES: Mapping[str, Codes] = {
    "binance": _BINANCE,
    "binanceus": _BINANCE,
    "kraken": _KRAKEN,
    "okx": _OKX,
    "bybit": _BYBIT,
}

_CLASSES: Mapping[str, Meaning] = {
    "DuplicateOrderId": Meaning.KNOWN_ID,
    "OrderNotFound": Meaning.ABSENT,
    "OrderImmediatelyFillable": Meaning.WOULD_TRADE,
    "OrderNotFillable": Meaning.WOULD_TRADE,
    "InvalidOrder": Meaning.FILTER,
    "InsufficientFunds": Meaning.FUNDS,
    "MarketClosed": Meaning.CLOSED,
    "OnMaintenance": Meaning.CLOSED,
    "BadSymbol": Meaning.CLOSED,
    "BadRequest": Meaning.OTHER,
    "OperationRejected": Meaning.OTHER,
    "AuthenticationError": Meaning.KEY,
    "InvalidNonce": Meaning.CLOCK,
    "RateLimitExceeded": Meaning.LATER,
    "DDoSProtection": Meaning.LATER,
}
"""ccxt's classes that say something definite. The rest (ExchangeError, OperationFailed ...) do not."""
_REFUSED_HERE = frozenset({"InvalidOrder", "BadRequest", "ArgumentsRequired", "NotSupported", "OffGrid"})
_REFUSALS: Mapping[Meaning, RefusalKind] = {
    Meaning.ABSENT: RefusalKind.OTHER,
    Meaning.FUNDS: RefusalKind.FUNDS,
    Meaning.FILTER: RefusalKind.FILTER,
    Meaning.WOULD_TRADE: RefusalKind.WOULD_TRADE,
    Meaning.CLOSED: RefusalKind.CLOSED,
    Meaning.OTHER: RefusalKind.OTHER,
}


def meaning_of(error: BaseException, evidence: Evidence, exchange_id: str) -> Meaning:
    """Return what `error`, raised by a call that left `evidence`, says about the request."""
    if evidence.is_never_sent:
        return _unsent(error)
    if evidence.status in {_TOO_MANY, _BANNED}:
        return Meaning.LATER
    answer = evidence.answer
    if evidence.status is None or evidence.status >= _SERVER_ERROR or not isinstance(answer, dict | list):
        return Meaning.UNKNOWN
    codes = CODES.get(exchange_id)
    text = codes.read(answer) if codes is not None else ""
    if codes is not None and text:
        for pattern, meaning in codes.rules:
            if pattern.search(text):
                return meaning
        if codes.explicit.search(text) and evidence.status in _CLIENT_ERRORS:
            return _by_class(error) or Meaning.OTHER
    return _by_class(error) or Meaning.UNKNOWN


def _unsent(error: BaseException) -> Meaning:
    names = _names(error)
    if "AuthenticationError" in names:  # a key that ccxt cannot even sign with
        return Meaning.KEY
    if "BadSymbol" in names:
        return Meaning.CLOSED
    return Meaning.FILTER if _REFUSED_HERE & set(names) else Meaning.NEVER_SENT


def _by_class(error: BaseException) -> Meaning | None:
    return next((_CLASSES[name] for name in _names(error) if name in _CLASSES), None)


def _names(error: BaseException) -> list[str]:
    return [kind.__name__ for kind in type(error).__mro__]


def pause_s(evidence: Evidence) -> float:
    """Return how long to be quiet after a refusal for haste: what the venue said, or what its documents say."""
    if evidence.retry_after_s is not None:
        return evidence.retry_after_s
    return _BAN_S if evidence.status == _BANNED else _PAUSE_S


def wording(error: BaseException, evidence: Evidence, exchange_id: str) -> str:
    """Return what happened in a few words: the venue's own where there are any, without addresses and signatures."""
    codes = CODES.get(exchange_id)
    text = codes.read(evidence.answer) if codes is not None else ""
    if text:
        return text[:_LONGEST]
    said = re.sub(r"\?[^\s\"']*", "", str(error)).strip()
    status = "" if evidence.status is None else f", HTTP {evidence.status}"
    return f"{type(error).__name__}{status}: {said}"[:_LONGEST] if said else f"{type(error).__name__}{status}"


def change_error(meaning: Meaning, what: str, said: str) -> SacdError:
    """Return the error of `daemon.venue` for a request that may change something. what: the request, in words."""
    match meaning:
        case Meaning.UNKNOWN:
            return UnknownOutcome(f"{what}: it is not known whether it was carried out: {said}")
        case Meaning.KNOWN_ID:
            return UnknownOutcome(f"{what}: the venue knows this id already: {said}")
        case Meaning.KEY:
            return Unauthorised(f"{what}: the venue refuses the key: {said}")
        case Meaning.NEVER_SENT | Meaning.LATER | Meaning.CLOCK:
            return NotSent(f"{what}: not sent: {said}")
        case _:
            return VenueRefused(f"{what}: refused: {said}", _REFUSALS[meaning])


def read_error(meaning: Meaning, what: str, said: str) -> SacdError:
    """Return the error of `daemon.venue` for a request that only reads."""
    if meaning is Meaning.KEY:
        return Unauthorised(f"{what}: the venue refuses the key: {said}")
    if meaning is Meaning.ABSENT:
        return Absent(f"{what}: the venue knows none: {said}")
    return TransientError(f"{what}: no usable answer: {said}")
