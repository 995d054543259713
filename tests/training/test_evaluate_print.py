import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.training.evaluations import sample
from training.evaluate_print import closing, print_evaluation, worst_seed
from training.evaluation import Evaluation

FOUND = sample(days=60)


def printed(found: Evaluation, width: int = 160) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_evaluation(console, found)
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_every_account_part_and_reason_has_a_line() -> None:
    lines = printed(FOUND)
    names = ["ensemble", *FOUND.baselines, *FOUND.by_symbol, *(part.name for part in FOUND.years)]
    names += [part.name for refit in FOUND.refits for part in refit.folds]
    names += [criterion.name for criterion in FOUND.criteria] + [veto.name for veto in FOUND.vetoes]
    assert [name for name in names if not any(line.startswith(f"{name} ") for line in lines)] == []
    assert [w for w in FOUND.warnings if f"! {w}" not in lines] == []
    assert closing(FOUND) in lines


def test_what_is_not_defined_is_a_dash_and_no_number() -> None:
    nothing = replace(FOUND.metrics, sharpe=None, calmar=None, sortino=None, total_return=None, annual_return=None)
    [line] = [line for line in printed(replace(FOUND, metrics=nothing)) if line.startswith("ensemble - ")]
    assert line.split()[1:3] == ["-", "-"]
    assert line.split()[4:7] == ["-", "-", "-"]


@pytest.mark.parametrize("ready", [True, False])
def test_the_last_words_are_the_verdict(ready: bool) -> None:
    found = replace(FOUND, ready=ready, summary="6 of 7 criteria pass (80% are needed) and no veto fires")
    verdict = "READY" if ready else "NOT READY"
    short = found.bundle[:16]
    assert printed(found)[-1] == f"{verdict}: {short}, 6 of 7 criteria pass (80% are needed) and no veto fires."


def test_the_worst_member_is_the_one_with_the_lowest_ratio_or_none() -> None:
    first, second, *_ = FOUND.members
    low = replace(second, metrics=replace(second.metrics, sharpe=-9.0))
    none = replace(first, metrics=replace(first.metrics, sharpe=None))
    assert worst_seed(replace(FOUND, members=(first, low))) == low.seed
    assert worst_seed(replace(FOUND, members=(none, low))) == none.seed


def test_markup_in_words_of_others_is_shown_and_not_obeyed() -> None:
    assert "! [red]a file[/red]" in printed(replace(FOUND, warnings=("[red]a file[/red]",)))


def test_a_narrow_terminal_cuts_no_figure() -> None:
    words = " ".join(printed(FOUND, width=80))
    assert "…" not in words
    assert f"{FOUND.metrics.sharpe:.2f}" in words
