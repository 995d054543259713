import fcntl
import io
import os
import pty
import select
import struct
import termios
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.segment import Segments

from daemon.events import JournalWritten, Protected, ShadowMarked
from daemon.model_life import Cause, Outcome, of_pinned
from daemon.ports import FeedHealth, FeedStatus, Gap, OrderPath, Record, StopLost
from daemon.terminal import TerminalView
from strategy.order import OrderEvent, OrderState, OrderStatus, Side
from strategy.portfolio import Position
from strategy.risk import TradingState, VerdictReason
from tests.fakes import events
from tests.fakes import model_steps as steps
from tests.fakes.clock import ManualClock
from tests.fakes.events import BTC

SIZES = [(80, 24), (120, 40), (200, 50), (50, 16), (40, 12), (30, 5), (300, 90)]
SIZE_IDS = [f"{width}x{height}" for width, height in SIZES]


def console(width: int, height: int, **options: Any) -> Console:
    return Console(width=width, height=height, force_terminal=True, file=io.StringIO(), **options)


def view_of(*published: Any, width: int = 120, height: int = 40, clock: ManualClock | None = None) -> TerminalView:
    view = TerminalView(console(width, height), clock or ManualClock(), metrics_url="http://127.0.0.1:9464/metrics")
    for event in published:
        view.publish(event)
    return view


def screen(view: TerminalView) -> list[str]:
    return ["".join(segment.text for segment in line) for line in view.lines()]


def screen_of(*published: Any, width: int = 120, height: int = 40) -> str:
    return "\n".join(screen(view_of(*published, width=width, height=height)))


def a_run() -> list[Any]:
    """One symbol held at a gain, one flat; a decision of each kind; an order filled."""
    held = {
        BTC: Position(quantity=0.04, average_entry=60_000.0, mark=61_200.0, high=61_500.0),
        "ETH/USDT": Position(mark=4_500.0),
    }
    account = events.portfolio(8_034.31, peak=10_730.0, wins=12, losses=7, **held)
    bought = events.order()
    return [
        events.started((BTC, "ETH/USDT")),
        FeedStatus(health=FeedHealth.LIVE),
        *(events.taken(BTC, n, 60_000.0 + 50.0 * n) for n in range(25)),
        events.taken("ETH/USDT", 24, 4_500.0),
        events.decided(events.approved(bought, 0.2, 0.24), 24, stop=events.stop_order(price=58_140.0)),
        events.decided(events.refused(VerdictReason.STOP_COOLDOWN, "ETH/USDT"), 24, seq=2),
        events.moved(bought, OrderState.FILLED),
        events.fill(bought),
        JournalWritten(seconds=0.0009, records=3),
        events.marked(account, hold_equity=10_912.02),
    ]


@pytest.mark.parametrize(("width", "height"), SIZES, ids=SIZE_IDS)
def test_every_line_has_exactly_the_width_of_the_screen(width: int, height: int) -> None:
    lines = view_of(*a_run(), width=width, height=height).lines()
    assert len(lines) == height
    assert {sum(segment.cell_length for segment in line) for line in lines} == {width}


@pytest.mark.parametrize(("width", "height"), SIZES[:4], ids=SIZE_IDS[:4])
def test_what_matters_is_on_every_usual_screen(width: int, height: int) -> None:
    shown = screen_of(*a_run(), width=width, height=height)
    for words in (" PAPER ", "paper-1", " ACTIVE ", "10,482.31", "+4.82 %", "10,912.02", "+9.12 %", "2.31 %"):
        assert words in shown  # 8,034.31 + 0.04 x 61,200; 1 - 10,482.31 / 10,730
    for words in ("BTC/USDT", "ETH/USDT", "61,200.00", "refused: cooling down", "Ctrl-C ends"):
        assert words in shown


