"""No secret survives, in whatever shape a library wraps it; what is no secret stays readable."""

import base64
import json
import math
import time
import traceback
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.redact import MASK, Redactor, is_secret_name

CANARY = "cAnArY-7f3e9b2a/x+y="

# What libraries and venues really write: ccxt's exception for a signed request, its debug lines, aiohttp's headers.
FOREIGN_TEXTS = {
    "signed url": f"binance GET https://api.binance.com/api/v3/account?timestamp=1&recvWindow=10000&signature={CANARY}",
    "signature first": f"https://x.y/z?signature={CANARY}&timestamp=1",
    "headers as python": f"{{'X-MBX-APIKEY': '{CANARY}', 'User-Agent': 'python'}}",
    "headers as json": f'{{"X-MBX-APIKEY": "{CANARY}", "a": 1}}',
    "headers of kraken": f"{{'API-Key': '{CANARY}', 'API-Sign': '{CANARY}'}}",
    "headers of okx": f"OK-ACCESS-KEY: {CANARY}\nOK-ACCESS-SIGN: {CANARY}\nOK-ACCESS-PASSPHRASE: {CANARY}",
    "headers of bybit": f"{{'X-BAPI-API-KEY': '{CANARY}', 'X-BAPI-SIGN': '{CANARY}'}}",
    "multidict": f"<CIMultiDictProxy('Host': 'x', 'X-MBX-APIKEY': '{CANARY}')>",
    "header pairs": f"[(b'X-MBX-APIKEY', b'{CANARY}'), ('Accept', '*/*')]",
    "bearer": f"Authorization: Bearer {CANARY}",
    "basic": f'"Authorization": "Basic {CANARY}"',
    "config as python": f"{{'apiKey': '{CANARY}', 'secret': '{CANARY}', 'password': '{CANARY}'}}",
    "config as toml": f'apiKey = "{CANARY}"\nsecret = "{CANARY}"',
    "json within json": json.dumps({"body": json.dumps({"apiKey": CANARY, "token": CANARY})}),
    "snake case": f"api_key={CANARY} api_secret={CANARY} access_token={CANARY}",
    "listen key": f"wss://stream.binance.com/ws?listenKey={CANARY}",
    "userinfo": f"proxy http://user:{CANARY.replace('/', '')}@10.0.0.1:3128 refused",
    "cut off": f'{{"secret": "{CANARY}',
    "escaped quote": json.dumps({"secret": f'a"{CANARY}'}),
}


@pytest.mark.parametrize("text", FOREIGN_TEXTS.values(), ids=FOREIGN_TEXTS.keys())
def test_secrets_nobody_registered_are_found_by_where_they_stand(text: str) -> None:
    masked = Redactor().text(text)
    assert "7f3e9b2a" not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    "text",
    [
        "binance {'code': -2010, 'msg': 'Account has insufficient balance for requested action.'}",
        "order s-btcusdt-1a2b3c4d-q1w2e3-0 filled 0.5 BTC at 42000.01",
        "GET https://api.binance.com/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=1000",
        "designed: assignments=3, tokens=4, keyboard: yes",
        "connected to wss://stream.binance.com:9443/stream/ws",
    ],
)
def test_text_without_secrets_is_left_alone(text: str) -> None:
    assert Redactor([CANARY]).text(text) == text


@pytest.mark.parametrize(
    "form",
    [
        str,
        lambda secret: quote(secret, safe=""),
        quote_plus,
        json.dumps,
        repr,
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: f"x{secret}y",
    ],
    ids=["plain", "url", "form", "json", "repr", "base64", "inside"],
)
def test_a_registered_secret_is_masked_in_every_form(form: Any) -> None:
    secret = "p/s w\"d'\\ü+=&"  # noqa: S105  # made up
    text = f"before {form(secret)} after"
    masked = Redactor([secret]).text(text)
    assert form(secret).strip("'\"") not in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")


def test_the_longer_of_two_secrets_is_masked_whole() -> None:
    assert Redactor(["abcdef", "abcdefghij"]).text("abcdefghij") == MASK


def test_every_line_of_a_private_key_is_masked() -> None:
    pem = (
        "-----BEGIN PRIVATE KEY-----\n"
        "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v\n"
        "VHJ5aW5nIHRvIGxlYWsgdGhpcyBrZXk=\n-----END PRIVATE KEY-----"
    )
    shown = Redactor([pem]).text(f"line: MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v and {pem!r}")
    assert "MC4CAQ" not in shown
    assert "VHJ5aW5n" not in shown


