"""Where the files of an archive lie: a folder, or a prefix of an object store (docs/log-format.md, "An archive").

Owns names, and that what was put there is durable and whole. What the files hold is `pack.py`'s and `manifest.py`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ensemble.errors import Unavailable
from ensemble.log import division
from ensemble.log import manifest as manifests
from ensemble.log.blobs import Beside, Blobs, DirectoryBlobs
from ensemble.log.files import Files, refusal
from ensemble.log.manifest import Manifest
from ensemble.log.pack import SUFFIX, FilePack, Pack, name_of
from ensemble.log.url import place_of

FOLDER = "shard-0"
"""As in a store."""


class Lying(Blobs, Beside, Protocol):
    """Where the large data lies that packs name."""


class Shelf(Protocol):
    """What there is of one log."""

    @property
    def where(self) -> str: ...

    @property
    def blobs(self) -> Lying: ...

    def manifest(self) -> Manifest | None:
        """What its manifest says; None: nothing is there. Unavailable; LogCorrupt."""
        ...

    def begin(self, manifest: Manifest) -> None:
        """Put the manifest in its place. Unavailable."""
        ...

    def seqs(self) -> list[int]:
        """The frames with which its packs begin, in order. Unavailable."""
        ...

    def pack(self, seq: int, log_id: str, shard: int) -> Pack:
        """The pack that begins with a frame. Errors: Damage; Unavailable."""
        ...

    def add(self, seq: int, data: bytes) -> bool:
        """Put a pack in its place, durably; False: there is one already, which stays. Unavailable."""
        ...


def shelf_at(url: str, shard: int, shards: int) -> Shelf:
    """Where the archive of one shard of a store of so many lies, or is to lie. Errors: Unavailable; LogCorrupt."""
    kind, place = place_of(url)
    if kind != "directory":
        raise Unavailable("an archive is a folder so far; name one, such as a mounted bucket")
    whole = Path(place)
    there = division.count(whole)
    if there not in (None, shards):
        raise Unavailable(f"it is that of a store of {there} shards, and this one has {shards}; name another place")
    return FolderShelf(division.place(whole, shard, shards))


class FolderShelf:
    """A folder of a file system."""

    def __init__(self, folder: Path, files: Files | None = None) -> None:
        self._folder = folder
        self._files = files or Files()
        self.where = str(folder)
        self.blobs = DirectoryBlobs(folder, self._files)

    def manifest(self) -> Manifest | None:
        return manifests.read(self._folder)

    def begin(self, manifest: Manifest) -> None:
        try:
            self._files.make_folder(self._folder / FOLDER)
            self._files.replace(self._folder / manifests.NAME, manifests.of_archive(manifest))
        except OSError as error:
            raise refusal(f"{self._folder}: can't be written", error) from error

    def seqs(self) -> list[int]:
        folder = self._folder / FOLDER
        try:
            names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        except OSError as error:
            raise refusal(f"{folder}: can't be read", error) from error
        return [int(name[:20]) for name in names if name.endswith(SUFFIX) and name[:20].isdecimal()]

    def pack(self, seq: int, log_id: str, shard: int) -> Pack:
        return FilePack(self._path(seq), log_id, shard)

    def add(self, seq: int, data: bytes) -> bool:
        path = self._path(seq)
        try:
            if path.exists():
                return False
            self._files.replace(path, data)
        except OSError as error:
            raise refusal(f"{path}: can't be written", error) from error
        return True

    def _path(self, seq: int) -> Path:
        return self._folder / FOLDER / name_of(seq, 1)