def test_a_wide_screen_shows_position_stop_votes_and_costs() -> None:
    shown = screen_of(*a_run())
    for words in (
        "feed live",
        "simulated 1h, model 3f9a2c1b7e4d, 3 members",
        "last candle 2021-11-04 14:00 UTC",
        "+2.00 %",  # 61,200 over 60,000 since entry, and over 24 candles
        "58,140.00",
        "-5.0 %",  # from 61,200 down to the stop
        "46.7 %",  # 2,448 of half of 10,482.31
        "up, volatile",
        "▲0.82 ▼0.40 ·0.05",
        "20 → 24 %",
        "buys 0.0123 to 24 %",
        "refused: cooling down after a stop",
        "0.75",
        "+5.0 bp",  # 61,264.72 for a reference of 61,234.10
        "12/7",
        "63 %",  # 12 of 19
        "-4.30 %",  # 10,482.31 - 10,912.02 of 10,000
        "the last in 1.3 ms",
        "http://127.0.0.1:9464/metrics",
    ):
        assert words in shown, words


def test_before_the_first_candle_it_says_what_it_waits_for() -> None:
    assert "sacd is starting" in screen_of()
    shown = screen_of(events.started((BTC, "ETH/USDT", "A/B", "C/D")))
    assert "Waiting for the first 1h candle of BTC/USDT, ETH/USDT, A/B ... from the simulated source" in shown


def test_while_the_window_fills_it_shows_how_far_it_is() -> None:
    filling: list[Any] = [events.started(warm_up=2_400)]
    for n in range(811):
        filling += [events.taken(n=n), events.decided(events.hold(VerdictReason.WARMING_UP), n, votes=None)]
    assert "Warming up: window 812 of 2,401 candles" in screen_of(*filling)
    shown = screen_of(*filling, events.decided(events.hold(), 811))
    assert "Warming up" not in shown
    assert "holds: no clear direction" in shown


@pytest.mark.parametrize(
    ("risk", "words"),
    [
        (events.risk(TradingState.HALTED, VerdictReason.MAX_DRAWDOWN_EXCEEDED), ("HALTED", "drawdown limit reached")),
        (events.risk(TradingState.REDUCING, VerdictReason.DAILY_LOSS_LIMIT), ("REDUCING", "daily loss limit reached")),
        (events.risk(is_paused=True), ("PAUSED", "no new exposure until resumed")),
    ],
)
def test_a_state_that_holds_back_is_named_with_its_reason(risk: Any, words: tuple[str, str]) -> None:
    shown = screen_of(events.started(), events.marked(events.portfolio(), state=risk))
    assert all(word in shown for word in words)
    assert " ACTIVE " not in shown


def test_real_money_is_unmistakable() -> None:
    view = view_of(events.started(mode="live"))
    shown = "\n".join(screen(view))
    assert " LIVE " in shown
    assert "PAPER" not in shown
    (live,) = [segment for segment in view.lines()[0] if segment.text == " LIVE "]
    assert live.style is not None
    assert live.style.bgcolor is not None
    assert live.style.bgcolor.name == "red"


@pytest.mark.parametrize(
    ("money", "words", "colour"),
    [("real", " LIVE, REAL MONEY ", "red"), ("sandbox", " LIVE, SANDBOX ", "dark_orange3"),
     ("local", " LIVE, TEST VENUE ", "dark_orange3")],
)  # fmt: skip
def test_whose_money_it_is_and_where_stands_in_the_title(money: str, words: str, colour: str) -> None:
    view = view_of(events.started(mode="live", exchange="kraken", money=money))
    (badge,) = [segment for segment in view.lines()[0] if segment.text == words]
    assert badge.style is not None
    assert badge.style.bgcolor is not None
    assert badge.style.bgcolor.name == colour
    assert screen(view)[1].strip().startswith("kraken 1h, model")
    assert "stops stay at kraken" in screen(view)[-1]


