"""ccxt with one exchange. In processes of their own: what is imported here would stay imported."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BEGIN = "import sys\nfrom daemon.venue_import import only_exchange\n"


def output(code: str) -> list[str]:
    run = subprocess.run([sys.executable, "-c", BEGIN + code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.mark.parametrize(("exchange", "bases"), [("binance", {"binance"}), ("binanceus", {"binance", "binanceus"})])
def test_only_the_exchange_and_what_it_is_derived_from_are_loaded(exchange: str, bases: set[str]) -> None:
    lines = output(
        f"with only_exchange({exchange!r}):\n    import ccxt.pro\n"
        ""
        "names = {n for n in ccxt.pro.exchanges}\n"
        "print(*sorted(m for m in sys.modules if m.startswith('ccxt.') and m.split('.')[-1] in names))\n"
        f"print(type(ccxt.pro.{exchange}()).__module__, ccxt.pro.{exchange}().id)"
    )
    kinds = ("abstract", "async_support", "pro")
    assert set(lines[0].split()) == {f"ccxt.{kind}.{base}" for kind in kinds for base in bases}
    assert lines[1] == f"ccxt.pro.{exchange} {exchange}"


def test_every_exchange_with_streams_is_the_same_as_without() -> None:
    """Each one alone describes itself as it does when all are imported."""
    lines = output(
        "import ccxt.pro\nwhole = ccxt.pro\nnames = list(whole.exchanges)\nprint(len(names))\n"
        "expected = {x: repr(sorted(getattr(whole, x)().describe().items())) for x in names}\n"
        "for name in names:\n"
        "    for module in [m for m in sys.modules if m.split('.')[0] == 'ccxt']:\n"
        "        del sys.modules[module]\n"
        "    with only_exchange(name):\n"
        "        import ccxt.pro\n"
        "    assert ccxt.pro is not whole\n"
        "    assert repr(sorted(getattr(ccxt.pro, name)().describe().items())) == expected[name], name\n"
        "print('all alike')"
    )
    assert int(lines[0]) > 50
    assert lines[1] == "all alike"


def test_ccxt_that_is_there_already_is_left_as_it_is() -> None:
    lines = output(
        "import ccxt.pro\nbefore, classes = dict(sys.modules), ccxt.pro.kraken\n"
        "with only_exchange('binance'):\n    import ccxt.pro\n"
        "print(dict(sys.modules) == before, ccxt.pro.kraken is classes)"
    )
    assert lines == ["True True"]


def test_another_exchange_can_be_opened_later() -> None:
    lines = output(
        "for name in ('binance', 'kraken', 'binance'):\n"
        "    with only_exchange(name):\n        import ccxt.pro\n"
        "    print(getattr(ccxt.pro, name)().id)"
    )
    assert lines == ["binance", "kraken", "binance"]


def test_an_unknown_exchange_changes_nothing() -> None:
    lines = output(
        "with only_exchange('binanse'):\n    import ccxt.pro\n"
        "print('binanse' in ccxt.pro.exchanges, ccxt.pro.kraken().id)"
    )
    assert lines == ["False kraken"]
