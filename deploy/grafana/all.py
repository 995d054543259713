"""All dashboards, and the files that they are written to."""

from collections.abc import Mapping
from pathlib import Path

from deploy.grafana import decisions, health, models, runbook, trading
from deploy.grafana.board import write

DASHBOARDS = Path(__file__).parent / "dashboards"


def texts() -> Mapping[str, str]:
    """Return the text of each file by its name. Raises KeyError for an alert that the runbook has no entry of."""
    entries_board = runbook.board(runbook.SOURCE_FILE.read_text(encoding="utf-8"))
    entries = runbook.numbers(entries_board)
    boards = (trading.BOARD, decisions.BOARD, models.BOARD, health.BOARD, entries_board)
    return {f"{board.uid}.json": write(board.to_json(entries)) for board in boards}
