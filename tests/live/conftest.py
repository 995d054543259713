"""What tests of whole lives share; and says at the end of a run what the kills came to, however many ran them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.live.kills import SLOWEST, TALLY
from tests.live.nursery import Nursery
from tests.live.rehearsal import Rehearsal, Rehearse


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Return where the lives of a module's tests are born."""
    with Nursery() as made:
        yield made


@pytest.fixture
def rehearse(tmp_path: Path, nursery: Nursery) -> Rehearse:
    """Return what makes a rehearsal of this test's own."""

    def make(**changes: Any) -> Rehearsal:
        return Rehearsal(tmp_path, nursery, **changes)

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give whole lives more time than other tests: their clocks run slower where the machine is busy."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Add up what the tests counted, and show it."""
    total: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, counted in getattr(report, "user_properties", ()):
                if name == TALLY and getattr(report, "when", "call") == "call":
                    _add(total, counted)
    if total:
        terminalreporter.section(TALLY)
        for name in sorted(total):
            terminalreporter.write_line(f"{name:<60}{total[name]:>10}")


def _add(total: Counter[str], counted: Mapping[str, Any]) -> None:
    slowest = max(total[SLOWEST], counted.get(SLOWEST, 0))
    total.update(counted)
    total[SLOWEST] = slowest
