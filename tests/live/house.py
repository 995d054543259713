"""A house to live in: a test venue as a program of its own, a bundle that trades often, a live configuration, keys.

    with House(tmp_path) as house, Nursery() as nursery:
        life = house.live(nursery)
        house.until(lambda: house.fills(), "something was bought")
        life.kill()
        house.check()

Venue and daemon go by one clock that runs `speed` times as fast, so that a one-minute candle passes in a second; and
slower where the machine is too busy for that.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from daemon import journal_reader
from daemon.errors import DataError
from daemon.journal_reader import verify
from daemon.replay import replay
from daemon.testvenue.client import VenueClient
from tests.crash.forking import die_with_parent
from tests.daemon.programs import environment
from tests.fakes.serving import ROOT, write_bundle
from tests.live.canary import leaks
from tests.live.nursery import Nursery
from tests.live.pace import slowness

KEY, SECRET = "canary4KEY7qXv2bnzT8wLmRs3KdHpYcJ", "Y2FuYXJ5OVNFQ1JFVGc1ZlF6cjZWdFd4MU5iTWowUGFFdTE="
"""What no file, log or answer may ever show."""
PRICES = {"BTC/USDT": "20000", "ETH/USDT": "1500"}
_LOOSE = {
    "strategy": {"decide_every": 1, "dead_band": 0.01, "edge_multiple": 0.0, "disagreement_limit": 1.0,
                 "volatility_target": 10.0},
    "risk": {"max_orders_per_day": 100_000, "max_turnover_per_day": 10_000.0, "stop_loss": 0.02, "stop_cooldown": 1,
             "stop_atr_multiple": 0.0, "loss_streak": 50, "daily_loss": 0.9, "max_drawdown": 0.8,
             "out_of_distribution": 1_000.0, "stale_feed_s": 600.0},
    "live": {"max_order_value": 1e6, "max_position_value": 1e6, "max_orders_per_minute": 1_000,
             "decision_age_s": 300.0},
    "retrain": {"drift_limit": 0.0},
}  # fmt: skip
"""Limits loose enough that most votes become orders."""


@dataclass(slots=True)
class Life:
    """One daemon process."""

    nursery: Nursery
    pid: int

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and return the exit code, -9 for a kill."""
        self.nursery.kill(self.pid, number)
        return self.end()

    def end(self, timeout_s: float = 120.0) -> int:
        """Wait for the end and return the exit code."""
        code = self.nursery.wait(self.pid, timeout_s)
        assert code is not None, f"the daemon still lives after {timeout_s} s"
        return code

    @property
    def is_over(self) -> bool:
        return self.nursery.wait(self.pid, 0.0) is not None


