"""A log kept in memory: for tests, notebooks, and scores that say `memory:`.

Owns the stores of this process, by name. A named store outlives its closing, so that it can be opened again and read;
one without a name is gone with its log. The frames are kept as the bytes that a disk would get, and those that were written
anew in packs, as there.

    data[n - begin] = b""   <=>   a pack holds frame n
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from ensemble.errors import OffsetError, Unavailable
from ensemble.event import REMOVED, Frame, Past
from ensemble.log.base import Fork, Packing, Position, Snapshot, begin_of
from ensemble.log.chain import Chain
from ensemble.log.files import corrupt
from ensemble.log.frame import decode, peek
from ensemble.log.pack import Item, Pack, decode_item, gone
from ensemble.log.segment import Damage

if TYPE_CHECKING:
    from ensemble.log.forgetting.ring import Ring

SNAPSHOTS_KEPT = 2


class Held:
    """The frames of a log. Lists only grow, and `ends` last: what it counts is there.

    Shapes: `data[i]` is the i-th frame that is there, `ends[i]` the place before it; `firsts[i]` and `filled[i]` are first
            offset and number of the i-th of them that holds events. `packs` are in order; the first may be of what is past,
            whose frames are in no list.
    """

    def __init__(self, begin: Position) -> None:
        self.data: list[bytes] = []
        self.ends = [begin]
        self.firsts: list[int] = []
        self.filled: list[int] = []
        self.packs: tuple[Pack, ...] = ()

    @property
    def past(self) -> Pack | None:
        """What the log begins after."""
        return self.packs[0] if self.packs and self.packs[0].is_past else None

    def after(self, past: Pack) -> Held:
        """The same, of a log that begins after this pack."""
        other, seq = Held(past.end), past.end_seq
        at, filled = seq - self.ends[0].seq, bisect_left(self.filled, seq)
        other.data, other.ends = self.data[at:], self.ends[at:]
        other.firsts, other.filled = self.firsts[filled:], self.filled[filled:]
        other.packs = (past, *(pack for pack in self.packs if pack.seq >= seq))
        return other

    def pack_of(self, seq: int) -> Pack:
        """The pack that holds a frame which no list has."""
        return self.packs[bisect_right(self.packs, seq, key=lambda pack: pack.seq) - 1]


class MemoryStore:
    """What outlives the log that writes it."""

    def __init__(self, log_id: str, name: str, shard: int = 0, fork: Fork | None = None) -> None:
        self.id = log_id
        self.name = name
        self.shard = shard
        self.fork = fork
        self.epoch = 0
        self.writer: MemoryLog | None = None
        self.first = begin_of(log_id, shard, fork)
        """The place before its own first frame."""
        self.held = Held(self.first)
        """Changed in one assignment where the log comes to begin later: who reads the one before reads on."""
        self.cuts: list[int] = []
        """The numbers of the frames with which parts begin that may be written anew (`MemoryPacking`)."""
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
        return self._held().ends[0]

    def base(self) -> Snapshot | None:
        past = self._held().past
        state = None if past is None else past.state()
        return None if past is None or state is None else Snapshot(past.end, state)

    def end(self) -> Position:
        return self._held().ends[-1]

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        held = self._held()
        return self._read(held, range(max(seq, held.ends[0].seq), held.ends[-1].seq))

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        held = self._held()
        begin, end = self._store.first.offset, held.ends[-1].offset
        if not 0 <= offset <= end:
            raise OffsetError(f"log {self.name!r}: offset {offset} lies outside; it has the offsets {begin} to {end - 1}")
        offset = max(offset, begin)
        # Those who append may be ahead of `ends` in the other lists, never behind.
        hi = bisect_right(held.firsts, end - 1)
        lo = max(0, bisect_right(held.firsts, offset, 0, hi) - 1) if offset < end else hi
        return self._read(held, (held.filled[i] for i in range(lo, hi)))

    def frame_at(self, offset: int) -> Frame:
        held = self._held()
        begin, end = self._store.first.offset, held.ends[-1].offset
        if not begin <= offset < end:
            raise OffsetError(f"log {self.name!r}: there is no event {offset}; it has the offsets {begin} to {end - 1}")
        if offset < held.ends[0].offset:
            return self._past_frame(held, offset)
        seq = held.filled[bisect_right(held.firsts, offset) - 1]
        if sealed := held.data[seq - held.ends[0].seq]:
            return decode(sealed, self.id, self.shard, is_checked=True)
        frame = next(self._read(held, [seq]))
        if frame.removed is None or frame.rows is None or frame.rows.filed(offset - frame.first) != REMOVED:
            return frame
        raise gone(repr(self.name), offset, held.pack_of(seq), held.ends[0].offset)

    def _past_frame(self, held: Held, offset: int) -> Frame:
        """The frame that holds this offset, of those before the place at which the log begins. OffsetError."""
        past = held.past
        assert past is not None, "only after that a log begins later"
        for item in past.items(offset=offset):
            if item.header.first <= offset < item.header.end:
                frame = decode_item(item, self.id, self.shard)
                if frame.rows is not None and frame.rows.filed(offset - frame.first) != REMOVED:
                    return frame
        raise gone(repr(self.name), offset, past, held.ends[0].offset)

    def snapshot(self, upto: int | None = None) -> Snapshot | None:
        fitting = [each for each in self._open().snapshots if upto is None or each.at.seq <= upto]
        if not fitting:
            base = self.base()
            return base if base is None or upto is None or base.at.seq <= upto else None
        return fitting[-1]

    def forgotten(self) -> int:
        return 0

    def size_bytes(self) -> int:
        return self._open().size

    def requests(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        self._is_closed = True

    def _read(self, held: Held, numbers: Iterable[int]) -> Iterator[Frame]:
        """The frames with these numbers, which ascend."""
        begin, data = held.ends[0].seq, held.data
        items: Iterator[Item] = iter(())
        end = 0
        """The frame after the last of the pack that `items` are of."""
        try:
            for n in numbers:
                if sealed := data[n - begin]:
                    yield decode(sealed, self.id, self.shard, is_checked=True)
                    continue
                if n >= end:
                    pack = held.pack_of(n)
                    items, end = pack.items(seq=n), pack.end_seq
                yield decode_item(next(item for item in items if item.header.seq == n), self.id, self.shard)
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage

    def _held(self) -> Held:
        return self._open().held

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
        self._chain = Chain(store.held.ends[-1], store.epoch)
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
            held = store.held
            places = self._chain.ends(sealed, held.ends[-1])
            for data in sealed:
                header = peek(data)
                if header.events:
                    held.firsts.append(header.first)
                    held.filled.append(header.seq)
            store.size += sum(map(len, sealed))
            held.data.extend(sealed)
            held.ends.extend(places)

    def save(self, snapshot: Snapshot) -> None:
        store = self._open()
        ends, seq = store.held.ends, snapshot.at.seq
        if not ends[0].seq <= seq <= ends[-1].seq or ends[seq - ends[0].seq] != snapshot.at:
            raise ValueError(f"a snapshot of frame {seq} is of no place in a log of {ends[-1].seq} frames")
        store.snapshots = sorted({s.at.seq: s for s in [*store.snapshots, snapshot]}.values())[-SNAPSHOTS_KEPT:]

    def packing(self) -> Packing:
        from ensemble.log.memory_packing import MemoryPacking

        return MemoryPacking(self._open())

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


def has_memory_takes(store: MemoryStore) -> bool:
    """Whether takes stand on a store."""
    own = [name for name, each in _named.items() if each is store]
    return any(other.startswith(f"{name}#") for name in own for other in list(_named))


def name_in_memory(store: MemoryStore) -> str:
    """The name by which this process knows a store; empty if by none."""
    return next((name for name, each in list(_named.items()) if each is store), "")


def memory_names() -> list[str]:
    """The stores of this process that have a name."""
    return list(_named)


def forget_memory_store(name: str) -> None:
    """Let the store of this name go."""
    _named.pop(name, None)
