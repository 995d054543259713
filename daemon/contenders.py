"""The ensembles of a registry, verified and ready to serve, each read once."""

from pathlib import Path

from daemon.engine import Model
from daemon.errors import ArtifactError
from daemon.golden import check_serves
from daemon.models import find_bundle
from daemon.serving import model_of, reference_of
from strategy.bundle import Bundle
from strategy.shadow import Contender

CURRENT = "current"


class Contenders:
    """Finds ensembles by short id; those asked for before are at hand at once. For one thread at a time."""

    def __init__(self, model: Path, timeframe: str, served: Bundle) -> None:
        """model: the configured path, beside which the others lie.  served: the ensemble that serves."""
        self.registry = model.parent
        self.is_swappable = model.name == CURRENT
        self._timeframe = timeframe
        self._bundles = {served.manifest.short_id: served}

    def bundle(self, short_id: str) -> Bundle:
        """Return the ensemble with this id, verified, made for this program and these candles, and fit to answer.

        Takes some milliseconds where it was not asked for before. Raises ArtifactError naming what is wrong.
        """
        known = self._bundles.get(short_id)
        if known is None:
            known = find_bundle(self.registry, short_id, timeframe=self._timeframe)
            check_serves(known)
            self._bundles[short_id] = known
        return known

    def find(self, short_id: str) -> Contender:
        """Return it as accounts in shadow need it. Raises ArtifactError."""
        bundle = self.bundle(short_id)
        return Contender(id=short_id, voters=bundle.ensemble, reference=reference_of(bundle))

    def model(self, short_id: str) -> Model:
        """Return it as the engine needs it. Raises ArtifactError."""
        return model_of(self.bundle(short_id))

    def refuse_unswappable(self) -> None:
        """Raise ArtifactError where the configuration names one ensemble for good: a swap would not outlive a start."""
        if not self.is_swappable:
            raise ArtifactError(
                f"[strategy] model names one ensemble in {self.registry}, so that another would serve only until the "
                f"next start: write the link {self.registry / CURRENT} there instead, which `sacd models promote` sets"
            )
