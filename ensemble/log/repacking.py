"""Finished parts of a log written anew, as the bytes of a pack: what is left of each frame, in order.

Owns what becomes of frames on that way, and what all logs do alike with their parts (`Repacking`). Knows no store: where the
parts lie, and where the pack is going to, is the log's (`ensemble.log.base.Packing`).

    what is written = the items of the parts, each as it was or what is left of it; of what is past those of which something is
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ensemble.errors import LogCorrupt
from ensemble.event import Frame
from ensemble.log.base import Copied, Part, Position, Removal, Taken
from ensemble.log.pack import Item, Pack, PackWriter, decode_item
from ensemble.log.remnant import encode_remnant
from ensemble.log.segment import Damage, corrupt_if_damaged

if TYPE_CHECKING:
    from ensemble.log.blobs import Blobs

Choose = Callable[[Frame], Taken | None]


class Run(NamedTuple):
    """What is kept in one place, to be written anew."""

    path: Path | str
    before: Position
    items: Iterator[Item]
    end_seq: int
    pack: Pack | None
    """Where it was written anew before: then it says more than its items do."""


class Repacked(NamedTuple):
    begin: Position
    end: Position
    data: bytes
    removals: Sequence[Removal]
    """Of this time."""


class Repacking(ABC):
    """What of `ensemble.log.base.Packing` follows from how the parts are kept, which is all that a log has to say (`runs`)."""

    def __init__(self, log_id: str, shard: int) -> None:
        self._id = log_id
        self._number = shard

    @abstractmethod
    def runs(self, parts: Sequence[Part]) -> Iterator[Run]:
        """These parts, as they are kept. Damage; LogCorrupt; Unavailable."""

    def frames(self, part: Part) -> Iterator[Frame]:
        with corrupt_if_damaged():
            for run in self.runs([part]):
                for item in run.items:
                    yield _decoded(run.path, item, self._id, self._number)

    def copy(self, part: Part) -> Copied:
        with corrupt_if_damaged():
            (run,) = self.runs([part])
            return _copied(run, self._id, self._number)

    def carry(self, part: Part, into: Blobs) -> None:  # noqa: B027 - so it is wherever frames have their data themselves
        """Nothing lies beside the log."""

    def repacked(
        self,
        parts: Sequence[Part],
        choose: Choose | None,
        removals: Callable[[], Sequence[Removal]],
        state: Callable[[], bytes] | None,
        *,
        compress: bool,
    ) -> Repacked:
        """The pack of these parts. Unavailable; LogCorrupt."""
        with corrupt_if_damaged():
            return _repack(self.runs(parts), self._id, self._number, choose, removals, state, compress=compress)


def _repack(
    runs: Iterable[Run],
    log_id: str,
    shard: int,
    choose: Choose | None,
    removals: Callable[[], Sequence[Removal]],
    state: Callable[[], bytes] | None,
    *,
    compress: bool,
) -> Repacked:
    """The pack of runs that follow each other, of which there is at least one. See `ensemble.log.base.Packing.pack`.

    Errors: Damage, and what `items` raise.
    """
    writer = PackWriter(compress=compress)
    begin: Position | None = None
    epoch = 0
    said: list[Removal] = []
    for run in runs:
        begin = begin or run.before
        at = run.before
        for item in run.items:
            at, epoch = item.after, item.header.epoch
            data = item.data
            if choose is not None:
                frame = _decoded(run.path, item, log_id, shard)
                data = _left(frame, item, choose(frame), is_past=state is not None)
            if data:
                writer.add(item.header.seq, item.header.first, data)
        if run.pack is not None:
            at, epoch = run.pack.end, run.pack.head.epoch
            said += run.pack.head.removals
        if at.seq != run.end_seq:
            raise Damage(run.path, 0, f"it ends before frame {at.seq}, and should before frame {run.end_seq}")
    assert begin is not None, "at least one part is packed"
    new = list(removals())
    whole = None if state is None else state()
    return Repacked(begin, at, writer.finish(log_id, shard, begin, at, epoch, [*said, *new], whole), new)


def _copied(run: Run, log_id: str, shard: int) -> Copied:
    """A run as it is, as the bytes of a pack: those of the pack that it is, if it was written anew before.

    Errors: Damage, and what `items` raise.
    """
    if run.pack is None:
        made = _repack([run], log_id, shard, None, tuple, None, compress=True)
        return Copied(made.begin, made.end, (), made.data)
    for _ in run.items:  # each is checked on its way
        pass
    run.pack.state()
    return Copied(run.pack.begin, run.pack.end, run.pack.head.removals, run.pack.data())


def _decoded(path: Path | str, item: Item, log_id: str, shard: int) -> Frame:
    """The frame that an item is, or what is left of it. Damage."""
    try:
        return decode_item(item, log_id, shard)
    except LogCorrupt as error:
        raise Damage(path, 0, error) from error


def _left(frame: Frame, item: Item, taken: Taken | None, *, is_past: bool) -> bytes:
    """What is left of a frame, as bytes; none where nothing is."""
    if taken is None:
        return item.data
    if is_past and not taken.rows and not taken.has_marks:
        return b""
    return encode_remnant(frame, item.after.hash, taken.rows, has_marks=taken.has_marks)
