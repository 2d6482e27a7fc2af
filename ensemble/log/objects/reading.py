"""Reading a log of objects: what of it is known, and frames by number or offset.

Owns what was taken in of the log, and the checking of what is read. How the log comes to be known is the subclass's: a reader
follows it, the writer knows what it wrote. What is known only grows, and a `View` says how far it may be read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from threading import Lock
from typing import NamedTuple

from ensemble.errors import LogCorrupt, OffsetError, Unavailable
from ensemble.event import REMOVED, Frame, Past
from ensemble.log.base import Fork, Position, Snapshot
from ensemble.log.chain import follow
from ensemble.log.files import Gone, corrupt
from ensemble.log.frame import Header, check, decode, peek
from ensemble.log.group import RECORD_BYTES, peek_record
from ensemble.log.objects import codec
from ensemble.log.objects.codec import Kept, Manifest
from ensemble.log.objects.index import Index, Spot
from ensemble.log.objects.packs import ObjectPack, Packs
from ensemble.log.objects.protocol import Entry, Follow, Log, Seen
from ensemble.log.objects.store import BESIDE, Objects
from ensemble.log.pack import decode_item, gone
from ensemble.log.segment import Damage

RECENT_BYTES = 16 * 1024 * 1024
"""The newest entries are kept in memory: who hears what was just said asks no store."""

UNTOLD = b"{}"
"""Stands for what the beginning says that was packed: somebody may play."""

BESIDE_BYTES = 8 * 1024 * 1024
"""About so much is got at a time of what is not recent."""


class View(NamedTuple):
    """What can be read at a moment: so many entries, up to there, so many bytes of groups."""

    number: int
    end: Position
    size: int


class ObjectFrames(ABC):
    """The reading half, over whatever view a subclass gives."""

    def __init__(self, objects: Objects, manifest: Manifest) -> None:
        self.objects = objects
        self.notes: list[str] = []
        self._manifest = manifest
        self._log = manifest.log
        self._packs = Packs(objects, self._log, manifest.shard)
        self._is_closed = False
        self._recent: dict[int, Entry] = {}
        self._recent_bytes = 0
        self._held: tuple[int, tuple[Entry, ...]] = (0, ())
        """What was got last of what is not recent, from an entry on."""
        self._number = 0
        self._epoch = 0
        self._merged = 0
        """The blocks before this one are segments, or need to be none, as far as is known."""
        self._unmerged: list[int] = []
        """Blocks that were whole, and had no segment, when they were taken in."""
        self._known: Position | None = None
        self._end: Position | None = manifest.begin
        self._saved = snapshots_of(objects, self.id)
        self._kept = newest_snapshot(objects, self.id, self._saved, notes=self.notes)
        self._asked: Mapping[str, int] = {}
        self._holder: bytes | None = None
        """What the last beginning says, if its writer has not put an end to it."""
        kept = self._kept
        if kept is None:
            self._index = Index(self._log.block)
            return
        self._index = Index(self._log.block, kept.blocks, kept.size)
        self._known = kept.snapshot.at
        self._end = kept.snapshot.at if kept.begins == kept.snapshot.at.seq else None
        self._number, self._epoch, self._merged, self._asked = kept.number, kept.epoch, kept.merged, kept.requests
        self._holder = kept.holder

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
        past = self._open_packs().past()
        return self._manifest.begin if past is None else past.end

    def base(self) -> Snapshot | None:
        while True:
            past = self._open_packs().past()
            try:
                state = None if past is None else past.state()
                return None if past is None or state is None else Snapshot(past.end, state)
            except Gone:
                self._packs.forget()
            except Damage as damage:
                raise corrupt(damage.path, damage.place, damage.why) from damage

    def end(self) -> Position:
        return self._open_view().end

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        view = self._open_view()
        seq = max(seq, self._known_begin().seq)
        if seq >= view.end.seq:
            return iter(())
        return self._read(view, self._index.of_seq(seq), lambda header: header.seq >= seq, seq=seq)

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        view = self._open_view()
        begin, end = self._manifest.begin.offset, view.end.offset
        if not 0 <= offset <= end:
            raise OffsetError(
                f"log {self.objects.where}: offset {offset} lies outside; it has the offsets {begin} to {end - 1}"
            )
        return self._rows(view, max(offset, begin)) if offset < end else iter(())

    def frame_at(self, offset: int) -> Frame:
        view = self._open_view()
        begin, end = self._manifest.begin.offset, view.end.offset
        if not begin <= offset < end:
            raise OffsetError(f"log {self.objects.where}: there is no event {offset}; it has the offsets {begin} to {end - 1}")
        frame = next(self._rows(view, offset, is_alone=True), None)
        if frame is None or frame.first > offset:
            frame = self._past_frame(offset)
        if frame is not None and (frame.rows is None or frame.rows.filed(offset - frame.first) != REMOVED):
            return frame
        pack = self._packs.of(self._index.of_offset(offset).number // self._log.block)
        raise gone(self.objects.where, offset, pack, self._known_begin().offset)

    def _past_frame(self, offset: int) -> Frame | None:
        """The frame that holds this offset, of those before the place at which the log begins; None: it is gone."""
        while True:
            past = self._packs.past()
            try:
                for item in () if past is None else past.items(offset=offset):
                    if item.header.first <= offset < item.header.end:
                        return decode_item(item, self.id, self.shard)
                return None
            except Gone:
                self._packs.forget()
            except Damage as damage:
                raise corrupt(damage.path, damage.place, damage.why) from damage

    def _known_begin(self) -> Position:
        """Where the log begins, as far as is known: what went since is met where it is read."""
        past = self._packs.known_past()
        return self._manifest.begin if past is None else past.end

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        self._refuse_closed()
        # The one that was got when this was made is given once, if it is still the newest; its state may be large.
        known, self._kept = self._kept, None
        kept = newest_snapshot(self.objects, self.id, snapshots_of(self.objects, self.id), known, upto=upto)
        if kept is None:
            base = self.base()
            return base if base is None or upto is None or base.at.seq <= upto else None
        return kept.snapshot

    def forgotten(self) -> int:
        return 0

    def size_bytes(self) -> int:
        size, index = self._open_view().size, self._index
        own, past = self._packs.all(), self._packs.past()
        for first, end, name in [
            *([] if past is None else [(0, past.end_block, past.name)]),
            *((block, block + 1, name) for block, name in own.items()),
        ]:
            if end < index.blocks:  # else it was packed since
                size += self._packs.size(name) - (index.place(end).size - index.place(first).size)
        return size

    def close(self) -> None:
        self._is_closed = True
        self.objects.close()

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise Unavailable(f"log {self.objects.where}: it was closed; open it again")

    def _open_view(self) -> View:
        self._refuse_closed()
        return self._view()

    def _open_packs(self) -> Packs:
        """What is known of packs, as of now."""
        self._refuse_closed()
        return self._packs

    # Reading what is known

    def _rows(self, view: View, offset: int, *, is_alone: bool = False) -> Iterator[Frame]:
        offset = max(offset, self._known_begin().offset)
        spot = self._index.of_offset(offset)
        wanted: Callable[[Header], bool] = lambda header: header.events > 0 and header.end > offset  # noqa: E731
        return self._read(view, spot, wanted, offset=offset, is_alone=is_alone)

    def _read(
        self,
        view: View,
        spot: Spot,
        wanted: Callable[[Header], bool],
        *,
        seq: int = 0,
        offset: int = 0,
        is_alone: bool = False,
    ) -> Iterator[Frame]:
        """The wanted frames from this spot on, each checked against the one before it; none of what is past.

        The first that is wanted has this number, or holds this offset.
        """
        at: Position | None = None
        number = spot.number
        while number < view.number:
            try:
                for place, piece in self._pieces(number, view.number, is_alone=is_alone):
                    number = place
                    if isinstance(piece, ObjectPack):
                        self._refuse_gap(piece, at)
                        for item in () if piece.is_past else piece.items(*((seq, offset) if at is None else (at.seq, 0))):
                            if item.header.seq >= view.end.seq:
                                return
                            if at is None or item.header.seq >= at.seq:
                                at = item.after
                                if wanted(item.header):
                                    yield decode_item(item, self.id, self.shard)
                        at = piece.end
                        continue
                    if not piece.is_group:
                        continue
                    if at is None:
                        header = self._first(number, piece.body)
                        at = Position(spot.seq, spot.first, header.prev, header.time_us)
                    for header, data, after in self._frames_of(number, piece.body, at):
                        at = after
                        if wanted(header):
                            yield decode(data, self.id, self.shard, is_checked=True)
                return
            except Gone:  # what was being read was written anew: on with that
                self._packs.forget()
            except Damage as damage:
                raise corrupt(damage.path, damage.place, damage.why) from damage

    def _refuse_gap(self, pack: ObjectPack, at: Position | None) -> None:
        """Nothing, if a pack goes on from this place, or reaches beyond it. Damage."""
        if at is not None and (at.seq > pack.end_seq or (at.seq == pack.seq and at != pack.begin)):
            raise Damage(pack.path, 0, f"this pack does not follow frame {at.seq - 1}")

    def _pieces(self, number: int, until: int, *, is_alone: bool = False) -> Iterator[tuple[int, Entry | ObjectPack]]:
        """Entries from this one on, and packs where they were packed, each by the first entry that is not seen yet.

        Those to come are got while these are looked at, unless only few are wanted.
        """
        coming: tuple[int, Future[Seen]] | None = None
        is_packed = False
        while number < until:
            pack = self._packs.of(number // self._log.block) if is_packed else self._pack_of(number)
            if pack is None and is_packed:
                raise self._corrupt(number, "its entries were packed, and no pack holds them: a pack is missing")
            is_packed = False
            if pack is not None:
                yield number, pack
                number, coming = pack.end_block * self._log.block, None
                continue
            end = min(until, self._log.end_of_block(number))
            while number < end:
                entry = self._recent.get(number)
                if entry is None:
                    start, run = self._held
                    if not start <= number < start + len(run):
                        self._refuse_closed()
                        # Who asks for frames one by one, and goes on where he was, is given more at a time.
                        wide = 1 if is_alone and number != start + len(run) else self._wide()
                        is_coming = coming is not None and coming[0] == number
                        step = self._step(number, until, wide)
                        seen = coming[1].result() if coming and is_coming else self.objects.follow(step)
                        if seen.is_packed:  # since it was asked
                            self._packs.forget()
                            is_packed, coming = True, None
                            break
                        if not seen.entries:
                            raise self._corrupt(number, "this entry was there, and is not any more")
                        self._held = start, run = number, seen.entries
                        after, coming = number + len(run), None
                        if not is_alone and after < until and after not in self._recent:
                            coming = after, self.objects.ahead(self._step(after, until, self._wide()))
                    entry = run[number - start]
                yield number, entry
                number += 1

    def _pack_of(self, number: int) -> ObjectPack | None:
        """The pack that holds an entry; None: it was not packed, as far as is known. Unavailable; LogCorrupt."""
        if self._log.end_of_block(number) >= self._number:
            return None
        return self._packs.of(number // self._log.block)

    def _wide(self) -> int:
        """How many entries to get at a time, by how large they are."""
        return max(1, min(BESIDE, BESIDE_BYTES * max(1, self._number) // max(1, self._index.size)))

    def _step(self, number: int, until: int, wide: int) -> Follow:
        is_merged = number // self._log.block < self._merged
        return Follow(number, self._log, phase="segment" if is_merged else "read", until=min(until, number + wide))

    def _first(self, number: int, body: bytes) -> Header:
        """The first frame of a group. LogCorrupt."""
        try:
            return peek(body, RECORD_BYTES)
        except LogCorrupt as error:
            raise self._corrupt(number, str(error)) from error

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

    # Coming to know more

    def _catch_up(self) -> View:
        """Take in what the log has more, to its end as of now. LogCorrupt; Unavailable."""
        coming: Future[Seen] | None = None
        while True:
            seen = self.objects.follow(Follow(self._number, self._log)) if coming is None else coming.result()
            coming = None
            if seen.is_packed:
                self._take_pack()
                continue
            if seen.is_merged:  # then the next block may be, too
                number = self._number + len(seen.entries)
                coming = self.objects.ahead(Follow(number, self._log, phase="segment"))
            self._take(seen.entries, is_merged=seen.is_merged)
            if seen.is_end:
                return self._whole()

    def _take(self, entries: tuple[Entry, ...], *, is_merged: bool = False) -> None:
        """Take in the entries that come next, of one block, after checking them. LogCorrupt."""
        for entry in entries:
            number = self._number
            if entry.is_begin:
                if entry.epoch <= self._epoch:
                    raise self._corrupt(number, f"epoch {entry.epoch} begins here after epoch {self._epoch}")
                self._note_other(number, entry)
            else:
                if entry.epoch != self._epoch and self._epoch:  # 0: a snapshot inside a group does not say
                    raise self._corrupt(number, f"it is of epoch {entry.epoch}; epoch {self._epoch} had begun")
                if entry.is_group:
                    self._take_group(number, entry)
                else:
                    self._note_other(number, entry)
            self._epoch = entry.epoch
            self._number = number + 1
        if entries and self._number % self._log.block == 0:
            block = self._number // self._log.block - 1
            if is_merged:
                self._merged = max(self._merged, block + 1)
            else:
                self._unmerged.append(block)

    def _take_pack(self) -> None:
        """Take in the pack that holds what comes next, after checking it. LogCorrupt; Unavailable."""
        number, before = self._number, self._end
        while True:
            self._packs.forget()
            pack = self._packs.of(number // self._log.block)
            if pack is None:
                raise self._corrupt(number, "its entries were packed, and no pack holds them: a pack is missing")
            try:
                self._refuse_gap(pack, before)
                for item in pack.items():
                    self._refuse_other(number, item.after)
                break
            except Gone:
                continue
            except Damage as damage:
                raise corrupt(damage.path, damage.place, damage.why) from damage
        self._index.skip(number, pack.end_block, pack.begin, pack.bytes)
        self._refuse_other(number, pack.end)
        self._end, self._number, self._epoch = pack.end, pack.end_block * self._log.block, 0
        self._holder = UNTOLD
        self._merged = max(self._merged, pack.end_block)

    def _take_group(self, number: int, entry: Entry) -> None:
        header = self._first(number, entry.body)
        begin = at = self._end or Position(header.seq, header.first, header.prev, header.time_us)
        self._refuse_other(number, at)
        for frame, _, after in self._frames_of(number, entry.body, at):
            if frame.epoch != entry.epoch:
                raise self._corrupt(number, f"frame {frame.seq} is of epoch {frame.epoch}, the entry of {entry.epoch}")
            at = after
            self._refuse_other(number, at)
        self._note(number, entry, begin, at)

    def _note_other(self, number: int, entry: Entry) -> None:
        """Of a beginning, or an end."""
        assert self._end is not None, "only a group comes where the place is not known"
        self._holder = entry.body or None
        self._note(number, entry, self._end, self._end)

    def _note(self, number: int, entry: Entry, begin: Position, end: Position) -> None:
        """This entry is known now, and what lies between these places. The end last: whoever sees it sees the entry."""
        self._recent[number] = entry
        self._index.note(number, begin, len(entry.body) if entry.is_group else None)
        self._recent_bytes += len(entry.body)
        while self._recent_bytes > RECENT_BYTES and len(self._recent) > 1:
            self._recent_bytes -= len(self._recent.pop(next(iter(self._recent))).body)
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
        return View(self._number, end, self._index.size)

    def _corrupt(self, number: int, why: str) -> LogCorrupt:
        block = number // self._log.block
        name = self._log.segment(block) if block < self._merged else self._log.entry(number)
        return LogCorrupt(f"{self.objects.where}/{self.objects.path(name)}: byte 0: {why}")


class ObjectReader(ObjectFrames):
    """The log as it is in the store whenever it is asked."""

    def __init__(self, objects: Objects, manifest: Manifest) -> None:
        super().__init__(objects, manifest)
        self._lock = Lock()

    def requests(self) -> Mapping[str, int]:
        """What the log's writers had asked of the store, by kind, when the last snapshot was kept that this reader knows of."""
        return self._asked

    def next_entry(self) -> tuple[Log, int, int]:
        """Which log it is, which entry comes next there now, and the epoch of the one before it. LogCorrupt; Unavailable."""
        self._open_view()
        return self._log, self._number, self._epoch

    def _view(self) -> View:
        with self._lock:
            known = self._number
            view = self._catch_up()
            if self._number != known:  # who packs says something in the log before
                self._packs.forget()
            return view

    def _open_packs(self) -> Packs:
        packs = super()._open_packs()
        packs.forget()
        return packs


def snapshots_of(objects: Objects, log_id: str) -> list[str]:
    """The paths of a log's snapshots, the newest last. Unavailable."""
    return objects.patiently(lambda: objects.list(f"snapshots/{log_id}/")) or []


def newest_snapshot(
    objects: Objects,
    log_id: str,
    paths: list[str],
    known: Kept | None = None,
    *,
    notes: list[str] | None = None,
    upto: int | None = None,
) -> Kept | None:
    """The newest snapshot that is whole, of a place at or before frame `upto` if that is given.

    Those that are not whole are passed over, and said in `notes`. `known` is one that was got before: it need not be got again.
    Errors: Unavailable.
    """
    for path in reversed(paths):
        if upto is not None and int(path.rpartition("/")[2]) > upto:
            continue
        if known is not None and path == codec.snapshot_path(log_id, known.snapshot.at.seq):
            return known
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
