"""The keys of the tests, in every form in which they could slip out, and where to look for them."""

import base64
import binascii
import contextlib
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path

_SHORTEST = 12
"""Characters of a form that prove it: less could be there by chance."""


def forms(secret: str) -> frozenset[bytes]:
    """Return a secret as it is and as base64, hex, quoted and escaped text, also of what it encodes itself."""
    plain = {secret.encode()}
    with contextlib.suppress(binascii.Error):  # it need not be base64
        plain.add(base64.b64decode(secret, validate=True))
    found = set(plain)
    for value in plain:
        found |= {value.hex().encode(), value.hex().upper().encode(), urllib.parse.quote(value, safe="").encode()}
        found |= set(_inside_base64(value))
        found.add(value[::-1])
    return frozenset(found)


def _inside_base64(value: bytes) -> Iterable[bytes]:
    """Yield what base64 makes of a value wherever in a longer text it begins, without what its neighbours change."""
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * before + value).rstrip(b"=")
            inner = text[(before * 8 + 5) // 6 : len(text) - 2]
            if len(inner) >= _SHORTEST:
                yield inner


def leaks(secrets: Mapping[str, str], *places: Path, but: Iterable[Path] = ()) -> list[str]:
    """Return `FILE: NAME` for every file below `places` that holds a secret in any form, names of files included."""
    wanted = {name: forms(secret) for name, secret in secrets.items()}
    spared, found = set(but), []
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path in spared:
                continue
            content = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
            found += [f"{path}: {name}" for name, texts in wanted.items() if any(text in content for text in texts)]
    return found
