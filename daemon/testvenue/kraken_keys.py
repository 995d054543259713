"""Who asks: Kraken's signatures, nonces, call counter and websocket tokens.

A request is signed with HMAC-SHA512 over path + SHA256(nonce + body), keyed with the base64-decoded secret; its nonce
must be greater than any before. Each call adds to a counter that falls by itself.
https://docs.kraken.com/api/docs/guides/spot-rest-auth, .../spot-rest-ratelimits (2025).
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from daemon.testvenue.accounts import Account
from daemon.testvenue.book import Book
from daemon.testvenue.kraken_words import KrakenError

_COUNTER_MAX = 15.0
_COUNTER_FALL_PER_S = 0.33
_DEARER = frozenset({"TradesHistory", "ClosedOrders", "Ledgers", "QueryLedgers"})
_UNCOUNTED = frozenset({"AddOrder", "CancelOrder", "AmendOrder", "EditOrder"})
_TOKEN_LIFE_MS = 900_000


@dataclass(frozen=True, slots=True)
class _Count:
    value: float
    at_s: float


def cost_of(method: str) -> float:
    """Return what a private call adds to the counter."""
    return 0.0 if method in _UNCOUNTED else 2.0 if method in _DEARER else 1.0


class KeyRing:
    """What is known of every key. counts: whether calls are counted, as Kraken does for its lowest tier."""

    def __init__(self, book: Book, *, monotonic_s: Callable[[], float], counts: bool = True) -> None:
        self._book = book
        self._monotonic_s = monotonic_s
        self._counts = counts
        self._nonces: dict[str, int] = {}
        self._counters: dict[str, _Count] = {}
        self._tokens: dict[str, tuple[str, int]] = {}

    def check(self, headers: Mapping[str, str], path: str, body: str) -> tuple[Account, dict[str, str]]:
        """Return whose request it is, and its parameters. Raises KrakenError."""
        account = self._book.accounts.get(headers.get("API-Key", ""))
        if account is None or account.rights.is_revoked:
            raise KrakenError("EAPI:Invalid key")
        params = parameters(body, headers.get("Content-Type", ""))
        nonce = params.pop("nonce", "")
        if not nonce.isdecimal():
            raise KrakenError("EAPI:Invalid nonce")
        if not hmac.compare_digest(signature(path, nonce, body, account.secret), headers.get("API-Sign", "")):
            raise KrakenError("EAPI:Invalid signature")
        if int(nonce) <= self._nonces.get(account.key, 0):
            raise KrakenError("EAPI:Invalid nonce")
        self._nonces[account.key] = int(nonce)
        return account, params

    def count(self, account: Account, method: str) -> float:
        """Count a call and return what it cost. Raises KrakenError beyond the limit, and then it is counted, too."""
        cost = cost_of(method) if self._counts else 0.0
        now_s = self._monotonic_s()
        last = self._counters.get(account.key, _Count(0.0, now_s))
        value = max(0.0, last.value - (now_s - last.at_s) * _COUNTER_FALL_PER_S) + cost
        if cost and value > _COUNTER_MAX:
            raise KrakenError("EAPI:Rate limit exceeded")
        self._counters[account.key] = _Count(value, now_s)
        return cost

    # ---- websocket tokens -------------------------------------------------------------------------------------------
    def token(self, account: Account) -> str:
        """Return a new token, with which a websocket can be opened for 15 minutes."""
        seed = f"{account.key} {len(self._tokens)} {self._book.now_ms()}"
        token = base64.b64encode(hmac.digest(account.secret.encode(), seed.encode(), "sha256")).decode()
        self._tokens[token] = (account.key, self._book.now_ms() + _TOKEN_LIFE_MS)
        return token

    def holder(self, token: str) -> Account:
        """Return whose token it is. Raises KrakenError for one that is unknown, too old, or whose key is revoked."""
        key, until_ms = self._tokens.get(token, ("", 0))
        if not key or self._book.now_ms() >= until_ms or self._book.accounts[key].rights.is_revoked:
            raise KrakenError("ESession:Invalid session")
        return self._book.accounts[key]


def parameters(body: str, content_type: str) -> dict[str, str]:
    """Return what a request's body says. Raises KrakenError."""
    if "json" not in content_type:
        return dict(parse_qsl(body, keep_blank_values=True))
    try:
        values = json.loads(body)
        return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    except (ValueError, AttributeError):
        raise KrakenError("EGeneral:Invalid arguments") from None


def signature(path: str, nonce: str, body: str, secret: str) -> str:
    """Return API-Sign for a request. Raises KrakenError for a secret that is not base64, as Kraken's all are."""
    try:
        key = base64.b64decode(secret, validate=True)
    except binascii.Error:
        raise KrakenError("EAPI:Invalid signature") from None
    digest = hashlib.sha256((nonce + body).encode()).digest()
    return base64.b64encode(hmac.digest(key, path.encode() + digest, "sha512")).decode()
