"""What a dialect is: one exchange's way of speaking about the engine room. `server.py` serves any number of them."""

from typing import Any, Protocol

from aiohttp import web

from daemon.testvenue.accounts import Account


class Dialect(Protocol):
    """One exchange's REST and websocket interface over the venue's book.

    Its constructor takes the `TestVenue`, and listens to its book.
    """

    name: str
    """The exchange as ccxt calls it."""

    def routes(self, app: web.Application) -> None:
        """Add its routes; their paths must not meet another dialect's."""
        ...

    def owns(self, path: str) -> bool:
        """Return whether a request's path is one of its own."""
        ...

    def weight(self, request: web.Request) -> float:
        """Return what a request costs of its rate limit, in its own units."""
        ...

    def reject(self, code: str, message: str, status: int) -> web.Response:
        """Return a refusal in its words, as a fault asks for it."""
        ...

    def shut(self) -> None:
        """Cut every websocket, as at the beginning of maintenance."""
        ...

    def ccxt_options(self, address: str, account: Account | None) -> dict[str, Any]:
        """Return what ccxt's constructor needs to come here. address: `host:port`; account: whose keys are put in."""
        ...
