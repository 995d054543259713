"""The one place where an order leaves: gate, request, and what its answer proves."""

from collections.abc import Awaitable, Callable

from daemon import crash_points
from daemon.errors import TransientError, UnknownOutcome
from daemon.order_gate import OrderGate
from daemon.order_life import OrderLife
from daemon.order_tools import Tools
from daemon.order_watch import OrderWatch
from daemon.venue import NotSent, Quote, RefusalKind, Request, VenueRefused
from strategy.order import OrderEvent, OrderReport, Side

_TRIES = 5
_FIRST_PAUSE_S = 1.0


class OrderSender:
    """Sends requests, each once, but for those that provably never arrived and must: exits and stops.

    on_refused: hears of refusals that say something about markets or the account.
    """

    def __init__(
        self,
        tools: Tools,
        *,
        gate: OrderGate,
        watch: OrderWatch,
        on_refused: Callable[[str, RefusalKind], Awaitable[None]],
    ) -> None:
        self._venue = tools.venue
        self._books = tools.books
        self._clock = tools.clock
        self._gate = gate
        self._path = tools.path
        self._watch = watch
        self._on_refused = on_refused

    async def send(self, life: OrderLife, request: Request, quote: Quote) -> RefusalKind | None:
        """Send the order and tell what that proves; returns why the venue refused it, None when it did not.

        What happens after it was taken, or whether it was, is for `OrderWatch.settle` to find out.
        """
        if not self._may_leave(life, request, quote):
            return None
        life.asked = request.quantity
        life.was_sent = True
        self._tell(life, OrderEvent.SENT, "")
        return await self._try(life, request)

    def _may_leave(self, life: OrderLife, request: Request, quote: Quote) -> bool:
        held, now_s = self._books.held(life.symbol), self._clock.monotonic_s()
        refusal = self._gate.refusal(request, quote=quote, held=held, now_s=now_s)
        if refusal is not None:
            self._tell(life, OrderEvent.REJECTED, f"refused by us: {refusal}")
        return refusal is None

    async def _try(self, life: OrderLife, request: Request) -> RefusalKind | None:
        pause_s = _FIRST_PAUSE_S
        for left in reversed(range(_TRIES if request.side is Side.SELL else 1)):
            try:
                shown = await self._path.of(self._venue.create(request))
            except VenueRefused as error:
                return await self._refused(life, error)
            except NotSent as error:
                if left == 0:
                    self._watch.tell(life.deny(self._clock.now_ms(), f"it never reached the venue: {error}"))
                    return None
                await self._clock.sleep_s(pause_s)
                pause_s *= 2.0
                if life.withdrawn or not await self._is_absent(life):
                    return None
            except UnknownOutcome as error:
                self._lose_answer(life, error)
                return None
            else:
                crash_points.at("replied")
                if life.is_stop:
                    crash_points.at("stop_placed")
                self._watch.show(life, shown)
                return None
        return None

    async def _is_absent(self, life: OrderLife) -> bool:
        """Tell whether a request may go out again: the venue does not know the order, and says so."""
        try:
            found = await self._path.of(self._venue.find(life.symbol, life.client_id))
        except (TransientError, VenueRefused) as error:
            self._lose_answer(life, error)
            return False
        if found is not None:
            self._watch.on_order(found)
        return found is None

    def _lose_answer(self, life: OrderLife, error: Exception) -> None:
        self._watch.tell(life.lose_answer(self._clock.now_ms(), f"it may exist at the venue: {error}"))

    async def _refused(self, life: OrderLife, error: VenueRefused) -> RefusalKind | None:
        if life.is_shown:
            return None  # a stream has shown it already, so that the refusal was not of this order
        self._tell(life, OrderEvent.REJECTED, f"refused by the venue: {error}")
        await self._on_refused(life.symbol, error.kind)
        return error.kind

    def _tell(self, life: OrderLife, event: OrderEvent, detail: str) -> None:
        report: OrderReport = life.report(event, self._clock.now_ms(), detail)
        self._watch.tell([report])
