from dataclasses import replace
from typing import Any

import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon import log_sink
from daemon.events import ExitForced, Protected, ReloadOutcome, ShadowMarked
from daemon.log_sink import LogSink
from daemon.model_life import STEPS, Cause, Outcome, Swap, of_confirmed, of_pinned, of_swapping
from daemon.ports import FeedHealth, FeedStatus, Gap, LateCandle, NewSteps, OrderPath, StopLost
from strategy.order import OrderState, Side
from strategy.portfolio import Position
from strategy.risk import TradingState, VerdictReason
from tests.fakes import events
from tests.fakes import model_steps as steps
from tests.fakes.events import BTC


def lines(*published: Any) -> list[dict[str, Any]]:
    with capture_logs() as written:
        sink = LogSink(structlog.get_logger(), journal="state/journal.sqlite")
        for event in published:
            sink.publish(event)
    return [dict(line) for line in written]


def test_candles_of_one_time_are_one_line() -> None:
    written = lines(
        events.taken(BTC, 0, 61_234.1),
        events.taken("ETH/USDT", 0, 4_500.123456789),
        events.decided(events.hold(), 0),
        events.decided(events.hold(symbol="ETH/USDT"), 0),
        events.taken(BTC, 1),
        events.taken(BTC, 2),
        events.marked(events.portfolio()),
    )
    assert [line["event"] for line in written] == ["candle", "decision", "decision", "candle", "candle", "account"]
    assert written[0]["close"] == {BTC: 61_234.1, "ETH/USDT": 4_500.1235}
    assert written[0]["at"] == "2021-11-03 14:00 UTC"


def test_a_decision_says_who_voted_what_and_what_came_of_it() -> None:
    order = events.order()
    (line,) = lines(events.decided(events.approved(order, 0.2, 0.24), stop=events.stop_order(), seq=77))
    assert line["verdict"] == "buys 0.0123 to 24 %"
    assert line["votes"] == [[0.82, 0.5, 0.5], [-0.4, 0.5, 0.5], [0.05, 0.5, 0.5]]
    assert (line["order"], line["quantity"], line["side"]) == ("s-1", 0.0123, "buy")
    assert (line["stop"], line["seq"], line["latency_ms"], line["target"]) == (58_200.0, 77, 1.3, 0.24)


def test_backfill_is_told_once_per_some_hundred_candles() -> None:
    written = lines(*(events.taken(n=n, is_backfill=True) for n in range(1_200)), events.taken(n=1_200))
    assert [(line["event"], line.get("candles")) for line in written] == [("warm_up", 500), ("warm_up", 500)]
    written = lines(*(events.taken(n=n, is_backfill=True) for n in range(700)), events.stopped(events.portfolio()))
    assert [line["event"] for line in written] == ["warm_up", "warm_up", "stopped"]
    assert written[1]["candles"] == 200
    assert written[0]["first"] == "2021-11-03 13:00 UTC"


def test_candles_without_votes_are_warm_up_and_their_account_is_not_told() -> None:
    published: list[Any] = []
    for n in range(600):
        warming = events.hold(VerdictReason.WARMING_UP)
        published += [
            events.taken(n=n),
            events.decided(warming, n, votes=None),
            events.marked(events.portfolio(), None),
        ]
    published += [events.taken(n=600), events.decided(events.hold(), 600), events.marked(events.portfolio())]
    written = lines(*published)
    assert [(line["event"], line.get("candles")) for line in written] == [
        ("warm_up", 500),
        ("warm_up", 100),
        ("candle", None),
        ("decision", None),
        ("account", None),
    ]


def test_a_protective_stop_reads_differently_from_a_sale() -> None:
    stop, sale = lines(
        events.moved(events.stop_order(price=58_200.0), OrderState.OPEN),
        events.moved(events.order(side=Side.SELL), OrderState.FILLED),
    )
    assert (stop["side"], stop["quantity"], stop["stop_price"]) == ("sell", 1.0, 58_200.0)
    assert (sale["side"], sale["quantity"]) == ("sell", 0.0123)
    assert "stop_price" not in sale


def test_a_live_start_says_at_which_exchange_and_whose_money() -> None:
    (line,) = lines(events.started(mode="live", exchange="kraken", money="real"))
    assert (line["log_level"], line["mode"], line["exchange"], line["money"]) == (
        "warning",
        "LIVE",
        "kraken",
        "REAL MONEY",
    )


def test_a_fill_shows_its_slippage_against_the_reference() -> None:
    (line,) = lines(events.fill(events.order(price=60_000.0), price=60_030.0, fee=0.738369123456))
    assert line["event"] == "fill"
    assert line["slippage_bp"] == 5.0  # 30 of 60,000 is 0.05 %
    assert line["fee"] == 0.73836912


