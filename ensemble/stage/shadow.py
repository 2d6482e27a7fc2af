"""A shadow of a section: the same events, heard once more by other code, beside the one that plays.

Owns one shard's part of a rebuilt table. What the section heard, in which order and with which `ctx.now`, stands in the log's
marks; the shadow follows these, frame by frame, calls its own player for each event, and keeps what that writes. What it
says is compared with what was said then, and goes nowhere. It writes nothing to the log.

Invariant, after frame n: `table` is what the player would have made of exactly the events which the section had heard by then.
So at any frame the shadow may take the section's place, and no event is lost or heard twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from ensemble.broker.heard import dealt_with
from ensemble.broker.outbox import Parcel
from ensemble.broker.routing import Listener
from ensemble.broker.section import Batch
from ensemble.broker.state import SectionState, State, fits
from ensemble.broker.words import Outcome
from ensemble.errors import EnsembleError, ScoreError, Unavailable
from ensemble.event import Frame, Ref, decode
from ensemble.listening import listener, lookups
from ensemble.log.base import LogReader
from ensemble.player import Hearing, Player, Work
from ensemble.score import Score, load
from ensemble.score.lifts import Lifts
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.seat import look_up
from ensemble.stage.tape import Tape
from ensemble.stage.workers import AsyncThread

EXAMPLES = 20
"""How many events that differ are kept to be shown."""
AT_A_TIME = 1000
"""Events that are heard in one go where the log does not tell what was heard together."""

Word = tuple[str, str, bytes]
"""What was said: topic, key and data."""


class Saying(msgspec.Struct, frozen=True):
    """An event to which the player of now answers otherwise than that of then. Data is decoded."""

    event: str
    """Its id."""
    then: tuple[tuple[str, str, Any], ...]
    """Topic, key and data of each answer."""
    now: tuple[tuple[str, str, Any], ...]


class Unheard(msgspec.Struct, frozen=True):
    """An event that the player could not hear."""

    event: str
    key: str
    error: str


class Shadow:
    """One player beside its section, in one shard's log. One thread at a time."""

    def __init__(self, player: Player, log: LogReader, shards: int = 1) -> None:
        if begin := log.begin().offset:
            raise EnsembleError(
                f"player {player.spec.name} can't be rebuilt: the log begins at offset {begin}, and what was said before was "
                "removed; give the player another name, by which it begins anew with what is there"
            )
        self.player = player
        self.table: dict[str, bytes] = {}
        self.heard = 0
        self.said = self.differing = 0
        """Events that it was told what was said to, by then or now, and those of them at which the two differ."""
        self.sayings: list[Saying] = []
        self.unheard: list[Unheard] = []
        self.corrected: set[str] = set()
        """Keys whose state a promoted take has set: what that rests on was never heard."""
        self._name = player.spec.name
        self._instance = player.build()
        self._log, self._shards = log, shards
        self._state = State()
        self._seq = 0
        self._frames = self._coming()
        self._tape = Tape(log, player.lifts)
        self._then = self._tape
        """Events as they were seen when they were heard: another tape, where a score of then has other versions."""
        self._listener: Listener | None = None
        """What the section listened for then; `_now`: as its player is now, whose lanes are the keys of the table."""
        self._now = listener(player.spec, shards)
        self._enrich = lookups(player.spec)
        self._async = AsyncThread()

    @property
    def section(self) -> SectionState:
        """The section that plays, as of the frame that the shadow has come to."""
        return self._state.sections.get(self._name) or SectionState()

    @property
    def seq(self) -> int:
        """The frame that comes next."""
        return self._seq

    def follow(self, most: int) -> int:
        """Follow the log, so many frames at the most; how many there were, 0 at its end.

        Errors: EnsembleError where the log does not tell what was heard; LogCorrupt.
        """
        before = self._seq
        try:
            for frame in islice(self._frames, most):
                if frame.seq != self._seq or self._lacks(frame):
                    raise Unavailable(
                        f"the table of {self._name} can't be made anew: retention took events that it was made of; keep them "
                        "longer (retain:), or make a table of what is left with a player of another name"
                    )
                self._follow(frame)
                self._seq = frame.seq + 1
        except BaseException:
            self._frames = self._coming()  # what failed gives no more: whoever asks again would take that for the end
            raise
        moved = self._seq - before
        if moved < most:
            self._frames = self._coming()
        return moved

    def _coming(self) -> Iterator[Frame]:
        """The frames that come next, to the end of the log. Kept from call to call: a log far away sends many at a time."""
        at = -1
        while at < self._seq:
            at = self._seq
            yield from self._log.frames(at)

    def _lacks(self, frame: Frame) -> bool:
        """Whether retention took events of a frame that the section listened for."""
        patterns = self.section.patterns
        return frame.removed is not None and any(fits(patterns, topic) for topic in frame.removed)

    def writes(self) -> dict[str, bytes | None]:
        """What makes the section's table this one: key -> state, or None where it goes. As of the frame that it has come to."""
        old, new = self.section.table, self.table
        changed: dict[str, bytes | None] = {key: value for key, value in new.items() if old.get(key) != value}
        changed.update(dict.fromkeys(key for key in old if key not in new))
        return changed

    def close(self) -> None:
        self._instance.close()
        self._async.close()

    # One frame

    def _follow(self, frame: Frame) -> None:
        marks, name = frame.marks, self._name
        if frame.rows is not None:
            size = sum(map(len, frame.rows.data))
            for tape in {self._tape, self._then}:
                tape.keep(frame, size)
        if "score" in marks:
            self._listen(marks["score"])
        elif name in marks.get("joined", {}) or name in marks.get("turned", {}):
            self._listen(self._score_to_come(frame.seq) or self._state.score or {})
        for offsets, began_us in self._carried(frame):
            self._hear(offsets, began_us)
        if offsets := self._heard_by(frame):
            refs, now = self._hear(offsets, marks["heard"][name][7])
            self._compare(now, _recorded(frame, name, self._log.id, refs))
        for key in marks.get("expired", {}).get(name, ()):
            self.table.pop(key, None)
        if "promoted" in marks:
            self.corrected.update(marks.get("wrote", {}).get(name, ()))
        self._state.apply(frame)

    def _score_to_come(self, seq: int) -> Mapping[str, Any]:
        """The score that is recorded next: a player that joins a band which plays is seated a little before its score."""
        found = (frame.marks["score"] for frame in self._log.frames(seq) if "score" in frame.marks)
        return next(found, {})

    def _listen(self, document: Mapping[str, Any]) -> None:
        """From here on the section listened by this score."""
        try:
            score = load(document) if document else None
            spec = None if score is None else score.players.get(self._name)
        except ScoreError as error:
            raise EnsembleError(
                f"player {self._name} can't be rebuilt: the log holds a score that this version can't read, so nobody knows "
                f"what was heard by it: {error}"
            ) from error
        self._listener = None if spec is None else listener(spec, self._shards)
        if score is None or not (self.player.lifts.is_on or any(each.version != 1 for each in score.events.values())):
            self._then = self._tape
            return
        try:
            lifts = Lifts(Vocabulary(score))
        except ScoreError:  # its upcasters, or its types, are gone
            lifts = Lifts(Vocabulary(Score(name=score.name)))
        self._then = Tape(self._log, lifts)

    def _carried(self, frame: Frame) -> Iterator[tuple[list[int], int]]:
        """What the section had heard before the store was divided anew: in the order of the log, as of this frame."""
        mark = frame.marks.get("carried", {}).get(self._name)
        if mark is not None:
            position, _, _, open_, _, _, letters, *_ = mark
            left_out = {*open_, *(offset for offset, _ in letters)}
            passed = [offset for offset in self._concerning(0, position) if offset not in left_out]
            for at in range(0, len(passed), AT_A_TIME):
                yield passed[at : at + AT_A_TIME], frame.time_us

    def _heard_by(self, frame: Frame) -> list[int]:
        """The offsets of what the section heard by this frame, the earlier ones first."""
        mark = frame.marks.get("heard", {}).get(self._name)
        if mark is None or not mark[5]:
            return []
        count: int = mark[5]
        failed = {failure[0] for failure in frame.marks.get("failed", {}).get(self._name, ())}
        offsets = [*dealt_with(self.section, mark, self._concerning, self._concerns)]
        if failed:
            offsets = [offset for offset in offsets if offset not in failed]
        if len(offsets) != count:
            raise EnsembleError(
                f"player {self._name} can't be rebuilt: frame {frame.seq} says that {count} events were heard, and "
                f"{len(offsets)} fit what the score of then asks for; give the player another name, by which it begins anew"
            )
        return offsets

    def _concerning(self, begin: int, end: int) -> list[int]:
        """The offsets from one to another that the section listened for."""
        found: list[int] = []
        if self._listener is None:
            return found
        while begin < end:
            frame = self._then.at(begin)
            assert frame.rows is not None
            stop = min(end, frame.end)
            found.extend(self._listener.heed(frame.rows.between(begin - frame.first, stop - frame.first)).offsets)
            begin = stop
        return found

    def _concerns(self, offset: int) -> bool:
        frame = self._then.at(offset)
        assert frame.rows is not None
        return self._listener is not None and self._listener.concerns(frame.rows, offset - frame.first)

    # Hearing

    def _hear(self, offsets: Sequence[int], began_us: int) -> tuple[frozenset[Ref], dict[Ref, list[Word]]]:
        """Hear these events; how answers name them, and what was answered."""
        refs: list[Ref] = []
        now: dict[Ref, list[Word]] = {}
        self.heard += len(offsets)
        while offsets:
            outcome, work = self._heard_once(offsets, began_us)
            refs += work.refs
            for lane, state in outcome.wrote.items():
                if state is None:
                    self.table.pop(lane, None)
                else:
                    self.table[lane] = state
            for ref, word in _said(outcome):
                now.setdefault(ref, []).append(word)
            for failure in outcome.failures:
                self.unheard.append(Unheard(self._tape.event(failure.offset).id, failure.key, failure.error))
            offsets = [offset for offset, _ in outcome.skipped]  # they waited for one that failed: here nobody waits
        return frozenset(refs), now

    def _heard_once(self, offsets: Sequence[int], began_us: int) -> tuple[Outcome, Work]:
        attempts = self.section.attempts
        tried = {offset: attempts[offset][0] + 1 for offset in offsets if offset in attempts} if attempts else {}
        events, refs, roots = self._tape.events(offsets)
        work = Work(Batch(self._name, offsets, self._lanes(offsets), tried, began_us), events, refs, roots, self.table)
        look_up(work, self.player.spec.reads, self._enrich, self._table_of)
        work.is_live = False
        if not self.player.shape.is_async:
            return self._instance.hear(work), work
        hearing = Hearing(self._instance, work)
        hearings = hearing.later_one_by_one(range(len(events)), None)
        asyncio.run_coroutine_threadsafe(hearings, self._async.loop()).result()
        return hearing.all(), work

    def _lanes(self, offsets: Sequence[int]) -> list[str]:
        lanes: list[str] = []
        at = 0
        while at < len(offsets):
            rows = self._tape.at(offsets[at]).rows
            assert rows is not None
            inside = range(rows.first, rows.first + len(rows))
            until = next((ix for ix in range(at, len(offsets)) if offsets[ix] not in inside), len(offsets))
            lanes += self._now.lanes(rows, [offset - rows.first for offset in offsets[at:until]])
            at = until
        return lanes

    def _table_of(self, name: str) -> Mapping[str, bytes]:
        section = self._state.sections.get(name)
        return {} if section is None else section.table

    # Comparing

    def _compare(self, now: Mapping[Ref, list[Word]], then: Mapping[Ref, list[Word]]) -> None:
        self.said += len(then.keys() | now.keys())
        if now == then:
            return
        for ref in dict.fromkeys((*then, *now)):
            before, after = _shown(then.get(ref, ())), _shown(now.get(ref, ()))
            if before != after:  # else it was only written in another way
                self.differing += 1
                if len(self.sayings) < EXAMPLES:
                    self.sayings.append(Saying(ref if isinstance(ref, str) else self._tape.event(ref).id, before, after))


