"""A log that is trimmed into an archive, and what of it lies where, as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensemble.broker.needs import Needs
from ensemble.broker.state import State
from ensemble.event import Frame
from ensemble.log import Snapshot
from ensemble.log.archived import ArchiveReader
from ensemble.log.base import EventLog, Packed, Position
from ensemble.log.directory import DirectoryLog, open_directory
from ensemble.log.files import Files
from ensemble.log.frame import decode, peek
from ensemble.log.manifest import read
from ensemble.log.pack import Pack
from ensemble.log.pieces import pieces_of
from ensemble.log.retention import Rules, trim
from ensemble.log.shelf import FolderShelf
from ensemble.score import load
from tests.log.log_samples import Quick
from tests.log.past_samples import said


def ruled(archive: object, retain: Mapping[str, Any] | None = None, events: Mapping[str, Any] | None = None) -> Rules:
    """The rules of a score that says this, and archives."""
    kept = {**({"size": "2KB"} if retain is None else retain), "archive": str(archive)}
    return Rules(load({"ensemble": 1, "name": "band", "events": events or {}, "retain": kept}))


class Trimmed:
    """A log in small segments, all that was ever said in it, and its state."""

    def __init__(
        self,
        folder: Path,
        files: Files | None = None,
        *,
        log_id: str = "log",
        shard: int = 0,
        log: EventLog | None = None,
    ) -> None:
        self.folder = folder
        self.log_id = log_id
        self.shard = shard
        self.sealed: list[bytes] = []
        self.state = State()
        self.now_us = 1_000_000_000
        self.log = log or self.opened(files or Quick())
        for frame in self.log.frames():
            self.state.apply(frame)

    def opened(self, files: Files) -> DirectoryLog:
        return open_directory(self.folder, name="band", log_id=self.log_id, shard=self.shard, files=files, segment_bytes=700)

    def append(self, frame: Frame) -> None:
        sealed = self.log.seal(frame)
        self.sealed.append(sealed)
        self.log.append([sealed])
        self.state.apply(frame)

    def come_back(self) -> None:
        """After it was killed, with the disk as it is."""
        self.log.close()
        (self.folder / "lock").write_text("process 1 on moon")
        self.log = self.opened(Quick())
        self.sealed = self.sealed[: self.log.end().seq]
        self.state = State()
        for data in self.sealed:
            self.state.apply(decode(data, self.log_id))

    def say(self, count: int = 1, topic: str = "a", size: int = 20) -> None:
        """So many frames with two events each, of this topic and of b."""
        for _ in range(count):
            self.now_us += 1_000_000
            at = self.log.end().offset
            self.append(said(self.log, [(topic, f"k-{at % 3}"), ("b", f"k-{at % 3}")], self.now_us, size))

    def save(self, times: int = 2) -> None:
        for _ in range(times):
            self.say()
            self.log.save(Snapshot(self.log.end(), self.state.dump()))

    def trim(self, rules: Rules, *needed: int, floor: int | None = None) -> list[Packed]:
        needs = Needs(self.log.end().offset if floor is None else floor, sorted(needed))
        return trim(self.log, rules, needs, self.now_us, self.told)

    def told(self, statement: list[Any]) -> None:
        self.append(Frame(self.log.end().offset, self.log.end().time_us, None, {"removed": [statement]}))

    def lies(self) -> list[bytes]:
        """What lies in the store from its beginning on, frame by frame: as it was, or what is left of it."""
        begin = self.log.begin().seq
        found: list[bytes] = []
        for piece in pieces_of(self.folder / "shard-0", self.log_id, self.shard):
            if isinstance(piece, Pack):
                found += [item.data for item in piece.items() if item.header.seq >= begin]
                continue
            data, place = piece.path.read_bytes(), 0
            while place < len(data):
                if data[place] == 0x95:
                    place += 34
                    continue
                found.append(data[place : place + peek(data, place).length])
                place += len(found[-1])
        return found


def archive_at(folder: Path) -> ArchiveReader:
    manifest = read(folder)
    assert manifest is not None
    return ArchiveReader(FolderShelf(folder), manifest)


def lies_in(folder: Path) -> tuple[Position, Position, list[bytes]]:
    """Begin and end of an archive, and its frames."""
    archive = archive_at(folder)
    packs = [FolderShelf(folder).pack(seq, archive.id, archive.shard) for seq in FolderShelf(folder).seqs()]
    begin = archive.begin()
    return begin, archive.end(), [item.data for pack in packs for item in pack.items() if item.header.seq >= begin.seq]


def is_all_there(kept: Trimmed, archive: Path) -> bool:
    """Whether the archive and the store together have all that was ever said, byte for byte."""
    begin, end, frames = lies_in(archive)
    store = kept.lies()
    assert kept.log.begin().seq <= end.seq
    return begin.seq == 0 and frames + store[end.seq - kept.log.begin().seq :] == kept.sealed
