"""`sacd report`: an evaluation as one page of HTML."""

import argparse
import sys
from pathlib import Path

from training.commands_common import add_json
from training.console import make_console, print_json
from training.disk import write_together
from training.errors import TrainingError
from training.evaluate_output import REPORT
from training.report import render
from training.report_read import find, load

EVALUATIONS = Path("evaluations")
"""Where `sacd evaluate` puts them when nothing else is said."""


def add_report(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd report`."""
    parser.add_argument(
        "evaluation",
        nargs="?",
        type=Path,
        metavar="EVALUATION",
        help=f"what `sacd evaluate --out` wrote, a directory or its JSON (default: the newest below {EVALUATIONS})",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.html", help=f"the page (default: {REPORT} beside the JSON)")
    add_json(parser)
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    path = find(args.evaluation, EVALUATIONS)
    out = path.with_name(REPORT) if args.out is None else args.out
    _refuse(out, path)
    evaluation = load(path)
    data = render(evaluation).encode()
    write_together({out: data})
    if args.json:
        print_json({"evaluation": str(path), "out": str(out), "bytes": len(data), "bundle": evaluation.bundle,
                    "ready": evaluation.ready})  # fmt: skip
    else:
        if args.evaluation is None:
            print(f"the newest evaluation: {path}", file=sys.stderr)  # noqa: T201
        verdict = "ready" if evaluation.ready else "not ready"
        told = f"{out}: ensemble {evaluation.bundle[:16]}, {verdict}; open it in a browser"
        make_console().print(told, markup=False, highlight=False, soft_wrap=True)
    return 0


def _refuse(out: Path, path: Path) -> None:
    """Raise TrainingError for a place where no page can be put, before anything is read."""
    if out.is_dir():
        raise TrainingError(f"--out {out}: is a directory; name a file, such as {out / REPORT}")
    if not out.absolute().parent.is_dir():
        raise TrainingError(f"--out {out}: there is no directory {out.parent}; make it, or name another file")
    if out.exists() and out.resolve() == path.resolve():
        raise TrainingError(f"--out {out}: is the evaluation itself; name another file")
