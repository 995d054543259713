import json
from pathlib import Path
from typing import Any

import pytest

from strategy.candle import Timeframe
from training.errors import TrainingError
from training.retrain_request import Request, id_in, read_request

VALUES: dict[str, Any] = {
    "format": 1,
    "request": "ffffffffffffffff",
    "at_ms": 1_764_000_000_000,
    "by": "schedule",
    "registry": "/var/lib/sacd/models",
    "incumbent": "c5a531e4ebf4bb31",
    "journal": "/var/lib/sacd/paper.sqlite",
    "exchange": "binance",
    "timeframe": "1h",
    "symbols": ["BTC/USDT", "ETH/USDT"],
    "data": {"BTC/USDT": "/data/btcusdt-1h.parquet"},
    "fetch": True,
    "workers": 2,
    "steps": 0,
    "deadline_ms": 1_764_021_600_000,
    "memory_mib": 4096,
    "holdout_days": 90,
    "gate_confidence": 0.8,
    "max_drawdown": 0.15,
}


def written(place: Path, **changes: Any) -> Path:
    place.write_text(json.dumps({name: value for name, value in {**VALUES, **changes}.items() if value is not ...}))
    return place


def test_a_request_is_read_as_the_daemon_wrote_it(tmp_path: Path) -> None:
    assert read_request(written(tmp_path / "request.json")) == Request(
        request="ffffffffffffffff",
        at_ms=1_764_000_000_000,
        by="schedule",
        registry=Path("/var/lib/sacd/models"),
        incumbent="c5a531e4ebf4bb31",
        journal=Path("/var/lib/sacd/paper.sqlite"),
        exchange="binance",
        timeframe=Timeframe(name="1h", span_ms=3_600_000),
        symbols=("BTC/USDT", "ETH/USDT"),
        data={"BTC/USDT": Path("/data/btcusdt-1h.parquet")},
        fetch=True,
        workers=2,
        steps=0,
        deadline_ms=1_764_021_600_000,
        memory_mib=4096,
        holdout_days=90.0,
        gate_confidence=0.8,
        max_drawdown=0.15,
    )


def test_without_a_journal_there_is_none(tmp_path: Path) -> None:
    assert read_request(written(tmp_path / "request.json", journal="")).journal is None


def test_every_request_has_a_seed_of_its_own_that_a_training_can_begin_with(tmp_path: Path) -> None:
    seeds = {
        read_request(written(tmp_path / "request.json", request=name)).seed
        for name in ("ffffffffffffffff", "0000000000000002", "0000000000000005")
    }
    assert seeds == {2**63 - 1, 1, 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2 is not 1"),
        ({"more": 1}, "keys missing or unknown: more"),
        ({"symbols": ..., "fetch": ...}, "keys missing or unknown: fetch, symbols"),
        ({"request": "../../etc/passwd"}, r"request '\.\./\.\./etc/passwd' is not 16 hexadecimal digits"),
        ({"incumbent": "current"}, "incumbent 'current' is not 16 hexadecimal digits"),
        ({"by": "me"}, "by 'me' is not one of schedule, hand, drift"),
        ({"registry": "models"}, "registry 'models' is not an absolute path"),
        ({"journal": 5}, "journal '5' is not an absolute path"),
        ({"exchange": None}, "exchange 'None' is not a text"),
        ({"timeframe": "1 hour"}, "timeframe: timeframe '1 hour' is not one of the form 1m"),
        ({"symbols": []}, r"symbols '\[\]' is not a list of different symbols, one at least"),
        ({"symbols": ["BTC/USDT", "BTC/USDT"]}, "is not a list of different symbols"),
        ({"symbols": ["BTC"]}, "symbols 'BTC' is not a symbol such as BTC/USDT"),
        ({"data": []}, r"data '\[\]' is not an object of symbols and paths"),
        ({"data": {"ADA/USDT": "/x.csv"}}, "data names ADA/USDT, which is not among the symbols BTC/USDT, ETH/USDT"),
        ({"data": {"BTC/USDT": "x.csv"}}, r"data of BTC/USDT 'x\.csv' is not an absolute path"),
        ({"fetch": 1}, "fetch '1' is not true or false"),
        ({"exchange": ""}, "fetch is true, but exchange is empty: there is nobody to ask for candles"),
        ({"workers": -1}, r"workers '-1' is not a whole number, 0 \.\. 1000"),
        ({"steps": 1.5}, r"steps '1\.5' is not a whole number"),
        ({"at_ms": True}, "at_ms 'True' is not a whole number"),
        ({"deadline_ms": 1_764_000_000_000}, "deadline_ms 1764000000000 is not after at_ms 1764000000000"),
        ({"holdout_days": float("nan")}, "holdout_days 'nan' is not a number"),
        ({"holdout_days": -1}, r"holdout_days '-1' is not a number, 0 \.\. 36600"),
        ({"gate_confidence": 80}, r"gate_confidence '80' is not a number, 0 \.\. 1"),
        ({"max_drawdown": "0.15"}, r"max_drawdown '0\.15' is not a number"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        read_request(written(tmp_path / "request.json", **changes))
    assert str(caught.value).startswith(str(tmp_path / "request.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1", "null", "[]", '"request"', "\x00", "[" * 100_000])
def test_what_is_no_request_at_all_is_one_line(tmp_path: Path, text: str) -> None:
    place = tmp_path / "request.json"
    place.write_text(text)
    with pytest.raises(TrainingError, match=r"request\.json: it is (no request|not an object)"):
        read_request(place)
    assert not id_in(place)


def test_who_asked_can_be_told_also_where_the_rest_is_wrong(tmp_path: Path) -> None:
    assert id_in(written(tmp_path / "a", format=2)) == "ffffffffffffffff"
    assert not id_in(written(tmp_path / "b", request="../x"))
    assert not id_in(tmp_path / "missing")
