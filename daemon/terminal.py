"""The live view on a terminal: one screen, repainted a few times per second by a thread of its own.

Publishing an event only remembers it. Painting and writing happen in the thread, because a terminal may stop taking
output for as long as it likes (Ctrl-S, a slow line), and the trading loop must not notice.
"""

import atexit
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest

from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from rich.segment import ControlType, Segment
from rich.table import Table
from rich.text import Text

from daemon import wording
from daemon.events import Event, Started, Stopped
from daemon.ports import Clock
from daemon.terminal_board import Board, SymbolView
from daemon.terminal_panels import Frame, draw
from daemon.terminal_table import Line

_PAUSE_S = 0.25
"""Between two looks at whether something is new: at most four frames per second."""
_IDLE_PAUSES = 4
"""Without news the screen is repainted once per second, for the clock in its corner."""
_FULL_FRAMES = 40
"""Every so many frames all lines are written again, which mends what something else wrote over the screen."""
_JOIN_S = 1.0
_ASCII = str.maketrans(
    {
        **dict(zip("▲▼·─█░…→", "^v.-#.~>", strict=True)),
        **dict(zip("▏▎▍▌▋▊▉", "   ####", strict=True)),
        **dict(zip("▁▂▃▄▅▆▇", "__..-==", strict=True)),
    }
)
"""What stands for the drawing characters where the terminal has no Unicode."""


