"""Reading a directory store: frames by number or offset, out of its segments.

Owns iteration. Which segments there are and how far they may be read is the subclass's to say (`_view`): the reader's
is what it finds on the disk, the writer's what is durable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ensemble.errors import LogCorrupt, OffsetError, Unavailable
from ensemble.event import Frame, Past
from ensemble.log import snapshots
from ensemble.log.base import Fork, Position, Snapshot
from ensemble.log.chain import follow
from ensemble.log.files import corrupt
from ensemble.log.frame import Header, decode
from ensemble.log.group import RECORD_BYTES
from ensemble.log.manifest import Manifest
from ensemble.log.recovery import check_group
from ensemble.log.segment import Damage, Segment, Window, walk_headers


class View(NamedTuple):
    """What can be read at a moment. No segment is empty; each is whole but the last, which is read up to `stop`."""

    segments: Sequence[Segment]
    stop: int
    end: Position

    def stop_of(self, ix: int) -> int:
        return self.stop if ix + 1 == len(self.segments) else self.segments[ix].whole


class DirectoryFrames(ABC):
    """The reading half of a directory store, over whatever view a subclass gives."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self._manifest = manifest
        self._shard = folder / "shard-0"
        self._is_closed = False

    @abstractmethod
    def _view(self) -> View:
        """What can be read now."""

    @property
    def id(self) -> str:
        return self._manifest.id

    @property
    def name(self) -> str:
        return self._manifest.name

    @property
    def shard(self) -> int:
        return self._manifest.shard

    @property
    def fork(self) -> Fork | None:
        return self._manifest.fork

    @property
    def past(self) -> Past:
        return ()

    def begin(self) -> Position:
        self._refuse_closed()
        return self._manifest.begin

    def end(self) -> Position:
        return self._open_view().end

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        view = self._open_view()
        if seq >= view.end.seq:
            return iter(())
        first = max(seq, self._manifest.begin.seq)
        ix = bisect_right(view.segments, first, key=lambda segment: segment.seq) - 1
        return self._read(view, ix, lambda segment: segment.place_of_seq(first), lambda header: header.seq >= first)

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        view = self._open_view()
        begin, end = self._manifest.begin.offset, view.end.offset
        if not begin <= offset <= end:
            raise OffsetError(f"log {self.folder}: offset {offset} lies outside; it has the offsets {begin} to {end - 1}")
        if offset == end:
            return iter(())
        ix = bisect_right(view.segments, offset, key=lambda segment: segment.first) - 1
        return self._read(
            view, ix, lambda segment: segment.place_of_offset(offset), lambda header: header.events > 0 and header.end > offset
        )

    def frame_at(self, offset: int) -> Frame:
        begin, end = self._manifest.begin.offset, self._open_view().end.offset
        if not begin <= offset < end:
            raise OffsetError(f"log {self.folder}: there is no event {offset}; it has the offsets {begin} to {end - 1}")
        return next(self.rows(offset))

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        self._refuse_closed()
        found = (kept.snapshot for kept in snapshots.whole(self._shard, self.id))
        return next((snapshot for snapshot in found if upto is None or snapshot.at.seq <= upto), None)

    def size_bytes(self) -> int:
        view = self._open_view()
        return sum(view.stop_of(ix) for ix in range(len(view.segments)))

    def requests(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        self._is_closed = True

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise Unavailable(f"log {self.folder}: it was closed; open it again")

    def _open_view(self) -> View:
        self._refuse_closed()
        return self._view()

    def _read(
        self,
        view: View,
        first: int,
        lookup: Callable[[Segment], tuple[int, int]],
        wanted: Callable[[Header], bool],
    ) -> Iterator[Frame]:
        """The wanted frames from the segment with index `first` on, each checked against the one before it."""
        at: Position | None = None
        for ix in range(first, len(view.segments)):
            segment, stop = view.segments[ix], view.stop_of(ix)
            try:
                start, seq = lookup(segment) if ix == first else (0, segment.seq)
                if at is not None and at.seq != seq:
                    raise Damage(segment.path, 0, f"the segment with frame {at.seq} is missing before this one")
                with Window(segment.path, stop) as window:
                    for place, header in walk_headers(window, start, stop, segment.end_seq):
                        # What is passed over is only counted; but damage that would lead astray breaks the count.
                        if at is not None and (header.seq, header.first) != (at.seq, at.offset):
                            why = f"frame {at.seq} at offset {at.offset} should be here, frame {header.seq} is"
                            raise Damage(segment.path, place, why)
                        if not wanted(header):
                            at = _unseen(header)
                            continue
                        data = window.frame(place, header)
                        try:
                            at = follow(_before(at, header, self._manifest.begin), header, data)
                            frame = decode(data, self.id, self.shard, is_checked=True)
                        except LogCorrupt as error:
                            raise Damage(segment.path, place, error) from error
                        yield frame
            except Damage as damage:
                raise self._blame(damage, segment, stop) from damage

    def _blame(self, damage: Damage, segment: Segment, stop: int) -> LogCorrupt:
        """The error for damage that was met, with the place where it begins: headers may have led astray before."""
        with Window(segment.path, stop) as window:
            place, at, epoch = 0, None, 0
            while place < damage.place:
                try:
                    record, at, epoch = check_group(window, place, at, epoch)
                except Damage as first:
                    return corrupt(first.path, first.place, first.why)
                place += RECORD_BYTES + record.length
        return corrupt(damage.path, damage.place, damage.why)


UNSEEN = b""
"""The hash of a frame that was passed over."""


def _unseen(header: Header) -> Position:
    return Position(header.seq + 1, header.end, UNSEEN, header.time_us)


def _before(at: Position | None, header: Header, begin: Position) -> Position:
    """What the frame must follow, as far as it is known: the first of all, and the one that was read before it."""
    if header.seq == begin.seq:
        return begin
    if at is None:
        return Position(header.seq, header.first, header.prev, header.time_us)
    return at._replace(hash=header.prev) if at.hash == UNSEEN else at
