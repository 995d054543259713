"""Which feed a configuration means."""

import random

from daemon.config import Config
from daemon.feed_file import FileFeed
from daemon.feed_simulated import SimulatedFeed
from daemon.ports import Clock, Feed
from daemon.rate_budget import RateBudget
from strategy.features import WINDOW

_HISTORY = WINDOW + 100
"""Candles fetched before the first decision: the window, and some for those a venue lacks."""


def make_feed(config: Config, clock: Clock, budget: RateBudget | None = None) -> Feed:
    """Return the feed the configuration names.

    budget: what its requests to an exchange are taken from, where orders need requests too.
    """
    market = config.market
    match market.source:
        case "simulated":
            return SimulatedFeed(
                symbols=market.symbols,
                timeframe=config.timeframe,
                instruments=config.instruments(),
                seed=market.simulated.seed,
                candles_per_second=market.candles_per_second,
                history=_HISTORY,
                clock=clock,
            )
        case "file":
            return FileFeed(
                paths=market.file.paths,
                symbols=market.symbols,
                timeframe=config.timeframe,
                instruments=config.instruments(),
                candles_per_second=market.candles_per_second,
                clock=clock,
                start_ms=market.file.start_ms,
                end_ms=market.file.end_ms,
                history=_HISTORY,
            )
        case "exchange":
            from daemon.feed_ccxt import CcxtFeed  # noqa: PLC0415 - only here, so that its parts load only when used

            return CcxtFeed(
                exchange_id=config.exchange.id,
                ccxt_options=config.exchange.ccxt,
                symbols=market.symbols,
                timeframe=config.timeframe,
                history=_HISTORY,
                clock=clock,
                stale_after_s=config.exchange.stale_after_s,
                grace_s=config.exchange.grace_s,
                generator=random.Random(),  # noqa: S311 - jitter of pauses, no secret
                budget=budget,
                sandbox=config.exchange.sandbox,
            )
