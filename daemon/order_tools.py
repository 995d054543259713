"""What every part of the live broker works with."""

from dataclasses import dataclass

from daemon.live_settings import LiveSettings
from daemon.market_book import MarketBook
from daemon.order_path import PathWatch
from daemon.outbox import Outbox
from daemon.ports import Books, Clock
from daemon.retry import Uniform
from daemon.venue import Venue


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The venue, the way to it and what it allows; the books; the operator's settings; time; where news go.

    generator: for the jitter of pauses.
    """

    venue: Venue
    path: PathWatch
    markets: MarketBook
    books: Books
    settings: LiveSettings
    clock: Clock
    generator: Uniform
    outbox: Outbox
