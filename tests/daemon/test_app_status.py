"""What `sacd status` says of a live account, as an object and as a person reads it."""

import io
from typing import Any

from rich.console import Console

from daemon.app_status import Account, status
from daemon.events import CommandTaken
from daemon.health import Health
from daemon.model_life import Cause, Outcome, of_pinned
from daemon.models_status import DriftStatus, ModelsStatus
from daemon.ports import External, FeedHealth, FeedStatus, OrderPath, StopLost
from daemon.recent_news import RecentNews
from daemon.status_text import status_table
from strategy.order import OrderEvent
from tests.daemon.engines import BUY, HOLD, LiveRig, filled, make_live_rig, make_rig, report
from tests.fakes import events
from tests.fakes import model_steps as steps
from tests.fakes.trading import BTC

LIVE = Account(instance="main", mode="live", exchange="binance", money="real")


class Asked:
    """A live account and what it answers. models: where its ensembles stand, None where nobody looks after them."""

    def __init__(self, models: ModelsStatus | None = None) -> None:
        self.models = models
        self.rig: LiveRig = make_live_rig()
        self.news = RecentNews(self.rig.clock)
        self.health = Health(self.rig.clock, is_live=True, candle_interval_s=3_600.0)
        self.rig.engine._sinks = [self.rig, self.news, self.health]

    async def buy(self) -> None:
        await self.rig.start()
        await self.rig.tell(_external("USDT", "", foreign=250.0), _external("BTC", BTC, foreign=0.5))
        self.rig.voice.say(BUY)
        await self.rig.candle()
        self.rig.voice.say(HOLD)

    async def protect(self) -> None:
        stop = self.rig.stop()
        assert stop is not None
        await self.rig.tell(report(stop, OrderEvent.SENT), report(stop, OrderEvent.ACCEPTED))

    def answer(self) -> dict[str, Any]:
        return status(self.rig.engine, self.health, LIVE, self.news, self.models)

    def shown(self, width: int = 160) -> str:
        return shown(self.answer(), width)


def shown(answer: dict[str, Any], width: int = 160) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(status_table(answer))
    return capture.get()


def _external(asset: str, symbol: str, **changes: Any) -> External:
    values: dict[str, Any] = {
        "external_id": f"x-{asset}", "asset": asset, "symbol": symbol, "ours": 0.0, "foreign": 0.0,
        "price": 1.0, "halts": False, "at_ms": 7, "detail": "found at the opening",
    }  # fmt: skip
    return External(**(values | changes))


def row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name))


async def test_it_says_whose_money_it_is_and_what_of_the_account_is_not_ours() -> None:
    asked = Asked()
    await asked.buy()
    assert row(asked.shown(), "account").split(maxsplit=1)[1].strip() == "main, live at binance, REAL MONEY"
    assert row(asked.shown(), "not ours").split(maxsplit=2)[2].strip() == "250 USDT, 0.5 BTC"
    assert asked.answer()["foreign"] == {"USDT": 250.0, "BTC": 0.5}


async def test_an_order_in_flight_is_told_and_a_resting_stop_is_not_one() -> None:
    asked = Asked()
    await asked.buy()
    (order,) = asked.rig.orders
    assert f"buy {order.quantity:g} {BTC} (intended)" in row(asked.shown(), "in flight")
    await asked.rig.tell(report(order, OrderEvent.SENT), filled(order))
    await asked.protect()
    answer = asked.answer()
    assert answer["orders_in_flight"] == 0
    assert [(known["kind"], known["state"]) for known in answer["orders"]] == [("stop", "open")]
    assert row(asked.shown(), "in flight").split()[2:] == ["nothing"]


async def test_what_no_stop_protects_at_the_venue_is_told_until_one_rests() -> None:
    asked = Asked()
    await asked.buy()
    (order,) = asked.rig.orders
    await asked.rig.tell(report(order, OrderEvent.SENT), filled(order))
    assert asked.answer()["positions"][BTC]["stop_at_venue"] == 0.0
    assert "NO STOP" in row(asked.shown(), BTC)
    await asked.protect()
    assert asked.answer()["positions"][BTC]["stop_at_venue"] == order.quantity
    assert row(asked.shown(), BTC).split()[-1] == f"{order.quantity:g}"
    await asked.rig.tell(StopLost(symbol=BTC, detail="gone"))
    assert "the stop is lost" in row(asked.shown(), "lately")


async def test_every_reason_why_nothing_is_bought_is_told_and_why_it_came_to_that() -> None:
    asked = Asked()
    await asked.buy()
    await asked.rig.tell(_external("BTC", BTC, external_id="x-2", foreign=0.1, halts=True, detail="0.1 BTC more"))
    await asked.rig.tell(OrderPath(is_open=False, detail="the key is refused", needs_person=True))
    told = asked.answer()
    assert told["no_exposure"] == [
        "no new exposure until resumed",
        "no new exposure: the venue takes no orders",
        f"no new exposure in {BTC} until resumed",
    ]
    text = asked.shown()
    assert all(why in text for why in told["no_exposure"])
    assert [news["what"] for news in told["news"]][:2] == [
        "no order can be sent: the key is refused; paused until a person resumes",
        f"{BTC}: 0.1 BTC more; {BTC} takes no new exposure until resumed",
    ]


