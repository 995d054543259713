"""Who may import what: the rules hold of this checkout, and the checker finds each wrong arrow when it is planted."""

import importlib.metadata
from pathlib import Path

import pytest

import daemon
import strategy
import training
from tests.architecture import PACKAGES, ROOT, violations


def test_no_file_breaks_the_rules() -> None:
    assert violations(ROOT) == []


def test_every_package_is_walked() -> None:
    walked = {path.relative_to(ROOT).parts[0] for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert walked == set(PACKAGES)


def test_the_packages_that_load_are_ours_and_not_python_daemon() -> None:
    for package in (daemon, strategy, training):
        assert package.__file__ is not None
        assert Path(package.__file__).parent.parent == ROOT
    installed = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    assert "python-daemon" not in installed


# ---- the checker itself: each wrong arrow, planted ----
FEED = """class F:
    async def instruments(self): ...
    def events(self, resume): ...
    async def close(self): ...
"""
BROKER = """class B:
    async def submit(self, order): ...
    def on_market(self, event): ...
    def protect(self, symbol, stop): ...
    async def close(self): ...
"""

PLANTED = [
    ("strategy/a.py", "import daemon.ports", "strategy imports daemon"),
    ("strategy/a.py", "from daemon import ports", "strategy imports daemon"),
    ("strategy/a.py", "from training.env import Env", "strategy imports training"),
    ("daemon/a.py", "from training import env", "daemon imports training"),
    ("daemon/a.py", "def f():\n    import training.train", "daemon imports training"),
    ("daemon/a.py", "import importlib\nimportlib.import_module('training.env')", "daemon imports training"),
    ("daemon/a.py", "from importlib import import_module as load\nload('torch')", "daemon imports torch"),
    ("daemon/a.py", "__import__('torch')", "daemon imports torch"),
    ("daemon/a.py", "import importlib\nimportlib.import_module(name)", "not written out"),
    ("daemon/a.py", "eval(text)", "eval runs text as code"),
    ("training/a.py", "import daemon.config", "training imports daemon"),
    ("training/a.py", "from tests.fakes import clock", "training imports tests"),
    ("training/deep/a.py", "from ...daemon import app", "training imports daemon"),
    ("strategy/a.py", "import asyncio", "strategy imports asyncio"),
    ("strategy/a.py", "import socket", "strategy imports socket"),
    ("strategy/a.py", "from pathlib import Path", "strategy imports pathlib"),
    ("strategy/a.py", "import io, os", "strategy imports os"),
    ("strategy/a.py", "from datetime import UTC", "strategy imports datetime"),
    ("strategy/a.py", "import logging", "strategy imports logging"),
    ("strategy/a.py", "import sqlite3", "strategy imports sqlite3"),
    ("strategy/a.py", "import subprocess", "strategy imports subprocess"),
    ("strategy/a.py", "def f():\n    import threading", "strategy imports threading"),
    ("strategy/a.py", "import safetensors", "strategy imports safetensors"),
    ("strategy/a.py", "with open('x') as f:\n    pass", "strategy calls open"),
    ("strategy/a.py", "print(1)", "strategy calls print"),
    ("strategy/a.py", "import numpy as np\nnp.load('x.npy')", "numpy.load"),
    ("strategy/a.py", "import numpy as np\nx = np.random.default_rng(1)", "numpy.random.default_rng"),
    ("strategy/a.py", "import gzip\nopener = gzip.open", "gzip.open"),
    ("strategy/a.py", "from numpy import random", "numpy.random"),
    ("strategy/a.py", "from numpy.random import Generator", "numpy.random.Generator"),
    ("daemon/a.py", "import torch", "daemon imports torch"),
    ("daemon/a.py", "def f():\n    import pandas as pd", "daemon imports pandas"),
    ("daemon/a.py", "import stable_baselines3.sac", "daemon imports stable_baselines3"),
    ("daemon/a.py", "from gymnasium import spaces", "daemon imports gymnasium"),
    ("daemon/a.py", "import pyarrow.parquet", "daemon imports pyarrow when it starts"),
    ("daemon/feed_ccxt.py", "import ccxt.pro", "ccxt imported at module level"),
    ("daemon/feed_ccxt.py", "class A:\n    import ccxt", "ccxt imported at module level"),
    ("training/fetch_ccxt.py", "import ccxt", "ccxt imported at module level"),
    ("daemon/fetch_ccxt.py", "def f():\n    import ccxt", "ccxt outside"),
    ("training/feed_ccxt.py", "def f():\n    import ccxt", "ccxt outside"),
    ("daemon/engine.py", "def f():\n    import ccxt", "ccxt outside"),
    ("training/candles.py", "def f():\n    from ccxt import binance", "ccxt outside"),
    ("daemon/engine.py", "def f():\n    import apscheduler.triggers.cron", "apscheduler outside"),
    ("daemon/feed_ccxt.py", FEED + "from daemon.broker_paper import B", "imports adapter daemon.broker_paper"),
    ("daemon/journal.py", "from daemon import metrics", "imports adapter daemon.metrics"),
    ("daemon/metrics.py", "from .journal import SqliteJournal", "imports adapter daemon.journal"),
    ("daemon/engine.py", "from daemon.broker_paper import B", "module daemon.engine imports adapter"),
    ("daemon/recovery.py", "import daemon.journal as j", "module daemon.recovery imports adapter"),
    ("daemon/application.py", "import daemon.journal", "module daemon.application imports adapter"),
    ("daemon/a.py", "import time", "time outside daemon/clock.py"),
    ("daemon/a.py", "from time import monotonic", "time.monotonic outside"),
    ("daemon/a.py", "import random", "random outside"),
    ("daemon/app.py", "import random\nrandom.shuffle(x)", "random.shuffle outside"),
    ("daemon/retry.py", "from random import Random", "random.Random outside"),
    ("daemon/testvenue/a.py", "import random\nrandom.Random()", "random.Random without a seed"),
    ("daemon/testvenue/a.py", "import random\nrandom.random()", "random.random outside"),
    ("daemon/a.py", "import uuid\nuuid.uuid4()", "uuid.uuid4 outside"),
    ("daemon/a.py", "import os\nos.urandom(8)", "os.urandom outside"),
    ("daemon/a.py", "from datetime import datetime, UTC\ndatetime.now(UTC)", "datetime.datetime.now outside"),
    ("daemon/a.py", "import datetime as d\nd.date.today()", "datetime.date.today outside"),
    ("daemon/a.py", "from datetime import datetime\nnow = datetime.now", "datetime.datetime.now outside"),
    ("daemon/a.py", "import asyncio\nasync def f():\n    await asyncio.sleep(1)", "asyncio.sleep outside"),
    ("daemon/a.py", "import numpy as np\nnp.random.normal()", "numpy.random.normal outside"),
    ("daemon/a.py", "import numpy as np\nnp.random.default_rng()", "default_rng without a seed"),
    ("daemon/__init__.py", "from daemon.ports import Feed", "__init__.py is not empty"),
    ("strategy/deep/__init__.py", '"""Text."""', "__init__.py is not empty"),
]

ALLOWED = {
    "strategy/a.py": "import gzip\nimport math\nimport numpy as np\nfrom numpy.typing import NDArray\n"
    "from collections.abc import Mapping\nfrom strategy.b import C\n"
    "x = np.zeros(3)\ny = table.open(gzip.decompress(b))\nz = self.random.normal()",
    "daemon/clock.py": "import time\nimport random\nfrom datetime import datetime\ntime.time()\ndatetime.now()",
    "daemon/feed_ccxt.py": FEED + "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ccxt\n"
    "def f():\n    import ccxt.pro\nfrom daemon.feed_queue import Queue",
    "daemon/schedule.py": "from apscheduler.triggers.cron import CronTrigger",
    "daemon/feed_queue.py": "class Queue:\n    def events(self): ...",
    "daemon/broker_paper.py": BROKER,
    "daemon/journal.py": "from strategy.order import Order\nfrom daemon.ports import Journal",
    "daemon/app.py": "import random\nfrom daemon.feed_ccxt import F\nfrom daemon.broker_paper import B\n"
    "jitter = random.Random()",
    "daemon/testvenue/server.py": "import random\ngenerator = random.Random(seed)",
    "daemon/__main__.py": "import daemon.journal\nimport typer",
    "daemon/commands/journal.py": "import daemon.journal",
    "daemon/files.py": "import asyncio\nimport numpy as np\nrng = np.random.default_rng(seed)\n"
    "def f():\n    import pyarrow.parquet\nasync def g():\n    await asyncio.sleep(0)",
    "training/env.py": "import torch\nimport time\nfrom strategy.trader import Trader\nfrom training.reward import r",
    "training/candles.py": "import importlib\nimportlib.import_module(name)",
    "training/fetch_ccxt.py": "def f():\n    import ccxt",
    "training/__init__.py": "",
}


def _plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(("file", "text", "fault"), PLANTED, ids=[f"{file}: {fault}" for file, _, fault in PLANTED])
def test_a_planted_violation_is_found_in_its_file(tmp_path: Path, file: str, text: str, fault: str) -> None:
    around = {"daemon/broker_paper.py": BROKER, "daemon/journal.py": "", "daemon/metrics.py": ""}
    found = violations(_plant(tmp_path, around | {file: text}))
    assert [line for line in found if line.startswith(f"{file}:") and fault in line], found


def test_what_the_rules_allow_passes(tmp_path: Path) -> None:
    assert violations(_plant(tmp_path, ALLOWED)) == []


def test_a_violation_names_its_line(tmp_path: Path) -> None:
    _plant(tmp_path, {"daemon/a.py": "import json\n\n\ndef f():\n    import torch\n"})
    assert violations(tmp_path) == ["daemon/a.py:5: daemon imports torch, which is not among its dependencies"]
