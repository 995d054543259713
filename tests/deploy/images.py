"""What the files that containers are built and run from say, without an engine to read them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = {"sacd": DEPLOY / "docker" / "Dockerfile", "trainer": DEPLOY / "docker" / "Dockerfile.trainer"}
"""By the service that runs the image."""


def compose(*names: str) -> dict[str, Any]:
    """Return compose files merged as the specification says of what ours hold: mappings by key, lists of services anew.

    Sequences of an override are appended, except `command`, which replaces.
    """
    merged: dict[str, Any] = {}
    for name in names:
        merged = _merged(merged, yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8")), "")
    return merged


def _merged(base: Any, over: Any, key: str) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{name: _merged(base.get(name), value, name) for name, value in over.items()}}
    if isinstance(base, list) and isinstance(over, list) and key != "command":
        return [*base, *over]
    return over


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction of a Dockerfile. stage: 0 for the first FROM, -1 before it."""

    stage: int
    name: str
    text: str


def instructions(dockerfile: Path) -> list[Instruction]:
    """Return the instructions in order, continued lines joined."""
    lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    found, stage = list[Instruction](), -1
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, text = line.strip().partition(" ")
            stage += name == "FROM"
            found.append(Instruction(stage=stage, name=name, text=text.strip()))
    return found


def final(dockerfile: Path, name: str) -> list[str]:
    """Return what the instructions of that name in the last stage say."""
    every = instructions(dockerfile)
    return [found.text for found in every if found.name == name and found.stage == every[-1].stage]


def environment(dockerfile: Path) -> dict[str, str]:
    """Return the variables of the image."""
    return dict(pair.split("=", 1) for text in final(dockerfile, "ENV") for pair in shlex.split(text))


def sources(dockerfile: Path) -> list[str]:
    """Return what is copied from the checkout."""
    copies = [found.text.split() for found in instructions(dockerfile) if found.name == "COPY"]
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


# ---- .dockerignore --------------------------------------------------------------------------------------------------
def is_sent(path: str) -> bool:
    """Return whether a path of the checkout reaches the engine: the last pattern for it or a parent decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = _expression(line.removeprefix("!"))
            parts = path.split("/")
            if any(pattern.fullmatch("/".join(parts[:count])) for count in range(1, len(parts) + 1)):
                sent = line.startswith("!")
    return sent


def _expression(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
    return re.compile(text)
