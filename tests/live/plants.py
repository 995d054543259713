"""Faults planted into a daemon's own process before it begins: a signal to itself, an error, a loop that hangs.

A test writes a list of them into `CONFIG.plant`; the next life takes them and removes the file:

    {"what": "signal", "at": "sent", "number": 15}                           at a crash point
    {"what": "raise", "in": "daemon.engine:Engine.watch", "skip": 1}         when a method is called
    {"what": "poison"}                                                       every vote is no number
    {"what": "block", "in": "daemon.engine:Engine._on_candles", "seconds": 120.0}
"""

import asyncio
import functools
import importlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from daemon import crash_points
from strategy.policy import Ensemble


class PlantedError(Exception):
    """Something that nobody expected."""


def plant(config: Path) -> None:
    """Plant what the test asked for, if anything."""
    path = config.with_suffix(".plant")
    if not path.exists():
        return
    for asked in json.loads(path.read_text(encoding="utf-8")):
        _PLANTS[asked.pop("what")](asked)
    path.unlink()


def _signal(asked: dict[str, Any]) -> None:
    """Send this process a signal when it passes a crash point. count: the how-maniest time."""
    before, left = crash_points.hook, asked.get("count", 1)

    def hook(name: str) -> None:
        nonlocal left
        if name == asked["at"]:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), asked["number"])
        if before is not None:
            before(name)

    crash_points.hook = hook


def _raise(asked: dict[str, Any]) -> None:
    def fail() -> None:
        raise PlantedError(asked["in"])

    _in_front_of(asked, fail)


def _block(asked: dict[str, Any]) -> None:
    _in_front_of(asked, lambda: time.sleep(asked["seconds"]))


def _poison(_asked: dict[str, Any]) -> None:
    act = Ensemble.act
    Ensemble.act = lambda ensemble, seen: act(ensemble, seen) * np.float32("nan")  # type: ignore[method-assign]


def _in_front_of(asked: dict[str, Any], act: Callable[[], None]) -> None:
    """Let `act` run when a method is called: once, or `times` times, after `skip` calls, and inside its task."""
    module, _, path = asked["in"].partition(":")
    owner_name, _, name = path.partition(".")
    owner = getattr(importlib.import_module(module), owner_name)
    whole, calls = getattr(owner, name), 0
    first, last = asked.get("skip", 0), asked.get("skip", 0) + asked.get("times", 1)

    def count() -> None:
        nonlocal calls
        calls += 1
        if first < calls <= last:
            act()

    @functools.wraps(whole)
    async def in_task(*arguments: Any, **named: Any) -> Any:
        count()
        return await whole(*arguments, **named)

    @functools.wraps(whole)
    def at_once(*arguments: Any, **named: Any) -> Any:
        count()
        return whole(*arguments, **named)

    setattr(owner, name, in_task if asyncio.iscoroutinefunction(whole) else at_once)


_PLANTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "signal": _signal,
    "raise": _raise,
    "poison": _poison,
    "block": _block,
}
