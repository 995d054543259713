"""The child's side of a death: dies at the crash point a test names, and leaves a note of all it was told is on disk.

The test writes what to die of into `CONFIG.death` at any time: `{"at": name, "of": what, "count": n}`; the child looks
there whenever it passes a crash point. `of` says what the moment has to be about: an order that is sent as "market",
"limit" or "post_only", a "cancel", a protective "stop", or "" for anything; `at` may be "any". How it died goes into
`CONFIG.deaths`, and every record whose append returned into `CONFIG.acks`, as seq, kind and checksum.
"""

import functools
import json
import os
import signal
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from daemon import crash_points, journal_file, journal_reader, journal_schema, journal_start
from daemon.broker_live import VenueBroker
from daemon.engine import Engine
from daemon.fold import Memory
from daemon.journal import SqliteJournal
from daemon.journal_format import encode
from daemon.live_settings import EntryStyle
from daemon.order_life import OrderLife
from daemon.order_watch import OrderWatch
from daemon.ports import Record
from daemon.protection import Protection
from daemon.venue import Request, RequestKind
from daemon.venue_ccxt import CcxtVenue
from strategy.order import Side
from strategy.risk import Approved
from tests.crash.storage_nursery import LATER_STEPS

LABELS = {
    RequestKind.MARKET: "market",
    RequestKind.LIMIT_IOC: "limit",
    RequestKind.POST_ONLY: "post_only",
    RequestKind.STOP: "stop",
}
_about: ContextVar[frozenset[str]] = ContextVar("about", default=frozenset())
_placing: ContextVar[frozenset[str]] = ContextVar("placing", default=frozenset())
_Method = Callable[..., Any]


def checksum(record: Record) -> str:
    """Return what a record is compared by."""
    kind, payload = encode(record)
    return f"{kind} {zlib.crc32(payload.encode()):08x}"


def later_schema(patch: Callable[[object, str, object], None]) -> None:
    """Let the program know two migrations more than it does. patch: as `setattr`."""
    steps = [*journal_schema.migrations(), *LATER_STEPS]
    for module in (journal_file, journal_schema, journal_reader, journal_start):
        patch(module, "migrations", lambda: steps)


