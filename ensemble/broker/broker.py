"""The broker of one shard: every decision, as a frame.

Owns the rules of design section 3 that are about events: dedupe, order, retries, dead letters, timers, expiry. Each method that
decides gives the frame to be appended, already folded into `state`; the caller appends the frames in the order in which it
got them, and shows nothing of them to anyone before they are durable. No I/O, no clock: `now_us` comes in.

Invariants:
    state.end = first offset not yet given away
    frame.time_us never goes back, whatever `now_us` says
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import islice, takewhile
from typing import Any

from ensemble.broker.failure import DEAD, End, backoff_us, end_of, token_of
from ensemble.broker.matching import Listening
from ensemble.broker.outbox import Parcel, copies, parcel, shard_of, split
from ensemble.broker.routing import Listener
from ensemble.broker.section import Advance, Section
from ensemble.broker.state import Patterns, SectionState, State, Timer, dedupe_key, lag, said
from ensemble.broker.words import Failure, Motive, Opening, Outcome, Policy, Publication, Said
from ensemble.errors import Unavailable
from ensemble.event import Event, Frame, Past, Ref, Rows, encode

NO_LETTERS: Mapping[int, Event] = {}
NO_MARKS: Mapping[str, Any] = {}
EXPIRED_MOST = 10_000
"""Keys of a section whose state goes with one frame."""


class Broker:
    """One shard.

    `log_id`, `name` and `past` are the log's; `state` is what was folded from it. `listeners` are the sections that play.
    """

    def __init__(
        self,
        state: State,
        *,
        log_id: str,
        name: str,
        shard: int = 0,
        shards: int = 1,
        listeners: Mapping[str, Listener],
        policies: Mapping[str, Policy],
        overlapping: Sequence[str] = (),
        past: Past = (),
    ) -> None:
        self.state = state
        self.log_id = log_id
        self.past = past
        self.name = name
        self.shard = shard
        self.shards = shards
        self._listeners = listeners
        self._policies = policies
        self._overlapping = overlapping
        self.sections: dict[str, Section] = {}
        self._arrived: dict[int, int] = {}
        """Shard -> up to which parcel it has said that it has them, where that is not recorded yet."""
        self._timers = sorted((timer.due_us, number) for number, timer in state.timers.items())
        self.listening = Listening(state, log_id, shard, self.source())

    # Beginning

    def open(
        self,
        opening: Opening,
        now_us: int,
        since: Callable[[Patterns, int], int],
        frames: Callable[[int], Iterable[Frame]] = lambda offset: (),
    ) -> Frame | None:
        """Seat the sections. A new one hears from the start, or from now if the opening says so. None: nothing is new.

        `since` tells how many events the log holds under patterns, from an offset on. It is asked where a section turned to
        other topics while some of the log was still before it. `frames` reads the log from an offset on: the motifs that were
        listened for before are brought to where they were.
        """
        marks: dict[str, Any] = {}
        motifs = self.listening.want(opening.motives, frames, self.state.end)
        if motifs:
            marks["motif"] = motifs
        for name, listener in self._listeners.items():
            for mark, place in self._seated(
                name, listener, since, None if name in opening.from_now else opening.begins.get(name, 0)
            ):
                marks.setdefault(mark, {})[name] = place
        if opening.score is not None and opening.score != self.state.score:
            marks["score"] = opening.score
        if opening.score is not None and opening.plan != self.state.plan:
            marks["plan"] = opening.plan
        if opening.dedupe is not None and opening.dedupe != (self.state.dedupe_us, self.state.dedupe_most):
            marks["dedupe"] = list(opening.dedupe)
        frame = self._frame(None, marks, now_us) if marks else None
        for name, listener in self._listeners.items():
            self.sections[name] = self._section(name, listener, overlapping=name in self._overlapping)
        return frame

    def _section(self, name: str, listener: Listener, *, overlapping: bool) -> Section:
        owns = self._owns if self.shards > 1 and listener.crosses else None
        return Section(name, self.state.section(name), listener, overlapping=overlapping, owns=owns)

    def _owns(self, lane: str) -> bool:
        return shard_of(lane, self.shards) == self.shard

    def _seated(
        self, name: str, listener: Listener, since: Callable[[Patterns, int], int], begin: int | None
    ) -> list[tuple[str, Any]]:
        """What there is to record of a section that takes its seat: where it begins, what it turned to, how long it keeps."""
        section, patterns = self.state.sections.get(name), listener.patterns
        keep_us = self._policies[name].keep_us
        kept = [] if keep_us == (section.keep_us if section else 0) else [("kept", keep_us)]
        if section is None:
            all_said = said(self.state, patterns)
            if begin is None or begin >= self.state.end:
                place = [self.state.end, all_said]
            else:
                place = [begin, all_said - since(patterns, begin) if begin else 0]
            return [("joined", [*place, list(patterns)]), *kept]
        if section.patterns != patterns or section.position < self.state.gone:  # or some of what was before it is gone
            before = since(patterns, section.position) if section.position < self.state.end else 0
            passed = said(self.state, patterns) - before
            if section.patterns != patterns or passed != section.passed:
                return [("turned", [passed, list(patterns)]), *kept]
        return kept

    def seat(
        self,
        name: str,
        listener: Listener,
        policy: Policy,
        since: Callable[[Patterns, int], int],
        *,
        overlapping: bool,
        from_now: bool = False,
        begin: int = 0,
        now_us: int,
        besides: Mapping[str, Any] = NO_MARKS,
    ) -> Frame | None:
        """Seat one more section while the others play, or one anew that has nothing in flight. None: nothing is new.

        `since` as in `open`: all that is sealed must be durable then. `besides` are marks that are recorded with it.
        """
        held = self.sections.get(name)
        assert held is None or not held.flying, f"section {name} still hears"
        self._listeners = {**self._listeners, name: listener}
        self._policies = {**self._policies, name: policy}
        marks = {mark: {name: place} for mark, place in self._seated(name, listener, since, None if from_now else begin)}
        marks.update(besides)
        frame = self._frame(None, marks, now_us) if marks else None
        self.sections[name] = self._section(name, listener, overlapping=overlapping)
        return frame

    def unseat(self, name: str) -> None:
        """Let a section go that has nothing in flight. What it has heard and keeps stays in the log."""
        assert not self.sections[name].flying, f"section {name} still hears"
        del self.sections[name]
        self._listeners = {other: listener for other, listener in self._listeners.items() if other != name}
        self._policies = {other: policy for other, policy in self._policies.items() if other != name}

    def rewrite(self, name: str, writes: Mapping[str, bytes | None], now_us: int) -> Frame:
        """Write into a section's table what no event led to: it was made anew from the log."""
        return self._frame(None, {"wrote": {name: dict(writes)}}, now_us)

    def record(self, score: dict[str, Any], plan: bytes, now_us: int) -> Frame | None:
        """Record the score that is played from here on, and what its stage begins anew from; None if both are recorded."""
        marks: dict[str, Any] = {}
        if score != self.state.score:
            marks["score"] = score
        if plan != self.state.plan:
            marks["plan"] = plan
        return self._frame(None, marks, now_us) if marks else None

    def removed(self, statements: Sequence[Any], now_us: int) -> Frame:
        """Record what retention is about to take from the log."""
        return self._frame(None, {"removed": list(statements)}, now_us)

    # Motifs of several events

    def listen(self, motives: Mapping[str, Motive], frames: Callable[[int], Iterable[Frame]], now_us: int) -> Frame | None:
        """Listen for these motifs from here on; None: nothing is new. `frames` as in `open`: all must be durable then."""
        marks = self.listening.want(motives, frames, self.state.end)
        return self._frame(None, {"motif": marks}, now_us) if marks else None

    def catch_up(self, frames: Iterator[Frame], now_us: int) -> Frame | None:
        """Let a motif that trails hear some of the log, from `listening.behind()` on; None: there is nothing to record."""
        rows, marks = self.listening.catch_up(frames)
        return self._frame(rows, {"motif": marks}, now_us) if marks else None

    def dump(self) -> bytes:
        """The state, for a snapshot."""
        self.listening.keep_all()
        return self.state.dump()

    def recall(self, state: State) -> None:
        """Take what people said from a state that is this one but for that."""
        for name, section in state.sections.items():
            self.state.sections[name].table.update(section.table)  # the same mapping: instances hold it
        self.state.timers, self.state.outbox, self.state.motifs = state.timers, state.outbox, state.motifs
        self.listening.recall_all()

    # From outside

    def publish(self, publications: Sequence[Publication], now_us: int) -> tuple[Frame | None, list[Sequence[int]]]:
        """Say these events, but those whose id was seen before. The offsets of each publication's events come back too.

        What belongs to another shard is sent there, and has the offset -1 here.
        """
        return self._publish(publications, {}, now_us)

    def _publish(
        self, publications: Sequence[Publication], marks: dict[str, Any], now_us: int
    ) -> tuple[Frame | None, list[Sequence[int]]]:
        out: dict[int, list[Parcel]] = {}
        offsets: list[Sequence[int]] = []
        kept: list[Publication] = []
        end = self.state.end
        fresh: dict[str, int] = {}
        sent: dict[str, Sequence[int]] = {}
        for publication in publications:
            token = publication.token
            if token is not None:
                before = sent.get(token) or self.state.sent_at(token)
                if before is not None:
                    offsets.append(before)
                    continue
            said, homes = self._keep(publication.said, publication.source, out)
            where: Sequence[int] = range(end, end + len(said))
            if said.extras is not None and any("id" in extra for extra in said.odd.values()):
                said, where = self._without_seen(said, end, fresh, now_us)
            if homes is not None:
                here = iter(where)
                where = [next(here) if home == self.shard else -1 for home in homes]
            offsets.append(where)
            end += len(said)
            if token is not None:
                sent[token] = where
            if len(said) or publication.place:
                kept.append(Publication(said, publication.source, publication.place))
        if out:
            marks["out"] = out
        if not kept and not marks:
            return None, offsets
        places = dict(publication.place for publication in kept if publication.place)
        if places:
            marks["place"] = places
        if sent:
            marks["sent"] = {token: {w.start: len(w)} if isinstance(w, range) else list(w) for token, w in sent.items()}
        return self._frame(self._merge([(p.said, p.source) for p in kept if len(p.said)]), marks, now_us), offsets

    def _without_seen(self, said: Said, end: int, fresh: dict[str, int], now_us: int) -> tuple[Said, Sequence[int]]:
        """The events whose ids are new, and the offsets of all, old and new."""
        extras = said.odd
        seen, dedupe_us = self.state.seen, self.state.dedupe_us
        keep: list[int] = []
        where: list[int] = []
        for row in range(len(said)):
            extra = extras.get(row, {})
            id_ = dedupe_key(extra) if "id" in extra else None
            known = None
            if id_ is not None:
                known = fresh.get(id_)
                if known is None and id_ in seen and seen[id_][1] + dedupe_us > now_us:
                    known = seen[id_][0]
            if known is None:
                known = end + len(keep)
                keep.append(row)
                if id_ is not None:
                    fresh[id_] = known
            where.append(known)
        return said if len(keep) == len(said) else said.pick(keep), where

    def _keep(self, said: Said, source: str, out: dict[int, list[Parcel]]) -> tuple[Said, Sequence[int] | None]:
        """What of it stays here; the rest goes out. And where each event goes, unless all of it stays."""
        if self.shards == 1:
            return said, None
        ours, others, homes = split(said, self.shard, self.shards)
        for shard, theirs in others.items():
            out.setdefault(shard, []).append(parcel(theirs, source, self.log_id, self.past))
        return said.pick(()) if ours is None else ours, homes

    # From players

    def hear(self, outcome: Outcome, now_us: int) -> Frame | None:
        """Record what came of a batch: what was heard, said and written, and what failed; all of it, or none.

        None: all of it only comes back, to be handed out again.
        """
        section = self.sections[outcome.section]
        if not outcome.heard and not outcome.failures:
            section.settle(outcome.keys, outcome.count, skipped=outcome.skipped)
            return None
        marks: dict[str, Any] = {}
        out: dict[int, list[Parcel]] = {}
        said: list[tuple[Said, str]] = []
        emitted = len(outcome.said) if outcome.said is not None else 0
        if outcome.said is not None and emitted:
            source = self.source(outcome.section)
            ours, _ = self._keep(outcome.said, source, out)
            if len(ours):
                said.append((ours, source))
        done = outcome.heard
        waiting: list[tuple[int, str, int]] = []
        held: list[tuple[int, str]] = []
        if outcome.failures:
            done = self._fail(section, outcome, marks, said, out, waiting, held, now_us)
        advance = section.advance(done)
        attempts = section.state.attempts
        retried = [offset for offset in done if offset in attempts] if attempts else ()
        marks["heard"] = {
            section.name: [
                *_moved(advance),
                retried,
                len(outcome.heard),
                emitted,
                outcome.began_us,
            ]
        }
        if section.is_mixed and (order := _mixed(outcome.heard, attempts)):
            marks["order"] = {section.name: order}
        if outcome.wrote:
            marks["wrote"] = {section.name: outcome.wrote}
        if outcome.later:
            source = self.source(section.name)
            for number, later in enumerate(outcome.later, self.state.timers_set):
                heappush(self._timers, (now_us + later.after_us, number))
            marks["later"] = [
                [now_us + later.after_us, later.topic, later.key, later.data, later.cause, later.root, source]
                + ([later.extras] if later.extras else [])
                for later in outcome.later
            ]
        if out:
            marks["out"] = out
        frame = self._frame(self._merge(said), marks, now_us)
        section.settle(outcome.keys, outcome.count, skipped=outcome.skipped, waiting=waiting, held=held)
        return frame

    def _fail(
        self,
        section: Section,
        outcome: Outcome,
        marks: dict[str, Any],
        said: list[tuple[Said, str]],
        out: dict[int, list[Parcel]],
        waiting: list[tuple[int, str, int]],
        held: list[tuple[int, str]],
        now_us: int,
    ) -> Sequence[int]:
        """Give each failed event its next attempt, or its end. What was dealt with for good comes back."""
        policy = self._policies[section.name]
        done = list(outcome.heard)
        failed: list[list[Any]] = []
        ends: list[tuple[Failure, End]] = []
        for failure in outcome.failures:
            attempt = section.state.attempts.get(failure.offset, (0, 0))[0] + 1
            if attempt < policy.retry.attempts and not failure.is_final:
                delay_us = failure.after_us
                if delay_us is None:
                    delay_us = backoff_us(policy.retry, token_of(f"{self.log_id}-{failure.offset}", section.name), attempt)
                failed.append([failure.offset, attempt, now_us + delay_us, failure.error])
                waiting.append((failure.offset, failure.lane, now_us + delay_us))
                continue
            failed.append([failure.offset, attempt, -1, failure.error])
            end = end_of(section.name, failure, attempt, policy)
            if failure.topic == DEAD and end.topic == DEAD:  # a dead letter of a dead letter: heard by who just failed at it
                done.append(failure.offset)
                continue
            ends.append((failure, end))
            if end.is_held:
                held.append((failure.offset, failure.lane))
            else:
                done.append(failure.offset)
        marks["failed"] = {section.name: failed}
        ends.sort(key=lambda each: each[1].topic != DEAD)  # dead letters first: they stay in this shard, whatever their key
        before = sum(len(each) for each, _ in said)
        dead = [[f.offset, before + row, end.is_held] for row, (f, end) in enumerate(ends) if end.topic == DEAD]
        if dead:
            marks["dead"] = {section.name: dead}
        if ends:
            topics = list(dict.fromkeys(end.topic for _, end in ends))
            words = Said(
                topics,
                0 if len(topics) == 1 else [topics.index(end.topic) for _, end in ends],
                [failure.key for failure, _ in ends],
                [encode(end.data) for _, end in ends],
                [failure.ref for failure, _ in ends],
                [failure.root for failure, _ in ends],
                {row: failure.extras for row, (failure, _) in enumerate(ends) if failure.extras} or None,
                {topic: policy.version for topic in topics if topic != DEAD} if policy.version != 1 else None,
            )
            source = self.source(section.name)
            ours, _ = self._keep(words, source, out)
            if len(ours):
                said.append((ours, source))
        return done

    # By time

    def fire(self, now_us: int) -> Frame | None:
        """Say what the timers that are due by now have to say, and take away what has expired; None if nothing is due."""
        due: list[int] = []
        while self._timers and self._timers[0][0] <= now_us:
            due.append(heappop(self._timers)[1])
        kept = ((name, section) for name, section in self.state.sections.items() if section.expires)
        expired = {name: keys for name, section in kept if (keys := _expired(section, now_us))}
        if not due and not expired:
            return self._hear_time(now_us)
        marks: dict[str, Any] = {}
        if due:
            marks["fired"] = due
        if expired:
            marks["expired"] = expired
        out: dict[int, list[Parcel]] = {}
        timers = [self.state.timers[number] for number in due]
        said = [(self._keep(_said(timer), timer.source, out)[0], timer.source) for timer in timers]
        if out:
            marks["out"] = out
        return self._frame(self._merge([each for each in said if len(each[0])]), marks, now_us)

    def _hear_time(self, now_us: int) -> Frame | None:
        """Say what motifs hear by now though nothing is said; None if they hear nothing."""
        if not self.listening.is_due(now_us):
            return None
        frame = Frame(first=self.state.end, time_us=max(now_us, self.state.time_us), rows=None, marks={})
        self.listening.join(frame)
        if frame.rows is None:
            return None
        self.state.apply(frame)
        return frame

    def due_us(self) -> int | None:
        """The next moment at which a retry, a timer, a motif or somebody's state falls due."""
        moments = [section.due_us for section in self.sections.values() if section.due_us is not None]
        moments += [next(iter(section.expires.values())) for section in self.state.sections.values() if section.expires]
        if self._timers:
            moments.append(self._timers[0][0])
        heard_us = self.listening.due_us()
        if heard_us is not None:
            moments.append(heard_us)
        return min(moments, default=None)

    def rest(self, now_us: int) -> Frame | None:
        """Move the sections' durable positions past what concerned nobody; None if none moves."""
        moves = {}
        for name, section in self.sections.items():
            advance = section.rest()
            if advance is not None:
                moves[name] = [*_moved(advance), (), 0, 0, now_us]
        return self._frame(None, {"heard": moves} if moves else {}, now_us) if moves or self._arrived else None

    # Between shards

    def forward(
        self,
        name: str,
        events: Sequence[Event],
        lanes: Sequence[str],
        now_us: int,
        letters: Mapping[int, Event] = NO_LETTERS,
    ) -> Frame:
        """Deal with events that a section of other shards hears, by sending them there. They are no longer `away`.

        Its attempts at them go with them; and that it is held, with its letter, which `letters` has by the event's offset.
        """
        section = self.sections[name]
        attempts, held = section.state.attempts, section.state.held
        rows: dict[int, list[Event]] = {}
        for event, lane in zip(events, lanes, strict=True):
            rows.setdefault(shard_of(lane, self.shards), []).append(event)
        offsets = [event.offset for event in events]
        tried = {offset: attempts[offset] for offset in offsets if offset in attempts} if attempts else {}
        let_go = [offset for offset in offsets if offset in held] if held else []
        advance = section.advance(offsets)
        marks = {
            "heard": {name: [*_moved(advance), list(tried), 0, 0, now_us]},
            "out": {shard: [copies(theirs, name, self.source(name), tried, letters)] for shard, theirs in rows.items()},
        }
        if let_go:
            marks["again"] = {name: let_go}
        return self._frame(None, marks, now_us)

    def accept(self, shard: int, first: int, parcels: Sequence[Parcel], now_us: int) -> tuple[list[Frame], int]:
        """Take in the parcels of another shard, from number `first` on, but those that are here already.

        The number of the first that is not here yet comes back too: from there on the other has to send them.
        Errors: Unavailable if some before `first` are missing: then this log is not the one that took them.
        """
        frames: list[Frame] = []
        expected = self.state.inbox.get(shard, 0)
        if first > expected:
            raise Unavailable(
                f"shard {self.shard} has the parcels of shard {shard} up to number {expected}, and is sent those from "
                f"{first} on: its log {self.log_id} has lost its end, or is another; restore it from a copy of the store"
            )
        fresh = list(parcels[expected - first :])
        while fresh:
            count = 1  # as many as fit into one frame: what is published is not mixed with what is answered
            while count < len(fresh) and (fresh[count].causes is None) == (fresh[0].causes is None):
                count += 1
            expected += count
            frame, _ = self._publish([each.publication() for each in fresh[:count]], {"in": {shard: expected}}, now_us)
            assert frame is not None, "it holds the mark at the least"
            frames.append(frame)
            del fresh[:count]
        return frames, expected

    def arrived(self, shard: int, first: int) -> None:
        """Another shard has all parcels before number `first`. Recorded with the next frame: until then they may go twice."""
        if shard in self.state.outbox:
            self._arrived[shard] = max(first, self._arrived.get(shard, 0))

    def correct(self, said: Said, wrote: Mapping[str, Mapping[str, bytes | None]], marks: dict[str, Any], now_us: int) -> Frame:
        """Say what was found to be otherwise, and set what players remember of these keys: all in one frame."""
        rows = self._merge([(said, self.source())] if len(said) else [])
        return self._frame(rows, {**marks, **({"wrote": wrote} if wrote else {})}, now_us)

    def note(self, marks: dict[str, Any], now_us: int) -> Frame:
        """Record what changes no state: marks that mean nothing to a broker."""
        return self._frame(None, marks, now_us)

    # Again

    def again(self, name: str, offsets: Sequence[int], now_us: int) -> Frame:
        """Let a section hear these of its dead letters again, their attempts counted from 1."""
        state = self.state.section(name)
        held = [offset for offset in offsets if offset in state.held]
        frame = self._frame(None, {"again": {name: list(offsets)}}, now_us)
        section = self.sections.get(name)
        if section is not None:
            for offset in held:
                section.let_go(offset)
            section.reopen(set(offsets) - set(held))
        return frame

    # Names

    def source(self, section: str | None = None) -> str:
        """The CloudEvents source of what a section says; without one, of what is published from outside."""
        return f"/{self.name}" if section is None else f"/{self.name}/{section}"

    def lag(self, name: str) -> int:
        """Events that concern a section and that it has not yet dealt with, as far as it has looked."""
        return lag(self.state, name) - self.sections[name].skipped

    def load(self, name: str) -> int:
        """The same, but for what is held: that waits for a person."""
        return self.lag(name) - len(self.sections[name].state.held)

    # Frames

    def _frame(self, rows: Rows | None, marks: dict[str, Any], now_us: int) -> Frame:
        if self._arrived:
            marks["arrived"], self._arrived = self._arrived, {}
        frame = Frame(first=self.state.end, time_us=max(now_us, self.state.time_us), rows=rows, marks=marks)
        if rows is not None:
            rows.time_us = frame.time_us
        if self.listening.is_on:
            self.listening.join(frame)
        self.state.apply(frame)
        return frame

    def _merge(self, chunks: Sequence[tuple[Said, str]]) -> Rows | None:
        """Columns after columns, as one. Chunks without causes must not be mixed with chunks that have some."""
        if not chunks:
            return None
        first = self.state.end
        if len(chunks) == 1:
            said, source = chunks[0]
            return Rows(
                self.log_id, self.shard, first, 0, said.topics, said.topic_ix, said.keys, said.data,
                [source], 0, said.causes, said.roots, said.extras, versions=said.versions,
            )  # fmt: skip
        topics: dict[str, int] = {}
        sources: dict[str, int] = {}
        topic_ix: list[int] = []
        source_ix: list[int] = []
        keys: list[str] = []
        data: list[bytes] = []
        causes: list[Ref] = []
        roots: list[Ref] = []
        extras: dict[int, dict[str, Any]] = {}
        versions: dict[str, int] = {}
        has_versions = any(said.versions is not None for said, _ in chunks)
        for said, source in chunks:
            number = [topics.setdefault(topic, len(topics)) for topic in said.topics]
            n = len(said)
            if isinstance(said.topic_ix, int):
                topic_ix.extend([number[said.topic_ix]] * n)
            else:
                topic_ix.extend([number[ix] for ix in said.topic_ix])
            source_ix.extend([sources.setdefault(source, len(sources))] * n)
            if said.extras:
                extras.update({len(keys) + row: extra for row, extra in said.extras.items()})
            if has_versions:
                for row, version in _differing(versions, said).items():
                    extras[len(keys) + row] = {"version": version, **extras.get(len(keys) + row, {})}
            keys.extend(said.keys)
            data.extend(said.data)
            if said.causes is not None and said.roots is not None:
                causes.extend(said.causes)
                roots.extend(said.roots)
        assert not causes or len(causes) == len(keys), "what is published was mixed with what is answered"
        return Rows(
            self.log_id, self.shard, first, 0,
            list(topics), topic_ix if len(topics) > 1 else 0, keys, data,
            list(sources), source_ix if len(sources) > 1 else 0,
            causes or None, roots or None, extras or None, versions=versions or None,
        )  # fmt: skip


