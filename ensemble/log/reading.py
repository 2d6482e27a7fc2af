"""Reading a directory store: frames by number or offset, out of its segments.

Owns iteration. Which segments there are and how far they may be read is the subclass's to say (`_view`): the reader's
is what it finds on the disk, the writer's what is durable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from ensemble.errors import LogCorrupt, OffsetError, Unavailable
from ensemble.event import REMOVED, Frame, Past
from ensemble.log import snapshots
from ensemble.log.base import Fork, Position, Snapshot
from ensemble.log.chain import follow
from ensemble.log.files import Gone, corrupt
from ensemble.log.frame import Header, decode
from ensemble.log.group import RECORD_BYTES
from ensemble.log.manifest import Manifest
from ensemble.log.pack import Item, Pack, decode_item, gone
from ensemble.log.pieces import Piece
from ensemble.log.recovery import check_group
from ensemble.log.segment import Damage, Segment, Window, walk_headers

T = TypeVar("T")

LOOKS_MOST = 3
"""How often something is looked up anew, since what it lay in was written anew meanwhile."""


class View(NamedTuple):
    """What can be read at a moment. No segment is empty; each is whole but the last, which is read up to `stop`."""

    segments: Sequence[Piece]
    stop: int
    end: Position

    def stop_of(self, ix: int) -> int:
        return self.stop if ix + 1 == len(self.segments) else self.segments[ix].whole


class DirectoryFrames(ABC):
    """The reading half of a directory store, over whatever view a subclass gives."""

    def __init__(self, folder: Path, manifest: Manifest, where: str = "") -> None:
        self.folder = folder
        self._where = where or str(folder)
        """For sentences about it."""
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
        return self._begins(self._open_view())

    def base(self) -> Snapshot | None:
        return self._again(self._base)

    def end(self) -> Position:
        return self._open_view().end

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        view = self._open_view()
        seq = max(seq, self._begins(view).seq)
        if seq >= view.end.seq:
            return iter(())
        return self._read(view, seq, None, lambda header: header.seq >= seq)

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        view = self._open_view()
        begin, end = self._manifest.begin.offset, view.end.offset
        if not 0 <= offset <= end:
            raise OffsetError(f"log {self._where}: offset {offset} lies outside; it has the offsets {begin} to {end - 1}")
        offset = max(offset, self._begins(view).offset)
        if offset == end:
            return iter(())
        return self._read(view, None, offset, lambda header: header.events > 0 and header.end > offset)

    def frame_at(self, offset: int) -> Frame:
        begin, end = self._manifest.begin.offset, self._open_view().end.offset
        if not begin <= offset < end:
            raise OffsetError(f"log {self._where}: there is no event {offset}; it has the offsets {begin} to {end - 1}")
        return self._again(lambda view: self._frame_at(view, offset))

    def _frame_at(self, view: View, offset: int) -> Frame:
        begin = self._begins(view).offset
        frame = next(self.rows(offset)) if offset >= begin else self._past(view, offset)
        if frame is not None and frame.first <= offset:
            rows = frame.rows
            assert rows is not None
            if frame.removed is None or rows.filed(offset - frame.first) != REMOVED:
                return frame
        pack = view.segments[bisect_right(view.segments, offset, key=lambda piece: piece.first) - 1]
        raise gone(self._where, offset, pack if isinstance(pack, Pack) else None, begin)

    def _past(self, view: View, offset: int) -> Frame | None:
        """The frame that holds this offset, of those before the place at which the log begins; None: it is gone."""
        pack = view.segments[0]
        assert isinstance(pack, Pack)
        try:
            for item in pack.items(offset=offset):
                if item.header.first <= offset < item.header.end:
                    return decode_item(item, self.id, self.shard)
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage
        return None

    def _begins(self, view: View) -> Position:
        first = view.segments[0] if view.segments else None
        if isinstance(first, Pack) and first.is_past:
            return first.end
        return self._manifest.begin

    def _base(self, view: View) -> Snapshot | None:
        first = view.segments[0] if view.segments else None
        if not isinstance(first, Pack):
            return None
        try:
            state = first.state()
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage
        return None if state is None else Snapshot(first.end, state)

    def _again(self, look: Callable[[View], T]) -> T:
        """What `look` finds; once more where a file was written anew meanwhile."""
        for _ in range(LOOKS_MOST):
            try:
                return look(self._open_view())
            except Gone:
                pass
        return look(self._open_view())

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        self._refuse_closed()
        found = (kept.snapshot for kept in snapshots.whole(self._shard, self.id))
        newest = next((snapshot for snapshot in found if upto is None or snapshot.at.seq <= upto), None)
        if newest is None:
            base = self.base()
            return base if base is None or upto is None or base.at.seq <= upto else None
        return newest

    def forgotten(self) -> int:
        return 0

    def size_bytes(self) -> int:
        view = self._open_view()
        return sum(view.stop_of(ix) for ix in range(len(view.segments)))

    def requests(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        self._is_closed = True

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise Unavailable(f"log {self._where}: it was closed; open it again")

    def _open_view(self) -> View:
        self._refuse_closed()
        return self._view()

    def _read(self, view: View, seq: int | None, offset: int | None, wanted: Callable[[Header], bool]) -> Iterator[Frame]:
        """The wanted frames, from the one with this number or offset on, each checked against the one before it."""
        stop = view.end.seq
        at: Position | None = None
        while True:
            try:
                for place, frame in self._walk(view, seq, offset, at, wanted):
                    if place.seq > stop:
                        return
                    at = place
                    yield frame
                return
            except (Damage, Gone) as found:
                now = self._open_view()
                is_same = [each.path for each in now.segments] == [each.path for each in view.segments]
                if is_same or now.end.seq < stop:
                    if isinstance(found, Gone):
                        raise
                    raise self._blame(found, view) from found
                view, begin = now, self._begins(now)  # what was being read was written anew: on with that
                if at is not None:
                    seq, offset = at.seq, None
                if seq is None:
                    offset = max(offset or 0, begin.offset)
                elif seq < begin.seq:
                    seq, at = begin.seq, None

    def _walk(
        self, view: View, seq: int | None, offset: int | None, at: Position | None, wanted: Callable[[Header], bool]
    ) -> Iterator[tuple[Position, Frame]]:
        """The wanted frames of a view, each with the place after it. `at` is the place before the first, if that is known.

        Errors: Damage; Gone.
        """
        pieces = view.segments
        if seq is not None:
            start = bisect_right(pieces, seq, key=lambda piece: piece.seq) - 1
        else:
            assert offset is not None
            start = bisect_right(pieces, offset, key=lambda piece: piece.first) - 1
        for ix in range(start, len(pieces)):
            piece, stop = pieces[ix], view.stop_of(ix)
            is_first = ix == start
            if not is_first and at is not None and at.seq != piece.seq:
                raise Damage(piece.path, 0, f"the segment with frame {at.seq} is missing before this one")
            if isinstance(piece, Pack):
                if not is_first and at is not None and at.hash != UNSEEN and at != piece.begin:
                    raise Damage(piece.path, 0, f"this pack does not follow frame {at.seq - 1}")
                for item in piece.items(*((seq or 0, offset or 0) if is_first else ())):
                    if wanted(item.header) and (at is None or item.header.seq >= at.seq):
                        yield item.after, self._decoded(piece, item)
                at = piece.end
                continue
            place, number = (0, piece.seq) if not is_first else _lookup(piece, seq, offset)
            if is_first and at is not None and number != at.seq:
                resumed, at = at, None  # the walk begins a little before the place at which it goes on
            else:
                resumed = None
            with Window(piece.path, stop) as window:
                for byte, header in walk_headers(window, place, stop, piece.end_seq):
                    if resumed is not None and header.seq == resumed.seq:
                        at, resumed = resumed, None
                    # What is passed over is only counted; but damage that would lead astray breaks the count.
                    if at is not None and (header.seq, header.first) != (at.seq, at.offset):
                        why = f"frame {at.seq} at offset {at.offset} should be here, frame {header.seq} is"
                        raise Damage(piece.path, byte, why)
                    if resumed is not None or not wanted(header):
                        at = _unseen(header) if resumed is None else None
                        continue
                    data = window.frame(byte, header)
                    try:
                        at = follow(_before(at, header, self._manifest.begin), header, data)
                        frame = decode(data, self.id, self.shard, is_checked=True)
                    except LogCorrupt as error:
                        raise Damage(piece.path, byte, error) from error
                    yield at, frame

    def _decoded(self, pack: Pack, item: Item) -> Frame:
        try:
            return decode_item(item, self.id, self.shard)
        except LogCorrupt as error:
            raise Damage(pack.path, 0, error) from error

    def _blame(self, damage: Damage, view: View) -> LogCorrupt:
        """The error for damage that was met, with the place where it begins: headers may have led astray before."""
        ix = next((ix for ix, piece in enumerate(view.segments) if piece.path == damage.path), None)
        if ix is None or isinstance(view.segments[ix], Pack):
            return corrupt(damage.path, damage.place, damage.why)
        with Window(view.segments[ix].path, view.stop_of(ix)) as window:
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


def _lookup(segment: Segment, seq: int | None, offset: int | None) -> tuple[int, int]:
    """Where to begin to walk for a frame with this number, or that holds this offset, and the number of the frame there."""
    if seq is not None:
        return segment.place_of_seq(seq)
    assert offset is not None
    return segment.place_of_offset(offset)
