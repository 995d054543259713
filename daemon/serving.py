"""The ensemble that serves: loaded, verified, and turned into what a trader needs."""

from daemon.config import Config
from daemon.errors import ArtifactError
from daemon.models import load_compatible
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


def reference_of(bundle: Bundle) -> Reference:
    """Return the training distribution of a bundle as the trader reads it."""
    stored = bundle.manifest.reference
    return Reference.of(stored.mean, stored.std, stored.limit)
