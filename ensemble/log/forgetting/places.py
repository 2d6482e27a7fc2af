"""Where people's data lies in a frame and in the broker's state: each place is visited, and what is there encrypted or
decrypted.

Owns the knowledge of the places (docs/broker.md, "Marks"). What is not changed is shared, never copied; what is changed is made
anew, since a frame that is being written is read by others at the same time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ensemble.broker.outbox import FORWARDED, Outbox, Parcel
from ensemble.broker.state import MotifState, State, Timer
from ensemble.errors import OffsetError
from ensemble.event import Frame, Rows, decode, encode
from ensemble.log.blobs import Claim, Claimed
from ensemble.log.envelope import envelope_of, is_encrypted
from ensemble.log.forgetting import cipher
from ensemble.log.forgetting.cipher import FORGOTTEN
from ensemble.log.forgetting.ring import Ring
from ensemble.score.personal import NOBODY, OBITUARY, Personal, Rule

MARK = "forgotten"
"""What an event has in its extras, where something of it is forgotten."""

_TOLD = Rule(None, (("error",), ("traceback",)))
"""What is personal in the event that tells of a failure."""
_TEXT = Rule(None, blank=encode(FORGOTTEN))

ELSEWHERE = object()
"""The cause of what was said in another shard's log."""

Extras = Mapping[int, dict[str, Any]] | None


