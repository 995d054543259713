"""Lives that change the links of a registry and are killed before or after any one of their file operations.

`python -m tests.crash.swap_nursery` reads one JSON object per line and answers with the operations that the child
made, one per line, and its exit code.
"""

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.models import set_current, swap_back
from tests.crash.file_operations import Moment, Operation, end_at_unseen_changes, nothing, watched
from tests.crash.forking import ForkServer, serve

UNSEEN = 71
"""Exit code of a life that changed a file in a way that nobody watches."""
LIVES: Mapping[str, Callable[[Path, str], object]] = {
    "set_current": set_current,
    "swap_back": lambda registry, _name: swap_back(registry),
    "unwatched": lambda registry, _name: (registry / "file").write_text("text"),
}


# ---- the child's side -------------------------------------------------------------------------------------------
def _dying(moment: int) -> Moment:
    def at(index: int, _operation: Operation) -> None:
        if index == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def _live(asked: Mapping[str, Any]) -> int:
    end_at_unseen_changes(UNSEEN)
    death = {side: _dying(index) for side, index in asked["death"].items()}
    with watched(death.get("before", nothing), death.get("after", nothing)) as made:
        LIVES[asked["life"]](Path(asked["registry"]), asked["name"])
    for operation in made:
        os.write(1, json.dumps([operation.call, *operation.arguments]).encode() + b"\n")
    return 0


# ---- the test's side --------------------------------------------------------------------------------------------
class SwapNursery(ForkServer):
    """Starts lives in a process of its own."""

    def __init__(self) -> None:
        super().__init__("tests.crash.swap_nursery")

    def live(self, life: str, registry: Path, name: str) -> Sequence[Operation]:
        """Let a child do it undisturbed; returns its file operations."""
        code, made = self._lived(life, registry, name, {})
        assert code == 0, f"{life} ended with {code}"
        return made

    def end(self, life: str, registry: Path) -> int:
        """Let a child do it undisturbed; returns its exit code."""
        return self._lived(life, registry, "", {})[0]

    def die(self, life: str, registry: Path, name: str, side: str, index: int) -> None:
        """Let a child be killed right "before" or "after" its operation number `index`."""
        code, _ = self._lived(life, registry, name, {side: index})
        assert code == -signal.SIGKILL, f"{life} ended with {code}, not killed {side} operation {index}"

    def _lived(self, life: str, registry: Path, name: str, death: Mapping[str, int]) -> tuple[int, Sequence[Operation]]:
        self.send({"life": life, "registry": str(registry), "name": name, "death": death, "delay_s": None})
        code, lines = self.ended()
        told = [json.loads(line) for line in lines]
        return code, [Operation(call=call, arguments=tuple(arguments)) for call, *arguments in told]


if __name__ == "__main__":
    serve(_live)
