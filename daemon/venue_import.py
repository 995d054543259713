"""Lets ccxt be imported with one exchange instead of all hundred: 57 MB and most of a second less.

ccxt's packages import every exchange they know three times over: for threads, for asyncio and with streams. While ccxt
is imported, an empty module stands for each exchange that is left out; ccxt and the wanted one stay as they are.
"""

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_FOLDERS = {"ccxt": ".", "ccxt.async_support": "async_support", "ccxt.pro": "pro"}
_DERIVED_FROM = re.compile(r"^from ccxt\.(?:async_support|pro)\.([a-z]\w*) import", re.MULTILINE)


@contextmanager
def only_exchange(exchange_id: str) -> Iterator[None]:
    """Leave every exchange but `exchange_id`, and those it is derived from, out of an `import ccxt.pro` inside.

    Changes nothing when ccxt does not know the exchange, or is loaded with it. When ccxt is loaded without it, it is
    imported once more; who holds the former one keeps it.
    """
    root = _root()
    known = root is not None and (root / "pro" / f"{exchange_id}.py").is_file()
    if root is None or not known or f"ccxt.pro.{exchange_id}" in sys.modules:
        yield
        return
    for name in [name for name in sys.modules if name == "ccxt" or name.startswith("ccxt.")]:
        del sys.modules[name]
    left_out = dict(_left_out(root, _wanted(root, exchange_id)))
    sys.modules.update(left_out)
    try:
        yield
    finally:
        for name in left_out:
            sys.modules.pop(name, None)


def _root() -> Path | None:
    """Return where ccxt lies, without importing it."""
    spec = importlib.util.find_spec("ccxt")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _wanted(root: Path, exchange_id: str) -> set[str]:
    """Return the exchange and those that its classes are derived from, read from their import statements."""
    wanted, open_ = set[str](), {exchange_id}
    while open_:
        name = open_.pop()
        wanted.add(name)
        for package in ("async_support", "pro"):
            path = root / package / f"{name}.py"
            if path.is_file():
                open_.update(set(_DERIVED_FROM.findall(path.read_text(encoding="utf-8"))) - wanted)
    return wanted


def _left_out(root: Path, wanted: set[str]) -> Iterator[tuple[str, ModuleType]]:
    exchanges = {path.stem for path in (root / "abstract").glob("[a-z]*.py")}
    for package, folder in _FOLDERS.items():
        # Of the exchanges for threads none is needed.
        keep = set[str]() if package == "ccxt" else wanted
        for name in sorted(exchanges - keep):
            if (root / folder / f"{name}.py").is_file():
                module = ModuleType(f"{package}.{name}")
                setattr(module, name, None)
                yield module.__name__, module
