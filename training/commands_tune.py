"""`sacd tune`: its arguments. What it does lies in training/tune_run.py, which needs the training extra."""

import argparse
from pathlib import Path

from training import commands_common as common
from training.commands_train import PRESETS, REWARDS
from training.commands_trials import add_ledger


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd tune`."""
    common.add_candles(parser)
    common.add_span(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the study and its report; goes on there"
    )
    for option, kind, default, metavar, meaning in (
        ("trials", int, 50, "N", "choices tried, in all"),
        ("steps", int, None, "N", "candles practised on in each fold (default: the preset's)"),
        ("folds", int, 3, "K", "spans that score a trial, one after another"),
        ("held", float, 0.5, "SHARE", "of the candles, at their end, that scores"),
        ("gap", int, 24, "N", "candles between practice and scoring"),
        ("seed", int, 1, "S", "what all chance comes from"),
        ("workers", int, 1, "N", "trials at a time, each in a process of its own"),
        ("study", str, "sacd", "NAME", "name in a storage that others share"),
        ("timeout", float, None, "SECONDS", "end then; the same command goes on"),
        ("preset", str, "improved", "NAME", f"what is not searched: {', '.join(PRESETS)}"),
        ("reward", str, None, "NAME", f"reward set: {', '.join(REWARDS)} (default: the preset's)"),
    ):
        told = meaning if default is None else f"{meaning} (default {default})"
        parser.add_argument(f"--{option}", type=kind, default=default, metavar=metavar, help=told)
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="where trials are kept: postgresql://user@host/name, or journal:/path on a shared disk (default: in DIR)",
    )
    parser.add_argument(
        "--ray",
        metavar="HOST:PORT",
        help="a Ray cluster to run on, which must be in a private network; needs --storage",
    )
    for option, meaning in (
        ("fix", "do not search it: batch_size=512, or batch_size for the preset's; `reward` for all weights"),
        ("set", "another setting, such as episode.length=2000"),
    ):
        parser.add_argument(f"--{option}", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=meaning)
    parser.add_argument(
        "--prune",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="give trials up early: the worst quarter within a fold, the worse half after it (default: yes)",
    )
    add_ledger(parser)
    common.add_json(parser)
    parser.set_defaults(run=_tune)


def _tune(args: argparse.Namespace) -> int:
    return int(common.needs_extra("training.tune_run").run(args))
