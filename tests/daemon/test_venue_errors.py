"""Classes stand for ccxt's by name and descent; texts and codes are those of the venues' own documents."""

import json
from typing import Any

import pytest

from daemon.errors import SacdError, TransientError, UnknownOutcome
from daemon.venue import NotSent, RefusalKind, Unauthorised, VenueRefused
from daemon.venue_errors import Absent, Evidence, Meaning, change_error, meaning_of, pause_s, read_error, wording


class BaseError(Exception): ...


class ExchangeError(BaseError): ...


class AuthenticationError(ExchangeError): ...


class PermissionDenied(AuthenticationError): ...


class BadRequest(ExchangeError): ...


class InvalidOrder(ExchangeError): ...


class OrderNotFound(InvalidOrder): ...


class OrderImmediatelyFillable(InvalidOrder): ...


class InsufficientFunds(ExchangeError): ...


class OperationFailed(BaseError): ...


class NetworkError(OperationFailed): ...


class DDoSProtection(NetworkError): ...


class ExchangeNotAvailable(NetworkError): ...


class OnMaintenance(ExchangeNotAvailable): ...


class RequestTimeout(NetworkError): ...


class InvalidNonce(NetworkError): ...


class BadResponse(OperationFailed): ...


def answered(status: int, body: Any, retry_after_s: float | None = None) -> Evidence:
    text = body if isinstance(body, str) else json.dumps(body)
    return Evidence(
        is_change=True, is_handed_over=True, is_traced=True, is_connected=True,
        status=status, body=text, retry_after_s=retry_after_s,
    )  # fmt: skip


def lost() -> Evidence:
    return Evidence(is_change=True, is_handed_over=True, is_traced=True, is_connected=True)


BINANCE = [
    # https://github.com/binance/binance-spot-api-docs/blob/master/errors.md
    (OperationFailed, -1000, "An unknown error occurred while processing the request.", Meaning.UNKNOWN),
    (ExchangeError, -1001, "Internal error; unable to process your request. Please try again.", Meaning.UNKNOWN),
    (OperationFailed, -1006, "An unexpected response was received from the message bus.", Meaning.UNKNOWN),
    (RequestTimeout, -1007, "Timeout waiting for response from backend server.", Meaning.UNKNOWN),
    (ExchangeError, -1008, "Server is currently overloaded with other requests.", Meaning.UNKNOWN),
    (DDoSProtection, -1003, "Too many requests queued.", Meaning.LATER),
    (DDoSProtection, -1015, "Too many new orders.", Meaning.LATER),
    (InvalidNonce, -1021, "Timestamp for this request is outside of the recvWindow.", Meaning.CLOCK),
    (AuthenticationError, -1022, "Signature for this request is not valid.", Meaning.KEY),
    (DDoSProtection, -2015, "Invalid API-key, IP, or permissions for action.", Meaning.KEY),
    (AuthenticationError, -2014, "API-key format invalid.", Meaning.KEY),
    (InvalidOrder, -2010, "This account may not place or cancel orders.", Meaning.KEY),
    (InsufficientFunds, -2010, "Account has insufficient balance for requested action.", Meaning.FUNDS),
    (InvalidOrder, -2010, "Duplicate order sent.", Meaning.KNOWN_ID),
    (InvalidOrder, -2010, "Stop price would trigger immediately.", Meaning.WOULD_TRADE),
    (OrderImmediatelyFillable, -2010, "Order would immediately match and take.", Meaning.WOULD_TRADE),
    (ExchangeError, -2010, "Market is closed.", Meaning.CLOSED),
    (ExchangeError, -2010, "This symbol is restricted for this account.", Meaning.CLOSED),
    (ExchangeError, -2010, "Unsupported order combination", Meaning.OTHER),
    (InvalidOrder, -1013, "Filter failure: LOT_SIZE", Meaning.FILTER),
    (BadRequest, -1013, "Filter failure: NOTIONAL", Meaning.FILTER),
    (InvalidOrder, -1013, "Filter failure: PERCENT_PRICE_BY_SIDE", Meaning.FILTER),
    (InvalidOrder, -1013, "Filter failure: MAX_NUM_ORDERS", Meaning.OTHER),
    (BadRequest, -1111, "Precision is over the maximum defined for this asset.", Meaning.FILTER),
    (BadRequest, -1100, "Illegal characters found in a parameter.", Meaning.FILTER),
    (BadRequest, -1016, "This service is no longer available.", Meaning.CLOSED),
    (BadRequest, -1121, "Invalid symbol.", Meaning.CLOSED),
    (OrderNotFound, -2011, "Unknown order sent.", Meaning.ABSENT),
    (OrderNotFound, -2013, "Order does not exist.", Meaning.ABSENT),
    (ExchangeError, -1199, "Something that was added later.", Meaning.OTHER),
    (OperationFailed, -1010, "Something the matching engine said.", Meaning.UNKNOWN),
]


