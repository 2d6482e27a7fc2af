"""A log with a past that may go, beside the slow account of it: what retention must leave, row by row.

The account is a list of frames as plain data. It is told only what can't be worked out by reading the rules of docs/size.md:
where the files of the log begin, how large they are, and how far snapshots reach.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from ensemble.broker.needs import Needs
from ensemble.broker.state import State
from ensemble.event import REMOVED, Frame, Rows, encode
from ensemble.log.base import EventLog, LogReader, Position
from ensemble.log.directory import DirectoryLog, read_directory
from ensemble.log.objects.log import ObjectLog
from ensemble.log.pack import FilePack, Pack
from ensemble.log.pieces import pieces_of
from ensemble.log.retention import Rules
from ensemble.score import load

DAY_US = 86_400_000_000


def rules(retain: Mapping[str, Any] | None = None, events: Mapping[str, Any] | None = None, *, compress: str = "none") -> Rules:
    """The rules of a score that says this."""
    said: dict[str, Any] = {"ensemble": 1, "name": "band", "events": events or {}, "store": {"compress": compress}}
    return Rules(load(said | ({} if retain is None else {"retain": retain})))


def said(log: EventLog, events: Sequence[tuple[str, str]], time_us: int, size: int = 20) -> Frame:
    """A frame that says such topics under such keys, and writes down the last of each key in a table."""
    at = log.end()
    topics = list(dict.fromkeys(topic for topic, _ in events))
    rows = Rows(
        "", 0, at.offset, 0, topics, [topics.index(topic) for topic, _ in events], [key for _, key in events],
        [encode({"n": at.offset + ix, "x": "x" * size}) for ix in range(len(events))], ["/band"], 0,
        causes=[max(0, at.offset - 1)] * len(events) if at.seq % 2 else None,
        roots=[0] * len(events) if at.seq % 2 else None,
        extras={0: {"traceparent": "t"}} if at.seq % 3 == 0 else None,
    ) if events else None  # fmt: skip
    wrote = {key: encode(at.offset + ix) for ix, (_, key) in enumerate(events)}
    return Frame(at.offset, max(at.time_us, time_us), rows, {"wrote": {"p": wrote}} if wrote else {"plan": b"%d" % at.seq})


def append(log: EventLog, frame: Frame) -> None:
    log.append([log.seal(frame)])


class Account:
    """What must be there."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        """All frames that ever were; an event that is gone is None."""
        self.begin = 0
        """The number of the frame with which the log begins."""
        self.whole: list[Frame] = []
        """All frames as they were said."""
        self.past: set[int] = set()
        """The offsets before the beginning that are still there."""

    def add(self, frame: Frame) -> None:
        rows = frame.rows
        events = [(rows.topic(i), rows.keys[i], rows.data[i]) for i in range(len(rows))] if rows is not None else []
        self.frames.append({"first": frame.first, "time_us": frame.time_us, "events": events, "marks": frame.marks})
        self.whole.append(copy.deepcopy(frame))

    def end(self) -> int:
        last: dict[str, Any] = self.frames[-1] if self.frames else {"first": 0, "events": ()}
        return int(last["first"]) + len(last["events"])

    def state(self) -> State:
        state = State()
        for frame in self.whole:
            state.apply(frame)
        return state

    def catch_up(self, log: LogReader) -> None:
        """Take in the statements that retention said."""
        for frame in log.frames(len(self.frames)):
            assert frame.rows is None
            assert list(frame.marks) == ["removed"]
            self.add(frame)

    def first(self, seq: int) -> int:
        return int(self.frames[seq]["first"]) if seq < len(self.frames) else self.end()

    def steps(
        self, files: Sequence[tuple[int, int]], reach: int, size: int, rules: Rules, needs: Needs, now_us: int
    ) -> list[list[tuple[int, int] | int]]:
        """What must go, in steps of which each is done whole or not at all.

        Shapes: `files` are those of the log: first frame, and size; `reach` is the frame of the newest snapshot but one. A step
                is a list: offsets that go; and perhaps a pair, the new beginning (its frame), and 0.
        """
        bounds = [seq for seq, _ in files]
        sizes = dict(files)
        parts = [(a, b) for a, b in itertools.pairwise(bounds) if b <= reach and self.first(b) <= needs.floor]
        kept = set(needs.offsets)
        steps: list[list[tuple[int, int] | int]] = []
        past = [part for part in parts if part[1] <= self.begin]
        coming = [part for part in parts if part[1] > self.begin]
        whole = rules.whole
        gone: list[tuple[int, int]] = []
        if whole is not None:
            while whole.time_us is not None and coming and self._until(coming[0], files) < now_us - whole.time_us:
                gone.append(coming.pop(0))
            left = size - sum(sizes[a] for a, _ in past + gone)
            while whole.size is not None and coming and left > whole.size:
                left -= sizes[coming[0][0]]
                gone.append(coming.pop(0))
        if gone:
            steps.append([(gone[-1][1], 0), *(o for o in range(self.first(gone[-1][1])) if o not in kept)])
        start = self.first(gone[-1][1]) if gone else self.first(self.begin)
        present = [
            (frame["first"] + ix, *event)
            for frame in self.frames
            for ix, event in enumerate(frame["events"])
            if event is not None and frame["first"] + ix >= start
        ]
        for a, b in reversed(coming):
            lo, hi = self.first(a), self.first(b)
            going: list[tuple[int, int] | int] = []
            for offset, topic, key, _ in present:
                rule = rules.of(topic)
                if not lo <= offset < hi or rule is None or offset in kept:
                    continue
                retain = rule.retain
                newer = sum(len(data) for o, t, _, data in present if t == topic and o >= hi)
                is_old = (
                    retain is not None and retain.time_us is not None and self._until((a, b), files) < now_us - retain.time_us
                )
                is_much = retain is not None and retain.size is not None and newer >= retain.size
                is_stale = rule.is_compact and any((o > offset, t, k) == (True, topic, key) for o, t, k, _ in present)
                if is_old or is_much or is_stale:
                    going.append(offset)
            if going:
                steps.append(going)
        return steps

    def _until(self, part: tuple[int, int], files: Sequence[tuple[int, int]]) -> int:
        """A segment is as young as the frame after it."""
        return int(self.frames[part[1]]["time_us"]) if part[1] not in self.packed_to else self.frames[part[1] - 1]["time_us"]

    packed_to: Collection[int] = ()
    """The frames after packs, and before them: there the time of the last frame is at hand."""

    def take(self, step: Sequence[tuple[int, int] | int]) -> None:
        for each in step:
            if isinstance(each, tuple):
                self.begin = each[0]
                continue
            for frame in self.frames:
                if frame["first"] <= each < frame["first"] + len(frame["events"]):
                    frame["events"][each - frame["first"]] = None

    def copy(self) -> Account:
        other = Account()
        other.frames, other.begin, other.whole = copy.deepcopy(self.frames), self.begin, list(self.whole)
        return other

    def is_that_of(self, log: LogReader) -> bool:
        """Whether a log has just what is here."""
        found = []
        for frame in log.frames():
            rows = frame.rows
            events = [
                None if rows.filed(i) == REMOVED else (rows.topic(i), rows.keys[i], rows.data[i]) for i in range(len(rows))
            ] if rows is not None else []  # fmt: skip
            found.append({"first": frame.first, "time_us": frame.time_us, "events": events, "marks": frame.marks})
        return found == self.frames[self.begin :] and log.begin().seq == self.begin


def files_of(log: EventLog) -> list[tuple[int, int]]:
    """The parts of the log, first frame and size, and what comes after the last."""
    if isinstance(log, DirectoryLog):
        return [(piece.seq, piece.whole) for piece in log.pieces()]
    packing = log.packing()
    assert packing is not None
    parts = packing.parts()
    return [*((part.seq, part.size) for part in parts), *((part.end_seq, 0) for part in parts[-1:])]


def packed_to(log: EventLog) -> Collection[int]:
    """The places of which it is known at hand how old the frame before them is: where a pack begins or ends; in memory all."""
    if isinstance(log, DirectoryLog):
        packs: Sequence[Pack] = [piece for piece in log.pieces() if isinstance(piece, Pack)]
    elif isinstance(log, ObjectLog):
        found = [log.packs.past(), *map(log.packs.of, log.packs.all())]
        packs = [pack for pack in found if pack is not None]
    else:
        return range(log.end().seq + 1)
    return {pack.end.seq for pack in packs} | {pack.seq for pack in packs}


def verify(folder: Path, log_id: str) -> None:
    """Every hash of a store, from its files: each follows the one before it, and what lost something is said in the log."""
    shard = folder / "shard-0"
    said: dict[bytes, list[Any]] = {}
    packs: list[FilePack] = []
    at = None
    for piece in pieces_of(shard, log_id, 0):
        if isinstance(piece, FilePack):
            assert at in (None, piece.begin)
            for _ in piece.items():
                pass
            at = piece.end
            if piece.head.removals:
                packs.append(piece)
        else:
            data, place = piece.path.read_bytes(), 0
            unpacker = msgspec.msgpack.Decoder()
            while place < len(data):
                length = int.from_bytes(data[place + 2 : place + 6], "big")
                if data[place] == 0x95:
                    place += 34
                    continue
                sealed = data[place : place + length]
                fields = unpacker.decode(sealed)
                assert at is None or fields[7] == at.hash
                at = Position(fields[3] + 1, fields[4] + fields[5], sha256(sealed).digest(), fields[6])
                place += length
    for frame in read_directory(folder).frames():
        for statement in frame.marks.get("removed", ()):
            said[statement[5]] = statement
    for pack in packs:
        statement = said[sha256(pack.path.read_bytes()).digest()]
        assert statement[:5] == [pack.begin.seq, pack.end.seq, pack.begin.offset, pack.end.offset, pack.end.hash]
