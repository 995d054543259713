"""Who may call, and how often: keys, signatures, timestamps, request weight, order count, bans.

Source: binance-spot-api-docs, rest-api.md: LIMITS, Endpoint security type, SIGNED endpoint security (read 2026-11).
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from daemon.testvenue.accounts import Account
from daemon.testvenue.binance_words import ApiError

MINUTE_MS = 60_000
LONGEST_WINDOW_MS = 60_000
AHEAD_MS = 1_000
BAN_AFTER = 10
"""Refused requests in a minute, after which the address is banned."""
ORDER_WINDOW_MS, ORDERS_PER_WINDOW = 10_000, 100


class Need(Enum):
    """What a call needs. SIGNED_READ and TRADE need a signature as well as a key."""

    NOTHING = "nothing"
    SIGNED_READ = "signed_read"
    TRADE = "trade"


class KeyGate:
    """Checks key, signature and timestamp. now_ms: the venue's time."""

    def __init__(self, accounts: Mapping[str, Account], *, now_ms: Callable[[], int]) -> None:
        self._accounts = accounts
        self._now_ms = now_ms
        self.checks_time = True

    def account(self, key: str, need: Need) -> Account:
        """Return whose key it is. Raises ApiError -2014, -2015."""
        if not key or not key.isalnum():
            raise ApiError(-2014, "API-key format invalid.", 401)
        account = self._accounts.get(key)
        if account is None or account.rights.is_revoked or not _may(account, need):
            raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        return account

    def check_signature(self, account: Account, sent: Sequence[str], params: Mapping[str, str]) -> None:
        """Check what was signed and when. sent: query and body, as they came.

        Raises ApiError -1102, -1021, -1022.
        """
        if not params.get("timestamp", "").isdigit():
            raise _missing("timestamp")
        if "signature" not in params:
            raise _missing("signature")
        if self.checks_time:
            self._check_time(int(params["timestamp"]), params.get("recvWindow", "5000"))
        signed = "".join(_without_signature(part) for part in sent)
        expected = hmac.new(account.secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, params["signature"]):
            raise ApiError(-1022, "Signature for this request is not valid.")

    def _check_time(self, timestamp: int, window: str) -> None:
        if not window.replace(".", "", 1).isdigit():
            raise ApiError(-1102, "Mandatory parameter 'recvWindow' was not sent, was empty/null, or malformed.")
        if float(window) > LONGEST_WINDOW_MS:
            raise ApiError(-1131, "recvWindow must be less than 60000")
        now = self._now_ms()
        if timestamp >= now + AHEAD_MS:
            raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now - timestamp > float(window):
            raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")


class Limiter:
    """Counts request weight per minute and orders per ten seconds; refuses beyond, and bans who does not listen.

    per_minute: how much weight is allowed, asked every time since a script may change it.
    """

    def __init__(self, *, now_ms: Callable[[], int], per_minute: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._per_minute = per_minute
        self._minute = self._window = -1
        self._refused = 0
        self._banned_until_ms = 0
        self.used = 0
        self.orders = 0

    def spend(self, weight: int) -> None:
        """Count a request. Raises ApiError -1003 with status 429, or 418 while banned, and Retry-After."""
        now = self._now_ms()
        if now // MINUTE_MS != self._minute:
            self._minute, self.used, self._refused = now // MINUTE_MS, 0, 0
        if now < self._banned_until_ms:
            raise self._ban(now)
        limit = self._per_minute()
        self.used += weight
        if self.used <= limit:
            return
        self._refused += 1
        if self._refused > BAN_AFTER:
            self._banned_until_ms = now + 2 * MINUTE_MS
            raise self._ban(now)
        wait_s = -(-((self._minute + 1) * MINUTE_MS - now) // 1_000)
        message = (
            f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
        raise ApiError(-1003, message, 429, {"Retry-After": str(wait_s)})

    def spend_order(self) -> None:
        """Count a new order. Raises ApiError -1015 with status 429 and Retry-After."""
        now = self._now_ms()
        if now // ORDER_WINDOW_MS != self._window:
            self._window, self.orders = now // ORDER_WINDOW_MS, 0
        self.orders += 1
        if self.orders > ORDERS_PER_WINDOW:
            wait_s = -(-((self._window + 1) * ORDER_WINDOW_MS - now) // 1_000)
            message = f"Too many new orders; current limit is {ORDERS_PER_WINDOW} orders per 10 SECOND."
            raise ApiError(-1015, message, 429, {"Retry-After": str(wait_s)})

    def headers(self) -> dict[str, str]:
        """Return what every answer tells of what is used."""
        return {"X-MBX-USED-WEIGHT-1M": str(self.used), "X-MBX-USED-WEIGHT": str(self.used)}

    def _ban(self, now: int) -> ApiError:
        until = self._banned_until_ms
        message = (
            f"Way too much request weight used; IP banned until {until}. "
            "Please use WebSocket Streams for live updates to avoid bans."
        )
        return ApiError(-1003, message, 418, {"Retry-After": str(-(-(until - now) // 1_000))})


def _may(account: Account, need: Need) -> bool:
    return account.rights.may_trade if need is Need.TRADE else account.rights.may_read


def _without_signature(part: str) -> str:
    return "&".join(one for one in part.split("&") if not one.startswith("signature="))


def _missing(name: str) -> ApiError:
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
