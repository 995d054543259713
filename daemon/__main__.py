"""The `sacd` command. Fixes how NumPy adds before NumPy is imported, then hands over to `daemon.cli`."""

import faulthandler
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:2] == ["run"]:
        # Kept by the system until `daemon.hangup` hears of it: asking for a reload too early must not end the daemon.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    _open_closed_streams()
    # With several threads OpenBLAS splits sums differently, and the same decision would have other last bits.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    faulthandler.enable()  # what the watchdog aborts says where it hung
    try:
        from daemon.cli import command_line  # noqa: PLC0415 - only now may NumPy be imported

        code = command_line()
    except KeyboardInterrupt:
        code = 130  # Ctrl-C before anything began: as the shell says it
    sys.exit(code)


def _open_closed_streams() -> None:
    """Let what the caller closed (`>&-`) go nowhere, here and in what this process becomes or starts.

    Else the next file opened, perhaps the journal, would get the number that prints are written to.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - open as long as the process
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


if __name__ == "__main__":
    main()
