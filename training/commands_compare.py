"""`sacd compare`: which options there are. What they do lies in training/compare_run.py, which needs the extra."""

import argparse
from pathlib import Path

from training.commands_common import add_candles, add_json, add_span, as_moment, needs_extra
from training.commands_train import ALGORITHMS, DEFAULT_PRESET, PRESETS, REWARDS
from training.commands_trials import add_ledger


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd compare`."""
    add_candles(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the trials and their report; goes on there"
    )
    parser.add_argument(
        "--algorithms", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS), metavar="NAME", help="(default: all)"
    )
    for option, kind, default, metavar, meaning in (
        ("seeds", int, 5, "K", "trials of each algorithm"),
        ("seed", int, 1, "S", "what all chance comes from"),
        ("preset", str, DEFAULT_PRESET, "NAME", ", ".join(PRESETS)),
        ("reward", str, None, "NAME", f"{', '.join(REWARDS)} (default: the preset's)"),
        ("steps", int, None, "N", "candles each trial practises on (default: the preset's)"),
        ("validation", float, None, "SHARE", "of the span, at its end, that scores (default 0.2)"),
        ("workers", int, None, "N", "processes (default: as many as cores)"),
        ("ray", str, None, "HOST:PORT", "a Ray cluster to run on, which must be in a private network"),
    ):
        told = meaning if default is None else f"{meaning} (default {default})"
        parser.add_argument(f"--{option}", type=kind, default=default, metavar=metavar, help=told)
    parser.add_argument("--validation-from", type=as_moment, metavar="DATE", help="the same, by its first day")
    parser.add_argument(
        "--set",
        dest="texts",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting for all of them, such as batch_size=512; may be repeated",
    )
    add_span(parser)
    add_ledger(parser)
    add_json(parser)
    parser.set_defaults(run=lambda args: needs_extra("training.compare_run").compare(args))
