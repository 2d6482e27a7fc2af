"""Finished blocks of a log of objects, written anew.

Owns what is made of which blocks, and driving `Replace`. A part is a block that holds frames; what is past is the first part,
of all blocks before it. A pack is in memory until it is put in its place: what was said of one that never came is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from ensemble.errors import Unavailable
from ensemble.log.base import Packed, Part, Position, Removal
from ensemble.log.files import Gone
from ensemble.log.objects.codec import decode_pack, encode_pack, encode_segment
from ensemble.log.objects.packs import ObjectPack
from ensemble.log.objects.protocol import STUB, Name, Overtaken, Replace, Replaced
from ensemble.log.pack import Item
from ensemble.log.repacking import Choose, Repacking, Run

if TYPE_CHECKING:
    from ensemble.log.objects.log import ObjectLog

SNAPSHOTS = 2
"""What has come since the newest but one is no part."""

STUB_DATA = encode_segment(STUB)


class ObjectPacking(Repacking):
    """See `ensemble.log.base.Packing`."""

    def __init__(self, log: ObjectLog) -> None:
        super().__init__(log.id, log.shard)
        self._log = log

    def parts(self) -> Sequence[Part]:
        log, index = self._log, self._log.index
        saved = log.snapshots_at()
        if len(saved) < SNAPSHOTS:
            return ()
        own, past = log.packs.all(), log.packs.past()
        parts: list[Part] = []
        if past is not None:
            parts.append(Part(past.seq, past.end_seq, past.first, past.end.offset, past.bytes, True, True))
        for block in range(0 if past is None else past.end_block, index.blocks - 1):
            begin, end = index.place(block), index.place(block + 1)
            if end.seq > saved[-SNAPSHOTS]:
                break
            if begin.seq < end.seq:
                name = own.get(block)
                size = end.size - begin.size if name is None else log.packs.size(name)
                parts.append(Part(begin.seq, end.seq, begin.first, end.first, size, False, name is not None))
        return parts

    def until_us(self, part: Part) -> int:
        if part.is_packed:
            return self._pack_of(part).end.time_us
        log, block = self._log, self._log.index.block_of(part.end_seq)
        name = log.packs.all().get(block)
        pack = None if name is None else log.packs.of(block)
        return log.frame(part.end_seq).time_us if pack is None else pack.begin.time_us

    @property
    def home(self) -> str:
        return self._log.objects.where

    def pack(
        self,
        parts: Sequence[Part],
        choose: Choose | None,
        removals: Callable[[], Sequence[Removal]] = tuple,
        *,
        state: Callable[[], bytes] | None = None,
        compress: bool = False,
    ) -> Packed:
        assert state is not None or len(parts) == 1, "only what is past is of several parts"
        made = self.repacked(parts, choose, removals, state, compress=compress)
        first, end = self._blocks(parts, is_past=state is not None)
        data = encode_pack(first, end, made.data)
        name = self._log.objects.path(self._name(first, is_past=state is not None))
        return Packed(
            tuple(parts), made.begin, made.end, sha256(data).digest(), made.removals, len(data), state is not None, name, data
        )

    def has_takes(self) -> bool:
        return bool(self._log.objects.patiently(self._log.objects.take_folders))

    def put(self, packed: Packed) -> None:
        log, packs = self._log, self._log.packs
        if packed.removals and self.has_takes():
            raise Unavailable(
                f"store {log.objects.where}: a take was made meanwhile; what it stands on stays until it is dropped"
            )
        first, end = self._blocks(packed.parts, is_past=packed.is_past)
        name = self._name(first, is_past=packed.is_past)
        own, past = packs.all(), packs.past()
        older = [own[block] for block in range(first, end) if block in own]
        known = 0
        if packed.is_past and past is not None:
            older.append(past.name)
            known = past.end_block
        new = range(max(first, known), end)
        for block in new:
            if block not in own and not log.is_merged(block):
                older += map(log.names.entry, range(block * log.names.block, (block + 1) * log.names.block))
        step: Replace | Replaced | Overtaken = Replace(
            name, log.names, decode_pack(packed.name, packed.data), tuple(new), tuple(older)
        )
        while isinstance(step, Replace):
            # What is left of what counts for nothing is nobody's loss: one trial is enough.
            step = step.told(log.objects.call(step.wants()) if step.phase == "clear" else log.objects.ask(step))
        if isinstance(step, Overtaken):
            packs.forget()
            raise Unavailable(
                f"store {log.objects.where}: another writer has packed the same blocks; if this one was taken over, close it"
            )
        packs.replaced(name, packed.size, end)

    def drop(self, packed: Packed) -> None:
        """Nothing was written yet."""

    def sweep(self) -> None:
        """Do what somebody left undone who died after a pack counted, before the rest was done."""
        log, objects = self._log, self._log.objects
        own, past = log.packs.all(), log.packs.past()
        gone = 0 if past is None else past.end_block
        packed = {*range(gone), *own}
        if not packed:
            return
        segments = objects.patiently(lambda: objects.sizes(f"segments/{log.id}")) or {}
        for path in (objects.path(log.names.segment(block)) for block in sorted(packed)):
            if segments.get(path) != len(STUB_DATA):
                objects.patiently(lambda path=path: objects.put(path, STUB_DATA))  # type: ignore[misc]
        entries = objects.patiently(lambda: objects.sizes(f"log/{log.id}")) or {}
        left = [path for path in entries if int(path.rpartition("/")[2]) // log.names.block in packed]
        for row in (log.names.pack(0), log.names.past()):
            found = objects.patiently(lambda row=row: objects.packs(row, None)) or {}  # type: ignore[misc]
            highest = {name.number: name for name in sorted(found, key=lambda name: name.generation)}
            # By what is listed now: who was replaced must not take away what came after him.
            left += [
                objects.path(name)
                for name in found
                if name != highest[name.number] or (name.kind == "pack" and name.number < gone)
            ]
        if left:
            objects.patiently(lambda: objects.delete_all(left))

    def _blocks(self, parts: Sequence[Part], *, is_past: bool) -> tuple[int, int]:
        """The blocks that a pack of these parts holds: the first, and the one after the last."""
        index, last = self._log.index, parts[-1]
        end = index.block_of(last.end_seq - 1) + 1
        if last.is_past:
            past = self._log.packs.past()
            end = end if past is None else past.end_block
        return (0 if is_past else end - 1), end

    def _name(self, block: int, *, is_past: bool) -> Name:
        """What a new pack is called: of the generation after that which counts."""
        log = self._log
        if is_past:
            past = log.packs.past()
            return log.names.past(1 if past is None else past.name.generation + 1)
        own = log.packs.all().get(block)
        return log.names.pack(block, 1 if own is None else own.generation + 1)

    def runs(self, parts: Sequence[Part]) -> Iterator[Run]:
        log = self._log
        for part in parts:
            block = log.index.block_of(part.end_seq - 1)
            if part.is_packed:
                pack = self._pack_of(part)
                yield Run(pack.path, pack.begin, pack.items(), pack.end_seq, pack)
                continue
            path = f"{log.objects.where}/{log.objects.path(log.names.segment(block))}"
            before = self._before(block)
            yield Run(path, before, self._items(block, before), part.end_seq, None)

    def _pack_of(self, part: Part) -> ObjectPack:
        """The pack that holds a part. Gone if another has written it anew; LogCorrupt; Unavailable."""
        packs = self._log.packs
        pack = packs.past() if part.is_past else packs.of(self._log.index.block_of(part.end_seq - 1))
        if pack is None or (pack.seq, pack.end_seq) != (part.seq, part.end_seq):
            raise Gone(f"store {self._log.objects.where}: frames {part.seq} to {part.end_seq - 1} were written anew meanwhile")
        return pack

    def _items(self, block: int, before: Position) -> Iterator[Item]:
        """The frames of a block that was not packed, each checked against the one before it."""
        log, at = self._log, before
        start = block * log.names.block
        for number, piece in log.pieces(start, start + log.names.block):
            if isinstance(piece, ObjectPack):
                raise Gone(f"store {log.objects.where}: block {block} was packed by another writer meanwhile")
            if piece.is_group:
                for item in log.items(number, piece, at):
                    at = item.after
                    yield item

    def _before(self, block: int) -> Position:
        """The place before the first frame of a block."""
        log, begin = self._log, self._log.index.place(block)
        if begin.seq == log.first.seq:
            return log.first
        past = log.packs.past()
        if past is not None and begin.seq == past.end_seq:
            return past.end
        before, after = log.frame(begin.seq - 1), log.frame(begin.seq)
        return Position(begin.seq, begin.first, after.prev, before.time_us)
