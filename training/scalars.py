"""Scalars for TensorBoard as Stable-Baselines3's logger writes them, but at once and in the caller's thread.

SB3's own writer leaves the writing to a thread, which meets a full disk alone and with a traceback.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

_FORMAT = "brain.Event:2"
_NAME = "tensorboard"


class Scalars(KVWriter):
    """One file of events in `folder`, which is made where it is missing.

    from_step: where a resumed run begins: TensorBoard then hides what a killed one wrote for later steps.
    """

    def __init__(self, folder: Path, from_step: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        self._file = (folder / f"events.out.tfevents.{from_step:012d}").open("wb", buffering=0)
        self._records = RecordWriter(self._file)
        self._write(Event(step=from_step, file_version=_FORMAT))
        if from_step:
            self._write(Event(step=from_step, session_log=SessionLog(status=SessionLog.START)))

    def write(self, key_values: Mapping[str, Any], key_excluded: Mapping[str, tuple[str, ...]], step: int = 0) -> None:
        """Write every number that is not excluded from TensorBoard. Raises OSError."""
        values = [
            Summary.Value(tag=key, simple_value=float(value))
            for key, value in sorted(key_values.items())
            if _NAME not in key_excluded.get(key, ())
        ]
        self._write(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time_ns() / 1e9
        self._records.write(event.SerializeToString())
