"""Named moments at which a kill must do no harm: the tests set `hook`, nothing else does.

Each name stands in the code right where the danger is, so that moving the code moves the test with it.
"""

from collections.abc import Callable

OF_ENSEMBLES = ("requested", "shadowing", "swapping", "linked", "serving")
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
    *OF_ENSEMBLES,
)
"""After the decision, before it is on disk; on disk, before the request; request sent, before the reply; replied,
before that is on disk; fill received, before it is on disk; entry filled and on disk, before its stop is sent; stop
placed, before that is on disk; inside a migration; inside a backup. Of the ensembles: that a retraining is asked for is
on disk, before a trainer can know; a candidate's shadow is on disk, before what the trainer left is removed; a swap is
on disk, before any link changes; the links have changed, before another one decides; it decides."""

hook: Callable[[str], None] | None = None


def at(name: str) -> None:
    """Mark the moment `name`."""
    if hook is not None:
        hook(name)
