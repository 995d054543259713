"""`sacd journal backup`, `restore` and `candles`: what they take and print."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

_CONFIG = Path("config.toml")
_ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
_JournalPath = Annotated[
    Path | None, typer.Option("--journal", help="The journal file; without it that of the configuration.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
_To = Annotated[Path | None, typer.Option("--to", help="A file that does not exist yet; without it among the others.")]
_Out = Annotated[Path, typer.Option("--out", help="The directory for the files; made when it is missing.")]
_From = Annotated[Path | None, typer.Argument(metavar="FILE", help="A backup; without it the newest sound one.")]


def add_journal_verbs(app: typer.Typer) -> None:
    """Add `backup`, `restore` and `candles` to the verbs of `sacd journal`."""
    app.command("backup")(journal_backup)
    app.command("restore")(journal_restore)
    app.command("candles")(journal_candles)


def journal_backup(
    to: _To = None, journal: _JournalPath = None, config: _ConfigPath = _CONFIG, as_json: _AsJson = False
) -> None:
    """Copy the journal as it stands, also while sacd runs; a backup made by hand is never deleted."""
    from daemon.clock import SystemClock  # noqa: PLC0415 - what the other verbs do not need
    from daemon.journal_backup import by_hand  # noqa: PLC0415

    made = by_hand(_journal(journal, config), SystemClock(), to)
    if as_json:
        _print(json.dumps({**asdict(made), "path": str(made.path)}, indent=2))
    else:
        _print(f"{made.path}: {made.entries} entries, all sound")


def journal_restore(
    source: _From = None, journal: _JournalPath = None, config: _ConfigPath = _CONFIG, as_json: _AsJson = False
) -> None:
    """Put a backup in place of the journal, which is moved aside, and go on from there. sacd must not be running."""
    from daemon.clock import SystemClock  # noqa: PLC0415
    from daemon.journal_restore import restore  # noqa: PLC0415

    path = _journal(journal, config)
    done = restore(path, SystemClock(), source)
    if as_json:
        _print(json.dumps(asdict(done), indent=2))
        return
    _print(f"{path}: {done.in_words()}")
    _print("A paper account goes on with `sacd run`, a live one with `sacd run --accept-recovery`.")


def journal_candles(
    out: _Out, journal: _JournalPath = None, config: _ConfigPath = _CONFIG, as_json: _AsJson = False
) -> None:
    """Write the candles of the journal as data files, one for each symbol, also while sacd runs."""
    from daemon.journal_candles import write_candles  # noqa: PLC0415

    path = _journal(journal, config)
    written = write_candles(path, out)
    if as_json:
        _print(json.dumps({"files": [{**asdict(file), "path": str(file.path)} for file in written]}, indent=2))
        return
    for file in written:
        _print(f"{file.path}: {file.symbol} {file.timeframe}, {file.candles:,} candles")
    if not written:
        _print(f"{path}: no candle stands in it yet")


def _journal(journal: Path | None, config: Path) -> Path:
    if journal is not None:
        return journal
    from daemon.config import load_config  # noqa: PLC0415 - takes a while, and a named journal needs none
    from daemon.paths import journal_path  # noqa: PLC0415

    return journal_path(load_config(config, os.environ))


def _print(line: str) -> None:
    print(line)  # noqa: T201
