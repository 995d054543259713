"""What the venue allows in each symbol, kept fresh; tells when it changed."""

from daemon.errors import TransientError
from daemon.order_path import PathWatch
from daemon.outbox import Outbox
from daemon.ports import NewSteps
from daemon.venue import Market, Venue, VenueRefused
from strategy.instrument import Instrument


class MarketBook:
    """The markets of the traded symbols. closed: symbols that take no orders now."""

    def __init__(self, venue: Venue, symbols: tuple[str, ...], outbox: Outbox, path: PathWatch) -> None:
        self._venue = venue
        self._symbols = symbols
        self._outbox = outbox
        self._path = path
        self._markets: dict[str, Market] = {}
        self._told: tuple[dict[str, Instrument], frozenset[str]] | None = None
        self.closed: frozenset[str] = frozenset()

    def market(self, symbol: str) -> Market:
        """Return what is allowed in `symbol`, as last read."""
        return self._markets[symbol]

    def lot(self, symbol: str) -> float:
        """Return its quantity step in base."""
        return self._markets[symbol].instrument.lot

    def is_open(self, symbol: str) -> bool:
        """Tell whether it takes orders."""
        return symbol not in self.closed

    async def read(self, *, refresh: bool = True) -> None:
        """Ask the venue; a change is told. Raises TransientError."""
        found = await self._path.of(self._venue.markets(refresh=refresh))
        self._markets |= {symbol: found[symbol] for symbol in self._symbols if symbol in found}
        gone = {symbol for symbol in self._symbols if symbol not in found or not found[symbol].is_active}
        self._tell(frozenset(gone))

    async def try_read(self) -> None:
        """As `read`, but leaves what is known when there is no answer."""
        try:
            await self.read()
        except (TransientError, VenueRefused):
            return

    def close(self, symbol: str) -> None:
        """Note that the venue refused an order because the market is closed, whatever its list of markets says."""
        self._tell(self.closed | {symbol})

    def _tell(self, closed: frozenset[str]) -> None:
        self.closed = closed
        now = {symbol: market.instrument for symbol, market in self._markets.items()}, closed
        if now != self._told:
            is_first = self._told is None
            self._told = now
            if not is_first or closed:
                self._outbox.put(NewSteps(instruments=now[0], closed=closed))
