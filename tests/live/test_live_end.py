"""How a run ends while the venue does not answer: what is in flight is waited for, unless one is told twice."""

import os
import signal
import time

import pytest

from tests.live.rehearsal import Rehearsal, Rehearse


def selling_into_silence(house: Rehearsal) -> None:
    """Bring a house to where a sale is in flight and the venue hangs."""
    house.begin()
    house.until_bought(1)
    house.until_protected()
    os.kill(house.venue_pid, signal.SIGSTOP)
    house.ask("flatten")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once_in_one_plain_line_and_loses_nothing(
    rehearse: Rehearse, number: signal.Signals
) -> None:
    with rehearse(speed=6.0) as house:  # what is in flight is waited for 30 s: time enough for a second signal
        selling_into_silence(house)
        assert house.life is not None
        house.nursery.kill(house.life.pid, number)
        house.so(lambda: house.logged("stopping"), "the first signal is taken")
        assert not house.life.is_over
        time.sleep(2.0 / house.speed)  # sooner, it would count as the first one sent twice
        house.nursery.kill(house.life.pid, number)
        assert house.life.end(0.6 * 30.0 / house.speed) == -number
        assert "sacd: ended at once" in house.log
        assert "Traceback" not in house.log
        assert not house.logged("stopped")
        os.kill(house.venue_pid, signal.SIGCONT)
        house.begin()
        house.finish()
