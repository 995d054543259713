"""The venue as a program of its own: how it is started, driven and stopped, and what it says to wrong arguments."""

import gzip
import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from daemon.testvenue.__main__ import main, to_toml
from daemon.testvenue.audit_checks import read
from daemon.testvenue.client import ControlRefused, VenueClient
from daemon.testvenue.server import TestVenue
from tests.testvenue.venues import KEY, SECRET, SYMBOL, served, trading

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def program(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [sys.executable, "-m", "daemon.testvenue", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def test_it_says_when_it_is_ready_takes_commands_and_ends_on_sigterm(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    with program("--symbol", "BTC/USDT@100", "--account", f"{KEY}:{SECRET}:USDT=1000", "--audit", str(audit)) as (
        process, ready,
    ):  # fmt: skip
        client = VenueClient(ready["port"])
        order = client.do("order", account="account-1", symbol=SYMBOL, side="buy", quantity="1")
        assert order["state"] == "filled"
        client.trade(SYMBOL, "90", "2")
        state = client.state()
        assert (state["prices"][SYMBOL], state["accounts"]["account-1"]["BTC"]) == ("90", ["0.99900000", "0"])
        assert ready["accounts"] == ["account-1"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert [record["kind"] for record in read(audit)].count("order") == 1


def test_the_random_market_is_the_same_for_the_same_seed() -> None:
    def history(seed: str) -> Any:
        with program("--present", "--history", "5", "--seed", seed) as (_, ready):
            return VenueClient(ready["port"]).state()["prices"]

    assert history("1") != history("2")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--symbol", "BTCUSDT"], 78, "BASE/QUOTE"),
        (["--symbol", "BTC/USDT@cheap"], 78, "'cheap' is not a number"),
        (["--account", "KEYONLY"], 78, "KEY:SECRET:USDT=10000"),
        (["--account", "A:B:USDT=lots"], 78, "'lots' is not a number"),
        (["--timeframe", "fortnight"], 78, "'fortnight' is not one of the form"),
        (["--candles", "/nowhere.csv"], 1, "/nowhere.csv"),
        (["--candles", "a", "--candles", "b"], 78, "2 files for 1 symbols"),
        (["--audit", "/nowhere/audit.jsonl"], 78, "/nowhere is not a directory"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.count("\n") == 1
    assert "A:B" not in shown


def test_a_port_in_use_is_one_line() -> None:
    with program() as (_, ready):
        command = [sys.executable, "-m", "daemon.testvenue", "--port", str(ready["port"])]
        second = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert second.returncode == 78
    assert f"port {ready['port']} cannot be used" in second.stderr
    assert second.stderr.count("\n") == 1


def test_the_options_as_toml_are_the_options() -> None:
    values = {"urls": {"api": {"public": "http://x", "ws": {"spot": "ws://y"}}}, "options": {"a": False, "b": ["spot"]}}
    assert tomllib.loads(to_toml("exchange.ccxt", values)) == {"exchange": {"ccxt": values}}


def test_recorded_candles_are_played_in_the_present(tmp_path: Path) -> None:
    path = tmp_path / "candles.csv.gz"
    rows = ["timestamp_ms,open,high,low,close,volume"]
    rows += [f"{1_600_000_020_000 + i * 60_000},{100 + i},{110 + i},{90 + i},{105 + i},8" for i in range(9)]
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    with program("--present", "--candles", str(path), "--history", "5") as (_, ready):
        client = VenueClient(ready["port"])
        state = client.state()
        # five candles lie in the past; the first trade of the sixth is its open
        assert state["prices"][SYMBOL] in {"105", "95", "115", "110"}
        assert state["now_ms"] > 1_700_000_000_000


# ---- commands -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ({"do": "fly"}, "no command 'fly'; there are account, audit"),
        ({"price": "1"}, "a command is an object"),
        ({"do": "trade", "symbol": SYMBOL}, "missing a required argument: 'price'"),
        ({"do": "trade", "symbol": SYMBOL, "price": "1", "often": 2}, "unexpected keyword argument 'often'"),
        ({"do": "trade", "symbol": "XXX/USDT", "price": "1"}, "no market XXX/USDT"),
        ({"do": "trade", "symbol": SYMBOL, "price": "cheap"}, "'cheap' is not a number"),
        ({"do": "trade", "symbol": SYMBOL, "price": "-1"}, "above 0"),
        ({"do": "transfer", "account": "who", "asset": "BTC", "delta": "1"}, "no account 'who'; there are main"),
        ({"do": "transfer", "account": "main", "asset": "BTC", "delta": "-1"}, "-1|1 needed"),
        ({"do": "rules", "symbol": SYMBOL, "tock": "1"}, "no tock to set"),
        ({"do": "end", "account": "main", "client_id": "x"}, "has no open order x"),
        ({"do": "rights", "account": "main", "may_fly": True}, "no right 'may_fly'"),
    ],
    ids=lambda value: str(value.get("do")) if isinstance(value, dict) else "",
)
async def test_a_command_that_cannot_be_says_why(command: dict[str, Any], says: str) -> None:
    async with served() as venue:
        with pytest.raises(ValueError, match=says):
            venue.control(command)


async def test_the_client_raises_what_the_venue_refuses() -> None:
    import asyncio  # noqa: PLC0415  # only here

    async with served() as venue:
        client = VenueClient(venue.port)
        with pytest.raises(ControlRefused, match="no command 'fly'"):
            await asyncio.to_thread(client.do, "fly")
        number = await asyncio.to_thread(client.fault, "POST order", "drop_reply", times=2)
        assert venue.faults.fired(number) == 0
        assert (await asyncio.to_thread(client.naked_seconds, SYMBOL)) == 0.0


async def _scripted(venue: TestVenue, **command: Any) -> dict[str, Any]:
    return venue.control(command)


async def test_external_actions_are_seen_over_the_api_as_somebody_elses() -> None:
    async with served() as venue, trading(venue) as exchange:
        await _scripted(venue, do="transfer", account="main", asset="BTC", delta="2")
        foreign = await _scripted(
            venue, do="order", account="main", symbol=SYMBOL, side="sell", type="limit", quantity="1", price="120",
            client_id="web_1",
        )  # fmt: skip
        (seen,) = await exchange.fetch_open_orders(SYMBOL)
        assert (seen["id"], seen["clientOrderId"]) == (str(foreign["order_id"]), "web_1")
        await _scripted(venue, do="fill", account="main", client_id="web_1", quantity="0.25")
        assert (await exchange.fetch_order(seen["id"], SYMBOL))["filled"] == 0.25
        await _scripted(venue, do="end", account="main", client_id="web_1", state="cancelled")
        assert (await exchange.fetch_order(seen["id"], SYMBOL))["status"] == "canceled"
        assert (await exchange.fetch_balance())["BTC"] == {"free": 1.75, "used": 0.0, "total": 1.75}


async def test_rules_can_change_between_two_orders() -> None:
    async with served() as venue, trading(venue) as exchange:
        await exchange.create_order(SYMBOL, "limit", "buy", 0.12345, 90)
        await _scripted(venue, do="rules", symbol=SYMBOL, lot="0.01", min_quantity="0.01")
        with pytest.raises(Exception, match="LOT_SIZE"):
            await exchange.create_order(SYMBOL, "limit", "buy", 0.12345, 90)
        assert (await exchange.load_markets(reload=True))[SYMBOL]["precision"]["amount"] == 0.01
