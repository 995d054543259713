"""`python -m training retrain`: what the daemon, or a unit beside it, starts; people ask for it by `sacd retrain`."""

import argparse
import sys
from pathlib import Path

from training.commands_common import add_json, needs_extra
from training.console import print_json


def add_retrain(parser: argparse.ArgumentParser) -> None:
    """Declare `retrain`."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="where the daemon has put request.json")
    add_json(parser)
    parser.set_defaults(run=_retrain)


def _retrain(args: argparse.Namespace) -> int:
    """Answer the request; return 0 for a candidate and for a reason to keep the incumbent, 1 for a failure."""
    told = needs_extra("training.retrain").retrain(args.directory)
    if told is None:
        print(f"sacd retrain: {args.directory}: nothing is asked for", file=sys.stderr)  # noqa: T201
        return 0
    if args.json:
        print_json(told)
    else:
        print(f"{told['outcome']}: {told['reason']}")  # noqa: T201
    return 1 if told["outcome"] == "failed" else 0
