import asyncio
import itertools
import random
from decimal import Decimal

import numpy as np
import pytest

from daemon.errors import ConfigError, DataError
from daemon.feed_simulated import SimulatedFeed
from daemon.ports import CandleGroup, Feed
from daemon.simulated_market import ORIGIN_MS, SimulatedSymbol, simulated_instrument
from strategy.candle import Candle, Timeframe
from strategy.instrument import Instrument
from tests.contracts.feed import OfflineFeedContract, candles_of, last_known, take
from tests.fakes.clock import ManualClock

HOUR = 3_600_000
H1 = Timeframe.parse("1h")
SYMBOLS = ("ETH/USDT", "BTC/USDT")
LONG = 100_000


def feed_of(clock: ManualClock, **changes: object) -> SimulatedFeed:
    options: dict[str, object] = {
        "symbols": SYMBOLS,
        "timeframe": H1,
        "instruments": {symbol: simulated_instrument(symbol) for symbol in SYMBOLS},
        "seed": 7,
        "candles_per_second": 0.0,
        "history": 24,
        "clock": clock,
    }
    return SimulatedFeed(**(options | changes))  # type: ignore[arg-type]


class TestSimulatedFeedContract(OfflineFeedContract):
    symbols = SYMBOLS

    def make_feed(self, clock: ManualClock, *, candles_per_second: float = 0.0) -> Feed:
        return feed_of(clock, candles_per_second=candles_per_second)


def market(symbol: str = "BTC/USDT", *, seed: int = 1, timeframe: Timeframe = H1) -> SimulatedSymbol:
    return SimulatedSymbol(instrument=simulated_instrument(symbol), timeframe=timeframe, seed=seed)


@pytest.fixture(scope="module")
def long_run() -> dict[str, list[Candle]]:
    return {symbol: list(itertools.islice(market(symbol).after(None), LONG)) for symbol in SYMBOLS}


def closes(candles: list[Candle]) -> np.ndarray:
    return np.array([candle.close for candle in candles])


# ---- the order of events ----------------------------------------------------------------------------------------
async def test_history_comes_at_once_and_then_candles_are_paced() -> None:
    clock = ManualClock()
    taken: list[tuple[float, bool]] = []

    async def run() -> None:
        async for event in feed_of(clock, history=5, candles_per_second=2.0).events({}):
            assert isinstance(event, CandleGroup)
            taken.append((clock.monotonic_s(), event.is_backfill))

    task = asyncio.create_task(run())
    await clock.advance(1.0)
    task.cancel()
    assert taken == [(0.0, True)] * 5 + [(0.0, False), (0.5, False), (1.0, False)]


async def test_the_first_candle_opens_in_2024_at_the_base_price() -> None:
    first = candles_of(await take(feed_of(ManualClock(), symbols=("BTC/USDT",)), 1))[0]
    assert (first.open_ms, first.open) == (1_704_067_200_000, 40_000.0)
    first = candles_of(await take(feed_of(ManualClock(), symbols=("ETH/USDT",)), 1))[0]
    assert first.open == 2_500.0
    assert next(market("SOL/USDT").after(None)).open == 100.0


async def test_a_run_cut_off_in_its_history_goes_on_with_history() -> None:
    events = await take(feed_of(ManualClock(), history=10), 4)
    resumed = await take(feed_of(ManualClock(), history=10), 8, last_known(events))
    assert [event.is_backfill for event in resumed if isinstance(event, CandleGroup)] == [True] * 6 + [False] * 2


async def test_other_symbols_do_not_change_the_candles_of_one() -> None:
    alone = await take(feed_of(ManualClock(), symbols=("BTC/USDT",)), 40)
    assert candles_of(alone) == candles_of(await take(feed_of(ManualClock()), 40), "BTC/USDT")


@pytest.mark.parametrize("changes", [{"seed": 8}, {"timeframe": Timeframe.parse("30m")}], ids=["seed", "timeframe"])
async def test_a_journal_of_another_market_is_refused(changes: dict[str, object]) -> None:
    known = last_known(await take(feed_of(ManualClock()), 10))
    with pytest.raises(DataError, match=r"another seed, timeframe, tick or source; set them back"):
        await take(feed_of(ManualClock(), **changes), 1, known)


