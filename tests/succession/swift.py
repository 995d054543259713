"""A planted place where everything comes within three hundred candles: a shadow, a swap, regret and a rollback."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.fakes.serving import write_csv
from tests.succession.places import PlantedPlace, make_planted
from tests.succession.planted import HOUR_MS, WARM_UP, Kind

BEFORE, AFTER = 185, 120
"""Candle times that are decided on."""
SHADOW_AFTER = 5
"""Candle times after which the candidate goes into shadow."""
RETRAIN: Mapping[str, Any] = {
    "shadow_alpha": 0.2,
    "shadow_least": 5,
    "regret_limit": 0.02,
    "drift_limit": 0.05,
    "drift_candles": 200,
}
"""A small lead proves enough, and slow trends count as a drift."""
_GAPS = ((40, 41, 190), (90, 190, 240))
"""Candles that each of the symbols lacks, counted from the first that is decided on; one of them both do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Swift:
    """A planted place with the candidate that wins before the flip and loses after it."""

    planted: PlantedPlace
    incumbent: str
    candidate: str

    @property
    def root(self) -> Path:
        return self.planted.place.root

    @property
    def shadow_ms(self) -> int:
        """Open time of the first candle that both trade."""
        return self.planted.start_ms + SHADOW_AFTER * HOUR_MS

    @property
    def registry(self) -> Path:
        return self.planted.registry

    @property
    def journal(self) -> Path:
        return self.planted.place.journal()

    @property
    def config(self) -> Path:
        return self.planted.place.config

    def configure(self, **changes: Mapping[str, Any]) -> Path:
        """Write the configuration, with `changes` to its sections; returns its path."""
        return self.planted.configure(**{**changes, "retrain": {**RETRAIN, **changes.get("retrain", {})}})

    def copied(self, root: Path, **changes: Mapping[str, Any]) -> Self:
        """Return a copy of the registry and of the account as they lie there, in another directory."""
        for name in ("models", "var"):
            if (self.root / name).exists():
                shutil.copytree(self.root / name, root / name, symlinks=True)
        place = dataclasses.replace(self.planted.place, root=root, model=root / "models" / self.incumbent)
        copy = dataclasses.replace(self, planted=dataclasses.replace(self.planted, place=place))
        copy.configure(**changes)
        return copy


def make_swift(root: Path, **changes: Mapping[str, Any]) -> Swift:
    """Return such a place; nothing has been traded there yet."""
    planted = make_planted(root, before=BEFORE, after=AFTER)
    for (path, gaps), candles in zip(
        zip(planted.place.files.values(), _GAPS, strict=True), planted.candles, strict=True
    ):
        write_csv(path, candles, [WARM_UP + gap for gap in gaps])
    made = Swift(planted=planted, incumbent=planted.current, candidate=planted.add(Kind.FOLLOWS))
    made.configure(**changes)
    return made
