"""Finished parts of a directory store, written anew.

Owns the steps on the disk, and their order: whatever is interrupted, the old files hold or the new one.

    1. SEQ.N.pack.tmp is written and synced         the log is the old files; a .tmp is removed by who opens it next
    2. what it lost is said in the log, durably     the log is the old files; nothing is lost that is not said
    3. the manifest has format 2                    from here on an older version refuses the store
    4. it is renamed to SEQ.N.pack                  the log is the new file: a pack rules what it was made of
    5. the old files are removed                    what is left of that is done by who opens the log next
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Frame
from ensemble.log import manifest as manifests
from ensemble.log import snapshots
from ensemble.log.base import Copied, Packed, Part, Position, Removal, Taken
from ensemble.log.chain import follow
from ensemble.log.files import corrupt, refusal
from ensemble.log.group import RECORD_BYTES
from ensemble.log.pack import Item, Pack, PackWriter, decode_item, name_of
from ensemble.log.pieces import Piece
from ensemble.log.remnant import encode_remnant
from ensemble.log.segment import Damage, Window, walk_headers

if TYPE_CHECKING:
    from ensemble.log.blobs import Blobs
    from ensemble.log.directory import DirectoryLog


class _Written(NamedTuple):
    begin: Position
    end: Position
    generation: int
    """The highest of the packs that went into it."""
    new: list[Removal]
    data: bytes


class DirectoryPacking:
    """See `ensemble.log.base.Packing`."""

    def __init__(self, log: DirectoryLog) -> None:
        self._log = log
        self._shard = log.folder / "shard-0"
        self._until: dict[Path, int] = {}
        """The latest time of a segment's frames, as far as it was asked for."""

    def parts(self) -> Sequence[Part]:
        known = list(islice(snapshots.whole(self._shard, self._log.id), snapshots.KEPT))
        if len(known) < snapshots.KEPT:
            return ()
        limit = known[-1].snapshot.at.seq
        pieces = self._log.pieces()
        parts: list[Part] = []
        try:
            for piece, after in pairwise(pieces):
                if after.seq > limit:
                    break
                is_pack = isinstance(piece, Pack)
                parts.append(
                    Part(
                        piece.seq, after.seq, piece.first, after.first, piece.whole, self._until_us(piece, after),
                        isinstance(piece, Pack) and piece.is_past, is_pack,
                    )
                )  # fmt: skip
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage
        return parts

    def frames(self, part: Part) -> Iterator[Frame]:
        try:
            for piece, before in self._of([part]):
                for item in _items(piece, before):
                    yield self._decoded(piece, item)
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage

    def pack(
        self,
        parts: Sequence[Part],
        choose: Callable[[Frame], Taken | None] | None,
        removals: Callable[[], Sequence[Removal]] = tuple,
        *,
        state: Callable[[], bytes] | None = None,
        compress: bool = False,
    ) -> Packed:
        try:
            return self._pack(parts, choose, removals, state, compress=compress)
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage
        except OSError as error:
            raise refusal(f"store {self._log.folder}: a pack can't be written", error) from error

    def _pack(
        self,
        parts: Sequence[Part],
        choose: Callable[[Frame], Taken | None] | None,
        removals: Callable[[], Sequence[Removal]],
        state: Callable[[], bytes] | None,
        *,
        compress: bool,
    ) -> Packed:
        written = self._written(parts, choose, removals, state, compress=compress)
        data, name = written.data, name_of(written.begin.seq, written.generation + 1)
        files, path = self._log.files, self._shard / f"{name}.tmp"
        files.remove(path)
        fd = files.create(path)
        try:
            files.write(fd, data, 0)
            files.sync(fd)
        finally:
            os.close(fd)
        digest = sha256(data).digest()
        return Packed(tuple(parts), written.begin, written.end, digest, written.new, len(data), state is not None, name)

    def _written(
        self,
        parts: Sequence[Part],
        choose: Callable[[Frame], Taken | None] | None,
        removals: Callable[[], Sequence[Removal]],
        state: Callable[[], bytes] | None,
        *,
        compress: bool,
    ) -> _Written:
        """Parts as one pack, in memory. Damage."""
        writer = PackWriter(compress=compress)
        begin: Position | None = None
        epoch = generation = 0
        said: list[Removal] = []
        for piece, before in self._of(parts):
            begin = begin or before
            at = before
            for item in _items(piece, before):
                at, epoch = item.after, item.header.epoch
                data = item.data if choose is None else self._left(piece, item, choose, is_past=state is not None)
                if data:
                    writer.add(item.header.seq, item.header.first, data)
            if isinstance(piece, Pack):
                at, epoch, generation = piece.end, piece.head.epoch, max(generation, piece.generation)
                said += piece.head.removals
            if at.seq != piece.end_seq:
                raise Damage(piece.path, piece.whole, f"it ends before frame {at.seq}, and should before frame {piece.end_seq}")
        assert begin is not None, "at least one part is packed"
        new = list(removals())
        whole = None if state is None else state()
        data = writer.finish(self._log.id, self._log.shard, begin, at, epoch, [*said, *new], whole)
        return _Written(begin, at, generation, new, data)

    @property
    def home(self) -> str:
        return str(self._log.folder)

    def copy(self, part: Part) -> Copied:
        try:
            ((piece, _),) = self._of([part])
            if isinstance(piece, Pack):
                return Copied(piece.begin, piece.end, piece.head.removals, piece.checked())
            written = self._written([part], None, tuple, None, compress=True)
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage
        return Copied(written.begin, written.end, (), written.data)

    def carry(self, part: Part, into: Blobs) -> None:
        """Nothing lies beside the log."""

    def has_takes(self) -> bool:
        folder = self._log.folder  # of one shard of several: generation-N/SHARD
        return any((store / "takes").is_dir() and any((store / "takes").iterdir()) for store in (folder, folder.parents[1]))

    def put(self, packed: Packed) -> None:
        log, files = self._log, self._log.files
        path = self._shard / packed.name
        try:
            if packed.removals and self.has_takes():
                self.drop(packed)
                raise Unavailable(f"store {log.folder}: a take was made meanwhile; what it stands on stays until it is dropped")
            log.refuse_older()
            manifests.raise_format(log.folder, files)
            files.rename(self._shard / f"{packed.name}.tmp", path)
            files.sync_folder(self._shard)
            old = [piece for piece in log.pieces() if packed.begin.seq <= piece.seq < packed.end.seq]
            log.replace(old, Pack(path, log.id, log.shard))
            for piece in old:
                self._until.pop(piece.path, None)
                files.remove(piece.path)
        except OSError as error:
            raise refusal(f"store {log.folder}: a pack can't be put in its place", error) from error
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage

    def drop(self, packed: Packed) -> None:
        try:
            self._log.files.remove(self._shard / f"{packed.name}.tmp")
        except OSError as error:
            raise refusal(f"store {self._log.folder}: {packed.name}.tmp can't be removed", error) from error

    def sweep(self) -> None:
        """Nothing lies beside the log."""

    def _of(self, parts: Sequence[Part]) -> Iterator[tuple[Piece, Position]]:
        """The files of these parts, each with the place before it. Damage."""
        pieces = self._log.pieces()
        for ix, piece in enumerate(pieces):
            if parts[0].seq <= piece.seq < parts[-1].end_seq:
                yield piece, self._before(pieces, ix)

    def _before(self, pieces: Sequence[Piece], ix: int) -> Position:
        """The place before a piece. Damage."""
        piece = pieces[ix]
        if isinstance(piece, Pack):
            return piece.begin
        if ix == 0:
            return self._log.first
        last = pieces[ix - 1]
        if isinstance(last, Pack):
            return last.end
        with Window(piece.path, piece.whole) as window:
            first = window.header(RECORD_BYTES)
        place, _ = last.place_of_seq(piece.seq - 1)
        with Window(last.path, last.whole) as window:
            time_us = [header.time_us for _, header in walk_headers(window, place, last.whole, piece.seq)][-1]
        return Position(first.seq, first.first, first.prev, time_us)

    def _until_us(self, piece: Piece, after: Piece) -> int:
        """A time than which no frame of a piece is younger: that of the frame after it, if its own is not at hand. Damage."""
        if isinstance(piece, Pack):
            return piece.end.time_us
        if isinstance(after, Pack):
            return after.begin.time_us
        if piece.path not in self._until:
            with Window(after.path, after.whole) as window:
                self._until[piece.path] = window.header(RECORD_BYTES).time_us
        return self._until[piece.path]

    def _left(self, piece: Piece, item: Item, choose: Callable[[Frame], Taken | None], *, is_past: bool) -> bytes:
        """What is left of a frame, as bytes; none where nothing is. Damage."""
        frame = self._decoded(piece, item)
        taken = choose(frame)
        if taken is None:
            return item.data
        if is_past and not taken.rows and not taken.has_marks:
            return b""
        return encode_remnant(frame, item.after.hash, taken.rows, has_marks=taken.has_marks)

    def _decoded(self, piece: Piece, item: Item) -> Frame:
        try:
            return decode_item(item, self._log.id, self._log.shard)
        except LogCorrupt as error:
            raise Damage(piece.path, 0, error) from error


def _items(piece: Piece, before: Position) -> Iterator[Item]:
    """What a piece holds, each checked against the one before it. Damage."""
    if isinstance(piece, Pack):
        yield from piece.items()
        return
    at = before
    with Window(piece.path, piece.whole) as window:
        for place, header in walk_headers(window, 0, piece.whole, piece.end_seq):
            data = window.frame(place, header)
            try:
                at = follow(at, header, data)
            except LogCorrupt as error:
                raise Damage(piece.path, place, error) from error
            yield Item(header, data, at)
