"""Whether this machine's clock is kept right by somebody, as far as the system tells. Reads no time."""

import ctypes
from pathlib import Path

_TIMESYNCD = "systemd/timesync/synchronized"
_OTHERS = {"chrony/chronyd.pid": "chrony", "chronyd.pid": "chrony", "ntpd.pid": "ntpd", "openntpd.pid": "openntpd"}
_UNSYNCHRONISED = 0x40  # STA_UNSYNC, adjtimex(2)


class _Timex(ctypes.Structure):
    """The beginning of `struct timex` as the C library has it, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def time_sync(run: Path = Path("/run")) -> tuple[bool | None, str]:
    """Return whether the clock is synchronised (None: nobody tells) and who says so. run: where daemons leave marks."""
    if (run / _TIMESYNCD).exists():
        return True, "systemd-timesyncd has synchronised the clock"
    is_synchronised = _kernel_says()
    if is_synchronised is not None:
        return is_synchronised, f"the kernel's clock is {'' if is_synchronised else 'not '}synchronised"
    for mark, name in _OTHERS.items():
        if (run / mark).exists():
            return True, f"{name} runs"
    return None, "the system does not tell whether its clock is synchronised"


def _kernel_says() -> bool | None:
    """Return what adjtimex(2) says when it is only asked; None where it may not be asked, as in our systemd unit."""
    try:
        ask = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    state = _Timex()
    if ask(ctypes.byref(state)) < 0:
        return None
    return not state.status & _UNSYNCHRONISED
