"""`sacd evaluate --look-ahead`: options, the order of the checks, and how they are told."""

import argparse
from collections.abc import Sequence

from rich.table import Table

from strategy.bundle import Bundle
from strategy.candle_table import CandleTable
from strategy.features import WINDOW
from strategy.trader import Setup
from training import look_ahead
from training.bundles import conditions_of, read_serving_bundle, reference_of
from training.commands_common import EXIT_NO, minute, needs_extra, read_candles
from training.commands_conditions import changed_by
from training.console import counted, make_console, print_json, progress
from training.errors import TrainingError
from training.look_ahead_decisions import MOMENTS as DECISION_MOMENTS
from training.look_ahead_decisions import Decisions, check_decisions
from training.look_ahead_past import Streaming, WarmUp, compare_streaming, warm_ups
from training.look_ahead_report import LookAhead, RulesChecked, worst_first
from training.look_ahead_shuffled import DRAWS, Shuffled, check_shuffled
from training.look_ahead_target import Stretch, Target, load_target, own_features
from training.market import setup_of
from training.ranges import require

_OUT = make_console()
_SHOWN = 20
_MOST_MOMENTS = 1_000_000
_MOST_SEED = 2**63 - 1


def add_look_ahead(group: argparse._ArgumentGroup) -> None:
    """Declare the options of the look-ahead checks."""
    group.add_argument(
        "--look-ahead",
        action="store_true",
        help="instead: check that no feature, and with --model no decision, reads later candles",
    )
    group.add_argument(
        "--features",
        metavar="PLACE:FUNCTION",
        help="with --look-ahead: a function in a module or .py file, which is run (default: the features of sacd)",
    )
    group.add_argument(
        "--window",
        type=_as_count,
        metavar="N",
        help=f"with --features: candles that its rows may need (default {WINDOW})",
    )
    group.add_argument(
        "--moments",
        type=_as_count,
        default=look_ahead.MOMENTS,
        metavar="N",
        help=f"with --look-ahead: at which the future is changed; rare peeks take many (default {look_ahead.MOMENTS})",
    )


def _as_count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_MOMENTS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 .. {_MOST_MOMENTS}")
    return int(text)


def refuse_look_ahead_options(args: argparse.Namespace) -> None:
    """Raise TrainingError when options of the look-ahead checks were given without --look-ahead."""
    for option, value in (("--features", args.features), ("--window", args.window)):
        if value is not None:
            raise TrainingError(f"{option} {value}: it goes with --look-ahead only: add that, or leave it out")


def run_look_ahead(args: argparse.Namespace) -> int:
    """Do every check there is something for; return 0 when nothing reads the future, else 3.

    args: data, symbol, since_ms, until_ms, model, seed, json, those of `add_look_ahead` and of `add_conditions`.
    Raises TrainingError for bad input.
    """
    require("--seed", args.seed, 0, _MOST_SEED)
    target = _target(args)
    _, tables = read_candles(args)
    histories = [Stretch.of(table) for table in tables]
    for history in histories:
        look_ahead.require_window(target, history)
    bundle, setup = (None, None) if args.model is None else _market(args, tables)
    with progress("future", look_ahead.moments_of(len(histories), args.moments)) as tell:
        futures = look_ahead.find_leaks(target, histories, moments=args.moments, seed=args.seed, tell=tell)
    past = warm_ups(target, histories, seed=args.seed)
    found = LookAhead(
        target=target.name,
        window=target.window,
        symbols=tuple(table.symbol for table in tables),
        candles=sum(map(len, tables)),
        futures=futures,
        warm_ups=past,
        streaming=_streaming(target, tables),
        decisions=None if bundle is None or setup is None else _decisions(args, tables, setup, bundle),
        shuffled=None if bundle is None or setup is None else _shuffled(args, tables, setup, bundle),
        rules=None if bundle is None else _rules(args, tables),
    )
    if args.json:
        print_json(found.to_json())
    else:
        _print(found)
    return EXIT_NO if found.complaints else 0


def _target(args: argparse.Namespace) -> Target:
    if args.features is not None:
        return load_target(args.features, args.window or WINDOW)
    if args.window is not None:
        raise TrainingError(f"--window {args.window}: the features of sacd need {WINDOW}: give it with --features only")
    return own_features()


def _market(args: argparse.Namespace, tables: Sequence[CandleTable]) -> tuple[Bundle, Setup]:
    bundle = read_serving_bundle(args.model)
    setup = setup_of(tables, changed_by(args, conditions_of(bundle.manifest)), "look-ahead")
    trained = bundle.manifest.training.timeframe
    if trained != setup.timeframe.name:
        raise TrainingError(
            f"the ensemble was trained on {trained} candles, the data has {setup.timeframe.name}: give {trained}"
        )
    return bundle, setup


def _streaming(target: Target, tables: Sequence[CandleTable]) -> Streaming | None:
    if not target.is_own:
        return None
    with progress("streaming", sum(map(len, tables))) as tell:
        return compare_streaming(tables, tell=tell)


def _decisions(args: argparse.Namespace, tables: Sequence[CandleTable], setup: Setup, bundle: Bundle) -> Decisions:
    with progress("decisions", DECISION_MOMENTS) as tell:
        return check_decisions(tables, setup, bundle.ensemble, reference_of(bundle), seed=args.seed, tell=tell)