@pytest.mark.parametrize(("kind", "code", "message", "meaning"), BINANCE, ids=[f"{row[1]} {row[2]}" for row in BINANCE])
def test_what_binance_says_counts_whatever_class_ccxt_makes_of_it(
    kind: type[Exception], code: int, message: str, meaning: Meaning
) -> None:
    evidence = answered(400, {"code": code, "msg": message})
    assert meaning_of(kind("binance"), evidence, "binance") is meaning
    if meaning is not Meaning.OTHER:  # an unlisted code is all that is left to the class
        assert meaning_of(ExchangeError("testnet"), evidence, "binance") is meaning


KRAKEN = [
    # https://docs.kraken.com/api/docs/guides/spot-errors
    ("EOrder:Insufficient funds", Meaning.FUNDS),
    ("EOrder:Order minimum not met", Meaning.FILTER),
    ("EOrder:Cost minimum not met", Meaning.FILTER),
    ("EOrder:Tick size check failed", Meaning.FILTER),
    ("EGeneral:Invalid arguments:volume", Meaning.FILTER),
    ("EOrder:Post only order", Meaning.WOULD_TRADE),
    ("EService:Market in cancel_only mode", Meaning.CLOSED),
    ("EService:Market in post_only mode", Meaning.CLOSED),
    ("EService:Unavailable", Meaning.UNKNOWN),
    ("EService:Busy", Meaning.UNKNOWN),
    ("EService:Deadline elapsed", Meaning.UNKNOWN),
    ("EGeneral:Internal error", Meaning.UNKNOWN),
    ("EAPI:Invalid key", Meaning.KEY),
    ("EAPI:Invalid signature", Meaning.KEY),
    ("EGeneral:Permission denied", Meaning.KEY),
    ("EAPI:Invalid nonce", Meaning.CLOCK),
    ("EAPI:Rate limit exceeded", Meaning.LATER),
    ("EOrder:Rate limit exceeded", Meaning.LATER),
    ("EOrder:Unknown order", Meaning.ABSENT),
    ("EOrder:Orders limit exceeded", Meaning.OTHER),
    ("EQuery:Unknown asset pair", Meaning.CLOSED),
]


@pytest.mark.parametrize(("text", "meaning"), KRAKEN, ids=[row[0] for row in KRAKEN])
def test_what_kraken_says_counts_though_it_answers_200(text: str, meaning: Meaning) -> None:
    assert meaning_of(ExchangeError("kraken"), answered(200, {"error": [text]}), "kraken") is meaning


@pytest.mark.parametrize(
    ("exchange", "body", "meaning"),
    [
        ("okx", {"code": "1", "data": [{"sCode": "51008", "sMsg": "Insufficient balance"}]}, Meaning.FUNDS),
        ("okx", {"code": "50004", "msg": "Endpoint request timeout", "data": []}, Meaning.UNKNOWN),
        ("okx", {"code": "1", "data": [{"sCode": "51016", "sMsg": "Duplicated client order ID"}]}, Meaning.KNOWN_ID),
        ("bybit", {"retCode": 170131, "retMsg": "Insufficient balance."}, Meaning.FUNDS),
        ("bybit", {"retCode": 170141, "retMsg": "Duplicate clientOrderId"}, Meaning.KNOWN_ID),
        ("bybit", {"retCode": 170007, "retMsg": "Timeout waiting for response from backend server"}, Meaning.UNKNOWN),
    ],
)
def test_other_venues_words_count_too(exchange: str, body: Any, meaning: Meaning) -> None:
    assert meaning_of(InvalidOrder(exchange), answered(200, body), exchange) is meaning


@pytest.mark.parametrize("kind", [RequestTimeout, ExchangeNotAvailable, ExchangeError, BadResponse, TypeError])
def test_once_connected_a_lost_answer_proves_nothing(kind: type[Exception]) -> None:
    assert meaning_of(kind("x"), lost(), "binance") is Meaning.UNKNOWN


@pytest.mark.parametrize("kind", [RequestTimeout, ExchangeNotAvailable, ExchangeError, OSError])
def test_without_a_connection_nothing_was_sent(kind: type[Exception]) -> None:
    evidence = Evidence(is_change=True, is_handed_over=True, is_traced=True)
    assert meaning_of(kind("x"), evidence, "binance") is Meaning.NEVER_SENT


def test_where_nobody_watches_the_connection_nothing_is_proven() -> None:
    evidence = Evidence(is_change=True, is_handed_over=True, is_traced=False)
    assert meaning_of(ExchangeNotAvailable("x"), evidence, "binance") is Meaning.UNKNOWN


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        (InvalidOrder, Meaning.FILTER),
        (BadRequest, Meaning.FILTER),
        (AuthenticationError, Meaning.KEY),
        (NotSent, Meaning.NEVER_SENT),
        (RequestTimeout, Meaning.NEVER_SENT),
        (RuntimeError, Meaning.NEVER_SENT),
    ],
)
def test_what_ccxt_refuses_by_itself_never_left(kind: type[Exception], meaning: Meaning) -> None:
    assert meaning_of(kind("x"), Evidence(is_change=True), "binance") is meaning


