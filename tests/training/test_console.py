import io
import json

import pytest
from rich.console import Console

from training import console
from training.console import counted, make_console, print_json, progress, span


class FakeTime:
    """Stands where the module `time` does; moves only when told."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(console, "time", fake)
    return fake


def test_without_a_terminal_it_writes_a_line_every_five_seconds(
    clock: FakeTime, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("training", 1_000) as tell:
        for done in range(0, 121, 10):  # 10 a second
            clock.now_s = 1_000.0 + done / 10
            tell(done)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "training: 50 of 1,000, 10/s, 1.6 min left",
        "training: 100 of 1,000, 10/s, 1.5 min left",
    ]


def test_work_that_is_done_within_five_seconds_says_nothing(
    clock: FakeTime, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("backtest", 10) as tell:
        clock.now_s += 4.9
        tell(10)
    assert capsys.readouterr().err == ""


def test_nothing_done_yet_gives_no_line_and_no_division_by_zero(
    clock: FakeTime, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("backtest", 10) as tell:
        clock.now_s += 60.0
        tell(0)
    assert capsys.readouterr().err == ""


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    screen = io.StringIO()

    def on_a_terminal(**options: object) -> Console:
        assert options == {"stderr": True}  # so that output can be piped
        return Console(file=screen, force_terminal=True, width=120, color_system=None)

    monkeypatch.setattr(console, "Console", on_a_terminal)
    return screen


def test_on_a_terminal_it_draws_a_bar_that_ends_full(terminal: io.StringIO) -> None:
    with progress("training", 200) as tell:
        tell(50)
        tell(120)
    last = [line for line in terminal.getvalue().splitlines() if "training" in line][-1]
    assert "200/200" in last
    assert "━" in last
    assert "/s" in last


def test_work_that_fails_leaves_the_bar_where_it_was(terminal: io.StringIO) -> None:
    def work() -> None:
        with progress("training", 200) as tell:
            tell(50)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        work()
    assert "200/200" not in terminal.getvalue()
    assert "50/200" in terminal.getvalue()


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [1, None], "b": 0.1})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None], "b": 0.1}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_never_holds_a_number_that_is_none(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"sharpe": value})
    assert capsys.readouterr().out == ""


def test_lines_in_a_pipe_are_never_broken(capsys: pytest.CaptureFixture[str]) -> None:
    make_console().print("word " * 500)
    assert len(capsys.readouterr().out.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (89.0, "89 s"),
        (120.0, "2.0 min"),
        (5_300.0, "88.3 min"),
        (7_200.0, "2.0 h"),
        (70_014_168.0, "810.3 days"),
    ],
)
def test_spans_are_told_in_their_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_one_thing_is_not_told_as_several() -> None:
    assert [counted(count, "gap") for count in (0, 1, 1_280)] == ["0 gaps", "1 gap", "1,280 gaps"]
