"""What differs from exchange to exchange behind ccxt's common face, as one table: no branches on names elsewhere.

An exchange that is not listed gets what is safe anywhere: no stops at the venue, no market purchases, orders looked up
in its lists.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from daemon.venue import Abilities, Permissions
from daemon.venue_ids import IdStyle
from daemon.venue_kraken import KrakenRows


class Paging(StrEnum):
    """How a venue gives out the account's trades, page by page."""

    IDS = "ids"
    """By day from a time on, and then from a trade id on, oldest first."""
    OFFSETS = "offsets"
    """Newest first, so many skipped."""
    TIMES = "times"
    """Some of those between two times."""


RowReader = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Makes a row of the user-data stream what ccxt's rows should be."""


def _as_shown() -> RowReader:
    return lambda row: row


def _untold(_answer: Any) -> Permissions:  # noqa: ANN401  # as the venue sent it
    return Permissions(may_trade=None, may_withdraw=None)


def _no_stop(_market: Mapping[str, Any]) -> bool:
    return False


def _any_stop(_market: Mapping[str, Any]) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One exchange.

    finds_by_client_id: `fetch_order` takes a client id; else the lists of open and closed orders are searched.
    list_form: how the answer to a list shows that it is one: "list", or the key that holds it.
    market_buy: parameters that make a market purchase mean base and not quote; None: not known, so not done.
    has_market_stop: told from ccxt's market.  permission_call: ccxt's name of the call that tells what the key may do.
    page: trades per request.  sets_clock: requests bear the venue's time.  counts_up: each bears a higher number than
    the one before.  options: ccxt's, unless the user says otherwise.  stream_rows: makes a reader of one
    connection's rows, which may remember what came before.
    """

    id_style: IdStyle = IdStyle.HEX
    finds_by_client_id: bool = False
    cancels_by_client_id: bool = False
    list_form: str = ""
    has_stop: bool = False
    has_market_stop: Callable[[Mapping[str, Any]], bool] = _no_stop
    stop_binds_funds: bool = True
    has_dead_man: bool = False
    market_buy: Mapping[str, Any] | None = None
    paging: Paging = Paging.TIMES
    page: int = 100
    sets_clock: bool = False
    counts_up: bool = False
    permission_call: str = ""
    permissions: Callable[[Any], Permissions] = _untold
    options: Mapping[str, Any] = field(default_factory=dict)
    stream_rows: Callable[[], RowReader] = _as_shown

    def abilities(self, *, has_user_stream: bool, markets: tuple[Mapping[str, Any], ...] = ()) -> Abilities:
        """Return what the venue can do in `markets`; a stop that sells at market only when each of them has it."""
        return Abilities(
            has_stop=self.has_stop,
            has_market_stop=self.has_stop and all(self.has_market_stop(market) for market in markets),
            stop_binds_funds=self.stop_binds_funds,
            has_user_stream=has_user_stream,
            has_dead_man=self.has_dead_man,
        )


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _binance_stop(market: Mapping[str, Any]) -> bool:
    return "STOP_LOSS" in ((market.get("info") or {}).get("orderTypes") or ())


def _binance_permissions(answer: Any) -> Permissions:  # noqa: ANN401  # as the venue sent it
    return Permissions(
        may_trade=_flag(answer.get("enableSpotAndMarginTrading")),
        may_withdraw=_flag(answer.get("enableWithdrawals")),
        is_bound_to_ip=_flag(answer.get("ipRestrict")),
    )


def _kraken_permissions(answer: Any) -> Permissions:  # noqa: ANN401  # as the venue sent it
    result = answer["result"]
    granted = {str(name).lower() for name in result["permissions"]}
    allowed = result.get("ip_allowlist")
    return Permissions(
        may_trade="modify-trades" in granted,
        may_withdraw="withdraw-funds" in granted,
        is_bound_to_ip=bool(allowed) if isinstance(allowed, list) else None,
    )


def _okx_permissions(answer: Any) -> Permissions:  # noqa: ANN401  # as the venue sent it
    row = answer["data"][0]
    granted = set(str(row["perm"]).split(","))
    bound = bool(row["ip"]) if isinstance(row.get("ip"), str) else None
    return Permissions(may_trade="trade" in granted, may_withdraw="withdraw" in granted, is_bound_to_ip=bound)


def _bybit_permissions(answer: Any) -> Permissions:  # noqa: ANN401  # as the venue sent it
    result = answer["result"]
    granted = result["permissions"]
    ips = result.get("ips")
    return Permissions(
        may_trade=bool(granted.get("Spot")) and not result.get("readOnly"),
        may_withdraw="Withdraw" in (granted.get("Wallet") or ()),
        is_bound_to_ip=ips != ["*"] if isinstance(ips, list) and ips else None,
    )


_BINANCE = Dialect(
    id_style=IdStyle.PLAIN,
    finds_by_client_id=True,
    cancels_by_client_id=True,
    list_form="list",
    has_stop=True,
    has_market_stop=_binance_stop,
    market_buy={},
    paging=Paging.IDS,
    page=1_000,
    sets_clock=True,
    permission_call="sapiGetAccountApiRestrictions",
    permissions=_binance_permissions,
    # An order that waits somewhere on the way longer than this is turned away; Binance advises 5 s or less.
    options={"recvWindow": 5_000},
)
_DIALECTS: Mapping[str, Dialect] = {
    "binance": _BINANCE,
    "binanceus": _BINANCE,
    "kraken": Dialect(
        cancels_by_client_id=True,
        list_form="result",
        has_stop=True,
        has_market_stop=_any_stop,
        stop_binds_funds=False,
        has_dead_man=True,
        market_buy={},
        paging=Paging.OFFSETS,
        page=50,
        counts_up=True,
        permission_call="privatePostGetApiKeyInfo",
        permissions=_kraken_permissions,
        stream_rows=KrakenRows,
    ),
    "okx": Dialect(
        finds_by_client_id=True,
        cancels_by_client_id=True,
        list_form="data",
        has_dead_man=True,
        market_buy={"tgtCcy": "base_ccy"},
        sets_clock=True,
        permission_call="privateGetAccountConfig",
        permissions=_okx_permissions,
    ),
    "bybit": Dialect(
        id_style=IdStyle.PLAIN,
        list_form="result",
        cancels_by_client_id=True,
        market_buy={"marketUnit": "baseCoin"},
        sets_clock=True,
        permission_call="privateGetV5UserQueryApi",
        permissions=_bybit_permissions,
        options={"recvWindow": 5_000},
    ),
}
_SAFE_ANYWHERE = Dialect()


def dialect_of(exchange_id: str) -> Dialect:
    """Return what is known of an exchange."""
    return _DIALECTS.get(exchange_id, _SAFE_ANYWHERE)
