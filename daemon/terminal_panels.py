"""From a board to the lines of one screen: the layout, from 40 columns up to the widest terminal. Pure.

Sections give way from the bottom of importance: the header and the account stay, symbols, decisions and orders share
what is left, and columns that do not fit are left out by their rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.style import Style

from daemon import wording, wording_live
from daemon.events import Decided, Started
from daemon.ports import FeedHealth
from daemon.terminal_board import Board, OrderView, SymbolView
from daemon.terminal_models import MODEL_ID, models_line
from daemon.terminal_table import (
    BAD,
    BOLD,
    DIM,
    EMPTY,
    GOOD,
    PLAIN,
    WARN,
    Cell,
    Column,
    Line,
    Part,
    apart,
    bar,
    beside,
    chart,
    line,
    rule,
    sparkline,
    table,
    text,
    width_of,
)
from strategy.features import WINDOW
from strategy.order import OrderState, Side
from strategy.portfolio import Portfolio, Position
from strategy.risk import Approved, Refused, TradingState, Verdict

_DASH = text("-", DIM)
_WIDE = 110
"""From here on the chart stands beside the account instead of below it."""
_VERY_WIDE = 190
"""From here on orders stand beside the decisions."""
_CHART_ROWS = 5
_FULL_BAR = 0.2
"""Drawdown at which the bar is full; the figure beside it has no such end."""
_VOTES_SHOWN = 5
_BLOCK_GAP = 2
_STATE_STYLES = {
    "ACTIVE": Style.parse("bold black on green"),
    "PAUSED": Style.parse("bold black on dark_orange3"),
    TradingState.REDUCING.name: Style.parse("bold black on dark_orange3"),
    TradingState.HALTED.name: Style.parse("bold white on red"),
}
_PAPER = Style.parse("bold black on cyan")
_REAL_MONEY = Style.parse("bold white on red")
_REHEARSAL = Style.parse("bold black on dark_orange3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """How large the screen is and what time it is. uptime_s: since the view was started."""

    width: int
    height: int
    uptime_s: float
    metrics_url: str = ""


def draw(board: Board, frame: Frame) -> list[Line]:
    """Return exactly `frame.height` lines of exactly `frame.width` columns."""
    width, height = frame.width, frame.height
    if board.started is None:
        return _filled([line(text(" sacd is starting", BOLD), width)], [], width, height)
    footer = [apart(_foot(board, board.started), _link(frame), width)]
    head = [
        *_header(board, board.started, frame),
        *models_line(board, width),
        *_news(board, width),
        *_account(board, board.started, width),
    ]
    body = _body(board, width, height - len(head) - len(footer))
    return _filled([*head, *body], footer, width, height)


def _filled(lines: list[Line], footer: list[Line], width: int, height: int) -> list[Line]:
    room = max(0, height - len(footer))
    blank = [line(EMPTY, width)] * (room - len(lines))
    return [*lines[:room], *blank, *footer][:height]


def _foot(board: Board, started: Started) -> Cell:
    if board.ending:
        return text(f" Ending, {board.ending}: what is in flight is settled first; Ctrl-C again ends at once", WARN)
    stops = f"stops stay at {started.exchange}, " if started.money else ""
    return text(f" Ctrl-C ends; {stops}the account is kept and continues next time", DIM)


def _link(frame: Frame) -> Cell:
    return text(f"{frame.metrics_url} ", DIM) if frame.metrics_url else ()


def _signed(value: float) -> Style:
    return GOOD if value > 0.0 else BAD if value < 0.0 else PLAIN


# ---- header -----------------------------------------------------------------------------------------------------
def _header(board: Board, started: Started, frame: Frame) -> list[Line]:
    name: list[Part] = [(" sacd ", BOLD), _mode(started), (f" {started.instance}", BOLD)]
    word, why = wording.state_words(board.account.risk if board.account else started.risk)
    trouble = [*_unprotected(board, started), *_path(board), *_feed(board)]
    state: list[Part] = [*trouble, (f" {word} ", _STATE_STYLES[word]), (" ", PLAIN)]
    if why and width_of(name) + width_of(state) + len(why) + 4 <= frame.width:
        state = [(f"{why}  ", BAD if word == TradingState.HALTED.name else WARN), *state]
    pinned = ", pinned" if board.life.is_pinned else ""
    model = f"model {board.model_id[:MODEL_ID]}, {wording.count(board.members, 'member')}{pinned}"
    made = text(f" {started.exchange or started.source} {started.timeframe}, {model}", DIM)
    last = wording.moment(board.last_candle.close_ms) if board.last_candle else "no candle yet"
    if board.last_candle and frame.width >= _WIDE:
        last = f"last candle {last}"
    times = text(f"{last}, up {wording.duration(frame.uptime_s)} ", DIM)
    return [apart(name, state, frame.width), apart(made, times, frame.width)]


def _mode(started: Started) -> Part:
    """Return the mode, and whose money it is: never to be overlooked."""
    money = wording.money_words(started.money)
    style = _PAPER if started.mode == "paper" else _REHEARSAL if started.money in {"sandbox", "local"} else _REAL_MONEY
    return f" {started.mode.upper()}{f', {money}' if money else ''} ", style


def _unprotected(board: Board, started: Started) -> list[Part]:
    """Return which symbols need a stop at the exchange and have none there; one that is being changed shows briefly."""
    if not started.money:
        return []
    bare = [view.symbol for view in board.symbols.values() if view.stop is not None and not view.resting]
    return [(f"no stop: {', '.join(bare)}  ", BAD)] if bare else []


def _feed(board: Board) -> list[Part]:
    if board.feed is None:
        return []
    style = GOOD if board.feed.health is FeedHealth.LIVE else BAD
    detail = wording.one_line(board.feed.detail)
    words = f"feed {board.feed.health.value}"
    if detail and board.feed.health is not FeedHealth.LIVE:
        words = f"{words}: {detail[:40]}"
    return [(f"{words}  ", style)]


def _path(board: Board) -> list[Part]:
    return [] if board.path is None or board.path.is_open else [("no orders  ", BAD)]


def _news(board: Board, width: int) -> list[Line]:
    """Return the last that happened beside candles, orders and fills, as one line; none when nothing did."""
    if board.news is None:
        return []
    style = WARN if wording_live.is_news_trouble(board.news) else DIM
    at = wording.short_moment(board.news_ms)
    return [line([(f" {at}  ", DIM), (wording_live.news_words(board.news), style)], width)]


# ---- account ----------------------------------------------------------------------------------------------------
def _account(board: Board, started: Started, width: int) -> list[Line]:
    blocks = _account_blocks(board, started)
    heading = rule(
        "Account, continued" if started.resumed else "Account",
        width,
        f"began with {wording.money(started.cash)} {started.quote}",
    )
    if width < _WIDE:
        label = " Equity so far  "
        course = chart(board.equity.values(), max(0, width - len(label) - 1), 1, started.cash)[0]
        return [heading, *_pairs(blocks, width, 3), line([(label, DIM), *course], width)]
    left = min(84, width - 38)
    right = width - left - 2
    return [heading, *beside(_pairs(blocks, left, _CHART_ROWS), _picture(board, right, started.cash), left, right)]


def _account_blocks(board: Board, started: Started) -> list[list[tuple[str, Cell]]]:
    """Return columns of (label, value), the most important first in each."""
    portfolio = board.account.portfolio if board.account else started.portfolio
    risk = board.account.risk if board.account else started.risk
    hold = board.account.hold_equity if board.account else None
    equity, began = portfolio.equity, started.cash
    invested = (equity - portfolio.cash) / equity if equity > 0.0 else 0.0
    ahead = None if hold is None or began <= 0.0 else (equity - hold) / began
    trips = portfolio.wins + portfolio.losses
    return [
        [
            ("Equity", _worth(equity, began, BOLD)),
            ("Buy and hold", _DASH if hold is None else _worth(hold, began, PLAIN)),
            ("Drawdown", _drawdown(portfolio.drawdown)),
            ("Against hold", _DASH if ahead is None else text(wording.change(ahead), _signed(ahead))),
            ("Peak", text(f"{wording.money(portfolio.peak, 14)}{'':10}")),
        ],
        [
            ("Cash", text(wording.money(portfolio.cash, 13))),
            ("Invested", text(wording.percent(invested, 1))),
            ("Today", text(wording.change(-portfolio.day_loss), _signed(-portfolio.day_loss))),
            ("Orders today", text(f"{risk.orders_today:,}")),
            ("Traded today", text(wording.money(risk.turnover_today, 13))),
        ],
        [
            ("Fees", text(wording.money(portfolio.fees, 11))),
            ("Slippage", text(wording.money(portfolio.slippage, 11))),
            ("Won/lost", ((f"{portfolio.wins:,}", GOOD), ("/", DIM), (f"{portfolio.losses:,}", BAD))),
            ("Won", text(wording.percent(portfolio.wins / trips, 0)) if trips else _DASH),
            ("Decided", text(f"{started.decisions + board.decided:,}")),
        ],
    ]


def _worth(amount: float, began: float, style: Style) -> Cell:
    gain = amount / began - 1.0 if began > 0.0 else 0.0
    return ((wording.money(amount, 14), style), (f" {wording.change(gain):>9}", _signed(gain)))


def _drawdown(drawdown: float) -> Cell:
    style = GOOD if drawdown < 0.05 else WARN if drawdown < 0.1 else BAD  # noqa: PLR2004  # a scale for the eye
    return (*bar(drawdown / _FULL_BAR, 10, style), (f" {wording.percent(drawdown):>9}", style))


def _pairs(blocks: Sequence[Sequence[tuple[str, Cell]]], width: int, rows: int) -> list[Line]:
    """Return `rows` lines of the blocks side by side, as many as fit, values aligned to the right in each block."""
    fitting: list[tuple[Sequence[tuple[str, Cell]], int, int]] = []
    used = 1
    for block in blocks:
        label_width = max(len(label) for label, _ in block[:rows])
        value_width = max(width_of(cell) for _, cell in block[:rows])
        if used + label_width + value_width + 1 > width and fitting:
            break
        fitting.append((block, label_width, value_width))
        used += label_width + value_width + 1 + _BLOCK_GAP
    spare = min(2, max(0, width - used + _BLOCK_GAP) // (2 * len(fitting)))
    return [line(_pair_row(fitting, i, spare), width) for i in range(rows)]


def _pair_row(blocks: Sequence[tuple[Sequence[tuple[str, Cell]], int, int]], i: int, spare: int) -> list[Part]:
    parts: list[Part] = [(" ", PLAIN)]
    for place, (block, label_width, value_width) in enumerate(blocks):
        label, cell = block[i]
        between = " " * (_BLOCK_GAP + spare) if place else ""
        gap = " " * (value_width - width_of(cell) + 1 + spare)
        parts.extend([(f"{between}{label:<{label_width}}{gap}", DIM), *cell])
    return parts


def _picture(board: Board, width: int, began: float) -> list[Line]:
    """Return the course of the equity with its highest and lowest value at the side."""
    values = board.equity.values()
    if not values:
        return [line(text("no candle has marked the account yet", DIM), width)]
    labels = [wording.money(max(values), 11), *[""] * (_CHART_ROWS - 2), wording.money(min(values), 11)]
    size = max(len(label) for label in labels)
    rows = chart(values, width - size - 2, _CHART_ROWS, began)
    return [line([*row, (f" {label:>{size}} ", DIM)], width) for row, label in zip(rows, labels, strict=True)]


# ---- body: symbols, decisions, orders ---------------------------------------------------------------------------
def _body(board: Board, width: int, height: int) -> list[Line]:
    headings = 2
    if height < headings + 1:
        return []
    wanted = len(board.symbols)
    share = max(2, (height - 3 * headings) * 2 // 5)
    n_symbols = min(wanted, share, height - headings)
    market = _market(board, n_symbols, width)
    rest = height - len(market)
    if width >= _VERY_WIDE:
        left = width * 3 // 5
        right = width - left - 2
        return [*market, *beside(_decisions(board, rest, left), _orders(board, rest, right), left, right)]
    listed = len(board.traded_orders())
    n_orders = max(1, min(max(listed, 1), (rest - 2 * headings) * 2 // 5))
    orders = headings + n_orders if rest >= 2 * headings + 3 else 0
    return [*market, *_decisions(board, rest - orders, width), *_orders(board, orders, width)]


_MARKET = (
    Column(title="Symbol", align="left"),
    Column(title="Last"),
    Column(title="24 candles", rank=1),
    Column(title="", align="left", rank=9),
    Column(title="Position", rank=2),
    Column(title="Exposure", rank=4),
    Column(title="Entry", rank=5),
    Column(title="P/L", rank=1),
    Column(title="Stop", rank=3),
    Column(title="To stop", rank=6),
    Column(title="Regime", align="left", rank=7),
)


def _market(board: Board, n: int, width: int) -> list[Line]:
    portfolio = _portfolio(board)
    shown, hidden = _most_active(board, portfolio, n)
    note = wording.count(board.candles, "candle")
    if board.gaps:
        note = f"{note}, {wording.count(board.gaps, 'gap')}"
    if board.late:
        note = f"{note}, {board.late:,} late"
    if hidden:
        held = sum(_position(portfolio, view).quantity > 0.0 for view in hidden)
        note = f"{wording.count(len(hidden), 'more symbol')}, {held:,} of them held; {note}"
    is_live = board.started is not None and bool(board.started.money)
    rows = [_market_row(view, portfolio, is_bare=is_live and not view.resting) for view in shown]
    return [rule("Market", width, note), *table(_MARKET, rows, width)]


def _portfolio(board: Board) -> Portfolio | None:
    if board.account is not None:
        return board.account.portfolio
    return None if board.started is None else board.started.portfolio


def _position(portfolio: Portfolio | None, view: SymbolView) -> Position:
    return Position() if portfolio is None else portfolio.positions.get(view.symbol, Position())


def _most_active(board: Board, portfolio: Portfolio | None, n: int) -> tuple[list[SymbolView], list[SymbolView]]:
    """Return the symbols shown, in their own order, and those left out: held and lately traded ones come first."""
    views = list(board.symbols.values())
    ranked = sorted(views, key=lambda v: (_position(portfolio, v).quantity <= 0.0, -v.activity))
    chosen = {view.symbol for view in ranked[:n]}
    return [v for v in views if v.symbol in chosen], [v for v in views if v.symbol not in chosen]


def _market_row(view: SymbolView, portfolio: Portfolio | None, *, is_bare: bool) -> list[Cell]:
    """Return the cells of a symbol. is_bare: its stop should rest at an exchange, and does not."""
    position = _position(portfolio, view)
    last = view.closes[-1] if view.closes else None
    change = view.change
    closes = list(view.closes)
    course = sparkline(closes, 10, _signed(closes[-1] - closes[0])) if len(closes) > 1 else _DASH
    regime = _DASH if view.regime is None else text(wording.regime_words(view.regime))
    cells: list[Cell] = [
        text(view.symbol, BOLD),
        _DASH if last is None else text(wording.price(last)),
        _DASH if change is None else text(wording.change(change), _signed(change)),
        course,
    ]
    if position.quantity <= 0.0 or portfolio is None:
        return [*cells, *[_DASH] * 6, regime]
    gain = position.unrealised_return
    to_stop = view.stop / last - 1.0 if view.stop is not None and last is not None else None
    cells += [
        text(wording.quantity(position.quantity)),
        text(wording.percent(portfolio.exposure(view.symbol), 1)),
        text(wording.price(position.average_entry)),
        text(wording.change(gain), _signed(gain)),
        _DASH if view.stop is None else text(wording.price(view.stop), BAD if is_bare else PLAIN),
        _DASH if to_stop is None else text(wording.change(to_stop, 1)),
    ]
    return [*cells, regime]


_DECISIONS = (
    Column(title="Candle", align="left", rank=2),
    Column(title="Symbol", align="left"),
    Column(title="Votes", align="left", rank=1),
    Column(title="Mean", rank=7),
    Column(title="Size", rank=8),
    Column(title="Conf.", rank=9),
    Column(title="Spread", rank=5),
    Column(title="Exposure", rank=3),
    Column(title="Decision", align="left", least=30),
)


def _decisions(board: Board, height: int, width: int) -> list[Line]:
    if height < 1:
        return []
    note = f"{board.decided:,} in this run"
    if board.decided and board.decision_s is not None:
        note = f"{note}, the last in {wording.latency(board.decision_s)}"
    title = rule("Decisions", width, note)
    waiting = _waiting(board, width)
    if waiting is not None:
        return [title, waiting, *[line(EMPTY, width)] * (height - 2)][:height]
    # Newest candles first; the symbols of one candle in their own order.
    latest = sorted(board.decisions, key=lambda d: (-d.outcome.sight.candle.open_ms, d.seq))
    rows = [_decision_row(decided) for decided in latest[: max(0, height - 2)]]
    lines = [title, *table(_DECISIONS, rows, width)]
    return [*lines, *[line(EMPTY, width)] * (height - len(lines))][:height]


def _waiting(board: Board, width: int) -> Line | None:
    """Return what the view is waiting for, None once there are decisions to show."""
    started, filled = board.started, board.window_filled()
    if started is None or board.decisions:
        return None
    if board.last_candle is None:
        some = ", ".join(started.symbols[:3]) + (" ..." if len(started.symbols) > 3 else "")  # noqa: PLR2004
        words = f" Waiting for the first {started.timeframe} candle of {some} from the {started.source} source"
        return line(text(words), width)
    if filled is None:
        return line(text(" Waiting for the first decision"), width)
    words = f" Warming up: window {filled:,} of {WINDOW:,} candles  "
    return line([(words, PLAIN), *bar(filled / WINDOW, max(0, min(40, width - len(words) - 1)), GOOD)], width)


def _decision_row(decided: Decided) -> list[Cell]:
    outcome = decided.outcome
    candle, verdict = outcome.sight.candle, outcome.verdict
    decision = verdict.decision
    moved = isinstance(verdict, Approved)
    target = decision.target if moved else decision.exposure
    exposure = f"{100.0 * decision.exposure:.0f} → {wording.percent(target, 0)}"
    voted = outcome.votes is not None
    return [
        text(wording.short_moment(candle.close_ms, candle.span_ms), DIM),
        text(candle.symbol, BOLD if moved else PLAIN),
        _votes([] if outcome.votes is None else outcome.votes.tolist()),
        text(f"{round(decision.direction, 2) + 0.0:+.2f}") if voted else _DASH,
        text(f"{decision.size:.2f}") if voted else _DASH,
        text(f"{decision.confidence:.2f}") if voted else _DASH,
        text(f"{decision.disagreement:.2f}") if voted else _DASH,
        text(exposure if moved else wording.percent(decision.exposure, 0), PLAIN if moved else DIM),
        text(wording.verdict_words(verdict), _verdict_style(verdict)),
    ]


def _votes(votes: Sequence[Sequence[float]]) -> Cell:
    """Return each member's direction: an arrow up for BUY, down for SELL, a dot for HOLD, and how strongly."""
    parts: list[Part] = []
    for direction, *_ in votes[:_VOTES_SHOWN]:
        sign = wording.direction_sign(direction)
        glyph, style = (("▲", GOOD), ("▼", BAD), ("·", DIM))[0 if sign > 0 else 1 if sign < 0 else 2]
        parts.append((f"{' ' if parts else ''}{glyph}{abs(direction):.2f}", style))
    if len(votes) > _VOTES_SHOWN:
        parts.append((f" +{len(votes) - _VOTES_SHOWN}", DIM))
    return parts or _DASH


