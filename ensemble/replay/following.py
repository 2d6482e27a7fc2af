"""The past played on from where something came out otherwise: into a take, at the times and in the order of the record.

Owns what becomes of each recorded frame. What came from outside is said again, at its time; a batch is heard when it was heard
then, as far as its events are still said; what is said now and was not then is heard at once. What comes out as it was
keeps its id.

Invariants, for an event e of the record and its pair p in the take:
    id(p) = id(e)            if p is what e was; else p has an id of its own
    p is heard after all that its lane has unheard before it
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ensemble.broker import Broker, Opening, State
from ensemble.broker.section import Batch
from ensemble.broker.state import Patterns, fits
from ensemble.broker.words import Failure, Later, Outcome, Publication, Said
from ensemble.event import Event, Frame, Ref, Rows, id_at
from ensemble.evolution import recorded
from ensemble.listening import listener, motives, offset_at, policy
from ensemble.log.base import EventLog
from ensemble.replay.followed import Followed
from ensemble.replay.playing import Playing
from ensemble.replay.record import Answer, Heard, Record, answers, ids, said_by
from ensemble.score import Score
from ensemble.score.lifts import Lifts
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.tape import Tape

LATE_US = 1_000_000
"""How long what falls due waits for the record to do the same: whoever played then was a little late, too."""
GROUP_BYTES = 1 << 20
"""How much is written to the take at a time."""

Key = tuple[Any, ...]


class Following:
    """A take that is being made. `chosen` play anew; of all others what they said then is said again."""

    def __init__(self, record: Record, log: EventLog, score: Score, playing: Playing, chosen: frozenset[str]) -> None:
        self.record = record
        self.log = log
        self._playing = playing
        self._chosen = chosen
        self._begin = record.state.end
        self._there = array("q")
        """Offset in the record, from `_begin` on -> in the take; -1: it is not there."""
        self._then = array("q")
        """The other way round."""
        self._changed: set[int] = set()
        """Offsets in the take of what was said then, too, but otherwise."""
        self._renamed: dict[str, str] = {}
        """Id in the take -> that of its pair."""
        self._sealed: list[bytes] = []
        self._size = 0
        vocabulary = Vocabulary(score)
        lifts = Lifts(vocabulary)
        self._tape = Tape(log, lifts)
        state = State.load(record.state.dump())
        self._broker = Broker(
            state,
            log_id=log.id,
            name=score.name,
            listeners={name: listener(spec) for name, spec in score.players.items()},
            policies={name: policy(spec, vocabulary) for name, spec in score.players.items()},
        )
        self._broker.listening.lift = lifts.data if lifts.is_on else None
        self._loose = {name for name in score.players if not is_same_seat(record, score, name)}
        """Players that listen for something else than then, or are new: of these the record says nothing."""
        begin = self._begin
        frame = self._broker.open(
            Opening(
                recorded(score, vocabulary) or None,
                plan=state.plan,
                motives=motives(score, lambda us: max(begin, offset_at(record.log, us) or begin)),
                begins=dict.fromkeys(score.players, begin),
            ),
            state.time_us,
            self._said_since,
            log.rows,
        )
        self.sections: dict[str, Followed] = {}
        for name in list(self._broker.sections):
            section = Followed(name, state.section(name), self._broker._listeners[name], partial(self._is_awaited, name))
            self.sections[name] = self._broker.sections[name] = section
        self._made: list[Frame] = []
        self._recorded: Rows | None = None
        """What the frame of the record says that is followed now."""
        if frame is not None:
            self._seal(frame)
        self._seal(self._broker.note({"replaying": [record.upto.seq, record.upto.offset]}, state.time_us))
        self._flush()  # whatever happens now, everybody sees what this take is of
        self._look()

    # The record

    def follow(self, frame: Frame) -> None:
        """Play what a recorded frame tells of."""
        now_us = frame.time_us
        self._let_pass(now_us)
        self._made.clear()
        self._recorded = frame.rows
        heard = self.record.heard(frame)
        if heard is not None:
            self._hear_again(frame, heard, now_us)
        elif "fired" in frame.marks or "expired" in frame.marks or _tells_of_time(frame):
            self._take(self._broker.fire(now_us))
        elif frame.rows is not None and frame.rows.causes is None:
            self._publish_again(frame, frame.rows, now_us)
        for name, offsets in frame.marks.get("again", {}).items():
            self._again(name, offsets, now_us)
        self._pair(frame)
        self.record.apply(frame)
        self._look()
        self._hear_free(now_us)

    def finish(self) -> State:
        """Hear what is left of what was not said then, and write it all; the state at the end. What waited then waits still."""
        now_us = self._broker.state.time_us
        self._hear_free(now_us)
        while (
            moment := min((due for section in self.sections.values() for due in self._waits(section)), default=None)
        ) is not None:
            now_us = max(now_us, moment)
            self._hear_free(now_us)
        upto = self.record.upto
        self._take(self._broker.rest(now_us))
        self._broker.listening.keep_all()
        self._seal(self._broker.note({"replayed": [upto.seq, upto.offset, upto.hash, upto.time_us]}, now_us))
        self._flush()
        return self._broker.state

    # What is said

    def _publish_again(self, frame: Frame, rows: Rows, now_us: int) -> None:
        """What came from outside, with the ids that it had."""
        given = [ix for ix in range(len(rows)) if not rows.parts(ix) and not rows.filed(ix).startswith("_band.motif.")]
        places = list(frame.marks.get("place", {}).items())
        publications = []
        for source, ixs in _by_source(rows, given):
            said = Said(
                list(rows.topics),
                rows.topic_ix if isinstance(rows.topic_ix, int) else [rows.topic_ix[ix] for ix in ixs],
                [rows.keys[ix] for ix in ixs],
                [rows.data[ix] for ix in ixs],
                extras={row: self._own(rows, ix) for row, ix in enumerate(ixs)},
                versions=rows.versions,
            )
            publications.append(Publication(said, source, places.pop(0) if places else None))
        publications += [Publication(Said([], 0, (), ()), "", place) for place in places]
        made, _ = self._broker.publish(publications, now_us)
        self._take(made)

    def _own(self, rows: Rows, ix: int) -> dict[str, Any]:
        """What a recorded row has of its own, in the take: its id, too."""
        own = dict((rows.extras or {}).get(ix, {}))
        if isinstance(own.get("cause"), int):
            own["cause"] = rows.name(own["cause"])
        return {**own, **_identity(own, rows.id(ix), rows.born(ix))}

    # What is heard

    def _hear_again(self, frame: Frame, heard: Heard, now_us: int) -> None:
        name = heard.batch.section
        section = self.sections.get(name)
        if section is None or name in self._loose:
            return
        wanted = [offset for then in heard.batch.offsets if (offset := self._now(then)) >= 0]
        batch = section.pick(wanted, heard.batch.began_us)
        if batch is None:
            return
        said = answers(frame, heard)
        if name in self._chosen and not self._playing.is_muted(name):
            outcomes = self._play(batch)
            if not self._keep_ids(outcomes, said):
                self._playing.probe(batch, *self._tape.events(batch.offsets), self._broker.state, outcomes)
        else:
            outcomes = [self._as_then(batch, frame, heard)]
        for outcome in outcomes:
            self._take(self._broker.hear(outcome, now_us))

    def _play(self, batch: Batch) -> list[Outcome]:
        events, refs, roots = self._tape.events(batch.offsets)
        return self._playing.hear(batch, events, refs, roots, self._broker.state)

    def _keep_ids(self, outcomes: Sequence[Outcome], then: Sequence[Answer]) -> bool:
        """Give what is said as it was then the id that it had then. Whether that is all that is said, and all that was."""
        counts: Counter[str] = Counter()
        before: dict[str, list[Answer]] = {}
        for each in then:
            before.setdefault(each.cause, []).append(each)
        kept = 0
        for said in (outcome.said for outcome in outcomes):
            if said is not None and said.causes is not None:
                kept += self._keep_ids_of(said, before, counts)
        return kept == len(then) == counts.total()

    def _keep_ids_of(self, said: Said, before: Mapping[str, Sequence[Answer]], counts: Counter[str]) -> int:
        kept = 0
        extras = dict(said.extras or {})
        topics, column = said.topics, said.topic_ix
        for row, ref in enumerate(said.causes or ()):
            cause = self._was(ref)
            known, number = before.get(cause, ()), counts[cause]
            counts[cause] = number + 1
            if number < len(known):
                was = known[number]
                topic = topics[column if isinstance(column, int) else column[row]]
                if (was.topic, was.key, was.data) == (topic, said.keys[row], said.data[row]):
                    extras[row] = {**extras.get(row, {}), **_identity({}, was.id, was.born)}
                    kept += 1
        said.extras = extras or None
        return kept

    def _as_then(self, batch: Batch, frame: Frame, heard: Heard) -> Outcome:
        """What came of these events then."""
        name, now_us = batch.section, frame.time_us
        events, refs, roots = self._tape.events(batch.offsets)
        at = {self._was(ref): ix for ix, ref in enumerate(refs)}
        here, own_lanes = set(batch.offsets), set(batch.keys)
        failed = {offset: told for then, told in heard.failed.items() if (offset := self._now(then)) in here}
        lanes = dict(zip(batch.offsets, batch.keys, strict=True))
        said = None
        rows = frame.rows
        chosen = []
        if rows is not None and rows.causes is not None:
            untold = heard.untold()
            chosen = [
                ix for ix, is_own in enumerate(said_by(rows, name))
                if is_own and (cause := rows.name(rows.causes[ix])) in at and cause not in untold
            ]  # fmt: skip
        if chosen and rows is not None and rows.causes is not None:
            causes = [at[rows.name(rows.causes[ix])] for ix in chosen]
            column = rows.topic_ix
            said = Said(
                list(rows.topics),
                column if isinstance(column, int) else [column[ix] for ix in chosen],
                [rows.keys[ix] for ix in chosen],
                [rows.data[ix] for ix in chosen],
                [refs[ix] for ix in causes],
                [roots[ix] for ix in causes],
                {row: self._own(rows, ix) for row, ix in enumerate(chosen)},
                rows.versions,
            )
        later = [
            Later(due_us - now_us, topic, key, data, refs[ix], roots[ix], *extras)
            for due_us, topic, key, data, cause, _root, _source, *extras in heard.later
            if (ix := at.get(self._past_name(cause))) is not None
        ]
        failures = [
            self._failed_then(event, lanes[event.offset], refs[ix], roots[ix], failed[event.offset], now_us)
            for ix, event in enumerate(events)
            if event.offset in failed
        ]
        return Outcome(
            name,
            len(batch),
            batch.keys,
            [offset for offset in batch.offsets if offset not in failed],
            said,
            batch.began_us,
            {lane: state for lane, state in heard.wrote.items() if lane in own_lanes},
            later,
            failures,
        )

    def _failed_then(self, event: Event, lane: str, ref: Ref, root: Ref, told: tuple[int, int, str], now_us: int) -> Failure:
        _attempt, due_us, error = told
        after_us = None if due_us < 0 else max(0, due_us - now_us)
        return Failure(event.offset, event.key, lane, event.topic, ref, root, error, "", due_us < 0, after_us)

    def _again(self, name: str, offsets: Sequence[int], now_us: int) -> None:
        """Dead letters that somebody had heard again, as far as they are dead here."""
        section = self.sections.get(name)
        here = [offset for then in offsets if (offset := self._now(then)) >= 0]
        dead = [offset for offset in here if section is not None and offset in section.state.dead]
        if dead:
            self._take(self._broker.again(name, dead, now_us))

    def _hear_free(self, now_us: int) -> None:
        """Let those who play anew hear what the record says nothing of."""
        for section in self.sections.values():
            for offset in section.waits:
                if offset not in section.free and not self._waits_then(section, offset):
                    section.free[offset] = None
        is_new = True
        while is_new:
            is_new = False
            for name, section in self.sections.items():
                if name not in self._chosen or not section.free or self._playing.is_muted(name):
                    continue
                batch = section.pick(section.ready(now_us), now_us)
                if batch is not None:
                    is_new = True
                    for outcome in self._play(batch):
                        self._take(self._broker.hear(outcome, now_us))
                    self._look()

    def _waits(self, section: Followed) -> list[int]:
        """The moments at which a section tries again what the record says nothing of."""
        if section.name not in self._chosen:
            return []
        return [due_us for offset, due_us in section.waits.items() if offset in section.free and section._is_first(offset)]

    def _waits_then(self, section: Followed, offset: int) -> bool:
        """Whether an event that waits for its next attempt did so then."""
        then, known = self._past(offset), self.record.state.sections.get(section.name)
        return then >= 0 and known is not None and section.name not in self._loose and then in known.attempts

    def _let_pass(self, now_us: int) -> None:
        """Let the time pass up to a recorded frame: what falls due before it that the record says nothing of."""
        while True:
            due_us = self._broker.due_us()
            moments = [due for section in self.sections.values() for due in self._waits(section)]
            moment = min([*moments, *([] if due_us is None else [due_us + LATE_US])], default=None)
            if moment is None or moment >= now_us:
                return
            if due_us is not None and due_us + LATE_US == moment:
                made = self._broker.fire(due_us)
                if made is None:
                    return
                self._take(made)
                self._look()
            self._hear_free(moment)

    # Pairs

    def _now(self, then: int) -> int:
        """Where the pair of a recorded event lies in the take; -1: nowhere."""
        if then < self._begin:
            return then
        ix = then - self._begin
        return self._there[ix] if ix < len(self._there) else -1

    def _past(self, offset: int) -> int:
        """Where the pair of an event of the take lies in the record; -1: nowhere."""
        if offset < self._begin:
            return offset
        ix = offset - self._begin
        return self._then[ix] if ix < len(self._then) else -1

    def _was(self, ref: Ref) -> str:
        """The id of the pair of an event of the take."""
        id_ = ref if isinstance(ref, str) else id_at(self.log.past, self.log.id, ref)
        return self._renamed.get(id_, id_)

    def _past_name(self, ref: Ref) -> str:
        return ref if isinstance(ref, str) else id_at(self.record.log.past, self.record.log.id, ref)

    def _is_awaited(self, name: str, offset: int) -> bool:
        """Whether the record tells when this section heard this event."""
        if name in self._loose:
            return False
        then = self._past(offset)
        if then < 0:
            return False
        if offset not in self._changed:
            return True
        frame = self.record.tape.at(then)
        assert frame.rows is not None
        return self.record.listeners[name].concerns(frame.rows, then - frame.first)

    def _pair(self, frame: Frame) -> None:
        """Find the pairs of what the frames say that were made of this one."""
        rows = frame.rows
        count = sum(made.count for made in self._made)
        if rows is None:
            self._then.extend([-1] * count)
            return
        if count == len(rows) and len(self._made) == 1 and (same := self._made[0].rows) is not None and ids(same) == ids(rows):
            self._there.extend(range(same.first, same.first + count))
            self._then.extend(range(frame.first, frame.end))
            return
        named: dict[str, int] = {}
        others: dict[Key, int] = {}
        counts: Counter[Key] = Counter()
        for made in self._made:
            if made.rows is not None:
                for ix in range(made.count):
                    key = self._key(made.rows, ix, is_here=True)
                    given = made.rows.given_id(ix)
                    if given is not None:
                        named[given] = made.first + ix
                    else:
                        others[(*key, counts[key])] = made.first + ix
                    counts[key] += 1
        first = self._made[0].first if self._made else 0
        then = array("q", [-1] * count)
        counts.clear()
        for ix in range(len(rows)):
            key = self._key(rows, ix, is_here=False)
            id_ = rows.id(ix)
            offset = named.get(id_, -1)
            if offset < 0:
                offset = others.get((*key, counts[key]), -1)
                if offset >= 0:
                    self._changed.add(offset)
                    self._renamed[id_at(self.log.past, self.log.id, offset)] = id_
            counts[key] += 1
            self._there.append(offset)
            if offset >= 0:
                then[offset - first] = frame.first + ix
        self._then.extend(then)

    def _key(self, rows: Rows, ix: int, *, is_here: bool) -> Key:
        """By what an event is known on both sides: what it answers, and who says it; of a match, what it is made of."""
        if parts := rows.parts(ix):
            tape = self._tape if is_here else self.record.tape
            ids = [_id_at(rows, tape, part) for part in parts]
            names = [self._renamed.get(id_, id_) for id_ in ids] if is_here else ids
            return (*names, rows.topic(ix), rows.keys[ix])
        refs: Sequence[Ref] = [] if rows.causes is None else [rows.causes[ix]]
        named = tuple(self._was(ref) if is_here else self._past_name(ref) for ref in refs)
        return (*named, "", rows.source(ix).rpartition("/")[2])

    def _keep_ids_of_matches(self, rows: Rows) -> None:
        """A match of the same events is what it was, and keeps its id."""
        recorded = self._recorded
        if recorded is None or recorded.extras is None or rows.extras is None:
            return
        then = {
            self._key(recorded, ix, is_here=False): recorded.id(ix) for ix in recorded.extras if recorded.parts(ix)
        }  # fmt: skip
        for ix, extra in rows.extras.items():
            if rows.parts(ix) and (id_ := then.get(self._key(rows, ix, is_here=True))) is not None:
                rows.extras[ix] = {**extra, "as": id_}

    # Frames

    def _take(self, frame: Frame | None) -> None:
        if frame is not None:
            if frame.rows is not None:
                self._keep_ids_of_matches(frame.rows)
            self._made.append(frame)
            self._seal(frame)

    def _seal(self, frame: Frame) -> None:
        sealed = self.log.seal(frame)
        self._sealed.append(sealed)
        self._size += len(sealed)
        if frame.rows is not None:
            self._tape.keep(frame, len(sealed))
        if self._size > GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        self.log.append(self._sealed)
        self._sealed, self._size = [], 0

    def _said_since(self, patterns: Patterns, offset: int) -> int:
        """How many events the log holds under these patterns from an offset on."""
        return sum(
            fits(patterns, frame.rows.filed(ix))
            for frame in self.log.rows(offset)
            if frame.rows is not None
            for ix in range(max(0, offset - frame.first), frame.count)
        )

    def _look(self) -> None:
        """Let the sections see what was said."""
        end = self._broker.state.end
        missing = end - self._begin - len(self._then)
        if missing > 0:  # what was not made of a recorded frame has no pair
            self._then.extend([-1] * missing)
        for section in self.sections.values():
            while section.reopened:
                frame = self._tape.at(section.reopened[0])
                offsets = []
                while section.reopened and frame.first <= section.reopened[0] < frame.end:
                    offsets.append(section.reopened.popleft())
                assert frame.rows is not None
                section.look_again(frame.rows, offsets)
            while section.next < end:
                frame = self._tape.at(section.next)
                section.look(frame.rows, frame.end)


def _id_at(rows: Rows, tape: Tape, offset: int) -> str:
    """The id of an event that lies among these rows, or before them."""
    ix = offset - rows.first
    return rows.id(ix) if 0 <= ix < len(rows) else tape.event(offset).id


def is_same_seat(record: Record, score: Score, name: str) -> bool:
    """Whether a player listens, and is heard in order, as it did then."""
    before, now = record.score.players.get(name), score.players[name]
    return before is not None and (before.on, before.by, before.order) == (now.on, now.by, now.order)


def _tells_of_time(frame: Frame) -> bool:
    """Whether a frame holds nothing but matches, which time alone completed, and what became of motifs."""
    rows = frame.rows
    if rows is None or frame.marks.keys() - {"motif"}:
        return False
    return all(rows.parts(ix) or rows.filed(ix).startswith("_band.motif.") for ix in range(len(rows)))


def _by_source(rows: Rows, ixs: Sequence[int]) -> list[tuple[str, list[int]]]:
    """These rows by who said them, in runs."""
    column = rows.source_ix
    if isinstance(column, int):
        return [(rows.sources[column], list(ixs))] if ixs else []
    runs: list[tuple[str, list[int]]] = []
    for ix in ixs:
        source = rows.sources[column[ix]]
        if not runs or runs[-1][0] != source:
            runs.append((source, []))
        runs[-1][1].append(ix)
    return runs


def _identity(own: Mapping[str, Any], id_: str, born: str) -> dict[str, Any]:
    """What a row needs to have this id in another log, beside what it has of its own."""
    named = {} if "id" in own or "as" in own else {"as": id_}
    return named if born == id_ else {**named, "born": born}
