"""What was heard, read off a log batch by batch: who was handed which events when, and what came of it.

Owns the record: a fold over the frames of a log, by the same `State.apply` as those who play, that can tell of each frame which
batch it is the outcome of. Must not know how anything is played again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn

import msgspec

from ensemble.broker.heard import dealt_with
from ensemble.broker.outbox import Parcel, forwarded_topic
from ensemble.broker.routing import Listener
from ensemble.broker.section import Batch
from ensemble.broker.state import State
from ensemble.errors import ScoreError, Unavailable
from ensemble.event import EPOCH, Frame, Rows
from ensemble.listening import listener
from ensemble.log.base import LogReader, Position
from ensemble.score import Score, load
from ensemble.score.lifts import Lifts
from ensemble.stage.tape import Tape

EVENT_BYTES = 100
"""What an event takes up in a log, about: by this the tape knows how much it keeps."""


Handed = tuple[Sequence[int], Sequence[str]]
"""Offsets, and the lane of each."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An event that a player said while it heard a batch. `cause` is the id of the one that it answers."""

    cause: str
    topic: str
    key: str
    data: bytes
    home: int
    """The shard to which it belongs."""
    id: str
    """Empty: it went to another shard, and got its id there; so `born`."""
    born: str


class Heard(msgspec.Struct, frozen=True):
    """A batch as it was heard.

    Shapes: `failed` has of each event that failed the attempt, when it was to be tried again (-1: never) and the error; `later`
            is as in the mark of that name.
    """

    batch: Batch
    failed: Mapping[int, tuple[int, int, str]]
    wrote: Mapping[str, bytes | None]
    later: Sequence[Sequence[Any]]
    untold: frozenset[str]
    """The ids of the events that failed: what names these as its cause tells of that, and is no answer."""


class Record:
    """A log from a place on, one of `shards`. `state` is what it adds up to so far."""

    def __init__(self, log: LogReader, state: State, upto: Position, lifts: Lifts | None = None, shards: int = 1) -> None:
        self.log = log
        self.shards = shards
        self.since = state.frames, state.end
        """The frame and the offset with which it begins."""
        self.state = state
        self.upto = upto
        self.tape = Tape(log, lifts)
        self.score = Score(name=log.name)
        self.listeners: dict[str, Listener] = {}
        if state.score is not None:
            self._score(state.score)

    def frames(self) -> Iterator[Frame]:
        """The frames to come. Each is to be looked at, then passed by `apply`."""
        for frame in self.log.frames(self.state.frames):
            if frame.seq >= self.upto.seq:
                return
            yield frame

    def begun(self) -> Score:
        """The score by which it is played from here on: that of now, or, where there is none yet, the first to come."""
        if self.state.score is None:
            coming = next((frame.marks["score"] for frame in self.frames() if "score" in frame.marks), None)
            return self.score if coming is None else self._loaded(coming)
        return self.score

    def place(self) -> Position:
        """Where it is: before the frame to come."""
        frame = next(self.frames(), None)
        return self.upto if frame is None else Position(frame.seq, frame.first, frame.prev, self.state.time_us)

    def apply(self, frame: Frame) -> None:
        """A frame is past."""
        if "carried" in frame.marks:  # who heard what before is not in this log
            after = EPOCH + timedelta(microseconds=frame.time_us + 1)
            raise Unavailable(
                f"log {self.log.name!r}: it was divided anew (ensemble reshard), and who heard what before that is not known "
                f"any more; replay from there on: --from {after:%Y-%m-%dT%H:%M:%S.%fZ}"
            )
        if "score" in frame.marks:
            self._score(frame.marks["score"])
        if frame.rows is not None:
            self.tape.keep(frame, EVENT_BYTES * len(frame.rows))
        self.state.apply(frame)

    def _score(self, document: Mapping[str, Any]) -> None:
        self.score = self._loaded(document)
        self.listeners = {name: listener(spec, self.shards) for name, spec in self.score.players.items()}

    def _loaded(self, document: Mapping[str, Any]) -> Score:
        try:
            return load(document)
        except ScoreError as error:
            raise Unavailable(
                f"log {self.log.name!r}: the score that was played there can't be read by this version ({error}), so nobody "
                "can tell who heard what; replay from a place after it was changed"
            ) from error

    def heard(self, frame: Frame) -> Heard | None:
        """The batch of which a frame is the outcome; None: of none.

        Errors: Unavailable where retention took events of it.
        """
        for name, mark in frame.marks.get("heard", {}).items():
            failed = {each[0]: (each[1], each[2], str(each[3])) for each in frame.marks.get("failed", {}).get(name, ())}
            if mark[5] or failed:
                handed = self._handed(name, mark, failed)
                if handed is None:
                    self._refuse_gaps(frame, name)
                return self._batch(frame, name, mark, failed, *self._in_order(frame, name, handed))
        return None

    def forwarded(self, frame: Frame) -> tuple[str, Sequence[int]] | None:
        """Whose events a frame sent to the shards that hear them, and these; None: nobody's."""
        for name, mark in frame.marks.get("heard", {}).items():
            if not mark[5] and any(forwarded_topic(name) in parcel.topics for parcel in parcels_of(frame)):
                handed = self._handed(name, mark, {})
                if handed is None:
                    self._refuse_gaps(frame, name)
                return name, handed[0]
        return None

    def _refuse_gaps(self, frame: Frame, name: str) -> NoReturn:
        """Say that events of a frame's batch are gone, and from where on nothing is."""
        end = frame.end
        self.apply(frame)
        for each in self.frames():
            for player, mark in each.marks.get("heard", {}).items():
                failed = {failure[0]: failure for failure in each.marks.get("failed", {}).get(player, ())}
                if self._handed(player, mark, failed) is None:
                    end = each.end
            self.apply(each)
        cure = f"replay from {end} on" if end < self.upto.offset else "nor does any later place do"
        raise Unavailable(
            f"log {self.log.name!r}: retention took events that player {name!r} heard in frame {frame.seq}, so what it says to "
            f"them now can't be known; {cure}"
        )

    def _batch(
        self,
        frame: Frame,
        name: str,
        mark: Sequence[Any],
        failed: Mapping[int, tuple[int, int, str]],
        offsets: Sequence[int],
        lanes: Sequence[str],
    ) -> Heard:
        attempts = self.state.section(name).attempts
        tried = {offset: attempts[offset][0] + 1 for offset in offsets if offset in attempts} if attempts else {}
        batch = Batch(name, offsets, lanes, tried, mark[7] or frame.time_us)
        source = source_of(name)
        later = [fields for fields in frame.marks.get("later", ()) if str(fields[6]).endswith(source)]
        untold = frozenset(self.tape.event(offset).id for offset in failed)
        return Heard(batch, failed, frame.marks.get("wrote", {}).get(name, {}), later, untold)

    def _handed(self, name: str, mark: Sequence[Any], failed: Mapping[int, Any]) -> Handed | None:
        """The events that the mark says were dealt with, those that failed among them, and their lanes; None: some are gone."""
        count, section = mark[5], self.state.section(name)
        if name not in self.listeners:
            raise Unavailable(f"log {self.log.name!r}: player {name!r} heard there without being in the score that was played")
        listening = self.listeners[name]
        beyond = self._concerning(listening, section.position, mark[0])
        concerns = partial(self._concerns, listening)
        offsets = dealt_with(section, mark, lambda begin, end: beyond[0], concerns)
        if not (mark[2] or mark[3] or failed):
            return beyond if len(offsets) >= count else None
        known, lanes = dict(zip(*beyond, strict=True)), dict[int, str]()
        for offset in {*offsets, *failed}:
            if offset not in known:
                frame = self.tape.at(offset)
                assert frame.rows is not None
                if frame.first > offset:
                    return None
                [known[offset]] = listening.lanes(frame.rows, [offset - frame.first])
            lanes[offset] = known[offset]
        if len(lanes.keys() - failed.keys()) < count:
            return None
        attempts = section.attempts
        order = sorted(lanes, key=lambda offset: (offset not in attempts, offset))  # what is tried again goes first
        return order, [lanes[offset] for offset in order]

    @staticmethod
    def _in_order(frame: Frame, name: str, handed: Handed) -> Handed:
        """The same in the order in which it was heard, where the frame tells of another."""
        heard = frame.marks.get("order", {}).get(name)
        if heard is None:
            return handed
        lanes = dict(zip(*handed, strict=True))
        order = [*heard, *(offset for offset in handed[0] if offset not in set(heard))]
        return order, [lanes[offset] for offset in order]

    def _concerning(self, listening: Listener, begin: int, end: int) -> Handed:
        """The offsets from one to another that a section listened for, and their lanes."""
        offsets: Sequence[int] = ()
        lanes: Sequence[str] = ()
        while begin < end:
            frame = self.tape.at(begin)
            assert frame.rows is not None
            if frame.first > begin:  # all that was before it is gone
                begin = min(frame.first, end)
                continue
            stop = min(end, frame.end)
            heed = listening.heed(frame.rows.between(begin - frame.first, stop - frame.first))
            offsets = heed.offsets if not offsets else [*offsets, *heed.offsets]
            lanes = heed.keys if not lanes else [*lanes, *heed.keys]
            begin = stop
        return offsets, lanes

    def _concerns(self, listening: Listener, offset: int) -> bool:
        frame = self.tape.at(offset)
        assert frame.rows is not None
        return frame.first > offset or listening.concerns(frame.rows, offset - frame.first)


