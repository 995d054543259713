"""The venue's dead-man switch: armed only while a post-only entry of ours rests and nothing else could suffer."""

import asyncio
import contextlib
from collections.abc import Callable

from daemon.errors import TransientError, UnknownOutcome
from daemon.order_tools import Tools
from daemon.order_watch import happens_within
from daemon.venue import VenueRefused

ARMED_S = 60.0
"""The venue cancels everything when it has not been told for so long; it is told three times as often."""


class DeadMan:
    """Keeps the switch armed for the entries it is told of. may_arm: whether no stop of ours rests.

    The switch ends every order of the account, so it is never armed beside a protective stop or a foreign order.
    """

    def __init__(self, tools: Tools, *, may_arm: Callable[[], bool]) -> None:
        self._venue = tools.venue
        self._clock = tools.clock
        self._path = tools.path
        self._may_arm = may_arm
        self._entries: set[str] = set()
        self._changed = asyncio.Event()
        self._is_armed = False

    def watch(self, client_id: str) -> None:
        """Hear that an entry rests."""
        if self._venue.abilities.has_dead_man:
            self._entries.add(client_id)
            self._changed.set()

    def forget(self, client_id: str) -> None:
        """Hear that it rests no more."""
        self._entries.discard(client_id)
        self._changed.set()

    async def run(self) -> None:
        """Arm, renew and disarm until cancelled."""
        while True:
            self._changed.clear()
            if self._entries and self._may_arm() and await self._is_alone():
                await self._set(ARMED_S)
            elif self._is_armed:
                await self.disarm()
            if self._entries or self._is_armed:
                await happens_within(self._clock, self._changed, ARMED_S / 3.0)
            else:
                await self._changed.wait()

    async def disarm(self) -> None:
        """Disarm the switch if it may be armed: before a stop is placed, and at the end."""
        if self._is_armed:
            await self._set(0.0)

    async def _is_alone(self) -> bool:
        try:
            resting = await self._path.of(self._venue.open_orders())
        except (TransientError, VenueRefused):
            return False
        return all(order.client_id in self._entries for order in resting)

    async def _set(self, seconds: float) -> None:
        # Armed counts from the asking: the request may arrive though its answer does not.
        self._is_armed = self._is_armed or seconds > 0.0
        with contextlib.suppress(VenueRefused, TransientError, UnknownOutcome):
            await self._path.of(self._venue.arm_dead_man(seconds))
            self._is_armed = seconds > 0.0
