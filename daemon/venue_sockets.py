"""Closes sockets of ccxt.pro that no longer serve: dropped first, so that the next call dials anew."""

import asyncio
from collections.abc import Callable
from typing import Any

CLOSE_S = 0.8
"""A dead peer would hold a close for 10 s."""


async def drop_sockets(exchange: Any, is_meant: Callable[[Any], bool]) -> None:  # noqa: ANN401  # ccxt has no types
    """Close every client of `exchange` that is meant, within `CLOSE_S`.

    One that still dials is left: it is not mute, and closing it would leave its socket behind.
    """
    clients = exchange.clients or {}
    dropped = {url: client for url, client in clients.items() if not client.connecting and is_meant(client)}
    for url in dropped:
        del clients[url]
    closing = [asyncio.ensure_future(client.close()) for client in dropped.values()]
    if closing:
        _, hanging = await asyncio.wait(closing, timeout=CLOSE_S)
        for close in hanging:
            close.cancel()
        await asyncio.gather(*closing, return_exceptions=True)