def live_holding(stop: Any, *more: Any) -> list[Any]:
    held = events.portfolio(5_000.0, **{BTC: Position(quantity=0.1, average_entry=60_000.0, mark=60_000.0)})
    began = events.started(mode="live", exchange="kraken", money="real")
    return [began, events.taken(), events.marked(held), Protected(symbol=BTC, stop=stop), *more]


def test_a_position_without_its_stop_at_the_venue_is_told_until_the_stop_rests() -> None:
    stop = events.stop_order(price=57_123.0)
    sent = events.moved(stop, OrderState.IN_FLIGHT, OrderEvent.SENT)
    rests = events.moved(stop, OrderState.OPEN)
    gone = events.moved(stop, OrderState.EXPIRED, OrderEvent.EXPIRED)
    assert "no stop: BTC/USDT" in screen_of(*live_holding(stop, sent))
    assert "no stop" not in screen_of(*live_holding(stop, sent, rests))
    assert "no stop: BTC/USDT" in screen_of(*live_holding(stop, sent, rests, gone))
    assert "no stop" not in screen_of(*live_holding(None))  # too little is held for one
    known = OrderStatus(order=stop, state=OrderState.OPEN)
    before = events.started(mode="live", money="real", orders=(known,))
    assert "no stop" not in screen_of(before, *live_holding(stop)[1:])  # it rests from before a restart


def test_on_paper_no_stop_has_to_rest_anywhere() -> None:
    told = [events.started(), *live_holding(events.stop_order(price=57_123.0))[1:]]
    assert "no stop" not in screen_of(*told)


def test_a_run_that_is_ending_says_what_it_waits_for() -> None:
    view = view_of(*a_run())
    view.end_begins("SIGINT received")
    assert screen(view)[-1].strip().startswith("Ending, SIGINT received: what is in flight is settled first")


def summary_of(*told: Any) -> str:
    out, view = Console(width=120, file=io.StringIO()), view_of(*told)
    with out.capture() as captured:
        out.print(view.summary(told[-1]))
    return captured.get()


def test_the_summary_of_a_live_run_says_what_protects_what_is_still_held() -> None:
    held = events.portfolio(5_000.0, **{BTC: Position(quantity=0.1, average_entry=60_000.0, mark=60_000.0)})
    stop = events.stop_order(price=57_123.0)
    rests, end = events.moved(stop, OrderState.OPEN), events.stopped(held)
    protected = summary_of(*live_holding(stop, rests), end)
    assert "0.1 of BTC/USDT, its stop at 57,123.00 rests at kraken" in protected
    assert "0.1 of BTC/USDT, and no stop rests at kraken" in summary_of(*live_holding(stop), end)
    assert "0.1 of BTC/USDT, too little for a stop" in summary_of(*live_holding(None), end)
    assert "Still held" not in summary_of(events.started(), events.stopped(events.portfolio()))


@pytest.mark.parametrize(("width", "height"), SIZES, ids=SIZE_IDS)
def test_the_last_news_of_the_venue_is_one_line_below_the_title(width: int, height: int) -> None:
    cut_off = OrderPath(is_open=False, detail="the venue has not answered for 15 s")
    lost = StopLost(symbol=BTC, detail="expired by the venue")
    view = view_of(*a_run(), cut_off, lost, width=width, height=height)
    assert {sum(segment.cell_length for segment in line) for line in view.lines()} == {width}
    shown = screen(view)
    words = "BTC/USDT: the stop is lost, a new one is placed: expired by the venue"
    at, _, told = shown[2].strip().partition("  ")
    assert at == "09-13 12:26"  # when our clock stood there
    assert told.startswith(words[: width - 24])
    assert "no orders" in shown[0] or width < 60
    assert len(shown) == height


# ---- the ensembles ----------------------------------------------------------------------------------------------
def ensembles(*records: Record) -> list[Any]:
    return [*a_run(), *steps.events(steps.found(), *records, members=7)]


