"""Where the files of an archive lie: a folder, or a prefix of an object store (docs/log-format.md, "An archive").

Owns names, and that what was put there is durable and whole. What the files hold is `pack.py`'s and `manifest.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import division
from ensemble.log import manifest as manifests
from ensemble.log.blobs import Beside, Blobs, DirectoryBlobs
from ensemble.log.division import Division
from ensemble.log.files import Files, Gone, refusal
from ensemble.log.manifest import Manifest
from ensemble.log.pack import SUFFIX, FilePack, Pack, Read, name_of
from ensemble.log.segment import Damage
from ensemble.log.url import place_of

if TYPE_CHECKING:
    from ensemble.log.objects.store import Objects

FOLDER = "shard-0"
"""As in a store."""

AHEAD_BYTES_MIN = 64 * 1024
AHEAD_BYTES_MAX = 8 * 1024 * 1024
"""So much of an object is got at a time: the head of a pack first, more the longer it is read."""


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

    def packs(self, seqs: Sequence[int], log_id: str, shard: int) -> Iterator[Pack]:
        """The packs that begin with these frames, in turn. Errors: Damage; Unavailable."""
        ...

    def add(self, seq: int, data: bytes) -> bool:
        """Put a pack in its place, durably; False: there is one already, which stays. Unavailable."""
        ...

    def close(self) -> None:
        """Let go of what was used to read."""
        ...


def shelf_at(url: str, shard: int, shards: int) -> Shelf:
    """Where the archive of one shard of a store of so many lies, or is to lie.

    Errors: Unavailable if something else is there, or it can't be looked at; LogCorrupt.
    """
    kind, place = place_of(url)
    if kind == "objects":
        from ensemble.log.objects.store import objects_at

        return ObjectShelf(_part_of(objects_at(url, make=True), shard, shards))
    whole = Path(place)
    _refuse_other(division.count(whole), shards)
    return FolderShelf(division.place(whole, shard, shards))


def _part_of(objects: Objects, shard: int, shards: int) -> Objects:
    """The objects of the archive of one shard; of several the prefix says that there are several."""
    from ensemble.log.objects import codec

    data = objects.patiently(objects.root_manifest)
    root = None if data is None else codec.decode_manifest(f"{objects.where}/{manifests.NAME}", data)
    if root is None and shards > 1:
        _refuse_things(objects)
        root = Division(shards, 0)
        objects.patiently(lambda: objects.put(manifests.NAME, codec.encode_division(Division(shards, 0))))
    _refuse_other(root.shards if isinstance(root, Division) else None if root is None else 1, shards)
    return objects.below(f"generation-{root.generation}/{shard}") if isinstance(root, Division) else objects


def folder_manifest(whole: Path, shard: int) -> tuple[Path, Manifest | None]:
    """Where a shard of the store in a folder lies, and its manifest, or what stands for it in an archive.

    Errors: as of `ensemble.log.manifest.read`.
    """
    shards = division.count(whole) or 1
    folders = [division.place(whole, each, shards) for each in range(shards)]
    known = manifests.read(folders[shard])
    return folders[shard], known or manifests.of_empty_part(shard, map(manifests.read, folders))


def _refuse_other(there: int | None, shards: int) -> None:
    if there not in (None, shards):
        raise Unavailable(f"it is that of a store of {there} shards, and this one has {shards}; name another place")


def _refuse_things(objects: Objects) -> None:
    others = objects.patiently(lambda: objects.list("", 4)) or []
    if others:
        raise Unavailable(f"this prefix has other things below it ({', '.join(others[:3])}); choose an empty or a new one")


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
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        except OSError as error:
            raise refusal(f"{folder}: can't be read", error) from error
        return _seqs(names)

    def pack(self, seq: int, log_id: str, shard: int) -> Pack:
        return FilePack(self._path(seq), log_id, shard)

    def packs(self, seqs: Sequence[int], log_id: str, shard: int) -> Iterator[Pack]:
        return (self.pack(seq, log_id, shard) for seq in seqs)

    def close(self) -> None:
        """Nothing is held open."""

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


class ObjectShelf:
    """A prefix of an object store."""

    def __init__(self, objects: Objects) -> None:
        from ensemble.log.objects.blobs import ObjectBlobs

        self._objects = objects
        self._sizes: dict[str, int] = {}
        """What there was when it was listed last, in bytes."""
        self.where = objects.where
        self.blobs = ObjectBlobs(objects)

    def manifest(self) -> Manifest | None:
        data = self._objects.patiently(lambda: self._objects.get(manifests.NAME))
        if data is not None:
            return manifests.parse(f"{self.where}/{manifests.NAME}", data)
        if self.seqs():
            raise LogCorrupt(f"{self.where}/{manifests.NAME}: byte 0: the manifest is missing; restore this object from a copy")
        _refuse_things(self._objects)
        return None

    def begin(self, manifest: Manifest) -> None:
        self._objects.patiently(lambda: self._objects.put(manifests.NAME, manifests.of_archive(manifest)))

    def seqs(self) -> list[int]:
        self._sizes = self._objects.patiently(lambda: self._objects.sizes(FOLDER)) or {}
        return _seqs(path.rpartition("/")[2] for path in self._sizes)

    def pack(self, seq: int, log_id: str, shard: int) -> Pack:
        path = self._path(seq)
        if path not in self._sizes:
            self.seqs()
        pack = Pack(ShelvedSource(self._objects, path, self._sizes.get(path, 0)), log_id, shard)
        if pack.seq != seq:
            raise Damage(pack.path, 0, f"this pack begins with frame {pack.seq}, and is called after another")
        return pack

    def packs(self, seqs: Sequence[int], log_id: str, shard: int) -> Iterator[Pack]:
        coming = [self._objects.beside(self.pack, seq, log_id, shard) for seq in seqs]
        return (pack.result() for pack in coming)

    def close(self) -> None:
        self._objects.close()

    def add(self, seq: int, data: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError

        try:
            self._objects.patiently(lambda: self._objects.create(self._path(seq), data))
        except (AlreadyExistsError, FileExistsError):  # or it is this one: the answer to the first trial was lost
            return False
        return True

    def _path(self, seq: int) -> str:
        return f"{FOLDER}/{name_of(seq, 1)}"


class ShelvedSource:
    """The bytes of a pack on a shelf, which never changes, got ahead in growing pieces. See `ensemble.log.pack.Source`."""

    def __init__(self, objects: Objects, path: str, size: int) -> None:
        self._objects = objects
        self._path = path
        self.path = f"{objects.where}/{path}"
        self.size = size

    def open(self) -> AbstractContextManager[Read]:
        begin, data, ahead = 0, b"", AHEAD_BYTES_MIN

        def read(place: int, size: int) -> bytes:
            nonlocal begin, data, ahead
            size = min(size, self.size - place)
            if not begin <= place <= place + size <= begin + len(data):
                begin, data = place, self._get(place, min(max(size, ahead), self.size - place))
                ahead = min(4 * ahead, AHEAD_BYTES_MAX)
            return data[place - begin : place - begin + size]

        return nullcontext(read)

    def _get(self, place: int, size: int) -> bytes:
        data = self._objects.patiently(lambda: self._objects.get_range(self._path, place, size)) if size > 0 else b""
        if data is None:
            raise Gone(f"archive {self._objects.where}: {self._path} is there no more: somebody removed it")
        return data


def _seqs(names: Iterable[str]) -> list[int]:
    """The frames with which packs of these names begin, in order."""
    return sorted(int(name[:20]) for name in names if name.endswith(SUFFIX) and name[:20].isdecimal())
