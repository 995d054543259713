"""Lines of the journal as `sacd journal show` prints them: what a live account adds."""

import json

from daemon import records
from daemon.journal_format import decode, encode
from daemon.ports import Entry, External, Record
from daemon.status_text import entry_line
from strategy.order import Order, OrderKind, Side
from strategy.risk import RiskState, SymbolRisk
from tests.fakes import model_steps as steps
from tests.fakes.trading import BTC, ETH


def _stop() -> Order:
    return Order(
        client_id="s-1", symbol=BTC, side=Side.SELL, quantity=0.5, reference_price=95.0, decided_ms=0,
        reason="stop_loss_triggered", reduces=True, kind=OrderKind.STOP, stop_price=95.0,
    )  # fmt: skip


def _external() -> External:
    return External(
        external_id="e-1", asset="BTC", symbol=BTC, ours=-0.25, foreign=0.0, price=100.0, halts=True, at_ms=3,
        detail="looks like somebody sold 0.25 BTC",
    )  # fmt: skip


def _words(record: Record) -> str:
    """The line of a record as a reader of the journal gets it, without number and time."""
    payload = decode(1, encode(record)[1].encode())
    return " ".join(entry_line(Entry(seq=1, at_ms=0, kind=record.kind, payload=payload)).split()[3:])


def test_what_happens_at_a_venue_is_told_in_words() -> None:
    risk = RiskState(symbols={BTC: SymbolRisk(is_closed=True), ETH: SymbolRisk()}, is_cut_off=True)
    assert _words(records.of_stop(_stop())) == "intent BTC/USDT stop 0.5 at 95"
    assert _words(records.of_stop(_stop(), renews=True)).endswith("at 95, in place of one the venue ended")
    sold = records.of_exit(BTC, 0, [_stop()], unprotected=False)
    assert _words(sold) == "exit BTC/USDT sells 0.5 (stop loss triggered)"
    assert _words(records.of_external(_external())) == (
        "external BTC -0.25 ours, +0 somebody else's, halted: looks like somebody sold 0.25 BTC"
    )
    refused = records.of_venue(risk, 0, "the key is refused", pauses=True)
    assert _words(refused) == "venue cut off, closed: BTC/USDT, paused: the key is refused"
    assert _words(records.of_venue(RiskState(symbols={}), 0, "all is well")) == "venue open: all is well"


def test_steps_and_comparisons_of_the_ensembles_are_told_in_words() -> None:
    assert _words(steps.shadowed()) == f"model {steps.NEW} goes into shadow beside {steps.OLD}"
    compared = Record(kind="shadow", payload=steps.compared())
    assert _words(compared) == "shadow shadow, 31 of 200 decisions: new one +0.4 bp per decision, this time +12.0 bp"
    first = Record(kind="shadow", payload=steps.compared("watch", count=0, difference=None, mean=0.0))
    assert _words(first) == "shadow watch, 0 of 200 decisions: new one 0.0 bp per decision"


def test_a_change_that_is_not_ours_comes_back_as_it_was() -> None:
    stored = json.loads(encode(records.of_external(_external()))[1])
    assert records.read_external(stored) == _external()