class Mortal:
    """A process that may be told to die. death: crash point, and at which time of passing it."""

    def __init__(self, config: Path, death: Sequence[Any] | None = None) -> None:
        self._order_file = config.with_suffix(".death")
        self._notes = _appending(config.with_suffix(".deaths"))
        self._acks = _appending(config.with_suffix(".acks"))
        self._order = "" if death is None else json.dumps({"at": death[0], "of": "", "count": death[1]})
        self._passed = 0
        self._broker: VenueBroker | None = None
        self._asked_to_end: set[str] = set()

    def begin(self) -> None:
        """Watch everything that happens in this process from now on."""
        crash_points.hook = self._pass
        _before(VenueBroker, "__init__", self._meet)
        _before(VenueBroker, "cancel", lambda _, order, __: self._asked_to_end.add(order.client_id))
        _before(CcxtVenue, "create", self._on_create)
        _before(CcxtVenue, "cancel", lambda *_, **__: _about.set(frozenset({"cancel"})))
        _before(OrderWatch, "on_trade", self._on_trade)
        _before(Memory, "start_hold", self._on_decided)
        _before(Engine, "_write", self._on_write)
        _before(Protection, "_place", self._on_place)
        self._note_appends()

    # ---- dying --------------------------------------------------------------------------------------------------
    def _pass(self, name: str) -> None:
        wanted = self._wanted()
        if wanted is None or wanted["at"] not in {name, "any"}:
            return
        about = self._about_now(name)
        if wanted["of"] and wanted["of"] not in about:
            return
        self._passed += 1
        if self._passed == wanted["count"]:
            os.write(self._notes, f"{json.dumps({'at': name, 'about': sorted(about), **wanted})}\n".encode())
            self._order_file.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)

    def _wanted(self) -> Mapping[str, Any] | None:
        try:
            order = self._order_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            order = self._order
        if order != self._order:
            self._order, self._passed = order, 0
        return json.loads(order) if order else None  # type: ignore[no-any-return]

    def _about_now(self, name: str) -> frozenset[str]:
        if name == "backup":  # in a thread of its own: what is at the venue meanwhile
            return frozenset().union(*(self._about_life(life) for life in self._lives() if life.was_sent))
        if name in {"filled_no_stop", "stop_placed"} and _placing.get():
            return _placing.get()
        return _about.get()

    # ---- what is going on ---------------------------------------------------------------------------------------
    def _meet(self, broker: VenueBroker, **_parts: object) -> None:
        self._broker = broker

    def _lives(self) -> list[OrderLife]:
        return [] if self._broker is None else self._broker._watch.open_lives()

    def _about_order(self, client_id: str, side: str, kind: str) -> frozenset[str]:
        """Return how an order is sent, and "cancel" when it is being withdrawn."""
        assert self._broker is not None
        settings = self._broker._settings
        is_maker = settings.entry is EntryStyle.MAKER and side == Side.BUY
        label = "stop" if kind == "stop" else "post_only" if is_maker else settings.order.value
        life = self._broker._watch._lives.get(client_id)
        is_withdrawn = client_id in self._asked_to_end or (life is not None and bool(life.withdrawn))
        return frozenset({label, "cancel"} if is_withdrawn else {label})

    def _about_life(self, life: OrderLife) -> frozenset[str]:
        return self._about_order(life.client_id, life.order.side, life.order.kind)

    def _withdrawing(self) -> frozenset[str]:
        """Return "cancel" while an order is to be ended."""
        abouts = (self._about_life(life) for life in self._lives())
        return frozenset({"cancel"} if any("cancel" in about for about in abouts) else ())

    def _on_create(self, _venue: CcxtVenue, request: Request) -> None:
        _about.set(frozenset({LABELS[request.kind]}))

    def _on_trade(self, watch: OrderWatch, trade: Any) -> None:
        life = watch._find_life(trade.symbol, trade.client_id, trade.venue_id)
        _about.set(frozenset() if life is None else self._about_life(life))

    def _on_decided(self, _memory: Memory, trader: Any, outcomes: Any, _cash: float) -> None:
        if self._broker is None:
            return  # the journal is being folded
        about = self._withdrawing()
        for order in (o.verdict.order for o in outcomes if isinstance(o.verdict, Approved)):
            about |= self._about_order(order.client_id, order.side, order.kind)
            if order.side is Side.SELL and trader.stops[order.symbol] is not None:
                about |= {"stop"}
        _about.set(about)

    def _on_write(self, engine: Engine, more: Sequence[Record]) -> None:
        if self._broker is None:
            return
        about = self._withdrawing()
        for record in (*engine._ledger.waiting, *more):
            payload = record.payload
            orders = [*payload.get("orders", ()), *([payload["order"]] if payload.get("order") else [])]
            for order in orders:
                about |= self._about_order(order["client_id"], order["side"], order["kind"])
            status = engine.memory.known(payload["client_id"]) if record.kind == "fill" else None
            if status is not None:
                about |= self._about_order(payload["client_id"], status.order.side, status.order.kind)
        _about.set(about)

    def _on_place(self, protection: Protection, guard: Any, _life: OrderLife) -> None:
        entries = [
            life
            for life in protection._watch._lives.values()
            if life.symbol == guard.symbol and life.order.side is Side.BUY
        ]
        bought = self._about_life(entries[-1]) if entries else frozenset()
        _placing.set(bought | {"stop"})

    # ---- what is on disk ----------------------------------------------------------------------------------------
    def _note_appends(self) -> None:
        append = SqliteJournal.append

        @functools.wraps(append)
        async def noting(journal: SqliteJournal, records: Sequence[Record]) -> int:
            last_seq = await append(journal, records)
            first = last_seq - len(records) + 1
            lines = (f"{first + i} {checksum(record)}\n" for i, record in enumerate(records))
            os.write(self._acks, "".join(lines).encode())
            return last_seq

        SqliteJournal.append = noting  # type: ignore[method-assign]


def _before(owner: type, name: str, see: _Method) -> None:
    """Let `see` look at the arguments of a method before it runs, in the same task."""
    whole = getattr(owner, name)

    @functools.wraps(whole)
    def seen(self: Any, *arguments: Any, **named: Any) -> Any:
        see(self, *arguments, **named)
        return whole(self, *arguments, **named)

    setattr(owner, name, seen)


def _appending(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
