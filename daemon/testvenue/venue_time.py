"""What time it is at the test venue: the clock's, shifted, or pinned where a script says."""

from daemon.ports import Clock


class VenueTime:
    """The venue's clock. shift_ms: how far it is ahead of `clock`.  pinned_ms: where it stands, if not None."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.shift_ms = 0
        self.pinned_ms: int | None = None

    def now_ms(self) -> int:
        """Return milliseconds UTC."""
        return self.clock.now_ms() + self.shift_ms if self.pinned_ms is None else self.pinned_ms