def test_trouble_is_a_warning() -> None:
    made = events.order()
    halted = events.risk(TradingState.HALTED, VerdictReason.MAX_DRAWDOWN_EXCEEDED)
    written = lines(
        events.moved(made, OrderState.FILLED),
        events.moved(made, OrderState.REJECTED, detail="no\nfunds"),
        FeedStatus(health=FeedHealth.LIVE),
        FeedStatus(health=FeedHealth.RECONNECTING, detail="timeout"),
        Gap(symbol=BTC, first_ms=events.BEGIN_MS, missing=3),
        LateCandle(candle=events.candle(close=2.0), known=events.candle(close=1.0)),
        events.marked(events.portfolio(), state=halted),
    )
    assert [(line["event"], line["log_level"]) for line in written] == [
        ("order", "info"),
        ("order", "warning"),
        ("feed", "info"),
        ("feed", "warning"),
        ("gap", "warning"),
        ("late_candle", "warning"),
        ("account", "warning"),
    ]
    assert written[1]["detail"] == "no funds"
    assert (written[5]["close"], written[5]["known_close"]) == (2.0, 1.0)
    assert written[6]["why"] == "drawdown limit reached"


def test_real_money_is_said_in_the_first_line() -> None:
    (real,) = lines(events.started(mode="live"))
    assert (real["event"], real["mode"], real["log_level"]) == ("started", "LIVE", "warning")
    (paper,) = lines(events.started())
    assert (paper["mode"], paper["log_level"]) == ("paper", "info")


def test_what_happens_at_a_venue_is_one_line_each_in_words() -> None:
    sold = events.external(ours=-0.1, foreign=0.0, halts=True, detail="0.1 BTC less")
    written = lines(
        OrderPath(is_open=False, detail="no answer for 15 s\nat all"),
        OrderPath(is_open=False, detail="the key is refused", needs_person=True),
        OrderPath(is_open=True),
        sold,
        events.external(foreign=0.0, detail="found at the opening"),
        events.external("", asset="USDT", ours=5.0, foreign=0.0, halts=True, detail="5 USDT more"),
        NewSteps(instruments={BTC: None}, closed=frozenset()),  # type: ignore[dict-item]  # only its name is told
        NewSteps(instruments={}, closed=frozenset({"ETH/USDT", BTC})),
        StopLost(symbol=BTC, detail="expired"),
        StopLost(symbol=BTC, detail="refused", is_last=True),
        ExitForced(order=replace(events.order(side=Side.SELL), reason=VerdictReason.UNPROTECTED.value)),
    )
    assert [(line["event"], line["log_level"], line["detail"]) for line in written] == [
        ("order_path", "warning", "no order can be sent: no answer for 15 s at all"),
        ("order_path", "warning", "no order can be sent: the key is refused; paused until a person resumes"),
        ("order_path", "info", "orders can be sent"),
        (
            "external_change",
            "warning",
            "BTC/USDT: 0.1 BTC less; BTC/USDT takes no new exposure until resumed",
        ),
        ("external_change", "info", "BTC/USDT: found at the opening"),
        ("external_change", "warning", "USDT: 5 USDT more; every symbol takes no new exposure until resumed"),
        ("new_steps", "info", "the steps of BTC/USDT are new"),
        ("new_steps", "warning", "no orders are taken in BTC/USDT, ETH/USDT"),
        ("stop_lost", "warning", "BTC/USDT: the stop is lost, a new one is placed: expired"),
        ("stop_lost", "warning", "BTC/USDT: the stop is lost, the position is sold: refused"),
        ("forced_exit", "warning", "BTC/USDT: sells 0.0123 now: no stop can be placed for it"),
    ]
    assert (written[3]["ours"], written[3]["foreign"], written[3]["change"]) == (-0.1, 0.0, "x-1")


def test_a_stop_that_is_wanted_is_told_with_its_order_alone() -> None:
    assert lines(Protected(symbol=BTC, stop=events.stop_order())) == []


SWAP = Swap(old=steps.OLD, new=steps.NEW, cause=Cause.PROVED, detail="ahead")


