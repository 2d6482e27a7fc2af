"""Large data in an object store: an object each, called by its SHA-256 and by the epoch of who put it there (docs/size.md).

Owns the calls. An object is written whole, and twice the same is the same, so nothing is asked before. Who was replaced may
take away what he finds to be named no more, at any time later: of epochs that have no more to say.

    blobs/SHA-256.EPOCH    for the frames of that epoch          blobs/SHA-256    for those of all, as it was once
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from ensemble.errors import LogCorrupt
from ensemble.log.blobs import NAME
from ensemble.log.objects.store import Objects

FOLDER = "blobs"

COPIES_MOST = 1000
"""So many epochs are looked through for a copy at the most."""


class ObjectBlobs:
    """See `ensemble.log.blobs.Blobs`. `epoch` is that of the writer; 0: of who only reads."""

    def __init__(self, objects: Objects, epoch: int = 0) -> None:
        self._objects = objects
        self._epoch = self._found = epoch

    def put(self, digest: bytes, data: bytes) -> None:
        self._objects.patiently(lambda: self._objects.put(_path(digest, self._epoch), data))

    def get(self, digest: bytes) -> bytes:
        for path in self._paths(digest):
            data = self._objects.patiently(lambda path=path: self._objects.get(path))  # type: ignore[misc]
            if data is not None:
                if sha256(data).digest() != digest:
                    raise self._corrupt(path, "was changed: it does not have its hash")
                self._found = _epoch_of(path)
                return data
        raise self._corrupt(_path(digest, self._found), "is missing")

    def copies(self) -> Iterator[tuple[bytes, int]]:
        return ((digest, _epoch_of(path)) for digest, path in self._all())

    def lying(self) -> Iterator[tuple[bytes, str, bytes]]:
        for digest, path in self._all():
            data = self._objects.patiently(lambda path=path: self._objects.get(path))  # type: ignore[misc]
            if data is not None:
                yield digest, f"{self._objects.where}/{path}", data

    def where(self, digest: bytes) -> str:
        return f"{self._objects.where}/{_path(digest)}"

    def _all(self) -> Iterator[tuple[bytes, str]]:
        """What each object is called by, and its path; what is called otherwise is none of ours."""
        for path in self._objects.patiently(lambda: self._objects.list(FOLDER)) or []:
            name, _, epoch = path.rpartition("/")[2].partition(".")
            if NAME.fullmatch(name) and (not epoch or epoch.isdecimal()):
                yield bytes.fromhex(name), path

    def drop(self, digest: bytes, epoch: int = 0) -> None:
        self._objects.patiently(lambda: self._objects.delete(_path(digest, epoch)))

    def _paths(self, digest: bytes) -> Iterator[str]:
        """Where it may lie: by what was found last, or else by looking."""
        guess, own = _path(digest, self._found), _path(digest)
        yield guess
        found = self._objects.patiently(lambda: self._objects.sizes(FOLDER, own[:-1], COPIES_MOST)) or {}
        yield from (path for path in reversed(found) if path.startswith(own) and path != guess)

    def _corrupt(self, path: str, what: str) -> LogCorrupt:
        return LogCorrupt(f"{self._objects.where}/{path}: this data {what}; restore the object from a copy of the store")


def _path(digest: bytes, epoch: int = 0) -> str:
    return f"{FOLDER}/{digest.hex()}.{epoch:020d}" if epoch else f"{FOLDER}/{digest.hex()}"


def _epoch_of(path: str) -> int:
    return int(path.partition(".")[2] or 0)
