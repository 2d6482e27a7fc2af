"""The key ring: a key for each subject, and the keys that were destroyed (docs/forget.md, "The key ring").

Owns where keys are kept, and that one is durable before anything that it encrypts, and gone for good once it was destroyed. One
writer: who holds the log open for writing; any number of readers.

    a key is in `_keys`, or its id in `_ended`, or it is of nobody's making
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from struct import Struct
from threading import RLock
from typing import NamedTuple
from zlib import crc32

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log.files import Files, corrupt, refusal
from ensemble.log.forgetting.cipher import Key

KEY_BYTES = 32
ID_BYTES = 16

MADE, ENDED = b"Key\x01", b"Key\x00"
HEAD = Struct(f">4sII{ID_BYTES}sQ{KEY_BYTES}s")
"""Marker, checksum, length of the subject, id, when, key."""
CHECKED_FROM = 8


class Record(NamedTuple):
    """A key that was made, or the end of one (then without subject and key)."""

    id: bytes
    made_us: int
    key: bytes
    subject: str
    is_end: bool = False


class Ring(ABC):
    """The keys of one log. Any thread."""

    def __init__(self) -> None:
        self._asking = RLock()
        """Held while the file or the store is asked. It may take long, and comes before `_lock` where both are held."""
        self._lock = RLock()
        """Guards what follows, and is never held while somebody waits: who seals a frame takes it."""
        self._keys: dict[bytes, Key] = {}
        self._current: dict[str, Key] = {}
        """Subject -> the key that encrypts what is said of it from here on."""
        self._ended: set[bytes] = set()
        self._new: list[Record] = []
        """Made, and not yet kept."""

    def key_for(self, subject: str) -> Key:
        """The key that encrypts a subject's data; a new one where it has none. It is not kept before `sync`."""
        with self._lock:
            key = self._current.get(subject)
            if key is None:
                record = Record(self._new_id(subject), time.time_ns() // 1000, os.urandom(KEY_BYTES), subject)
                self._new.append(record)
                key = self._take(record)
            return key

    def find(self, key_id: bytes) -> Key | None:
        """The key of this id; None: it was destroyed.

        Errors: LogCorrupt if there never was one here.
        """
        with self._lock:
            key = self._keys.get(key_id)
            if key is not None or key_id in self._ended:
                return key
        key = self._look_up(key_id)
        if key is None and key_id not in self._ended:
            raise LogCorrupt(
                f"{self.where}: byte 0: it has no key {key_id.hex()}, and nobody destroyed it; restore the key ring from a copy"
            )
        return key

    def sync(self) -> None:
        """Returns once all keys that were made are kept; meanwhile others may be made. Unavailable if they can't be."""
        with self._asking:
            with self._lock:
                new = list(self._new)
            if new:
                self._keep(new)
                with self._lock:
                    del self._new[: len(new)]

    def destroy(self, subject: str) -> int:
        """Destroy all keys of a subject, for good; how many there were. Unavailable if that can't be written."""
        with self._asking:
            self.sync()
            gone = self._ids_of(subject)
            if gone:
                with self._lock:
                    self._current.pop(subject, None)  # what is said of them meanwhile has a key that stays
                self._end(gone)
                with self._lock:
                    self._drop(gone)
            return len(gone)

    @property
    def ended(self) -> int:
        """How many keys were destroyed."""
        return len(self._ended)

    def knows(self, subject: str) -> bool:
        """Whether a subject has a key."""
        with self._asking:
            return bool(self._ids_of(subject))

    def subjects(self) -> list[str]:
        """Those that have a key, as far as they are at hand: to tell what is near a wrong one."""
        with self._lock:
            return sorted({key.subject for key in self._keys.values()})

    def _ids_of(self, subject: str) -> list[bytes]:
        with self._lock:
            return [key.id for key in self._keys.values() if key.subject == subject]

    def _new_id(self, subject: str) -> bytes:
        return os.urandom(ID_BYTES)

    def _look_up(self, key_id: bytes) -> Key | None:
        """A key that is not at hand; None: there is none, or it has ended."""
        self.refresh()
        return self._keys.get(key_id)

    def _take(self, record: Record) -> Key:
        key = self._keys[record.id] = self._current[record.subject] = Key(record.id, record.subject, AESGCM(record.key))
        return key

    def _drop(self, ids: Iterable[bytes]) -> None:
        for key_id in ids:
            key = self._keys.pop(key_id, None)
            if key is not None and self._current.get(key.subject) is key:
                del self._current[key.subject]
            self._ended.add(key_id)

    @property
    @abstractmethod
    def where(self) -> str:
        """For sentences about it."""

    @abstractmethod
    def refresh(self) -> None:
        """Take in what its writer did since. LogCorrupt; Unavailable."""

    @abstractmethod
    def _keep(self, records: Sequence[Record]) -> None:
        """Keep these keys, durably."""

    @abstractmethod
    def _end(self, ids: Sequence[bytes]) -> None:
        """Keep that these are destroyed, durably, and then destroy what is kept of them."""


class MemoryRing(Ring):
    """The keys of a log in memory: shared by who writes it and who reads it."""

    @property
    def where(self) -> str:
        return "the key ring in memory"

    def refresh(self) -> None: ...

    def _keep(self, records: Sequence[Record]) -> None: ...

    def _end(self, ids: Sequence[bytes]) -> None: ...


class AbsentRing(Ring):
    """The keys of a log whose store is not there: of an archive that is read without it."""

    def __init__(self, store: str, why: str = "") -> None:
        super().__init__()
        self._store = store
        self._why = why

    @property
    def where(self) -> str:
        return f"the key ring of store {self._store}"

    def find(self, key_id: bytes) -> Key | None:
        why = f" ({self._why})" if self._why else ""
        raise Unavailable(
            f"{self.where} is not here{why}, and what is personal in its archive can't be read without it; read the archive "
            "where that store is"
        )

    def refresh(self) -> None: ...

    def _keep(self, records: Sequence[Record]) -> None:
        """Nobody writes an archive."""

    def _end(self, ids: Sequence[bytes]) -> None:
        """Nobody is forgotten in an archive, but in its store."""


class FileRing(Ring):
    """The keys of a log in a directory, in a file beside it."""

    def __init__(self, path: Path, files: Files | None = None, *, is_writer: bool = False) -> None:
        """For who writes it is made where there is none, its torn end is cut, and what was to be overwritten is.

        Errors: Unavailable; LogCorrupt.
        """
        super().__init__()
        self._path = path
        self._files = files or Files()
        self._size = 0
        """Bytes that were taken in."""
        self._places: dict[bytes, tuple[int, int]] = {}
        """Id of a key -> where its record stands, and how long it is."""
        self._is_writer = is_writer
        try:
            if is_writer and not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
                self._files.sync_folder(path.parent)
            self._take_in()
            if is_writer:
                self._finish()
        except OSError as error:
            raise refusal(f"{path}: the key ring can't be opened", error) from error

    @property
    def where(self) -> str:
        return str(self._path)

    def refresh(self) -> None:
        if not self._is_writer:  # who writes it knows all
            self._take_in()

    def _take_in(self) -> None:
        with self._asking:
            try:
                if self._path.stat().st_size == self._size:
                    return
                data = self._path.read_bytes()
            except OSError as error:
                raise refusal(f"{self._path}: the key ring can't be read", error) from error
            with self._lock:
                self._size = self._read(data)

    def _read(self, data: bytes) -> int:
        """Take in all records, whose end comes back. LogCorrupt at one that is damaged, unless it is being overwritten."""
        found: list[tuple[int, int, Record | None, bytes]] = []
        place = 0
        while place + HEAD.size <= len(data):
            marker, crc, length, key_id, made_us, key = HEAD.unpack_from(data, place)
            end = place + HEAD.size + length
            if marker not in (MADE, ENDED):
                raise corrupt(self._path, place, "no key begins here")
            if end > len(data):
                break
            record = None
            if crc32(memoryview(data)[place + CHECKED_FROM : end]) == crc:
                record = Record(key_id, made_us, key, data[place + HEAD.size : end].decode(), marker == ENDED)
            found.append((place, end, record, key_id))
            place = end
        ended = {key_id for _, _, record, key_id in found if record is not None and record.is_end}
        for begin, end, record, key_id in found:
            if record is None and key_id not in ended:
                if end == len(data):
                    return begin
                raise corrupt(self._path, begin, "this key is damaged, and nobody destroyed it")
            if record is None or not record.is_end:
                self._places[key_id] = (begin, end - begin)
            if record is not None and not record.is_end and key_id not in self._keys and key_id not in ended:
                self._take(record)
        self._drop(ended)
        return place

    def _finish(self) -> None:
        """Do what was left to do when a writer died. OSError."""
        size = self._path.stat().st_size
        if size > self._size or self._ended:
            fd = self._files.open(self._path)
            try:
                if size > self._size:
                    self._files.cut(fd, self._size)
                self._overwrite(fd, sorted(self._ended))
                self._files.sync(fd)
            finally:
                os.close(fd)

    def _keep(self, records: Sequence[Record]) -> None:
        self._append([record_bytes(record) for record in records], [record.id for record in records])

    def _end(self, ids: Sequence[bytes]) -> None:
        now_us = time.time_ns() // 1000
        self._append([record_bytes(Record(key_id, now_us, bytes(KEY_BYTES), "", is_end=True)) for key_id in ids], ())
        try:
            fd = self._files.open(self._path)
            try:
                self._overwrite(fd, ids)
                self._files.sync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise refusal(
                f"{self._path}: it is forgotten, but the bytes of its key can't be overwritten; open the store once more to "
                "have that done",
                error,
            ) from error

    def _append(self, records: Sequence[bytes], ids: Sequence[bytes]) -> None:
        try:
            fd = self._files.open(self._path)
            try:
                self._files.write(fd, b"".join(records), self._size)
                self._files.sync(fd)
            except OSError:
                with suppress(OSError):
                    self._files.cut(fd, self._size)
                raise
            finally:
                os.close(fd)
        except OSError as error:
            raise refusal(f"{self._path}: the key ring can't be written", error) from error
        place = self._size
        for key_id, data in zip(ids, records, strict=False):
            self._places[key_id] = (place, len(data))
            place += len(data)
        self._size += sum(map(len, records))

    def _overwrite(self, fd: int, ids: Sequence[bytes]) -> None:
        """Zeros over key and subject of these; the id and the length stay. OSError."""
        for key_id in ids:
            place, length = self._places[key_id]
            begin = HEAD.size - KEY_BYTES
            self._files.write(fd, bytes(length - begin), place + begin)


def record_bytes(record: Record) -> bytes:
    """A record as it is kept."""
    subject = record.subject.encode()
    marker = ENDED if record.is_end else MADE
    data = bytearray(HEAD.pack(marker, 0, len(subject), record.id, record.made_us, record.key) + subject)
    data[4:8] = crc32(memoryview(data)[CHECKED_FROM:]).to_bytes(4, "big")
    return bytes(data)


def read_record(data: bytes) -> Record | None:
    """The one record that these bytes are; None if they are none, or damaged."""
    if len(data) < HEAD.size:
        return None
    marker, crc, length, key_id, made_us, key = HEAD.unpack_from(data)
    if marker != MADE or HEAD.size + length != len(data) or crc32(memoryview(data)[CHECKED_FROM:]) != crc:
        return None
    return Record(key_id, made_us, key, data[HEAD.size :].decode())
