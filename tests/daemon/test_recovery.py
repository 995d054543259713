"""From a journal back to the state: after a stop, a kill, a change of parameters or ensemble, or a damage."""

import asyncio
import dataclasses
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from daemon import journal_reader, recovery
from daemon.config import Config, load_config
from daemon.errors import ConfigError, FatalError
from daemon.journal import SqliteJournal
from daemon.ports import Record
from daemon.run_record import account_of
from strategy.features import FeatureWindow
from strategy.order import OrderState
from tests.daemon.accounts import HISTORY, Account, LiveAccount, copy_state, recovered, recovered_live
from tests.daemon.engines import TinyVenue
from tests.daemon.journals import FixedClock, alter
from tests.fakes.serving import BTC, ETH, Place, make_place, write_bundle

TRADED = 60


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An account that was stopped cleanly after its history and 60 candle times."""
    place = make_place(tmp_path_factory.mktemp("traded"))

    async def life() -> None:
        account = await Account.open(place.config)
        await account.trade(HISTORY + TRADED)
        await account.stop()

    asyncio.run(life())
    return place


@pytest.fixture
def copied(traded: Place, tmp_path: Path) -> Place:
    """A copy of it to damage or go on with."""
    copy_state(traded.root / "var", tmp_path / "var")
    place = dataclasses.replace(traded, root=tmp_path)
    place.configure()
    return place


def _config(place: Place) -> Config:
    return load_config(place.config, {})


def _payload(journal: Path, seq: int) -> dict[str, Any]:
    return dict(next(iter(journal_reader.read(journal, after=seq - 1, limit=1))).payload)


def _rewrite(journal: Path, seq: int, change: Callable[[dict[str, Any]], None]) -> None:
    payload = _payload(journal, seq)
    change(payload)
    alter(journal, "UPDATE events SET payload = ? WHERE seq = ?", json.dumps(payload), seq)


def _seqs(journal: Path, kind: str) -> list[int]:
    return [entry.seq for entry in journal_reader.read(journal, kinds={kind})]


def _forget_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery.journal_reader, "last_of_kind", lambda path, kind: None)


# ---- the same state however it ended ----------------------------------------------------------------------------
def test_a_first_start_begins_with_the_configured_cash(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    found, trader = recovered(_config(place))
    assert (found.is_new, found.last_seq, found.mismatches) == (True, 0, 0)
    assert trader.portfolio.cash == trader.portfolio.equity == 100_000.0


def test_from_a_checkpoint_and_from_the_beginning_is_the_same_state(
    traded: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_checkpoint, one = recovered(_config(traded))
    _forget_checkpoints(monkeypatch)
    by_all, other = recovered(_config(traded))
    assert one.state() == other.state()
    assert by_checkpoint.memory == by_all.memory
    assert by_checkpoint.memory.decisions == 2 * TRADED
    assert (by_checkpoint.last_seq, by_checkpoint.mismatches) == (by_all.last_seq, by_all.mismatches)
    assert by_all.mismatches == 0


async def test_whatever_a_kill_leaves_recovery_finds_the_state_that_was_live(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    place.configure(journal={"checkpoint_every": 9})
    account = await Account.open(place.config)
    await account.trade(HISTORY)
    for _ in range(25):
        await account.trade(1)
        found, trader = recovered(_config(place))
        assert trader.state() == account.engine.trader.state()
        assert list(found.memory.orders) == list(account.engine.memory.orders)
        assert found.memory.seen == account.engine.memory.seen
        assert found.memory.hold == account.engine.memory.hold
    await account.die()


async def test_a_kill_in_the_middle_of_the_history_goes_on_where_the_last_group_ended(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    account = await Account.open(place.config)
    await account.trade(1_000)
    await account.die()  # 800 groups are on disk, 200 were waiting
    again = await Account.open(place.config)
    assert again.recovered.memory.candles == 2 * 800
    await again.trade(HISTORY - 800 + 5)
    state = await again.stop()
    whole = await _uninterrupted(place, HISTORY + 5)
    assert state == whole


async def _uninterrupted(place: Place, groups: int) -> Mapping[str, Any]:
    account = await Account.open(place.configure(state="whole", name="whole.toml"))
    await account.trade(groups)
    return await account.stop()


@pytest.mark.parametrize("is_killed", [True, False])
async def test_an_order_decided_before_the_end_fills_once_after_the_restart(copied: Place, is_killed: bool) -> None:
    account = await Account.open(copied.config)
    while not account.engine.memory.orders:
        await account.trade(1)
    (client_id, *_) = account.engine.memory.orders
    await (account.die() if is_killed else account.stop())
    again = await Account.open(copied.config)
    assert client_id in again.engine.memory.orders
    assert again.recovered.memory.orders[client_id].state in {OrderState.INTENDED, OrderState.OPEN}
    await again.trade(1)
    await again.stop()
    fills = [e.payload["client_id"] for e in journal_reader.read(again.path, kinds={"fill"})]
    assert fills.count(client_id) == 1
    accepted = [
        e.payload["event"]
        for e in journal_reader.read(again.path, kinds={"order"})
        if e.payload["client_id"] == client_id
    ]
    assert accepted == ["accepted", "filled"]


async def test_whatever_a_kill_leaves_of_a_live_account_recovery_finds_it_with_and_without_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, venue = make_place(tmp_path), TinyVenue(seed=8)
    place.configure(journal={"checkpoint_every": 7})
    for run in range(4):
        account = await LiveAccount.open(place.config, venue)
        assert account.recovered.mismatches == 0
        # What is held is what the venue has, to the last digit.
        for symbol, position in account.engine.trader.portfolio.positions.items():
            assert Decimal(repr(position.quantity)) == venue.held.get(symbol, 0)
        await account.trade(HISTORY + 5 if run == 0 else 15)
        live, memory = await account.die(), account.engine.memory.to_json()
        found, trader = recovered_live(_config(place))
        assert (trader.state(), found.memory.to_json(), found.mismatches) == (live, memory, 0)
        with monkeypatch.context() as patched:
            _forget_checkpoints(patched)
            found, trader = recovered_live(_config(place))
            assert (trader.state(), found.memory.to_json(), found.mismatches) == (live, memory, 0)


# ---- other parameters, another ensemble -------------------------------------------------------------------------
async def test_parameters_that_changed_before_a_kill_are_those_the_journal_is_folded_with(
    copied: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[dict[str, dict[str, Any]]] = [
        {"risk": {"max_position": 0.2, "stop_loss": 0.01, "max_orders_per_day": 3}},
        {"strategy": {"dead_band": 0.1, "max_missing": 0}, "execution": {"fee_rate": 0.002}},
        {},
    ]
    for change in changes:
        account = await Account.open(copied.configure(journal={"checkpoint_every": 50}, **change))
        assert account.recovered.mismatches == 0
        await account.trade(30)
        live = await account.die()
        # The next run may have any parameters: what was decided under the old ones stays.
        copied.configure(risk={"max_position": 0.9, "stop_loss": 0.2}, strategy={"dead_band": 0.3})
        found, trader = recovered(_config(copied))
        assert found.mismatches == 0
        assert trader.state() == live
        assert trader.setup.limits.max_position == 0.9
        with monkeypatch.context() as patched:
            _forget_checkpoints(patched)
            found, trader = recovered(_config(copied))
        assert found.mismatches == 0
        assert trader.state() == live


async def test_another_ensemble_does_not_change_what_the_former_one_did(copied: Place) -> None:
    account = await Account.open(copied.configure(journal={"checkpoint_every": 1000}))
    await account.trade(40)
    live = await account.die()
    other = write_bundle(copied.root / "models", seed=77, members=2)
    copied.configure(strategy={"model": str(other)})
    found, trader = recovered(_config(copied))
    assert found.mismatches == 0
    assert trader.state() == live


# ---- another account --------------------------------------------------------------------------------------------
def test_a_journal_of_another_account_is_refused_with_every_difference(copied: Place) -> None:
    copied.configure(
        daemon={"initial_cash": 5_000.0, "instance": "test", "state_dir": str(copied.root / "var")},
        market={"symbols": [BTC], "source": "simulated"},
    )
    with pytest.raises(ConfigError) as refused:
        recovered(_config(copied))
    assert refused.value.exit_code == 78
    text = str(refused.value)
    assert "symbols was ['BTC/USDT', 'ETH/USDT'], is ['BTC/USDT']" in text
    assert "cash was 100000.0, is 5000.0" in text
    assert "timeframe" not in text
    assert "choose another" in text


def test_an_account_of_one_venue_is_not_continued_at_another(traded: Place, tmp_path: Path) -> None:
    place = make_place(tmp_path)
    place.configure(market={"source": "exchange"}, extra='[exchange]\nid = "binance"\n')
    stored = account_of(_config(place))
    place.configure(market={"source": "exchange"}, extra='[exchange]\nid = "kraken"\n')
    with pytest.raises(ConfigError, match="exchange was 'binance', is 'kraken'"):
        recovery.refuse_other_account(place.journal(), stored, account_of(_config(place)))
    assert "exchange" not in account_of(_config(traded))


# ---- damage -----------------------------------------------------------------------------------------------------
def _drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda payload: payload.pop(key)


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda payload: payload.update({key: value})


DAMAGES: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("decision", _drop("votes")),
    ("decision", _set("votes", None)),
    ("decision", _set("votes", [[1.0, 1.0, 1.0]])),
    ("decision", _set("order", {"symbol": BTC})),
    ("decision", _drop("order")),
    ("candle", _drop("candles")),
    ("candle", _set("candles", [["XRP/USDT", 1.0, 1.0, 1.0, 1.0, 1.0]])),
    ("candle", _set("candles", [[BTC, 1.0, 0.5, 1.0, 1.0, 1.0]])),
    ("candle", _set("open_ms", 0)),
    ("fill", _set("symbol", "XRP/USDT")),
    ("fill", _set("quantity", 1e9)),
    ("fill", _set("price", "much")),
    ("order", _set("client_id", "s-unknown")),
    ("order", _set("event", "lost")),
    ("run", _drop("setup")),
    ("run", _set("weights", ["a"])),
]


@pytest.mark.parametrize(("kind", "damage"), DAMAGES, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(DAMAGES)])
async def test_a_damaged_entry_stops_the_start_and_is_named(
    copied: Place, monkeypatch: pytest.MonkeyPatch, kind: str, damage: Callable[[dict[str, Any]], None]
) -> None:
    journal = copied.journal()
    sold = [e.seq for e in journal_reader.read(journal, kinds={"fill"}) if e.payload["side"] == "sell"]
    seq = sold[0] if kind == "fill" else _seqs(journal, kind)[-1]
    _rewrite(journal, seq, damage)
    _forget_checkpoints(monkeypatch)
    with pytest.raises(FatalError) as refused:
        recovered(_config(copied))
    assert str(journal) in str(refused.value)
    found = [int(word.rstrip(":,")) for word in str(refused.value).split() if word.rstrip(":,").isdigit()]
    # A candle that cannot be is found when it is decided on, two entries on at most.
    assert any(seq <= number <= seq + 2 for number in found), str(refused.value)


def test_a_candle_that_was_altered_stops_the_start(copied: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = copied.journal()
    seq = _seqs(journal, "candle")[-5]
    _rewrite(journal, seq, lambda payload: payload["candles"][1].__setitem__(5, payload["candles"][1][5] + 1.0))
    _forget_checkpoints(monkeypatch)
    with pytest.raises(FatalError, match=rf"entry {seq + 2}: the ETH/USDT candles it was decided on were altered"):
        recovered(_config(copied))


@pytest.mark.parametrize("part", ["trader", "memory", "run"])
def test_a_checkpoint_without_a_part_stops_the_start(copied: Place, part: str) -> None:
    _rewrite(copied.journal(), _seqs(copied.journal(), "checkpoint")[-1], _drop(part))
    with pytest.raises(FatalError, match=rf"\(checkpoint\) cannot be applied: KeyError '{part}'"):
        recovered(_config(copied))


async def test_candles_that_nobody_decided_on_stop_the_start(copied: Place) -> None:
    journal = SqliteJournal.open(copied.journal(), FixedClock())
    last = _payload(copied.journal(), _seqs(copied.journal(), "candle")[-1])
    await journal.append([Record(kind="candle", payload={**last, "open_ms": last["open_ms"] + last["span_ms"]})])
    await journal.close()
    with pytest.raises(FatalError, match="nobody decided on"):
        recovered(_config(copied))
    journal = SqliteJournal.open(copied.journal(), FixedClock())
    seq = await journal.append([Record(kind="gap", payload={"symbol": BTC, "first_ms": 0, "missing": 1})])
    await journal.close()
    with pytest.raises(FatalError, match=rf"entry {seq} \(gap\): decisions on the candles before it are missing"):
        recovered(_config(copied))


def test_a_journal_that_does_not_begin_with_a_run_is_refused(tmp_path: Path) -> None:
    place = make_place(tmp_path)

    async def write() -> None:
        (tmp_path / "var").mkdir()
        journal = SqliteJournal.open(place.journal(), FixedClock())
        await journal.append([Record(kind="stop", payload={"reason": "?"})])
        await journal.close()

    asyncio.run(write())
    with pytest.raises(FatalError, match="entry 1"):
        recovered(_config(place))


# ---- windows ----------------------------------------------------------------------------------------------------
def test_windows_are_filled_from_just_enough_candles(copied: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = recovered(_config(copied))
    monkeypatch.setattr(recovery, "WINDOW", 40)
    _, short = recovered(_config(copied))
    for symbol, window in short.features.items():
        assert isinstance(window, FeatureWindow)
        assert window._seen == 40
        assert window._open_ms[39] == whole._open_ms[symbol]


@pytest.mark.parametrize(("window", "first_seq"), [(1, 247), (3, 243), (10, 229), (126, 1)])
async def test_windows_begin_where_the_symbol_that_was_silent_last_has_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, first_seq: int
) -> None:
    place = make_place(tmp_path)
    (tmp_path / "var").mkdir()
    journal = SqliteJournal.open(place.journal(), FixedClock())
    # Candles at odd seqs, of both symbols but for the last, which is of one alone.
    for seq in range(1, 250):
        symbols = [BTC, ETH] if seq < 249 else [BTC]
        payload = {"open_ms": seq, "span_ms": 1, "backfill": False, "candles": [[s, 1, 1, 1, 1, 1] for s in symbols]}
        other = Record(kind="gap", payload={"symbol": BTC, "first_ms": 0, "missing": 1})
        await journal.append([Record(kind="candle", payload=payload) if seq % 2 else other])
    await journal.close()
    monkeypatch.setattr(recovery, "WINDOW", window)
    assert recovery._windows_begin(place.journal(), 249, (BTC, ETH)) == first_seq
