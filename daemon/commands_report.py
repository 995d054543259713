"""`sacd report`: an evaluation as a page, which the training side makes.

With `--execution` it tells from the journal how a run's orders were executed, beside its cost model.
"""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daemon.errors import SacdError
from daemon.hand_over import hand_over


def add_report(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("report")(report)


def report(
    evaluation: Annotated[
        Path | None,
        typer.Argument(help="What `sacd evaluate --out` wrote; without it the newest evaluation below `evaluations`."),
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="The page; without it report.html beside the evaluation.")
    ] = None,
    execution: Annotated[
        bool,
        typer.Option("--execution", help="Instead: fills beside what the cost model expected, latency, fitting costs."),
    ] = False,
    since: Annotated[
        str, typer.Option("--since", help="Of --execution: first moment, such as 2026-01-31 or 2026-01-31T12:00.")
    ] = "",
    until: Annotated[
        str, typer.Option("--until", help="Of --execution: the moment after the last; times are UTC.")
    ] = "",
    journal: Annotated[
        Path | None,
        typer.Option("--journal", help="Of --execution: the journal file; without it that of the configuration."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Of --execution: the configuration file (config.toml).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Show an evaluation as one page of HTML; or, with --execution, how a run's orders were executed."""
    of_execution = {"--since": since, "--until": until, "--journal": journal, "--config": config}
    if not execution:
        _refuse([option for option, value in of_execution.items() if value], "goes with --execution")
        hand_over("report", _arguments(evaluation, out, as_json=as_json))
    of_page = {"--out": out, f"the evaluation {evaluation}": evaluation}
    _refuse([option for option, value in of_page.items() if value], "does not go with --execution")
    from daemon import journal_reader  # noqa: PLC0415 - what the other verbs do not need
    from daemon.execution import measure  # noqa: PLC0415
    from daemon.execution_orders import KINDS  # noqa: PLC0415
    from daemon.execution_text import execution_report, suggestions  # noqa: PLC0415

    first_ms, end_ms = _moment_ms("--since", since), _moment_ms("--until", until)
    path = journal if journal is not None else _configured_journal(config or Path("config.toml"))
    found = measure(journal_reader.read(path, kinds=KINDS), since_ms=first_ms, until_ms=end_ms)
    if as_json:
        print(json.dumps(found.to_json(), indent=2, allow_nan=False))  # noqa: T201
    else:
        Console().print(execution_report(found), highlight=False)
        print("\n".join(suggestions(found)))  # noqa: T201 - never folded: a part of a comment is no TOML


def _refuse(options: Sequence[str], reason: str) -> None:
    if options:
        raise typer.BadParameter(f"{options[0]} {reason}")


def _arguments(evaluation: Path | None, out: Path | None, *, as_json: bool) -> list[str]:
    """Return what the training side's `report` is told."""
    words = [] if out is None else [f"--out={out}"]
    words += ["--json"] if as_json else []
    return words if evaluation is None else [*words, "--", str(evaluation)]


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
