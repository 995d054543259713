"""The search for the keys finds them in every form, and nothing where they are not."""

import base64
from pathlib import Path

import pytest

from tests.live.canary import forms, leaks
from tests.live.house import KEY, SECRET

WRITTEN = {
    "plain": SECRET.encode(),
    "as bytes": base64.b64decode(SECRET),
    "hex": SECRET.encode().hex().encode(),
    "hex of the bytes": base64.b64decode(SECRET).hex().upper().encode(),
    "base64": base64.b64encode(SECRET.encode()),
    "base64 of a pair": base64.b64encode(f"{KEY}:{SECRET}".encode()),
    "base64 one later": base64.b64encode(b"x" + SECRET.encode() + b"tail"),
    "base64 two later": base64.urlsafe_b64encode(b"xy" + SECRET.encode()),
    "quoted": SECRET.replace("=", "%3D").replace("+", "%2B").encode(),
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_leaked_secret_is_found_however_it_is_written(how: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.log").write_bytes(b"before " + WRITTEN[how] + b" behind")
    assert leaks({"secret": SECRET}, tmp_path) == [f"{tmp_path / 'deep' / 'file.log'}: secret"]


def test_other_text_is_no_leak(tmp_path: Path) -> None:
    (tmp_path / "file.log").write_text("sacd canary " + base64.b64encode(b"something else entirely").decode())
    assert leaks({"key": KEY, "secret": SECRET}, tmp_path) == []
    assert all(len(form) >= 12 for form in forms(KEY) | forms(SECRET))


def test_a_file_that_is_spared_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEY)
    assert leaks({"key": KEY}, tmp_path, but=[tmp_path / "keys"]) == []
