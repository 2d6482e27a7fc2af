"""Reading a log of objects: what of it is known, and frames by number or offset.

Owns the index of groups and the checking of what is read. How the log comes to be known is the subclass's: a reader follows it,
the writer knows what it wrote. Lists only grow, and `View` counts what is there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator
from threading import Lock
from typing import NamedTuple

from ensemble.errors import LogCorrupt, OffsetError, Unavailable
from ensemble.event import Frame, Past
from ensemble.log.base import Fork, Position, Snapshot
from ensemble.log.chain import follow
from ensemble.log.frame import Header, check, decode, peek
from ensemble.log.group import RECORD_BYTES, peek_record
from ensemble.log.objects import codec
from ensemble.log.objects.codec import Groups, Kept, Manifest
from ensemble.log.objects.protocol import Entry, Follow, Name, Seen
from ensemble.log.objects.store import Objects

AHEAD = 16
"""So many entries are fetched at once by who reads on and on."""

RECENT_BYTES = 16 * 1024 * 1024
"""The newest groups are kept in memory: who hears what was just said asks no store."""


class View(NamedTuple):
    """What can be read at a moment: so many groups, up to there."""

    groups: int
    end: Position


class ObjectFrames(ABC):
    """The reading half, over whatever view a subclass gives."""

    def __init__(self, objects: Objects, manifest: Manifest) -> None:
        self.objects = objects
        self.notes: list[str] = []
        self._manifest = manifest
        self._is_closed = False
        self._groups = Groups([], [], [], [])
        self._recent: dict[int, bytes] = {}
        self._recent_bytes = 0
        self._number = 0
        self._epoch = 0
        self._known: Position | None = None
        self._end: Position | None = manifest.begin
        kept = newest_snapshot(objects, self.id, self.notes)
        if kept is not None:
            self._known = kept.snapshot.at
            self._end = kept.snapshot.at if kept.begins == kept.snapshot.at.seq else None
            self._number, self._epoch, self._groups = kept.number, kept.epoch, kept.groups

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
        ix = bisect_right(self._groups.seqs, first, 0, view.groups) - 1
        return self._read(view, ix, lambda header: header.seq >= first)

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        view = self._open_view()
        begin, end = self._manifest.begin.offset, view.end.offset
        if not begin <= offset <= end:
            raise OffsetError(
                f"log {self.objects.where}: offset {offset} lies outside; it has the offsets {begin} to {end - 1}"
            )
        return self._rows(view, offset) if offset < end else iter(())

    def frame_at(self, offset: int) -> Frame:
        view = self._open_view()
        begin, end = self._manifest.begin.offset, view.end.offset
        if not begin <= offset < end:
            raise OffsetError(f"log {self.objects.where}: there is no event {offset}; it has the offsets {begin} to {end - 1}")
        return next(self._rows(view, offset, ahead=1))

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        self._refuse_closed()
        kept = newest_snapshot(self.objects, self.id, upto=upto)
        return None if kept is None else kept.snapshot

    def size_bytes(self) -> int:
        return sum(self._groups.sizes[: self._open_view().groups])

    def close(self) -> None:
        self._is_closed = True

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise Unavailable(f"log {self.objects.where}: it was closed; open it again")

    def _open_view(self) -> View:
        self._refuse_closed()
        return self._view()

    def _rows(self, view: View, offset: int, ahead: int = AHEAD) -> Iterator[Frame]:
        ix = bisect_right(self._groups.firsts, offset, 0, view.groups) - 1
        return self._read(view, ix, lambda header: header.events > 0 and header.end > offset, ahead)

    def _read(self, view: View, first: int, wanted: Callable[[Header], bool], ahead: int = AHEAD) -> Iterator[Frame]:
        """The wanted frames from the group with this index on, each checked against the one before it."""
        numbers, fetched = self._groups.numbers, dict[int, bytes]()
        at: Position | None = None
        for ix in range(first, view.groups):
            number = numbers[ix]
            body = fetched.pop(number, None) or self._recent.get(number)
            if body is None:
                fetched = self._fetch(number, min(number + ahead, numbers[view.groups - 1] + 1))
                body = fetched.pop(number)
            if at is None:
                header = peek(body, RECORD_BYTES)
                at = Position(self._groups.seqs[ix], self._groups.firsts[ix], header.prev, header.time_us)
            for header, data, after in self._frames_of(number, body, at):
                at = after
                if wanted(header):
                    yield decode(data, self.id, self.shard, is_checked=True)

    def _fetch(self, number: int, until: int) -> dict[int, bytes]:
        """The bodies of entries from this one on, to `until` or the end of a block; at least that of the first."""
        step: Follow | Seen = Follow(number, self._manifest.block, until=until)
        while isinstance(step, Follow):
            step = step.told(self.objects.ask(step))
        if not step.entries:
            raise self._corrupt(number, "this entry was there, and is not any more")
        return {number + i: entry.body for i, entry in enumerate(step.entries)}

    def _frames_of(self, number: int, body: bytes, at: Position) -> Iterator[tuple[Header, bytes, Position]]:
        """Each frame of a group with the place after it. LogCorrupt."""
        record = peek_record(body)
        if record is None or RECORD_BYTES + record.length != len(body):
            raise self._corrupt(number, "no whole group is in it")
        byte = RECORD_BYTES
        try:
            for _ in range(record.frames):
                header = peek(body, byte)
                data = body[byte : byte + header.length]
                check(data)
                at = follow(at, header, data)
                yield header, data, at
                byte += header.length
        except LogCorrupt as error:
            raise self._corrupt(number, str(error)) from error
        if byte != len(body):
            raise self._corrupt(number, f"the group's frames end at byte {byte}, the group at {len(body)}")

    def _take(self, entries: tuple[Entry, ...]) -> None:
        """Take in the entries that come next, after checking them. LogCorrupt."""
        for entry in entries:
            number = self._number
            if entry.is_begin:
                if entry.epoch <= self._epoch:
                    raise self._corrupt(number, f"epoch {entry.epoch} begins here after epoch {self._epoch}")
            else:
                if entry.epoch != self._epoch and self._epoch:  # 0: a snapshot inside a group does not say
                    raise self._corrupt(number, f"it is of epoch {entry.epoch}; epoch {self._epoch} had begun")
                self._take_group(number, entry)
            self._epoch = entry.epoch
            self._number = number + 1

    def _take_group(self, number: int, entry: Entry) -> None:
        header = peek(entry.body, RECORD_BYTES)
        at = self._end or Position(header.seq, header.first, header.prev, header.time_us)
        self._refuse_other(number, at)
        for frame, _, after in self._frames_of(number, entry.body, at):
            if frame.epoch != entry.epoch:
                raise self._corrupt(number, f"frame {frame.seq} is of epoch {frame.epoch}, the entry of {entry.epoch}")
            at = after
            self._refuse_other(number, at)
        self._note(number, entry.body, at)

    def _note(self, number: int, body: bytes, end: Position) -> None:
        """This group is known now. The place last: whoever sees it sees the group."""
        header = peek(body, RECORD_BYTES)
        for column, value in zip(self._groups, (number, header.seq, header.first, len(body)), strict=True):
            column.append(value)
        self._recent[number] = body
        self._recent_bytes += len(body)
        while self._recent_bytes > RECENT_BYTES and len(self._recent) > 1:
            self._recent_bytes -= len(self._recent.pop(next(iter(self._recent))))
        self._end = end

    def _refuse_other(self, number: int, at: Position) -> None:
        known = self._known
        if known is not None and at.seq == known.seq and at[:3] != known[:3]:
            raise self._corrupt(number, f"the frames before frame {at.seq} are not those of which a snapshot was kept")

    def _whole(self) -> View:
        """What is known, once the log was read to its end. LogCorrupt."""
        end, known = self._end, self._known
        if end is None or (known is not None and end.seq < known.seq):
            assert known is not None, "without a snapshot the beginning is known"
            raise self._corrupt(self._number, f"the log ends here, but a snapshot was kept of frame {known.seq}")
        return View(len(self._groups.numbers), end)

    def _corrupt(self, number: int, why: str) -> LogCorrupt:
        return LogCorrupt(f"{self.objects.where}/{self.objects.path(Name('entry', number))}: byte 0: {why}")


class ObjectReader(ObjectFrames):
    """The log as it is in the store whenever it is asked."""

    def __init__(self, objects: Objects, manifest: Manifest) -> None:
        super().__init__(objects, manifest)
        self._lock = Lock()

    def _view(self) -> View:
        with self._lock:
            while True:
                step: Follow | Seen = Follow(self._number, self._manifest.block)
                while isinstance(step, Follow):
                    step = step.told(self.objects.ask(step))
                self._take(step.entries)
                if step.is_end:
                    return self._whole()


def newest_snapshot(
    objects: Objects, log_id: str, notes: list[str] | None = None, *, upto: int | None = None
) -> Kept | None:
    """The newest snapshot that is whole, of a place before frame `upto` if that is given.

    Those that are not whole are passed over, and said in `notes`. Unavailable.
    """
    for path in reversed(objects.patiently(lambda: objects.list("snapshots")) or []):
        if upto is not None and int(path.rpartition("/")[2]) > upto:
            continue
        data = objects.patiently(lambda path=path: objects.get(path))  # type: ignore[misc]
        if data is None:  # the writer drops the oldest
            continue
        try:
            kept = codec.decode_snapshot(f"{objects.where}/{path}", data, log_id)
            if upto is None or kept.snapshot.at.seq <= upto:
                return kept
        except LogCorrupt as error:
            if notes is not None:
                notes.append(f"{error}; this snapshot was passed over")
    return None
