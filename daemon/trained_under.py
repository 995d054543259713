"""How the configuration differs from what the ensemble was trained under: its votes mean something else then."""

from collections.abc import Iterator, Mapping
from typing import Any

from daemon.config import Config
from strategy.manifest import BundleManifest

_FIRST = ("strategy.decide_every", "risk.max_position")
"""What changes most of all what a vote does."""
_SECTIONS = {"strategy": "strategy", "risk": "risk", "costs": "execution"}
"""Names of the records in a manifest and in the configuration."""


def conditions_changed(config: Config, manifest: BundleManifest) -> tuple[str, ...]:
    """Return a line for each value that is not the one the ensemble was trained under, what matters most first."""
    return tuple(sorted(_changed(config, manifest), key=lambda line: not line.startswith(_FIRST)))


def _changed(config: Config, manifest: BundleManifest) -> Iterator[str]:
    ours = {
        "strategy": config.strategy_parameters().to_json(),
        "risk": config.risk_limits().to_json(),
        "costs": config.cost_model().to_json(),
    }
    for name, section in _SECTIONS.items():
        theirs: Mapping[str, Any] = getattr(manifest, name)
        for key, value in ours[name].items():
            if key not in theirs:
                yield f"{section}.{key} = {value}, of which the ensemble tells nothing"
            elif value != theirs[key]:
                yield f"{section}.{key} = {value}, trained under {theirs[key]}"
