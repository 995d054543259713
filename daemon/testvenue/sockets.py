"""One open websocket of any dialect: messages leave in order, through the faults that are armed for them."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import WSCloseCode, web

from daemon.ports import Clock
from daemon.testvenue.faults import Fault, FaultBox, What


class Outlet:
    """Where a dialect sends messages to one client. kind: `stream` or `user`, as faults call it."""

    def __init__(self, request: web.Request, *, kind: str, faults: FaultBox, clock: Clock) -> None:
        self.kind = kind
        self.response = web.WebSocketResponse(autoping=True)
        self.names: set[str] = set()
        """What it has subscribed to; the dialect's own."""
        self.is_wrapped = False
        """Binance: it wants the stream's name with every event."""
        self._request = request
        self._faults = faults
        self._clock = clock
        self._queue: asyncio.Queue[tuple[float, str | None]] = asyncio.Queue()
        self._late: dict[str, list[str]] = {}

    async def serve(self, on_message: Any) -> web.WebSocketResponse:  # noqa: ANN401  # a coroutine function of a dict
        """Answer the handshake, hand every message of the client to `on_message`, send what `send` is given."""
        await self.response.prepare(self._request)
        writer = asyncio.create_task(self._write())
        try:
            async for message in self.response:
                await on_message(self, json.loads(message.data))
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return self.response

    def answer(self, text: str) -> None:
        """Send a reply to a request of the client; no fault of messages meets it."""
        self._queue.put_nowait((0.0, text))

    def send(self, name: str, text: str, params: Mapping[str, str] | None = None, bye: str = "") -> Fault | None:
        """Send a message of the stream or event `name`; return the fault that met it.

        params: for `having`.  bye: what the dialect says before it goes down.
        """
        fault = self._faults.take(self.kind, name, params or {})
        late = self._late.pop(name, [])
        for message in _after(fault, text, bye):
            self._queue.put_nowait((fault.delay_s if fault is not None and fault.what is What.DELAY else 0.0, message))
        if fault is not None and fault.what is What.REORDER:
            self._late[name] = [text]
        for message in late:
            self._queue.put_nowait((0.0, message))
        if fault is not None and fault.what is What.CUT:
            self.abort()
        if fault is not None and fault.what is What.SHUTDOWN:
            self._queue.put_nowait((0.0, None))
        return fault

    def abort(self) -> None:
        """Cut the TCP connection without a word."""
        transport = self._request.transport
        if transport is not None:
            transport.abort()

    def shut(self) -> None:
        """Close the websocket after what is queued, as a venue does that restarts."""
        self._queue.put_nowait((0.0, None))

    async def _write(self) -> None:
        while True:
            delay_s, text = await self._queue.get()
            if delay_s:
                await self._clock.sleep_s(delay_s)
            if text is None:
                await self.response.close(code=WSCloseCode.SERVICE_RESTART)
                return
            try:
                await self.response.send_str(text)
            except ConnectionError:  # the client is gone: the reading side ends this socket
                return


def _after(fault: Fault | None, text: str, bye: str) -> list[str]:
    match None if fault is None else fault.what:
        case What.SILENCE | What.CUT | What.REORDER:
            return []
        case What.DUPLICATE:
            return [text, text]
        case What.BAD_FRAME:
            return [fault.body if fault is not None else ""]
        case What.SHUTDOWN:
            return [text, bye] if bye else [text]
        case _:
            return [text]
