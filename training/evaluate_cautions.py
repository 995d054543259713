"""What a reader of an evaluation must know before the figures mean anything, in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from strategy.candle_table import CandleTable
from strategy.manifest import BundleManifest
from training.bundles import conditions_of
from training.commands_common import day
from training.market import Conditions
from training.readiness import Thresholds
from training.track import Track

_DAY_MS = 86_400_000


def cautions(
    manifest: BundleManifest,
    tables: Sequence[CandleTable],
    *,
    conditions: Conditions,
    thresholds: Thresholds,
    start_ms: int,
    track: Track,
) -> tuple[str, ...]:
    """Return what must be said of the candles, the terms and the thresholds of an evaluation.

    start_ms: where the span was to begin.  track: the ensemble's, which begins with the first decision.
    """
    return (
        *_of_span(manifest, start_ms, track),
        *_of_symbols(manifest, tables, track),
        *_of_terms(manifest, conditions, thresholds),
    )


def _of_span(manifest: BundleManifest, start_ms: int, track: Track) -> Iterator[str]:
    if start_ms < manifest.training.end_ms:
        yield (
            f"the ensemble was made from candles up to {day(manifest.training.end_ms - 1)}, and earlier ones were "
            "traded here: nothing of this is evidence"
        )
    if track.start_ms - max(start_ms, 0) >= _DAY_MS and start_ms > 0:
        yield f"the first decision is of {day(track.start_ms)}: earlier candles only fill the feature window"


def _of_symbols(manifest: BundleManifest, tables: Sequence[CandleTable], track: Track) -> Iterator[str]:
    strange = [table.symbol for table in tables if table.symbol not in manifest.training.symbols]
    if strange:
        yield f"never trained on {', '.join(strange)}"
    for table in tables:
        first, last = int(table.open_ms[0]), int(table.open_ms[-1]) + table.timeframe.span_ms
        if first > track.start_ms:
            yield f"{table.symbol} begins only {day(first)}: its share of the cash lies idle before"
        if last <= int(track.close_ms[-1]) - _DAY_MS:
            yield f"{table.symbol} ends {day(last - 1)} already: what is held then stays at its last price"


def changed_terms(manifest: BundleManifest, conditions: Conditions) -> list[str]:
    """Return in words which conditions are not those of the training."""
    usual = conditions_of(manifest)
    pairs = ((conditions.strategy, usual.strategy), (conditions.limits, usual.limits), (conditions.costs, usual.costs))
    return [text for ours, theirs in pairs for text in _changes(asdict(ours), asdict(theirs))]


def _of_terms(manifest: BundleManifest, conditions: Conditions, thresholds: Thresholds) -> Iterator[str]:
    changed = changed_terms(manifest, conditions)
    if changed:
        yield f"traded under other terms than it was trained under: {', '.join(changed)}"
    if thresholds.changed():
        yield f"the thresholds were changed: {', '.join(thresholds.changed())}"


def _changes(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Iterator[str]:
    for name, value in ours.items():
        if value != theirs[name]:
            yield f"{name} {value:g} instead of {theirs[name]:g}"
