"""Registries as tests lay them out."""

from collections.abc import Mapping
from pathlib import Path

from tests.fakes.serving import write_bundle


def add(registry: Path, seed: int) -> str:
    """Put a bundle that this program can serve into the registry and return its name."""
    return write_bundle(registry, seed=seed, members=2).name


def links(registry: Path) -> dict[str, str]:
    return {path.name: str(path.readlink()) for path in registry.iterdir() if path.is_symlink()}


def lay(registry: Path, wanted: Mapping[str, str]) -> None:
    for path in registry.iterdir():
        if path.is_symlink():
            path.unlink()
    for link, target in wanted.items():
        (registry / link).symlink_to(target)
