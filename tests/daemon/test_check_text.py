"""What `sacd check` prints: one line per check on any screen, and what a start would come to."""

import io

import pytest
from rich.console import Console

from daemon.check_result import CheckResult, bad, good, warns
from daemon.check_text import print_checks

LONG = "an [exchange] that says" + " much" * 60


def printed(*results: CheckResult) -> list[str]:
    out = io.StringIO()
    print_checks(Console(width=40, file=out), results)
    return out.getvalue().splitlines()


def test_each_check_is_one_line_and_shows_its_text_as_it_stands() -> None:
    lines = printed(good("key", "opens"), warns("fees", LONG), bad("clock", "off by 7 s"))
    assert lines[:3] == ["ok     key: opens", f"warn   fees: {LONG}", "failed clock: off by 7 s"]


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([good("key", "opens")], "1 check, 0 warnings, 0 failed: `sacd run` would start"),
        ([good("key", ""), warns("fees", "")], "2 checks, 1 warning, 0 failed: `sacd run` would start"),
        (
            [warns("fees", ""), bad("readiness", "no", 3), bad("key", "no", 78)],
            "3 checks, 1 warning, 2 failed: `sacd run` would end with exit code 3",
        ),
    ],
)
def test_the_last_line_says_what_a_start_would_come_to(results: list[CheckResult], words: str) -> None:
    assert printed(*results)[-1] == words
