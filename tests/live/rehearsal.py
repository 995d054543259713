"""A house whose ensemble always wants to buy and whose price hardly moves, so that a test knows what comes next.

    with Rehearsal(tmp_path, nursery) as house:
        house.client.fault("POST order", "drop_reply", having=PURCHASE)
        house.begin()
        house.until_bought(1)
        house.finish()

A small purchase leaves at every candle, or an eighth of the equity with `votes=EAGER`, until half of the equity is
spent: after 17 candles, or 4. `rest` has it stop buying, `ask("flatten")` sells. `finish` stops the daemon and holds
what every test of a fault must find; a second life then must find nothing to reconcile.

A candle lasts a second, and a busy machine may take half of that to answer: a test must not hope that something of
ours, or of its own, happens before the next candle. It lets the daemon `rest` first, has the venue act at the right
moment by a fault, or gives itself a slower clock: `rehearse(speed=SLOW)`.
"""

import asyncio
import contextlib
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from daemon.control import call
from tests.fakes.serving import BTC, write_bundle
from tests.live.house import House, Life
from tests.live.nursery import Nursery

PURCHASE = {"side": "BUY"}
STOP = {"type": "STOP_LOSS*"}
Payload = Mapping[str, Any]
LITTLE, EAGER = (2.0, -1.0, 0.0), (2.0, 0.0, 0.0)
"""What the ensemble wants at every candle: to buy for 3 %, or 12.5 %, of the equity."""
SLOW = 20.0
"""How many times as fast the clock runs where a few seconds of it decide: they last as long as many requests take."""
_ENDS = ("filled", "cancelled", "expired", "rejected", "not_found")


class Rehearsal(House):
    """See the module. votes: of the ensemble.  changes: of the configuration, by section."""

    def __init__(
        self,
        root: Path,
        nursery: Nursery,
        *,
        move: float = 0.0005,
        votes: tuple[float, float, float] = LITTLE,
        **changes: Any,
    ) -> None:
        super().__init__(root, move=move, **changes)
        self.nursery = nursery
        self._lives = 0
        self.model = write_bundle(root / "models", timeframe="1m", votes=votes)
        self.say_ready()
        self.life: Life | None = None

    def __exit__(self, *_: object) -> None:
        if self.life is not None and not self.life.is_over:
            self.life.kill()
        super().__exit__()

    # ---- the daemon ---------------------------------------------------------------------------------------------
    def begin(self, *, is_ready: bool = True) -> Life:
        """Begin a life of the daemon; is_ready: and wait until it trades."""
        self._lives += 1
        seen = self.log.count('"event":"ready"')
        self.life = self.live(self.nursery)
        if is_ready:
            self.so(lambda: self.log.count('"event":"ready"') > seen, "ready to trade")
        return self.life

    def so(self, is_so: Any, what: str, timeout_s: float = 60.0) -> None:
        """Wait until something is so, while the daemon lives."""
        self.until(is_so, what, timeout_s, self.life)

    def ask(self, verb: str) -> dict[str, Any]:
        """Ask the running daemon for something, over its socket."""
        return asyncio.run(call(self.root / "house.sock", verb, {}))

    @property
    def web_port(self) -> int:
        """Where the running daemon's pages are."""
        return int(re.findall(r'"metrics":"http://127.0.0.1:([0-9]+)/"', self.log)[-1])

    def hand(self, command: str, **values: Any) -> dict[str, Any]:
        """Do something to our account at the venue by hand."""
        (account,) = self.ready["accounts"]
        return self.client.do(command, account=account, **values)

    def end(self) -> None:
        """Stop the daemon as a person does."""
        assert self.life is not None
        assert self.life.kill(signal.SIGTERM) == 0, self.log[-3000:]

    def finish(self) -> None:
        """Stop the daemon, compare journal and venue, and see that another life finds nothing to put right."""
        self.client.do("clear_faults")
        if self.life is not None and not self.life.is_over:
            self.end()
        self.check()
        before = len(self.entries("external"))
        self.begin()
        self.end()
        assert len(self.entries("external")) == before, self.entries("external")[before:]
        self.check()

    def rest(self) -> None:
        """Pause the daemon, and wait until no purchase is under way and a stop covers all that it has bought."""
        self.ask("pause")
        self.so(lambda: all(self.reports(client_id, *_ENDS) for client_id in self.decided()), "purchases have ended")
        self.until_protected()

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """Let the running daemon see nothing of what happens meanwhile until all of it has happened."""
        assert self.life is not None
        self.nursery.kill(self.life.pid, signal.SIGSTOP)
        yield
        self.nursery.kill(self.life.pid, signal.SIGCONT)

    # ---- what happened ------------------------------------------------------------------------------------------
    def held(self, asset: str = "BTC") -> float:
        """Return what the account holds of a coin, ours or not."""
        return self.total(asset)

    def reports(self, client_id: str, *events: str) -> list[Payload]:
        """Return what the journal says happened to an order, oldest first."""
        told = [payload for payload in self.entries("order") if payload["client_id"] == client_id]
        return [payload for payload in told if not events or payload["event"] in events]

    def events(self, client_id: str) -> list[str]:
        return [payload["event"] for payload in self.reports(client_id)]

    def decided(self, side: str = "buy") -> list[str]:
        """Return the client ids of the orders that decisions approved, oldest first."""
        orders = [payload["order"] for payload in self.entries("decision")]
        return [order["client_id"] for order in orders if order is not None and order["side"] == side]

    def reasons(self) -> list[str]:
        return [payload["reason"] for payload in self.entries("decision")]

    def sent(self, client_id: str) -> list[Payload]:
        """Return the requests for new orders under an id that reached the venue, taken or not."""
        requests = self.client.audit(kind="request")
        return [r for r in requests if r["method"] == "POST" and client_id in str(r["params"])]

    def asked(self, method: str, path: str) -> list[Payload]:
        """Return the requests that reached the venue, by method and end of the path."""
        requests = self.client.audit(kind="request")
        return [r for r in requests if r["method"] == method and r["path"].endswith(path)]

    def traded(self, *, side: str = "buy", by_stop: bool | None = None) -> list[Payload]:
        """Return the trades of our orders at the venue."""
        found = [r for r in self.client.audit(kind="fill") if r["is_api"] and r["side"] == side]
        return [r for r in found if by_stop is None or r["type"].startswith("stop") is by_stop]

    def stops(self) -> list[dict[str, Any]]:
        """Return our protective stops that rest at the venue."""
        return [order for order in self.open_orders() if order["stop_price"] not in {None, "0"} and order["is_api"]]

    def until_bought(self, count: int) -> None:
        """Wait for so many purchases that have ended at the venue and are in the books, all protected."""
        self.so(lambda: len({f["client_id"] for f in self.fills() if f["side"] == "buy"}) >= count, f"{count} bought")

    def until_protected(self, symbol: str = BTC) -> None:
        """Wait until one stop rests that covers all that can be sold."""
        base = symbol.partition("/")[0]

        def is_so() -> bool:
            stops = [stop for stop in self.stops() if stop["symbol"] == symbol]
            return len(stops) == 1 and 0.0 <= self.total(base) - float(stops[0]["quantity"]) < 0.00002

        self.so(is_so, "one stop of everything")


class Rehearse(Protocol):
    """Makes a rehearsal of a test's own: the fixture `rehearse`."""

    def __call__(self, **changes: Any) -> Rehearsal: ...