def _differing(versions: dict[str, int], said: Said) -> dict[int, int]:
    """Row -> version of what was said in another version than its topic was before: then a band changes over to another score.

    The versions of other topics are noted.
    """
    given = said.versions or {}
    own = [given.get(topic, 1) for topic in said.topics]
    differ = {ix for ix, topic in enumerate(said.topics) if versions.setdefault(topic, own[ix]) != own[ix]}
    if not differ:
        return {}
    column = [said.topic_ix] * len(said) if isinstance(said.topic_ix, int) else said.topic_ix
    return {row: own[ix] for row, ix in enumerate(column) if ix in differ}


def _expired(section: SectionState, now_us: int) -> list[str]:
    """The keys whose state is due to go."""
    due = takewhile(lambda item: item[1] <= now_us, section.expires.items())
    return [key for key, _ in islice(due, EXPIRED_MOST)]


def _mixed(heard: Sequence[int], attempts: Mapping[int, Any]) -> list[int]:
    """The offsets that were heard, in the order in which they were, if that is not: what was tried before, then the rest."""
    found = list(heard)
    return [] if found == sorted(found, key=lambda offset: (offset not in attempts, offset)) else found


def _moved(advance: Advance) -> list[Any]:
    return [advance.position, advance.passed, list(advance.opened), list(advance.closed)]


def _said(timer: Timer) -> Said:
    extras = {0: timer.extras} if timer.extras else None
    return Said([timer.topic], 0, [timer.key], [timer.data], [timer.cause], [timer.root], extras)
