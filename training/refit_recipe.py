"""The recipe of a bundle: what its manifest says of how it was trained, as a plan that can be carried out anew.

A bundle that is made by it can say so again: `command_anew` writes what `recipe_of` reads.
"""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from strategy.manifest import BundleManifest
from training.bundles import conditions_of
from training.commands_train import add_train
from training.ensemble import EnsemblePlan
from training.errors import TrainingError
from training.held_out import MOST, HeldOut
from training.plan import MemberPlan
from training.train_run import command_of, plan_of

_BEGINNING = ["sacd", "train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train an ensemble, whatever the span. bundle: id of the one it comes from.

    plan: its members, seeds, settings and gates; `held` is a share, and the conditions are those of the manifest.
    symbols, timeframe: of the candles it is for.
    """

    bundle: str
    plan: EnsemblePlan
    symbols: tuple[str, ...]
    timeframe: str


def recipe_of(manifest: BundleManifest, *, steps: int | None = None) -> Recipe:
    """Return the recipe of a bundle. steps: of each member, instead of the recipe's.

    The command in the manifest is read by the parser of `sacd train`. Dropped are the files, since, until, and the
    places; a first day of validation becomes the share of the span that it set apart. Where the command is silent the
    manifest speaks: its costs, limits and strategy count, whatever the defaults are today.
    Raises TrainingError for a command that this version cannot repeat, and for one that begins with another bundle,
    which may have seen the very candles that a refit is scored on.
    """
    plan = _plan(manifest)
    conditions = conditions_of(manifest)
    member = replace(plan.member, conditions=conditions)
    if steps is not None:
        member = _shortened(member, steps)
    return Recipe(
        bundle=manifest.id,
        plan=replace(plan, member=member, held=_held(plan.held, manifest)),
        symbols=manifest.training.symbols,
        timeframe=manifest.training.timeframe,
    )


def command_anew(
    manifest: BundleManifest, plan: EnsemblePlan, *, files: Sequence[str], symbols: Sequence[str], until_ms: int
) -> str:
    """Return the command line of `sacd train` that carries out `plan`, of the recipe of `manifest`, on other candles.

    files: names, one for each of `symbols`.  until_ms: from where on no candle is taken.  Raises as `recipe_of`.
    """
    args = _parsed(_words(manifest))
    args.symbol, args.since_ms, args.until_ms, args.steps = list(symbols), None, until_ms, plan.member.steps
    _, base = plan_of(args)
    return command_of(args, plan, base, ["--data", *map(shlex.quote, files)])


def _place(manifest: BundleManifest) -> str:
    return f"bundle {manifest.short_id}: its recipe `{manifest.training.command}`"


def _words(manifest: BundleManifest) -> list[str]:
    """Return the options of the command in a manifest."""
    try:
        words = shlex.split(manifest.training.command)
    except ValueError as error:
        raise TrainingError(f"{_place(manifest)} cannot be read: {error}") from error
    if words[: len(_BEGINNING)] != _BEGINNING:
        raise TrainingError(f"{_place(manifest)} is not one of `sacd train`")
    return words[len(_BEGINNING) :]


def _plan(manifest: BundleManifest) -> EnsemblePlan:
    words, place = _words(manifest), _place(manifest)
    try:
        args = _parsed(words)
        plan, _ = plan_of(args)
    except TrainingError as error:
        raise TrainingError(f"{place} cannot be carried out anew: {error}") from error
    if args.source is not None:
        raise TrainingError(
            f"{place} begins with bundle {args.source}, which may have seen the candles that refits are scored on"
        )
    return plan


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise TrainingError instead of ending the process: nobody typed this command line."""
        raise TrainingError(f"this version of sacd train does not take it ({message})")


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="sacd train", add_help=False, allow_abbrev=False)
    add_train(parser)
    return parser.parse_args(words)


def _shortened(member: MemberPlan, steps: int) -> MemberPlan:
    if steps <= member.settings.learning_starts:
        raise TrainingError(
            f"{steps} steps of a refit end before learning begins: give more than {member.settings.learning_starts}"
        )
    rule = member.validation
    return replace(
        member, steps=steps, validation=None if rule is None else replace(rule, every=min(rule.every, steps))
    )


def _held(held: HeldOut, manifest: BundleManifest) -> HeldOut:
    """Return the same amount as a share of the span."""
    if held.from_ms is None:
        return held
    start_ms, end_ms = manifest.training.start_ms, manifest.training.end_ms
    return HeldOut(share=min(max((end_ms - held.from_ms) / (end_ms - start_ms), 0.0), MOST))
