"""Keys are read from a file that nobody else controls, and nothing of them is ever said."""

import os
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.credentials import credentials_of, refuse_loose
from daemon.errors import ConfigError
from tests.daemon.live_places import KEY, SECRET, write_keys

IS_ROOT = os.geteuid() == 0
NOBODY = 65_534


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return write_keys(tmp_path / "keys.toml")


def refusal(path: Path | None) -> str:
    with pytest.raises(ConfigError) as caught:
        credentials_of(path)
    assert caught.value.exit_code == 78
    assert KEY not in str(caught.value)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_a_tight_file_is_read(keys: Path) -> None:
    assert credentials_of(keys) == {"apiKey": KEY, "secret": SECRET}
    keys.chmod(0o400)
    assert credentials_of(keys) == {"apiKey": KEY, "secret": SECRET}


@given(mode=st.integers(0o400, 0o777))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_mode_with_any_bit_for_others_is_refused_with_the_command_that_mends_it(keys: Path, mode: int) -> None:
    keys.chmod(mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        told = refusal(keys)
        assert f"mode {mode:04o}" in told
        assert f"chmod 600 {keys}" in told
    else:
        assert credentials_of(keys) == {"apiKey": KEY, "secret": SECRET}


def test_no_file_named_at_all_says_where_to_write_one() -> None:
    assert "[exchange] credentials" in refusal(None)


def test_a_missing_file_is_named_with_what_belongs_in_it(tmp_path: Path) -> None:
    told = refusal(tmp_path / "none.toml")
    assert str(tmp_path / "none.toml") in told
    assert 'apiKey = "..."' in told
    assert "0600" in told


def test_what_is_no_plain_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "is not a plain file" in refusal(tmp_path / "pipe")
    (tmp_path / "directory").mkdir(mode=0o700)
    assert "is not a plain file" in refusal(tmp_path / "directory")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert str(tmp_path / "loop") in refusal(tmp_path / "loop")


def test_a_link_is_as_good_as_what_it_leads_to(keys: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(keys)
    assert credentials_of(link)["apiKey"] == KEY
    keys.chmod(0o644)
    assert "mode 0644" in refusal(link)


def test_a_directory_in_which_anyone_can_replace_the_file_is_refused(keys: Path) -> None:
    keys.parent.chmod(0o777)
    told = refusal(keys)
    assert f"chmod o-w {keys.parent}" in told
    keys.parent.chmod(0o1777)  # as /tmp: only owners replace
    assert credentials_of(keys)["apiKey"] == KEY


def test_a_link_does_not_hide_a_directory_in_which_anyone_can_replace_the_file(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    keys = write_keys(tmp_path / "open" / "keys.toml")
    keys.parent.chmod(0o777)
    (tmp_path / "link.toml").symlink_to(keys)
    assert f"chmod o-w {keys.parent}" in refusal(tmp_path / "link.toml")


@pytest.mark.skipif(not IS_ROOT, reason="only root can give files away")
def test_a_file_of_somebody_else_is_refused(keys: Path) -> None:
    os.chown(keys, NOBODY, -1)
    told = refusal(keys)
    assert f"belongs to uid {NOBODY}" in told
    assert f"chown {os.geteuid()} {keys}" in told


@pytest.mark.skipif(IS_ROOT, reason="root reads everything")
def test_a_file_that_we_may_not_read_is_told_as_such(keys: Path) -> None:
    keys.chmod(0o200)
    assert "may not be read" in refusal(keys)


def _access_list(*entries: tuple[int, int, int]) -> bytes:
    """Return the attribute in which Linux keeps an access list: version 2, then tag, permissions, id (acl(5))."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


UNSET, US = 0xFFFFFFFF, os.geteuid()
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([(USER_OBJ, 4, UNSET), (USER, 4, US), (GROUP_OBJ, 0, UNSET), (MASK, 4, UNSET), (OTHER, 0, UNSET)], ""),
        ([(USER_OBJ, 4, UNSET), (USER, 4, NOBODY), (GROUP_OBJ, 0, UNSET), (MASK, 4, UNSET), (OTHER, 0, UNSET)],
         f"uid {NOBODY}"),
        ([(USER_OBJ, 4, UNSET), (GROUP_OBJ, 0, UNSET), (GROUP, 4, NOBODY), (MASK, 4, UNSET), (OTHER, 0, UNSET)],
         "a group"),
        ([(USER_OBJ, 4, UNSET), (USER, 4, NOBODY), (GROUP_OBJ, 4, UNSET), (MASK, 0, UNSET), (OTHER, 0, UNSET)], ""),
        ([(USER_OBJ, 4, UNSET), (GROUP_OBJ, 0, UNSET), (MASK, 0, UNSET), (OTHER, 4, UNSET)], "everybody"),
    ],
    ids=["us, as systemd does it", "somebody", "a group", "masked out", "everybody"],
)  # fmt: skip
def test_an_access_list_counts_by_whom_it_lets_in(keys: Path, entries: list[tuple[int, int, int]], told: str) -> None:
    try:
        os.setxattr(keys, "system.posix_acl_access", _access_list(*entries))
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")
    if told:
        assert f"lets {told} use the keys" in refusal(keys)
    else:
        assert credentials_of(keys)["apiKey"] == KEY


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty"),
        (f'apiKye = "{KEY}"', "is no credential"),
        (f'[binance]\nsecret = "{SECRET}"', "is no credential"),
        (f"apiKey = {KEY}", "is not TOML"),
        ("apiKey = 17", "is not text"),
    ],
)
def test_a_broken_file_is_told_without_what_it_holds(tmp_path: Path, text: str, told: str) -> None:
    path = write_keys(tmp_path / "keys.toml", text)
    message = refusal(path)
    assert told in message
    assert str(path) in message


def test_looking_at_the_mode_changes_nothing(keys: Path) -> None:
    before = keys.stat()
    refuse_loose(keys)
    assert keys.stat() == before
