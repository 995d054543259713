"""Every call to one ccxt instance: asked within the budget, watched on its way, and ended in what its answer proves.

The one place where ccxt's exceptions are caught. Knows no single call; `venue_ccxt.py` makes them.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from daemon import venue_wire
from daemon.errors import TransientError
from daemon.rate_budget import Purpose, RateBudget
from daemon.redact import Redactor
from daemon.venue import NotSent, Unauthorised
from daemon.venue_dialects import Dialect
from daemon.venue_errors import Evidence, Meaning, Unusable, change_error, meaning_of, pause_s, read_error, wording

_T = TypeVar("_T")
_log = structlog.get_logger()


class Calls:
    """What is asked of one exchange. exchange: the ccxt instance, None before it is made and after it was closed."""

    def __init__(self, *, exchange_id: str, dialect: Dialect, budget: RateBudget, redactor: Redactor) -> None:
        self.exchange_id = exchange_id
        self.exchange: Any = None  # ccxt has no types worth the name
        self._dialect = dialect
        self._budget = budget
        self._redactor = redactor
        self._is_setting_clock = False

    def attach(self, exchange: Any) -> None:  # noqa: ANN401  # ccxt's own
        """Use this instance from now on; call within the running loop."""
        exchange.open()
        self._budget.attach(exchange)
        venue_wire.attach(exchange)
        self.exchange = exchange

    def has(self, call: str) -> bool:
        """Tell whether the exchange itself has a call, by ccxt's name for it; emulated ones only filter a cache."""
        first, *rest = call.split("_")
        name = first + "".join(word.title() for word in rest)
        return self.exchange is not None and self.exchange.has.get(name) is True

    async def change(
        self,
        what: str,
        purpose: Purpose,
        call: Callable[[Any], Awaitable[Any]],
        use: Callable[[Any], _T],
    ) -> _T:
        """Ask for what may change something, once, and return what `use` makes of the answer. what: in words.

        Raises VenueRefused, NotSent, UnknownOutcome; the last whenever nothing else is proven.
        """
        if self.exchange is None:
            raise NotSent(f"{self.exchange_id}: {what}: not sent: the venue is not open")
        with self._budget.purpose(purpose), venue_wire.observed(is_change=True) as evidence:
            try:
                raw = await call(self.exchange)
                _refuse_no_answer(evidence)
                return use(raw)
            except Exception as error:  # noqa: BLE001  # whatever it was: once something left, the order may exist
                meaning = meaning_of(error, evidence, self.exchange_id)
                said = self.said(error, evidence)
        await self._heed(meaning, evidence)
        raise change_error(meaning, f"{self.exchange_id}: {what}", said)

    async def read(
        self,
        what: str,
        call: Callable[[Any], Awaitable[Any]],
        use: Callable[[Any], _T],
        *,
        is_list: bool = False,
        is_repeat: bool = False,
    ) -> _T:
        """Ask, and return what `use` makes of the answer; once more when only our clock was off.

        is_list: it must show that it is a list.  is_repeat: this is once more.
        Raises Absent (a TransientError) when the venue knows no such order, TransientError, Unauthorised.
        """
        if self.exchange is None:
            raise TransientError(f"{self.exchange_id}: {what}: the venue is not open")
        with self._budget.purpose(Purpose.QUERY), venue_wire.observed(is_change=False) as evidence:
            try:
                raw = await call(self.exchange)
                if is_list:
                    _refuse_no_list(evidence, self._dialect.list_form)
                return use(raw)
            except Exception as error:  # noqa: BLE001  # ccxt's parsers stumble over broken bodies in every way
                meaning = meaning_of(error, evidence, self.exchange_id)
                said = self.said(error, evidence)
        await self._heed(meaning, evidence)
        if meaning is Meaning.CLOCK and not is_repeat:
            return await self.read(what, call, use, is_list=is_list, is_repeat=True)
        raise read_error(meaning, f"{self.exchange_id}: {what}", said)

    async def _heed(self, meaning: Meaning, evidence: Evidence) -> None:
        """Do what an answer asks for beyond this call: be quiet for a while, or set the clock."""
        match meaning:
            case Meaning.LATER:
                self._budget.quiet(pause_s(evidence))
            case Meaning.CLOCK if not self._is_setting_clock:
                self._is_setting_clock = True
                try:
                    await self.set_clock()
                except (TransientError, Unauthorised) as error:
                    _log.warning("venue_clock_unknown", reason=str(error))
                finally:
                    self._is_setting_clock = False
            case _:
                pass

    def said(self, error: BaseException, evidence: Evidence) -> str:
        """Return an error in words, without secrets."""
        return self._redactor.text(wording(error, evidence, self.exchange_id))

    async def offset_ms(self) -> float:
        """Return the venue's clock less ours, halfway from request to answer. Raises TransientError, Unauthorised."""

        async def ask(exchange: Any) -> tuple[object, float]:  # noqa: ANN401  # ccxt's own
            return await exchange.fetch_time(), venue_wire.halfway_ms()

        return await self.read("time", ask, lambda told: _time(told[0]) - told[1])

    async def set_clock(self) -> None:
        """Let ccxt sign with the venue's time, by its own clock."""
        if self._dialect.sets_clock and self.has("fetch_time"):
            self.exchange.options["timeDifference"] = -round(await self.offset_ms())


def _time(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not raw > 0:
        raise Unusable(f"time {raw!r}")
    return float(raw)


def _refuse_no_answer(evidence: Evidence) -> None:
    """Raise Unusable for a body that is no JSON: ccxt makes an empty order of it."""
    if not isinstance(evidence.answer, dict | list):
        raise Unusable(f"HTTP {evidence.status} with a body that is no answer")


def _refuse_no_list(evidence: Evidence, form: str) -> None:
    """Raise Unusable for an answer that is no list of the venue: ccxt makes an empty one of it."""
    answer = evidence.answer
    is_list = isinstance(answer, list) if form == "list" else isinstance(answer, dict) and form in answer
    if not (is_list or (not form and isinstance(answer, dict | list))):
        raise Unusable(f"HTTP {evidence.status} with a body that is no list")
