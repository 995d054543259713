"""One call of the Binance REST interface, and its parameters read as Binance reads them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from daemon.testvenue.accounts import Account
from daemon.testvenue.binance_words import ApiError
from daemon.testvenue.book import Book
from daemon.testvenue.market import Market
from daemon.testvenue.orders import ZERO

_CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Parameters, and the account that calls; None for calls that need no key."""

    params: Mapping[str, str]
    owner: Account | None

    @property
    def account(self) -> Account:
        """Whose call it is, in calls that need a key."""
        if self.owner is None:
            raise ApiError(-2014, "API-key format invalid.", 401)
        return self.owner

    def need(self, name: str) -> str:
        """Return a mandatory parameter. Raises ApiError -1102."""
        value = self.params.get(name, "")
        if not value:
            raise ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return value

    def number(self, name: str) -> Decimal:
        """Return a decimal parameter, 0 when it was not sent. Raises ApiError -1100, -1111."""
        value = self.params.get(name, "")
        if not value:
            return ZERO
        if not _NUMBER.fullmatch(value):
            legal = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
            raise ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")
        number = Decimal(value)
        if number != number.quantize(Decimal("0.00000001")):
            raise ApiError(-1111, f"Parameter '{name}' has too much precision.")
        return number

    def integer(self, name: str, default: int | None = None) -> int | None:
        """Return a whole number, `default` when it was not sent. Raises ApiError -1100."""
        value = self.params.get(name, "")
        if not value:
            return default
        if not value.isdigit():
            raise ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")
        return int(value)

    def limit(self, default: int, most: int) -> int:
        """Return how many rows are asked for."""
        return min(self.integer("limit", default) or default, most)

    def client_id(self, name: str) -> str:
        """Return a client order id, "" when it was not sent. Raises ApiError -1100."""
        value = self.params.get(name, "")
        if value and not _CLIENT_ID.fullmatch(value):
            raise ApiError(
                -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[a-zA-Z0-9-_]{{1,36}}$'."
            )
        return value

    def market(self, book: Book) -> Market:
        """Return the market that `symbol` names. Raises ApiError -1102, -1121."""
        return market_called(book, self.need("symbol"))


def market_called(book: Book, market_id: str) -> Market:
    """Return the listed market with Binance's id, such as BTCUSDT. Raises ApiError -1121."""
    for market in book.markets.values():
        if market.base + market.quote == market_id and market.status.value != "delisted":
            return market
    raise ApiError(-1121, "Invalid symbol.")
