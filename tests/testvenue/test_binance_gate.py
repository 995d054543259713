"""Keys, signatures, timestamps and limits, against the examples of Binance's own documents."""

import pytest

from daemon.testvenue.accounts import Account, KeyRights
from daemon.testvenue.binance_gate import KeyGate, Limiter, Need
from daemon.testvenue.binance_words import ApiError

# rest-api.md, "SIGNED Endpoint Examples for POST /api/v3/order", HMAC keys
KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"  # noqa: S105  # from the documents
QUERY = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
SIGNED = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
SPLIT = ("symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC", "quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559")  # fmt: skip # noqa: E501
SPLIT_SIGNED = "0fd168b8ddb4876a0358a8d14d0c9f3da0e9b20c5d52b2a00fcf7d1c602f9a77"
NOW_MS = 1_499_827_319_559


def gate(now_ms: int = NOW_MS, **rights: bool) -> KeyGate:
    made = KeyGate(
        {KEY: Account(key=KEY, secret=SECRET, rights=KeyRights(**rights))}, now_ms=lambda: now_ms
    )  # fmt: skip
    made.checks_time = True
    return made


def params(signature: str = SIGNED, **more: str) -> dict[str, str]:
    return {**dict(part.split("=") for part in QUERY.split("&")), "signature": signature, **more}


def check(at: KeyGate, sent: list[str], given: dict[str, str]) -> None:
    at.check_signature(at.account(KEY, Need.TRADE), sent, given)


def test_the_documents_signatures_are_taken() -> None:
    check(gate(), [f"{QUERY}&signature={SIGNED}", ""], params())
    check(gate(), ["", f"{QUERY}&signature={SIGNED}"], params())
    check(gate(), [SPLIT[0], f"{SPLIT[1]}&signature={SPLIT_SIGNED}"], params(SPLIT_SIGNED))
    check(gate(), [f"{SPLIT[0]}&signature={SPLIT_SIGNED}", SPLIT[1]], params(SPLIT_SIGNED))


def test_anything_else_is_not() -> None:
    with pytest.raises(ApiError) as caught:
        check(gate(), [QUERY.replace("quantity=1", "quantity=2"), ""], params())
    assert (caught.value.code, caught.value.status) == (-1022, 400)
    assert str(caught.value) == "Signature for this request is not valid."


@pytest.mark.parametrize(
    ("late_ms", "says"),
    [
        (5_001, "Timestamp for this request is outside of the recvWindow."),
        (-1_000, "Timestamp for this request was 1000ms ahead of the server's time."),
    ],
)
def test_a_clock_that_is_off_is_refused(late_ms: int, says: str) -> None:
    with pytest.raises(ApiError, match=says.replace("(", r"\(")) as caught:
        check(gate(NOW_MS + late_ms), [QUERY, ""], params())
    assert caught.value.code == -1021


@pytest.mark.parametrize("late_ms", [5_000, -999])
def test_a_clock_that_is_almost_off_is_taken(late_ms: int) -> None:
    check(gate(NOW_MS + late_ms), [QUERY, ""], params())


def test_a_window_over_a_minute_is_refused() -> None:
    with pytest.raises(ApiError) as caught:
        check(gate(), [QUERY, ""], params(recvWindow="60001"))
    assert caught.value.code == -1131


@pytest.mark.parametrize("missing", ["timestamp", "signature"])
def test_a_missing_parameter_is_named(missing: str) -> None:
    given = {name: value for name, value in params().items() if name != missing}
    with pytest.raises(ApiError, match=f"'{missing}'") as caught:
        check(gate(), [QUERY, ""], given)
    assert caught.value.code == -1102


@pytest.mark.parametrize(("key", "code"), [("", -2014), ("not a key", -2014), ("A" * 64, -2015)])
def test_an_unknown_key_is_refused_with_status_401(key: str, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        gate().account(key, Need.SIGNED_READ)
    assert (caught.value.code, caught.value.status) == (code, 401)


def test_a_key_does_what_it_may_and_no_more() -> None:
    read_only = gate(may_trade=False)
    read_only.account(KEY, Need.SIGNED_READ)
    with pytest.raises(ApiError) as caught:
        read_only.account(KEY, Need.TRADE)
    assert caught.value.code == -2015
    with pytest.raises(ApiError):
        gate(is_revoked=True).account(KEY, Need.SIGNED_READ)


class Minute:
    def __init__(self, per_minute: int) -> None:
        self.now_ms = 60_000 * 1_000 + 15_000  # a quarter into a minute
        self.limiter = Limiter(now_ms=lambda: self.now_ms, per_minute=lambda: per_minute)

    def refused(self, weight: int = 1) -> ApiError | None:
        try:
            self.limiter.spend(weight)
        except ApiError as error:
            return error
        return None


def test_weight_beyond_the_limit_waits_for_the_next_minute() -> None:
    minute = Minute(100)
    assert minute.refused(100) is None
    error = minute.refused()
    assert error is not None
    assert (error.status, error.code, error.headers["Retry-After"]) == (429, -1003, "45")
    minute.now_ms += 45_000
    assert minute.refused() is None


def test_who_goes_on_is_banned_and_the_ban_outlasts_the_minute() -> None:
    minute = Minute(1)
    answers = [minute.refused() for _ in range(12)]
    assert [error.status if error else 200 for error in answers] == [200, *[429] * 10, 418]
    minute.now_ms += 60_000
    banned = minute.refused()
    assert banned is not None
    assert (banned.status, banned.headers["Retry-After"]) == (418, "60")
    minute.now_ms += 60_000
    assert minute.refused() is None


def test_orders_have_a_limit_of_their_own() -> None:
    minute = Minute(6_000)
    for _ in range(100):
        minute.limiter.spend_order()
    with pytest.raises(ApiError) as caught:
        minute.limiter.spend_order()
    assert (caught.value.code, caught.value.status, caught.value.headers["Retry-After"]) == (-1015, 429, "5")
