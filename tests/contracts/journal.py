"""What every Journal promises. A test class inherits JournalContract and provides the fixture `subject`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from daemon.errors import FatalError
from daemon.ports import Entry, Journal, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A journal under test, its clock's reading in milliseconds, and a way to see what it holds."""

    journal: Journal
    now_ms: int
    entries: Callable[[], Sequence[Entry]]


def fill(number: int) -> Record:
    return Record(kind="fill", payload={"fill_id": str(number), "price": 0.1 * number})


class JournalContract:
    async def test_append_returns_the_last_seq_and_counts_from_one(self, subject: Subject) -> None:
        assert await subject.journal.append([fill(1), fill(2), fill(3)]) == 3
        assert await subject.journal.append([fill(4)]) == 4
        assert [entry.seq for entry in subject.entries()] == [1, 2, 3, 4]

    async def test_entries_come_back_as_they_were_written(self, subject: Subject) -> None:
        payload = {"z": [1, 2.5, None, True], "a": {"ä": "\u0000 \ud800 \U0001f4c8"}, "tiny": 5e-324, "third": 1 / 3}
        await subject.journal.append([Record(kind="decision", payload=payload)])
        assert subject.entries() == [Entry(seq=1, at_ms=subject.now_ms, kind="decision", payload=payload)]

    async def test_a_later_change_of_the_callers_payload_changes_nothing(self, subject: Subject) -> None:
        votes = [1.0]
        await subject.journal.append([Record(kind="decision", payload={"votes": votes})])
        votes.append(2.0)
        assert subject.entries()[0].payload == {"votes": [1.0]}

    async def test_no_records_are_no_entry(self, subject: Subject) -> None:
        await subject.journal.append([fill(1)])
        assert await subject.journal.append([]) == 1
        assert len(subject.entries()) == 1

    async def test_concurrent_appends_keep_the_order_of_their_calls_and_stay_whole(self, subject: Subject) -> None:
        calls = [subject.journal.append([fill(2 * task), fill(2 * task + 1)]) for task in range(50)]
        assert await asyncio.gather(*calls) == [2 * task + 2 for task in range(50)]
        assert [entry.payload["fill_id"] for entry in subject.entries()] == [str(number) for number in range(100)]

    @pytest.mark.parametrize(
        "record",
        [
            pytest.param(Record(kind="kline", payload={}), id="unknown kind"),
            pytest.param(Record(kind="fill", payload={"price": float("nan")}), id="nan"),
            pytest.param(Record(kind="fill", payload={"price": float("-inf")}), id="infinity"),
            pytest.param(Record(kind="fill", payload={"price": {1, 2}}), id="no JSON type"),
        ],
    )
    async def test_one_record_that_cannot_be_journalled_refuses_all(self, subject: Subject, record: Record) -> None:
        with pytest.raises(FatalError, match=record.kind):
            await subject.journal.append([fill(1), record])
        assert subject.entries() == []
        assert await subject.journal.append([fill(2)]) == 1

    async def test_nothing_is_appended_after_close(self, subject: Subject) -> None:
        await subject.journal.append([fill(1)])
        await subject.journal.close()
        await subject.journal.close()
        with pytest.raises(FatalError, match="closed"):
            await subject.journal.append([fill(2)])
        assert len(subject.entries()) == 1

    async def test_close_writes_what_is_queued(self, subject: Subject) -> None:
        waiting = [asyncio.ensure_future(subject.journal.append([fill(number)])) for number in range(20)]
        await asyncio.sleep(0)
        await subject.journal.close()
        assert await asyncio.gather(*waiting) == list(range(1, 21))
        assert len(subject.entries()) == 20
