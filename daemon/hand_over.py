"""Hands a verb over to the training side: this process becomes it, and never imports what training needs."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def hand_over(verb: str, arguments: Sequence[str]) -> NoReturn:
    """Become `python -m training VERB ARGUMENTS`."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "training", verb, *arguments])  # noqa: S606 - no shell
