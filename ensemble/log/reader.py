"""Reading a directory store that somebody may be writing: no lock, nothing changed.

Owns finding what is there now. A group that is not whole yet is not there yet; it is damage only if something proves
that it was durable (recovery.py), and even then it is looked at once more, since the writer may just have finished it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from threading import Lock

from ensemble.log import snapshots
from ensemble.log.base import Position
from ensemble.log.fence import read_epoch
from ensemble.log.files import Gone, corrupt, refusal
from ensemble.log.group import RECORD_BYTES, Record
from ensemble.log.manifest import Manifest
from ensemble.log.pack import Pack
from ensemble.log.pieces import Piece, lacking, pieces_of, size_of
from ensemble.log.reading import LOOKS_MOST, DirectoryFrames, View
from ensemble.log.recovery import check_group, proof
from ensemble.log.segment import Damage, Segment, Window


class DirectoryReader(DirectoryFrames):
    """The log of a store, as it is on the disk whenever it is asked."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        super().__init__(folder, manifest)
        self._lock = Lock()
        self._first = manifest.begin
        self._pieces: list[Piece] = []
        self._looked_at: tuple[int, list[Path], int] | None = None
        """Epoch, pieces and size of the last one when everything there was taken in."""
        self._epoch = -1
        self._seen = View((), 0, self._first)

    def _view(self) -> View:
        with self._lock:
            for _ in range(LOOKS_MOST):
                try:
                    return self._look()
                except Gone:  # written anew between looking and reading
                    self._looked_at = None
                except Damage as damage:
                    raise corrupt(damage.path, damage.place, damage.why) from damage
            return self._look()

    def _look(self) -> View:
        try:
            epoch = read_epoch(self._shard)
        except OSError as error:
            raise refusal(f"{self._shard / 'epoch'}: can't be read", error) from error
        newest = None if self._pieces else next(snapshots.whole(self._shard, self.id), None)
        known = {piece.path: piece for piece in self._pieces}
        found = pieces_of(self._shard, self.id, self.shard, known)  # after the snapshot, which then knows no more than there is
        if newest is not None:
            lost = lacking(found, newest.extents, newest.snapshot.at.seq, self._shard)
            if lost is not None:
                raise lost
        last = found[-1] if found else None
        looked_at = (epoch, [piece.path for piece in found], 0 if last is None else size_of(last.path))
        if looked_at == self._looked_at:
            return self._seen
        if found and found[0].seq != self._first.seq:
            raise Damage(found[0].path, 0, f"the segment with frame {self._first.seq} is missing before this one")
        # A finished segment never changes. What an older writer could not finish, a new one may have cut.
        is_same = epoch == self._epoch and bool(self._pieces) and last is self._pieces[-1]
        if not is_same and self._pieces:
            found = [Segment(piece.path) if piece is self._pieces[-1] else piece for piece in found]
        for piece, after in pairwise(found):
            if isinstance(piece, Segment) and piece.end_seq is None:
                piece.end_seq = after.seq
                piece.trust(size_of(piece.path))
        end, is_whole = self._seen.end if is_same else None, True
        if found:
            end, is_whole = self._extend(_last(found), end)
        if end is None and len(found) > 1:  # nothing is in the newest yet
            before = found[-2]
            if isinstance(before, Pack):
                end = before.end
            else:
                found[-2] = anew = Segment(before.path)
                anew.end_seq = found[-1].seq
                end, _ = self._extend(anew, None)
        filled = [piece for piece in found if not piece.is_empty]
        self._seen = View(filled, filled[-1].whole if filled else 0, end or self._first)
        self._pieces, self._epoch, self._looked_at = found, epoch, looked_at if is_whole else None
        return self._seen

    def _extend(self, segment: Segment, end: Position | None) -> tuple[Position | None, bool]:
        """Take in the groups that have come to a segment.

        The place after the last one comes back, `end` if none has come; and whether nothing is behind it.
        Errors: Damage.
        """
        if segment.is_empty:
            end = self._skip_to_snapshot(segment)
        groups: list[tuple[int, Record]] = []
        torn: Damage | None = None
        with Window(segment.path) as window:
            place = segment.whole
            while place < window.stop and (not groups or groups[-1][1].end_seq != segment.end_seq):
                record = window.record(place)
                if record is None or place + RECORD_BYTES + record.length > window.stop:
                    torn = Damage(window.path, place, "no whole group begins here")
                    break
                groups.append((place, record))
                place += RECORD_BYTES + record.length
            # All but the last are durable, since another follows; they are checked when they are read.
            if groups:
                try:
                    _, end, _ = check_group(window, groups[-1][0], None)
                except Damage as damage:
                    torn = damage
                    place, _ = groups.pop()
                    if groups:
                        _, end, _ = check_group(window, groups[-1][0], None)
            if torn is not None:
                why = "a later segment follows" if segment.end_seq is not None else proof(window, place, segment.seq)
                if why and not is_whole_now(segment.path, place):
                    raise Damage(torn.path, torn.place, f"{torn.why}, and {why}")
            for at, record in groups:
                segment.note_group(record, at, window)
            segment.whole = place
        return end, torn is None

    def _skip_to_snapshot(self, segment: Segment) -> Position | None:
        """Take what the newest snapshot knows of a segment for whole. The place of the snapshot, if it ends there."""
        kept = next(snapshots.whole(self._shard, self.id), None)
        if kept is None or not kept.extents or kept.extents[-1].seq != segment.seq:
            return None
        place = kept.extents[-1].size
        with Window(segment.path) as window:
            record = window.record(place) if place < window.stop else None
            if place != window.stop and (record is None or record.seq != kept.begins):
                return None
        segment.trust(place)
        return kept.snapshot.at if kept.begins == kept.snapshot.at.seq else None


def is_whole_now(path: Path, place: int) -> bool:
    """Whether the group at this place has been finished since it was looked at."""
    with Window(path) as window:
        try:
            check_group(window, place, None)
        except Damage:
            return False
    return True


def _last(pieces: Sequence[Piece]) -> Segment:
    """The piece that is appended to. Damage."""
    last = pieces[-1]
    if isinstance(last, Pack):
        raise Damage(last.path, last.whole, "a segment follows a pack always, and none does")
    return last
