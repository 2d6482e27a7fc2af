"""A shard's past played on from where something came out otherwise: into a take, at the times and in the order of the record.

Owns what becomes of each recorded frame. What came from outside is said again, at its time; a batch is heard when it was heard
then, as far as its events are still said; what is said now and was not then is heard at once. What comes out as it was
keeps its id (`identities.py`). What goes to other shards, and what comes from there, is `together.py`'s to bring.

Invariants, for an event e of the record and its pair p in the take:
    id(p) = id(e)            if p is what e was; else p has an id of its own
    p is heard after all that its lane has unheard before it
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from ensemble.broker import Broker, Opening, State
from ensemble.broker.outbox import Parcel
from ensemble.broker.section import Batch
from ensemble.broker.state import Patterns, fits
from ensemble.broker.words import Failure, Later, Outcome, Publication, Said
from ensemble.event import Event, Frame, Ref, Rows
from ensemble.evolution import recorded
from ensemble.listening import listener, motives, offset_at, policy
from ensemble.log.base import EventLog
from ensemble.replay.followed import Followed
from ensemble.replay.identities import Identities
from ensemble.replay.pairs import Pairs
from ensemble.replay.playing import Playing
from ensemble.replay.record import Heard, Record, answers, parcels_of, said_by
from ensemble.score import Score
from ensemble.score.lifts import Lifts
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.tape import Tape

LATE_US = 1_000_000
"""How long what falls due waits for the record to do the same: whoever played then was a little late, too."""
GROUP_BYTES = 1 << 20
"""How much is written to the take at a time."""

Fetch = Callable[[int, int], tuple[int, Sequence[Parcel]]]
"""What another shard has sent here of what the record has as its parcels before a number: the first's number, and these."""