class Places(ABC):
    """Both ways through a frame and a state. What is done to a payload is the subclass's."""

    @abstractmethod
    def payload(self, topic: str, key: str, data: bytes, cause: Any = ELSEWHERE) -> bytes:
        """An event's data. `cause` is what it answers, if it was said in this log."""

    @abstractmethod
    def written(self, section: str, key: str, data: bytes) -> bytes:
        """A state."""

    @abstractmethod
    def text(self, section: str, offset: int, error: Any) -> Any:
        """What is told of a failure at the event with this offset."""

    # Frames

    def frame(self, frame: Frame) -> Frame:
        rows = frame.rows
        changed = None if rows is None else self.rows(rows)
        marks = {name: visit(self, frame.marks[name]) for name, visit in MARKS.items() if name in frame.marks}
        if changed is rows and not marks:
            return frame
        return msgspec.structs.replace(frame, rows=changed, marks={**frame.marks, **marks} if marks else frame.marks)

    def rows(self, rows: Rows) -> Rows:
        """The events of a frame."""
        if rows.extras is None and not self.concerns(rows.topics):
            return rows
        topics = [rows.filed(ix) for ix in range(len(rows))]
        data, extras = self._events(topics, rows.keys, rows.data, rows.causes or [None] * len(rows), rows.extras)
        return rows if data is rows.data and extras is rows.extras else msgspec.structs.replace(rows, data=data, extras=extras)

    def _events(
        self, topics: Sequence[str], keys: Sequence[str], data: Sequence[bytes], causes: Sequence[Any] | None, extras: Extras
    ) -> tuple[Sequence[bytes], Extras]:
        """Events in columns: their data, and what few of them have."""
        out: list[bytes] = []
        own: dict[int, dict[str, Any]] = {}
        later = self.later_of(data)
        is_changed = False
        for ix, topic in enumerate(topics):
            cause = ELSEWHERE if causes is None else causes[ix]
            extra = None if extras is None else extras.get(ix)
            if extra is not None:
                if topic.startswith(FORWARDED):
                    topic, cause = extra.get("topic", topic), ELSEWHERE
                if "parts" in extra or "letter" in extra:
                    own[ix] = self._brought(extra)
            if ix in later:
                if self.is_gone(later[ix]):
                    own[ix] = {**own.get(ix, extra or {}), MARK: True}
                out.append(b"")
                continue
            before = data[ix]
            after = self.payload(topic, keys[ix], before, cause)
            if after is not before:
                is_changed = True
                if self.is_lost(before):
                    own[ix] = {**own.get(ix, extra or {}), MARK: True}
            out.append(after)
        column: Sequence[bytes] = out if is_changed else data
        if later and isinstance(data, Claimed):
            fetch = data.fetch
            column = Claimed(out, later, lambda claim: self.payload("", "", fetch(claim)))
        return column, {**(extras or {}), **own} if own else extras

    def later_of(self, data: Sequence[bytes]) -> Mapping[int, Claim]:
        """What of a column lies elsewhere, and is seen to when somebody looks at it."""
        return {}

    def is_gone(self, claim: Claim) -> bool:
        """Whether what lies there can't be read any more."""
        return False

    def concerns(self, topics: Sequence[str]) -> bool:
        """Whether there may be something to do about events of these topics."""
        return True

    def is_lost(self, before: bytes) -> bool:
        """Whether what was there can't be read any more."""
        return False

    def _brought(self, extra: dict[str, Any]) -> dict[str, Any]:
        """What a copy brought along: the events of a match, and its letter."""
        extra = dict(extra)
        if "parts" in extra:
            extra["parts"] = [
                [offset, time_us, key, self.payload(own.get("topic", ""), key, data), self._brought(own)]
                for offset, time_us, key, data, own in extra["parts"]
            ]
        if "letter" in extra:
            data, *more = extra["letter"]
            extra["letter"] = [self.letter(data), *more]
        return extra

    def letter(self, data: bytes) -> bytes:
        """What tells of the failure at an event that lies in another shard."""
        return data

    # Marks

    def wrote(self, mark: Mapping[str, Mapping[str, bytes | None]]) -> Any:
        return {
            section: {key: None if state is None else self.written(section, key, state) for key, state in writes.items()}
            for section, writes in mark.items()
        }

    def failed(self, mark: Mapping[str, Sequence[Sequence[Any]]]) -> Any:
        return {
            section: [
                [offset, attempt, due_us, self.text(section, offset, error)] for offset, attempt, due_us, error in failures
            ]
            for section, failures in mark.items()
        }

    def later(self, mark: Sequence[Sequence[Any]]) -> Any:
        return [
            [due_us, topic, key, self.payload(topic, key, data), *more] for due_us, topic, key, data, *more in mark
        ]  # fmt: skip

    def out(self, mark: Mapping[int, Sequence[Any]]) -> Any:
        return {shard: [self.parcel(Parcel.of(each)) for each in parcels] for shard, parcels in mark.items()}

    def motif(self, mark: Mapping[str, Sequence[Any]]) -> Any:
        return {name: [*fields[:4], *map(self.partial, fields[4:])] for name, fields in mark.items()}

    def parcel(self, parcel: Parcel) -> Parcel:
        topics = [parcel.topic(row) for row in range(len(parcel))]
        data, extras = self._events(topics, parcel.keys, parcel.data, None, parcel.extras)
        return msgspec.structs.replace(parcel, data=list(data), extras=None if extras is None else dict(extras))

    def partial(self, data: bytes) -> bytes:
        """The half-open matches of a motif: wherever in them an event is kept, its data."""
        return encode(self._kept(msgspec.msgpack.decode(data, strict=False))) if data else data

    def _kept(self, value: Any) -> Any:
        """Events are known by their shape, since only the pattern knows what stands where, and a store is read without it.

        That can't mislead: bytes are there in events alone, as what people said stands nowhere else. What is changed in a
        dump must keep it so; bytes that are not an event's are refused, or somebody's data could be passed by in plain.
        """
        assert not isinstance(value, bytes), "in half-open matches bytes are the data of events"
        if isinstance(value, list):
            match value:
                case [int(), str() as key, str() as topic, bytes() as payload, *more]:  # as `matching.pattern.Kept` is dumped
                    return [value[0], key, topic, self.payload(topic, key, payload), *more]
                case [int(), int(), str() as topic, str() as key, bytes() as payload, *more]:  # `matching.reorder.Waiting`
                    return [*value[:4], self.payload(topic, key, payload), *more]
            return [self._kept(each) for each in value]
        return {name: self._kept(each) for name, each in value.items()} if isinstance(value, dict) else value

    # The state

    def state(self, data: bytes) -> bytes:
        """The broker's state, as it is in a snapshot."""
        state = State.load(data)
        for name, section in state.sections.items():
            section.table = {key: self.written(name, key, value) for key, value in section.table.items()}
        for timer in state.timers.values():
            self._timer(timer)
        for box in state.outbox.values():
            self._box(box)
        for motif in state.motifs.values():
            self._motif_state(motif)
        return state.dump()

    def _timer(self, timer: Timer) -> None:
        timer.data = self.payload(timer.topic, timer.key, timer.data)

    def _box(self, box: Outbox) -> None:
        box.parcels = {number: self.parcel(each) for number, each in box.parcels.items()}

    def _motif_state(self, motif: MotifState) -> None:
        motif.partial = self.partial(motif.partial)


MARKS: Mapping[str, Callable[[Places, Any], Any]] = {
    "wrote": Places.wrote,
    "failed": Places.failed,
    "later": Places.later,
    "out": Places.out,
    "motif": Places.motif,
}
"""Those in which people's data may be."""


