"""Finished parts of a log in memory, written anew.

Owns where such a log is cut into parts, and putting packs in their place. A pack in memory has the bytes of one on a disk, so
it is proven in the same way; it is never compressed: what is there is read all the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log.base import Packed, Part, Position, Removal
from ensemble.log.chain import follow
from ensemble.log.frame import check
from ensemble.log.memory import SNAPSHOTS_KEPT, Held, MemoryStore, has_memory_takes, name_in_memory
from ensemble.log.pack import Item, MemorySource, Pack, name_of
from ensemble.log.repacking import Choose, Repacking, Run
from ensemble.log.segment import Damage

PART_BYTES = 1024 * 1024
"""A part that has reached this size is followed by another."""


class MemoryPacking(Repacking):
    """See `ensemble.log.base.Packing`."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store.id, store.shard)
        self._store = store
        self._where = f"memory:{store.name}"

    def parts(self) -> Sequence[Part]:
        store, held = self._store, self._store.held
        if len(store.snapshots) < SNAPSHOTS_KEPT:
            return ()
        self._cut(store.snapshots[-SNAPSHOTS_KEPT].at.seq)
        parts: list[Part] = []
        past = held.past
        if past is not None:
            parts.append(Part(past.seq, past.end_seq, past.first, past.end.offset, past.whole, True, True))
        packs = {pack.seq: pack for pack in held.packs}
        begin = held.ends[0].seq
        for seq, end in zip(store.cuts, store.cuts[1:], strict=False):
            pack = packs.get(seq)
            size = sum(map(len, held.data[seq - begin : end - begin])) if pack is None else pack.whole
            # All are as small as they get while nothing is taken out.
            parts.append(Part(seq, end, held.ends[seq - begin].offset, held.ends[end - begin].offset, size, False, True))
        return parts

    def until_us(self, part: Part) -> int:
        held = self._store.held
        return held.ends[part.end_seq - held.ends[0].seq].time_us

    @property
    def home(self) -> str:
        return f"memory:{name_in_memory(self._store)}"

    def pack(
        self,
        parts: Sequence[Part],
        choose: Choose | None,
        removals: Callable[[], Sequence[Removal]] = tuple,
        *,
        state: Callable[[], bytes] | None = None,
        compress: bool = False,
    ) -> Packed:
        made = self.repacked(parts, choose, removals, state, compress=False)
        digest, name = sha256(made.data).digest(), name_of(made.begin.seq, 1)
        return Packed(
            tuple(parts), made.begin, made.end, digest, made.removals, len(made.data), state is not None, name, made.data
        )

    def has_takes(self) -> bool:
        return has_memory_takes(self._store)

    def put(self, packed: Packed) -> None:
        store = self._store
        if packed.removals and self.has_takes():
            raise Unavailable(f"log {store.name!r}: a take was made meanwhile; what it stands on stays until it is dropped")
        pack = Pack(MemorySource(f"{self._where}/{packed.name}", packed.data), store.id, store.shard)
        with store.lock:
            held = store.held
            if packed.is_past:
                store.held = held.after(pack)
                store.cuts = [seq for seq in store.cuts if seq >= pack.end_seq]
            else:
                others = [each for each in held.packs if each.seq != pack.seq]
                held.packs = tuple(sorted([*others, pack], key=lambda each: each.seq))
                begin = held.ends[0].seq
                for ix in range(pack.seq - begin, pack.end_seq - begin):  # after that: who finds nothing here looks there
                    held.data[ix] = b""
            store.size += packed.size - sum(part.size for part in packed.parts)

    def drop(self, packed: Packed) -> None:
        """Nothing was put anywhere yet."""

    def sweep(self) -> None:
        """Nothing lies beside the log."""

    def _cut(self, limit: int) -> None:
        """Cut what has come up to this frame into parts."""
        cuts, held = self._store.cuts, self._store.held
        begin = held.ends[0].seq
        if not cuts:
            cuts.append(begin)
        size = 0
        for seq in range(cuts[-1], limit):
            size += len(held.data[seq - begin])
            if size >= PART_BYTES:
                cuts.append(seq + 1)
                size = 0

    def runs(self, parts: Sequence[Part]) -> Iterator[Run]:
        held = self._store.held
        packs = {pack.seq: pack for pack in held.packs}
        for part in parts:
            pack = packs.get(part.seq)
            if pack is not None:
                yield Run(pack.path, pack.begin, pack.items(), pack.end_seq, pack)
            else:
                before = held.ends[part.seq - held.ends[0].seq]
                yield Run(f"{self._where}: frame {part.seq}", before, _items(held, part, self._where), part.end_seq, None)


def _items(held: Held, part: Part, where: str) -> Iterator[Item]:
    """The frames of a part that was not written anew, each checked against the one before it. Damage."""
    begin = held.ends[0].seq
    at: Position = held.ends[part.seq - begin]
    for seq in range(part.seq, part.end_seq):
        data = held.data[seq - begin]
        try:
            header = check(data)
            at = follow(at, header, data)
        except LogCorrupt as error:
            raise Damage(f"{where}: frame {seq}", 0, error) from error
        yield Item(header, data, at)
