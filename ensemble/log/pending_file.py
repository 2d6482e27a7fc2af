"""What all shards of a directory store are to get together: one file in it, which is there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ensemble.log import division
from ensemble.log.base import EventLog
from ensemble.log.fence import refuse_older
from ensemble.log.files import Files, refusal
from ensemble.log.pending import PENDING


class PendingFile:
    """See `ensemble.log.pending.Board`."""

    def __init__(self, where: str, folder: Path) -> None:
        self.where = where
        self._folder = folder

    def put(self, data: bytes, logs: Sequence[EventLog]) -> None:
        for log in logs:  # a lock can be lost: fence.py
            refuse_older(division.place(self._folder, log.shard, len(logs)) / "shard-0", log.epoch)
        try:
            Files().replace(self._folder / PENDING, data)
        except OSError as error:
            raise refusal(f"store {self.where}: what its shards are to get can't be written", error) from error

    def holding(self) -> Iterator[tuple[str, bytes]]:
        path = self._folder / PENDING
        try:
            yield PENDING, path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise refusal(f"{path}: can't be read", error) from error

    def remove(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise refusal(f"store {self.where}: {name} can't be removed", error) from error
