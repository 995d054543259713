"""The `sacd` command line: what each verb takes and prints. The work lies in the modules the verbs call.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the check says no, 78 wrong configuration. A user's mistake is one plain
message, never a traceback.
"""

import asyncio
import errno
import json
import logging
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from daemon.commands_journal import add_journal_verbs
from daemon.commands_models import add_models_verbs
from daemon.commands_report import add_report
from daemon.config import Config, load_config
from daemon.errors import ConfigError, SacdError
from daemon.hand_over import hand_over
from strategy.errors import StrategyError

if TYPE_CHECKING:
    from daemon.venue import Venue

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
DEFAULT_CONFIG = Path("config.toml")
EXIT_NO = 3
_PATIENCE_S = 60.0
"""For what may wait for the candles of a whole group."""
_FULL = {errno.ENOSPC, errno.EDQUOT}
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

app = typer.Typer(
    name="sacd",
    help="Trades crypto, on paper or live, with an ensemble of Soft Actor-Critic policies.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
journal_app = typer.Typer(help="Show, export and verify the journal.", no_args_is_help=True)
models_app = typer.Typer(help="Show, try and exchange the trained ensembles.", no_args_is_help=True)
app.add_typer(journal_app, name="journal")
app.add_typer(models_app, name="models")
add_journal_verbs(journal_app)
add_models_verbs(app, models_app)
add_report(app)


def command_line() -> int:
    """Run the command and return its exit code."""
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()  # the reader of a pipe has seen enough
        return 1
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _drop_output()
        print(f"sacd: the output cannot be written: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    return code


def _drop_output() -> None:
    """Make what is still buffered go nowhere: it cannot be written, also not at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run() -> int:
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except (SacdError, StrategyError) as error:
        print(f"sacd: {error}", file=sys.stderr)  # noqa: T201
        return getattr(error, "exit_code", 1)
    return 0


def _config(path: Path) -> Config:
    return load_config(path, os.environ)


def _quiet_logs() -> None:
    """Keep what parts of the daemon log away from standard output, which is for the answer; warnings still show."""
    import structlog  # noqa: PLC0415 - only where something logs

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _print_json(value: Any) -> None:  # noqa: ANN401 - JSON types
    print(json.dumps(value, indent=2, allow_nan=False))  # noqa: T201


# ---- the daemon -------------------------------------------------------------------------------------------------
@app.command()
def run(
    config: ConfigPath = DEFAULT_CONFIG,
    confirmed: Annotated[
        bool, typer.Option("--yes-trade-real-money", help='Needed with mode = "live", unless in a sandbox.')
    ] = False,
    accept_recovery: Annotated[
        bool, typer.Option("--accept-recovery", help="Go on, live, from a journal that was restored from a backup.")
    ] = False,
) -> None:
    """Trade until Ctrl-C; the account continues from its journal next time."""
    from daemon.app import App, run_until_done  # noqa: PLC0415 - what the other verbs do not need
    from daemon.arming import arm  # noqa: PLC0415

    armed, console = arm(_config(config), confirmed=confirmed, accept_recovery=accept_recovery), Console()
    daemon = App(
        armed.config,
        os.environ,
        console,
        sys.stdout,
        bundle=armed.bundle,
        overrides=armed.overrides,
        accept_recovery=accept_recovery,
        path=config.absolute(),
    )
    raise typer.Exit(run_until_done(daemon.run))


def _venue_of(config: Config) -> "Venue":
    from daemon.app_live import make_budget, make_venue  # noqa: PLC0415 - only where orders are real
    from daemon.clock import SystemClock  # noqa: PLC0415

    clock = SystemClock()
    return make_venue(config, clock, make_budget(config, clock), random.Random())  # noqa: S311 - jitter, no secret


@app.command()
def check(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Check configuration, ensemble, state directory, journal and, if there is one, the exchange.

    Exit code: 0 when all is well, else what `sacd run` would end with.
    """
    from daemon.check_result import exit_code_of  # noqa: PLC0415
    from daemon.checks import run_checks  # noqa: PLC0415

    _quiet_logs()
    results = asyncio.run(run_checks(_config(config), _venue_of))
    if as_json:
        _print_json({"checks": [result.to_json() for result in results], "ok": all(r.is_good for r in results)})
    else:
        from daemon.check_text import print_checks  # noqa: PLC0415

        print_checks(Console(), results)
    raise typer.Exit(exit_code_of(results))


def _ask(config: Path, verb: str, timeout_s: float = 10.0) -> dict[str, Any]:
    from daemon.control import call  # noqa: PLC0415

    return asyncio.run(call(_config(config).control_socket, verb, {}, timeout_s))


@app.command()
def status(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show what the running daemon holds and does."""
    answer = _ask(config, "status")
    if as_json:
        _print_json(answer)
        return
    from daemon.status_text import status_table  # noqa: PLC0415

    Console().print(status_table(answer))


def _command(config: Path, verb: str, as_json: bool) -> None:
    answer = _ask(config, verb)
    if as_json:
        _print_json(answer)
    else:
        print(answer["effect"])  # noqa: T201


@app.command()
def pause(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Take no new exposure; stops and exits go on."""
    _command(config, "pause", as_json)


@app.command()
def resume(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Trade again after a pause or a halt."""
    _command(config, "resume", as_json)


@app.command()
def flatten(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Sell everything and pause."""
    _command(config, "flatten", as_json)


@app.command()
def reload(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Have the running daemon read its configuration anew: all of it is taken, or nothing.

    Exit code: 0 when it is in force, 3 when something in it needs a restart, 78 when it is wrong.
    """
    answer = _ask(config, "reload", _PATIENCE_S)
    if answer["mistakes"]:
        raise ConfigError("\n".join((answer["effect"], *(f"  {mistake}" for mistake in answer["mistakes"]))))
    if as_json:
        _print_json(answer)
    else:
        print(answer["effect"])  # noqa: T201
    if answer["restart"]:
        raise typer.Exit(EXIT_NO)


# ---- journal ----------------------------------------------------------------------------------------------------
JournalPath = Annotated[
    Path | None, typer.Option("--journal", help="The journal file; without it that of the configuration.")
]


def _journal(journal: Path | None, config: Path) -> Path:
    if journal is not None:
        return journal
    from daemon.paths import journal_path  # noqa: PLC0415

    return journal_path(_config(config))


@journal_app.command("show")
def journal_show(
    journal: JournalPath = None,
    config: ConfigPath = DEFAULT_CONFIG,
    count: Annotated[int, typer.Option("--last", "-n", min=1, help="How many entries, the newest ones.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the newest entries."""
    from daemon import journal_reader  # noqa: PLC0415
    from daemon.status_text import entry_line  # noqa: PLC0415

    entries = journal_reader.tail(_journal(journal, config), count)
    if as_json:
        rows = [{"seq": e.seq, "at_ms": e.at_ms, "kind": e.kind, "payload": e.payload} for e in entries]
        _print_json({"entries": rows})
        return
    for entry in entries:
        print(entry_line(entry))  # noqa: T201


@journal_app.command("export")
def journal_export(
    journal: JournalPath = None,
    config: ConfigPath = DEFAULT_CONFIG,
    out: Annotated[Path | None, typer.Option("--out", help="A file; without it standard output.")] = None,
) -> None:
    """Write every entry as one line of JSON."""
    from daemon import journal_reader  # noqa: PLC0415

    path = _journal(journal, config)
    if out is None:
        journal_reader.export(path, sys.stdout)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            count = journal_reader.export(path, file)
    except OSError as error:
        raise SacdError(f"--out {out}: {error.strerror}; name a file that does not exist yet") from error
    print(f"{count} entries written to {out}")  # noqa: T201


@journal_app.command("verify")
def journal_verify(journal: JournalPath = None, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Check every hash, sequence number and page."""
    from daemon import journal_reader  # noqa: PLC0415

    path = _journal(journal, config)
    found = journal_reader.verify(path)
    if as_json:
        _print_json(
            {"entries": found.entries, "sound": found.is_sound, "bad_seq": found.first_bad_seq, "reason": found.reason}
        )
    elif found.is_sound:
        print(f"{path}: {found.entries} entries, all sound")  # noqa: T201
    else:
        where = "" if found.first_bad_seq is None else f" at entry {found.first_bad_seq}"
        print(f"{path}: damaged{where}: {found.reason}")  # noqa: T201
    if not found.is_sound:
        raise typer.Exit(EXIT_NO)


@app.command()
def replay(
    journal: JournalPath = None,
    config: ConfigPath = DEFAULT_CONFIG,
    models: Annotated[
        Path | None, typer.Option("--models", help="Where the ensembles lie; without it beside the configured one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every decision of the journal and say which come out differently."""
    from daemon import journal_reader  # noqa: PLC0415
    from daemon.progress import progress  # noqa: PLC0415
    from daemon.replay import replay as run_replay  # noqa: PLC0415
    from daemon.status_text import difference_line  # noqa: PLC0415

    path = _journal(journal, config)
    registry = models if models is not None else _config(config).strategy.model.parent
    last = journal_reader.tail(path, 1)
    with progress("replaying", last[-1].seq if last else 0) as tell:
        result = run_replay(path, registry, tell)
    if as_json:
        _print_json(result.to_json())
    else:
        print(f"{result.decisions} decisions, {result.differ} differ")  # noqa: T201
        for difference in result.first:
            print(difference_line(difference))  # noqa: T201
    if result.differ:
        raise typer.Exit(EXIT_NO)


# ---- parity -----------------------------------------------------------------------------------------------------
@app.command()
def parity(
    data: Annotated[list[Path], typer.Option("--data", help="A candle file; may be given several times.")],
    symbol: Annotated[
        list[str] | None,
        typer.Option("--symbol", help="BASE/QUOTE, where the file's name does not tell it; one for each --data."),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Push recorded candles through environment, backtest and daemon and compare every byte."""
    from daemon.parity import prove  # noqa: PLC0415
    from daemon.status_text import parity_line  # noqa: PLC0415

    _quiet_logs()
    if symbol and len(symbol) != len(data):
        raise SacdError(f"--symbol: {len(symbol)} for {len(data)} files: give one for each --data, in their order")
    loaded = _config(config)
    stated: Sequence[str | None] = symbol or [None] * len(data)
    results = [prove(loaded, path, name) for path, name in zip(data, stated, strict=True)]
    keys = ("candles", "observations_differ", "actions_differ", "trades_differ", "equity_differ")
    whole = {key: sum(result[key] for result in results) for key in keys}
    if as_json:
        _print_json({**whole, "files": results})
    else:
        for result in results:
            print(parity_line(result))  # noqa: T201
    if any(whole[key] for key in keys[1:]):
        raise typer.Exit(EXIT_NO)


# ---- what the training side does --------------------------------------------------------------------------------
def _hand_over(verb: str, context: typer.Context, more: Sequence[str] = ()) -> NoReturn:
    hand_over(verb, [*more, *context.args])


@app.command("data", context_settings=_PASSED_ON)
def data_verbs(context: typer.Context) -> None:
    """Fetch, import, verify and list candle files."""
    _hand_over("data", context)


@app.command("train", context_settings=_PASSED_ON)
def train(context: typer.Context) -> None:
    """Train an ensemble on recorded candles and write it as a bundle."""
    _hand_over("train", context)


@app.command("tune", context_settings=_PASSED_ON)
def tune(context: typer.Context) -> None:
    """Search for settings that train better ensembles."""
    _hand_over("tune", context)


@app.command("compare", context_settings=_PASSED_ON)
def compare(context: typer.Context) -> None:
    """Measure learning algorithms against each other under one budget."""
    _hand_over("compare", context)


@app.command("trials", context_settings=_PASSED_ON)
def trials(context: typer.Context) -> None:
    """Count everything that was ever tried, and verify the ledger of it."""
    _hand_over("trials", context)


@app.command("backtest", context_settings=_PASSED_ON)
def backtest(context: typer.Context) -> None:
    """Trade recorded candles with an ensemble."""
    _hand_over("backtest", context)


@app.command("evaluate", context_settings=_PASSED_ON)
def evaluate(context: typer.Context) -> None:
    """Find out what an ensemble is worth on unseen candles, and whether it is ready."""
    _hand_over("evaluate", context)