def _shuffled(args: argparse.Namespace, tables: Sequence[CandleTable], setup: Setup, bundle: Bundle) -> Shuffled:
    with progress("shuffled", DRAWS) as tell:
        return check_shuffled(tables, setup, bundle.ensemble, reference_of(bundle), seed=args.seed, tell=tell)


def _rules(args: argparse.Namespace, tables: Sequence[CandleTable]) -> RulesChecked | None:
    found: RulesChecked | None = needs_extra("training.look_ahead_rules").check_rules(tables, seed=args.seed)
    return found


# ---- in words ---------------------------------------------------------------------------------------------------
def _print(found: LookAhead) -> None:
    _say(f"{found.target}: {counted(len(found.warm_ups), 'output')}, window {found.window:,}")
    _say(f"{', '.join(found.symbols)}, {counted(found.candles, 'candle')}")
    _print_futures(found)
    _print_past(found)
    if found.streaming is not None:
        _say(f"streaming: {_streaming_words(found.streaming)}")
    if found.decisions is not None:
        _say(f"decisions: {_decision_words(found.decisions)}")
    if found.shuffled is not None:
        _say(f"shuffled: {_shuffled_words(found.shuffled)}")
    if found.rules is not None:
        odd = ", ".join(found.rules.leaks)
        said = f"{odd} changed with later candles" if odd else "other candles later change nothing"
        _say(f"baselines: {found.rules.moments:,} moments: {said}")
    if found.complaints:
        _say(f"{counted(len(found.complaints), 'leak')} found: what was measured with this is not evidence", "bold red")
    else:
        _say("clean: nothing that was tried reads a later candle", "bold green")


def _say(words: str, style: str | None = None) -> None:
    _OUT.print(words, style=style, markup=False, highlight=False)


def _print_futures(found: LookAhead) -> None:
    futures = found.futures
    tried = f"later candles changed at {futures.moments:,} moments, {futures.rows:,} rows compared"
    if not futures.leaks:
        rare = max(1, futures.moments // 3)
        _say(f"future: {tried}: none differs (a peek in fewer than one of {rare:,} rows may be missed)")
        return
    _say(f"future: {tried}: {counted(len(futures.leaks), 'output')} changed", "red")
    table = Table("output", "reads up to", "seen", "first row", "largest change", "what is likely wrong", box=None)
    for leak in worst_first(futures.leaks)[:_SHOWN]:
        table.add_row(
            leak.output,
            "the end" if leak.to_end else f"t+{leak.reach}",
            f"{leak.moments:,} times",
            f"{leak.symbol} {minute(leak.open_ms)}",
            "no number" if leak.difference is None else f"{leak.difference:.3g}",
            leak.words,
        )
    _OUT.print(table, highlight=False)
    if len(futures.leaks) > _SHOWN:
        _say(f"and {len(futures.leaks) - _SHOWN:,} more: --json names them all")


def _print_past(found: LookAhead) -> None:
    far = found.needs_more_past
    if not far:
        longest = max(found.warm_ups, key=lambda warm_up: warm_up.needs)
        _say(f"past: {counted(longest.needs, 'candle')} suffice for every row ({longest.output} needs most)")
        return
    verb = "needs" if len(far) == 1 else "need"
    words = f"{counted(len(far), 'output')} {verb} more than {found.window:,} candles; live they would differ"
    _say(f"past: {words}", "yellow")
    for warm_up in far[:_SHOWN]:
        _say(f"  {_past_words(warm_up)}", "yellow")


def _past_words(warm_up: WarmUp) -> str:
    needs = f"{'needs' if warm_up.is_settled else 'needs more than'} {warm_up.needs:,} candles"
    by = "no number" if warm_up.difference is None else f"off by up to {warm_up.difference:.3g}"
    return f"{warm_up.output} {needs} ({warm_up.symbol} {minute(warm_up.open_ms)}; {by} after the window)"


def _streaming_words(streaming: Streaming) -> str:
    if not streaming.differ or streaming.open_ms is None:
        return f"{streaming.rows:,} rows are those of the array form, bit for bit"
    first = f"{streaming.output} of {streaming.symbol}, {minute(streaming.open_ms)}"
    return f"{streaming.differ:,} of {streaming.rows:,} rows are not those of the array form, first {first}"


def _decision_words(decisions: Decisions) -> str:
    tried = f"{decisions.candles:,} candles, {counted(decisions.trades, 'trade')}, {decisions.moments} moments"
    if not decisions.differ or decisions.first_ms is None:
        return f"{tried}: other candles later change nothing"
    first = f"{decisions.first_what} of {decisions.first_symbol}, {minute(decisions.first_ms)}"
    return f"{tried}: {decisions.differ} changed what came before, first the {first}"


def _shuffled_words(shuffled: Shuffled) -> str:
    if shuffled.sharpe is None or shuffled.low is None or shuffled.high is None:
        return f"the ensemble traded on {shuffled.traded} of {shuffled.draws} markets: not enough to say anything"
    verdict = "an edge where none can be" if shuffled.is_leak else "no edge, as it must be"
    interval = f"{shuffled.sharpe:+.2f} ({shuffled.low:+.2f} .. {shuffled.high:+.2f})"
    return f"mean Sharpe {interval} on {shuffled.traded} markets: {verdict}"