def _verdict_style(verdict: Verdict) -> Style:
    if isinstance(verdict, Approved):
        return GOOD if verdict.order.side is Side.BUY else BAD
    return WARN if isinstance(verdict, Refused) else DIM


_ORDERS = (
    Column(title="Time", align="left", rank=2),
    Column(title="Symbol", align="left"),
    Column(title="Side", align="left"),
    Column(title="Quantity"),
    Column(title="Price"),
    Column(title="Value", rank=6),
    Column(title="Fee", rank=3),
    Column(title="Slippage", rank=4),
    Column(title="State", align="left", least=11),
)


def _orders(board: Board, height: int, width: int) -> list[Line]:
    if height < 1:
        return []
    note = f"last written in {wording.latency(board.journal_s)}" if board.journal_s is not None else ""
    listed = board.traded_orders()[: max(0, height - 2)]
    title = rule("Orders and fills", width, note)
    if not listed:
        return [title, line(text(" none yet in this run", DIM), width), *[line(EMPTY, width)] * (height - 2)][:height]
    lines = [title, *table(_ORDERS, [_order_row(view) for view in listed], width)]
    return [*lines, *[line(EMPTY, width)] * (height - len(lines))][:height]


def _order_row(view: OrderView) -> list[Cell]:
    side = _DASH if view.side is None else text(view.side.value, GOOD if view.side is Side.BUY else BAD)
    price, slippage = view.price, view.slippage
    return [
        text(wording.short_moment(view.at_ms), DIM),
        text(view.symbol),
        side,
        text(wording.quantity(view.filled or view.quantity)) if view.quantity else _DASH,
        _DASH if price is None else text(wording.price(price)),
        _DASH if price is None else text(wording.money(view.notional, 13)),
        _DASH if price is None else text(wording.money(view.fee, 9)),
        _DASH if slippage is None else text(wording.basis_points(slippage)),
        _order_state(view),
    ]


def _order_state(view: OrderView) -> Cell:
    if view.state is None:
        return text("filled" if view.filled else "-", DIM)
    words = wording.ORDER_STATES[view.state]
    kind = "stop " if view.kind.value == "stop" else ""
    detail = f": {wording.one_line(view.detail)}" if view.detail else ""
    is_bad = view.state in {OrderState.UNKNOWN, OrderState.REJECTED, OrderState.NOT_PLACED}
    return text(f"{kind}{words}{detail}", WARN if is_bad else DIM)
