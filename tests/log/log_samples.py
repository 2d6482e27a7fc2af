"""Frames to keep, and what a log holds as plain data to compare."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ensemble.event import Frame, Rows, encode
from ensemble.log.base import EventLog, LogReader, Position
from ensemble.log.files import Files


def rows(count: int, first: int, **columns: Any) -> Rows:
    """Events of one topic, each the answer to the event as many offsets before it."""
    usual: dict[str, Any] = {
        "topics": ["order.placed"],
        "topic_ix": 0,
        "keys": [f"o-{first + i}" for i in range(count)],
        "data": [encode({"n": first + i}) for i in range(count)],
        "sources": ["/test"],
        "source_ix": 0,
    }
    return Rows(log_id="", shard=0, first=first, time_us=0, **(usual | columns))


def frame(at: Position, count: int = 1, marks: dict[str, Any] | None = None, **columns: Any) -> Frame:
    """A frame that follows this place, with so many events; its content follows from where it stands."""
    told = {"heard": {"p": [at.seq]}} if marks is None else marks
    return Frame(at.offset, at.time_us + 1, rows(count, at.offset, **columns) if count else None, told)


def append(log: EventLog, *groups: Sequence[int]) -> list[list[dict[str, Any]]]:
    """Append groups of frames with so many events each. What each group holds comes back, as plain data."""
    plains = []
    for group in groups:
        at, sealed, told = log.end(), [], []
        for count in group:
            made = frame(at, count)
            sealed.append(log.seal(made))
            at = Position(made.seq + 1, made.end, b"", made.time_us)
            told.append(plain(made))
        log.append(sealed)
        plains.append(told)
    return plains


def plain(kept: Frame) -> dict[str, Any]:
    """A frame as plain data, all columns as lists."""
    told: dict[str, Any] = {"seq": kept.seq, "first": kept.first, "time_us": kept.time_us, "marks": kept.marks}
    held = kept.rows
    if held is not None:
        told["events"] = [(held.topic(i), held.keys[i], held.data[i], held.source(i)) for i in range(len(held))]
        told["refs"] = [None if column is None else list(column) for column in (held.causes, held.roots)]
        told["extras"] = held.extras
    return told


def contents(log: LogReader, seq: int = 0) -> list[dict[str, Any]]:
    return [plain(kept) for kept in log.frames(seq)]


def flat(groups: Iterable[Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [kept for group in groups for kept in group]


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


class Quick(Files):
    """The disk without waiting for it: for tests that open thousands of logs and pull no plug."""

    def sync(self, fd: int) -> None:
        pass

    def sync_folder(self, path: Path) -> None:
        pass


class Plug(BaseException):
    """The plug was pulled: nothing that would clean up may run, so it is no Exception."""


class Failing(Quick):
    """A disk whose operation number `fails_at` fails; a write gets half of its bytes out before.

    `error` is what it raises: an errno, or None: the plug is pulled, and from then on nothing works.
    """

    def __init__(self, fails_at: int, error: int | None) -> None:
        self.fails_at = fails_at
        self.error = error
        self.done = 0

    def _step(self) -> None:
        self.done += 1
        if self.done == self.fails_at or (self.error is None and self.done > self.fails_at):
            if self.error is None:
                raise Plug
            raise OSError(self.error, os.strerror(self.error))

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def open(self, path: Path) -> int:
        self._step()
        return super().open(path)

    def write(self, fd: int, data: bytes, place: int) -> None:
        try:
            self._step()
        except BaseException:
            if self.done == self.fails_at:
                os.pwrite(fd, data[: len(data) // 2], place)
            raise
        super().write(fd, data, place)

    def sync(self, fd: int) -> None:
        self._step()

    def cut(self, fd: int, size: int) -> None:
        self._step()
        super().cut(fd, size)

    def rename(self, old: Path, new: Path) -> None:
        self._step()
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)

    def sync_folder(self, path: Path) -> None:
        self._step()


FULL = errno.ENOSPC
