"""Accounts of parts of a span, put together: each part begins flat with what the part before was worth."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from strategy.benchmark import BuyAndHold
from strategy.costs import fee, fill_price
from strategy.order import Fill, Side
from strategy.trader import Setup
from training.evaluation import Part
from training.metrics import daily_returns, max_drawdown, sharpe_ratio, times_of
from training.track import FloatArray, SymbolTrack, Track

_DUST = 1e-12
_CLOSING = "closing"


def closed_out(track: Track, setup: Setup) -> Track:
    """Return the track of an account that sells all it holds at the last close, with slippage and fee.

    Without that, the part that follows would begin flat and have saved the costs of getting there.
    """
    equity, fills, fees, slippage = track.equity.copy(), list(track.fills), track.fees, track.slippage
    held = _held(track.fills)
    for symbol in track.symbols:
        quantity, close = held.get(symbol.symbol, 0.0), float(symbol.close[-1])
        if quantity <= _DUST:
            continue
        sale = _sale(symbol.symbol, quantity, close, int(track.close_ms[-1]), setup)
        equity[-1] -= quantity * (close - sale.price) + sale.fee
        fees, slippage = fees + sale.fee, slippage + quantity * (close - sale.price)
        fills.append(sale)
    return replace(track, equity=equity, fills=tuple(fills), fees=fees, slippage=slippage)


def _held(fills: Sequence[Fill]) -> dict[str, float]:
    held: dict[str, float] = {}
    for fill in fills:
        signed = fill.quantity if fill.side is Side.BUY else -fill.quantity
        held[fill.symbol] = held.get(fill.symbol, 0.0) + signed - fill.fee_base
    return held


def _sale(symbol: str, quantity: float, close: float, at_ms: int, setup: Setup) -> Fill:
    price = fill_price(setup.costs, setup.instruments[symbol], Side.SELL, close)
    return Fill(
        fill_id=f"{_CLOSING}-{symbol}-{at_ms}",
        client_id=_CLOSING,
        symbol=symbol,
        side=Side.SELL,
        quantity=quantity,
        price=price,
        fee=fee(setup.costs, quantity * price),
        at_ms=at_ms,
        reference_price=close,
    )


def joined(tracks: Sequence[Track], columns: Sequence[Sequence[int]], count: int, name: str) -> Track:
    """Return one track of tracks that follow one another, as if each had begun with what the one before ended with.

    columns: for each track, which of `count` members its votes are of; the others voted nothing there.
    All sums of quote, and quantities, are scaled by what each track begins with.
    """
    factors = _factors(tracks)
    equity = [tracks[0].equity[:1], *(track.equity[1:] * factor for track, factor in zip(tracks, factors, strict=True))]
    fills = tuple(
        replace(fill, quantity=fill.quantity * factor, fee=fill.fee * factor, fee_base=fill.fee_base * factor)
        for track, factor in zip(tracks, factors, strict=True)
        for fill in track.fills
    )
    return Track(
        name=name,
        timeframe_ms=tracks[0].timeframe_ms,
        close_ms=np.concatenate([track.close_ms for track in tracks]),
        equity=np.concatenate(equity),
        exposure=np.concatenate([track.exposure for track in tracks]),
        fills=fills,
        fees=sum(track.fees * factor for track, factor in zip(tracks, factors, strict=True)),
        slippage=sum(track.slippage * factor for track, factor in zip(tracks, factors, strict=True)),
        symbols=tuple(_symbol(tracks, index, columns, count) for index in range(len(tracks[0].symbols))),
    )


def _factors(tracks: Sequence[Track]) -> list[float]:
    factors, worth = [], float(tracks[0].equity[0])
    for track in tracks:
        factors.append(worth / float(track.equity[0]))
        worth = float(track.equity[-1]) * factors[-1]
    return factors


def _symbol(tracks: Sequence[Track], index: int, columns: Sequence[Sequence[int]], count: int) -> SymbolTrack:
    parts = [track.symbols[index] for track in tracks]
    return SymbolTrack(
        symbol=parts[0].symbol,
        close=np.concatenate([part.close for part in parts]),
        exposure=np.concatenate([part.exposure for part in parts]),
        action=np.concatenate([part.action for part in parts]),
        direction=np.concatenate(
            [_placed(part.direction, mine, count) for part, mine in zip(parts, columns, strict=True)]
        ),
        disagreement=np.concatenate([part.disagreement for part in parts]),
    )


def _placed(direction: NDArray[np.float32], columns: Sequence[int], count: int) -> NDArray[np.float32]:
    placed = np.full((len(direction), count), np.nan, np.float32)
    placed[:, list(columns)] = direction[:, : len(columns)]
    return placed


# ---- what a part is worth ---------------------------------------------------------------------------------------
def part_of(name: str, tracks: Sequence[Track], setup: Setup) -> Part:
    """Return what accounts of touching or separate spans did, one after another, beside buying and holding in each."""
    returns, held = _chained(tracks, [track.equity for track in tracks])
    hold_returns, hold = _chained(tracks, [_hold_of(track, setup) for track in tracks])
    return Part(
        name=name,
        days=len(returns),
        total_return=float(held[-1] / held[0] - 1.0),
        sharpe=sharpe_ratio(returns),
        max_drawdown=max_drawdown(held),
        exposure=float(np.mean(np.concatenate([track.exposure for track in tracks]))),
        hold_return=float(hold[-1] / hold[0] - 1.0),
        hold_sharpe=sharpe_ratio(hold_returns),
        hold_drawdown=max_drawdown(hold),
    )


def _chained(tracks: Sequence[Track], equities: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return the daily returns of curves of `tracks`, and one curve of all, each going on where the last one ended."""
    returns, curve = [], [np.ones(1)]
    for track, equity in zip(tracks, equities, strict=True):
        returns.append(daily_returns(times_of(track), equity))
        curve.append(curve[-1][-1] * equity[1:] / equity[0])
    return np.concatenate(returns), np.concatenate(curve)


def _hold_of(track: Track, setup: Setup) -> FloatArray:
    """Return (n + 1,) what the same cash would be worth that bought every symbol once, at the first close."""
    cash = float(track.equity[0])
    closes = {symbol.symbol: symbol.close for symbol in track.symbols if symbol.close[0] > 0.0}
    hold = BuyAndHold.open(
        cash, {name: float(close[0]) for name, close in closes.items()}, setup.instruments, setup.costs
    )
    worth = np.full(len(track.close_ms), hold.cash)
    for name, close in closes.items():
        worth += hold.quantities[name] * close
    return np.concatenate([[cash], worth])
