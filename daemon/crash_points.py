"""Named moments at which a kill must do no harm: the tests set `hook`, nothing else does.

Each name stands in the code right where the danger is, so that moving the code moves the test with it.
"""

from collections.abc import Callable

NAMES = (
    "decided",
    "intent_committed",
    "sent",
    "replied",
    "fill_received",
    "filled_no_stop",
    "stop_placed",
    "migration",
    "backup",
)
"""After the decision, before it is on disk; on disk, before the request; request sent, before the reply; replied,
before that is on disk; fill received, before it is on disk; entry filled and on disk, before its stop is sent; stop
placed, before that is on disk; inside a migration; inside a backup."""

hook: Callable[[str], None] | None = None


def at(name: str) -> None:
    """Mark the moment `name`."""
    if hook is not None:
        hook(name)