IN_SHADOW = (steps.requested(), steps.trained(Outcome.CANDIDATE), steps.shadowed())
MARKED = ShadowMarked(payload=steps.compared())
WATCHED = ShadowMarked(payload=steps.compared("watch", count=12, of=60, lead=-0.012))


def models_line_of(*published: Any, width: int = 120) -> str:
    return screen(view_of(*published, width=width))[2].rstrip()


def test_a_shadow_is_one_line_below_the_title_in_full_where_there_is_room() -> None:
    told = [*ensembles(*IN_SHADOW), MARKED]
    assert models_line_of(*told) == (
        " Candidate 9b1c04d2e7aa in shadow: 31 of about 200 decisions, candidate ahead by 0.4 basis points per"
        " decision, p = 0.22"
    )
    assert models_line_of(*told, width=80) == " Shadow 9b1c04d2e7aa: 31 of about 200 decisions, +0.4 bp each, p = 0.22"
    assert models_line_of(*ensembles(*IN_SHADOW)) == " Candidate 9b1c04d2e7aa in shadow: not compared yet"


def test_a_watch_names_the_new_one_in_the_title_and_how_it_does() -> None:
    told = [*ensembles(*IN_SHADOW, steps.serves()), WATCHED]
    view = screen(view_of(*told, width=80))
    assert "model 9b1c04d2e7aa, 7 members" in view[1]
    assert view[2].rstrip() == " Watched: 12 of 60 decisions, 1.2 % behind the former one"
    # What was compared before the swap says nothing of the watch.
    fresh = [*ensembles(*IN_SHADOW), MARKED, *steps.events(steps.found(), *IN_SHADOW, steps.serves())[-1:]]
    assert models_line_of(*fresh) == " Watched: not compared with the former one yet"


def test_a_retraining_is_told_while_it_runs_also_beside_a_shadow() -> None:
    assert models_line_of(*ensembles(steps.requested())) == (" Retraining since 01-08 00:00, asked for by the schedule")
    beside = [*ensembles(*IN_SHADOW, steps.requested("b", day=9.0)), MARKED]
    assert models_line_of(*beside, width=200).endswith("retraining since 01-10 00:00, asked for by the schedule")
    narrow = models_line_of(*beside, width=80)
    assert narrow.endswith("p = 0.22")  # whole, where there is no room for both


def test_while_nothing_goes_on_no_line_is_spent_on_it() -> None:
    quiet = ensembles(*IN_SHADOW, steps.dropped("not shown to be better"))
    shown = screen_of(*quiet)
    assert "Shadow" not in shown
    assert f"{steps.NEW} is dropped, the incumbent stays: not shown to be better" in shown  # the last news


def test_after_a_restart_it_says_where_the_ensembles_stood() -> None:
    life = steps.life_after(steps.found(), *IN_SHADOW, of_pinned(0, is_pinned=True, source="hand"))
    view = screen(view_of(events.started(life=life, model_id=steps.OLD)))
    assert "model c5a531e4ebf4, 3 members, pinned" in view[1]
    assert view[2].rstrip() == " Candidate 9b1c04d2e7aa in shadow: not compared yet"


def test_a_rollback_is_news_that_somebody_should_look_at() -> None:
    back = steps.serves(steps.OLD, steps.NEW, Cause.ROLLBACK, detail="the former one is ahead by 3.2 %")
    view = view_of(*ensembles(*IN_SHADOW, steps.serves(), back))
    (news,) = [segment for segment in view.lines()[2] if "rolled back" in segment.text]
    assert news.text == f"rolled back to {steps.OLD}: the former one is ahead by 3.2 %"
    assert news.style is not None
    assert news.style.color is not None
    assert news.style.color.name == "dark_orange3"


def test_drift_is_news_once_when_it_crosses_its_limit() -> None:
    beyond = events.drifted(2.5, is_beyond=True)
    told = [events.started(), events.drifted(0.9), beyond]
    assert "the market has drifted from the training candles" in screen_of(*told)
    later = OrderPath(is_open=True)
    assert "the market has drifted" not in screen_of(*told, later, beyond)
    assert "the market is back among the training candles" in screen_of(*told, later, events.drifted(0.9))