async def test_text_of_the_exchange_is_shown_as_it_stands() -> None:
    asked = Asked()
    await asked.buy()
    asked.health.publish(FeedStatus(health=FeedHealth.RECONNECTING, detail="history of BTC/USDT: [exchange] no [bold]"))
    assert "history of BTC/USDT: [exchange] no [bold]" in asked.shown()


def test_the_disk_is_told_as_the_reason_of_a_pause_that_nobody_asked_for() -> None:
    news = RecentNews(make_live_rig().clock)
    news.publish(CommandTaken(verb="pause", source="disk", effect="paused: no new exposure"))
    news.publish(CommandTaken(verb="resume", source="socket", effect="trading"))
    assert [told["what"] for told in news.to_json()] == ["trading", "the disk has no room: paused: no new exposure"]


def test_only_the_last_news_are_kept() -> None:
    news = RecentNews(make_live_rig().clock)
    for n in range(25):
        news.publish(CommandTaken(verb="pause", source="socket", effect=str(n)))
    assert [told["what"] for told in news.to_json()] == [str(n) for n in range(24, 14, -1)]


# ---- the ensembles ----------------------------------------------------------------------------------------------
IN_SHADOW = (steps.found(), steps.requested(), steps.trained(Outcome.CANDIDATE), steps.shadowed())
DRIFT = DriftStatus(joint=0.84, limit=2.0, features=(("return_1", 3.14), ("flow_24", 2.0), ("skew_384", 1.0)))


def words_of(text: str, name: str) -> str:
    return row(text, name).removeprefix(name).strip()


async def test_a_shadow_is_shown_with_its_progress_and_what_comes_next() -> None:
    life = steps.life_after(*IN_SHADOW, of_pinned(0, is_pinned=True, source="hand"))
    models = ModelsStatus.of(life, steps.compared(), horizon=200, next_retrain_ms=steps.at(14), drift=DRIFT)
    asked = Asked(models)
    await asked.rig.start()
    text = asked.shown()
    assert words_of(text, "incumbent") == f"{steps.OLD}, serves since 2024-01-01 00:00 UTC, pinned"
    assert words_of(text, "candidate") == f"{steps.NEW}, in shadow"
    assert words_of(text, "shadow") == (
        "31 of about 200 decisions, candidate ahead by 0.4 basis points per decision, p = 0.22"
    )
    assert words_of(text, "last retrain") == (f"2024-01-08 00:00 UTC, by the schedule: passed the gate ({steps.NEW})")
    assert words_of(text, "next retrain") == "2024-01-15 00:00 UTC"
    assert words_of(text, "drift") == "0.84, limit 2; farthest return_1 3.14, flow_24 2.00, skew_384 1.00"
    assert asked.answer()["models"] == models.to_json()
    assert not [line for line in text.splitlines() if line.startswith(("ensemble", "watch", "trainer", "previous"))]


async def test_a_watch_is_shown_with_the_former_one_and_a_running_trainer() -> None:
    life = steps.life_after(*IN_SHADOW, steps.serves(), steps.requested("b", day=45.0))
    compared = steps.compared("watch", count=12, of=60, lead=0.003)
    asked = Asked(ModelsStatus.of(life, compared, horizon=60, progress="member 3 of 5\x1b[2J"))
    await asked.rig.start()
    text = asked.shown()
    assert words_of(text, "incumbent") == f"{steps.NEW}, serves since 2024-02-10 00:00 UTC"
    assert words_of(text, "previous") == steps.OLD
    assert words_of(text, "watch") == "12 of 60 decisions, 0.3 % ahead of the former one"
    assert words_of(text, "last retrain") == "2024-02-15 00:00 UTC, by the schedule: under way"
    assert words_of(text, "trainer") == "member 3 of 5 [2J"


async def test_where_nobody_looks_after_the_ensembles_the_one_that_serves_is_shown() -> None:
    asked = Asked()
    await asked.rig.start()
    assert words_of(asked.shown(), "ensemble") == "m" * 16


def test_steps_of_the_ensembles_and_a_crossed_drift_limit_are_news() -> None:
    news = RecentNews(make_live_rig().clock)
    back = steps.serves(steps.OLD, steps.NEW, Cause.ROLLBACK, detail="regret")
    for event in (*steps.events(steps.found(), back), events.drifted(0.5), events.drifted(2.5, is_beyond=True)):
        news.publish(event)
    news.publish(events.drifted(2.6, is_beyond=True))
    told = [told["what"] for told in news.to_json()]
    assert told[1:] == [f"rolled back to {steps.OLD}: regret", f"{steps.OLD} serves: the first run"]
    assert told[0].startswith("nothing is bought, the market has drifted from the training candles: 2.50")


async def test_on_paper_nothing_is_said_of_a_venue() -> None:
    rig = make_rig()
    rig.voice.say(BUY)
    await rig.candle()
    await rig.candle()
    health = Health(rig.clock, is_live=False, candle_interval_s=0.0)
    told = status(rig.engine, health, Account(instance="p", mode="paper"), RecentNews(rig.clock), None)
    assert (told["money"], told["exchange"], told["foreign"]) == (None, None, None)
    assert told["positions"][BTC]["stop_at_venue"] is None
    text = shown(told)
    assert "at the venue" not in text
    assert "not ours" not in text
    assert row(text, "account").split(maxsplit=1)[1].strip() == "p, paper"
