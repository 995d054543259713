"""A live account whose daemon is killed again and again, and what must be so each time it stands up again."""

import contextlib
import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from daemon import journal_reader
from daemon.errors import TransientError
from daemon.ports import Record
from daemon.testvenue.audit_checks import naked_spans
from tests.live.house import House, Life
from tests.live.mortal import checksum
from tests.live.nursery import KILLED, Nursery

Report = Callable[[str, object], None]
TALLY = "live kills"
SLOWEST = "slowest protection after connecting, ms, real time"
_STARTS = 4
_SIZES = {"lot": Decimal("0.00001"), "min_value": Decimal(10)}


class Account:
    """One account at one venue. is_later: it is traded by a program with a newer journal schema."""

    def __init__(self, house: House, nursery: Nursery) -> None:
        self.house = house
        self.is_later = False
        self._nursery = nursery
        self._tally: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()

    # ---- lives and deaths ---------------------------------------------------------------------------------------
    def start(self, death: tuple[str, int] | None = None) -> Life:
        """Begin a life."""
        house = self.house
        pid = self._nursery.start(house.config, clock=house.ready["clock"], death=death, is_later=self.is_later)
        self._tally["lives"] += 1
        return Life(self._nursery, pid)

    def doom(self, at: str, of: str = "", count: int = 1) -> None:
        """Let the present life, or the next one, die at a crash point: the `count`-th time it is about `of`."""
        path = self.house.config.with_suffix(".death")
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"at": at, "of": of, "count": count}), encoding="utf-8")
        new.replace(path)

    def spare(self) -> None:
        """Take the doom back."""
        self.house.config.with_suffix(".death").unlink(missing_ok=True)

    def must_die(self, life: Life, at: str, of: str, *, what: str = "", timeout_s: float = 120.0) -> None:
        """Wait until a life has died of its doom, and of nothing else. what: to count it as."""
        code = self._nursery.wait(life.pid, timeout_s * self.house.slowness)
        assert code is not None, f"it never came to {at} of {of}\n{self.house.log[-3000:]}"
        assert code == KILLED, f"it ended with {code} before {at} of {of}\n{self.house.log[-3000:]}"
        assert self.deaths()[-1]["at"] == at
        self.count_kill(what or (f"{at} x {of}" if of else at))

    def kill(self, life: Life, what: str) -> None:
        """Kill a life now, unless it has died of its doom already."""
        assert life.kill() == KILLED, f"it had ended by itself\n{self.house.log[-3000:]}"
        self.count_kill(what)

    def count_kill(self, what: str) -> None:
        """Note that somebody died."""
        self._tally["kills"] += 1
        self._tally[f"kills: {what}"] += 1

    def deaths(self) -> list[Mapping[str, Any]]:
        """Return how lives ended that were doomed."""
        path = self.house.config.with_suffix(".deaths")
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def count_logged(self, event: str) -> int:
        """Return how many lines of an event the log holds."""
        return self.house.log.count(f'"event":"{event}"')

    def live_until(self, is_so: Callable[[], object], what: str, life: Life, timeout_s: float = 60.0) -> None:
        """Wait until something is so while a life goes on."""
        self.house.until(is_so, what, timeout_s, life)

    def start_reconciled(self) -> Life:
        """Begin a life and wait until it has compared the account with its books.

        One that ends because the venue did not answer in time is begun again, as systemd does it.
        """
        seen = self.count_logged("reconciled")
        for _ in range(_STARTS):
            life = self.start()
            self.house.until(
                lambda life=life: life.is_over or self.count_logged("reconciled") > seen, "reconciled", 60.0
            )
            if not life.is_over:
                return life
            assert self.is_venues_doing(life.end()), self.house.log[-3000:]
        raise AssertionError(f"it did not start in {_STARTS} attempts\n{self.house.log[-3000:]}")

    def is_venues_doing(self, code: int) -> bool:
        """Tell whether a life ended because the venue gave no usable answer while it started.

        Where time runs 60 times as fast, a stall of 20 ms is enough for that: its clock then seems a second off.
        """
        last = self.house.log.rstrip().rpartition("\n")[2]
        said = any(words in last for words in ("no usable answer", "could not be reached"))
        return code == TransientError.exit_code and last.startswith("sacd: ") and said

    # ---- what must be so ----------------------------------------------------------------------------------------
    def recover(self) -> None:
        """Let a life put everything right and end, and hold what it leaves behind against the venue."""
        since = len(self.house.client.audit())
        life = self.start_reconciled()
        self._note_protection(since)
        self.finish(life)

    def finish(self, life: Life) -> None:
        """End a life in order and check.

        The market goes on without it: where a stop fills from here on, another life has to hear of that first.
        """
        for _ in range(_STARTS):
            ending_ms = self.house.client.state()["now_ms"]
            assert life.kill(signal.SIGTERM) == 0, self.house.log[-3000:]
            try:
                self.check()
            except AssertionError:
                if not self._has_stop_filled_since(ending_ms):
                    raise
                life = self.start_reconciled()
            else:
                return
        raise AssertionError(f"stops filled after each of {_STARTS} ends")

    def _has_stop_filled_since(self, at_ms: int) -> bool:
        stops = {order["order_id"] for order in self.house.venue_orders() if order["is_stop"]}
        fills = self.house.client.audit(kind="fill")
        return any(fill["order_id"] in stops and fill["at_ms"] >= at_ms for fill in fills)

    def check(self) -> None:
        """Hold a journal that was closed cleanly against the venue, the audit, and what its writers were told."""
        self.house.check()
        assert "failed unexpectedly" not in self.house.log
        entries = {entry.seq: entry for entry in journal_reader.read(self.house.journal)}
        self._check_acknowledged(entries)
        self._check_fills()
        self._check_intents()
        self._check_reconciled()
        self._count()

    def _check_acknowledged(self, entries: Mapping[int, Any]) -> None:
        """Every record that a writer was told is on disk is there, as it was."""
        told = self.house.config.with_suffix(".acks").read_text(encoding="utf-8").splitlines()
        lost = []
        for line in told:
            seq, _, sum_ = line.partition(" ")
            entry = entries.get(int(seq))
            if entry is None or checksum(Record(kind=entry.kind, payload=entry.payload)) != sum_:
                lost.append(line)
        assert lost == []
        self._tally["acknowledged rows"] += len(told) - self._counted["acknowledged rows"]
        self._counted["acknowledged rows"] = len(told)

    def _check_fills(self) -> None:
        """The journal holds the venue's trades, each once, and no others."""
        mine = [(f["client_id"], f["fill_id"], f"{f['quantity']:.8f}", f"{f['price']:.8f}") for f in self.house.fills()]
        theirs = [
            (f["client_id"], str(f["trade_id"]), f"{float(f['quantity']):.8f}", f"{float(f['price']):.8f}")
            for f in self.house.client.audit(kind="fill")
            if f["is_api"]
        ]
        if self.house.dialect == "binance":
            assert sorted(mine) == sorted(theirs)
        else:  # its trades have other names there, and ids of orders another form
            assert sorted(fill[2:] for fill in mine) == sorted(fill[2:] for fill in theirs)
        ids = [(f["symbol"], f["fill_id"]) for f in self.house.fills()]
        assert len(ids) == len(set(ids))

    def _check_intents(self) -> None:
        """Every order at the venue was intended in the journal, and no intent stands there twice."""
        intended = Counter(self._intended())
        assert [client_id for client_id, count in intended.items() if count > 1] == []
        if self.house.dialect == "binance":
            assert {order["client_id"] for order in self.house.venue_orders()} <= set(intended)

    def _intended(self) -> Iterator[str]:
        for payload in self.house.entries("decision", "exit", "command", "risk", "intent"):
            if payload.get("order"):
                yield payload["order"]["client_id"]
            yield from (order["client_id"] for order in payload.get("orders", ()))

    def _check_reconciled(self) -> None:
        """Nobody else touched the account: whatever a reconciliation finds after the opening would be a mistake."""
        found = self.house.entries("external")
        assert [one for one in found if one["detail"] != "found at the opening"] == []
        ids = [one["external_id"] for one in found]
        assert len(ids) == len(set(ids))

    # ---- counting -----------------------------------------------------------------------------------------------
    def _count(self) -> None:
        house, speed = self.house, self.house.speed
        totals = {"orders": len(house.venue_orders()), "fills": len(house.fills())}
        naked_ms = sum(int(house.client.naked_seconds(symbol) * 1e3) for symbol in house.symbols)
        totals["naked ms, real time"] = round(naked_ms / speed)
        for name, total in totals.items():
            self._tally[name] += total - self._counted[name]
            self._counted[name] = total
        self._tally["doubles"] += len(house.doubles())

    def _note_protection(self, since: int) -> None:
        """Note how long the life that began after so many records of the audit took to protect what was held."""
        first = next(one for one in self.house.client.audit(after=since) if one["kind"] == "request")
        took_ms = round(1e3 * longest_naked_after(self.house, first["at_ms"]))
        self._tally[SLOWEST] = max(self._tally[SLOWEST], took_ms)

    @contextlib.contextmanager
    def tallied(self, report: Report) -> Iterator[None]:
        """Report what was counted meanwhile."""
        self._tally.clear()
        yield
        report(TALLY, dict(self._tally))

    # ---- what the venue shows -----------------------------------------------------------------------------------
    def resting_stop(self) -> dict[str, Any] | None:
        """Return a protective stop that rests at the venue."""
        return next((order for order in self.house.open_orders() if float(order["stop_price"]) > 0.0), None)

    def resting_entry(self) -> dict[str, Any] | None:
        """Return a purchase that rests at the venue."""
        opened = self.house.open_orders()
        return next((order for order in opened if order["side"] == "buy"), None)


def longest_naked_after(house: House, since_ms: int) -> float:
    """Return real seconds from `since_ms` until the last position that was naked then had its stop; 0 for none."""
    longest = 0.0
    for symbol in house.symbols:
        for span in naked_spans(house.client.audit(), symbol, **_SIZES):
            if span.start_ms < since_ms and span.end_ms is not None and span.end_ms > since_ms:
                longest = max(longest, (span.end_ms - since_ms) / 1e3 / house.speed)
    return longest
