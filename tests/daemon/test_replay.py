"""Deciding again on everything in a journal: nothing differs, until one byte of a candle is changed."""

import asyncio
import json
import random
import re
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from daemon import journal_reader
from daemon.errors import ArtifactError, DataError, FatalError
from daemon.journal import SqliteJournal
from daemon.ports import NewSteps, Record
from daemon.replay import Replay, replay
from tests.daemon.accounts import HISTORY, Account, LiveAccount
from tests.daemon.engines import TinyVenue
from tests.daemon.journals import FixedClock, alter
from tests.fakes.serving import Place, make_place, write_bundle

TRADED = 40
VALUES = ("open", "high", "low", "close", "volume")


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An account of one run: the history and 40 candle times, killed at the end."""
    place = make_place(tmp_path_factory.mktemp("traded"))

    async def life() -> None:
        account = await Account.open(place.config)
        await account.trade(HISTORY + TRADED)
        await account.die()

    asyncio.run(life())
    return place


@pytest.fixture
def journal(traded: Place, tmp_path: Path) -> Path:
    """A copy of its journal to change."""
    return Path(shutil.copy(traded.journal(), tmp_path / "journal.sqlite"))


def _text(journal: Path, seq: int) -> str:
    with closing(sqlite3.connect(journal)) as connection:
        return str(connection.execute("SELECT payload FROM events WHERE seq = ?", (seq,)).fetchone()[0])


def _candles(journal: Path) -> list[int]:
    return [entry.seq for entry in journal_reader.read(journal, kinds={"candle"})]


def _change_digit(text: str, symbol: str, value: int, digit: int) -> str:
    """Return a candle's payload with one digit of one value changed; `digit` counts from the front, or the end."""
    rows = json.loads(text)["candles"]
    row = next(row for row in rows if row[0] == symbol)
    start = text.index(f'["{symbol}"')
    numbers = list(re.finditer(r"-?\d+\.?\d*(?:e-?\d+)?", text[start + len(symbol) + 3 :]))
    number = numbers[value]
    assert float(number[0]) == row[1 + value]
    places = [i for i, character in enumerate(number[0]) if character.isdigit()]
    at = start + len(symbol) + 3 + number.start() + places[digit]
    changed = "1" if text[at] == "9" else str(int(text[at]) + 1)
    return text[:at] + changed + text[at + 1 :]


def _outcome(journal: Path, place: Place) -> Replay | str:
    """What a replay finds, or what it says when it cannot."""
    try:
        return replay(journal, place.root / "models")
    except (FatalError, DataError) as error:
        return str(error)


# ---- nothing differs --------------------------------------------------------------------------------------------
def test_a_journal_replays_without_a_difference(traded: Place) -> None:
    result = replay(traded.journal(), traded.root / "models")
    assert (result.decisions, result.differ, result.runs) == (2 * TRADED, 0, 1)
    assert result.to_json() == {"decisions": 2 * TRADED, "differ": 0, "runs": 1, "first_differences": []}


async def test_a_live_journal_replays_without_a_difference_whatever_the_venue_did(tmp_path: Path) -> None:
    place, venue = make_place(tmp_path), TinyVenue(seed=4)
    account = await LiveAccount.open(place.config, venue)
    await account.trade(HISTORY + 60)
    await account.engine.command("flatten", "test")
    await account.trade(3)
    await account.engine.command("resume", "test")
    await account.die()
    account = await LiveAccount.open(place.configure(risk={"stop_loss": 0.03}), venue)
    coarse = {s: replace(i, lot=0.001) for s, i in account.engine.trader.setup.instruments.items()}
    account.broker.groups.append([NewSteps(instruments=coarse, closed=frozenset({"BTC/USDT"}))])
    await account.trade(20)
    account.broker.groups.append([NewSteps(instruments=coarse)])
    await account.trade(40)
    await account.die()
    kinds = Counter(entry.kind for entry in journal_reader.read(place.journal()))
    assert kinds["run"] == 3
    assert min(kinds[kind] for kind in ("fill", "intent", "exit", "venue")) > 0, kinds
    result = replay(place.journal(), place.root / "models")
    assert (result.decisions, result.differ, result.runs) == (2 * 123, 0, 3)


