"""Where the frames of a log of objects are: which entry to read from, to come to a frame or an offset.

Owns a row for each block, and one for each group of the newest blocks, whose entries may have to be fetched one by one. One
thread notes, any number ask meanwhile: lists only grow, and who asks knows up to where he may.

    seqs[k], firsts[k] = the place before entry k * block,  sizes[k] = bytes of the groups before it
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from ensemble.log.base import Position
from ensemble.log.objects.codec import Blocks

YOUNG = 2
"""Of so many blocks, the newest, each group is known."""


class Spot(NamedTuple):
    """An entry to read from, the place of the first frame that comes there, and the bytes of all groups before it."""

    number: int
    seq: int
    first: int
    size: int


class Index:
    """Of a log whose blocks have so many entries. `blocks` are those that are known already, with `size` bytes in all."""

    def __init__(self, block: int, blocks: Blocks | None = None, size: int = 0) -> None:
        self.size = size
        self._block = block
        self._seqs, self._firsts, self._sizes = blocks or Blocks([], [], [])
        self._young: dict[int, list[Spot]] = {}

    def note(self, number: int, at: Position, size: int | None) -> None:
        """Entry `number` comes at this place: a group of so many bytes, or another (None)."""
        block, ix = divmod(number, self._block)
        if ix == 0:
            self._sizes.append(self.size)
            self._firsts.append(at.offset)
            self._young[block] = []
            self._young.pop(block - YOUNG, None)
            self._seqs.append(at.seq)
        if size is not None:
            self._young.setdefault(block, []).append(Spot(number, at.seq, at.offset, self.size))
            self.size += size

    def skip(self, number: int, end: int, at: Position, size: int) -> None:
        """From entry `number` on, to the end of the block before block `end`, a pack of so many bytes comes at this place."""
        for block in range(-(-number // self._block), end):
            self._sizes.append(self.size)
            self._firsts.append(at.offset)
            self._young.pop(block - YOUNG, None)
            self._seqs.append(at.seq)
        self.size += size

    def block_of(self, seq: int) -> int:
        """The block with this frame, which must be there."""
        return bisect_right(self._seqs, seq) - 1

    @property
    def blocks(self) -> int:
        """How many have begun, as far as is known."""
        return len(self._seqs)

    def place(self, block: int) -> Spot:
        """Where a block begins."""
        return Spot(block * self._block, self._seqs[block], self._firsts[block], self._sizes[block])

    def of_seq(self, seq: int) -> Spot:
        """From where to read to come to this frame, which must be there."""
        return self._spot(bisect_right(self._seqs, seq) - 1, 1, seq)

    def of_offset(self, offset: int) -> Spot:
        """From where to read to come to this offset, which must be there."""
        return self._spot(bisect_right(self._firsts, offset, 0, len(self._seqs)) - 1, 2, offset)

    def before(self, number: int) -> Blocks:
        """The blocks that begin before entry `number`."""
        count = -(-number // self._block)
        return Blocks(self._seqs[:count], self._firsts[:count], self._sizes[:count])

    def _spot(self, block: int, column: int, value: int) -> Spot:
        young = self._young.get(block, [])
        ix = bisect_right(young, value, key=lambda spot: spot[column]) - 1
        if ix >= 0:
            return young[ix]
        return Spot(block * self._block, self._seqs[block], self._firsts[block], self._sizes[block])