def _shown(words: Sequence[Word]) -> tuple[tuple[str, str, Any], ...]:
    return tuple((topic, key, decode(data)) for topic, key, data in words)


def _said(outcome: Outcome) -> Iterator[tuple[Ref, Word]]:
    """What a player said, at once or for later: which event it answers, and the word."""
    said = outcome.said
    if said is not None:
        assert said.causes is not None, "a player answers"
        for row, (cause, key, data) in enumerate(zip(said.causes, said.keys, said.data, strict=True)):
            yield cause, (said.topic(row), key, data)
    for later in outcome.later:
        yield later.cause, (later.topic, later.key, later.data)


def _recorded(frame: Frame, player: str, log_id: str, refs: Collection[Ref]) -> dict[Ref, list[Word]]:
    """The same as the log has it: what a section said to these events by a frame, here, to other shards, and by timers."""
    found: dict[Ref, list[Word]] = {}

    def add(source: str, cause: Ref, word: Word) -> None:
        if cause in refs and source.count("/") == 2 and source.endswith(f"/{player}"):
            found.setdefault(cause, []).append(word)

    rows, marks = frame.rows, frame.marks
    if rows is not None and rows.causes is not None:
        for ix, cause in enumerate(rows.causes):
            add(rows.source(ix), cause, (rows.filed(ix), rows.keys[ix], rows.data[ix]))
    for parcels in marks.get("out", {}).values():
        for each in parcels:
            parcel = Parcel.of(each)
            for row, name in enumerate(parcel.causes or ()):
                add(parcel.source, _ref(name, log_id), (parcel.topic(row), parcel.keys[row], parcel.data[row]))
    for _, topic, key, data, cause, _, source, *_ in marks.get("later", ()):
        add(source, cause, (topic, key, data))
    return found


def _ref(name: str, log_id: str) -> Ref:
    """How an event of this log is named in it, that goes by a name outside."""
    prefix, _, offset = name.rpartition("-")
    return int(offset) if prefix == log_id and offset.isdecimal() else name