class House:
    """See the module. dialect: exchange the venue speaks like.  balances: of the account at the venue.

    speed: of the clock on an idle machine.  move: how far the price goes within a candle, as a share of it.
    """

    def __init__(
        self,
        root: Path,
        *,
        symbols: Sequence[str] = ("BTC/USDT",),
        dialect: str = "binance",
        speed: float = 60.0,
        seed: int = 1,
        balances: str = "USDT=100000,BNB=10",
        history: int = 2_600,
        move: float = 0.01,
        **changes: Mapping[str, Any],
    ) -> None:
        self.root = root
        self.symbols = tuple(symbols)
        self.dialect = dialect
        self.slowness = slowness()
        self.speed = speed / self.slowness
        self.seed = seed
        self._balances = balances
        self._history = history
        self._move = move
        self.model = write_bundle(root / "models", timeframe="1m")
        self.audit_path = root / "audit.jsonl"
        self._changes = changes
        self.say_ready()

    def say_ready(self, *, ready: bool = True) -> None:
        """Write the evaluation of the bundle."""
        bundle = json.loads((self.model / "manifest.json").read_text(encoding="utf-8"))
        said = {"bundle": bundle["id"], "ready": ready, "at": "2026-01-01T00:00:00Z", "summary": "made for tests"}
        (self.model / "evaluation.json").write_text(json.dumps(said), encoding="utf-8")

    # ---- the venue ----------------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        self.open_venue()
        self.configure(**self._changes)
        return self

    def __exit__(self, *_: object) -> None:
        self.close_venue()

    def open_venue(self) -> None:
        """Start the venue; `client` and `ready` speak of it."""
        command = [
            sys.executable, "-m", "daemon.testvenue", "--dialect", self.dialect, "--present", "--timeframe", "1m",
            "--history", str(self._history), "--speed", str(self.speed), "--seed", str(self.seed),
            "--move", str(self._move), "--account", f"{KEY}:{SECRET}:{self._balances}", "--audit", str(self.audit_path),
            "--every-candle",  # Kraken shows 720, which would fill no window
        ]  # fmt: skip
        for symbol in self.symbols:
            command += ["--symbol", f"{symbol}@{PRICES[symbol]}"]
        self._venue = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel and nothing else
        )
        assert self._venue.stdout is not None
        line = self._venue.stdout.readline()
        assert line, "the venue did not start"
        self.ready = json.loads(line)
        self.client = VenueClient(self.ready["port"])

    @property
    def venue_pid(self) -> int:
        return self._venue.pid

    def close_venue(self) -> None:
        """End the venue, also one that a test has stopped."""
        self._venue.send_signal(signal.SIGCONT)
        self._venue.terminate()
        self._venue.communicate(timeout=20)

    # ---- the daemon ---------------------------------------------------------------------------------------------
    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def state(self) -> Path:
        return self.root / "var"

    @property
    def journal(self) -> Path:
        return self.state / "house-exchange.sqlite"

    @property
    def keys(self) -> Path:
        return self.root / "exchange.toml"

    @property
    def log(self) -> str:
        path = self.config.with_suffix(".log")
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def write_keys(self, key: str = KEY, secret: str = SECRET, mode: int = 0o600) -> None:
        """Write the credential file."""
        self.keys.write_text(f"apiKey = {json.dumps(key)}\nsecret = {json.dumps(secret)}\n", encoding="utf-8")
        self.keys.chmod(mode)

    def configure(self, **changes: Mapping[str, Any]) -> Path:
        """Write keys and configuration; `changes` go to sections by name. Returns its path."""
        self.write_keys()
        sections: dict[str, dict[str, Any]] = {
            "daemon": {"instance": "house", "mode": "live", "state_dir": str(self.state), "initial_cash": 50_000.0},
            "market": {"source": "exchange", "symbols": list(self.symbols), "timeframe": "1m"},
            "exchange": {"id": self.dialect, "credentials": str(self.keys), "stale_after_s": 120.0, "grace_s": 5.0},
            "http": {"port": 0},
            "control": {"socket": str(self.root / "house.sock")},
            "journal": {"checkpoint_every": 25},
            "strategy": {"model": str(self.model)},
            "log": {"format": "json"},
        }
        for section, values in (*_LOOSE.items(), *changes.items()):
            sections[section] = {**sections.get(section, {}), **values}
        options = {**self.ready["ccxt"][self.dialect], **sections.get("exchange.ccxt", {})}
        # Where time runs faster, a request is older when it arrives; a minute is the most that Binance allows.
        sections["exchange.ccxt"] = {**options, "options": {**options.get("options", {}), "recvWindow": 60_000}}
        self.config.write_text("".join(_tables(sections)), encoding="utf-8")
        return self.config

    def live(self, nursery: Nursery, *, death: tuple[str, int] | None = None, accept_recovery: bool = False) -> Life:
        """Begin a life of the daemon."""
        pid = nursery.start(self.config, clock=self.ready["clock"], death=death, accept_recovery=accept_recovery)
        return Life(nursery, pid)

    def until(self, is_so: Callable[[], object], what: str, timeout_s: float = 60.0, life: Life | None = None) -> None:
        """Wait until something is so, longer where the clock runs slower. life: of a daemon that must not end."""
        timeout_s *= self.slowness
        end = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < end, f"not within {timeout_s:.0f} s: {what}\n{self.log[-3000:]}"
            assert life is None or not life.is_over, f"the daemon ended before: {what}\n{self.log[-3000:]}"
            time.sleep(0.02 * self.slowness)

    # ---- what happened ------------------------------------------------------------------------------------------
    def entries(self, *kinds: str) -> list[Mapping[str, Any]]:
        """Return payloads of the journal, of some kinds or all."""
        try:
            return [entry.payload for entry in journal_reader.read(self.journal, kinds=kinds or None)]
        except DataError:
            return []  # it is just being made

    def fills(self) -> list[Mapping[str, Any]]:
        return self.entries("fill")

    def logged(self, event: str) -> bool:
        """Tell whether the log holds a line of an event."""
        return f'"event": "{event}"' in self.log or f'"event":"{event}"' in self.log

    def venue_orders(self) -> list[dict[str, Any]]:
        """Return every order the venue ever accepted of our account, from its audit."""
        return self.client.audit(kind="order")

    def open_orders(self) -> list[dict[str, Any]]:
        return list(self.client.state()["open_orders"])

    def total(self, asset: str) -> float:
        """Return what the account holds of a coin at the venue."""
        (balances,) = self.client.state()["accounts"].values()
        free, locked = balances.get(asset, ("0", "0"))
        return float(free) + float(locked)

    def books(self) -> tuple[float, dict[str, float], dict[str, float]]:
        """Return cash, holdings and foreign amounts as the last checkpoint of the journal has them."""
        checkpoint = journal_reader.last_of_kind(self.journal, "checkpoint")
        assert checkpoint is not None
        portfolio = checkpoint.payload["trader"]["portfolio"]
        held = {symbol: position["quantity"] for symbol, position in portfolio["positions"].items()}
        return portfolio["cash"], held, checkpoint.payload["memory"]["foreign"]

    def doubles(self) -> list[str]:
        """Return client ids under which the venue took more than one order."""
        counted = Counter(record["client_id"] for record in self.venue_orders())
        return [client_id for client_id, count in counted.items() if count > 1]

    def check(self, *, secrets_in: Iterable[Path] = ()) -> None:
        """Hold the journal of a daemon that has stopped cleanly against the venue: nothing lost, nothing doubled."""
        doubles = self.doubles()
        assert doubles == [], f"the venue took several orders under each of {doubles}"
        found = verify(self.journal)
        assert found.is_sound, found
        cash, held, foreign = self.books()
        for symbol in self.symbols:
            base, _, quote = symbol.partition("/")
            at_venue, others = self.total(base), foreign.get(base, 0.0)
            assert abs(at_venue - held[symbol] - others) < 1e-9, (symbol, at_venue, held[symbol], others)
            stops = [o for o in self.open_orders() if o["symbol"] == symbol and float(o["stop_price"]) > 0.0]
            is_sellable = held[symbol] * float(self.client.state()["prices"][symbol]) >= 10.0
            assert len(stops) == is_sellable, (symbol, held[symbol], stops)
            if stops:
                assert float(stops[0]["quantity"]) <= held[symbol] + 1e-12
        assert abs(self.total(quote) - cash - foreign.get(quote, 0.0)) < 1e-4
        assert replay(self.journal, self.root / "models").differ == 0
        self.no_secret_in(self.root, *secrets_in)

    def no_secret_in(self, *places: Path) -> None:
        """Search every file for the keys in any form, except the file they lie in."""
        assert leaks({"key": KEY, "secret": SECRET}, *places, but=[self.keys]) == []


def _tables(sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return TOML text of sections, with tables inside them as tables of their own."""
    texts = []
    for title, values in sections.items():
        flat = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
        inner = {f"{title}.{key}": value for key, value in values.items() if isinstance(value, Mapping)}
        # JSON writes strings, numbers, booleans and lists of them as TOML reads them.
        texts.append(f"[{title}]\n" + "".join(f"{_key(k)} = {json.dumps(v)}\n" for k, v in flat.items()) + "\n")
        texts += _tables(inner)
    return texts


def _key(name: str) -> str:
    return json.dumps(name)


def moments(seed: int, low: float, high: float) -> Callable[[], float]:
    """Return a source of random waits in seconds, the same for the same seed."""
    generator = random.Random(seed)
    return lambda: generator.uniform(low, high)