def test_a_traceback_loses_its_secrets() -> None:
    def fail() -> None:
        raise ConnectionError(f"GET https://x/y?signature={CANARY} with apiKey {CANARY}")

    try:
        fail()
    except ConnectionError:
        text = traceback.format_exc()
    masked = Redactor([CANARY]).text(text)
    assert CANARY not in masked
    assert "ConnectionError" in masked


@dataclass
class _Account:
    name: str
    secret: str


class _Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_nested_values_become_json_types_without_secrets() -> None:
    value = {
        "apiKey": CANARY,
        "nested": [{"password": CANARY, "deep": ({"Authorization": f"Bearer {CANARY}"},)}],
        "pair": ("X-MBX-APIKEY", CANARY),
        "object": _Account(name="a", secret=CANARY),
        "bytes": CANARY.encode(),
        "error": ValueError(f"signature={CANARY}"),
        "set": {CANARY},
        CANARY: 1,
        "broken": _Unprintable(),
        "price": 42_000.5,
        "infinite": math.inf,
        "count": np.int64(3),
        "share": np.float64(0.25),
        "none": None,
        "yes": True,
        "token": None,
    }
    masked = Redactor([CANARY]).value(value)
    text = json.dumps(masked, allow_nan=False)
    assert CANARY not in text
    assert isinstance(masked, dict)
    kept = {key: masked[key] for key in ("price", "count", "share", "none", "yes", "token")}
    assert kept == {"price": 42_000.5, "count": 3, "share": 0.25, "none": None, "yes": True, "token": None}
    assert masked["apiKey"] == MASK
    assert masked["broken"] == "<_Unprintable whose repr raised RuntimeError>"


def test_a_value_that_holds_itself_is_cut_off() -> None:
    value: dict[str, Any] = {"apiKey": CANARY}
    value["self"] = value
    assert CANARY not in json.dumps(Redactor().value(value))


def test_a_numeric_secret_is_masked_in_numbers() -> None:
    assert Redactor(["31415926"]).value({"account": 31415926, "other": 27182818}) == {
        "account": MASK,
        "other": 27182818,
    }


@pytest.mark.parametrize("number", [10**400, -(10**5_000), 1e308], ids=["long", "endless", "float"])
def test_numbers_json_readers_choke_on_become_text(number: float) -> None:
    assert isinstance(Redactor().value(number), str)


def test_very_short_values_do_not_shred_the_log() -> None:
    assert Redactor(["1", "ab"]).text("sold 11 of abc") == "sold 11 of abc"


@pytest.mark.parametrize("name", ["apiKey", "API_KEY", "secret", "clientSecret", "password", "X-MBX-APIKEY", "uid"])
def test_secret_names_are_known_in_any_spelling(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["symbol", "instance", "monkey", "key", "side", "tokens", "signal", "client_id", "id"])
def test_other_names_are_not_taken_for_secrets(name: str) -> None:
    assert not is_secret_name(name)


secrets = st.text(min_size=6, max_size=40).filter(lambda text: "*" not in text and len(set(text)) > 3)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=True) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(secret=secrets, before=st.text(max_size=20), after=st.text(max_size=20), value=json_values)
def test_no_registered_secret_survives_anywhere(secret: str, before: str, after: str, value: Any) -> None:
    hidden = {"a": [f"{before}{secret}{after}", value], "b": {secret: {"c": (secret, ValueError(secret))}}}
    shown = json.dumps(Redactor([secret]).value(hidden), ensure_ascii=False)
    # Its own characters may stand elsewhere in the frame; the secret as a whole may not.
    frame = json.dumps({"a": ["", value], "b": {MASK: {"c": (MASK, f"ValueError('{MASK}')")}}}, ensure_ascii=False)
    assert secret not in shown or secret in frame or secret in before + after


@given(value=json_values)
def test_without_secrets_in_it_a_value_keeps_its_shape(value: Any) -> None:
    shown = Redactor().value(value)
    json.dumps(shown, allow_nan=False)
    if isinstance(value, list):
        assert isinstance(shown, list)
        assert len(shown) == len(value)


@given(text=st.text(alphabet="a-_=:'\" \\bapikeysecret", max_size=300))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    once = Redactor().text(text)
    assert Redactor().text(once) == once


def test_hostile_text_is_masked_in_linear_time() -> None:
    for text in ("a-" * 100_000, "'" * 200_000, 'secret="' * 20_000, "\\" * 200_000, "://" * 60_000, "x@" * 100_000):
        began = time.process_time()
        Redactor([CANARY]).text(text)
        assert time.process_time() - began < 5.0