def test_an_open_order_path_needs_no_words() -> None:
    assert "no orders" not in screen_of(events.started(mode="live"), OrderPath(is_open=True))


def test_a_stop_of_the_venue_is_shown_beside_its_position() -> None:
    held = events.portfolio(5_000.0, **{BTC: Position(quantity=0.1, average_entry=60_000.0, mark=60_000.0)})
    told = [events.started(mode="live"), events.taken(), events.marked(held)]
    stop = events.stop_order(price=57_123.0)
    assert "57,123.00" in screen_of(*told, Protected(symbol=BTC, stop=stop))
    assert "57,123.00" not in screen_of(*told, Protected(symbol=BTC, stop=stop), Protected(symbol=BTC, stop=None))


def test_a_feed_in_trouble_and_gaps_are_told() -> None:
    trouble = FeedStatus(health=FeedHealth.RECONNECTING, detail="timed\nout")
    shown = screen_of(events.started(), trouble, Gap(symbol=BTC, first_ms=0, missing=2))
    assert "feed reconnecting: timed out" in shown
    assert "0 candles, 1 gap " in shown


def test_of_many_symbols_the_held_and_lately_traded_ones_stay() -> None:
    symbols = tuple(f"COIN{i:02}/USDT" for i in range(30))
    positions = {symbol: Position(mark=1.0) for symbol in symbols}
    positions["COIN29/USDT"] = Position(quantity=5.0, average_entry=1.0, mark=1.0)
    traded = events.order("COIN17/USDT")
    shown = screen_of(
        events.started(symbols),
        *(events.taken(symbol, 0, 1.0) for symbol in symbols),
        events.fill(traded),
        events.marked(events.portfolio(1_000.0, **positions)),
        width=80,
        height=24,
    )
    assert "COIN29/USDT" in shown
    assert "COIN17/USDT" in shown
    assert "COIN28/USDT" not in shown
    n_shown = sum(f"{symbol} " in shown.split("Decisions")[0] for symbol in symbols)
    assert f"{30 - n_shown} more symbols, 0 of them held" in shown


def test_fills_of_one_order_are_one_line_at_their_mean_price() -> None:
    made = events.order(quantity=4.0, price=100.0)
    shown = screen_of(
        events.started(),
        events.decided(events.approved(made, 0.0, 0.1)),
        events.moved(made, OrderState.PARTIALLY_FILLED),
        events.fill(made, price=100.0, fee=0.1, quantity=1.0),
        events.fill(made, price=102.0, fee=0.3, quantity=3.0),
        events.moved(made, OrderState.FILLED),
    )
    orders = shown.split("Orders and fills")[1]
    assert orders.count(BTC) == 1
    assert "101.50" in orders  # (100 + 3 x 102) / 4
    assert "0.40" in orders
    assert "+150.0 bp" in orders


def test_a_resting_stop_is_no_line_of_its_own_until_it_fills() -> None:
    stop = events.stop_order()
    resting = [events.started(), events.decided(events.hold(), stop=stop), events.moved(stop, OrderState.OPEN)]
    assert "none yet" in screen_of(*resting)
    assert "stop filled" in screen_of(*resting, events.fill(stop), events.moved(stop, OrderState.FILLED))


def test_a_rejected_order_shows_the_venues_words_on_one_line() -> None:
    made = events.order(side=Side.SELL)
    shown = screen_of(events.started(), events.moved(made, OrderState.REJECTED, detail="no\r\nfunds\x1b[2J"))
    assert "rejected: no funds [2J" in shown


