"""Masking of secrets in whatever is about to be written: log lines, error texts, journalled details.

Two nets: the literal values of the secrets this process was given, in every form they may take on the way, and the
places where venues and libraries put secrets whoever they belong to. Masking too much is a nuisance, too little a loss.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from numbers import Integral, Real
from typing import TypeAlias, Union
from urllib.parse import quote, quote_plus

MASK = "***"

Json: TypeAlias = Union[bool, int, float, str, list["Json"], dict[str, "Json"], None]  # noqa: UP007  # recursive

_SHORTEST = 4
"""A literal shorter than this is no secret worth the name, and masking it would shred every number in the log."""
_DEEPEST = 8
"""Nesting beyond which a value is written as text and masked as such; also ends reference cycles."""
_LARGEST = 1e300
"""Numbers beyond this are written as text."""
_SHORTEST_LINE = 16
"""Lines of a multi-line secret (a PEM key) are masked one by one from this length on."""

_WHOLE_NAMES = frozenset({"uid", "login", "twofa", "token", "sig", "sign", "signature", "apisign", "cookie"})
_NAME_PARTS = (
    "apikey",
    "secret",
    "password",
    "passphrase",
    "passwd",
    "privatekey",
    "walletaddress",
    "accountid",
    "listenkey",
    "authorization",
    "accesstoken",
    "refreshtoken",
    "accesssign",
)

_SPELLINGS = (
    r"x-mbx-apikey|api-?sign|api[-_]?key|[a-z]+-access-(?:sign|key|passphrase)|(?:api|client)?[-_]?secret(?:[-_]?key)?"
    r"|password|passphrase|passwd|private[-_]?key|(?:access|refresh)?[-_]?token|listen[-_]?key|signature|sign"
)
_VALUE = (
    r"(?:b?\\\"(?:[^\"\\]|\\[^\"])*\\\""  # \"abc\", as in JSON within JSON
    r"|b?\"(?:[^\"\\]|\\.)*\""
    r"|b?'(?:[^'\\]|\\.)*'"
    r"|b?\\?[\"']?[^\s\"',;&)}\]]+)"  # bare, or cut off before the closing quote
)
_PATTERNS = (
    # 'Authorization': 'Bearer abc' and Authorization: Basic abc
    re.compile(
        r"((?:authorization|cookie)[\"']?\s*[:=,]\s*(?:b?[\"'])?(?:(?:basic|bearer|digest)\s+)?)[^\s\"',;&}]+",
        re.IGNORECASE,
    ),
    # "apiKey": "abc", 'secret': b'a"b', secret=abc, signature=abc&..., API-Sign: abc, ('X-MBX-APIKEY', 'abc')
    re.compile(
        rf"(?<![A-Za-z0-9])((?:[a-z0-9_-]{{0,24}}[-_])?(?:{_SPELLINGS})"
        rf"(?:\\?[\"']?\s*[:=]\s*|[\"']\s*,\s*(?=b?[\"']))){_VALUE}",
        re.IGNORECASE,
    ),
    # https://user:password@host
    re.compile(r"([a-z][a-z0-9+.-]{0,15}://)[^/\s\"']+(?=@)", re.IGNORECASE),
)


def is_secret_name(name: str) -> bool:
    """Return whether a field called `name` (any case, with or without - and _) holds a secret."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return plain in _WHOLE_NAMES or any(part in plain for part in _NAME_PARTS)


def _forms(secret: str) -> set[str]:
    """Return the ways in which `secret` may appear: plain, in a URL, in JSON, in a repr, in base64, line by line."""
    forms = {
        secret,
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        base64.b64encode(secret.encode("utf-8", "surrogatepass")).decode(),
    }
    forms.update(line for line in secret.splitlines() if len(line) >= _SHORTEST_LINE)
    return forms


class Redactor:
    """Masks secrets in text and in nested values.

    secrets: literal values to mask wherever they appear; values under four characters are left to the patterns.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
        # Longest first, or a secret that begins like another one would leave its end behind.
        alternatives = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        self._literals = re.compile(alternatives) if forms else None

    def text(self, text: str) -> str:
        """Return `text` with every secret replaced by `***`."""
        if self._literals is not None:
            text = self._literals.sub(MASK, text)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\1{MASK}", text)
        return text

    def value(self, value: object) -> Json:
        """Return `value` as JSON types without secrets.

        Fields whose name says that they hold a secret are masked whatever they hold. What JSON cannot say (other
        objects, infinities) becomes its masked `repr`. Never raises.
        """
        return self._value(value, 0)

    def _value(self, value: object, depth: int) -> Json:  # noqa: PLR0911  # one line per kind of value
        match value:
            case str():
                return self.text(value)
            case None | bool():
                return value
            case Integral():
                return self._number(int(value))
            case Real():
                return self._number(float(value))
            case Mapping() if depth < _DEEPEST:
                return {self.text(_text_of(key)): self._field(key, item, depth) for key, item in value.items()}
            case (str() as name, item) if is_secret_name(name):  # a header as a pair
                return [self.text(name), self._field(name, item, depth)]
            case list() | tuple() | AbstractSet() if depth < _DEEPEST:
                return [self._value(item, depth + 1) for item in value]
            case _:
                return self.text(_text_of(value))

    def _field(self, key: object, item: object, depth: int) -> Json:
        if item is not None and not isinstance(item, bool) and is_secret_name(_text_of(key)):
            return MASK
        return self._value(item, depth + 1)

    def _number(self, number: float) -> Json:
        # A numeric secret (an account number, a one-time code) is a secret too; JSON has no NaN.
        digits = _text_of(number)
        text = self.text(digits)
        return number if text == digits and -_LARGEST < number < _LARGEST else text


def _text_of(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  # a log line must not fail because of what somebody's __repr__ does
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
