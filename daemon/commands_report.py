"""`sacd report`: what the journal says about how trading went; `--execution` for the fills beside the cost model."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daemon.errors import SacdError


def add_report(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("report")(report)


def report(
    *,
    execution: Annotated[
        bool, typer.Option("--execution", help="Fills beside what the cost model expected, latency, fitting costs.")
    ] = False,
    since: Annotated[str, typer.Option("--since", help="First moment, such as 2026-01-31 or 2026-01-31T12:00.")] = "",
    until: Annotated[str, typer.Option("--until", help="The moment after the last; times are UTC.")] = "",
    journal: Annotated[
        Path | None, typer.Option("--journal", help="The journal file; without it that of the configuration.")
    ] = None,
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = Path("config.toml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Report from the journal how orders were executed."""
    if not execution:
        raise typer.BadParameter("name what to report: --execution")
    from daemon import journal_reader  # noqa: PLC0415 - what the other verbs do not need
    from daemon.execution import measure  # noqa: PLC0415
    from daemon.execution_orders import KINDS  # noqa: PLC0415
    from daemon.execution_text import execution_report, suggestions  # noqa: PLC0415

    first_ms, end_ms = _moment_ms("--since", since), _moment_ms("--until", until)
    path = journal if journal is not None else _configured_journal(config)
    found = measure(journal_reader.read(path, kinds=KINDS), since_ms=first_ms, until_ms=end_ms)
    if as_json:
        print(json.dumps(found.to_json(), indent=2, allow_nan=False))  # noqa: T201
    else:
        Console().print(execution_report(found), highlight=False)
        print("\n".join(suggestions(found)))  # noqa: T201 - never folded: a part of a comment is no TOML


def _configured_journal(config: Path) -> Path:
    from daemon.config import load_config  # noqa: PLC0415
    from daemon.paths import journal_path  # noqa: PLC0415

    return journal_path(load_config(config, os.environ))


def _moment_ms(option: str, text: str) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SacdError(f"{option} {text}: is no date; write 2026-01-31 or 2026-01-31T12:00 (UTC)") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)