def test_symbols_of_one_candle_are_listed_in_their_own_order_and_candles_newest_first() -> None:
    shown = screen_of(
        events.started((BTC, "ETH/USDT")),
        events.decided(events.hold(), 0, seq=1),
        events.decided(events.hold(symbol="ETH/USDT"), 0, seq=2),
        events.decided(events.hold(), 1, seq=3),
        events.decided(events.hold(symbol="ETH/USDT"), 1, seq=4),
    ).split("Decision\n")[0]
    listed = [line for line in shown.splitlines() if "no clear direction" in line]
    assert [line.split()[1:3] for line in listed] == [
        ["15:00", BTC],
        ["15:00", "ETH/USDT"],
        ["14:00", BTC],
        ["14:00", "ETH/USDT"],
    ]


def test_of_candles_between_two_decisions_only_the_newest_is_listed() -> None:
    between, reason = [], VerdictReason.BETWEEN_DECISIONS
    for n in (1, 2, 3):
        between += [
            events.decided(events.hold(reason), n, seq=2 * n),
            events.decided(events.hold(reason, "ETH/USDT"), n, seq=2 * n + 1),
        ]
    shown = screen_of(
        events.started((BTC, "ETH/USDT")),
        events.decided(events.hold(), 0, seq=0),
        events.decided(events.hold(symbol="ETH/USDT"), 0, seq=1),
        *between,
    )
    listed = [line for line in shown.splitlines() if "holds" in line]
    assert [line.split()[1:3] for line in listed] == [
        ["17:00", BTC],
        ["17:00", "ETH/USDT"],
        ["14:00", BTC],
        ["14:00", "ETH/USDT"],
    ]


def test_uptime_counts_from_the_start_of_the_view() -> None:
    clock = ManualClock()
    view = view_of(events.started(), clock=clock)
    clock._elapsed_us = 761_000_000
    assert "up 0:12:41" in "\n".join(screen(view))


@pytest.mark.parametrize("close", [1e-12, 3.3e-8, 0.5, 1e9, 1e14], ids=str)
def test_tiny_and_huge_figures_stay_within_their_columns(close: float) -> None:
    symbol = "1000SHIB.PERPETUAL-X/USDT.E-BRIDGED"
    held = {symbol: Position(quantity=1e12, average_entry=close, mark=close)}
    run = [
        events.started((symbol,)),
        *(events.taken(symbol, n, close) for n in range(30)),
        events.decided(events.approved(events.order(symbol, price=close), 0.0, 0.5)),
        events.marked(events.portfolio(1e15, **held)),
    ]
    for width, height in SIZES:
        lines = view_of(*run, width=width, height=height).lines()
        assert {sum(segment.cell_length for segment in line) for line in lines} == {width}


def test_equity_that_falls_from_green_to_red_is_drawn_to_its_ends() -> None:
    run = [events.started()]
    run += [events.marked(events.portfolio(cash)) for cash in (10_000.0, 11_000.0, 10_500.0, 9_000.0)]
    shown = screen_of(*run)
    assert "11,000.00" in shown  # the highest
    assert "9,000.00" in shown.split("Market")[0]  # the lowest
    assert "█" in shown


def test_a_terminal_without_unicode_gets_plain_characters() -> None:
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    view = TerminalView(Console(width=120, height=40, force_terminal=True, file=plain), ManualClock())
    for event in a_run():
        view.publish(event)
    shown = "\n".join(screen(view))
    assert shown.isascii()
    assert "^0.82 v0.40 .0.05" in shown
    assert "20 > 24 %" in shown


def test_without_colours_everything_is_still_said() -> None:
    bare = console(120, 40, no_color=True)
    view = TerminalView(bare, ManualClock())
    for event in a_run():
        view.publish(event)
    with bare.capture() as captured:
        bare.print(Segments([segment for line in view.lines() for segment in line]), crop=False, end="")
    assert "\x1b[3" not in captured.get()  # no foreground colour
    assert " PAPER " in captured.get()


