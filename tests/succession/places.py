"""Places for whole lives of ensembles: a planted market in files, a registry, and a configuration for the daemon."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon.models import set_current
from strategy.candle import Candle
from tests.fakes.serving import SYMBOLS, Place, write_csv
from tests.succession.planted import (
    COSTS,
    FIRST_MS,
    HOUR_MS,
    LIMITS,
    STRATEGY,
    WARM_UP,
    Kind,
    planted_candles,
    write_ensemble,
)

_CURRENT = "current"
RETRAIN: Mapping[str, Any] = {
    "steps": 400,
    "holdout_days": 30.0,
    "shadow_decisions": 100,
    "shadow_least": 20,
    "watch_decisions": 60,
    "regret_limit": 0.03,
}
"""Short enough for a test: a shadow that proves itself, and a watch that takes back, within some hundred candles."""


@dataclass(frozen=True, kw_only=True)
class PlantedPlace:
    """Where one account lives through the flip of a planted market.

    start_ms: of the first candle that is decided on.  flip_ms: of the first one of the other regime.  candles: of each
    symbol, in order, from FIRST_MS on.
    """

    place: Place
    start_ms: int
    flip_ms: int
    candles: Sequence[Sequence[Candle]]

    @property
    def registry(self) -> Path:
        return self.place.root / "models"

    @property
    def current(self) -> str:
        """Short id of the one that the registry says serves."""
        return (self.registry / _CURRENT).readlink().name

    def add(self, kind: Kind) -> str:
        """Write an ensemble into the registry; returns its short id."""
        return write_ensemble(self.registry, kind, self.candles)

    def configure(self, **changes: Mapping[str, Any]) -> Path:
        """Write the configuration, with `changes` to its sections; returns its path."""
        start = datetime.fromtimestamp(self.start_ms / 1_000, UTC).isoformat()
        sections: dict[str, Any] = {
            "market.file": {"start": start},
            "strategy": {**STRATEGY.to_json(), "model": str(self.registry / _CURRENT)},
            "risk": LIMITS.to_json(),
            "execution": COSTS.to_json(),
            "retrain": RETRAIN,
        }
        merged = {name: {**sections.get(name, {}), **values} for name, values in changes.items()}
        return self.place.configure(**{**sections, **merged})


def make_planted(
    root: Path,
    *,
    before: int = 800,
    after: int = 400,
    incumbent: Kind = Kind.TIMID,
    symbols: Sequence[str] = SYMBOLS,
    seed: int = 0,
) -> PlantedPlace:
    """Return a place whose daemon decides on `before` candles of each symbol, and on `after` more once it has flipped.

    Its registry holds the incumbent alone, which serves.
    """
    flip = WARM_UP + before
    candles = [planted_candles(symbol, flip + after, flip, seed) for symbol in symbols]
    files = {
        symbol: write_csv(root / f"{symbol.replace('/', '').lower()}-1h.csv", own)
        for symbol, own in zip(symbols, candles, strict=True)
    }
    registry = root / "models"
    name = write_ensemble(registry, incumbent, candles)
    set_current(registry, name)
    made = PlantedPlace(
        place=Place(root=root, model=registry / name, files=files),
        start_ms=FIRST_MS + WARM_UP * HOUR_MS,
        flip_ms=FIRST_MS + flip * HOUR_MS,
        candles=candles,
    )
    made.configure()
    return made
