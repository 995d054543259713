"""The `sacd` command. Fixes how NumPy adds before NumPy is imported, then hands over to `daemon.cli`."""

import faulthandler
import os
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    # With several threads OpenBLAS splits sums differently, and the same decision would have other last bits.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    faulthandler.enable()  # what the watchdog aborts says where it hung
    try:
        from daemon.cli import command_line  # noqa: PLC0415 - only now may NumPy be imported

        code = command_line()
    except KeyboardInterrupt:
        code = 130  # Ctrl-C before anything began: as the shell says it
    sys.exit(code)


if __name__ == "__main__":
    main()
