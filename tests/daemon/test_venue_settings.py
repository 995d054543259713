from typing import Any

import pytest

from daemon.errors import ConfigError
from daemon.venue_settings import (
    DECIMAL_PLACES,
    TICK_SIZE,
    instrument_of,
    near_matches,
    refuse_half_redirected,
    refuse_left_over,
    spot_market,
    with_defaults,
)
from strategy.instrument import Instrument

SIGNIFICANT_DIGITS = 3


def market(price: Any, amount: Any, minimum: Any = 5.0) -> dict[str, Any]:
    return {"precision": {"price": price, "amount": amount}, "limits": {"cost": {"min": minimum}}}


@pytest.mark.parametrize(
    ("found", "mode"),
    [(market(0.01, 0.00001), TICK_SIZE), (market(2, 5), DECIMAL_PLACES)],
    ids=["steps", "decimal places"],
)
def test_both_fixed_precision_modes_give_the_same_steps(found: dict[str, Any], mode: int) -> None:
    assert instrument_of("BTC/USDT", found, mode) == Instrument(
        symbol="BTC/USDT", tick=0.01, lot=0.00001, min_notional=5.0
    )


def test_a_venue_without_a_minimum_has_none() -> None:
    assert instrument_of("BTC/USDT", market(0.01, 0.1, None), TICK_SIZE).min_notional == 0.0


@pytest.mark.parametrize(
    ("found", "mode"),
    [
        (market(None, 0.1), TICK_SIZE),
        (market(0.0, 0.1), TICK_SIZE),
        (market(5, 8), SIGNIFICANT_DIGITS),
        ({}, TICK_SIZE),
    ],
    ids=["no tick", "zero tick", "significant digits", "nothing"],
)
def test_steps_that_are_not_fixed_are_refused_by_symbol(found: dict[str, Any], mode: int) -> None:
    with pytest.raises(ConfigError, match="BTC/USDT cannot be traded here"):
        instrument_of("BTC/USDT", found, mode)


def test_a_future_is_not_a_spot_market() -> None:
    with pytest.raises(ConfigError, match="not a spot market"):
        spot_market("x", "BTC/USDT:USDT", {"BTC/USDT:USDT": {"spot": False}})


def test_the_users_options_win_over_the_defaults_key_by_key() -> None:
    merged = with_defaults("binance", {"timeout": 5, "options": {"fetchMarkets": {"types": ["linear"]}}})
    assert (merged["timeout"], merged["enableRateLimit"]) == (5, True)
    assert merged["options"]["fetchMarkets"] == {"types": ["linear"]}
    assert merged["options"]["fetchCurrencies"] is False


def test_other_exchanges_must_have_every_address_redirected() -> None:
    real = {"public": "https://x", "ws": {"public": "wss://x", "private": "wss://x"}}
    given = {"urls": {"api": {"public": "http://l", "ws": {"public": "ws://l"}}}}
    with pytest.raises(ConfigError, match=r"ws\.private would still go to the real kraken"):
        refuse_left_over("kraken", given, real)
    refuse_left_over("kraken", {}, real)


def test_a_spot_address_without_stream_is_refused_because_ccxt_would_take_it_for_futures() -> None:
    options = {"urls": {"api": {"public": "http://l", "ws": {"spot": "ws://l/ws"}}}}
    with pytest.raises(ConfigError, match="does not contain /stream"):
        refuse_half_redirected("binance", options)


def test_near_matches_ignore_case_and_say_nothing_when_nothing_is_near() -> None:
    assert near_matches("btc/usd", ["BTC/USDT", "ETH/EUR"]) == "; did you mean BTC/USDT?"
    assert near_matches("zzz", ["BTC/USDT"]) == ""
