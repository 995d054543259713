"""How `sacd check` shows what it found: a line per check, and what follows from all of them."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from daemon import wording
from daemon.check_result import CheckResult, exit_code_of


def print_checks(console: Console, results: Sequence[CheckResult]) -> None:
    """Print the results, each on one line however long it is: the terminal folds it, a pipe or a file does not."""
    for result in results:
        words = Text.assemble(_mark(result), f" {result.name}: {result.detail}")
        console.print(words, soft_wrap=True, highlight=False)
    console.print(Text(f"\n{_conclusion(results)}", "bold"), soft_wrap=True, highlight=False)


def _mark(result: CheckResult) -> tuple[str, str]:
    if not result.is_good:
        return "failed", "red"
    return ("warn  ", "yellow") if result.is_warning else ("ok    ", "green")


def _conclusion(results: Sequence[CheckResult]) -> str:
    failed = sum(not result.is_good for result in results)
    warned = sum(result.is_good and result.is_warning for result in results)
    counts = f"{wording.count(len(results), 'check')}, {wording.count(warned, 'warning')}, {failed} failed"
    code = exit_code_of(results)
    return f"{counts}: `sacd run` would {f'end with exit code {code}' if code else 'start'}"
