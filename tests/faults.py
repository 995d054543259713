"""Which tests inject which fault: what `@pytest.mark.fault(number)` says, beside the table in docs/faults.md.

`python -m tests.faults` writes the names of the marked tests into the table; faults, promises and remarks are written
by hand.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "faults.md"
ROWS = range(1, 73)
_ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \| (.*?) \| (.*?) \|$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. tests: names as pytest takes them.  remark: why there is no test, or what is left."""

    number: int
    fault: str
    promise: str
    tests: tuple[str, ...]
    remark: str

    @classmethod
    def parse(cls, line: str) -> "Row | None":
        """Return the row in a line of the document, None when it is something else."""
        found = _ROW.match(line)
        if found is None:
            return None
        number, fault, promise, tests, remark = found.groups()
        names = tuple(re.findall(r"`([^`]+)`", tests))
        return cls(number=int(number), fault=fault, promise=promise, tests=names, remark=remark.strip())

    def text(self) -> str:
        """Return the line of the document."""
        tests = "<br>".join(f"`{name}`" for name in self.tests)
        return f"| {self.number} | {self.fault} | {self.promise} | {tests} | {self.remark} |"


def marked(root: Path = ROOT) -> dict[int, tuple[str, ...]]:
    """Return the names of the tests of each row, in the order of files and lines."""
    found: dict[int, list[str]] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        for name, number in _marks(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault(number, []).append(f"{path.relative_to(root).as_posix()}::{name}")
    return {number: tuple(names) for number, names in found.items()}


def _marks(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for test in tree.body:
        if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and test.name.startswith("test_"):
            for decorator in test.decorator_list:
                match decorator:
                    case ast.Call(func=ast.Attribute(attr="fault"), args=[ast.Constant(value=int(number))]):
                        yield test.name, number


def rows(text: str) -> tuple[Row, ...]:
    """Return the rows of the table in a document."""
    return tuple(row for line in text.splitlines() if (row := Row.parse(line)) is not None)


def brought_up_to_date(text: str) -> str:
    """Return the document with the names of the tests as they are marked."""
    tests = marked()
    lines = []
    for line in text.splitlines():
        row = Row.parse(line)
        lines.append(line if row is None else replace(row, tests=tests.get(row.number, ())).text())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(brought_up_to_date(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
