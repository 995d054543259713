"""Faults of an account that is not ours alone (rows 26-28 of docs/faults.md), by the real daemon before the venue."""

import shutil

import pytest

from tests.fakes.serving import BTC
from tests.live.rehearsal import STOP, Rehearsal, Rehearse


def by_hand(house: Rehearsal, side: str, quantity: str) -> None:
    """Trade by hand at the venue, with the same account."""
    house.hand("order", symbol=BTC, side=side, type="market", quantity=quantity)


def found(house: Rehearsal, count: int, *, opening: int = 2) -> list[dict[str, object]]:
    """Wait for so many changes of the account after the opening, and return them."""
    house.so(lambda: len(house.entries("external")) >= opening + count, f"{count} changes are found")
    return [dict(payload) for payload in house.entries("external")[opening:]]


@pytest.mark.fault(26)
@pytest.mark.parametrize("rule", ["halt", "adopt", "ignore"])
def test_a_trade_by_hand_is_found_once_and_treated_by_the_rule(rehearse: Rehearse, rule: str) -> None:
    with rehearse(live={"external": rule}, risk={"max_orders_per_day": 2}) as house:  # so that the account rests
        house.begin()
        house.until_bought(1)
        by_hand(house, "buy", "0.5")
        changes = found(house, 2)
        base = next(change for change in changes if change["asset"] == "BTC")
        quote = next(change for change in changes if change["asset"] == "USDT")
        gain = 0.5 * (1.0 - 0.001)  # less the fee, which is paid in base here
        assert base["ours"] == pytest.approx(gain if rule == "adopt" else 0.0, abs=1e-9)
        assert base["foreign"] == pytest.approx(0.0 if rule == "adopt" else gain, abs=1e-9)
        assert quote["foreign" if rule != "adopt" else "ours"] == pytest.approx(-0.5 * 20_000.0, rel=0.05)
        assert base["halts"] is (rule == "halt")
        candles = len(house.reasons())
        house.so(lambda: len(house.reasons()) >= candles + 3, "three more candles")
        if rule == "halt":
            assert set(house.reasons()[candles + 1 :]) == {"symbol_halted"}
        # Nobody trades against it; what was adopted may take the position a hair above its limit.
        assert sum(float(r["quantity"]) for r in house.traded(side="sell")) < 0.01
        assert len(house.entries("external")) == 4
        house.finish()


@pytest.mark.fault(26)
@pytest.mark.parametrize(("asset", "delta"), [("USDT", "-51000"), ("USDT", "2500"), ("BTC", "0.25")])
def test_a_transfer_is_found_once_and_halts_what_it_concerns(rehearse: Rehearse, asset: str, delta: str) -> None:
    with rehearse() as house:
        house.begin()
        house.until_bought(1)
        house.hand("transfer", asset=asset, delta=delta)
        (change,) = found(house, 1)
        assert change["asset"] == asset
        assert change["ours"] + change["foreign"] == pytest.approx(float(delta))  # type: ignore[operator]
        # 50,000 of 100,000 are somebody else's: they lose first, and we lose what they do not have.
        assert change["ours"] == pytest.approx(min(0.0, float(delta) + 50_000.0))
        assert change["halts"]
        house.so(lambda: house.reasons()[-1] == "symbol_halted", "the symbol is halted")
        house.ask("resume")
        house.so(lambda: house.reasons()[-1] != "symbol_halted", "a person resumes it")
        assert house.traded(side="sell") == []
        house.finish()


@pytest.mark.fault(26)
@pytest.mark.parametrize("when", ["unseen", "while a new stop is on its way"])
def test_a_sale_of_our_coins_by_hand_is_taken_in_and_the_stop_follows(rehearse: Rehearse, when: str) -> None:
    with rehearse() as house:
        house.begin()
        house.until_bought(2)
        house.rest()
        (stop,) = house.stops()
        # A person must end the stop to free the coins, and the daemon puts another one there as soon as it sees that.
        if when == "unseen":
            with house.asleep():
                house.hand("end", client_id=stop["client_id"], state="cancelled")
                by_hand(house, "sell", "0.05")
        else:
            (account,) = house.ready["accounts"]
            sale = {"do": "order", "account": account, "symbol": BTC, "side": "sell", "quantity": "0.05"}
            house.client.fault("POST order", "act", having=STOP, command=sale)
            house.hand("end", client_id=stop["client_id"], state="cancelled")
        found(house, 2)
        house.until_protected()
        assert house.traded(side="sell") == [], "what the person has left is kept"
        house.finish()


@pytest.mark.fault(27)
def test_somebody_elses_order_survives_start_flatten_stop_and_restart(rehearse: Rehearse) -> None:
    with rehearse() as house:
        for client_id, side, price in (("web_1", "buy", "15000"), ("", "buy", "14000")):
            house.hand("order", symbol=BTC, side=side, type="limit", quantity="0.01", price=price, client_id=client_id)
        theirs = {order["order_id"] for order in house.open_orders()}
        house.begin()
        assert "2 open orders of somebody else left alone" in house.log
        house.until_bought(1)
        house.ask("flatten")
        house.so(lambda: house.traded(side="sell") and not house.stops(), "ours is sold")
        house.ask("resume")
        house.until_bought(2)
        house.until_protected()
        house.finish()
        assert theirs <= {order["order_id"] for order in house.open_orders()}


@pytest.mark.fault(28)
def test_a_second_daemon_on_the_same_state_is_refused_and_the_first_goes_on(rehearse: Rehearse) -> None:
    with rehearse() as house:
        first = house.begin()
        house.until_bought(1)
        second = house.live(house.nursery)
        assert second.end() == 78
        assert f"is in use by process {first.pid}: stop that sacd" in house.log
        assert not first.is_over
        house.until_bought(2)
        house.finish()


@pytest.mark.fault(28)
def test_a_copy_of_the_state_on_another_host_finds_orders_it_does_not_know_and_refuses(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.begin()
        house.end()
        elsewhere = house.root / "elsewhere"
        shutil.copytree(house.state, elsewhere)
        house.begin()
        house.until_bought(1)
        house.rest()
        mine = house.config.read_text(encoding="utf-8")
        theirs = mine.replace(str(house.state), str(elsewhere)).replace("house.sock", "elsewhere.sock")
        copy = house.root / "elsewhere.toml"
        copy.write_text(theirs, encoding="utf-8")
        pid = house.nursery.start(copy, clock=house.ready["clock"])
        assert house.nursery.wait(pid, 120.0) == 78
        told = copy.with_suffix(".log").read_text(encoding="utf-8").splitlines()[-1]
        assert "another sacd trades this account under" in told.lower(), told
        # Every order, and every cancel, at the venue is one that the journal of the first one knows.
        house.ask("resume")
        house.until_bought(2)
        house.rest()
        ids = {payload["client_id"] for payload in house.entries("order")}
        assert {order["client_id"] for order in house.venue_orders()} <= ids
        shutil.rmtree(elsewhere)
        house.finish()
