"""What a start must not do: act on books that are older than the account, or leave what it holds to nobody."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.rehearsal import Rehearsal, Rehearse

CONFIGURATION = 78


@pytest.fixture
def aged(rehearse: Rehearse, tmp_path: Path) -> Iterator[Rehearsal]:
    """Yield a house whose journal knows one purchase, while the account holds three under a stop of their own."""
    with rehearse() as house:
        life = house.begin()
        house.until_bought(1)
        house.until_protected()
        life.kill()
        shutil.copytree(house.state, tmp_path / "copy")
        life = house.begin()
        house.until_bought(3)
        house.rest()  # the copy knows nothing of that
        candles = len(house.reasons())
        house.so(lambda: len(house.reasons()) > candles, "a candle on which nothing was ordered")
        life.kill()
        shutil.rmtree(house.state)
        (tmp_path / "copy").rename(house.state)
        yield house


def test_an_old_copy_of_the_journal_is_refused_before_anything_is_sent(aged: Rehearsal) -> None:
    held, before = aged.total("BTC"), len(aged.client.audit())
    assert aged.begin(is_ready=False).end() == CONFIGURATION
    assert "that the journal does not know" in aged.log
    assert "--accept-recovery" in aged.log
    assert "Traceback" not in aged.log
    assert {record["method"] for record in aged.client.audit(kind="request", after=before)} == {"GET"}
    assert aged.total("BTC") == held


def test_an_old_copy_that_is_accepted_takes_the_account_in_without_selling_any_of_it(aged: Rehearsal) -> None:
    held, before = aged.total("BTC"), len(aged.client.audit())
    aged.life = aged.live(aged.nursery, accept_recovery=True)
    aged.so(lambda: len(aged.client.audit(kind="order", after=before)) > 0, "a stop of this life")
    aged.until_protected()
    assert aged.life.kill(signal.SIGTERM) == 0
    assert [r for r in aged.client.audit(kind="fill", after=before) if r["side"] == "sell"] == []
    assert aged.total("BTC") >= held
    aged.check()


def test_orders_after_an_old_copy_never_bear_the_ids_of_those_that_it_lacks(rehearse: Rehearse, tmp_path: Path) -> None:
    with rehearse() as house:
        house.begin()
        house.until_bought(1)
        house.rest()
        house.end()
        shutil.copytree(house.state, tmp_path / "copy")
        for life in range(2):  # from the same state, and both have to place another stop at their start
            (stop,) = house.stops()
            house.hand("end", client_id=stop["client_id"], state="expired")
            if life == 1:
                shutil.rmtree(house.state)
                (tmp_path / "copy").rename(house.state)
            house.life = house.live(house.nursery, accept_recovery=life == 1)
            house.so(lambda stop=stop: [s for s in house.stops() if s["client_id"] != stop["client_id"]], "a new stop")
            house.end()
        house.finish()


def test_a_start_that_reaches_no_exchange_waits_for_it_where_something_may_be_held(rehearse: Rehearse) -> None:
    with rehearse() as house:
        life = house.begin()
        house.until_bought(1)
        house.until_protected()
        life.kill()
        house.client.do("maintenance", is_down=True)
        house.begin(is_ready=False)
        house.so(lambda: house.log.count('"waiting_for_exchange"') >= 2, "two rounds of attempts")
        house.client.do("maintenance", is_down=False)
        house.so(lambda: house.log.count('"event":"ready"') >= 2, "it trades again")
        house.finish()


def test_a_new_account_that_reaches_no_exchange_is_told_so_at_once(rehearse: Rehearse) -> None:
    with rehearse() as house:
        house.client.do("maintenance", is_down=True)
        assert house.begin(is_ready=False).end() == 1
        assert "sacd: binance could not be reached in 6 attempts" in house.log
        assert not house.journal.exists()