class Following:
    """A shard of a take that is being made. `chosen` play anew; of all others what they said then is said again.

    `names` are the ids of pairs, as in `Pairs`, and `fetch` brings what other shards have sent.
    """

    def __init__(
        self,
        record: Record,
        log: EventLog,
        score: Score,
        playing: Playing,
        chosen: frozenset[str],
        names: dict[str, str],
        fetch: Fetch,
    ) -> None:
        self.record = record
        self.log = log
        self._playing = playing
        self._chosen = chosen
        self._fetch = fetch
        self._sealed: list[bytes] = []
        self._size = 0
        vocabulary = Vocabulary(score)
        lifts = Lifts(vocabulary)
        self._tape = Tape(log, lifts)
        self._pairs = Pairs(record.state.end, (record.log, record.tape), (log, self._tape), names)
        self._ids = Identities(self._pairs, record.log.shard, record.shards)
        state = State.load(record.state.dump())
        self.broker = Broker(
            state,
            log_id=log.id,
            name=score.name,
            shard=log.shard,
            shards=record.shards,
            listeners={name: listener(spec, record.shards) for name, spec in score.players.items()},
            policies={name: policy(spec, vocabulary) for name, spec in score.players.items()},
            past=log.past,
        )
        self.broker.listening.lift = lifts.data if lifts.is_on else None
        begun = record.begun()
        self._loose = {name for name in score.players if not is_same_seat(begun, score, name)}
        """Players that listen for something else than then, or are new: of these the record says nothing."""
        begin = self._pairs.begin
        frame = self.broker.open(
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
        for name, plain in list(self.broker.sections.items()):
            section = Followed(name, plain.state, plain.listener, partial(self._are_awaited, name), plain.owns)
            self.sections[name] = self.broker.sections[name] = section
        self._made: list[Frame] = []
        self._recorded: Rows | None = None
        """What the frame of the record says that is followed now."""
        if frame is not None:
            self._seal(frame)
        told = [record.upto.seq, record.upto.offset, sorted(chosen), *record.since]
        self._seal(self.broker.note({"replaying": told}, state.time_us))
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
        elif "in" in frame.marks:
            for shard, number in frame.marks["in"].items():
                self._accept(shard, *self._fetch(shard, number), now_us, frame.rows)
        elif (away := self.record.forwarded(frame)) is not None:
            self._forward_again(*away, now_us)
        elif "fired" in frame.marks or "expired" in frame.marks or _tells_of_time(frame):
            made = self.broker.fire(now_us)
            if made is not None and made.rows is not None and frame.rows is not None:
                self._ids.keep_of_timers(made.rows, frame.rows)
            self._take(made)
        elif "place" in frame.marks or (frame.rows is not None and frame.rows.causes is None) or "out" in frame.marks:
            self._publish_again(frame, now_us)
        for name, offsets in frame.marks.get("again", {}).items():
            self._again(name, offsets, now_us)
        self._pairs.pair(frame, self._made)
        self._recorded = None
        self.record.apply(frame)
        self._look()
        self.hear_free(now_us)

    def hear_what_waits(self) -> None:
        """Hear what is left of what was not said then, whenever that would be. What waited then waits still."""
        now_us = self.broker.state.time_us
        self.hear_free(now_us)
        while (
            moment := min((due for section in self.sections.values() for due in self._waits(section)), default=None)
        ) is not None:
            now_us = max(now_us, moment)
            self.hear_free(now_us)

    def finish(self) -> State:
        """Write all of it; the state at the end."""
        now_us, upto = self.broker.state.time_us, self.record.upto
        self._take(self.broker.rest(now_us))
        self.broker.listening.keep_all()
        self._seal(self.broker.note({"replayed": [upto.seq, upto.offset, upto.hash, upto.time_us]}, now_us))
        self._flush()
        return self.broker.state

    # What is said

    def _publish_again(self, frame: Frame, now_us: int) -> None:
        """What came from outside, with the ids that it had; what of it goes to other shards gets them there."""
        rows, places = frame.rows, list(frame.marks.get("place", {}).items())
        publications = []
        for source, ixs in () if rows is None else _by_source(rows, _given(rows)):
            assert rows is not None
            whole = self._ids.said_again(rows)
            said = whole if len(ixs) == len(rows) else whole.pick(ixs)
            publications.append(Publication(said, source, places.pop(0) if places else None))
        for parcel in parcels_of(frame):
            publications.append(msgspec.structs.replace(parcel.publication(), place=places.pop(0) if places else None))
        publications += [Publication(Said([], 0, (), ()), "", place) for place in places]
        made, _ = self.broker.publish(publications, now_us)
        self._take(made)

    # What is heard

    def _hear_again(self, frame: Frame, heard: Heard, now_us: int) -> None:
        name = heard.batch.section
        section = self.sections.get(name)
        if section is None or name in self._loose:
            return
        wanted = self._pairs.all_now(heard.batch.offsets)
        if section.away:  # some of it may be another shard's now
            self._forward(section, set(wanted), now_us)
        batch = section.pick(wanted, heard.batch.began_us)
        if batch is None:
            return
        if name in self._chosen and not self._playing.is_muted(name):
            outcomes = self._play(batch)
            is_same = self._ids.keep_in_line(outcomes, frame, heard)
            if is_same is None:
                is_same = self._ids.keep(outcomes, answers(frame, heard, self.record.log.shard))
            if not is_same:
                self._playing.probe(batch, *self._tape.events(batch.offsets), self.broker.state, outcomes)
        else:
            outcomes = [self._as_then(batch, frame, heard)]
        for outcome in outcomes:
            self._take(self.broker.hear(outcome, now_us))

    def _play(self, batch: Batch) -> list[Outcome]:
        events, refs, roots = self._tape.events(batch.offsets)
        return self._playing.hear(batch, events, refs, roots, self.broker.state)

    def _as_then(self, batch: Batch, frame: Frame, heard: Heard) -> Outcome:
        """What came of these events then."""
        name, now_us = batch.section, frame.time_us
        events, refs, roots = self._tape.events(batch.offsets)
        if (whole := self._as_then_in_line(batch, frame, heard, refs, roots)) is not None:
            return whole
        pairs = self._pairs
        at = {pairs.was(ref): ix for ix, ref in enumerate(refs)}
        here, own_lanes = set(batch.offsets), set(batch.keys)
        failed = {offset: told for then, told in heard.failed.items() if (offset := pairs.now(then)) in here}
        lanes = dict(zip(batch.offsets, batch.keys, strict=True))
        words = self._said_then(frame, heard, at)
        said = None
        if words:
            topics = list(dict.fromkeys(topic for topic, *_ in words))
            said = Said(
                topics,
                0 if len(topics) == 1 else [topics.index(topic) for topic, *_ in words],
                [key for _, key, *_ in words],
                [data for _, _, data, *_ in words],
                [refs[ix] for *_, ix, _ in words],
                [roots[ix] for *_, ix, _ in words],
                {row: own for row, (*_, own) in enumerate(words) if own} or None,
                self._versions(frame, name),
            )
        later = [
            Later(due_us - now_us, topic, key, data, refs[ix], roots[ix], *extras)
            for due_us, topic, key, data, cause, _root, _source, *extras in heard.later
            if (ix := at.get(pairs.name_then(cause))) is not None
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

    def _as_then_in_line(
        self, batch: Batch, frame: Frame, heard: Heard, refs: Sequence[Ref], roots: Sequence[Ref]
    ) -> Outcome | None:
        """The same where all of it was heard, and each event answered once or none at all; None if not. That is the rule."""
        if heard.failed or heard.later or "out" in frame.marks or list(batch.keys) != list(heard.batch.keys):
            return None
        rows, said = frame.rows, None
        if rows is not None:
            is_own = rows.causes is not None and isinstance(rows.source_ix, int) and all(said_by(rows, batch.section))
            if not is_own or len(rows) != len(refs) or self._pairs.all_were(refs) != rows.names(rows.causes or ()):
                return None
            said = self._ids.said_again(rows, refs, roots)
        return Outcome(
            batch.section, len(batch), batch.keys, batch.offsets, said, batch.began_us, dict(heard.wrote)
        )  # fmt: skip

    @staticmethod
    def _versions(frame: Frame, name: str) -> dict[str, int] | None:
        """In which versions a player said what a frame has of it."""
        found = dict((frame.rows and frame.rows.versions) or {})
        for parcel in parcels_of(frame, name):
            found.update(parcel.versions or {})
        return found or None

    def _said_then(
        self, frame: Frame, heard: Heard, at: Mapping[str, int]
    ) -> list[tuple[str, str, bytes, int, dict[str, Any]]]:
        """What answers these events in a recorded frame: topic, key, data, which of them it answers, and its extras."""
        name, rows, untold = heard.batch.section, frame.rows, heard.untold
        words = []
        if rows is not None and rows.causes is not None:
            for ix, (is_own, cause) in enumerate(zip(said_by(rows, name), rows.names(rows.causes), strict=True)):
                if is_own and cause in at and cause not in untold:
                    words.append((rows.filed(ix), rows.keys[ix], rows.data[ix], at[cause], self._ids.own(rows, ix)))
        for parcel in parcels_of(frame, name):
            for row, cause in enumerate(parcel.causes or ()):
                if cause in at and cause not in untold:
                    own = (parcel.extras or {}).get(row, {})
                    words.append((parcel.topic(row), parcel.keys[row], parcel.data[row], at[cause], own))
        return words

    def _failed_then(self, event: Event, lane: str, ref: Ref, root: Ref, told: tuple[int, int, str], now_us: int) -> Failure:
        _attempt, due_us, error = told
        after_us = None if due_us < 0 else max(0, due_us - now_us)
        return Failure(event.offset, event.key, lane, event.topic, ref, root, error, "", due_us < 0, after_us)

    def _again(self, name: str, offsets: Sequence[int], now_us: int) -> None:
        """Dead letters that somebody had heard again, as far as they are dead here."""
        section = self.sections.get(name)
        here = self._pairs.all_now(offsets)
        dead = [offset for offset in here if section is not None and offset in section.state.dead]
        if dead:
            self._take(self.broker.again(name, dead, now_us))

    def hear_free(self, now_us: int) -> None:
        """Let those who play anew hear what the record says nothing of."""
        for name, section in self.sections.items():
            if section.away and name in self._chosen:
                free = {offset for offset, _ in section.away if not self._are_awaited(name, (offset,))}
                self._forward(section, free, now_us)
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
                        self._take(self.broker.hear(outcome, now_us))
                    self._look()

    def _waits(self, section: Followed) -> list[int]:
        """The moments at which a section tries again what the record says nothing of."""
        if section.name not in self._chosen:
            return []
        return [due_us for offset, due_us in section.waits.items() if offset in section.free and section._is_first(offset)]

    def _waits_then(self, section: Followed, offset: int) -> bool:
        """Whether an event that waits for its next attempt did so then."""
        then, known = self._pairs.past(offset), self.record.state.sections.get(section.name)
        return then >= 0 and known is not None and section.name not in self._loose and then in known.attempts

    def _let_pass(self, now_us: int) -> None:
        """Let the time pass up to a recorded frame: what falls due before it that the record says nothing of."""
        while True:
            due_us = self.broker.due_us()
            if due_us is not None and due_us + LATE_US < now_us and self._was_late(due_us):
                due_us = None
            moments = [due for section in self.sections.values() for due in self._waits(section)]
            moment = min([*moments, *([] if due_us is None else [due_us + LATE_US])], default=None)
            if moment is None or moment >= now_us:
                return
            if due_us is not None and due_us + LATE_US == moment:
                made = self.broker.fire(due_us)
                if made is None:
                    return
                self._take(made)
                self._look()
            self.hear_free(moment)

    def _was_late(self, due_us: int) -> bool:
        """Whether something was due then, too, by this moment, and waited for its time to be played: it will be told of."""
        state = self.record.state
        moments = [timer.due_us for timer in state.timers.values()]
        moments += [next(iter(section.expires.values())) for section in state.sections.values() if section.expires]
        return min(moments, default=due_us + 1) <= due_us

    # What the record tells of

    def _are_awaited(self, name: str, offsets: Sequence[int]) -> bool:
        """Whether the record tells when this section heard each of these events, or sent it away."""
        if name in self._loose:
            return False
        if isinstance(offsets, range) and offsets.start >= self._pairs.begin:
            are_paired = self._pairs.are_all_paired(offsets)
            return are_paired and all(self._is_awaited(name, each) for each in self._pairs.changed.intersection(offsets))
        return all(self._is_awaited(name, offset) for offset in offsets)

    def _is_awaited(self, name: str, offset: int) -> bool:
        then = self._pairs.past(offset)
        if then < 0:
            return False
        if offset not in self._pairs.changed:
            return True
        frame = self.record.tape.at(then)
        assert frame.rows is not None
        return self.record.listeners[name].concerns(frame.rows, then - frame.first)

    # Between shards

    def _forward_again(self, name: str, offsets: Sequence[int], now_us: int) -> None:
        """Send away what was sent away then; what is heard here now, is heard as soon as it can be."""
        section = self.sections.get(name)
        if section is not None and name not in self._loose:
            wanted = self._pairs.all_now(offsets)
            self._forward(section, set(wanted), now_us)
            section.let_free(wanted)

    def _forward(self, section: Followed, wanted: set[int], now_us: int) -> None:
        """Send these events of a section away, as far as other shards hear them."""
        chosen = [pair for pair in section.away if pair[0] in wanted]
        if not chosen:
            return
        section.away = deque(pair for pair in section.away if pair[0] not in wanted)
        events, _, _ = self._tape.events([offset for offset, _ in chosen])
        state = section.state
        letters = {offset: self._tape.event(state.dead[offset]) for offset, _ in chosen if offset in state.held}
        self._take(self.broker.forward(section.name, events, [lane for _, lane in chosen], now_us, letters))
        self._look()

    def take_in(self, shard: int, first: int, parcels: Sequence[Parcel], now_us: int) -> None:
        """Take in what another shard has sent, and the record says nothing of."""
        self._accept(shard, first, parcels, now_us, None)
        self._look()

    def _accept(self, shard: int, first: int, parcels: Sequence[Parcel], now_us: int, then: Rows | None) -> None:
        """The same; what then arrived as it does now keeps the id that it got."""
        if then is not None:
            parcels = self._ids.keep_of_parcels(parcels, then)
        if parcels:
            frames, _ = self.broker.accept(shard, first, parcels, now_us)
            for frame in frames:
                self._take(frame)

    # Frames

    def _take(self, frame: Frame | None) -> None:
        if frame is not None:
            if frame.rows is not None and self._recorded is not None:
                self._ids.keep_of_matches(frame.rows, self._recorded)
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
        end = self.broker.state.end
        self._pairs.leave_alone(end)
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


def is_same_seat(then: Score, score: Score, name: str) -> bool:
    """Whether a player listens, and is heard in order, as it did then."""
    before, now = then.players.get(name), score.players[name]
    return before is not None and (before.on, before.by, before.order) == (now.on, now.by, now.order)


def _tells_of_time(frame: Frame) -> bool:
    """Whether a frame holds nothing but matches, which time alone completed, and what became of motifs."""
    rows = frame.rows
    if rows is None or frame.marks.keys() - {"motif"}:
        return False
    return all(rows.parts(ix) or rows.filed(ix).startswith("_band.motif.") for ix in range(len(rows)))


def _given(rows: Rows) -> Sequence[int]:
    """The rows of a frame that came from outside: all but matches, and what tells of motifs."""
    if not any("causes" in extra for extra in rows.odd.values()) and not any(map(_tells_of_motif, rows.topics)):
        return range(len(rows))
    return [ix for ix in range(len(rows)) if not rows.parts(ix) and not _tells_of_motif(rows.filed(ix))]


def _tells_of_motif(topic: str) -> bool:
    return topic.startswith("_band.motif.")


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


