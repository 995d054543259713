"""What an exchange can answer, and what follows; nothing but reads ever reaches it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.check_result import CheckResult, exit_code_of, refuse_failed
from daemon.clock import SystemClock
from daemon.config import Config
from daemon.errors import ConfigError, NotArmed, SacdError, TransientError
from daemon.journal import SqliteJournal
from daemon.live_checks import venue_checks
from daemon.paths import journal_path
from daemon.ports import Record
from daemon.run_record import account_of
from daemon.venue import Balance, Market, Permissions, Quote, Unauthorised, VenueOrder, VenueState
from strategy.instrument import Instrument
from strategy.order import Side, client_order_id
from tests.daemon.live_places import KEY, SECRET, WillingVenue, load_live, make_live_place
from tests.fakes.serving import BTC, ETH, Place


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_live_place(tmp_path_factory.mktemp("live"))


@pytest.fixture
def place(shared: Place, tmp_path: Path) -> Place:
    return replace(shared, root=tmp_path)


@pytest.fixture
def venue() -> WillingVenue:
    return WillingVenue()


def live(place: Place, **changes: Mapping[str, Any]) -> Config:
    return load_live(place, **changes).with_credentials({"apiKey": KEY, "secret": SECRET})


async def looked(config: Config, venue: WillingVenue) -> dict[str, CheckResult]:
    """Return the results by name; any call that is no read fails the test inside the venue."""
    results = await venue_checks(config, venue)
    assert KEY not in str(results)
    assert SECRET not in str(results)
    return {result.name: result for result in results}


def state(result: CheckResult) -> tuple[str, int]:
    kind = "warn" if result.is_warning else "ok" if result.is_good else "failed"
    return kind, result.to_json()["exit_code"]


async def test_all_is_well_with_a_willing_venue(place: Place, venue: WillingVenue) -> None:
    results = await venue_checks(live(place), venue)
    assert [result.name for result in results] == [
        "exchange", "stop orders", "user stream", "dead-man switch", "key", "balance", "withdrawal", "trading",
        "key addresses", "clock", f"market {BTC}", "fees", "open orders",
    ]  # fmt: skip
    assert {state(result) for result in results} == {("ok", 0)}
    assert exit_code_of(results) == 0
    refuse_failed(results)


# ---- reaching it ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("call", ["open", "balances", "permissions"])
async def test_a_refused_key_is_a_wrong_configuration_and_names_the_file(
    place: Place, venue: WillingVenue, call: str
) -> None:
    venue.failures[call] = Unauthorised(f"Invalid API-key {KEY}, signature={SECRET}")
    found = await looked(live(place), venue)
    assert state(found["key"]) == ("failed", 78)
    assert str(place.root / "keys.toml") in found["key"].detail
    assert "binance refuses the key" in found["key"].detail


@pytest.mark.parametrize(
    ("error", "code"), [(TransientError("no answer within 10 s"), 1), (ConfigError("binance has no 'BTC/USDX'"), 78)]
)
async def test_without_a_connection_nothing_else_is_asked(
    place: Place, venue: WillingVenue, error: SacdError, code: int
) -> None:
    venue.failures["open"] = error
    found = await looked(live(place), venue)
    assert list(found) == ["exchange"]
    assert state(found["exchange"]) == ("failed", code)
    assert found["exchange"].detail == str(error)
    assert venue.calls == ["open"]


@pytest.mark.parametrize("call", ["balances", "permissions", "clock_offset_ms", "markets", "quote", "open_orders"])
async def test_an_answer_that_does_not_come_fails_its_own_check_only(
    place: Place, venue: WillingVenue, call: str
) -> None:
    venue.failures[call] = TransientError("no answer")
    results = await venue_checks(live(place), venue)
    assert [state(result) for result in results if not result.is_good] == [("failed", 1)]
    assert exit_code_of(results) == 1


# ---- the key ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("allowed", "name", "expected"),
    [
        ({"may_withdraw": True}, "withdrawal", ("failed", 3)),
        ({"may_withdraw": None}, "withdrawal", ("warn", 0)),
        ({"may_trade": False}, "trading", ("failed", 3)),
        ({"may_trade": None}, "trading", ("warn", 0)),
        ({"is_bound_to_ip": False}, "key addresses", ("warn", 0)),
        ({"is_bound_to_ip": None}, "key addresses", ("warn", 0)),
    ],
)
async def test_what_the_key_may_do_decides(
    place: Place, venue: WillingVenue, allowed: dict[str, Any], name: str, expected: tuple[str, int]
) -> None:
    venue.allowed = Permissions(**{"may_trade": True, "may_withdraw": False, "is_bound_to_ip": True, **allowed})
    results = await venue_checks(live(place), venue)
    assert {result.name: state(result) for result in results if state(result) != ("ok", 0)} == {name: expected}
    assert exit_code_of(results) == expected[1]
    if expected[1]:
        with pytest.raises(NotArmed, match="the key may"):
            refuse_failed(results)


# ---- the clock --------------------------------------------------------------------------------------------------
@pytest.mark.fault(8)
@pytest.mark.parametrize(
    ("offset_ms", "expected"),
    [(0.0, "ok"), (1_000.0, "ok"), (-1_000.0, "ok"), (1_001.0, "warn"), (-1_001.0, "warn"), (5_000.0, "warn"),
     (5_001.0, "failed"), (-30_000.0, "failed"), (None, "warn")],
)  # fmt: skip
async def test_a_clock_that_is_off_by_one_second_is_told_and_by_five_refused(
    place: Place, venue: WillingVenue, offset_ms: float | None, expected: str
) -> None:
    venue.offset_ms = offset_ms
    assert state((await looked(live(place), venue))["clock"])[0] == expected


# ---- money ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("free", [0.0, 999.99, None])
async def test_a_new_account_must_find_its_money(place: Place, venue: WillingVenue, free: float | None) -> None:
    venue.account = {} if free is None else {"USDT": Balance(free=free, used=5_000.0)}
    balance = (await looked(live(place), venue))["balance"]
    assert state(balance) == ("failed", 78)
    assert f"{free or 0.0:.2f} USDT free" in balance.detail
    assert "initial_cash = 1000.00" in balance.detail


async def journalled(config: Config, *payloads: dict[str, Any]) -> None:
    path = journal_path(config)
    path.parent.mkdir(exist_ok=True)
    journal = SqliteJournal.open(path, SystemClock())
    await journal.append([Record(kind="run", payload={"account": account_of(config)})])
    await journal.append([Record(kind="decision", payload=payload) for payload in payloads])
    await journal.close()


async def test_an_account_that_goes_on_may_have_spent_it(place: Place, venue: WillingVenue) -> None:
    config = live(place)
    await journalled(config, {"verdict": "hold"})
    venue.account = {"USDT": Balance(free=3.0, used=0.0)}
    assert state((await looked(config, venue))["balance"]) == ("ok", 0)
    (balance,) = [result for result in await venue_checks(config, venue, is_new=True) if result.name == "balance"]
    assert state(balance) == ("failed", 78)


# ---- markets ----------------------------------------------------------------------------------------------------
async def market(
    place: Place, venue: WillingVenue, changes: Mapping[str, Any], **keys: Mapping[str, Any]
) -> CheckResult:
    venue.found[BTC] = replace(venue.found[BTC], **changes)
    return (await looked(live(place, **keys), venue))[f"market {BTC}"]


async def test_a_market_that_is_closed_or_unknown_is_refused(place: Place, venue: WillingVenue) -> None:
    closed = await market(place, venue, {"is_active": False})
    assert state(closed) == ("failed", 78)
    assert "take it out of [market] symbols" in closed.detail
    del venue.found[BTC]
    unknown = (await looked(live(place), venue))[f"market {BTC}"]
    assert state(unknown) == ("failed", 78)
    assert "no such market" in unknown.detail


async def test_a_market_that_closes_on_an_account_that_goes_on_is_told_and_looked_after(
    place: Place, venue: WillingVenue
) -> None:
    config = live(place)
    await journalled(config, {"verdict": "hold"})
    venue.found[BTC] = replace(venue.found[BTC], is_active=False)
    found = (await looked(config, venue))[f"market {BTC}"]
    assert state(found) == ("warn", 0)
    assert found.detail.endswith("nothing is bought")


def coarse(lot: float, min_notional: float) -> dict[str, Instrument]:
    return {"instrument": Instrument(symbol=BTC, tick=0.01, lot=lot, min_notional=min_notional)}


@pytest.mark.parametrize(
    ("changes", "keys", "told"),
    [
        # At 50,000 a lot of 0.02 is worth 1,000; one of 0.001 is worth 50, and 120 take three of them: 150.
        (coarse(0.02, 5.0), {}, "the smallest order is 1000.00 USDT, and [live] max_order_value is 500.00"),
        (
            coarse(0.001, 120.0),
            {"live": {"max_order_value": 149.0}},
            "150.00 USDT, and [live] max_order_value is 149.00",
        ),
        (coarse(0.001, 120.0), {"live": {"max_position_value": 149.0}}, "and [live] max_position_value is 149.00"),
        (coarse(0.001, 120.0), {"daemon": {"initial_cash": 298.0}}, "leave for one symbol is 149.00"),
        ({"max_quantity": 0.00001}, {}, "the exchange's largest order is 0.50"),
    ],
)
async def test_caps_and_capital_must_have_room_for_the_smallest_order(
    place: Place, venue: WillingVenue, changes: dict[str, Any], keys: dict[str, Any], told: str
) -> None:
    found = await market(place, venue, changes, **keys)
    assert state(found) == ("failed", 78)
    assert told in found.detail


@pytest.mark.parametrize(
    ("changes", "keys", "told"),
    [
        (coarse(0.001, 120.0), {"live": {"max_position_value": 151.0}}, "can be neither sold nor protected"),
        ({"max_quantity": 0.001}, {}, "max_order_value is above the exchange's 50.00"),
        ({"highest_price": 1.004, "lowest_price": 0.5}, {}, "price band 0.5 .. 1.004"),
        ({"highest_price": 2.0, "lowest_price": 0.996}, {}, "price band 0.996 .. 2.0"),
    ],
)
async def test_what_may_turn_out_badly_is_told(
    place: Place, venue: WillingVenue, changes: dict[str, Any], keys: dict[str, Any], told: str
) -> None:
    found = await market(place, venue, changes, **keys)
    assert state(found) == ("warn", 0)
    assert told in found.detail


async def test_the_smallest_order_of_a_quiet_market_cannot_be_told(place: Place, venue: WillingVenue) -> None:
    venue.quotes[BTC] = Quote(bid=None, ask=None, last=None)
    assert state((await looked(live(place), venue))[f"market {BTC}"]) == ("warn", 0)


async def test_capital_is_shared_by_the_symbols(place: Place, venue: WillingVenue) -> None:
    venue.found[ETH] = Market(instrument=Instrument(symbol=ETH, tick=0.01, lot=0.0001, min_notional=251.0))
    venue.quotes[ETH] = Quote(bid=None, ask=2_000.0, last=None)
    found = await looked(live(place, market={"symbols": [BTC, ETH]}), venue)
    # 1,000 shared by two, half of each: 250.
    assert "the smallest order is 251.00 USDT" in found[f"market {ETH}"].detail
    assert state(found[f"market {BTC}"]) == ("ok", 0)
    assert state((await looked(live(place), venue))[f"market {BTC}"]) == ("ok", 0)


@pytest.mark.parametrize(
    ("taker", "expected", "told"),
    [
        (0.001, "ok", "0.001"),
        (0.00075, "warn", "write 0.00075"),
        (0.002, "warn", "write 0.002"),
        (None, "warn", "not tell"),
    ],
)
async def test_fees_other_than_those_reckoned_with_are_told_with_the_number_to_write(
    place: Place, venue: WillingVenue, taker: float | None, expected: str, told: str
) -> None:
    venue.found[BTC] = replace(venue.found[BTC], taker=taker)
    fees = (await looked(live(place), venue))["fees"]
    assert state(fees)[0] == expected
    assert told in fees.detail


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"has_stop": False}, "stop orders", "warn"),
        ({"has_market_stop": False}, "stop orders", "warn"),
        ({"has_user_stream": False}, "user stream", "warn"),
        ({"has_dead_man": True}, "dead-man switch", "ok"),
    ],
)
async def test_what_a_venue_cannot_do_is_told(
    place: Place, venue: WillingVenue, changes: dict[str, bool], name: str, expected: str
) -> None:
    venue.abilities = replace(venue.abilities, **changes)
    assert state((await looked(live(place), venue))[name]) == (expected, 0)


# ---- orders that rest there -------------------------------------------------------------------------------------
def resting(client_id: str, foreign_id: str = "") -> VenueOrder:
    return VenueOrder(
        venue_id="77", client_id=client_id, symbol=BTC, side=Side.SELL, quantity=0.01, filled=0.0,
        state=VenueState.OPEN, at_ms=1, is_stop=True, stop_price=45_000.0, foreign_id=foreign_id or client_id,
    )  # fmt: skip


OWN = client_order_id("main", BTC, 3_600_000, 1)


async def test_an_order_of_ours_that_the_journal_knows_is_well(place: Place, venue: WillingVenue) -> None:
    config = live(place)
    await journalled(config, {"verdict": "hold"}, {"order": {"client_id": OWN}})
    venue.resting = [resting(OWN), resting("", "web_1")]
    found = (await looked(config, venue))["open orders"]
    assert state(found) == ("ok", 0)
    assert found.detail == "1 ours, all journalled; 1 of others, left alone"


@pytest.mark.parametrize("other", [None, f"{OWN}2"], ids=["a new journal", "one that knows another order"])
async def test_an_order_that_bears_our_name_and_is_not_ours_is_refused(
    place: Place, venue: WillingVenue, other: str | None
) -> None:
    config = live(place)
    if other is not None:
        await journalled(config, {"order": {"client_id": other}})
    venue.resting = [resting(OWN)]
    results = await venue_checks(config, venue)
    (found,) = [result for result in results if not result.is_good]
    assert (found.name, state(found)) == ("open orders", ("failed", 78))
    assert OWN in found.detail
    with pytest.raises(ConfigError, match='instance "main"'):
        refuse_failed(results)


async def test_orders_of_others_are_left_alone(place: Place, venue: WillingVenue) -> None:
    venue.resting = [resting("", "web_1"), resting("", "")]
    found = (await looked(live(place), venue))["open orders"]
    assert found.detail == "0 ours, all journalled; 2 of others, left alone"
