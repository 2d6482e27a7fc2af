"""A log kept in memory: for tests, notebooks, and scores that say `memory:`.

Owns the stores of this process, by name. A named store outlives its closing, so that it can be opened again and read;
one without a name is gone with its log. The frames are kept as the bytes that a disk would get.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from ensemble.errors import OffsetError, Unavailable
from ensemble.event import Frame, Past
from ensemble.log.base import Fork, Position, Snapshot, begin_of
from ensemble.log.chain import Chain
from ensemble.log.frame import decode, peek

if TYPE_CHECKING:
    from ensemble.log.forgetting.ring import Ring

SNAPSHOTS_KEPT = 2


class MemoryStore:
    """What outlives the log that writes it. Lists only grow, and `ends` last: what it counts is there.

    Shapes: `data[n]` is the n-th frame, `ends[n]` the place before it; `firsts[i]` and `filled[i]` are first offset and
            number of the i-th frame that holds events.
    """

    def __init__(self, log_id: str, name: str, shard: int = 0, fork: Fork | None = None) -> None:
        self.id = log_id
        self.name = name
        self.shard = shard
        self.fork = fork
        self.epoch = 0
        self.writer: MemoryLog | None = None
        self.data: list[bytes] = []
        self.ends = [begin_of(log_id, shard, fork)]
        self.firsts: list[int] = []
        self.filled: list[int] = []
        self.snapshots: list[Snapshot] = []
        self.size = 0
        self.blobs: dict[bytes, bytes] = {}
        """Data that is too large for a frame, by its SHA-256."""
        self.ring: Ring | None = None
        """The keys of those who can be forgotten."""
        self.lock = Lock()


class MemoryReader:
    """The reading half."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._is_closed = False

    @property
    def id(self) -> str:
        return self._store.id

    @property
    def name(self) -> str:
        return self._store.name

    @property
    def shard(self) -> int:
        return self._store.shard

    @property
    def fork(self) -> Fork | None:
        return self._store.fork

    @property
    def past(self) -> Past:
        return ()

    def begin(self) -> Position:
        return self._open().ends[0]

    def base(self) -> Snapshot | None:
        return None

    def end(self) -> Position:
        return self._open().ends[-1]

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        store = self._open()
        return (self._frame(n) for n in range(max(seq, store.ends[0].seq), store.ends[-1].seq))

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        store = self._open()
        begin, end = store.ends[0].offset, store.ends[-1].offset
        if not 0 <= offset <= end:
            raise OffsetError(f"log {self.name!r}: offset {offset} lies outside; it has the offsets {begin} to {end - 1}")
        offset = max(offset, begin)
        # Those who append may be ahead of `ends` in the other lists, never behind.
        hi = bisect_right(store.firsts, end - 1)
        lo = bisect_right(store.firsts, offset, 0, hi) - 1 if offset < end else hi
        return (self._frame(store.filled[i]) for i in range(lo, hi))

    def frame_at(self, offset: int) -> Frame:
        store = self._open()
        begin, end = store.ends[0].offset, store.ends[-1].offset
        if not begin <= offset < end:
            raise OffsetError(f"log {self.name!r}: there is no event {offset}; it has the offsets {begin} to {end - 1}")
        return self._frame(store.filled[bisect_right(store.firsts, offset) - 1])

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        fitting = [each for each in self._open().snapshots if upto is None or each.at.seq <= upto]
        return fitting[-1] if fitting else None

    def forgotten(self) -> int:
        return 0

    def size_bytes(self) -> int:
        return self._open().size

    def requests(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        self._is_closed = True

    def _frame(self, n: int) -> Frame:
        return decode(self._store.data[n - self._store.ends[0].seq], self._store.id, self._store.shard, is_checked=True)

    def _open(self) -> MemoryStore:
        if self._is_closed:
            raise Unavailable(f"log {self.name!r} in memory was closed; open it again")
        return self._store


class MemoryLog(MemoryReader):
    """The writing half. Opening it takes the store from nobody who has it open."""

    notes: Sequence[str] = ()

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        with store.lock:
            if store.writer is not None:
                raise Unavailable(
                    f"log {store.name!r} in memory is being played in this process already; close that band first, "
                    "or read it with ensemble.read"
                )
            store.writer = self
            store.epoch += 1
        self._chain = Chain(store.ends[-1], store.epoch)
        self._refuses: str | None = None

    @property
    def epoch(self) -> int:
        return self._chain.epoch

    def seal(self, frame: Frame) -> bytes:
        return self._chain.seal(frame)

    def append(self, sealed: Sequence[bytes]) -> None:
        store = self._open()
        with store.lock:
            if store.epoch != self.epoch:
                self._refuses = (
                    f"log {store.name!r} in memory was taken over by another writer "
                    f"(epoch {store.epoch}, ours is {self.epoch}); close this band"
                )
            if self._refuses:
                raise Unavailable(self._refuses)
            places = self._chain.ends(sealed, store.ends[-1])
            for data in sealed:
                header = peek(data)
                if header.events:
                    store.firsts.append(header.first)
                    store.filled.append(header.seq)
            store.size += sum(map(len, sealed))
            store.data.extend(sealed)
            store.ends.extend(places)

    def save(self, snapshot: Snapshot) -> None:
        store = self._open()
        ends, seq = store.ends, snapshot.at.seq
        if not ends[0].seq <= seq <= ends[-1].seq or ends[seq - ends[0].seq] != snapshot.at:
            raise ValueError(f"a snapshot of frame {seq} is of no place in a log of {ends[-1].seq} frames")
        store.snapshots = sorted({s.at.seq: s for s in [*store.snapshots, snapshot]}.values())[-SNAPSHOTS_KEPT:]

    def packing(self) -> None:
        return None

    def close(self) -> None:
        super().close()
        with self._store.lock:
            if self._store.writer is self:
                self._store.writer = None


_named: dict[str, MemoryStore] = {}


def memory_store(name: str) -> MemoryStore | None:
    """The store of this process that is called so, if there is one."""
    return _named.get(name) if name else None


def make_memory_store(name: str, log_id: str, band: str, shard: int = 0, fork: Fork | None = None) -> MemoryStore:
    """A new store; under its name, if it has one, it can be found again."""
    store = MemoryStore(log_id, band, shard, fork)
    return _named.setdefault(name, store) if name else store


def memory_names() -> list[str]:
    """The stores of this process that have a name."""
    return list(_named)


def forget_memory_store(name: str) -> None:
    """Let the store of this name go."""
    _named.pop(name, None)
