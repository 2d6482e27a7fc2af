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
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import division, snapshots
from ensemble.log import manifest as manifests
from ensemble.log.base import Packed, Part, Position, Removal
from ensemble.log.chain import follow
from ensemble.log.files import refusal
from ensemble.log.group import RECORD_BYTES
from ensemble.log.pack import FilePack, Item, Pack, name_of
from ensemble.log.pieces import Piece
from ensemble.log.repacking import Choose, Repacking, Run
from ensemble.log.segment import Damage, Window, corrupt_if_damaged, walk_headers
from ensemble.log.takes.directory import stand_on

if TYPE_CHECKING:
    from ensemble.log.directory import DirectoryLog


class DirectoryPacking(Repacking):
    """See `ensemble.log.base.Packing`."""

    def __init__(self, log: DirectoryLog) -> None:
        super().__init__(log.id, log.shard)
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
        for piece, after in pairwise(pieces):
            if after.seq > limit:
                break
            is_past = isinstance(piece, Pack) and piece.is_past
            parts.append(Part(piece.seq, after.seq, piece.first, after.first, piece.whole, is_past, isinstance(piece, Pack)))
        return parts

    def until_us(self, part: Part) -> int:
        pieces = self._log.pieces()
        ix = bisect_left(pieces, part.seq, key=lambda piece: piece.seq)
        with corrupt_if_damaged():
            return self._until_us(pieces[ix], pieces[ix + 1])

    @property
    def home(self) -> str:
        return str(self._log.folder)

    def pack(
        self,
        parts: Sequence[Part],
        choose: Choose | None,
        removals: Callable[[], Sequence[Removal]] = tuple,
        *,
        state: Callable[[], bytes] | None = None,
        compress: bool = False,
    ) -> Packed:
        inside = [piece for piece in self._log.pieces() if parts[0].seq <= piece.seq < parts[-1].end_seq]
        generation = max(piece.generation if isinstance(piece, FilePack) else 0 for piece in inside)
        try:
            made = self.repacked(parts, choose, removals, state, compress=compress)
            name = name_of(made.begin.seq, generation + 1)
            self._write(self._shard / f"{name}.tmp", made.data)
        except OSError as error:
            raise refusal(f"store {self._log.folder}: a pack can't be written", error) from error
        digest = sha256(made.data).digest()
        return Packed(tuple(parts), made.begin, made.end, digest, made.removals, len(made.data), state is not None, name)

    def _write(self, path: Path, data: bytes) -> None:
        files = self._log.files
        files.remove(path)
        fd = files.create(path)
        try:
            files.write(fd, data, 0)
            files.sync(fd)
        finally:
            os.close(fd)

    def has_takes(self) -> bool:
        with stand_on(self._whole()) as found:
            return found

    def _whole(self) -> Path:
        """The folder of the whole store, of which this may be one shard of several: generation-N/SHARD."""
        whole = self._log.folder.parent.parent
        return whole if (whole / division.NAME).exists() else self._log.folder

    def put(self, packed: Packed) -> None:
        try:
            if not packed.removals:
                self._put(packed)
                return
            with stand_on(self._whole(), is_held=True) as found:  # who makes one meanwhile sees what is gone
                if not found:
                    self._put(packed)
                    return
            self.drop(packed)
        except OSError as error:
            raise refusal(f"store {self._log.folder}: a pack can't be put in its place", error) from error
        raise Unavailable(f"store {self._log.folder}: a take was made meanwhile; what it stands on stays until it is dropped")

    def _put(self, packed: Packed) -> None:
        """Unavailable; LogCorrupt; OSError."""
        log, files = self._log, self._log.files
        path = self._shard / packed.name
        log.refuse_older()
        manifests.raise_format(log.folder, files)
        files.rename(self._shard / f"{packed.name}.tmp", path)
        files.sync_folder(self._shard)
        old = [piece for piece in log.pieces() if packed.begin.seq <= piece.seq < packed.end.seq]
        with corrupt_if_damaged():
            log.replace(old, FilePack(path, log.id, log.shard))
        for piece in old:
            self._until.pop(piece.path, None)
            files.remove(piece.path)

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

    def runs(self, parts: Sequence[Part]) -> Iterator[Run]:
        for piece, before in self._of(parts):
            pack = piece if isinstance(piece, Pack) else None
            assert piece.end_seq is not None, "a part is finished"
            yield Run(piece.path, before, _items(piece, before), piece.end_seq, pack)

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
