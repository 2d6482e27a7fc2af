"""A log in a directory that is being made as a whole: nobody knows of it before it is finished.

Owns writing one without what a log in use needs: no lock, no epoch to look at, no sync before the end. A folder whose draft was
not finished has no manifest, and so is no store.

    bytes in memory = size          (what was appended since the last `flush`)
"""

from __future__ import annotations

import os
from pathlib import Path

from ensemble.event import Frame
from ensemble.log import manifest as manifests
from ensemble.log import snapshots
from ensemble.log.base import Position, Snapshot, genesis
from ensemble.log.chain import Chain
from ensemble.log.directory import SEGMENT_BYTES
from ensemble.log.fence import FREE, raise_epoch
from ensemble.log.files import Files
from ensemble.log.group import encode_record
from ensemble.log.manifest import Manifest

EPOCH = 1


class Draft:
    """One log. Its file is open only while it is written to, so that there may be many. OSError if the disk refuses."""

    def __init__(self, folder: Path, manifest: Manifest, files: Files, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.size = 0
        self._manifest = manifest
        self._files = files
        self._segment_bytes = segment_bytes
        self._shard = folder / "shard-0"
        self._chain = Chain(Position(0, 0, genesis(manifest.id, manifest.shard), 0), EPOCH)
        self._sealed: list[bytes] = []
        self._begun = Position(0, 0, b"", 0)
        """The place before the first frame that is not written yet."""
        self._extents: list[snapshots.Extent] = []
        files.make_folder(snapshots.folder_of(self._shard))

    @property
    def id(self) -> str:
        return self._manifest.id

    @property
    def end(self) -> Position:
        """The place after the last frame."""
        return self._chain.at

    def append(self, frame: Frame) -> None:
        if not self._sealed:
            self._begun = self._chain.at
        self._sealed.append(self._chain.seal(frame))
        self.size += len(self._sealed[-1])

    def flush(self) -> None:
        """Write what is in memory, as one group."""
        if not self._sealed:
            return
        group = b"".join((encode_record(self._sealed), *self._sealed))
        if not self._extents or self._extents[-1].size >= self._segment_bytes:
            self._extents.append(snapshots.Extent(self._begun.seq, self._begun.offset, 0))
        last = self._extents[-1]
        fd = self._files.open(self._path(last)) if last.size else self._files.create(self._path(last))
        try:
            self._files.write(fd, group, last.size)
        finally:
            os.close(fd)
        self._extents[-1] = last._replace(size=last.size + len(group))
        self._sealed, self.size = [], 0

    def finish(self, state: bytes) -> None:
        """Make it a store: all of it durable, with the broker's state at its end. The manifest is written last."""
        self.flush()
        files = self._files
        for extent in self._extents:
            fd = files.open(self._path(extent))
            try:
                files.sync(fd)
            finally:
                os.close(fd)
        files.sync_folder(self._shard)
        raise_epoch(self._shard, EPOCH - 1, files)
        if self._extents:
            at = self._chain.at
            snapshots.save(self._shard, self.id, Snapshot(at, state), self._extents, at.seq, files)
        files.replace(self.folder / "lock", FREE)
        manifests.make(self.folder, self._manifest, files)

    def _path(self, extent: snapshots.Extent) -> Path:
        return self._shard / f"{extent.seq:020d}.seg"
