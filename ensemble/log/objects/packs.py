"""The packs of a log of objects: which of them count, and their bytes.

Owns what is known of them, and driving `Find`. Lists are asked for a page at a time and remembered: what they say may be old,
as any answer may; where a pack is gone that they named, they are asked for anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from threading import Lock

from ensemble.errors import LogCorrupt
from ensemble.log.files import Gone, corrupt
from ensemble.log.objects.codec import PACK_HEAD, decode_pack_head
from ensemble.log.objects.protocol import Absent, Answer, Call, Find, Found, Held, Log, Name, Unpacked
from ensemble.log.objects.store import PAGE, Objects, Part
from ensemble.log.pack import Pack, Read
from ensemble.log.segment import Damage

AHEAD_BYTES = 1024 * 1024
"""So much of a pack is got at a time."""

OPEN = 4
"""So many packs are kept at hand, each with what was got of it last."""


class BlockSource:
    """The bytes of a pack of blocks, after the head that names these, got as needed. See `ensemble.log.pack.Source`."""

    def __init__(self, objects: Objects, name: Name) -> None:
        """Errors: Gone; Unavailable; LogCorrupt."""
        self._objects = objects
        self._path = objects.path(name)
        self.path = f"{objects.where}/{self._path}"
        self._tag: str | None = None
        head = self._get(0, 0)
        self._tag, self.whole, self._got = head.tag, head.size, (0, head.data)
        self.first_block, self.end_block = decode_pack_head(self.path, head.data, head.size)
        self.size = head.size - PACK_HEAD.size

    def open(self) -> AbstractContextManager[Read]:
        return nullcontext(self._read)

    def _read(self, place: int, size: int) -> bytes:
        start = place + PACK_HEAD.size
        begin, data = self._got
        if not begin <= start <= start + size <= begin + len(data) and start < self.whole:
            self._got = begin, data = start, self._get(start, size).data
        return data[start - begin : start - begin + size]

    def _get(self, start: int, size: int) -> Part:
        # By its tag: who stalled can make a deleted generation anew, which is another object then.
        part = self._objects.patiently(lambda: self._objects.get_part(self._path, start, max(size, AHEAD_BYTES), self._tag))
        if part is None:
            raise Gone(
                f"store {self._objects.where}: {self._path} is there no more: it was written anew, or somebody removed it"
            )
        return part


class ObjectPack(Pack):
    """A pack in an object: what is left of the blocks from `first_block` to the one before `end_block`."""

    path: str

    def __init__(self, objects: Objects, name: Name, log_id: str, shard: int) -> None:
        """Errors: Gone; Unavailable; LogCorrupt."""
        source = BlockSource(objects, name)
        try:
            super().__init__(source, log_id, shard)
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage
        self.name = name
        self.first_block, self.end_block = source.first_block, source.end_block
        self.bytes = source.whole
        """Of the object."""
        if name.kind == "pack" and (self.first_block, self.end_block) != (name.number, name.number + 1):
            raise LogCorrupt(f"{source.path}: byte 0: this pack is of block {self.first_block}, and is called after another")


class Packs:
    """What is known of the packs of one log. Any thread."""

    def __init__(self, objects: Objects, log: Log, shard: int) -> None:
        self._objects = objects
        self._log = log
        self._shard = shard
        self._lock = Lock()
        self._own: dict[int, Name] = {}
        """Block -> its pack of the highest generation, of the blocks that were listed."""
        self._listed = range(0)
        """The blocks of which that is known."""
        self._is_all = False
        """Whether it is known of all."""
        self._past: Name | None = None
        self._past_end = 0
        """The blocks before this one are known to be past."""
        self._has_past = False
        """Whether it is known what is past."""
        self._sizes: dict[Name, int] = {}
        """Of all that were ever listed."""
        self._open: dict[Name, ObjectPack] = {}

    @property
    def is_any(self) -> bool:
        """Whether there are packs, as far as is known."""
        return bool(self._own) or self._past is not None

    def has(self, block: int) -> bool:
        """Whether a block is known to be packed."""
        return block in self._own or block < self._past_end

    def of(self, block: int) -> ObjectPack | None:
        """The pack that holds a block; None: it is not packed.

        Errors: Unavailable; LogCorrupt.
        """
        step: Find | Held | Unpacked = Find(block, self._log)
        while isinstance(step, Find):
            step = step.told(self._answer(step.wants()))
        if isinstance(step, Unpacked):
            return None
        pack: ObjectPack = step.data
        return pack

    def past(self) -> ObjectPack | None:
        """What the log begins after; None: it begins where it always did. Unavailable; LogCorrupt."""
        while True:
            generation = self._highest_past()
            found = self._answer(Call("get", self._log.past(generation))) if generation else None
            if not isinstance(found, Found):
                if found is None:
                    return None
                continue
            if self._highest_past() == generation:
                pack: ObjectPack = found.value.data  # type: ignore[union-attr]
                self._past_end = max(self._past_end, pack.end_block)
                return pack

    def _highest_past(self) -> int:
        with self._lock:
            return max(self._generations(self._log.past()), default=0)

    def known_past(self) -> ObjectPack | None:
        """The same, as it was found last."""
        return None if self._past is None else self._open.get(self._past)

    def forget(self) -> None:
        """Ask anew from here on."""
        with self._lock:
            self._own, self._listed, self._is_all, self._has_past = {}, range(0), False, False

    def all(self) -> Mapping[int, Name]:
        """The packs that single blocks have, and count, by their block. Unavailable; LogCorrupt."""
        with self._lock:
            if not self._is_all:
                self._list(0, None)
        past = self.past()
        return {block: name for block, name in self._own.items() if past is None or block >= past.end_block}

    def size(self, name: Name) -> int:
        """Bytes of a pack that was listed."""
        return self._sizes[name]

    def replaced(self, name: Name, size: int, end: int) -> None:
        """A pack was put in the place of others: of what is past up to block `end`, or of one block."""
        with self._lock:
            self._sizes[name] = size
            if name.kind == "past":
                self._past, self._past_end, self._has_past = name, end, True
                self._own = {block: own for block, own in self._own.items() if block >= end}
            else:
                self._own = {**self._own, name.number: name}

    def _answer(self, call: Call) -> Answer:
        """What the store says, or said not long ago."""
        with self._lock:
            if call.verb == "list":
                return Found(self._generations(call.name))
            pack = self._open.get(call.name)
            if pack is None:
                try:
                    pack = ObjectPack(self._objects, call.name, self._log.id, self._shard)
                except Gone:
                    self._own, self._listed, self._is_all, self._has_past = {}, range(0), False, False
                    return Absent()
                self._keep(pack)
                if call.name.kind == "past":  # believed only if it is listed still
                    self._has_past = False
            return Found(Held(pack.first_block, pack.end_block, pack))

    def _keep(self, pack: ObjectPack) -> None:
        self._open[pack.name] = pack
        for name in [name for name in self._open if name not in (pack.name, self._past)][:-OPEN]:
            del self._open[name]

    def _generations(self, row: Name) -> tuple[int, ...]:
        if row.kind == "pack":
            if not self._is_all and row.number not in self._listed:
                self._list(row.number, PAGE)
            own = self._own.get(row.number)
            return () if own is None else (own.generation,)
        if not self._has_past:
            found = self._objects.patiently(lambda: self._objects.packs(row)) or {}
            self._sizes.update(found)
            self._past, self._has_past = max(found, key=lambda name: name.generation, default=None), True
        return () if self._past is None else (self._past.generation,)

    def _list(self, block: int, most: int | None) -> None:
        """List the packs from a block on."""
        row = self._log.pack(block)
        found = self._objects.patiently(lambda: self._objects.packs(row, most)) or {}
        own: dict[int, Name] = {}
        for name in found:
            if name.number not in own or name.generation > own[name.number].generation:
                own[name.number] = name
        is_end = most is None or len(found) < most
        last = max(own, default=block)  # its row may go on
        if not is_end and len(own) > 1:
            del own[last]
        self._sizes.update(found)
        self._own, self._has_past = own, False
        self._is_all = is_end and block == 0
        self._listed = range(block, 1 << 62) if is_end else range(block, last)
