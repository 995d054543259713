"""What became of a configuration that was read anew, in one line each, and where it is shown."""

import pytest

from daemon.events import ReloadOutcome
from daemon.recent_news import RecentNews
from daemon.wording_config import reload_words
from daemon.wording_live import is_news_trouble, news_words
from tests.fakes import events
from tests.fakes.clock import ManualClock

WORDS = {
    ReloadOutcome.TAKEN: "a.toml is in force from the next candle on: risk.max_drawdown 0.15 -> 0.1",
    ReloadOutcome.UNCHANGED: "a.toml says what is in force already",
    ReloadOutcome.NEEDS_RESTART: "nothing of a.toml was taken: http.port, market.symbols cannot change while sacd "
    "runs: restart it, or set them back",
    ReloadOutcome.INVALID: "nothing of a.toml was taken: 2 mistakes, see the log",
}


@pytest.mark.parametrize("outcome", ReloadOutcome)
def test_each_outcome_is_one_line_that_names_file_and_remedy(outcome: ReloadOutcome) -> None:
    event = events.reloaded(outcome)
    assert reload_words(event) == news_words(event) == WORDS[outcome]
    assert is_news_trouble(event) is (outcome in {ReloadOutcome.NEEDS_RESTART, ReloadOutcome.INVALID})


def test_the_status_shows_it_among_the_news() -> None:
    news = RecentNews(ManualClock(5))
    news.publish(events.reloaded(ReloadOutcome.TAKEN))
    assert news.to_json() == [{"at_ms": 5, "what": WORDS[ReloadOutcome.TAKEN]}]
