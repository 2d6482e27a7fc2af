"""The key ring of a log in an object store: an object a key, and one for each time that somebody was forgotten.

Owns names and requests. All is create-if-absent, as the log itself is: nothing is ever written over, so a writer that was
replaced and wakes up can't bring back what was destroyed.

    keys/ring                   there is a ring
    keys/of/HASH/REST           a key: HASH is the first half of its id and follows from the subject, REST is chance
    keys/ended/NUMBER           the ids of keys that ended together; numbered without gaps from 0
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from os import urandom

from obstore.exceptions import AlreadyExistsError

from ensemble.errors import LogCorrupt
from ensemble.log.forgetting.cipher import Key
from ensemble.log.forgetting.ring import ID_BYTES, Record, Ring, read_record, record_bytes
from ensemble.log.objects.store import Objects

MARK = "keys/ring"
HASH_BYTES = 8
LOOK_S = 5.0
"""How often, at the most, a reader looks whether somebody was forgotten."""


class ObjectRing(Ring):
    """The keys below a prefix. A writer makes each subject a new key when it opens the log, so nothing has to be read first."""

    def __init__(
        self, objects: Objects, log_id: str, *, is_writer: bool = False, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        """For who writes it is made where there is none, and what was to be deleted is. Unavailable; LogCorrupt."""
        super().__init__()
        self._objects = objects
        self._log_id = log_id
        self._now_s = now_s
        self._is_writer = is_writer
        self._next = 0
        """The number of the next end."""
        self._looked_s = -LOOK_S
        if is_writer:
            self._create(MARK, b"")
            last = self._follow()
            self._delete(last)  # the one before it was done when it was begun

    @property
    def where(self) -> str:
        return f"{self._objects.where}/keys"

    def refresh(self) -> None:
        if self._is_writer or self._now_s() < self._looked_s + LOOK_S:
            return
        with self._asking:
            now_s = self._now_s()
            if now_s >= self._looked_s + LOOK_S:
                self._looked_s = now_s
                self._follow()

    def _new_id(self, subject: str) -> bytes:
        return self._hash(subject) + urandom(ID_BYTES - HASH_BYTES)

    def _ids_of(self, subject: str) -> list[bytes]:
        found = set(super()._ids_of(subject))
        hash_ = self._hash(subject)
        for path in self._objects.patiently(lambda: self._objects.list(f"keys/of/{hash_.hex()}")) or []:
            found.add(hash_ + bytes.fromhex(path.rpartition("/")[2]))
        return sorted(found - self._ended)

    def _look_up(self, key_id: bytes) -> Key | None:
        path = _path(key_id)
        with self._asking:
            data = self._objects.patiently(lambda: self._objects.get(path))
            self._follow()  # afterwards: a key that was got may have ended already
            if data is None or key_id in self._ended:
                return None
            record = read_record(data)
            if record is None or record.id != key_id:
                raise LogCorrupt(f"{self._objects.where}/{path}: byte 0: this key is damaged; restore this object from a copy")
            with self._lock:
                current = self._current.get(record.subject)
                key = self._take(record)
                if current is not None:
                    self._current[record.subject] = current
            return key

    def _keep(self, records: Sequence[Record]) -> None:
        for record in records:
            self._create(_path(record.id), record_bytes(record))

    def _end(self, ids: Sequence[bytes]) -> None:
        data = b"".join(ids)
        while True:
            self._follow()
            path = f"keys/ended/{self._next:020d}"
            self._create(path, data)
            if self._objects.patiently(lambda path=path: self._objects.get(path)) == data:  # type: ignore[misc]
                break
        self._follow()
        self._delete(ids)

    def _follow(self) -> list[bytes]:
        """Take in what has ended since; the keys that ended last come back."""
        last: list[bytes] = []
        while True:
            path = f"keys/ended/{self._next:020d}"
            data = self._objects.patiently(lambda path=path: self._objects.get(path))  # type: ignore[misc]
            if data is None:
                return last
            if not data or len(data) % ID_BYTES:
                raise LogCorrupt(
                    f"{self._objects.where}/{path}: byte 0: these are no ids of keys; restore this object from a copy"
                )
            last = [data[at : at + ID_BYTES] for at in range(0, len(data), ID_BYTES)]
            with self._lock:
                self._drop(last)
            self._next += 1

    def _create(self, path: str, data: bytes) -> None:
        with suppress(AlreadyExistsError, FileExistsError):
            self._objects.patiently(lambda: self._objects.create(path, data))

    def _delete(self, ids: Sequence[bytes]) -> None:
        for key_id in ids:
            path = _path(key_id)
            self._objects.patiently(lambda path=path: self._objects.delete(path))  # type: ignore[misc]

    def _hash(self, subject: str) -> bytes:
        return sha256(f"{self._log_id}/{subject}".encode()).digest()[:HASH_BYTES]


def has_ring(objects: Objects) -> bool:
    """Whether the log below a prefix has a key ring. Unavailable."""
    return objects.patiently(lambda: objects.get(MARK)) is not None


def _path(key_id: bytes) -> str:
    return f"keys/of/{key_id[:HASH_BYTES].hex()}/{key_id[HASH_BYTES:].hex()}"
