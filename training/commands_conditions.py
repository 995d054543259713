"""The options for everything tunable that a simulated account trades under: `backtest` and `evaluate` share them."""

import argparse
from dataclasses import fields, replace
from typing import Any

from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from training.market import Conditions

MEANINGS = {
    "dead_band": "share of the symbol's capital; smaller changes are not traded",
    "edge_multiple": "round-trip costs that a new position must expect to move, 0: not asked",
    "edge_horizon": "candles within which it must",
    "disagreement_limit": "spread of the members' votes, 0 .. 1, above which nothing is done",
    "volatility_target": "annualised, as a share; caps the position",
    "max_missing": "candles the feature window may lack",
    "decide_every": "candles between two decisions",
    "decide_offset": "candles after 00:00 UTC that decisions are counted from",
    "max_position": "share of the symbol's capital",
    "max_drawdown": "fall from the peak, as a share, that sells everything and halts",
    "stop_loss": "share below the average entry",
    "stop_atr_multiple": "average true ranges below the highest close, 0: no such stop",
    "stop_cooldown": "candles without new exposure after a stop",
    "daily_loss": "loss since 00:00 UTC, as a share, after which exposure may only fall",
    "max_orders_per_day": "orders of the account",
    "max_turnover_per_day": "traded value in multiples of equity",
    "loss_streak": "losing round trips in a row",
    "loss_streak_cooldown": "candles without new exposure after them",
    "halt_cooldown": "candles after which a halt ends by itself, 0: it does not",
    "out_of_distribution": "distance from what training saw, 1 is its edge",
    "stale_feed_s": "seconds of silence of a live feed",
    "clock_skew_s": "seconds between our clock and the venue's",
    "fee_rate": "share of the traded value",
    "slippage_rate": "share of the price that a fill is worse",
    "participation": "share of a candle's volume one order may take",
}
"""What each parameter counts, shortly; strategy/parameters.py says it in full, with ranges."""


def add_conditions(parser: argparse.ArgumentParser) -> None:
    """Declare an option for each parameter; what is not given is what the ensemble was trained under."""
    for title, record in (("strategy", StrategyParameters), ("risk", RiskLimits), ("costs", CostModel)):
        group = parser.add_argument_group(title)
        for field in fields(record):
            option = f"--{field.name.replace('_', '-')}"
            meaning = f"{MEANINGS[field.name]} (default: what the ensemble was trained under)"
            group.add_argument(option, type=type(field.default), metavar="VALUE", help=meaning)


def changed_by(args: argparse.Namespace, base: Conditions) -> Conditions:
    """Return `base` with what was given changed. Raises InvalidParameters for a value out of its range."""

    def changed(record: Any) -> Any:  # noqa: ANN401 - one of the three records
        given = {f.name: getattr(args, f.name) for f in fields(record) if getattr(args, f.name) is not None}
        return replace(record, **given)

    return Conditions(strategy=changed(base.strategy), limits=changed(base.limits), costs=changed(base.costs))
