"""One instruction that numba has no word for: ask for memory before it is needed.

Many accounts stand on candles all over the histories, so that each step waits for main memory; asked for some accounts
ahead, what it needs has come by then. Nothing is read or changed.
"""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

_BYTES = ir.IntType(8).as_pointer()
_WORD = ir.IntType(32)
_READ, _KEEP, _DATA = _WORD(0), _WORD(3), _WORD(1)
CACHE_LINE = 64


def _prefetch(_: Any, record: Any, offset: Any) -> Any:  # noqa: ANN401 - numba's own
    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:  # noqa: ANN401
        place = builder.gep(builder.bitcast(arguments[0], _BYTES), [arguments[1]])
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _WORD, _WORD, _WORD])
        instruction = builder.module.declare_intrinsic("llvm.prefetch", [_BYTES], kind)
        builder.call(instruction, [place, _READ, _KEEP, _DATA])
        return context.get_dummy_value()

    return types.void(record, offset), generate


prefetch: Any = intrinsic(_prefetch)
"""prefetch(record, offset): ask for the cache line `offset` bytes into a record, which need not be there."""