@pytest.mark.parametrize("price", [5e-324, 1e-9, 1e12, 1e300])
async def test_a_journal_with_absurd_prices_is_refused_in_words(price: float) -> None:
    absurd = Candle(
        symbol="BTC/USDT",
        open_ms=ORIGIN_MS + 50 * HOUR,
        span_ms=HOUR,
        open=price,
        high=price,
        low=price,
        close=price,
        volume=1.0,
    )
    with pytest.raises(DataError, match="which the simulated market of seed 7 does not make"):
        await take(feed_of(ManualClock()), 1, {"BTC/USDT": absurd})


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"symbols": ("SOL/USDT",)}, "no instrument is given for SOL/USDT"),
        ({"seed": -1}, "seed -1 is below 0"),
        ({"history": -1}, "history -1 is below 0"),
    ],
)
def test_an_impossible_feed_is_refused(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        feed_of(ManualClock(), **changes)


# ---- the market goes on from any candle -------------------------------------------------------------------------
def test_two_hundred_random_places_go_on_with_the_same_candles(long_run: dict[str, list[Candle]]) -> None:
    chance = random.Random(3)
    edges = [0, 1022, 1023, 1024, 4319, 4320, 8639]  # around the ends of blocks and eras
    for at in [*edges, *(chance.randrange(LONG - 60) for _ in range(200))]:
        for candles in long_run.values():
            again = itertools.islice(market(candles[0].symbol).after(candles[at]), 50)
            assert list(again) == candles[at + 1 : at + 51]


def test_every_candle_can_be_made_again_from_its_open(long_run: dict[str, list[Candle]]) -> None:
    candles = long_run["BTC/USDT"]
    assert all(market().again(candles[at]) == candles[at] for at in range(0, LONG, 997))


def test_a_candle_that_was_touched_is_not_made_again(long_run: dict[str, list[Candle]]) -> None:
    assert all(market(seed=2).again(candle) != candle for candle in long_run["BTC/USDT"][::9973])


@pytest.mark.parametrize("name", ["1m", "5m", "4h", "1d", "3d", "1w"])
def test_any_timeframe_makes_valid_candles_on_its_grid(name: str) -> None:
    timeframe = Timeframe.parse(name)
    candles = list(itertools.islice(market(timeframe=timeframe).after(None), 1_100))
    assert candles[0].open_ms >= ORIGIN_MS
    assert all(later.open_ms == earlier.close_ms for earlier, later in itertools.pairwise(candles))
    daily = np.diff(np.log(closes(candles))).std() * np.sqrt(86_400_000 / timeframe.span_ms)
    assert 0.01 < daily < 0.12


# ---- what the market is like: bounds wide enough for any seed that is not absurd ---------------------------------
def test_prices_lie_on_the_tick_and_volumes_on_the_lot(long_run: dict[str, list[Candle]]) -> None:
    for candle in long_run["ETH/USDT"][::97]:
        for price in (candle.open, candle.high, candle.low, candle.close):
            assert Decimal(repr(price)) % Decimal("0.01") == 0
        assert Decimal(repr(candle.volume)) % Decimal("0.00001") == 0


@pytest.mark.parametrize(("tick", "lot"), [(0.01, 0.00001), (0.05, 0.1), (0.5, 1.0), (7.0, 3.0), (1e-8, 1e-8)])
def test_steps_of_any_size_are_kept(tick: float, lot: float) -> None:
    instrument = Instrument(symbol="SOL/USDT", tick=tick, lot=lot)
    made = SimulatedSymbol(instrument=instrument, timeframe=H1, seed=5)
    for candle in itertools.islice(made.after(None), 300):
        assert all(instrument.floor_price(price) == price for price in candle.values[:4])
        assert instrument.floor_quantity(candle.volume) == candle.volume


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_hourly_moves_are_as_large_and_as_wild_as_real_ones(long_run: dict[str, list[Candle]], symbol: str) -> None:
    # hourly BTC and ETH of 2017 to 2022: 0.9 and 1.1 %, kurtosis far above the 3 of a normal distribution
    moves = np.diff(np.log(closes(long_run[symbol])))
    kurtosis = ((moves - moves.mean()) ** 4).mean() / moves.var() ** 2
    assert 0.004 < moves.std() < 0.012
    assert kurtosis > 4.0
    assert np.abs(moves).max() < 0.35


def test_volatility_clusters_and_moves_do_not(long_run: dict[str, list[Candle]]) -> None:
    moves = np.diff(np.log(closes(long_run["BTC/USDT"])))
    sizes = np.abs(moves)
    assert np.corrcoef(sizes[1:], sizes[:-1])[0, 1] > 0.1
    assert np.corrcoef(sizes[24:], sizes[:-24])[0, 1] > 0.05
    assert abs(np.corrcoef(moves[1:], moves[:-1])[0, 1]) < 0.05


@pytest.mark.parametrize("seed", range(4))
def test_prices_neither_die_nor_explode(seed: int) -> None:
    prices = closes(list(itertools.islice(market(seed=seed).after(None), LONG)))
    assert 40_000 / 60 < prices.min() < 40_000 < prices.max() < 40_000 * 60


def test_symbols_move_together(long_run: dict[str, list[Candle]]) -> None:
    moves = [np.diff(np.log(closes(long_run[symbol]))) for symbol in SYMBOLS]
    assert 0.5 < np.corrcoef(moves)[0, 1] < 0.9


def test_range_and_volume_grow_with_the_move(long_run: dict[str, list[Candle]]) -> None:
    candles = long_run["BTC/USDT"]
    moves = np.array([abs(candle.close / candle.open - 1.0) for candle in candles])
    ranges = np.array([(candle.high - candle.low) / candle.open for candle in candles])
    volumes = np.array([candle.volume for candle in candles])
    large = moves > np.quantile(moves, 0.9)
    assert volumes.min() > 0.0
    assert np.median(volumes[large]) > 1.2 * np.median(volumes[~large])
    assert np.median(ranges[large]) > 1.5 * np.median(ranges[~large])
    assert (
        1.3 < ranges.mean() / moves.mean() < 3.5
    )  # a Brownian path: 2 (Feller 1951); fat tails put more weight on moves


def test_trends_of_weeks_can_be_traded() -> None:
    """Long while the price is above that of 20 days before, decided daily, each change at 0.15 %: it pays, on average
    over seeds, better than holding; in a market without trends it could not.
    """
    gains, held = [], []
    for seed in range(8):
        prices = np.log(closes(list(itertools.islice(market(seed=seed).after(None), 26_000))))[::24]
        is_long = (prices[20:-1] > prices[:-21]).astype(float)
        moves = np.diff(prices)[20:]
        gains.append(float((is_long * moves).sum() - 0.0015 * np.abs(np.diff(is_long)).sum()))
        held.append(float(moves.sum()))
    assert np.mean(gains) > 0.3
    assert np.mean(gains) > np.mean(held) + 0.3
