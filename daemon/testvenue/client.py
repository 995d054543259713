"""A script's hand on a test venue that runs in a program of its own: `POST /_control`, synchronous, no dependencies."""

import http.client
import json
from typing import Any


class ControlRefused(Exception):
    """The venue did not take a command; the message says why."""


class VenueClient:
    """Talks to the venue on 127.0.0.1:`port`. Numbers are best given as text, which keeps them exact."""

    def __init__(self, port: int, *, timeout_s: float = 10.0) -> None:
        self._port = port
        self._timeout_s = timeout_s

    def do(self, command: str, /, **values: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
        """Run a command of `daemon.testvenue.control` and return its answer. Raises ControlRefused, OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout_s)
        try:
            body = json.dumps({"do": command, **values})
            connection.request("POST", "/_control", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if "error" in answer:
            raise ControlRefused(answer["error"])
        return answer

    def trade(self, symbol: str, price: str, quantity: str | None = None) -> None:
        """Let somebody trade at `price`."""
        self.do("trade", symbol=symbol, price=price, quantity=quantity)

    def fault(self, where: str, what: str, **values: Any) -> int:  # noqa: ANN401  # as `faults.Fault`
        """Arm a fault and return its number."""
        return int(self.do("fault", where=where, what=what, **values)["number"])

    def state(self) -> dict[str, Any]:
        """Return time, balances, prices and open orders."""
        return self.do("state")

    def audit(self, after: int = 0, kind: str = "") -> list[dict[str, Any]]:
        """Return the audit's records after the first `after`, of one kind or all."""
        return list(self.do("audit", after=after, kind=kind)["records"])

    def naked_seconds(self, symbol: str, account: str = "") -> float:
        """Return for how long in all a sellable position stood without an open stop."""
        return float(self.do("naked", symbol=symbol, account=account)["seconds"])
