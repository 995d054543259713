import pytest

from strategy.benchmark import BuyAndHold
from strategy.instrument import Instrument
from strategy.parameters import CostModel

COSTS = CostModel(fee_rate=0.001, slippage_rate=0.0005)
BTC = Instrument(symbol="BTC/USDT", tick=0.01, lot=0.0001)
ETH = Instrument(symbol="ETH/USDT", tick=0.01, lot=0.001)


def test_buy_and_hold_of_one_symbol_by_hand() -> None:
    # 20,000 fills at 20,010; with a fee of 20.01 a coin costs 20,030.01, so 10,000 buy 0.4992 of it.
    held = BuyAndHold.open(10_000.0, {"BTC/USDT": 20_000.0}, {"BTC/USDT": BTC}, COSTS)
    assert held.quantities == {"BTC/USDT": 0.4992}
    assert held.fees == pytest.approx(9.988992, rel=1e-12)  # 9,988.992 * 0.001
    assert held.slippage == pytest.approx(4.992, rel=1e-12)  # 0.4992 * 10
    assert held.cash == pytest.approx(10_000.0 - 9_988.992 - 9.988992, rel=1e-9)
    assert held.equity({"BTC/USDT": 20_000.0}) == pytest.approx(10_000.0 - 9.988992 - 4.992, rel=1e-12)
    assert held.equity({"BTC/USDT": 30_000.0}) == pytest.approx(10_000.0 - 14.980992 + 4_992.0, rel=1e-12)


def test_buy_and_hold_of_two_symbols_spends_equal_shares() -> None:
    # ETH: 1,000 fills at 1,000.50, with its fee 1,001.5005 a coin: 5,000 buy 4.992.  BTC: 5,000 buy 0.2496.
    instruments = {"BTC/USDT": BTC, "ETH/USDT": ETH}
    held = BuyAndHold.open(10_000.0, {"BTC/USDT": 20_000.0, "ETH/USDT": 1_000.0}, instruments, COSTS)
    assert held.quantities == {"BTC/USDT": 0.2496, "ETH/USDT": 4.992}
    spent = 0.2496 * 20_010.0 * 1.001 + 4.992 * 1_000.5 * 1.001
    assert held.cash == pytest.approx(10_000.0 - spent, rel=1e-9)
    assert held.equity({"BTC/USDT": 10_000.0, "ETH/USDT": 2_000.0}) == pytest.approx(
        10_000.0 - spent + 2_496.0 + 9_984.0, rel=1e-12
    )


def test_cash_too_little_for_one_lot_stays_cash() -> None:
    held = BuyAndHold.open(1.0, {"BTC/USDT": 20_000.0}, {"BTC/USDT": BTC}, COSTS)
    assert (held.cash, held.fees, held.slippage, held.quantities) == (1.0, 0.0, 0.0, {"BTC/USDT": 0.0})
    assert held.equity({"BTC/USDT": 99.0}) == 1.0
