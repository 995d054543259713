"""What the public environment checkers print."""

import warnings
from collections.abc import Callable


def messages_of(check: Callable[[], None]) -> list[str]:
    """Return the warnings of `check`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check()
    return [str(warning.message) for warning in caught]
