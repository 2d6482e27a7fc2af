"""What was heard, read off a log batch by batch: who was handed which events when, and what came of it.

Owns the record: a fold over the frames of a log, by the same `State.apply` as those who play, that can tell of each frame which
batch it is the outcome of. Must not know how anything is played again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from ensemble.broker.routing import Listener
from ensemble.broker.section import Batch
from ensemble.broker.state import State
from ensemble.errors import ScoreError, Unavailable
from ensemble.event import Event, Frame, Ref, Rows
from ensemble.listening import listener
from ensemble.log.base import LogReader, Position
from ensemble.score import Score, load
from ensemble.score.lifts import Lifts
from ensemble.stage.tape import Tape

EVENT_BYTES = 100
"""What an event takes up in a log, about: by this the tape knows how much it keeps."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An event that a player said while it heard a batch. `cause` is the id of the one that it answers."""

    cause: str
    topic: str
    key: str
    data: bytes
    id: str
    born: str


class Heard(msgspec.Struct, frozen=True):
    """A batch as it was heard.

    Shapes: `failed` has of each event that failed the attempt, when it was to be tried again (-1: never) and the error; `later`
            is as in the mark of that name.
    """

    batch: Batch
    events: Sequence[Event]
    refs: Sequence[Ref]
    roots: Sequence[Ref]
    failed: Mapping[int, tuple[int, int, str]]
    wrote: Mapping[str, bytes | None]
    later: Sequence[Sequence[Any]]

    def untold(self) -> set[str]:
        """The ids of the events that failed: what names these as its cause tells of that, and is no answer."""
        return {event.id for event in self.events if event.offset in self.failed} if self.failed else set()


class Record:
    """A log from a place on. `state` is what it adds up to so far."""

    def __init__(self, log: LogReader, state: State, upto: Position, lifts: Lifts | None = None) -> None:
        self.log = log
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

    def apply(self, frame: Frame) -> None:
        """A frame is past."""
        if "score" in frame.marks:
            self._score(frame.marks["score"])
        if frame.rows is not None:
            self.tape.keep(frame, EVENT_BYTES * len(frame.rows))
        self.state.apply(frame)

    def _score(self, document: Mapping[str, Any]) -> None:
        try:
            self.score = load(document)
        except ScoreError as error:
            raise Unavailable(
                f"log {self.log.name!r}: the score that was played there can't be read by this version ({error}), so nobody "
                "can tell who heard what; replay from a place after it was changed"
            ) from error
        self.listeners = {name: listener(spec) for name, spec in self.score.players.items()}

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
                return self._batch(frame, name, mark, failed, *handed)
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
        events, refs, roots = self.tape.events(offsets)
        source = source_of(name)
        later = [fields for fields in frame.marks.get("later", ()) if str(fields[6]).endswith(source)]
        return Heard(batch, events, refs, roots, failed, frame.marks.get("wrote", {}).get(name, {}), later)

    def _handed(self, name: str, mark: Sequence[Any], failed: Mapping[int, Any]) -> tuple[Sequence[int], Sequence[str]] | None:
        """The events that the mark says were dealt with, those that failed among them, and their lanes; None: some are gone."""
        position, _passed, opened, closed, _, count, *_ = mark
        section = self.state.section(name)
        if name not in self.listeners:
            raise Unavailable(f"log {self.log.name!r}: player {name!r} heard there without being in the score that was played")
        listening = self.listeners[name]
        offsets: Sequence[int] = ()
        lanes: Sequence[str] = ()
        at = section.position
        while at < position:
            frame = self.tape.at(at)
            assert frame.rows is not None
            if frame.first > at:  # all that was before it is gone
                at = min(frame.first, position)
                continue
            heed = listening.heed(frame.rows, at - frame.first)
            if not offsets and (not heed.offsets or heed.offsets[-1] < position):
                offsets, lanes = heed.offsets, heed.keys
            else:
                pairs = [pair for pair in zip(heed.offsets, heed.keys, strict=True) if pair[0] < position]
                offsets = [*offsets, *(offset for offset, _ in pairs)]
                lanes = [*lanes, *(lane for _, lane in pairs)]
            at = frame.end
        if not (opened or closed or failed):
            return (offsets, lanes) if len(offsets) >= count else None
        found = dict(zip(offsets, lanes, strict=True))
        for offset in opened:
            found.pop(offset, None)
        for offset in (*closed, *failed):
            if offset not in found:
                frame = self.tape.at(offset)
                assert frame.rows is not None
                if frame.first > offset:
                    return None
                [found[offset]] = listening.lanes(frame.rows, [offset - frame.first])
        if len(found.keys() - failed.keys()) < count:
            return None
        attempts = section.attempts
        order = sorted(found, key=lambda offset: (offset not in attempts, offset))  # what is tried again goes first
        return order, [found[offset] for offset in order]


def ids(rows: Rows) -> list[str]:
    """The ids of a frame's events. For many at a time: a name as the log gives it costs least."""
    begin, first, extras = f"{rows.log_id}-", rows.first, rows.extras
    if extras is None:
        return [f"{begin}{offset}" for offset in range(first, first + len(rows))]
    return [rows.given_id(ix) or f"{begin}{first + ix}" for ix in range(len(rows))]


def source_of(player: str) -> str:
    """How the CloudEvents source of what a player says ends."""
    return f"/{player}"


def answers(frame: Frame, heard: Heard) -> list[Answer]:
    """What a player said in a frame, but for what tells of its failures."""
    rows = frame.rows
    if rows is None or rows.causes is None:
        return []
    player, untold, name = heard.batch.section, heard.untold(), rows.name
    columns = zip(said_by(rows, player), rows.causes, rows.keys, rows.data, ids(rows), strict=True)
    return [
        Answer(cause, rows.topic(ix), key, data, id_, id_ if rows.extras is None else rows.born(ix))
        for ix, (is_own, ref, key, data, id_) in enumerate(columns)
        if is_own and (cause := name(ref)) not in untold
    ]


def said_by(rows: Rows, player: str) -> list[bool]:
    """Of each row, whether this player said it."""
    own = [source.endswith(source_of(player)) and source.count("/") > 1 for source in rows.sources]
    column = rows.source_ix
    return [own[column]] * len(rows) if isinstance(column, int) else [own[ix] for ix in column]
