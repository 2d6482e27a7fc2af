"""Auditing a directory store: everything in it that is part of the log, and all that is wrong with that.

Owns going on after damage: with the next group that is whole. What lies between is told, and the chain is taken up where it
goes on; so of the first frame behind damage nobody can say that it follows the frame before it.

    expected = number of the frame that comes next
    at       = the place before it, None behind damage
"""

from __future__ import annotations

import json
import os
import time
from hashlib import sha256
from pathlib import Path

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import manifest as manifests
from ensemble.log import snapshots
from ensemble.log.audit import Audited, Finding, Known, of_error, pass_over, tell_unsaid
from ensemble.log.audit.glance import glance
from ensemble.log.audit.named import Named
from ensemble.log.base import Position
from ensemble.log.blobs import DirectoryBlobs
from ensemble.log.fence import FREE, read_epoch
from ensemble.log.files import refusal
from ensemble.log.group import RECORD_BYTES
from ensemble.log.pack import FilePack
from ensemble.log.pieces import pieces_of
from ensemble.log.reader import DirectoryReader, is_whole_now
from ensemble.log.recovery import Foreign, check_group, later_group
from ensemble.log.remnant import is_remnant
from ensemble.log.segment import Damage, Segment, Window
from ensemble.log.shelf import FolderShelf, folder_manifest

GLANCE_BYTES = 1 << 20
"""So much is looked at all at once."""

MOMENT_S = 0.2
"""How long a writer may take between beginning to write a group and its end."""


def audit_directory(whole: Path, shard: int, known: Known) -> Audited:
    """Everything in one shard of a store. Unavailable if there is none, or it can't be read."""
    found = Audited(findings=[], notes=[], verdicts={})
    try:
        folder, manifest = folder_manifest(whole, shard)
    except LogCorrupt as error:
        found.findings.append(of_error(error, str(error).partition(": byte ")[0]))
        return found
    if manifest is None:
        raise Unavailable(f"store {folder}: there is no store; check the path, or play a score with this store first")
    otherwise = written_otherwise(folder / manifests.NAME) if manifest.id else []
    if manifest.store:
        from ensemble.log.audit.archive import audit_archive

        archive = audit_archive(FolderShelf(folder), manifest, known)
        archive.findings[:0] = otherwise
        return archive
    found.id, found.name, found.shard, found.fork = manifest.id, manifest.name, manifest.shard, manifest.fork
    found.begin = found.end = manifest.begin
    found.findings += otherwise
    found.verdicts = dict.fromkeys(known(manifest.id, manifest.shard), "unread")
    walk = _Walk(folder, found)
    walk.all()
    reader = DirectoryReader(folder, manifest)
    if walk.lost and not found.findings:
        packs = [(pack, sha256(pack.path.read_bytes()).digest()) for pack in walk.lost]
        tell_unsaid(packs, reader.frames(), found)
    walk.named.judge(DirectoryBlobs(folder), reader.frame_at, found)
    return found


def written_otherwise(path: Path) -> list[Finding]:
    """A finding where a file of JSON that says the right thing is not written as Ensemble writes it."""
    data = path.read_bytes()
    written = (json.dumps(json.loads(data), ensure_ascii=False, indent=1) + "\n").encode()
    if data == written:
        return []
    byte = next((i for i, pair in enumerate(zip(data, written, strict=False)) if pair[0] != pair[1]), len(written))
    return [Finding(str(path), byte, "it says what it should, but is not written as Ensemble writes it: it was changed")]