class TerminalView:
    """A `daemon.ports.Sink` that shows what happens on a terminal.

    console: where to; any rich console whose size is that of the screen.  metrics_url, journal: shown to the reader
    when given, as text.
    """

    def __init__(self, console: Console, clock: Clock, *, metrics_url: str = "", journal: str = "") -> None:
        self._console = console
        self._clock = clock
        self.metrics_url = metrics_url
        self._journal = journal
        self._board = Board()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_new = False
        self._since_s = clock.monotonic_s()

    @staticmethod
    def suits(console: Console) -> bool:
        """Return whether `console` is a terminal that can show a screen; otherwise plain log lines are the way."""
        return console.is_terminal and not console.is_dumb_terminal

    def publish(self, event: Event) -> None:
        """Remember `event`; it shows with the next frame."""
        with self._lock:
            self._board.now_ms = self._clock.now_ms()
            self._board.take(event)
            self._is_new = True

    def end_begins(self, reason: str) -> None:
        """Show that the run is about to end: what is in flight at an exchange may take a while."""
        with self._lock:
            self._board.ending = reason
            self._is_new = True

    # ---- start and end ------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Take over the terminal; idempotent."""
        if self._thread is not None:
            return
        self._since_s = self._clock.monotonic_s()
        self._thread = threading.Thread(target=self._run, name="terminal", daemon=True)
        atexit.register(self.stop)  # whatever ends the process, the terminal is given back
        self._thread.start()

    def stop(self) -> None:
        """Give the terminal back and print the summary of a run that has stopped; idempotent."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        atexit.unregister(self.stop)
        self._ending.set()
        # A terminal that takes no output keeps the thread; it must not keep the daemon.
        thread.join(_JOIN_S)
        stopped = self._board.stopped
        if stopped is not None and not thread.is_alive():
            with suppress(OSError):  # the terminal has gone; the journal and the log have what it would have shown
                self._console.print(self.summary(stopped))

    def summary(self, stopped: Stopped) -> Table:
        """Return what a run came to, to be printed after the screen is gone."""
        started = self._board.started
        length_s = None if started is None else (stopped.at_ms - started.at_ms) / 1e3
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for label, words in _summary_rows(stopped, length_s, self._journal, list(self._held())):
            grid.add_row(label, words)
        return grid

    def _held(self) -> Iterator[Text]:
        """Yield what is still held, and what protects it while nobody watches."""
        started, stopped = self._board.started, self._board.stopped
        if started is None or stopped is None:
            return
        for symbol, position in stopped.portfolio.positions.items():
            if position.quantity > 0.0:
                view = self._board.symbols.get(symbol)
                yield _held_words(symbol, position.quantity, view, started)

    # ---- the painting thread ------------------------------------------------------------------------------------
    def _run(self) -> None:
        # The terminal may go away under us (a closed window): trading goes on, with nobody to show it to.
        with suppress(OSError), self._taken_over():
            previous: list[Line] = []
            size = self._console.size
            quiet = painted = 0
            while not self._ending.wait(_PAUSE_S if painted else 0.0):
                quiet += 1
                was, size = size, self._console.size
                if painted and not self._is_new and quiet < _IDLE_PAUSES and size == was:
                    continue
                is_cleared = painted == 0 or size != was
                keeps = not is_cleared and painted % _FULL_FRAMES != 0
                lines = self.lines()
                self._console.print(_Paint(lines, previous if keeps else [], is_cleared), end="", crop=False)
                previous, quiet, painted = lines, 0, painted + 1

    @contextmanager
    def _taken_over(self) -> Iterator[None]:
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)
        try:
            yield
        finally:
            self._console.show_cursor(True)
            self._console.set_alt_screen(False)

    def lines(self) -> list[Line]:
        """Return the screen as it would be painted now: one list of segments per line, each of the full width."""
        with self._lock:
            board = self._board.copy()
            self._is_new = False
        width, height = self._console.size
        frame = Frame(
            width=width,
            height=height,
            uptime_s=self._clock.monotonic_s() - self._since_s,
            metrics_url=self.metrics_url,
        )
        lines = draw(board, frame)
        return lines if self._console.encoding.startswith("utf") else [_plain(line, self._console) for line in lines]


def _plain(line: Line, console: Console) -> Line:
    """Return a line that a terminal without Unicode can show."""
    encoding = console.encoding
    return [
        Segment(words.translate(_ASCII).encode(encoding, "replace").decode(encoding), style) for words, style, _ in line
    ]


class _Paint:
    """What has changed from one screen to the next, as cursor movements and text."""

    def __init__(self, lines: list[Line], previous: list[Line], is_cleared: bool) -> None:
        self._lines = lines
        self._previous = previous
        self._is_cleared = is_cleared

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._is_cleared:
            yield Control(ControlType.HOME, ControlType.CLEAR).segment
        for row, (line, before) in enumerate(zip_longest(self._lines, self._previous)):
            if line is not None and line != before:
                yield Control.move_to(0, row).segment
                yield from line


def _summary_rows(
    stopped: Stopped, length_s: float | None, journal: str, held: Sequence[Text]
) -> Iterator[tuple[str, Text]]:
    portfolio, quote = stopped.portfolio, stopped.quote
    yield "Stopped", Text(wording.one_line(stopped.reason), "bold")
    if length_s is not None:
        yield "Ran for", Text(wording.duration(length_s))
    run = {"decision": stopped.decisions, "order": stopped.orders, "fill": stopped.fills}
    yield "This run", Text(", ".join(wording.count(n, thing) for thing, n in run.items()))
    yield "Equity", _worth_words(portfolio.equity, stopped.cash, quote)
    if stopped.hold_equity is not None:
        yield "Buy and hold", _worth_words(stopped.hold_equity, stopped.cash, quote)
    yield "Drawdown", Text(wording.percent(portfolio.drawdown))
    yield "Fees", Text(f"{wording.money(portfolio.fees)} {quote}")
    yield "Round trips", Text(f"{portfolio.wins:,} won, {portfolio.losses:,} lost")
    for i, words in enumerate(held):
        yield "" if i else "Still held", words
    yield "State", Text(": ".join(filter(None, wording.state_words(stopped.risk))))
    if journal:
        yield "Journal", Text(journal)
    yield "", Text("The account is kept; started again with the same configuration, it continues.", "dim")


def _held_words(symbol: str, quantity: float, view: SymbolView | None, started: Started) -> Text:
    words = Text(f"{wording.quantity(quantity)} of {symbol}")
    stop = None if view is None else view.stop
    if not started.money:
        return words
    if view is not None and view.resting:
        at = "" if stop is None else f" at {wording.price(stop)}"
        return words.append(f", its stop{at} rests at {started.exchange}")
    if stop is None:
        return words.append(", too little for a stop")
    return words.append(f", and no stop rests at {started.exchange}", "bold red")


def _worth_words(amount: float, began: float, quote: str) -> Text:
    gain = amount / began - 1.0 if began > 0.0 else 0.0
    words = Text(f"{wording.money(amount)} {quote}  ")
    return words.append(wording.change(gain), "green" if gain > 0.0 else "red" if gain < 0.0 else "")