class Decrypting(Places):
    """What was encrypted, as it was; or what is left of it."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self.ruled: frozenset[str] | None = None
        """The players whose state is personal by the score that is played; None: only reading."""
        self.orphans: dict[tuple[str, str], tuple[str, Rule]] = {}
        """Player and key of a state that came encrypted, of players that are not `ruled` -> whose it is, and what of it."""

    def payload(self, topic: str, key: str, data: bytes, cause: Any = ELSEWHERE) -> bytes:
        return self._plain(data) if is_encrypted(data) else data

    def written(self, section: str, key: str, data: bytes) -> bytes:
        if not is_encrypted(data):
            return data
        if self.ruled is not None and section not in self.ruled:
            self._adopt(section, key, data)
        return self._plain(data)

    def text(self, section: str, offset: int, error: Any) -> Any:
        return decode(self._plain(error)) if isinstance(error, bytes) else error

    def letter(self, data: bytes) -> bytes:
        return self.payload("", "", data)

    def later_of(self, data: Sequence[bytes]) -> Mapping[int, Claim]:
        if not isinstance(data, Claimed):
            return {}
        # Where a frame does not say with which key, whether somebody was forgotten is known only by looking.
        return {ix: claim for ix, claim in data.claims.items() if claim.key_id is not None}

    def is_gone(self, claim: Claim) -> bool:
        return claim.key_id is not None and claim.key_id != b"" and self._ring.find(claim.key_id) is None

    def is_lost(self, before: bytes) -> bool:
        return self._ring.find(envelope_of(before).key_id) is None

    def _adopt(self, section: str, key: str, data: bytes) -> None:
        """Remember whose a state is: no rule tells that any more."""
        found = self._ring.find(envelope_of(data).key_id)
        if found is None:  # nothing of theirs is left in it
            self.orphans.pop((section, key), None)
        else:
            self.orphans[section, key] = found.subject, cipher.rule_of(data, found)

    def _plain(self, data: bytes) -> bytes:
        envelope = envelope_of(data)
        key = self._ring.find(envelope.key_id)
        return envelope.blank if key is None else cipher.decrypt(data, key)


class Encrypting(Places):
    """What is personal, encrypted. `frame_at` reads the log: the event at which a player failed."""

    def __init__(
        self,
        ring: Ring,
        personal: Personal | None,
        frame_at: Callable[[int], Frame],
        orphans: Mapping[tuple[str, str], tuple[str, Rule]],
    ) -> None:
        self._ring = ring
        self._rule = (lambda topic: None) if personal is None else personal.event
        self._states = {} if personal is None else personal.states
        self._obituaries = frozenset[str]() if personal is None else personal.obituaries
        self._frame_at = frame_at
        self._orphans = orphans

    def concerns(self, topics: Sequence[str]) -> bool:
        return any(topic in self._obituaries or self._rule(topic) is not None for topic in topics)

    def payload(self, topic: str, key: str, data: bytes, cause: Any = ELSEWHERE) -> bytes:
        if is_encrypted(data):  # it was read where the log is kept, and is written there again
            return data
        if topic in self._obituaries:
            return self._obituary(topic, data, cause)
        rule = self._rule(topic)
        return data if rule is None else self._by(rule, key, data)

    def written(self, section: str, key: str, data: bytes) -> bytes:
        if is_encrypted(data):
            return data
        rule = self._states.get(section)
        if rule is not None:
            return self._by(rule, key, data)
        orphan = self._orphans.get((section, key))  # of a player that the score does not have any more
        return data if orphan is None else self._of(*orphan, data)

    def text(self, section: str, offset: int, error: Any) -> Any:
        subject = None if isinstance(error, bytes) else self._subject_at(section, offset)
        return error if subject is None else self._of(subject, _TEXT, encode(error))

    def letter(self, data: bytes) -> bytes:
        return self._of(NOBODY, _TOLD, data) if self._obituaries and not is_encrypted(data) else data

    def _by(self, rule: Rule, key: str, data: bytes) -> bytes:
        said = decode(data)
        return cipher.encrypt(data, said, rule, self._ring.key_for(rule.subject_of(key, said)))

    def _of(self, subject: str, rule: Rule, data: bytes) -> bytes:
        return cipher.encrypt(data, decode(data), rule, self._ring.key_for(subject))

    def _obituary(self, topic: str, data: bytes, cause: Any) -> bytes:
        told = decode(data)
        # What is said by `on_failure: {emit: ...}` may have come from another shard, where its offset is another event's.
        is_here = cause == told.get("offset") or (topic == OBITUARY and cause is not ELSEWHERE)
        subject = self._subject_at(told["player"], told["offset"]) if is_here else NOBODY
        return data if subject is None else self._of(subject, _TOLD, data)

    def _subject_at(self, section: str, offset: int) -> str | None:
        """Whom an event is about that a player failed at; None if nothing that the player saw is personal."""
        try:
            frame = self._frame_at(offset)
        except OffsetError:
            return NOBODY
        assert frame.rows is not None
        event = frame.rows.event(offset - frame.first)
        rule = self._rule(event.topic)
        if rule is not None:
            return rule.subject_of(event.key, event.data)
        if section not in self._states:
            return None
        return event.key if self._states[section].subject is None else NOBODY
