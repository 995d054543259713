"""A place from which live trading could start: configuration, tight keys, an ensemble found ready, a willing venue."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from daemon.config import Config, load_config
from daemon.readiness import EVALUATION
from daemon.venue import Abilities, Balance, Market, Permissions, Quote, Request, VenueEvent, VenueOrder, VenueTrade
from strategy.instrument import Instrument
from tests.fakes.serving import BTC, Place, make_place

KEY, SECRET = "cAnArYkEy5b1d0c9e", "cAnArYsEcReT8f27a3"


def make_live_place(root: Path) -> Place:
    """Return a place whose configuration is live and can be armed."""
    place = make_place(root)
    write_keys(root / "keys.toml")
    write_evaluation(place.model)
    configure_live(place)
    return place


def write_keys(path: Path, text: str = f'apiKey = "{KEY}"\nsecret = "{SECRET}"\n', mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def write_evaluation(model: Path, **changes: Any) -> Path:
    """Write that the ensemble in `model` is ready; `changes` replace keys, and remove those that are None."""
    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    said = {"bundle": manifest["id"], "ready": True, "at": "2026-01-02T03:04:05+00:00", "summary": "all gates passed"}
    path = model / EVALUATION
    path.write_text(json.dumps({k: v for k, v in {**said, **changes}.items() if v is not None}), encoding="utf-8")
    return path


def configure_live(place: Place, **changes: Mapping[str, Any]) -> Path:
    """Write the live configuration with `changes` of single keys, by section."""
    sections: dict[str, dict[str, Any]] = {
        "daemon": {
            "instance": "main",
            "state_dir": str(place.root / "var"),
            "mode": "live",
            "initial_cash": 1_000.0,
        },
        "market": {"source": "exchange", "symbols": [BTC], "candles_per_second": 0.0},
        "exchange": {"credentials": str(place.root / "keys.toml")},
        "live": {"max_order_value": 500.0, "max_position_value": 800.0},
    }
    for section, values in changes.items():
        sections[section] = {**sections.get(section, {}), **values}
    return place.configure(**sections, extra="\n".join(_tables("exchange.ccxt", sections["exchange"].pop("ccxt", {}))))


def _tables(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of nested tables, the inner ones after their table."""
    yield f"[{title}]"
    yield from (f"{json.dumps(key)} = {json.dumps(v)}" for key, v in values.items() if not isinstance(v, Mapping))
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _tables(f"{title}.{json.dumps(key)}", value)


def load_live(place: Place, environ: Mapping[str, str] | None = None, **changes: Mapping[str, Any]) -> Config:
    """Return the live configuration with `changes`, loaded."""
    return load_config(configure_live(place, **changes), environ or {})


class WillingVenue:
    """A `daemon.venue.Venue` that answers what its attributes say and notes each call; it takes no order.

    failures: what a call of that name raises.
    """

    def __init__(self) -> None:
        self.abilities = Abilities(
            has_stop=True, has_market_stop=True, stop_binds_funds=True, has_user_stream=True, has_dead_man=False
        )
        instrument = Instrument(symbol=BTC, tick=0.01, lot=0.00001, min_notional=5.0)
        self.found: dict[str, Market] = {BTC: Market(instrument=instrument, taker=0.001, maker=0.001)}
        self.quotes = {BTC: Quote(bid=49_999.0, ask=50_001.0, last=50_000.0)}
        self.account = {"USDT": Balance(free=2_000.0, used=0.0)}
        self.allowed = Permissions(may_trade=True, may_withdraw=False, is_bound_to_ip=True)
        self.offset_ms: float | None = 20.0
        self.resting: list[VenueOrder] = []
        self.failures: dict[str, Exception] = {}
        self.calls: list[str] = []

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failures:
            raise self.failures[name]

    async def open(self) -> None:
        self._note("open")

    async def markets(self, *, refresh: bool = False) -> Mapping[str, Market]:
        del refresh
        self._note("markets")
        return self.found

    async def open_orders(self) -> Sequence[VenueOrder]:
        self._note("open_orders")
        return self.resting

    async def balances(self) -> Mapping[str, Balance]:
        self._note("balances")
        return self.account

    async def quote(self, symbol: str) -> Quote:
        self._note("quote")
        return self.quotes[symbol]

    async def clock_offset_ms(self) -> float | None:
        self._note("clock_offset_ms")
        return self.offset_ms

    async def permissions(self) -> Permissions:
        self._note("permissions")
        return self.allowed

    async def find(self, symbol: str, client_id: str, venue_id: str = "") -> VenueOrder | None:
        raise AssertionError(f"asked for {symbol} {client_id} {venue_id}")

    async def trades(self, symbol: str, since_ms: int) -> Sequence[VenueTrade]:
        raise AssertionError(f"asked for trades of {symbol} since {since_ms}")

    def events(self) -> AsyncIterator[VenueEvent]:
        raise AssertionError("listened")

    async def close(self) -> None:
        self._note("close")

    async def create(self, request: Request) -> VenueOrder:
        raise AssertionError(f"sent {request}")

    async def cancel(self, symbol: str, client_id: str, venue_id: str = "") -> None:
        raise AssertionError(f"cancelled {symbol} {client_id} {venue_id}")

    async def arm_dead_man(self, seconds: float) -> None:
        raise AssertionError(f"armed the dead-man switch for {seconds} s")
