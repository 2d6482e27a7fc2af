"""Claim checks: data that is too large for a frame, kept once by its hash beside the log (docs/size.md).

Owns the layer over a log that puts such data away when a frame is sealed, and fetches it when somebody looks at it; and which
of it nothing names any more. Where it lies is the store's: `Blobs`.

    a frame that is durable names only what is durable
    in the log   data = b"" and extras["blob"] = [SHA-256, size, key]   <=>   outside  data = the bytes with that hash
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol, overload

import msgspec

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Frame, Rows
from ensemble.log import manifest as manifests
from ensemble.log.base import EventLog, LogReader, Packing, Part, Snapshot
from ensemble.log.envelope import envelope_of, is_encrypted
from ensemble.log.files import Files, refusal
from ensemble.log.frame import peek
from ensemble.log.layer import Layer

FOLDER = "blobs"
"""As `ensemble.log` knows it, which looks for it."""
EXTRA = "blob"
RECENT_BYTES = 32 << 20
"""How much of what was put away last a writer has at hand."""


class Claim(NamedTuple):
    """What a frame says of data that lies beside it."""

    digest: bytes
    """Its SHA-256."""
    size: int
    key_id: bytes | None
    """Of the key that it is encrypted with; empty: it is plain; None: the frame was written before frames said so."""
    offset: int
    """Of the event."""


Fetch = Callable[[Claim], bytes]
"""What gets such data. LogCorrupt if it is missing or damaged; Unavailable."""

NAME = re.compile("[0-9a-f]{64}")
"""How a file of such data is called; what is called otherwise is none."""


class Blobs(Protocol):
    """A place for bytes by their SHA-256. Any thread."""

    def put(self, digest: bytes, data: bytes) -> None:
        """Returns once they are durable there. Unavailable if the store refuses."""
        ...

    def get(self, digest: bytes) -> bytes:
        """Errors: LogCorrupt if they are missing or damaged; Unavailable."""
        ...

    def copies(self) -> Iterator[tuple[bytes, int]]:
        """What there is, each as often as it is kept: for the frames of one epoch, or of all (0)."""
        ...

    def drop(self, digest: bytes, epoch: int = 0) -> None:
        """Take one of these away."""
        ...


class Beside(Protocol):
    """The same place, for who looks at all that lies there, as it is."""

    def lying(self) -> Iterator[tuple[bytes, str, bytes]]:
        """What there is: what it is called by, the file or object, and its bytes. Unavailable."""
        ...

    def where(self, digest: bytes) -> str:
        """The file or object that data is kept in, or would be."""
        ...


class DirectoryBlobs:
    """`blobs/ab/abcd…`: a file each, called by its hash."""

    def __init__(self, folder: Path, files: Files | None = None) -> None:
        self._folder = folder / FOLDER
        self._files = files or Files()

    def put(self, digest: bytes, data: bytes) -> None:
        path = self._path(digest)
        try:
            if not path.exists():  # a file that is there was put there whole, and synced
                manifests.raise_format(self._folder.parent, self._files)
                self._files.make_folder(path.parent)
                self._files.replace(path, data)
        except OSError as error:
            raise refusal(f"{path}: can't be written", error) from error

    def get(self, digest: bytes) -> bytes:
        path, data = self._path(digest), self._found(digest)
        if data is None:
            raise LogCorrupt(
                f"{path}: this data is missing: retention took it since its event was read, or the file was lost; look for the "
                "event anew, or restore the file from a copy of the store"
            )
        if sha256(data).digest() != digest:
            raise LogCorrupt(f"{path}: this data was changed, its hash does not fit; restore the file from a copy of the store")
        return data

    def _found(self, digest: bytes) -> bytes | None:
        path = self._path(digest)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refusal(f"{path}: can't be read", error) from error

    def lying(self) -> Iterator[tuple[bytes, str, bytes]]:
        for digest, _ in self.copies():
            data = self._found(digest)
            if data is not None:
                yield digest, self.where(digest), data

    def where(self, digest: bytes) -> str:
        return str(self._path(digest))

    def copies(self) -> Iterator[tuple[bytes, int]]:
        try:
            for folder in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
                for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                    if NAME.fullmatch(path.name):
                        yield bytes.fromhex(path.name), 0
        except OSError as error:
            raise refusal(f"{self._folder}: can't be read", error) from error

    def drop(self, digest: bytes, epoch: int = 0) -> None:
        try:
            self._files.remove(self._path(digest))
        except OSError as error:
            raise refusal(f"{self._path(digest)}: can't be removed", error) from error

    def _path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self._folder / name[:2] / name


class MemoryBlobs:
    """In the memory of this process, beside a log there."""

    def __init__(self, kept: dict[bytes, bytes]) -> None:
        self._kept = kept

    def put(self, digest: bytes, data: bytes) -> None:
        self._kept[digest] = data

    def get(self, digest: bytes) -> bytes:
        try:
            return self._kept[digest]
        except KeyError:
            raise LogCorrupt(
                f"{self.where(digest)}: this data is missing: retention took it since its event was read; look for the event "
                "anew"
            ) from None

    def lying(self) -> Iterator[tuple[bytes, str, bytes]]:
        return ((digest, self.where(digest), data) for digest, data in list(self._kept.items()))

    def where(self, digest: bytes) -> str:
        return f"blob {digest.hex()} in memory"

    def copies(self) -> Iterator[tuple[bytes, int]]:
        return iter([(digest, 0) for digest in self._kept])

    def drop(self, digest: bytes, epoch: int = 0) -> None:
        self._kept.pop(digest, None)


class Claimed(Sequence[bytes]):
    """A column of data, some of which is fetched whenever it is looked at."""

    __slots__ = ("_data", "claims", "fetch")

    def __init__(self, data: Sequence[bytes], claims: Mapping[int, Claim], fetch: Fetch) -> None:
        """`claims` are of the rows that are to be fetched; what `data` has there is of no account."""
        self._data, self.claims, self.fetch = data, claims, fetch

    def __len__(self) -> int:
        return len(self._data)

    @overload
    def __getitem__(self, ix: int) -> bytes: ...
    @overload
    def __getitem__(self, ix: slice) -> Sequence[bytes]: ...
    def __getitem__(self, ix: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(ix, slice):
            chosen = range(*ix.indices(len(self._data)))
            claims = {row: self.claims[at] for row, at in enumerate(chosen) if at in self.claims}
            return Claimed(self._data[ix], claims, self.fetch) if claims else self._data[ix]
        claim = self.claims.get(ix if ix >= 0 else ix + len(self._data))
        return self._data[ix] if claim is None else self.fetch(claim)

    def bare(self) -> list[bytes]:
        """The column as frames have it: nothing where data lies elsewhere."""
        return [b"" if ix in self.claims else data for ix, data in enumerate(self._data)]


def whole(rows: Rows, fetch: Fetch) -> Rows:
    """Rows that were read from a frame just now, as they were said: what lies elsewhere is fetched when somebody looks."""
    claims = {}
    for row, extra in rows.odd.items():
        if EXTRA in extra:
            digest, size, *key_id = extra[EXTRA]
            claims[row] = Claim(digest, size, key_id[0] if key_id else None, rows.offset(row))
    if claims:
        extras = {row: {k: v for k, v in extra.items() if k != EXTRA} for row, extra in rows.odd.items()}
        rows.extras = rows.with_odd({row: extra for row, extra in extras.items() if extra})
        rows.data = Claimed(rows.data, claims, fetch)
    return rows


def bare(rows: Rows) -> Rows:
    """The same rows as frames have them: what lies elsewhere is only named."""
    column = rows.data
    if not isinstance(column, Claimed):
        return rows
    extras = dict(rows.odd)
    for row, claim in column.claims.items():
        extras[row] = {**extras.get(row, {}), EXTRA: [claim.digest, claim.size, claim.key_id]}
    return msgspec.structs.replace(rows, data=column.bare(), extras=rows.with_odd(extras))


class ClaimReader(Layer):
    """A log whose large data lies beside it, to read."""

    def __init__(self, log: LogReader, blobs: Blobs) -> None:
        super().__init__(log)
        self._blobs = blobs
        self._last = b"", b""
        """What was fetched last, and its digest."""

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        return map(self._whole, self._log.frames(seq))

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        return map(self._whole, self._log.rows(offset))

    def frame_at(self, offset: int) -> Frame:
        return self._whole(self._log.frame_at(offset))

    def _whole(self, frame: Frame) -> Frame:
        """The frame as it was said; what lies elsewhere is fetched when somebody looks."""
        if frame.rows is not None:
            frame.rows = whole(frame.rows, self._fetch)
        return frame

    def _fetch(self, claim: Claim) -> bytes:
        digest, data = self._last  # of one event several views may look at it, one after the other
        if digest != claim.digest:
            data = self._blobs.get(claim.digest)
            self._last = claim.digest, data
        return data


class ClaimLog(ClaimReader):
    """The same, to write. Data of more than `above` bytes is put away; None: none is."""

    def __init__(self, log: EventLog, blobs: Blobs, above: int | None) -> None:
        super().__init__(log, blobs)
        self._writer = log
        self._above = above
        self._waiting: dict[int, list[tuple[bytes, bytes]]] = {}
        """Number of a frame that is sealed and not appended -> what it names, and the bytes."""
        self._keeping = Lock()
        """Held while something is put away, or taken away. Never while `seal` may wait for it."""
        self._naming = Lock()
        """Guards what follows."""
        self._named: dict[bytes, int] = {}
        """What frames name that are sealed and not appended yet, and how often."""
        self._recent = _Recent(self._named)
        self._refuses: str | None = None
        self._claimed: set[bytes] | None = None
        """While a sweep goes on: all that was named since it began."""

    @property
    def epoch(self) -> int:
        return self._writer.epoch

    @property
    def notes(self) -> Sequence[str]:
        return self._writer.notes

    def seal(self, frame: Frame) -> bytes:
        rows, above = frame.rows, self._above
        if rows is None or above is None or max(map(len, rows.data)) <= above:
            return self._writer.seal(frame)
        claims: dict[int, Claim] = {}
        put: list[tuple[bytes, bytes]] = []
        for ix, payload in enumerate(rows.data):
            if len(payload) > above:
                digest = sha256(payload).digest()
                key_id = envelope_of(payload).key_id if is_encrypted(payload) else b""
                claims[ix] = Claim(digest, len(payload), key_id, rows.offset(ix))
                put.append((digest, payload))
        lean_data = Claimed(rows.data, claims, self._fetch).bare()
        said = msgspec.structs.replace(rows, data=Claimed(lean_data, claims, self._fetch))
        lean = msgspec.structs.replace(frame, rows=bare(said))
        sealed = self._writer.seal(lean)
        frame.epoch, frame.seq, frame.prev = lean.epoch, lean.seq, lean.prev
        frame.rows = said  # whoever keeps the frame in memory need not keep what is large in it
        with self._naming:
            for digest, payload in put:
                self._named[digest] = self._named.get(digest, 0) + 1
                self._recent.add(digest, payload)
                if self._claimed is not None:
                    self._claimed.add(digest)
        self._waiting[frame.seq] = put
        return sealed

    def append(self, sealed: Sequence[bytes]) -> None:
        if self._refuses:
            raise Unavailable(self._refuses)
        done: list[bytes] = []
        try:
            for data in sealed if self._waiting else ():
                for digest, payload in self._waiting.pop(peek(data).seq, ()):
                    with self._keeping:
                        self._blobs.put(digest, payload)
                    done.append(digest)
        except Unavailable as error:  # else the same frames, appended again, would name what is not there
            self._refuses = f"{error}; this log takes no more until it is opened again"
            raise
        self._writer.append(sealed)
        with self._naming:
            for digest in done:
                self._named[digest] -= 1
                if not self._named[digest]:
                    del self._named[digest]
            self._recent.trim()

    def save(self, snapshot: Snapshot) -> None:
        self._writer.save(snapshot)

    def packing(self) -> Packing | None:
        packing = self._writer.packing()
        return None if packing is None else ClaimPacking(self, packing, self._blobs)

    def sweep(self, packing: Packing) -> None:
        """Take away what no frame names any more. It reads the log, without what lies beside it.

        Errors: Unavailable; LogCorrupt, and then nothing went.
        """
        with self._naming:
            self._claimed = set(self._named)
        try:
            known = list(self._blobs.copies())
            past = [part for part in packing.parts() if part.is_past]
            kept: set[tuple[bytes, int]] = set()
            for frame in chain(chain.from_iterable(map(packing.frames, past)), self._writer.frames()):
                for digest in () if frame.rows is None else claims_of(frame.rows).values():
                    kept |= {(digest, 0), (digest, frame.epoch)}
            for digest, epoch in known:
                # What a later epoch names, only its own writer knows: this one was replaced then.
                if (digest, epoch) not in kept and epoch <= self.epoch:
                    with self._keeping:
                        with self._naming:  # or it was said again meanwhile
                            is_named = digest in self._claimed and not 0 < epoch < self.epoch
                        if not is_named:
                            self._blobs.drop(digest, epoch)
        finally:
            with self._naming:
                self._claimed = None

    def _fetch(self, claim: Claim) -> bytes:
        at_hand = self._recent.get(claim.digest)
        return super()._fetch(claim) if at_hand is None else at_hand


class _Recent:
    """Data that was put away last, at hand: up to RECENT_BYTES, and all that is `named` and not durable yet."""

    def __init__(self, named: Mapping[bytes, int]) -> None:
        self._named = named
        self._kept: dict[bytes, bytes] = {}
        self._size = 0

    def get(self, digest: bytes) -> bytes | None:
        """Any thread."""
        return self._kept.get(digest)

    def add(self, digest: bytes, data: bytes) -> None:
        if self._kept.pop(digest, None) is None:
            self._size += len(data)
        self._kept[digest] = data
        self.trim()

    def trim(self) -> None:
        while self._size > RECENT_BYTES:
            oldest = next((digest for digest in self._kept if digest not in self._named), None)
            if oldest is None:
                return
            self._size -= len(self._kept.pop(oldest))


class ClaimPacking:
    """See `ensemble.log.base.Packing`: frames are packed as they are kept, and what they no longer name is swept away."""

    def __init__(self, log: ClaimLog, packing: Packing, blobs: Blobs) -> None:
        self._log = log
        self._packing = packing
        self._blobs = blobs
        self.home = packing.home
        self.copy = packing.copy
        self.parts = packing.parts
        self.until_us = packing.until_us
        self.frames = packing.frames
        self.pack = packing.pack
        self.put = packing.put
        self.drop = packing.drop
        self.has_takes = packing.has_takes

    def carry(self, part: Part, into: Blobs) -> None:
        frames = (frame.rows for frame in self._packing.frames(part) if frame.rows is not None)
        for digest in {digest: None for rows in frames for digest in claims_of(rows).values()}:
            into.put(digest, self._blobs.get(digest))

    def sweep(self) -> None:
        self._packing.sweep()
        self._log.sweep(self._packing)


def claims_of(rows: Rows) -> dict[int, bytes]:
    """Row -> SHA-256 of its data, of the rows whose data lies elsewhere."""
    return {row: extra[EXTRA][0] for row, extra in rows.odd.items() if EXTRA in extra}
