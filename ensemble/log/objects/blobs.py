"""Large data in an object store: `blobs/` and its SHA-256 in hexadecimal digits, an object each (docs/size.md).

Owns the calls. An object is written whole, and twice the same is the same, so nothing is asked before.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from ensemble.errors import LogCorrupt
from ensemble.log.objects.store import Objects

PREFIX = "blobs/"


class ObjectBlobs:
    """See `ensemble.log.blobs.Blobs`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def put(self, digest: bytes, data: bytes) -> None:
        self._objects.patiently(lambda: self._objects.put(_path(digest), data))

    def get(self, digest: bytes) -> bytes:
        path = _path(digest)
        data = self._objects.patiently(lambda: self._objects.get(path))
        if data is None or sha256(data).digest() != digest:
            what = "is missing" if data is None else "was changed: it does not have its hash"
            raise LogCorrupt(f"{self._objects.where}/{path}: this data {what}; restore the object from a copy of the store")
        return data

    def names(self) -> Iterator[bytes]:
        paths = self._objects.patiently(lambda: self._objects.list(PREFIX)) or []
        return (bytes.fromhex(path.removeprefix(PREFIX)) for path in paths)

    def drop(self, digest: bytes) -> None:
        self._objects.patiently(lambda: self._objects.delete(_path(digest)))


def _path(digest: bytes) -> str:
    return PREFIX + digest.hex()
