"""docs/faults.md names every fault, and for each the tests that inject it or why there is none."""

from pathlib import Path

import pytest

from tests import faults

TEXT = faults.DOCUMENT.read_text(encoding="utf-8")
ROWS = faults.rows(TEXT)
OF_OTHER_PARTS = {*range(58, 63), *range(66, 73)}
"""Retraining and remote control: what they promise is tested with them."""


def test_every_fault_has_its_row_once_and_in_order() -> None:
    assert [row.number for row in ROWS] == list(faults.ROWS)


def test_the_table_names_exactly_the_tests_that_are_marked() -> None:
    assert faults.brought_up_to_date(TEXT) == TEXT, "docs/faults.md is out of date: python -m tests.faults"


def test_every_mark_has_a_row() -> None:
    assert set(faults.marked()) <= set(faults.ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_a_fault_has_tests_or_a_reason(row: faults.Row) -> None:
    assert row.fault
    assert row.promise
    assert row.tests or row.remark, f"row {row.number} has neither a test nor a reason"


def test_what_concerns_live_trading_has_tests_or_a_line_that_says_why_not() -> None:
    without = {row.number for row in ROWS if not row.tests} - OF_OTHER_PARTS
    assert {row.number for row in ROWS if row.number in without and row.remark.startswith("No test:")} == without


# ---- the reader of marks ------------------------------------------------------------------------------------------
def test_marks_are_found_on_plain_and_asynchronous_tests_also_several_on_one(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "daemon"
    folder.mkdir(parents=True)
    (folder / "test_it.py").write_text(
        "@pytest.mark.fault(3)\n@pytest.mark.fault(4)\nasync def test_a(): ...\n"
        "@pytest.mark.parametrize('x', [1])\n@pytest.mark.fault(3)\ndef test_b(x): ...\n"
        "@pytest.mark.fault(5)\ndef helper(): ...\n",
        encoding="utf-8",
    )
    file = "tests/daemon/test_it.py"
    assert faults.marked(tmp_path) == {3: (f"{file}::test_a", f"{file}::test_b"), 4: (f"{file}::test_a",)}


def test_a_row_that_is_written_reads_back_equal() -> None:
    row = faults.Row(number=7, fault="a fault", promise="what holds", tests=("t.py::test_a", "t.py::test_b"), remark="")
    assert faults.Row.parse(row.text()) == row
    assert faults.Row.parse("| # | Fault | What holds | Tests | Remark |") is None
