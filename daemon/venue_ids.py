"""Our client order ids as each venue takes them, and back: whose an order is stands in its id.

Where a venue takes our ids as they are, nothing is lost on the way. Elsewhere they become 32 hexadecimal characters: 8
that all orders of this instance have in common, and 24 of the id itself. Pure; remembers what it is told.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from enum import StrEnum
from typing import TypeVar

from strategy.order import id_prefix

_K = TypeVar("_K")
_KNOWN = 20_000  # ids and orders remembered; months of trading, a few megabytes
_OURS = 8
_REST = 24


class IdStyle(StrEnum):
    """What a venue takes as a client order id."""

    PLAIN = "plain"
    """1-36 characters of [A-Za-z0-9-_]: ours fit."""
    HEX = "hex"
    """32 hexadecimal characters."""


class ClientIds:
    """The ids of one instance at one venue.

    instance: name of the daemon, which its ids derive from.  symbols: traded.
    """

    def __init__(self, *, instance: str, symbols: Iterable[str], style: IdStyle) -> None:
        self._style = style
        self._prefixes = tuple(f"{id_prefix(instance, symbol)}-" for symbol in symbols)
        self._mark = hashlib.sha256(instance.encode()).hexdigest()[:_OURS]
        self._by_text: OrderedDict[str, str] = OrderedDict()
        self._by_order: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._names: OrderedDict[str, str] = OrderedDict()

    def to_venue(self, client_id: str) -> str:
        """Return the id as the venue takes it, and remember it for the way back; the same id gives the same text."""
        text = client_id
        if self._style is IdStyle.HEX:
            text = self._mark + hashlib.sha256(client_id.encode()).hexdigest()[:_REST]
        _remember(self._by_text, text, client_id)
        return text

    def is_ours(self, text: str) -> bool:
        """Tell whether a client id shown by the venue is one of this instance's, known to this process or not."""
        text = self._plain(text)
        if text in self._by_text:
            return True
        if self._style is IdStyle.HEX:
            return len(text) == _OURS + _REST and text.startswith(self._mark)
        return text.startswith(self._prefixes)

    def from_venue(self, text: str) -> str:
        """Return our id for a client id shown by the venue; "" for somebody else's.

        One that bears our mark and that nobody here knows comes back as the venue shows it, so that it can be refused.
        """
        known = self._by_text.get(self._plain(text))
        if known is not None:
            return known
        return text if self.is_ours(text) else ""

    def link(self, symbol: str, venue_id: str, client_id: str) -> None:
        """Remember which order of the venue is which of ours: its trades name the venue's id only."""
        if venue_id and client_id:
            _remember(self._by_order, (symbol, venue_id), client_id)
            _remember(self._names, client_id, venue_id)

    def linked(self, symbol: str, venue_id: str) -> str:
        """Return our id of an order of the venue, "" when it was never seen here."""
        return self._by_order.get((symbol, venue_id), "")

    def _plain(self, text: str) -> str:
        # A venue that takes a UUID may show it with its hyphens, or in capitals.
        return text.replace("-", "").lower() if self._style is IdStyle.HEX else text

    def name_of(self, client_id: str) -> str:
        """Return what the venue calls an order of ours, "" when it was never seen here."""
        return self._names.get(client_id, "")


def _remember(table: OrderedDict[_K, str], key: _K, value: str) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > _KNOWN:
        table.popitem(last=False)
