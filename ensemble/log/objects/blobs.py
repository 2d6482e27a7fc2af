"""Large data in an object store: `blobs/` and its SHA-256 in hexadecimal digits, an object each (docs/size.md).

Owns the calls. An object is written whole, and twice the same is the same, so nothing is asked before.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from ensemble.errors import LogCorrupt
from ensemble.log.blobs import NAME
from ensemble.log.objects.store import Objects

PREFIX = "blobs/"


class ObjectBlobs:
    """See `ensemble.log.blobs.Blobs`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def put(self, digest: bytes, data: bytes) -> None:
        self._objects.patiently(lambda: self._objects.put(_path(digest), data))

    def get(self, digest: bytes) -> bytes:
        data = self.found(digest)
        if data is None or sha256(data).digest() != digest:
            what = "is missing" if data is None else "was changed: it does not have its hash"
            raise LogCorrupt(f"{self.where(digest)}: this data {what}; restore the object from a copy of the store")
        return data

    def found(self, digest: bytes) -> bytes | None:
        return self._objects.patiently(lambda: self._objects.get(_path(digest)))

    def where(self, digest: bytes) -> str:
        return f"{self._objects.where}/{_path(digest)}"

    def names(self) -> Iterator[bytes]:
        paths = self._objects.patiently(lambda: self._objects.list(PREFIX)) or []
        names = (path.removeprefix(PREFIX) for path in paths)
        return (bytes.fromhex(name) for name in names if NAME.fullmatch(name))

    def drop(self, digest: bytes) -> None:
        self._objects.patiently(lambda: self._objects.delete(_path(digest)))


def _path(digest: bytes) -> str:
    return PREFIX + digest.hex()
