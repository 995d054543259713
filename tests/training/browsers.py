"""A real browser for tests of pages: Chromium without a window, driven through its DevTools protocol."""

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

_START_S = 120.0
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str:
    """Return the path of a browser; without one the test is skipped, but fails under continuous integration."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        message = "chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return found


class Tab:
    """One page of the browser. events: all that it told, by method, in order."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._asked = 0
        self.events: list[dict[str, Any]] = []

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer to a command; what the page tells meanwhile is kept."""
        self._asked += 1
        await self._socket.send_json({"id": self._asked, "method": method, "params": params})
        while True:
            told = await self._socket.receive_json(timeout=_START_S)
            if told.get("id") != self._asked:
                self.events.append(told)
                continue
            assert "error" not in told, told
            return told["result"]  # type: ignore[no-any-return]

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page, which its own policy does not bind."""
        told = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def open(self, path: Path) -> None:
        """Open a page from disk, and return when it is laid out."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.ask(f"{domain}.enable")
        await self.ask("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(await self._socket.receive_json(timeout=_START_S))

    async def show(self, width: int, scheme: str) -> None:
        """Show the page so wide, and light or dark."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        await self.ask("Emulation.setDeviceMetricsOverride", **size)
        await self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def of(self, *methods: str) -> list[dict[str, Any]]:
        """Return what the page told by some methods."""
        return [event["params"] for event in self.events if event["method"] in methods]


@contextlib.asynccontextmanager
async def tab() -> AsyncIterator[Tab]:
    """Start the browser with one empty page; it ends with the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
            "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
            f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with aiohttp.ClientSession() as session, asyncio.timeout(_START_S):
                port = await _port(process)
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = json.loads(await answer.text())
                place = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
                async with session.ws_connect(place, max_msg_size=2**26) as socket:
                    yield Tab(socket)
        finally:
            process.kill()
            await process.communicate()


async def _port(process: asyncio.subprocess.Process) -> int:
    """Return where it listens, which it tells on standard error."""
    assert process.stderr is not None
    async for line in process.stderr:
        if line.startswith(b"DevTools listening on ws://"):
            return int(line.split(b"/")[2].rpartition(b":")[2])
    raise AssertionError("the browser ended before it listened")
