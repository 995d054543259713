"""`sacd evaluate`: which options there are. What they do lies in training/evaluate_run.py, which needs the extra."""

import argparse
from pathlib import Path

from training.commands_common import add_candles, add_json, add_span, needs_extra
from training.commands_conditions import add_conditions
from training.commands_look_ahead import add_look_ahead, refuse_look_ahead_options, run_look_ahead

REFITS = ("walk-forward", "combinatorial")
DEFAULT_FOLDS = 5
DEFAULT_DRAWS = 1_000


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd evaluate`."""
    add_candles(parser)
    parser.add_argument("--model", type=Path, metavar="DIR", help="a bundle; without --look-ahead it must be given")
    add_span(parser)
    parser.add_argument(
        "--seen",
        action="store_true",
        help="take candles that the bundle was made from too: never ready, and not written beside the bundle",
    )
    _add_depth(parser.add_argument_group("what is done"))
    _add_readiness(parser.add_argument_group("readiness"))
    add_look_ahead(parser.add_argument_group("look-ahead"))
    add_conditions(parser)
    parser.add_argument(
        "--ledger", type=Path, metavar="FILE", help="of trials (default: $SACD_TRIALS, or models/trials.jsonl)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="evaluation.json and report.html (default evaluations/ID of the bundle)"
    )
    add_json(parser)
    parser.set_defaults(run=_run)


def _add_depth(group: argparse._ArgumentGroup) -> None:
    for option, kind, default, metavar, meaning in (
        ("folds", int, DEFAULT_FOLDS, "N", f"equal parts of the span (default {DEFAULT_FOLDS})"),
        ("draws", int, DEFAULT_DRAWS, "N", f"accounts with random entries (default {DEFAULT_DRAWS})"),
        ("seed", int, 1, "S", "what all chance comes from (default 1)"),
        ("refit-steps", int, None, "N", "candles each member of a refit practises on (default: as the bundle did)"),
        ("workers", int, None, "N", "processes (default: as many as cores)"),
    ):
        group.add_argument(f"--{option}", type=kind, default=default, metavar=metavar, help=meaning)
    group.add_argument(
        "--refit",
        type=as_refits,
        default=REFITS,
        metavar="KINDS",
        help=f"train the bundle's recipe anew on other spans: {','.join(REFITS)}, one of them, or none "
        f"(default {','.join(REFITS)}; takes as many trainings as there are folds)",
    )


def _add_readiness(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a threshold, such as sharpe=1.0; may be repeated",
    )
    group.add_argument("--thresholds", type=Path, metavar="FILE", help="TOML with lines such as sharpe = 1.0")


def as_refits(text: str) -> tuple[str, ...]:
    """Return the kinds of refit in `text`, an argument of a command."""
    kinds = () if text == "none" else tuple(text.split(","))
    if unknown := [kind for kind in kinds if kind not in REFITS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)!r} is none of {', '.join(REFITS)} and none")
    return tuple(kind for kind in REFITS if kind in kinds)


def _run(args: argparse.Namespace) -> int:
    if args.look_ahead:
        return run_look_ahead(args)
    refuse_look_ahead_options(args)
    return int(needs_extra("training.evaluate_run").run(args))
