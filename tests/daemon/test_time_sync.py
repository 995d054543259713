"""Who keeps the clock, as the marks of the usual daemons and the kernel tell."""

import ctypes
from pathlib import Path

import pytest

from daemon import time_sync as module
from daemon.time_sync import time_sync


def test_timesyncd_says_so_by_a_file_of_its_own(tmp_path: Path) -> None:
    mark = tmp_path / "systemd" / "timesync" / "synchronized"
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert time_sync(tmp_path) == (True, "systemd-timesyncd has synchronised the clock")


@pytest.mark.parametrize(("says", "told"), [(True, "is synchronised"), (False, "is not synchronised")])
def test_else_the_kernel_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: bool, told: str) -> None:
    monkeypatch.setattr(module, "_kernel_says", lambda: says)
    found, detail = time_sync(tmp_path)
    assert (found, detail) == (says, f"the kernel's clock {told}")


@pytest.mark.parametrize(
    ("mark", "name"), [("chrony/chronyd.pid", "chrony"), ("chronyd.pid", "chrony"), ("ntpd.pid", "ntpd")]
)
def test_where_the_kernel_may_not_be_asked_a_running_daemon_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, name: str
) -> None:
    monkeypatch.setattr(module, "_kernel_says", lambda: None)
    assert time_sync(tmp_path)[0] is None
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).touch()
    assert time_sync(tmp_path) == (True, f"{name} runs")


class _Library:
    """A C library whose adjtimex answers as adjtimex(2) describes; `status` goes where <sys/timex.h> has it."""

    def __init__(self, status: int, answer: int = 0) -> None:
        def adjtimex(reference: "ctypes._Pointer[ctypes.Structure]") -> int:
            state = reference._obj  # type: ignore[attr-defined]  # what byref points to
            assert state.modes == 0  # only asked
            words = (ctypes.c_long * 6).from_buffer(state)
            words[5] = status  # modes is padded to a word; then offset, freq, maxerror, esterror, status
            return answer

        self.adjtimex = adjtimex


@pytest.mark.skipif(ctypes.sizeof(ctypes.c_long) != 8, reason="laid out for 64 bits")
@pytest.mark.parametrize(("status", "answer", "expected"), [(0x2001, 0, True), (0x40, 5, False), (0, -1, None)])
def test_the_kernels_answer_is_read(
    monkeypatch: pytest.MonkeyPatch, status: int, answer: int, expected: bool | None
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: _Library(status, answer))
    assert module._kernel_says() is expected


def test_a_system_without_that_call_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert module._kernel_says() is None
