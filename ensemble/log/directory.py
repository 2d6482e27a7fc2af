"""A log in a directory (docs/log-format.md): one writer, any number of readers.

Owns opening, appending and closing. What it found wrong and did about it stands in `notes`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from ensemble.errors import Unavailable
from ensemble.event import Frame
from ensemble.log import manifest as manifests
from ensemble.log import snapshots
from ensemble.log.base import Fork, Packing, Position, Snapshot
from ensemble.log.chain import Chain
from ensemble.log.fence import Ground, raise_epoch, refuse_older
from ensemble.log.fence import Lock as StoreLock
from ensemble.log.files import Files, corrupt, refusal
from ensemble.log.frame import peek
from ensemble.log.group import RECORD_BYTES, encode_record, groups_of
from ensemble.log.manifest import Manifest
from ensemble.log.pack import FilePack, Pack
from ensemble.log.packing import DirectoryPacking
from ensemble.log.pieces import TEMPORARY, Piece, lacking, pieces_of
from ensemble.log.reader import DirectoryReader
from ensemble.log.reading import DirectoryFrames, View
from ensemble.log.recovery import Place, Recovered, recover
from ensemble.log.segment import Damage, Segment

SEGMENT_BYTES = 64 * 1024 * 1024
"""A segment that has reached this size is followed by another."""


def open_directory(
    place: str | Path,
    *,
    name: str,
    log_id: str,
    shard: int = 0,
    is_synced: bool = True,
    create: bool = True,
    files: Files | None = None,
    segment_bytes: int = SEGMENT_BYTES,
    doing: str = "",
    fork: Fork | None = None,
) -> DirectoryLog:
    """The log in a folder, to write and read. See `ensemble.log.open_log`.

    `files` are the operations on the disk; tests give some that fail. `doing` is what this process does with it, where it does
    not play: for the sentence that others get. `fork` is where a new log leaves its parent.
    """
    folder, files = Path(place).absolute(), files or Files()
    known = manifests.read(folder)
    if known is None and not create:
        raise _no_store(folder)
    if known is not None and known.store:
        raise manifests.not_played(folder, known.name, known.store)
    try:
        files.make_folder(folder)
        lock = StoreLock(folder, doing)
    except OSError as error:
        raise refusal(f"store {folder}: can't be opened for writing", error) from error
    try:
        known = manifests.read(folder)  # again: whoever held the lock may have made it
        if known is None:
            known = Manifest(log_id, name, shard, fork)
            files.make_folder(snapshots.folder_of(folder / "shard-0"))
            manifests.make(folder, known, files)
        return DirectoryLog(folder, known, lock, files, is_synced=is_synced, segment_bytes=segment_bytes)
    except OSError as error:
        lock.release()
        raise refusal(f"store {folder}: can't be opened for writing", error) from error
    except BaseException:
        lock.release()
        raise


def read_directory(place: str | Path) -> DirectoryReader:
    """The log in a folder, to read only. See `ensemble.log.read_log`."""
    folder = Path(place).absolute()
    known = manifests.read(folder)
    if known is None:
        raise _no_store(folder)
    return DirectoryReader(folder, known)


def _no_store(folder: Path) -> Unavailable:
    what = "there is no store" if folder.parent.is_dir() else f"there is no store, nor the folder {folder.parent}"
    return Unavailable(f"store {folder}: {what}; check the path, or play a score with this store first")


def _extents(view: View, seq: int) -> tuple[list[snapshots.Extent], int]:
    """How much of each segment lies before frame `seq`, to the beginning of its group, and the first frame of that."""
    before = [segment for segment in view.segments if segment.seq < seq]
    extents = [snapshots.Extent(s.seq, s.first, view.stop_of(ix)) for ix, s in enumerate(before)]
    following = view.segments[len(before)].seq if len(before) < len(view.segments) else view.end.seq
    if not extents or seq == following:
        return extents, seq
    last = before[-1]
    if isinstance(last, Pack):
        raise ValueError(f"a snapshot of frame {seq} comes too late: what is there was written anew")
    place, record = last.group_of_seq(seq)
    extents[-1] = extents[-1]._replace(size=place)
    return extents, record.seq


class DirectoryLog(DirectoryFrames):
    """The writing half. Its view is what is durable, and changes in one assignment."""

    def __init__(
        self, folder: Path, manifest: Manifest, lock: StoreLock, files: Files, *, is_synced: bool, segment_bytes: int
    ) -> None:
        super().__init__(folder, manifest)
        self.notes: list[str] = []
        self._lock = lock
        self._files = files
        self._is_synced = is_synced
        self._segment_bytes = segment_bytes
        self._refuses: str | None = None
        self._ground = Ground(self._shard)
        self._changing = Lock()
        """Held while what is durable changes: by who appends, and by who writes finished parts anew."""
        try:
            self._begin(files)
        except BaseException:
            self._ground.close()
            raise

    def _begin(self, files: Files) -> None:
        # Before anything is checked or cut: from here on an older writer is refused.
        epoch = raise_epoch(self._shard, 0, files)
        stale: list[Path] = []
        self._pieces = pieces_of(self._shard, self.id, self.shard, stale=stale)
        found = self._recover()
        for path in [*stale, *self._shard.glob(f"*{TEMPORARY}")]:  # of a writer that died while it wrote a pack
            files.remove(path)
        if found.epoch >= epoch:
            epoch = raise_epoch(self._shard, found.epoch, files)
        self._fd: int | None = None
        if self._pieces:
            self._fd = files.open(self._pieces[-1].path)
            try:
                self._take_up(self._fd, found)
            except BaseException:
                os.close(self._fd)
                raise
        self._chain = Chain(found.at, epoch)
        filled = [piece for piece in self._pieces if not piece.is_empty]
        self._durable = View(filled, filled[-1].whole if filled else 0, found.at)

    @property
    def epoch(self) -> int:
        return self._chain.epoch

    def seal(self, frame: Frame) -> bytes:
        return self._chain.seal(frame)

    def append(self, sealed: Sequence[bytes]) -> None:
        self._refuse_closed()
        if self._refuses:
            raise Unavailable(self._refuses)
        for group in groups_of(sealed):
            self._append_group(group)

    def save(self, snapshot: Snapshot) -> None:
        self._refuse_closed()
        seq = snapshot.at.seq
        view = self._durable
        if seq > view.end.seq:
            raise ValueError(f"a snapshot of frame {seq} is of no place in a log of {view.end.seq} frames")
        self.refuse_older()
        try:
            extents, begins = _extents(view, seq)
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage
        try:
            if not self._is_synced and self._fd is not None:
                self._files.sync(self._fd)  # a snapshot must never be ahead of the log on the disk
            snapshots.save(self._shard, self.id, snapshot, extents, begins, self._files)
        except OSError as error:
            raise refusal(f"store {self.folder}: a snapshot can't be written", error) from error

    def packing(self) -> Packing:
        return DirectoryPacking(self)

    @property
    def first(self) -> Position:
        """The place before its own first frame."""
        return self._manifest.begin

    def pieces(self) -> Sequence[Piece]:
        """What holds what is durable, in order."""
        return self._durable.segments

    def replace(self, old: Sequence[Piece], new: FilePack) -> None:
        """Read these from here on out of the pack that was made of them."""
        with self._changing:
            for pieces in (self._pieces, kept := list(self._durable.segments)):
                at = pieces.index(old[0])
                pieces[at : at + len(old)] = [new]
            self._durable = self._durable._replace(segments=kept)

    def refuse_older(self) -> None:
        """Nothing, if nobody else has begun to write here. Unavailable."""
        self._ground.refuse_other()
        refuse_older(self._shard, self.epoch)

    @property
    def files(self) -> Files:
        return self._files

    def close(self) -> None:
        if self._is_closed:
            return
        super().close()
        if self._fd is not None:
            os.close(self._fd)
        self._ground.close()
        self._lock.release()

    def _view(self) -> View:
        return self._durable

    def _recover(self) -> Recovered:
        """Check the log from its newest usable snapshot on."""
        damaged: list[Path] = []
        kept = next(snapshots.whole(self._shard, self.id, damaged), None)
        self.notes += [f"{path}: this snapshot is damaged and was passed over" for path in damaged]
        try:
            start = self._beginning() if kept is None else self._start(kept)
            first = self._manifest.begin.seq
            if self._pieces and start.segment == 0 and self._pieces[0].seq != first:
                raise corrupt(self._pieces[0].path, 0, f"the segment with frame {first} is missing before this one")
            if self._pieces and isinstance(self._pieces[-1], Pack):
                raise corrupt(self._pieces[-1].path, 0, "a segment follows a pack always, and none does")
            return recover(self._pieces, start)
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage

    def _beginning(self) -> Place:
        first = self._pieces[0] if self._pieces else None
        if isinstance(first, Pack) and first.is_past:
            return Place(1, 0, first.end)
        return Place(0, 0, self._manifest.begin)

    def _start(self, kept: snapshots.Kept) -> Place:
        """Where to begin to check: what lies before it is as the snapshot says, by name and size."""
        at = kept.snapshot.at
        lost = lacking(self._pieces, kept.extents, at.seq, self._shard)
        if lost is not None:
            raise lost
        if not kept.extents:
            return Place(0, 0, at, at)
        last = kept.extents[-1]
        for ix, piece in enumerate(self._pieces):
            if isinstance(piece, Pack):
                if piece.seq <= last.seq < piece.end_seq:  # the snapshot is of the place at its end
                    return Place(ix + 1, 0, at, at)
                continue
            if ix + 1 < len(self._pieces):
                piece.end_seq = self._pieces[ix + 1].seq
            if piece.seq > last.seq:
                break
            extent = next((each for each in kept.extents if each.seq == piece.seq), None)
            if extent is None:
                raise Damage(piece.path, 0, f"this segment is not of the log: the snapshot of frame {at.seq} does not know it")
            piece.trust(extent.size)
            if piece.seq == last.seq:
                return Place(ix, last.size, at if kept.begins == at.seq else None, at)
        raise AssertionError("all extents are there")

    def _take_up(self, fd: int, found: Recovered) -> None:
        """Make what was found whole durable, cut the rest, and make sure that nobody else writes where this log does."""
        cut = found.cut
        if cut is not None:
            self._files.cut(fd, cut.byte)
            path = self._pieces[-1].path
            self.notes.append(
                f"{path}: the last {cut.length:,} bytes, from byte {cut.byte} on, are the torn end of a commit "
                f"({cut.why}); they were cut, the log goes on after frame {found.at.seq - 1}"
            )
        # What a killed writer left may be in the system's cache only.
        self._files.sync(fd)
        if self._lock.was_left:
            # Who held it may be stalled between looking at the epoch and writing. Let that hit a file that is no longer
            # written, behind its end, or one that has no name any more.
            if self._pieces[-1].is_empty:
                self._files.remove(self._pieces.pop().path)
            self._roll(found.at.seq)

    def _append_group(self, sealed: Sequence[bytes]) -> None:
        ends = self._chain.ends(sealed, self._durable.end)
        try:
            self.refuse_older()
            segment = self._write(sealed)
            # Again: whoever raised it meanwhile may not have seen the group. If nobody did, whoever will, will see it.
            self.refuse_older()
        except OSError as error:
            failure = refusal(f"store {self.folder}: can't be appended to", error)
            self._refuses = f"{failure}; this log takes no more until it is opened again"
            raise failure from error
        except Unavailable as error:
            self._refuses = str(error)
            raise
        header, place = peek(sealed[0]), segment.whole
        segment.note(header.seq, header.first, place)
        place += RECORD_BYTES
        for data in sealed:
            segment.note_frame(data, place)
            place += len(data)
        segment.whole = place
        with self._changing:
            segments = self._durable.segments
            if not segments or segments[-1] is not segment:
                segments = [*segments, segment]
            self._durable = View(segments, place, ends[-1])

    def _write(self, sealed: Sequence[bytes]) -> Segment:
        """Put a group behind the last, durably, in the segment that comes back."""
        segment = self._pieces[-1] if self._pieces else None
        if not isinstance(segment, Segment) or segment.whole >= self._segment_bytes:
            segment = self._roll(self._durable.end.seq)
        assert self._fd is not None
        try:
            self._files.write(self._fd, b"".join((encode_record(sealed), *sealed)), segment.whole)
            if self._is_synced:
                self._files.sync(self._fd)
        except OSError:
            self._cut_back(self._fd, segment.whole)
            raise
        return segment

    def _roll(self, seq: int) -> Segment:
        """Begin the next segment."""
        path = self._shard / f"{seq:020d}.seg"
        if self._fd is not None and not self._is_synced:
            self._files.sync(self._fd)
        fd = self._files.create(path)
        try:
            self._files.sync_folder(self._shard)
        except OSError:
            os.close(fd)
            raise
        if self._fd is not None:
            os.close(self._fd)
        self._fd = fd
        if self._pieces:
            self._pieces[-1].end_seq = seq
        segment = Segment(path)
        self._pieces.append(segment)
        return segment

    def _cut_back(self, fd: int, place: int) -> None:
        try:
            self.refuse_older()  # what a newer writer has found there is its own
            self._files.cut(fd, place)
            self._files.sync(fd)
        except (OSError, Unavailable):
            pass  # then the next opening cuts it