async def test_runs_commands_parameters_and_ensembles_that_changed_replay_without_a_difference(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    other = write_bundle(tmp_path / "models", seed=77, members=2)
    account = await Account.open(place.config)
    await account.trade(HISTORY + 10)
    await account.engine.command("pause", "test")
    await account.trade(5)
    await account.engine.command("resume", "test")
    await account.trade(10)
    await account.die()
    decided = 25
    for change in (
        {"risk": {"max_position": 0.2, "stop_loss": 0.01}, "strategy": {"dead_band": 0.05}},
        {"strategy": {"model": str(other)}},
        {"strategy": {"max_missing": 0}, "execution": {"slippage_rate": 0.01, "participation": 1e-6}},
        {"risk": {"out_of_distribution": 0.1}},
        {},
    ):
        account = await Account.open(place.configure(**change))
        await account.trade(12)
        await account.engine.command("flatten", "test")
        await account.engine.command("flatten", "test")
        await account.trade(3)
        await account.engine.command("resume", "test")
        await (account.stop() if change else account.die())
        decided += 15
    result = replay(account.path, tmp_path / "models")
    assert (result.decisions, result.differ, result.runs) == (2 * decided, 0, 6)
    reasons = {e.payload["reason"] for e in journal_reader.read(account.path, kinds={"decision"})}
    assert {"voted", "paused", "out_of_distribution"} <= reasons


def test_progress_is_told(traded: Place) -> None:
    told: list[int] = []
    replay(traded.journal(), traded.root / "models", told.append)
    assert told == list(range(500, told[-1] + 1, 500))
    assert told


# ---- one byte ---------------------------------------------------------------------------------------------------
BYTES = [(position, value, digit) for position in (0, 1, 2, 3) for value in range(5) for digit in (0, -1)]


@pytest.mark.parametrize(
    ("position", "value", "digit"),
    BYTES,
    ids=[
        f"{('first', 'history', 'decided', 'last')[p]}-{VALUES[v]}-{'front' if d == 0 else 'end'}" for p, v, d in BYTES
    ],
)
def test_one_changed_byte_of_a_candle_names_a_decision(
    journal: Path, traded: Place, position: int, value: int, digit: int
) -> None:
    seqs = _candles(journal)
    seq = seqs[(0, 1_500, HISTORY + 15, -1)[position]]
    symbol = ("BTC/USDT", "ETH/USDT")[value % 2]
    before = _text(journal, seq)
    after = _change_digit(before, symbol, value, digit)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    alter(journal, "UPDATE events SET payload = ? WHERE seq = ?", after, seq)
    result = _outcome(journal, traded)
    if isinstance(result, str):  # not a candle any more: the entry itself is named
        assert f"journal entry {seq} (candle)" in result
        assert symbol in result
        return
    # What was decided on the candle itself, or first of all on history, is what differs first.
    expected = seq if position >= 2 else seqs[HISTORY]
    of_symbol = [d for d in result.first if d.symbol == symbol]
    assert of_symbol[0].open_ms == json.loads(_text(journal, expected))["open_ms"]
    assert "candle" in of_symbol[0].fields
    assert 1 <= result.differ <= result.decisions == 2 * TRADED
    assert not journal_reader.verify(journal).is_sound


def test_random_changes_of_any_byte_of_candles_are_all_noticed(journal: Path, traded: Place) -> None:
    """Also bytes of names, times and punctuation: a difference, or an error that names an entry; never a crash."""
    generator, seqs = random.Random(3), _candles(journal)
    for _ in range(25):
        seq = generator.choice(seqs[-30:])
        before = _text(journal, seq)
        at = generator.randrange(len(before))
        after = before[:at] + generator.choice('0123456789"x[]{}.,:-') + before[at + 1 :]
        if after == before:
            continue
        alter(journal, "UPDATE events SET payload = ? WHERE seq = ?", after, seq)
        result = _outcome(journal, traded)
        if isinstance(result, str):
            assert re.search(r"entry \d+", result), result
        else:
            assert result.differ > 0, after
        alter(journal, "UPDATE events SET payload = ? WHERE seq = ?", before, seq)
    assert replay(journal, traded.root / "models").differ == 0


@pytest.mark.parametrize(
    "key", ["observation", "votes", "target", "reason", "order", "stop", "equity", "state", "model"]
)
def test_a_changed_part_of_a_decision_is_named(journal: Path, traded: Place, key: str) -> None:
    entry = next(
        e for e in journal_reader.read(journal, kinds={"decision"}) if e.payload["order"] and e.payload["stop"]
    )
    changes = {
        "observation": "00" + entry.payload["observation"][2:],
        "votes": [[0.5, 0.5, 0.5]] * 3,
        "order": {**entry.payload["order"], "quantity": entry.payload["order"]["quantity"] * 1.5},
        "stop": {**entry.payload["stop"], "stop_price": entry.payload["stop"]["stop_price"] + 0.01},
    }
    value = entry.payload[key]
    changed = changes.get(key, value + 1e-9 if isinstance(value, float) else "halted")
    payload = json.dumps({**entry.payload, key: changed})
    alter(journal, "UPDATE events SET payload = ? WHERE seq = ?", payload, entry.seq)
    result = replay(journal, traded.root / "models")
    assert (result.first[0].seq, result.first[0].fields) == (entry.seq, (key,))


def test_a_candle_that_was_removed_is_named(journal: Path, traded: Place) -> None:
    seq = _candles(journal)[-3]
    alter(journal, "DELETE FROM events WHERE seq = ?", seq)
    with pytest.raises(FatalError, match=rf"entry {seq + 1} decides without a candle"):
        replay(journal, traded.root / "models")


# ---- what cannot be replayed ------------------------------------------------------------------------------------
def test_a_missing_ensemble_is_named_with_what_to_do(traded: Place, tmp_path: Path) -> None:
    for registry in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ArtifactError, match=rf"ensemble {traded.model.name}.*is not in {registry}.*--models"):
            replay(traded.journal(), registry)


