"""The ensemble that serves, and what it serves in: trader, broker and engine as every run puts them together."""

from collections.abc import Sequence

from daemon.broker_paper import PaperBroker
from daemon.config import Config
from daemon.engine import Engine, Model
from daemon.errors import ArtifactError
from daemon.fold import Memory
from daemon.models import load_compatible
from daemon.ports import Broker, Clock, Companion, Journal, Sink
from strategy.bundle import Bundle
from strategy.decision import ACTION_RULE_VERSION
from strategy.features import FeatureWindow
from strategy.observation import N_OBSERVATION, OBSERVATION_HASH, OBSERVATION_SCHEMA
from strategy.trader import Reference, Setup, Trader


def load_model(config: Config) -> Bundle:
    """Return the verified ensemble that is to serve. Raises ArtifactError naming what is wrong with it."""
    bundle = load_compatible(
        config.strategy.model,
        feature_schema=OBSERVATION_SCHEMA,
        feature_hash=OBSERVATION_HASH,
        observation_size=N_OBSERVATION,
        action_rule_version=ACTION_RULE_VERSION,
    )
    trained, configured = bundle.manifest.training.timeframe, config.market.timeframe
    if trained != configured:
        raise ArtifactError(
            f"{config.strategy.model}: trained on {trained} candles, [market] timeframe is {configured}: set it to "
            f"{trained}, or train another ensemble"
        )
    return bundle


def make_trader(setup: Setup, bundle: Bundle, cash: float) -> Trader:
    """Return a trader with empty windows for every symbol of `setup`."""
    features = {symbol: FeatureWindow(setup.strategy.max_missing) for symbol in setup.instruments}
    return Trader(setup, features, cash, reference_of(bundle))


def make_engine(
    trader: Trader,
    memory: Memory,
    bundle: Bundle,
    *,
    broker: Broker | None = None,
    journal: Journal,
    clock: Clock,
    sinks: Sequence[Sink],
    cash: float,
    checkpoint_every: int,
    is_live: bool,
    companion: Companion | None = None,
) -> Engine:
    """Return the engine that trades from where `trader` and `memory` stand; parameters as of `Engine`.

    broker: None trades on paper.
    """
    return Engine(
        trader=trader,
        memory=memory,
        model=model_of(bundle),
        broker=_paper(trader, memory, is_live=is_live) if broker is None else broker,
        journal=journal,
        clock=clock,
        sinks=sinks,
        cash=cash,
        checkpoint_every=checkpoint_every,
        is_live=is_live,
        companion=companion,
    )


def _paper(trader: Trader, memory: Memory, *, is_live: bool) -> PaperBroker:
    return PaperBroker(
        instruments=trader.setup.instruments,
        costs=trader.setup.costs,
        funds=lambda: trader.portfolio.cash,
        held=lambda symbol: trader.portfolio.positions[symbol].quantity,
        is_live=is_live,
        last=memory.last.values(),
    )


def model_of(bundle: Bundle) -> Model:
    """Return the ensemble of a bundle as the engine needs it."""
    manifest = bundle.manifest
    return Model(
        id=manifest.short_id,
        voters=bundle.ensemble,
        members=len(manifest.members),
        seen_until_ms=manifest.training.end_ms,
    )


def reference_of(bundle: Bundle) -> Reference:
    """Return the training distribution of a bundle as the trader reads it."""
    stored = bundle.manifest.reference
    return Reference.of(stored.mean, stored.std, stored.limit)
