"""One decorator: a function of plain numbers and arrays, compiled to machine code on its first call.

What is decorated must also run as plain Python (`function.py_func`), operation by operation the same float64
arithmetic: no fused multiply-add, no reordering, so that both give the same bits.
"""

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

P = ParamSpec("P")
R = TypeVar("R")
_CUT_SHORT = (EOFError, pickle.UnpicklingError)
"""What a file raises that a power failure has cut."""


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` compiled by numba, the machine code kept on disk for the next process."""
    # The numpy error model divides without asking for zero first: callers exclude it, as float64 arithmetic would.
    dispatcher: Any = numba.njit(error_model="numpy")(function)
    # Where neither the directory of the source nor the user's cache can be written, every process compiles for itself.
    with suppress(RuntimeError):
        dispatcher._cache = _Cache(function)  # noqa: SLF001 - as enable_caching does
    return cast("Callable[P, R]", dispatcher)


class _Cache(FunctionCache):
    """Machine code on disk, good for these sources only.

    numba looks at the file of the function alone: what it calls, and the constants it takes from elsewhere, are in its
    machine code too, and would stay there after they have changed.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        impl = self._impl
        self._cache_file = _Files(self._cache_path, impl.filename_base, impl.locator.get_source_stamp())

    def save_overload(self, sig: Any, data: Any) -> None:  # noqa: ANN401 - numba's own
        """Keep machine code. A full disk stops nothing: it is compiled, and the next process compiles it again."""
        with suppress(OSError):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:  # noqa: ANN401 - numba's own
        return (*super()._index_key(sig, codegen), _sources())  # type: ignore[no-untyped-call]


class _Files(IndexDataCacheFile):
    """The files of one function, each of which says itself what it is for.

    numba writes the index before the code it names, under a number that older code had: whoever comes between, or
    after a process that was killed between, or while two of them write, would run code of other sources.
    """

    def __init__(self, path: str, base: str, stamp: object) -> None:
        super().__init__(path, base, stamp)  # type: ignore[no-untyped-call]

    def load(self, key: Any) -> Any:  # noqa: ANN401 - numba's own
        """Return what was kept under `key`; None where nothing whole was."""
        kept = super().load(key)  # type: ignore[no-untyped-call]
        return kept[1] if kept is not None and kept[0] == (self._source_stamp, key) else None

    def save(self, key: Any, data: Any) -> None:  # noqa: ANN401 - numba's own
        """Keep `data`."""
        super().save(key, ((self._source_stamp, key), data))  # type: ignore[no-untyped-call]

    def _load_index(self) -> Any:  # noqa: ANN401 - numba's own
        try:
            return super()._load_index()  # type: ignore[no-untyped-call]
        except _CUT_SHORT:
            return {}

    def _load_data(self, name: str) -> Any:  # noqa: ANN401 - numba's own
        try:
            return super()._load_data(name)  # type: ignore[no-untyped-call]
        except _CUT_SHORT:
            return None


@cache
def _sources() -> str:
    """Return a digest of everything compiled code can be made of."""
    digest = hashlib.sha256()
    for file in _source_files():
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _source_files() -> list[Path]:
    here = Path(__file__).parent
    files = [*here.glob("*kernel*.py"), here / "reward.py", Path(__file__), *(here.parent / "strategy").glob("*.py")]
    return sorted(files)


_sources()  # Now, for what is compiled later has been read already: an edit from here on is not in it.
