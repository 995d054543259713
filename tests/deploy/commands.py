"""Programs of other projects that tests run: without one a test is skipped, but fails in continuous integration."""

import os
import shutil

import pytest


def command(name: str) -> str:
    """Return the path of a command."""
    path = shutil.which(name)
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed; .ci/run names its package", pytrace=False)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path
