"""A file that only grows: what is removed, changed, torn or written at once is found, named and kept."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from training.errors import TrainingError
from training.trials_file import LedgerDamaged, LineFile


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def add(place: Path, *values: Any) -> int:
    return LineFile(place).append(lambda _: [{"value": value} for value in values])


def values_of(place: Path) -> list[Any]:
    file = LineFile(place)
    file.read()
    return [line.values["value"] for line in file.lines]


@pytest.fixture
def five(place: Path) -> Path:
    add(place, "a", "b")
    add(place, "c")
    add(place, "d", "e")
    return place


# ---- what is written --------------------------------------------------------------------------------------------
def test_each_line_holds_the_sha256_of_the_line_before_as_anybody_can_check(five: Path) -> None:
    lines = five.read_bytes().splitlines()
    told = [json.loads(line) for line in lines]
    assert [one["value"] for one in told] == ["a", "b", "c", "d", "e"]
    assert [one["number"] for one in told] == [1, 2, 3, 4, 5]
    sums = [hashlib.sha256(line).hexdigest() for line in lines]
    assert [one["previous"] for one in told] == ["0" * 64, *sums[:-1]]
    head = json.loads(five.with_name("ledger.jsonl.head").read_bytes())
    assert head == {"lines": 5, "sha256": sums[-1]}


def test_nothing_is_there_before_the_first_line(place: Path) -> None:
    assert values_of(place) == []
    assert not place.exists()
    assert add(place) == 0
    assert place.read_bytes() == b""


def test_whoever_appends_is_given_what_others_wrote_meanwhile(place: Path) -> None:
    first, second = LineFile(place), LineFile(place)
    first.append(lambda _: [{"value": 1}])
    second.append(lambda lines: [{"value": lines[-1].values["value"] + 1}])
    first.append(lambda lines: [{"value": lines[-1].values["value"] + 1}])
    assert values_of(place) == [1, 2, 3]


# ---- damage -----------------------------------------------------------------------------------------------------
def without(*numbers: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [line for number, line in enumerate(lines, 1) if number not in numbers]


def changed(number: int, old: bytes, new: bytes) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [line.replace(old, new) if at == number else line for at, line in enumerate(lines, 1)]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without(1), "line 1 holds the number 2: lines before it were removed"),
        (without(3), "line 3 holds the number 4: lines before it were removed"),
        (without(5), "lines 5 .. 5 were removed from its end"),
        (without(4, 5), "lines 4 .. 5 were removed from its end"),
        (without(1, 2, 3, 4, 5), "lines 1 .. 5 were removed from its end"),
        (changed(1, b'"a"', b'"z"'), "line 2 does not follow the line before: line 1, or previous in line 2, was"),
        (changed(3, b'"c"', b'"z"'), "line 4 does not follow the line before: line 3, or previous in line 4, was"),
        (changed(5, b'"e"', b'"z"'), "line 5 was changed"),
        (changed(2, b"{", b"["), "line 2 is not as it was written"),
        (changed(1, b"000", b"111"), "line 1 does not follow the line before: it was changed"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1 holds the number 2"),
        (lambda lines: [*lines, lines[-1]], "line 6 holds the number 5"),
        (lambda lines: [*lines[:2], b"", *lines[2:]], "line 3 is not as it was written"),
    ],
)
def test_a_changed_or_removed_line_is_found_and_named(
    five: Path, damage: Callable[[list[bytes]], list[bytes]], says: str
) -> None:
    lines = damage(five.read_bytes().splitlines())
    five.write_bytes(b"".join(line + b"\n" for line in lines))
    before = five.read_bytes()
    for use in (values_of, add):
        with pytest.raises(LedgerDamaged, match=re.escape(says)) as caught:
            use(five)
        assert str(five) in str(caught.value)
        assert "move it and ledger.jsonl.head away" in str(caught.value)
    assert five.read_bytes() == before


def test_lines_rewritten_with_fitting_sums_are_betrayed_by_the_head(five: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    add(other, "a", "b", "c", "d", "better")
    shutil.copy(other, five)
    with pytest.raises(LedgerDamaged, match="line 5 was changed"):
        values_of(five)


def test_a_missing_file_whose_head_is_still_there_was_removed(five: Path) -> None:
    five.unlink()
    with pytest.raises(LedgerDamaged, match=re.escape("lines 1 .. 5 were removed")):
        values_of(five)


def test_a_missing_head_is_told(five: Path) -> None:
    five.with_name("ledger.jsonl.head").unlink()
    with pytest.raises(
        LedgerDamaged, match=re.escape("ledger.jsonl.head, which vouches for the last line, is missing")
    ):
        values_of(five)


def test_a_head_that_is_no_head_is_told(five: Path) -> None:
    five.with_name("ledger.jsonl.head").write_text("[]")
    with pytest.raises(LedgerDamaged, match=re.escape("ledger.jsonl.head, which vouches for the last line, cannot be")):
        values_of(five)


def test_moving_both_away_begins_anew(five: Path) -> None:
    for name in ("ledger.jsonl", "ledger.jsonl.head"):
        five.with_name(name).rename(five.with_name(f"old-{name}"))
    add(five, "new")
    assert values_of(five) == ["new"]


# ---- crashes ----------------------------------------------------------------------------------------------------
def test_a_head_older_than_the_lines_is_what_a_crash_leaves_and_is_caught_up(five: Path, tmp_path: Path) -> None:
    head = five.with_name("ledger.jsonl.head")
    old = head.read_bytes()
    add(five, "f")
    head.write_bytes(old)
    assert values_of(five)[-1] == "f"
    add(five, "g")
    assert json.loads(head.read_bytes())["lines"] == 7


def test_first_lines_whose_head_a_crash_has_not_let_be_written_are_taken(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, note = LineFile(place), LineFile._note

    def killed(self: LineFile) -> None:
        if self.lines:
            raise KeyboardInterrupt
        note(self)

    monkeypatch.setattr(LineFile, "_note", killed)
    with pytest.raises(KeyboardInterrupt):
        file.append(lambda _: [{"value": "a"}, {"value": "b"}])
    monkeypatch.undo()
    assert values_of(place) == ["a", "b"]
    add(place, "c")
    assert values_of(place) == ["a", "b", "c"]


def test_a_line_half_written_is_told_kept_aside_and_written_over(five: Path) -> None:
    whole = five.read_bytes()
    torn = b'{"number":6,"value":"f","previo'
    five.write_bytes(whole + torn)
    file = LineFile(five)
    file.read()
    assert (len(file.lines), file.torn) == (5, torn)
    assert five.read_bytes() == whole + torn  # reading changes nothing
    with pytest.warns(UserWarning, match=re.escape("line 6 was half written when its process ended; its 31 bytes lie")):
        add(five, "g")
    assert values_of(five) == ["a", "b", "c", "d", "e", "g"]
    assert five.with_name("ledger.jsonl.torn").read_bytes() == torn + b"\n"


def test_what_was_put_aside_before_stays(five: Path) -> None:
    for torn in (b"one", b"two"):
        with five.open("ab") as file:
            file.write(torn)
        with pytest.warns(UserWarning, match="half written"):
            add(five)
    assert five.with_name("ledger.jsonl.torn").read_bytes() == b"one\ntwo\n"


def test_a_whole_last_line_without_its_break_is_not_taken_for_half_a_line(five: Path) -> None:
    five.write_bytes(five.read_bytes()[:-1])
    with pytest.raises(LedgerDamaged, match="the line break at its end was removed"):
        add(five, "f")


def test_a_disk_that_fills_up_in_the_middle_of_a_line_leaves_none_of_it(
    five: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write = five.read_bytes(), os.write

    def nearly_full(descriptor: int, data: bytes) -> int:
        if len(data) > 10:
            return write(descriptor, data[: len(data) - 10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", nearly_full)
    with pytest.raises(TrainingError, match=r"No space left on device.*--ledger or SACD_TRIALS"):
        add(five, "f")
    monkeypatch.undo()
    assert five.read_bytes() == before
    add(five, "f")
    assert values_of(five)[-1] == "f"


# ---- several at once --------------------------------------------------------------------------------------------
def write_many(place: Path, who: int, times: int) -> None:
    file = LineFile(place)
    for at in range(times):
        file.append(lambda _, at=at: [{"value": f"{who}-{at}"}])  # type: ignore[misc]


def test_processes_that_write_at_once_lose_nothing_and_break_no_chain(place: Path) -> None:
    context = get_context("spawn")
    processes = [context.Process(target=write_many, args=(place, who, 25)) for who in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    found = values_of(place)
    assert sorted(found) == sorted(f"{who}-{at}" for who in range(4) for at in range(25))
    for who in range(4):
        assert [one for one in found if one.startswith(f"{who}-")] == [f"{who}-{at}" for at in range(25)]


def test_a_file_that_was_moved_away_while_we_waited_for_it_is_not_written_to(five: Path, tmp_path: Path) -> None:
    file = LineFile(five)
    look, moved = file._is_still_there, []

    def move_first(descriptor: int) -> bool:
        if not moved:
            moved.append(True)
            five.rename(tmp_path / "away.jsonl")
            five.with_name("ledger.jsonl.head").unlink()
        return look(descriptor)

    file._is_still_there = move_first  # type: ignore[method-assign]
    away = five.read_bytes()
    file.append(lambda _: [{"value": "new"}])
    assert (tmp_path / "away.jsonl").read_bytes() == away
    assert values_of(five) == ["new"]


def test_a_file_that_shrank_under_us_is_damaged(five: Path) -> None:
    file = LineFile(five)
    file.read()
    five.write_bytes(five.read_bytes()[:20])
    with pytest.raises(LedgerDamaged, match="shorter than it was a moment ago"):
        file.append(lambda _: [])


# ---- places that do not do --------------------------------------------------------------------------------------
def test_a_place_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "ledger.jsonl"):
        with pytest.raises(TrainingError, match=re.escape(f"{place}: cannot be written (")) as caught:
            add(place, 1)
        assert "--ledger or SACD_TRIALS" in str(caught.value)


def test_a_place_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    place = tmp_path / "loop"
    place.symlink_to(place)
    with pytest.raises(TrainingError, match=re.escape(f"{place}: cannot be read (")):
        values_of(place)
