"""`python -m daemon.testvenue --dialect kraken` as a program of its own, which unmodified ccxt trades against."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ccxt.async_support as ccxt

from tests.testvenue.kraken import KEY, SECRET, SYMBOL


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "daemon.testvenue", "--dialect", "kraken", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20.0)


async def test_an_order_goes_through_a_process_of_its_own() -> None:
    with program("--symbol", f"{SYMBOL}@30000", "--account", f"{KEY}:{SECRET}:USDT=1000") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        exchange = ccxt.kraken({**ready["ccxt"]["kraken"], "apiKey": KEY, "secret": SECRET, "enableRateLimit": False})
        try:
            placed = await exchange.create_order(SYMBOL, "market", "buy", 0.01)
            order = await exchange.fetch_order(placed["id"])
            # half of 0.02 % above 30000
            assert (order["status"], order["average"]) == ("closed", 30_003.0)
        finally:
            await exchange.close()
        process.send_signal(signal.SIGTERM)
        process.wait(20.0)
        assert process.returncode == 0


def test_a_secret_that_cannot_be_krakens_is_one_line_without_the_secret() -> None:
    with program("--account", f"{KEY}:no base64!:USDT=1000") as process:
        _, errors = process.communicate(timeout=20.0)
        assert process.returncode == 78
        assert "secrets are base64" in errors
        assert "Traceback" not in errors
        assert "no base64!" not in errors
