"""Reading an archive: a log with a beginning and an end, of packs alone (docs/size.md, "The archive").

Owns what of it can be read at a moment. It is read while its log is written; nothing in it changes.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import cast

from ensemble.log.base import Snapshot
from ensemble.log.blobs import Blobs
from ensemble.log.files import corrupt
from ensemble.log.manifest import Manifest
from ensemble.log.pack import Pack
from ensemble.log.pieces import Piece
from ensemble.log.reading import DirectoryFrames, View
from ensemble.log.segment import Damage
from ensemble.log.shelf import Shelf


class ArchiveReader(DirectoryFrames):
    """See `ensemble.log.base.LogReader`."""

    def __init__(self, shelf: Shelf, manifest: Manifest) -> None:
        super().__init__(Path(shelf.where), manifest, shelf.where)
        self._shelf = shelf
        self._packs: list[Pack] = []
        self._lock = Lock()

    @property
    def blobs(self) -> Blobs:
        """Where the large data lies that its frames name."""
        return self._shelf.blobs

    @property
    def store(self) -> str:
        """The url of the store that its log is played in."""
        return self._manifest.store

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        """The state at its beginning: nothing else is kept of it."""
        base = self.base()
        return base if base is None or upto is None or base.at.seq <= upto else None

    def close(self) -> None:
        super().close()
        self._shelf.close()

    def _view(self) -> View:
        with self._lock:
            if not self.id:  # nothing was here when it was looked at first
                self._manifest = self._shelf.manifest() or self._manifest
            begin = self._manifest.begin
            try:
                new = self._shelf.seqs()[len(self._packs) :]
                for pack in self._shelf.packs(new, self.id, self.shard):
                    after = self._packs[-1].end if self._packs else begin
                    if pack.begin != after:
                        raise Damage(pack.path, 0, f"it does not follow frame {after.seq - 1}: frames were changed or lost")
                    self._packs.append(pack)
            except Damage as damage:
                raise corrupt(damage.path, damage.place, damage.why) from damage
            packs = list(self._packs)
        return View(cast("list[Piece]", packs), packs[-1].whole if packs else 0, packs[-1].end if packs else begin)
