"""Scripted faults: which request or message they meet, when, and what goes wrong then.

A fault meets a *target*: a method and a path. For requests these are the HTTP method and the last parts of the path
(`POST order`, `GET account/apiRestrictions`, `POST AddOrder`), `*` standing for anything; for messages that the venue
sends `stream` (public) or `user` and the stream's or event's name (`stream btcusdt@trade`, `user executionReport`,
`stream *`). `having` asks for parameters besides: `{"symbol": "BTCUSDT", "type": "STOP_LOSS*"}`.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any


class What(StrEnum):
    """What goes wrong."""

    DROP_REQUEST = "drop_request"
    """Never processed; the connection is held for `hold_s`, then cut."""
    DROP_REPLY = "drop_reply"
    """Processed; the connection is held for `hold_s`, then cut."""
    REPLY = "reply"
    """Answered with `status`, `headers`, `body`; processed first when `is_processed`."""
    REJECT = "reject"
    """Refused with `code` and `message`, as the dialect words it; not processed."""
    DELAY = "delay"
    """Held back for `delay_s` before it is processed, or before the answer leaves when `is_processed`."""
    CUT_BODY = "cut_body"
    """Processed; the connection is cut in the middle of the answer."""
    TRUNCATED = "truncated"
    """Processed; the answer is well-formed HTTP with the first half of the body."""
    ACT = "act"
    """The control command `command` runs first, or right after it was processed when `is_processed`."""
    SILENCE = "silence"
    """Messages: not sent."""
    CUT = "cut"
    """Messages: the connection is cut instead."""
    DUPLICATE = "duplicate"
    """Messages: sent twice."""
    REORDER = "reorder"
    """Messages: sent after the next one of the same name."""
    BAD_FRAME = "bad_frame"
    """Messages: `body` is sent instead."""
    SHUTDOWN = "shutdown"
    """Messages: the venue announces that it goes down, and closes the connection."""


_STREAMS = frozenset(
    {What.SILENCE, What.CUT, What.DUPLICATE, What.REORDER, What.BAD_FRAME, What.SHUTDOWN, What.DELAY, What.ACT}
)
_REQUESTS = frozenset(What) - (_STREAMS - {What.DELAY, What.ACT})


class InvalidFault(ValueError):
    """A fault that cannot be; the message says which value and what would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. skip: so many that match pass first.  times: it fires so often (None: always).

    seconds: it lasts so long from when it was added (None: for ever).  probability: of firing when it could.
    Raises InvalidFault.
    """

    where: str
    what: What
    skip: int = 0
    times: int | None = 1
    seconds: float | None = None
    probability: float = 1.0
    having: Mapping[str, str] = field(default_factory=dict)
    status: int = 400
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    is_processed: bool = False
    delay_s: float = 0.0
    hold_s: float = 0.0
    code: str = ""
    message: str = ""
    command: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        method, _, path = self.where.partition(" ")
        if not path and method not in {"stream", "user"}:
            raise InvalidFault(f"fault where={self.where!r}: write `METHOD path`, `stream NAME` or `user EVENT`")
        allowed = _STREAMS if method in {"stream", "user"} else _REQUESTS
        if self.what not in allowed:
            raise InvalidFault(f"fault what={self.what} cannot happen to {self.where!r}; one of {sorted(allowed)} can")
        if not 0.0 <= self.probability <= 1.0:
            raise InvalidFault(f"fault probability={self.probability} is not within 0 .. 1")
        if self.is_processed and self.what in {What.DROP_REQUEST, What.REJECT}:
            raise InvalidFault(f"fault what={self.what} is never processed: leave is_processed out")
        if self.what is What.ACT and "do" not in self.command:
            raise InvalidFault('fault what=act needs a command such as {"do": "trade", ...}')

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Fault":
        """Return the fault that `values` describe. Raises InvalidFault."""
        known = {item.name for item in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InvalidFault(f"a fault has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        try:
            return cls(**{**values, "what": What(values["what"])})
        except KeyError as error:
            raise InvalidFault(f"a fault needs {error.args[0]!r}") from None
        except (TypeError, ValueError) as error:
            raise InvalidFault(f"fault {dict(values)}: {error}") from None

    def meets(self, method: str, path: str, params: Mapping[str, str]) -> bool:
        """Return whether it concerns this request or message; when it fires is for `FaultBox` to say."""
        wanted, _, pattern = self.where.partition(" ")
        if not fnmatchcase(method, wanted):
            return False
        pattern = pattern or "*"
        if not (fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")):
            return False
        return all(fnmatchcase(str(params.get(name, "")), value) for name, value in self.having.items())


@dataclass(slots=True)
class _Armed:
    fault: Fault
    until_s: float | None
    seen: int = 0
    fired: int = 0


class FaultBox:
    """The faults that are armed. monotonic_s: from the clock; generator: seeded, for those with a probability."""

    def __init__(self, *, monotonic_s: Callable[[], float], generator: random.Random) -> None:
        self._monotonic_s = monotonic_s
        self._generator = generator
        self._armed: dict[int, _Armed] = {}
        self._added = 0
        self.on_fire: Callable[[int, Fault, str, str], None] = lambda *_: None

    def add(self, fault: Fault) -> int:
        """Arm a fault and return its number."""
        self._added += 1
        until_s = None if fault.seconds is None else self._monotonic_s() + fault.seconds
        self._armed[self._added] = _Armed(fault, until_s)
        return self._added

    def clear(self, number: int | None = None) -> None:
        """Disarm one fault, or all."""
        if number is None:
            self._armed.clear()
        else:
            self._armed.pop(number, None)

    def fired(self, number: int) -> int:
        """Return how often a fault has fired; 0 for one that is no longer armed."""
        armed = self._armed.get(number)
        return 0 if armed is None else armed.fired

    def take(self, method: str, path: str, params: Mapping[str, str]) -> Fault | None:
        """Return the first armed fault that fires on this request or message, None when all is well."""
        for number, armed in self._armed.items():
            if armed.fault.meets(method, path, params) and self._fires(armed):
                armed.fired += 1
                self.on_fire(number, armed.fault, method, path)
                return armed.fault
        return None

    def _fires(self, armed: _Armed) -> bool:
        fault = armed.fault
        if armed.until_s is not None and self._monotonic_s() >= armed.until_s:
            return False
        if fault.times is not None and armed.fired >= fault.times:
            return False
        armed.seen += 1
        if armed.seen <= fault.skip:
            return False
        return fault.probability >= 1.0 or self._generator.random() < fault.probability
