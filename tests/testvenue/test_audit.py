"""What the audit keeps, and the invariants read from it, on runs that can be counted by hand."""

import json
from pathlib import Path

from daemon.testvenue.audit import Audit
from daemon.testvenue.audit_checks import naked_seconds, naked_spans, orders_by_client_id, position, read, requests
from daemon.testvenue.orders import OrderType
from tests.testvenue.venues import KEY, SECRET, SYMBOL, D, Hands, served, trading

RULES = {"lot": D("0.00001"), "min_value": D(5)}


class Audited(Hands):
    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self.audit = Audit(now_ms=lambda: self.now_ms, name_of=lambda key: key, path=path)
        self.book.listen(self.audit.hear)
        self.account(USDT=10_000)

    def wait(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1_000)


def test_a_position_is_naked_until_its_stop_stands_and_again_when_it_is_gone() -> None:
    run = Audited()
    run.place("buy", OrderType.MARKET, 1)
    run.wait(1.5)
    stop = run.place("sell", OrderType.STOP, "0.999", stop_price=95)
    run.wait(100)
    run.book.cancel("A", stop)
    run.wait(0.25)
    run.place("sell", OrderType.MARKET, "0.999")
    run.wait(100)
    spans = naked_spans(run.audit.records, SYMBOL, **RULES)
    assert [(span.start_ms, span.end_ms) for span in spans] == [
        (run.now_ms - 201_750, run.now_ms - 200_250),
        (run.now_ms - 100_250, run.now_ms - 100_000),
    ]
    assert naked_seconds(run.audit.records, SYMBOL, **RULES, until_ms=run.now_ms) == 1.75


def test_a_position_without_a_stop_is_naked_to_the_end() -> None:
    run = Audited()
    run.place("buy", OrderType.MARKET, 1)
    run.wait(3)
    assert naked_seconds(run.audit.records, SYMBOL, **RULES, until_ms=run.now_ms) == 3.0


def test_dust_and_what_was_bought_by_hand_need_no_stop() -> None:
    run = Audited()
    run.place("buy", OrderType.MARKET, "0.06")
    run.place("sell", OrderType.LIMIT, "0.0501", price="99.99")
    run.place("buy", OrderType.MARKET, 1, is_api=False)
    run.wait(3)
    # 0.06 less its fee less 0.0501 is 0.00984 BTC: worth a dollar
    assert naked_seconds(run.audit.records, SYMBOL, **RULES, until_ms=run.now_ms) == 0.0


def test_the_position_counts_fees_and_can_leave_out_what_was_done_by_hand() -> None:
    run = Audited()
    run.place("buy", OrderType.MARKET, 2)
    run.place("sell", OrderType.MARKET, "0.5")
    run.place("buy", OrderType.MARKET, 1, is_api=False)
    assert position(run.audit.records, SYMBOL) == D("1.998") - D("0.5") + D("0.999")
    assert position(run.audit.records, SYMBOL, only_api=True) == D("1.498")
    assert position(run.audit.records, SYMBOL) == run.held()["BTC"][0]


def test_orders_are_grouped_by_client_id() -> None:
    run = Audited()
    for client_id in ("one", "two", "two"):
        run.place("buy", OrderType.MARKET, 1, client_id=client_id)
    assert {key: len(found) for key, found in orders_by_client_id(run.audit.records).items()} == {"one": 1, "two": 2}


def test_the_file_holds_what_memory_holds_and_survives_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    run = Audited(path)
    run.place("buy", OrderType.MARKET, 1)
    run.audit.close()
    assert read(path) == json.loads(json.dumps(run.audit.records))
    assert [record["seq"] for record in read(path)] == list(range(1, len(run.audit.records) + 1))
    path.write_text(path.read_text(encoding="utf-8")[:-5], encoding="utf-8")
    assert len(read(path)) == len(run.audit.records) - 1


async def test_every_request_is_kept_and_no_secret_is(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with served(audit_path=path) as venue, trading(venue) as exchange:
        await exchange.create_order(SYMBOL, "market", "buy", 1, params={"clientOrderId": "mine"})
        await exchange.fetch_balance()
        venue.control({"do": "account", "key": "OTHERKEY", "secret": "OTHERSECRET", "balances": {}})
    (sent,) = requests(read(path), "POST", "/order")
    assert sent["params"]["newClientOrderId"] == "mine"
    assert sent["weight"] == 1
    assert len(requests(read(path), "GET", "/account")) == 1
    text = path.read_text(encoding="utf-8")
    assert not [word for word in (KEY, SECRET, "OTHERKEY", "OTHERSECRET", "signature") if word in text]