def test_every_step_of_the_ensembles_is_a_line_whose_name_stays() -> None:
    written = lines(
        *steps.events(
            steps.found(),
            steps.requested(),
            steps.trained(Outcome.KEPT, reason="no better"),
            steps.requested("b"),
            steps.trained(Outcome.FAILED, "b", reason="out of\nmemory"),
            steps.requested("c"),
            steps.trained(Outcome.CANDIDATE, "c"),
            steps.shadowed(request="c"),
            steps.dropped("behind"),
            of_swapping(SWAP, 0),
            steps.swap_failed(Cause.PROVED, "disk full"),
            steps.serves(),
            of_confirmed(steps.NEW, 0, figures={}),
            of_pinned(0, is_pinned=True, source="hand"),
            steps.serves(steps.OLD, steps.NEW, Cause.ROLLBACK, detail="regret"),
        )
    )
    assert [(line["event"], line["log_level"]) for line in written] == [
        ("model_serves", "info"),
        ("retrain_requested", "info"),
        ("retrain_ended", "info"),
        ("retrain_requested", "info"),
        ("retrain_ended", "warning"),
        ("retrain_requested", "info"),
        ("retrain_ended", "info"),
        ("shadow_begins", "info"),
        ("shadow_ended", "info"),
        ("model_swapping", "info"),
        ("swap_failed", "error"),
        ("model_serves", "info"),
        ("model_confirmed", "info"),
        ("model_pinned", "info"),
        ("model_rolled_back", "error"),
    ]
    assert written[4]["detail"] == "the retraining failed: out of memory"
    assert (written[4]["request"], written[4]["outcome"]) == ("b", "failed")
    assert (written[7]["candidate"], written[7]["incumbent"], written[7]["phase"]) == (steps.NEW, steps.OLD, "shadow")
    assert (written[11]["model"], written[11]["previous"], written[11]["cause"]) == (steps.NEW, steps.OLD, "proved")
    assert (written[13]["is_pinned"], written[13]["source"]) == (True, "hand")
    assert written[14]["detail"] == f"rolled back to {steps.OLD}: regret"


def test_every_kind_of_step_has_a_line() -> None:
    assert set(log_sink._STEPS) == set(STEPS)


def test_a_comparison_is_a_line_per_decision_with_the_probability_that_counts() -> None:
    shadow, watch, first = lines(
        ShadowMarked(payload=steps.compared()),
        ShadowMarked(payload=steps.compared("watch", p_worse=0.31)),
        ShadowMarked(payload=steps.compared(count=0, difference=None)),
    )
    assert (shadow["event"], shadow["decisions"], shadow["of"], shadow["p"]) == ("shadow_compared", 31, 200, 0.22)
    assert (shadow["difference_bp"], shadow["mean_bp"], shadow["lead"]) == (12.0, 0.4, 0.003)
    assert (watch["phase"], watch["p"]) == ("watch", 0.31)
    assert first["difference_bp"] is None


def test_drift_is_told_only_when_it_crosses_its_limit() -> None:
    inside, beyond = events.drifted(0.9), events.drifted(2.5, is_beyond=True, flow_24=7.0)
    written = lines(inside, inside, beyond, beyond, inside, inside)
    assert [(line["event"], line["log_level"]) for line in written] == [
        ("drift_beyond", "warning"),
        ("drift_within", "info"),
    ]
    assert written[0]["joint"] == 2.5
    assert next(iter(written[0]["farthest"].items())) == ("flow_24", 7.0)
    assert written[0]["detail"].startswith("nothing is bought, the market has drifted from the training candles: 2.50")


def test_a_configuration_that_was_taken_is_told_with_every_value_and_one_that_was_not_with_every_mistake() -> None:
    taken, same, restart, invalid = lines(*(events.reloaded(outcome) for outcome in ReloadOutcome))
    assert (taken["event"], taken["log_level"], taken["outcome"]) == ("config_reloaded", "info", "taken")
    assert taken["changes"] == ["risk.max_drawdown 0.15 -> 0.1"]
    assert (same["event"], same["log_level"], same["changes"]) == ("config_reloaded", "info", [])
    assert (restart["event"], restart["log_level"]) == ("config_kept", "error")
    assert restart["restart"] == ["http.port", "market.symbols"]
    assert (invalid["event"], invalid["log_level"]) == ("config_kept", "error")
    assert invalid["mistakes"] == ["risk.x = 1: no such key", "log.level: nonsense"]


def test_the_end_is_summed_up() -> None:
    held = {BTC: Position(quantity=0.05, average_entry=60_000.0, mark=60_000.0)}
    written = lines(events.started(), events.stopped(events.portfolio(7_500.0, **held)))
    assert [line["event"] for line in written] == ["started", "stopped"]
    end = written[1]
    assert end["ran_s"] == 761.0
    assert (end["equity"], end["gain"]) == (10_500.0, 0.05)  # 7,500 + 0.05 x 60,000, began with 10,000
    assert (end["hold_equity"], end["hold_gain"]) == (10_912.02, 0.091202)
    assert (end["decisions"], end["orders"], end["fills"]) == (1_204, 31, 30)
    assert end["positions"] == {BTC: 0.05}
    assert end["journal"] == "state/journal.sqlite"


@given(st.lists(events.any_event, max_size=30))
def test_any_order_of_events_can_be_logged(published: list[Any]) -> None:
    for line in lines(*published):
        assert line["log_level"] in {"info", "warning", "error"}
