"""A configuration that was read anew, in words: what became of it, and what it changes."""

import json
from collections.abc import Sequence

from daemon.events import Change, ConfigReloaded, ReloadOutcome


def reload_words(event: ConfigReloaded) -> str:
    """Return it as one line."""
    match event.outcome:
        case ReloadOutcome.TAKEN:
            return f"{event.file} is in force from the next candle on: {', '.join(change_words(event.changes))}"
        case ReloadOutcome.UNCHANGED:
            return f"{event.file} says what is in force already"
        case ReloadOutcome.NEEDS_RESTART:
            what = f"{', '.join(event.restart)} cannot change while sacd runs: restart it, or set them back"
            return f"nothing of {event.file} was taken: {what}"
        case ReloadOutcome.INVALID:
            count = len(event.mistakes)
            return f"nothing of {event.file} was taken: {count} mistake{'s' if count > 1 else ''}, see the log"


def change_words(changes: Sequence[Change]) -> list[str]:
    """Return a line for each: `risk.max_drawdown 0.15 -> 0.12`."""
    return [f"{change.key} {json.dumps(change.old)} -> {json.dumps(change.new)}" for change in changes]
