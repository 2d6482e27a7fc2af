"""Auditing an archive: each pack in it, that they follow each other, and the data that lies beside them.

Owns going on after damage, with the next pack. Whether it is all that its log was is for who has the log to say; here is what
the archive proves by itself.
"""

from __future__ import annotations

from hashlib import sha256

from ensemble.log.archived import ArchiveReader
from ensemble.log.audit import Audited, Finding, Known, pass_over, unsaid
from ensemble.log.audit.named import Named
from ensemble.log.base import Position
from ensemble.log.manifest import Manifest
from ensemble.log.pack import Pack
from ensemble.log.segment import Damage
from ensemble.log.shelf import Shelf


def audit_archive(shelf: Shelf, manifest: Manifest, known: Known) -> Audited:
    """Everything in an archive of one shard. Unavailable if it can't be read."""
    begin = manifest.begin
    found = Audited(manifest.id, manifest.name, manifest.shard, begin=begin, end=begin, findings=[], notes=[], unseen=[])
    places = known(manifest.id, manifest.shard)
    found.verdicts = {place: "held" if place == begin else "unread" for place in places}
    walk = _Walk(shelf, manifest, found)
    walk.all()
    if not found.findings and walk.lost:
        for pack in unsaid(walk.lost, ArchiveReader(shelf, manifest).frames(), found):
            found.notes.append(
                f"{pack.path}: retention took events out of it before it was archived; what it took is said in the log that "
                "it is of, and not here"
            )
    return found


class _Walk:
    """Through all packs, in order. What comes of it goes to `found`."""

    def __init__(self, shelf: Shelf, manifest: Manifest, found: Audited) -> None:
        self._shelf = shelf
        self._manifest = manifest
        self._found = found
        self._named = Named(manifest.id, manifest.shard)
        self._at: Position | None = manifest.begin
        """The place after the pack before; None behind damage."""
        self.lost: list[tuple[Pack, bytes]] = []
        """Packs out of which something was taken, with their SHA-256."""

    def all(self) -> None:
        found, shelf, manifest = self._found, self._shelf, self._manifest
        for seq in shelf.seqs():
            try:
                self._pack(shelf.pack(seq, manifest.id, manifest.shard))
            except Damage as damage:  # of its head
                self._tell(damage)
                self._at = None
        end = found.end.seq if self._at is None else self._at.seq
        found.verdicts.update((place, "beyond") for place, verdict in found.verdicts.items() if place.seq > end)
        self._named.judge(shelf.blobs, ArchiveReader(shelf, manifest).frame_at, found)

    def _pack(self, pack: Pack) -> None:
        found = self._found
        if self._at is not None and pack.begin != self._at:
            why = f"it does not follow frame {self._at.seq - 1}: frames were changed or lost"
            self._tell(Damage(pack.path, 0, why))
        try:
            pack.state()
            for item in pack.items():
                self._judge(item.after)
                self._named.note(item.data)
            if pack.head.removals:
                self.lost.append((pack, sha256(pack.data()).digest()))
        except Damage as damage:
            self._tell(damage)
        self._judge(pack.end)
        if pack.is_past:
            found.begin = pack.end
            pass_over(pack, found.verdicts, found)
        self._at = found.end = pack.end
        found.bytes += pack.whole

    def _judge(self, at: Position) -> None:
        found = self._found
        found.verdicts.update((place, "held" if place == at else "other") for place in found.verdicts if place.seq == at.seq)

    def _tell(self, damage: Damage) -> None:
        self._found.findings.append(Finding(str(damage.path), damage.place, str(damage.why)))