def source_of(player: str) -> str:
    """How the CloudEvents source of what a player says ends."""
    return f"/{player}"


def answers(frame: Frame, heard: Heard, shard: int) -> list[Answer]:
    """What a player said in a frame of this shard, here and to others, but for what tells of its failures."""
    player, untold = heard.batch.section, heard.untold
    found = []
    rows = frame.rows
    if rows is not None and rows.causes is not None:
        columns = zip(said_by(rows, player), rows.names(rows.causes), rows.keys, rows.data, rows.ids(), strict=True)
        found = [
            Answer(cause, rows.topic(ix), key, data, shard, id_, id_ if rows.extras is None else rows.born(ix))
            for ix, (is_own, cause, key, data, id_) in enumerate(columns)
            if is_own and cause not in untold
        ]
    for home, parcels in frame.marks.get("out", {}).items():
        for parcel in map(Parcel.of, parcels):
            if parcel.source.endswith(source_of(player)):
                found += [
                    Answer(cause, parcel.topic(row), parcel.keys[row], parcel.data[row], home, "", "")
                    for row, cause in enumerate(parcel.causes or ())
                    if cause not in untold
                ]
    return found


def parcels_of(frame: Frame, player: str | None = None) -> list[Parcel]:
    """What a frame sends to other shards; where a player is named, what that one says."""
    sent = (Parcel.of(each) for parcels in frame.marks.get("out", {}).values() for each in parcels)
    return [parcel for parcel in sent if player is None or parcel.source.endswith(source_of(player))]


def said_by(rows: Rows, player: str) -> list[bool]:
    """Of each row, whether this player said it."""
    own = [source.endswith(source_of(player)) and source.count("/") > 1 for source in rows.sources]
    column = rows.source_ix
    return [own[column]] * len(rows) if isinstance(column, int) else [own[ix] for ix in column]