class _Walk:
    """Through all segments of a shard, once, in order. What comes of it goes to `found`."""

    def __init__(self, folder: Path, found: Audited) -> None:
        self._folder = folder
        self._shard = folder / "shard-0"
        self._found = found
        self._at: Position | None = found.begin
        self._expected = found.begin.seq
        self._epoch = 0
        self.named = Named(found.id, found.shard)
        self.lost: list[FilePack] = []
        """Packs out of which something was taken."""
        self._end = found.begin
        damaged: list[Path] = []
        # Before the segments, as a reader does: then the snapshots know no more than there is.
        self._kept = list(snapshots.whole(self._shard, found.id, damaged))
        for path in damaged:
            self._tell(path, 0, "this snapshot is damaged, or another log's: its checksum, format or log does not fit")
        places = [*found.verdicts, *(kept.snapshot.at for kept in self._kept)]
        self._places: dict[int, set[Position]] = {}
        """The places through which the log should go, by the frame behind them."""
        for place in places:
            self._places.setdefault(place.seq, set()).add(place)
        self._verdicts = dict(found.verdicts) | dict.fromkeys(places, "unread")
        self._sizes = {(extent.seq, extent.size): extent.size == 0 for kept in self._kept for extent in kept.extents}
        """What snapshots say of how much of a segment lay before them, and whether a group ends there."""

    def all(self) -> None:
        try:
            pieces = pieces_of(self._shard, self._found.id, self._found.shard)
        except LogCorrupt as error:  # a file that is called as none is
            self._tell(self._shard, 0, str(error).partition("; ")[0])
            return
        assert self._at is not None
        self._judge(self._at)
        for ix, piece in enumerate(pieces):
            if isinstance(piece, FilePack):
                self._pack(piece)
            else:
                piece.end_seq = pieces[ix + 1].seq if ix + 1 < len(pieces) else None
                self._segment(piece)
        end = self._found.end = self._end
        for place, verdict in self._verdicts.items():
            if verdict == "unread" and place.seq > self._expected:
                self._verdicts[place] = "beyond"
        self._found.verdicts = {place: self._verdicts[place] for place in self._found.verdicts}
        last = pieces[-1].path if pieces else self._shard
        for kept in self._kept:
            self._snapshot(kept, last, end)
        self._look_at_epoch()
        if pieces and not self._found.findings:
            _sync(last)

    # Packs

    def _pack(self, pack: FilePack) -> None:
        has_lost = pack.is_past or bool(pack.head.removals)
        if self._at is not None and pack.begin != self._at:
            self._tell(pack.path, 0, f"it does not follow frame {self._expected - 1}: frames were changed or lost")
        try:
            pack.state()
            for item in pack.items():
                self._judge(item.after)
                has_lost = has_lost or is_remnant(item.data)
                self.named.note(item.data)
        except Damage as damage:
            self._tell(damage.path, damage.place, str(damage.why))
        if pack.is_past:
            self._found.begin = pack.end
            pass_over(pack, self._verdicts, self._found)
        for seq, size in self._sizes:
            if pack.seq <= seq < pack.end.seq:
                self._sizes[seq, size] = True
        if has_lost:
            self.lost.append(pack)
        self._judge(pack.end)
        self._at = self._end = pack.end
        self._expected, self._epoch = pack.end.seq, max(self._epoch, pack.head.epoch)
        self._found.bytes += pack.whole

    # Segments

    def _segment(self, segment: Segment) -> None:
        if segment.seq > self._expected:
            self._tell(segment.path, 0, f"{_frames(self._expected, segment.seq)} missing before this segment")
        elif segment.seq < self._expected:
            self._tell(segment.path, 0, f"frame {self._expected} is next, and this segment is named after frame {segment.seq}")
        if segment.seq != self._expected:
            self._at, self._expected = None, segment.seq
        place = 0
        with Window(segment.path) as window:
            while place < window.stop and self._expected != segment.end_seq:
                place = self._glance(window, place, segment)
                if place >= window.stop or self._expected == segment.end_seq:
                    break
                place = self._group(window, place, segment)
                if (segment.seq, place) in self._sizes:
                    self._sizes[segment.seq, place] = True
            if place < window.stop:
                self._found.notes.append(
                    f"{segment.path}: {window.stop - place:,} bytes from byte {place} on are no part of the log: they "
                    "stand behind its end, where a writer that was replaced may have left them"
                )

    def _glance(self, window: Window, place: int, segment: Segment) -> int:
        """Pass the groups that are as they should be. Where the first is that must be looked at closely comes back."""
        while self._at is not None:
            begin = window.at(place, GLANCE_BYTES)
            before = place - begin
            ends = {size - before for seq, size in self._sizes if seq == segment.seq}
            end, self._at, self._epoch = glance(
                window.bytes, begin, self._at, self._epoch, segment.end_seq, self._places, self._judge, ends,
                lambda byte, before=before: self._sizes.update({(segment.seq, before + byte): True}),  # type: ignore[misc]
            )  # fmt: skip
            if end == begin:
                break
            self.named.note(window.bytes, begin, end)
            self._end, self._expected = self._at, self._at.seq
            self._found.bytes += end - begin
            place = before + end
        return place

    def _group(self, window: Window, place: int, segment: Segment) -> int:
        """Look at the group that should begin here. Where to go on comes back."""
        record = window.record(place)
        if record is not None and place + RECORD_BYTES + record.length <= window.stop:
            if record.seq > self._expected:
                self._tell(window.path, place, f"{_frames(self._expected, record.seq)} missing here")
                self._at, self._expected = None, record.seq
            elif record.seq < self._expected:
                why = f"frame {self._expected} is next, and the group of frame {record.seq} stands here"
                self._tell(window.path, place, why)
                return place + RECORD_BYTES + record.length
        before, epoch = self._at, self._epoch
        try:
            record, after, self._epoch = check_group(window, place, before, epoch)
        except Damage as damage:
            return self._go_on(window, place, damage, segment)
        for seq in range(record.seq + 1, record.end_seq):
            for known in self._places.get(seq, ()):
                self._verdicts[known] = "held" if _leads_to(window, place, before, epoch, known) else "other"
        self._judge(after)
        self._at, self._end, self._expected = after, after, after.seq
        size = RECORD_BYTES + record.length
        at = window.at(place, size)
        self.named.note(window.bytes, at + RECORD_BYTES, at + size)
        self._found.bytes += size
        return place + size

    def _go_on(self, window: Window, place: int, damage: Damage, segment: Segment) -> int:
        """Tell of a group that is not right, and find the next that is. Where that begins comes back."""
        is_last = segment.end_seq is None
        later = later_group(window, place, self._expected)
        if is_last and later is None and not isinstance(damage, Foreign):
            if self._is_being_written(window.path, place):
                window.stop = window.path.stat().st_size
                window.again()
                return place
            self._tell(
                damage.path, damage.place,
                f"{damage.why}: from byte {place} on {window.stop - place:,} bytes are no whole group, so they are the "
                "torn end of a commit that a crash interrupted, or were changed; opening the store to play it cuts them off",
            )  # fmt: skip
            return window.stop
        record = window.record(place)
        if later is not None:
            place, goes_on = later[0], later[1].seq
        else:
            place, goes_on = window.stop, segment.end_seq or (record.end_seq if record else self._expected + 1)
        self._tell(damage.path, damage.place, f"{damage.why}; {_frames(self._expected, goes_on)} not to be trusted")
        self._at, self._expected = None, goes_on
        return place

    def _is_being_written(self, path: Path, place: int) -> bool:
        """Whether somebody plays the store, and the group at this place is whole a moment later."""
        try:
            if (self._folder / "lock").read_bytes() == FREE:
                return False
        except OSError:
            return False
        until = time.monotonic() + MOMENT_S
        while not is_whole_now(path, place):
            if time.monotonic() > until:
                return False
            time.sleep(MOMENT_S / 20)
        return True

    def _judge(self, at: Position) -> None:
        for known in self._places.get(at.seq, ()):
            self._verdicts[known] = "held" if known == at else "other"

    # What stands beside them

    def _snapshot(self, kept: snapshots.Kept, last: Path, end: Position) -> None:
        seq = kept.snapshot.at.seq
        if kept.path.stem != f"{seq:020d}":
            self._tell(kept.path, 0, f"this snapshot is of frame {seq}, and is named after another")
        verdict = self._verdicts[kept.snapshot.at]
        if verdict == "other":
            self._tell(kept.path, 0, f"the frames before frame {seq} are not those of which this snapshot was kept")
        elif verdict == "beyond":
            size = last.stat().st_size if last.is_file() else 0
            self._tell(
                last, size, f"the log ends before frame {end.seq}, and a snapshot was kept of frame {seq}: its end is missing"
            )
        elif verdict == "held" and not self._found.findings and not all(self._sizes[e.seq, e.size] for e in kept.extents):
            self._tell(kept.path, 0, "the segments are not as this snapshot says")

    def _look_at_epoch(self) -> None:
        path = self._shard / "epoch"
        try:
            epoch = read_epoch(self._shard)
            written = path.read_bytes() if path.exists() else b""
        except LogCorrupt as error:
            self._found.findings.append(of_error(error, path))
            return
        except OSError as error:
            raise refusal(f"{path}: can't be read", error) from error
        if epoch < self._epoch:
            self._tell(path, 0, f"it says epoch {epoch}, and frame {self._end.seq - 1} is of epoch {self._epoch}")
        elif written != b"%d\n" % epoch and (epoch or written):
            self._tell(path, 0, f"epoch {epoch} is not written as Ensemble writes it: it was changed")

    def _tell(self, path: Path | str, byte: int, wrong: str) -> None:
        self._found.findings.append(Finding(str(path), byte, wrong))


def _leads_to(window: Window, place: int, at: Position | None, epoch: int, known: Position) -> bool:
    """Whether a group that is whole goes through a place."""
    try:
        check_group(window, place, at, epoch, known)
    except Foreign:
        return False
    return True


def _frames(first: int, end: int) -> str:
    return f"frame {first} is" if end == first + 1 else f"frames {first} to {end - 1} are"


def _sync(path: Path) -> None:
    """What was read is on the disk: who anchors it must not be told of frames that a crash can still lose."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
