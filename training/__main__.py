"""The training side's command line: `python -m training VERB`, which `sacd VERB` hands over to.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the check says no.
"""

import argparse
import errno
import os
import signal
import sys
import warnings
from collections.abc import Sequence

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C while modules load ends the process, as it ends any program, without a traceback through all of them.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# Before NumPy is imported: with several threads OpenBLAS adds in another order, and bytes would differ.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from strategy.errors import StrategyError
from training.commands_backtest import add_backtest
from training.commands_compare import add_compare
from training.commands_data import add_data
from training.commands_evaluate import add_evaluate
from training.commands_import import add_models_import
from training.commands_parity import add_parity
from training.commands_report import add_report
from training.commands_retrain import add_retrain
from training.commands_train import add_train
from training.commands_trials import add_trials
from training.commands_tune import add_tune
from training.errors import TrainingError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code; a user's mistake is one line, never a traceback."""
    parsed = _parser().parse_args(arguments)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = int(parsed.run(parsed))
        sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
    except (TrainingError, StrategyError) as error:
        print(f"sacd {parsed.verb}: {error}", file=sys.stderr)  # noqa: T201
        return getattr(error, "exit_code", 1)
    except BrokenPipeError:
        # The reader of a pipe has seen enough.
        _drop_output()
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        print(f"sacd {parsed.verb}: the output cannot be written: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print(f"sacd {parsed.verb}: interrupted; nothing was written", file=sys.stderr)  # noqa: T201
        return 130
    return code


def _drop_output() -> None:
    """Make what is still buffered go nowhere: it cannot be written, also not at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sacd", description="Data, training and evaluation of sacd")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_data(verbs.add_parser("data", help="fetch, import, verify and list candle files"))
    add_train(verbs.add_parser("train", help="train an ensemble and write it as a bundle"))
    add_tune(verbs.add_parser("tune", help="search for better settings"))
    add_compare(verbs.add_parser("compare", help="measure algorithms under one budget"))
    add_trials(verbs.add_parser("trials", help="count what was tried, and verify the ledger"))
    add_backtest(verbs.add_parser("backtest", help="trade recorded candles with an ensemble"))
    add_report(verbs.add_parser("report", help="show an evaluation as one page of HTML"))
    add_evaluate(verbs.add_parser("evaluate", help="find out what an ensemble is worth, and whether it is ready"))
    add_parity(verbs.add_parser("parity"))
    add_retrain(verbs.add_parser("retrain"))
    add_models_import(verbs.add_parser("models-import"))
    return parser


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_: f"sacd: {message}\n"  # for people, not with a line of our source
    sys.exit(main())