def test_a_broken_bundle_beside_the_right_one_does_not_matter(traded: Place, tmp_path: Path) -> None:
    shutil.copytree(traded.root / "models", tmp_path / "models")
    (tmp_path / "models" / "0000").mkdir()
    (tmp_path / "models" / "0000" / "manifest.json").write_text("{", encoding="utf-8")
    assert replay(traded.journal(), tmp_path / "models").differ == 0


def test_a_journal_of_other_features_names_the_version_to_use(journal: Path, traded: Place) -> None:
    payload = {**json.loads(_text(journal, 1)), "observation_hash": "0" * 64}
    alter(journal, "UPDATE events SET payload = ? WHERE seq = 1", json.dumps(payload))
    with pytest.raises(ArtifactError, match=r"replay it with that version \(0\.1\.0\)"):
        replay(journal, traded.root / "models")


@pytest.mark.parametrize("key", ["setup", "model", "account", "observation_hash"])
def test_a_run_that_lacks_a_part_is_named(journal: Path, traded: Place, key: str) -> None:
    payload = json.loads(_text(journal, 1))
    del payload[key]
    alter(journal, "UPDATE events SET payload = ? WHERE seq = 1", json.dumps(payload))
    with pytest.raises(FatalError, match=rf"entry 1 \(run\) cannot be applied: KeyError '{key}'"):
        replay(journal, traded.root / "models")


async def test_a_journal_without_a_run_is_refused(tmp_path: Path, traded: Place) -> None:
    journal = SqliteJournal.open(tmp_path / "j.sqlite", FixedClock())
    with pytest.raises(DataError, match="holds no run"):
        replay(tmp_path / "j.sqlite", traded.root / "models")
    await journal.append([Record(kind="stop", payload={"reason": "?"})])
    await journal.close()
    with pytest.raises(FatalError, match=r"entry 1 \(stop\) stands before any run"):
        replay(tmp_path / "j.sqlite", traded.root / "models")


def test_only_the_first_ten_differences_are_kept(journal: Path, traded: Place) -> None:
    for seq in _candles(journal)[HISTORY:]:
        payload = json.loads(_text(journal, seq))
        for row in payload["candles"]:
            row[5] += 1.0
        alter(journal, "UPDATE events SET payload = ? WHERE seq = ?", json.dumps(payload), seq)
    result = replay(journal, traded.root / "models")
    assert result.differ == 2 * TRADED
    assert len(result.first) == 10
    assert result.first == sorted(result.first, key=lambda difference: difference.seq)


def test_a_candle_that_is_none_any_more_names_the_decision_it_takes_with_it(traded: Place, journal: Path) -> None:
    entries = list(journal_reader.read(journal))
    at = max(i for i, entry in enumerate(entries) if entry.kind == "candle" and not entry.payload["backfill"])
    candle, decision = entries[at], entries[at + 1]
    assert decision.kind == "decision"
    low = repr(candle.payload["candles"][0][3])
    broken = _text(journal, candle.seq).replace(low, f"9{low}", 1)
    alter(journal, "UPDATE events SET payload = ? WHERE seq = ?", broken, candle.seq)
    with pytest.raises(FatalError) as caught:
        replay(journal, traded.root / "models")
    said = str(caught.value)
    assert f"journal entry {candle.seq} (candle) cannot be applied" in said
    symbol, open_ms = decision.payload["symbol"], decision.payload["open_ms"]
    assert f"the decision of entry {decision.seq} ({symbol}, candle {open_ms}) differs" in said
