"""A layer around a log, to read: the log itself, but for what a layer does in another way.

Owns that nothing of a `LogReader` is left out between a layer and what it is around. Knows no layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ensemble.event import Frame, Past
from ensemble.log.base import Fork, LogReader, Position, Snapshot


class Layer:
    """See `ensemble.log.base.LogReader`. Closing it closes the log."""

    def __init__(self, log: LogReader) -> None:
        self._log = log

    @property
    def id(self) -> str:
        return self._log.id

    @property
    def name(self) -> str:
        return self._log.name

    @property
    def shard(self) -> int:
        return self._log.shard

    @property
    def fork(self) -> Fork | None:
        return self._log.fork

    @property
    def past(self) -> Past:
        return self._log.past

    def begin(self) -> Position:
        return self._log.begin()

    def base(self) -> Snapshot | None:
        return self._log.base()

    def end(self) -> Position:
        return self._log.end()

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        return self._log.frames(seq)

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        return self._log.rows(offset)

    def frame_at(self, offset: int) -> Frame:
        return self._log.frame_at(offset)

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        return self._log.snapshot(upto)

    def forgotten(self) -> int:
        return self._log.forgotten()

    def size_bytes(self) -> int:
        return self._log.size_bytes()

    def requests(self) -> Mapping[str, int]:
        return self._log.requests()

    def close(self) -> None:
        self._log.close()
