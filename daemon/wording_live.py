"""What happens beside candles, decisions, orders and fills, in words: for the log, the terminal and the status."""

from typing import assert_never

from daemon import wording, wording_config, wording_models
from daemon.events import CommandTaken, ConfigReloaded, ExitForced, ModelStep
from daemon.ports import DriftMarked, External, NewSteps, OrderPath, StopLost
from strategy.risk import VerdictReason

LiveNews = ExitForced | External | NewSteps | OrderPath | StopLost
News = LiveNews | CommandTaken | ConfigReloaded | ModelStep | DriftMarked
_ASKED = {"disk": "the disk has no room"}
"""Why something was commanded, where no person did."""


def is_trouble(news: LiveNews) -> bool:
    """Tell whether somebody should look at it."""
    match news:
        case OrderPath():
            return not news.is_open
        case External():
            return news.halts or news.ours != 0.0
        case NewSteps():
            return bool(news.closed)
        case ExitForced() | StopLost():
            return True
        case _:
            assert_never(news)


def is_news_trouble(news: News) -> bool:
    """Tell whether somebody should look at it; what a person asked for is known already."""
    match news:
        case CommandTaken():
            return news.source in _ASKED
        case ConfigReloaded():
            return not news.is_in_force
        case ModelStep():
            return wording_models.is_step_trouble(news.payload)
        case DriftMarked():
            return news.is_beyond
        case _:
            return is_trouble(news)


def news_words(news: News) -> str:
    """Return it as one line."""
    match news:
        case CommandTaken():
            why = _ASKED.get(news.source)
            return wording.one_line(news.effect if why is None else f"{why}: {news.effect}")
        case ConfigReloaded():
            return wording.one_line(wording_config.reload_words(news))
        case ModelStep():
            return wording_models.step_words(news.payload)
        case DriftMarked():
            return wording_models.beyond_words(news.joint, news.features, is_beyond=news.is_beyond)
        case _:
            return live_words(news)


def live_words(news: LiveNews) -> str:
    """Return it as one line."""
    match news:
        case OrderPath():
            return wording.one_line(_path_words(news))
        case External():
            halts = f"; {news.symbol or 'every symbol'} takes no new exposure until resumed" if news.halts else ""
            return wording.one_line(f"{news.symbol or news.asset}: {news.detail}{halts}")
        case NewSteps():
            closed = f"no orders are taken in {', '.join(sorted(news.closed))}"
            return closed if news.closed else f"the steps of {', '.join(news.instruments)} are new"
        case StopLost():
            then = "the position is sold" if news.is_last else "a new one is placed"
            return wording.one_line(f"{news.symbol}: the stop is lost, {then}: {news.detail}")
        case ExitForced():
            return _exit_words(news)
        case _:
            assert_never(news)


def _path_words(path: OrderPath) -> str:
    detail = f": {path.detail}" if path.detail else ""
    if path.is_open:
        return f"orders can be sent{detail}"
    return f"no order can be sent{detail}{'; paused until a person resumes' if path.needs_person else ''}"


def _exit_words(news: ExitForced) -> str:
    order = news.order
    return (
        f"{order.symbol}: sells {wording.quantity(order.quantity)} now: {wording.REASONS[VerdictReason(order.reason)]}"
    )