def test_the_summary_tells_the_run_in_a_few_lines() -> None:
    out = console(100, 40)
    view = TerminalView(out, ManualClock(), journal="/var/lib/sacd/journal.sqlite")
    end = events.stopped(events.portfolio(10_482.31, peak=10_730.0, wins=12, losses=7))
    view.publish(events.started())
    view.publish(end)
    with out.capture() as captured:
        out.print(view.summary(end))
    told = captured.get()
    for words in (
        "interrupted",
        "0:12:41",
        "1,204 decisions, 31 orders, 30 fills",
        "10,482.31 USDT",
        "+4.82 %",
        "10,912.02 USDT",
        "+9.12 %",
        "2.31 %",
        "12 won, 7 lost",
        "/var/lib/sacd/journal.sqlite",
        "it continues",
    ):
        assert words in told, words


@settings(max_examples=150, deadline=None)
@given(st.lists(events.any_event, max_size=25), st.integers(20, 220), st.integers(1, 60))
def test_painting_survives_any_order_of_events(published: list[Any], width: int, height: int) -> None:
    view = view_of(*published, width=width, height=height)
    for at in range(2):
        lines = view.lines()
        assert len(lines) == height, at
        assert {sum(segment.cell_length for segment in line) for line in lines} == {width}
        assert not any(ord(c) < 32 for line in lines for segment in line for c in segment.text)


# ---- on a real terminal -----------------------------------------------------------------------------------------
class Terminal:
    """A pseudo-terminal of 100 x 30 and what was written to it."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.file = os.fdopen(slave, "w", encoding="utf-8")
        self.console = Console(file=self.file, force_terminal=True, width=100, height=30)
        self.written = b""

    def read_until(self, words: bytes) -> None:
        until = time.monotonic() + 10.0
        while words not in self.written:
            left = until - time.monotonic()
            assert left > 0.0, f"{words!r} was not written: {self.written[-2000:]!r}"
            if select.select([self.master], [], [], left)[0]:
                self.written += os.read(self.master, 65_536)


def test_the_terminal_is_taken_painted_and_given_back() -> None:
    terminal = Terminal()
    view = TerminalView(terminal.console, ManualClock())
    view.start()
    view.start()  # changes nothing
    for event in a_run():
        view.publish(event)
    terminal.read_until(b"10,482.31")
    view.publish(events.stopped(events.portfolio()))
    view.stop()
    view.stop()  # changes nothing
    terminal.read_until(b"it continues")
    taken, back = terminal.written.index(b"\x1b[?1049h"), terminal.written.index(b"\x1b[?1049l")
    assert taken < terminal.written.index(b"PAPER") < back < terminal.written.index(b"1,204 decisions")
    assert terminal.written.index(b"\x1b[?25h") > terminal.written.index(b"\x1b[?25l")  # the cursor is back
    assert not [thread for thread in threading.enumerate() if thread.name == "terminal"]


def test_a_terminal_that_takes_no_output_holds_up_neither_publishing_nor_the_end() -> None:
    terminal = Terminal()
    view = TerminalView(terminal.console, ManualClock())
    view.publish(events.started())
    termios.tcflow(terminal.file.fileno(), termios.TCOOFF)  # what Ctrl-S does
    view.start()
    began = time.monotonic()
    for event in a_run() * 20:
        view.publish(event)
    view.stop()
    assert time.monotonic() - began < 5.0
    termios.tcflow(terminal.file.fileno(), termios.TCOON)
    terminal.read_until(b"\x1b[?1049l")


def test_a_terminal_that_goes_away_ends_only_the_painting() -> None:
    terminal = Terminal()
    view = TerminalView(terminal.console, ManualClock())
    view.publish(events.started())
    os.close(terminal.master)
    view.start()
    for event in a_run():
        view.publish(event)
    view.publish(events.stopped(events.portfolio()))
    view.stop()
    assert "10,482.31" in "\n".join(screen(view))


def test_what_is_not_a_terminal_is_told_apart() -> None:
    assert TerminalView.suits(console(80, 24))
    assert not TerminalView.suits(Console(file=io.StringIO()))
