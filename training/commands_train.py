"""`sacd train`: which options there are. What they do lies in training/train_run.py, which needs the training extra."""

import argparse
from pathlib import Path

from training.commands_common import add_candles, add_json, add_span, as_moment, as_numbers, needs_extra
from training.commands_trials import add_ledger

PRESETS = ("trend", "compact", "quick", "optimized", "improved", "advanced")
REWARDS = ("guide", "timing", "log-return", "differential-sharpe", "trend")
ALGORITHMS = ("sac", "ppo", "a2c", "dqn")
DEFAULT_PRESET = "trend"
_ON_OFF = ("on", "off")


def add_train(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd train`. Options that decide the bundle have no default here, so that --resume can refuse them."""
    add_candles(parser, required=False)
    parser.add_argument("--out", type=Path, metavar="DIR", help="the bundle, and its run below; must not exist yet")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run that was interrupted in DIR")
    _add_learning(parser.add_argument_group("learning"))
    _add_ensemble(parser.add_argument_group("ensemble"))
    _add_validation(parser.add_argument_group("validation and gates"))
    _add_place(parser.add_argument_group("where it runs"))
    add_span(parser)
    add_ledger(parser)
    add_json(parser)
    parser.set_defaults(run=lambda args: needs_extra("training.train_run").train(args, parser))


def _add_learning(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--preset", metavar="NAME", help=f"{', '.join(PRESETS)} (default {DEFAULT_PRESET})")
    group.add_argument("--reward", metavar="NAME", help=f"{', '.join(REWARDS)} (default: the preset's)")
    group.add_argument("--steps", type=int, metavar="N", help="decisions each member practises (default: the preset's)")
    group.add_argument(
        "--set",
        dest="texts",
        action="append",
        metavar="KEY=VALUE",
        help="change one setting, such as batch_size=512, net_arch=64,64 or costs.fee_rate=0.002; may be repeated",
    )
    group.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="BUNDLE",
        help="begin with what its policies know; learns slowly then",
    )
    group.add_argument(
        "--curriculum", action="store_true", default=None, help="practise on easy stretches first, on hard ones last"
    )
    group.add_argument("--curriculum-days", type=int, metavar="N", help="length of its stretches (default 90)")
    group.add_argument("--curriculum-tries", type=int, metavar="N", help="practices of a stage, at most (default 3)")
    group.add_argument(
        "--curriculum-thresholds",
        type=as_numbers,
        metavar="A,B,C",
        help="score of the easy, medium and hard stage from which the next begins (default 0.5,1,1.5)",
    )
    group.add_argument(
        "--algorithm", choices=ALGORITHMS, help="(default sac) only sac exports to bundles; `sacd compare` takes all"
    )


def _add_ensemble(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--members", type=int, metavar="N", help="policies of the ensemble (default 3)")
    group.add_argument("--seed", type=int, metavar="S", help="what all chance comes from (default 1)")
    group.add_argument(
        "--spread",
        choices=_ON_OFF,
        help="draw each member's learning rate (x 0.5 to 1.5) and gamma (0.99 to 0.999; trend: 0.92 to 0.98) as well "
        "(default on)",
    )
    group.add_argument(
        "--weighting", choices=("equal", "score"), help="of the votes: equal, or by exp(score) (default equal)"
    )


def _add_validation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--validation",
        type=float,
        metavar="SHARE",
        help="of the span, at its end, that only scores (default 0.2; 0: none)",
    )
    group.add_argument("--validation-from", type=as_moment, metavar="DATE", help="the same, by its first day")
    group.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="end after N scores without improvement, counted from the first that trades (default 0: never)",
    )
    group.add_argument("--min-delta", type=float, metavar="X", help="what counts as an improvement (default 0)")
    group.add_argument("--gates", choices=_ON_OFF, help="leave out members that fail (default on)")
    group.add_argument("--least-score", type=float, metavar="X", help="gate: the score a member needs (default: any)")
    group.add_argument("--least-trades", type=int, metavar="N", help="gate: the trades it needs there (default 1)")


def _add_place(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--workers", type=int, metavar="N", help="processes (default: one a member, two a core)")
    group.add_argument("--ray", metavar="HOST:PORT", help="a Ray cluster to run on, which must be in a private network")
    group.add_argument("--keep-replay", action="store_true", default=None, help="leave the replay buffers on disk")