@pytest.mark.parametrize(
    "body",
    [
        "", "<html>502 Bad Gateway</html>", '{"code":-2010,', "null", "7",
    ],
    ids=["empty", "html", "truncated", "null", "number"],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 400, 403])
def test_a_body_that_cannot_be_read_is_no_refusal(body: str, status: int) -> None:
    assert meaning_of(InvalidOrder("x"), answered(status, body), "binance") is Meaning.UNKNOWN


@pytest.mark.parametrize("code", [-2010, -1013, -2015])
def test_a_server_error_is_no_refusal_whatever_it_says(code: int) -> None:
    evidence = answered(503, {"code": code, "msg": "Account has insufficient balance for requested action."})
    assert meaning_of(InsufficientFunds("x"), evidence, "binance") is Meaning.UNKNOWN


@pytest.mark.parametrize("status", [429, 418])
@pytest.mark.parametrize("body", ["", "<html>", '{"code":-1003,"msg":"Way too many requests"}'])
def test_a_refusal_for_haste_needs_no_body(status: int, body: str) -> None:
    assert meaning_of(DDoSProtection("x"), answered(status, body), "binance") is Meaning.LATER


def test_a_class_alone_decides_only_where_the_venue_is_not_known_and_answered() -> None:
    body = {"error": "balance too low"}
    assert meaning_of(InsufficientFunds("x"), answered(400, body), "lbank") is Meaning.FUNDS
    assert meaning_of(ExchangeError("x"), answered(400, body), "lbank") is Meaning.UNKNOWN
    assert meaning_of(OperationFailed("x"), answered(400, body), "lbank") is Meaning.UNKNOWN
    assert meaning_of(PermissionDenied("x"), answered(401, body), "lbank") is Meaning.KEY
    assert meaning_of(OnMaintenance("x"), answered(200, body), "lbank") is Meaning.CLOSED


@pytest.mark.parametrize(
    ("evidence", "seconds"),
    [
        (answered(429, "", retry_after_s=17.0), 17.0),
        (answered(418, "", retry_after_s=300.0), 300.0),
        (answered(418, ""), 120.0),
        (answered(429, ""), 5.0),
    ],
)
def test_the_pause_is_what_the_venue_asked_for(evidence: Evidence, seconds: float) -> None:
    assert pause_s(evidence) == seconds


REFUSALS = {
    Meaning.FUNDS: RefusalKind.FUNDS,
    Meaning.FILTER: RefusalKind.FILTER,
    Meaning.WOULD_TRADE: RefusalKind.WOULD_TRADE,
    Meaning.CLOSED: RefusalKind.CLOSED,
    Meaning.OTHER: RefusalKind.OTHER,
    Meaning.ABSENT: RefusalKind.OTHER,
}


@pytest.mark.parametrize("meaning", Meaning)
def test_a_change_ends_in_one_of_the_documented_ways(meaning: Meaning) -> None:
    error = change_error(meaning, "buy 1", "why")
    expected: type[SacdError]
    if meaning in REFUSALS:
        expected = VenueRefused
        assert isinstance(error, VenueRefused)
        assert error.kind is REFUSALS[meaning]
    elif meaning is Meaning.KEY:
        expected = Unauthorised
    elif meaning in {Meaning.UNKNOWN, Meaning.KNOWN_ID}:
        expected = UnknownOutcome
    else:
        expected = NotSent
    assert type(error) is expected
    assert "buy 1" in str(error)
    assert "why" in str(error)


@pytest.mark.parametrize("meaning", Meaning)
def test_a_read_that_fails_is_tried_again_unless_the_key_is_refused(meaning: Meaning) -> None:
    error = read_error(meaning, "balances", "why")
    assert isinstance(error, Unauthorised if meaning is Meaning.KEY else TransientError)
    assert isinstance(error, Absent) is (meaning is Meaning.ABSENT)


def test_the_venues_own_words_are_repeated() -> None:
    evidence = answered(400, {"code": -2010, "msg": "Market is closed."})
    assert wording(ExchangeError("binance {...}"), evidence, "binance") == "-2010 Market is closed."


def test_a_query_with_a_signature_is_never_repeated() -> None:
    said = wording(
        RequestTimeout("binance GET https://api.binance.com/api/v3/order?symbol=BTCUSDT&signature=abcdef"), lost(), "x"
    )
    assert said == "RequestTimeout: binance GET https://api.binance.com/api/v3/order"
