"""How fast a house's clock may run on this machine at this moment: a candle must last longer than an answer takes.

At 60 times a candle passes in a second, in which a daemon, its venue and the test all have to get their turns. Where a
piece of work takes several times as long as on an idle machine, they do not: the journal takes longer than a candle to
write, every request is too old, and nothing is ever bought. There the clock runs slower, and the test takes so much
longer to wait for its candles: not at all on an idle machine, up to eight times as long on one that is overrun.
"""

import time

MOST = 8.0
_STEPS = 2_000_000
_IDLE_S = 0.05
"""What the piece of work takes on an idle machine, roughly."""
_PATIENCE = 2.5
"""How many times as long it may take before the clock gives way: as long as with a test on each of a few slow cores."""


def slowness() -> float:
    """Return how many times slower a clock has to run on this machine, as busy as it is now: 1 to `MOST`."""
    return min(MOST, max(1.0, _took_s() / _IDLE_S / _PATIENCE))


def _took_s() -> float:
    began_s, number = time.monotonic(), 0
    for step in range(_STEPS):
        number ^= step
    return time.monotonic() - began_s
