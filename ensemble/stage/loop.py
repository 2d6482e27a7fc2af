"""The loop: one thread that owns the broker of a shard, on every stage.

Everything else speaks to the shard through the inbox (`front`), and hears back when what it asked for is durable. In each
turn the loop takes in what came, lets players hear what is durable, and commits. With a manual clock there is no thread at all:
`settle` and the clock drive the same turns in the caller's thread, so that a run can be repeated byte by byte.

Invariant: nothing leaves the loop (a batch to a player, a receipt, an answer) that a crash could still lose.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ensemble.broker.broker import Broker
from ensemble.broker.failure import DEAD
from ensemble.broker.needs import claims
from ensemble.broker.outbox import Parcel
from ensemble.broker.state import Patterns, State, fits
from ensemble.broker.words import Opening, Outcome, Publication, Said
from ensemble.errors import EnsembleError
from ensemble.event import Frame, encode
from ensemble.listening import listener, motives, offset_at
from ensemble.log.base import EventLog, Snapshot
from ensemble.log.retention import Rules
from ensemble.score.lifts import Lifts
from ensemble.stage.base import Clock, Crew, HandClock, Shard
from ensemble.stage.commit import Commit, Group
from ensemble.stage.deaths import Deaths
from ensemble.stage.front import Front, FrontView
from ensemble.stage.inbox import (
    Accept,
    Announce,
    Ask,
    Forget,
    Inbox,
    Item,
    Publish,
    Remove,
    Reply,
    Request,
    Rescore,
    Role,
    Roll,
    Settle,
    Wake,
)
from ensemble.stage.keeper import Keeper
from ensemble.stage.post import Arrived, Carry, Post
from ensemble.stage.pump import Pump
from ensemble.stage.seat import Seat
from ensemble.stage.sources import Source
from ensemble.stage.tape import Tape
from ensemble.stage.workers import Workers

if TYPE_CHECKING:
    from ensemble.stage.anchoring import Anchoring

FRAME_MOST = 4096
"""Events published by several at a time that are put into one frame."""
FORWARD_BYTES = 1 << 20
"""How much data of events that another shard is to hear goes there in one frame, but for the last of them."""
BEHIND_MOST = 100_000
"""How far the sections may trail before the sources wait for them, in events."""
SNAPSHOT_BYTES = 64 << 20
"""How much log is written between snapshots, at the least; four times the last snapshot if that is more."""
SNAPSHOT_GROUPS = 10_000
"""So many groups are enough, where a commit lingers: there each is an object, to be got one by one after a crash."""
LEAVING_S = 30.0
"""How long `close` waits for what is in flight."""

log = logging.getLogger("ensemble.stage")


class Loop(Front):
    """One shard, played. `clock` is one moved by hand, or None for the machine's. In one process it is the stage itself."""

    def __init__(
        self,
        broker: Broker,
        event_log: EventLog,
        roles: Mapping[str, Role],
        sources: Sequence[Source],
        crew: Crew,
        clock: HandClock | None = None,
        carry: Carry | None = None,
        lifts: Lifts | None = None,
        linger_us: int = 0,
        rules: Rules | None = None,
    ) -> None:
        self.broker = broker
        self.log = event_log
        self.notes = event_log.notes
        self.view = FrontView(self)
        self.shards = (Shard(event_log, self.view),)
        self.seats: dict[str, Seat] = {}
        self.anchoring: Anchoring | None = None
        """Keeps the heads of the log outside; None: nobody asked for that."""
        self._roles = roles
        self._hand = clock
        self._clock = clock or Clock()
        self._inbox = Inbox(broker.name)
        end, put = broker.state.end, self._inbox.put
        self._commit = Commit(event_log, end, put, is_inline=clock is not None, linger_us=linger_us)
        self._tape = Tape(event_log, lifts)
        self._lifts = lifts
        self._lend(lifts)
        self._crew = crew
        self._pumps = {source.name: Pump(source, self._say_of, self.now_us, self._wake) for source in sources}
        self._deaths = Deaths(broker.name)
        self._post = Post(carry or _nowhere, self._inbox.put)
        self._keeper: Keeper | None = None
        if rules is not None and rules.is_any and event_log.packing() is not None:
            self._keeper = Keeper(event_log, rules, self._say_removed, is_inline=clock is not None)
        self._requests: deque[Request] = deque()
        self._outcomes: deque[Outcome] = deque()
        self._settlers: list[Reply] = []
        self._rescores: deque[Rescore] = deque()
        self._forgets: deque[Forget] = deque()
        self._wake_s: float | None = None
        self._failed: BaseException | None = None
        self._is_closing = False
        self._is_closed = self._is_left = False
        self._playing_in: int | None = None
        """By hand: the thread that is in a turn."""
        self._snapshot_at = self._snapshot_size = self._groups = 0
        self._thread: threading.Thread | None = None
        self._turning = threading.RLock()
        self._refusing = threading.Lock()
        self._grown = threading.Condition()

    # Beginning and ending

    def open(self, opening: Opening) -> None:
        """Build the instances and begin to play. PlayerError if a player can't be built."""
        workers: dict[str, Workers] = {}
        try:
            for name, role in self._roles.items():
                workers[name] = self._crew.hire(role, self._inbox.put, self._outcomes.append)
            frame = self.broker.open(opening, self.now_us(), self._said_since, self._rows)
            if frame is not None:
                self.seal(frame)
            self._flush_here()
            if self._failed is not None:
                raise self._failed
        except BaseException:
            self._release(workers.values())
            raise
        for name in self.broker.sections:
            self._seat(name, self._roles[name], workers[name])
        self._post.begin(self.broker.state.outbox)
        self._keep()
        if self._hand is not None:
            self._hand.join(self._due_us, self._play_due)
            return
        self._thread = threading.Thread(target=self._run, name="ensemble-loop", daemon=True)
        self._thread.start()
        for pump in self._pumps.values():
            pump.start()

    def _lend(self, lifts: Lifts | None) -> None:
        """Let the motifs lift, too."""
        listening, is_on = self.broker.listening, lifts is not None and lifts.is_on
        listening.lift = lifts.data if lifts is not None and is_on else None
        listening.lift_rows = lifts.rows if lifts is not None and is_on else None

    def _rows(self, offset: int) -> Iterator[Frame]:
        """The log from an offset on, its events lifted."""
        frames = self.log.rows(offset)
        return frames if self._lifts is None else map(self._lifts.frame, frames)

    def _said_since(self, patterns: Patterns, offset: int) -> int:
        """How many events the log holds under these patterns from an offset on."""
        count = 0
        for frame in self.log.rows(offset):
            rows, skip = frame.rows, max(0, offset - frame.first)
            assert rows is not None
            count += sum(fits(patterns, rows.filed(ix)) for ix in range(skip, len(rows)))
        return count

    def close(self) -> None:
        """Finish what is in flight, make it durable, and leave the rest for the next opening."""
        if self._is_closed:
            return
        self._is_closing = True
        for pump in self._pumps.values():
            pump.stop()
        if self._hand is not None:
            self._hand.leave(self._play_due)
            with self._turning:
                self._end()
        elif self._thread is not None:
            self._wake()
            self._thread.join()
        self._release([seat.workers for seat in self.seats.values()])
        self._is_left = True

    def _release(self, workers: Any) -> None:
        self._is_closed = True
        for pump in self._pumps.values():
            pump.close()
        for each in workers:
            each.close()
        self._crew.close()
        self._post.close()
        if self._keeper is not None:
            self._keeper.close()
        self._commit.close()
        if self.anchoring is not None:
            self.anchoring.close()
        self.log.close()
        with self._grown:
            self._grown.notify_all()

    def _end(self) -> None:
        """Move the positions, keep a snapshot, write it all."""
        if self._failed is None:
            try:
                frame = self.broker.rest(self.now_us())
                if frame is not None:
                    self.seal(frame)
                if self._commit.size > 0:
                    self._snapshot()
                self._flush_all()
            except EnsembleError as error:
                self._fail(error)
        self._deaths.sum_up()
        self._refuse_all(self._failed or self._closed())

    def _wake(self) -> None:
        self._inbox.put(Wake())

    def _say_of(self, publication: Publication) -> Reply:
        """What a pump calls; under a clock moved by hand, from within a turn."""
        if self._hand is None:
            return self.publish(publication)
        reply = Reply()
        self._publish([Publish(publication, reply)])
        return reply

    # Another score

    def _roll(self) -> None:
        """Let the players that change over do so, the first of them first."""
        while self._rescores:
            rescore = self._rescores[0]
            try:
                if rescore.lifts is not None:
                    self._flush_all()
                    self._tape.lift(rescore.lifts)
                    self._lifts, rescore.lifts = rescore.lifts, None
                    self._lend(self._lifts)
                while rescore.rolls:
                    if not self._roll_one(rescore.rolls[0], rescore.score):
                        return
                    del rescore.rolls[0]
                self._flush_all()
                if self._failed is not None:  # who waits was told
                    return
                frame = self.broker.listen(motives(rescore.heard, self._offset_at), self._rows, self.now_us())
                if frame is not None:
                    self.seal(frame)
                frame = self.broker.record(rescore.score, rescore.plan, self.now_us())
                if frame is not None:
                    self.seal(frame)
                self._commit.tell(partial(rescore.reply.give, None))
            except EnsembleError as error:
                left = rescore.rolls[0].name if rescore.rolls else ""
                if (seat := self.seats.get(left)) is not None:
                    seat.is_leaving = False
                rescore.reply.give(None, error)
            self._rescores.popleft()

    def _roll_one(self, roll: Roll, score: dict[str, Any]) -> bool:
        """Change one player over; False: it still has something in flight."""
        seat = self.seats.get(roll.name)
        if seat is not None:
            seat.is_leaving = True
            if seat.section.flying:
                return False
        besides: dict[str, Any] = {}
        if roll.writes is not None:
            self._flush_all()  # all that was heard is in the log: the table is made of that
            besides = {"wrote": {roll.name: dict(roll.writes())}}
            if score != self.broker.state.score:
                besides["score"] = score
        workers = None if roll.role is None else self._crew.hire(roll.role, self._inbox.put, self._outcomes.append)
        if seat is not None:
            seat.workers.close()
            del self.seats[roll.name]
        if roll.role is None:
            self.broker.unseat(roll.name)
            return True
        assert workers is not None
        spec = roll.role.spec
        self._flush_all()
        begin = self._offset_at(spec.from_us)
        frame = self.broker.seat(
            roll.name,
            listener(spec, self.broker.shards),
            roll.policy,
            self._said_since,
            overlapping=workers.overlaps,
            from_now=begin is None,
            begin=begin or 0,
            now_us=self.now_us(),
            besides=besides,
        )
        if frame is not None:
            self.seal(frame)
        self._seat(roll.name, roll.role, workers)
        return True

    def _offset_at(self, from_us: int) -> int | None:
        """The offset at which a time begins in the log; None: at its end. All must be durable."""
        return offset_at(self.log, from_us)

    def _seat(self, name: str, role: Role, workers: Workers) -> None:
        section, load = self.broker.sections[name], partial(self.broker.load, name)
        self.seats[name] = Seat(section, role, workers, self._tape, load, self._table, is_paced=self._hand is None)

    def _table(self, name: str) -> Mapping[str, bytes]:
        """What a player remembers, who may not have played yet."""
        section = self.broker.state.sections.get(name)
        return {} if section is None else section.table

    # People who are to be forgotten

    def _forget(self) -> None:
        """Forget whom was asked for, once nothing is in flight or on its way: what came of it would be said under a new key."""
        if not self._forgets or self._is_flying() or self._has_sent():
            return
        from ensemble.log.forgetting import forgetting_of

        self._flush_all()
        if self._has_sent():  # what was made durable just now
            return
        while self._forgets and self._failed is None:
            request = self._forgets[0]  # it stays until it is answered: what waits is refused when the loop stops
            log = forgetting_of(self.log)
            assert log is not None
            try:
                count, state = log.forget_in(self.broker.dump(), request.subject)
                self.broker.recall(State.load(state))
                self._tape.forget()
                request.reply.give(count)
            except EnsembleError as error:
                request.reply.give(None, error)
            self._forgets.popleft()

    def _has_sent(self) -> bool:
        """Whether something is on its way to another shard."""
        return not self._post.is_empty

    # The loop

    def _run(self) -> None:
        try:
            leaving_s = 0.0
            while self._failed is None:
                self._turn()
                if self._is_closing:
                    leaving_s = leaving_s or time.monotonic() + LEAVING_S
                    if not self._is_flying() or time.monotonic() > leaving_s:
                        break
            self._end()
        except EnsembleError as error:  # its sentence says all; where in our code it was met says nothing to its reader
            log.error("the loop of band %s stopped: %s", self.broker.name, error)
            self._fail(error)
        except BaseException as error:
            log.exception("the loop of band %s stopped", self.broker.name)
            self._fail(error)

    def _turn(self) -> None:
        self._take_in()
        self._roll()
        self._forget()
        if not self._is_closing and not self._is_full() and not self._forgets:
            now_us = self.now_us()
            self._say_what_is_due(now_us)
            self._catch_up(now_us)
            for seat in self.seats.values():
                seat.look(self._commit.durable_end)
                self._forward(seat, now_us)
                self._play(seat, now_us)
        self._keep_going()
        if self._settlers and self._is_quiet():
            for reply in self._settlers:
                reply.give(None)
            self._settlers.clear()

    def _is_full(self) -> bool:
        """Whether nothing more is to be played until some of what came of it is written, and has arrived."""
        return self._commit.is_full or self._post.is_full

    def _take_in(self) -> None:
        """Wait for something to do, and take it."""
        item = self._inbox.get(0 if self._hand is not None else self._pause_s())
        while item is not None:
            self._take(item)
            item = self._inbox.get(0)
        if self._requests and not self._commit.is_full:
            self._take_requests()

    def _take(self, item: Item) -> None:
        if isinstance(item, Outcome):
            self._hear(item)
        elif isinstance(item, Group):
            self._committed(item)
        elif isinstance(item, Announce):
            self._announce(item)
        elif isinstance(item, Arrived):
            self._post.told(item)
            self.broker.arrived(item.shard, item.first)
        elif isinstance(item, BaseException):
            self._fail(item)
        else:
            self._requests.append(item)

    def _take_requests(self) -> None:
        """In the order in which they came; publications that follow each other become one frame."""
        together: list[Publish] = []
        count = 0
        while self._requests:
            request = self._requests.popleft()
            if isinstance(request, Publish):
                together.append(request)
                count += len(request.publication.said)
                if count < FRAME_MOST:
                    continue
            if together:
                self._publish(together)
                together, count = [], 0
            if isinstance(request, Ask):
                self._answer(request)
            elif isinstance(request, Accept):
                self._accept(request)
            elif isinstance(request, Remove):
                self.seal(self.broker.removed([request.statement], self.now_us()))
                self._commit.tell(partial(request.reply.give, None))
            elif isinstance(request, Settle):
                self._settlers.append(request.reply)
            elif isinstance(request, Rescore):
                self._rescores.append(request)
            elif isinstance(request, Forget):
                self._forgets.append(request)
        if together:
            self._publish(together)

    def _pause_s(self) -> float:
        """How long nothing can happen but through the inbox; 0: there is work."""
        if self._is_full():
            return 1.0
        pauses = [60.0]
        if not self._commit.is_clean and not self._commit.is_writing:
            pauses.append(self._commit.rest_s())
            if not pauses[-1]:
                return 0
        if self._forgets:  # nothing is handed out before
            return 1.0 if self._is_flying() or self._has_sent() else 0
        if self._is_closing:
            return 0.1
        durable_end = self._commit.durable_end
        if self.broker.listening.is_behind:
            return 0
        if any(seat.can_look(durable_end) or seat.section.away or seat.can_play() for seat in self.seats.values()):
            return 0
        now_s = time.monotonic()
        pauses += [seat.wake_s - now_s for seat in self.seats.values() if seat.wake_s is not None]
        if self._wake_s is not None:
            pauses.append(self._wake_s - now_s)
        due_us = self.broker.due_us()
        if due_us is not None:
            pauses.append((due_us - self.now_us()) / 1e6)
        return max(0.0, min(pauses))

    def _publish(self, requests: Sequence[Publish]) -> None:
        try:
            frame, offsets = self.broker.publish([request.publication for request in requests], self.now_us())
            if frame is not None:
                self.seal(frame)
        except BaseException as error:  # what was decided and can't be written ends the band: its state is ahead of its log
            self._requests.extendleft(reversed(requests))
            self._fail(error)
            raise

        def told(error: BaseException | None) -> None:
            self._inbox.leave(sum(len(request.publication.said) for request in requests))
            for request, where in zip(requests, offsets, strict=True):
                if request.reply is not None:
                    request.reply.give(where, error)

        self._commit.tell(told)

    def _accept(self, request: Accept) -> None:
        try:
            frames, first = self.broker.accept(request.shard, request.first, request.parcels, self.now_us())
        except EnsembleError as error:
            request.reply.give(None, error)
            return
        for frame in frames:
            self.seal(frame)
        self._commit.tell(lambda error: request.reply.give(first, error))

    def _announce(self, news: Announce) -> None:
        """Have the band itself say something."""
        said = Said([news.topic], 0, [news.key], [encode(news.data)])
        frame, _ = self.broker.publish([Publication(said, self.broker.source())], self.now_us())
        if frame is not None:
            self.seal(frame)

    def _answer(self, request: Ask) -> None:
        try:
            answer = request.question()
        except Exception as error:
            request.reply.give(None, error)
            return
        self._commit.tell(lambda error: request.reply.give(answer, error))

    # Playing

    def _say_what_is_due(self, now_us: int) -> None:
        frame = self.broker.fire(now_us)
        if frame is not None:
            self.seal(frame)
        for seat in self.seats.values():
            seat.section.wake(now_us)

    def _catch_up(self, now_us: int) -> None:
        """Let a motif that is new hear what was said before."""
        offset = self.broker.listening.behind()
        if offset is not None:
            frame = self.broker.catch_up(self._frames_from(offset), now_us)
            if frame is not None:
                self.seal(frame)

    def _frames_from(self, offset: int) -> Iterator[Frame]:
        while True:
            frame = self._tape.at(offset)
            yield frame
            offset = frame.end

    def _forward(self, seat: Seat, now_us: int) -> None:
        """Send what this section of another shard has to hear to it."""
        away = seat.section.away
        while away and not self._is_full():
            chosen: list[tuple[int, str]] = []
            size = 0
            while away and len(chosen) < FRAME_MOST and size < FORWARD_BYTES:
                chosen.append(away.popleft())
                size += len(self._tape.event(chosen[-1][0]).payload)
            events, _, _ = self._tape.events([offset for offset, _ in chosen])
            state = seat.section.state
            letters = {o: self._tape.event(state.dead[o]) for o, _ in chosen if o in state.held} if state.held else {}
            self.seal(self.broker.forward(seat.section.name, events, [lane for _, lane in chosen], now_us, letters))

    def _play(self, seat: Seat, now_us: int) -> None:
        """Hand out batches, as many as there is room for; an inline section hears one a turn."""
        while seat.can_play() and seat.play(now_us):
            if self._outcomes:
                while self._outcomes:
                    self._hear(self._outcomes.popleft())
                return

    def _hear(self, outcome: Outcome) -> None:
        now_us = self.now_us()
        self.seats[outcome.section].came_back(outcome)
        frame = self.broker.hear(outcome, now_us)
        if frame is not None:
            self.seal(frame)
            if "dead" in frame.marks:
                self._commit.tell(lambda error: self._deaths.tell(frame) if error is None else None)
            if outcome.failures:
                self._log_unheard_deaths(outcome, frame)

    def _log_unheard_deaths(self, outcome: Outcome, frame: Frame) -> None:
        """A dead letter that a player could not hear makes no other: it is told here."""
        ended = {offset for offset, _, due_us, _ in frame.marks["failed"][outcome.section] if due_us < 0}
        for failure in outcome.failures:
            if failure.topic == DEAD and failure.offset in ended:
                told = (outcome.section, failure.offset, failure.error)
                log.error("player %s can't hear the dead letter at offset %s: %s", *told)

    def _keep_going(self) -> None:
        """Tend the instances and the sources, and commit."""
        if self._hand is None:
            now_s = time.monotonic()
            moments = [seat.workers.tend(now_s, seat.load) for seat in self.seats.values()]
            self._wake_s = min((moment for moment in moments if moment is not None), default=None)
            if self._pumps:
                end = self.broker.state.end
                slowest = min((seat.section.next for seat in self.seats.values()), default=end)
                for pump in self._pumps.values():
                    pump.let(end - slowest < BEHIND_MOST)
        grown = self._commit.size - self._snapshot_at
        is_in_pieces = self._commit.lingers and self._groups > SNAPSHOT_GROUPS and grown > self._snapshot_size
        if is_in_pieces or grown > max(SNAPSHOT_BYTES, 4 * self._snapshot_size):
            frame = self.broker.rest(self.now_us())
            if frame is not None:
                self.seal(frame)
            self._snapshot()
        if not self._commit.is_clean and not self._commit.rest_s():
            self._flush(here=not self._commit.lingers and self._is_idle())

    # Committing

    def seal(self, frame: Frame) -> None:
        """Have a frame of the broker's written. In the loop only."""
        size = self._commit.seal(frame)
        if frame.rows is not None:
            self._tape.keep(frame, size)
        for shard, parcels in frame.marks.get("out", {}).items():
            self._commit.tell(partial(self._send, shard, self.broker.state.outbox[shard].next - len(parcels), parcels))

    def _send(self, shard: int, first: int, parcels: Sequence[Parcel], error: BaseException | None) -> None:
        """These are durable, and may go."""
        if error is None:
            for number, parcel in enumerate(parcels, first):
                self._post.send(shard, number, parcel)

    def _flush(self, *, here: bool) -> None:
        try:
            group = self._commit.flush(here=here)
        except EnsembleError as error:
            self._fail(error)
            return
        if group is not None:
            self._committed(group)

    def _flush_here(self) -> None:
        while not self._commit.is_clean and self._failed is None:
            self._flush(here=True)

    def _flush_all(self) -> None:
        """Flush, with a group on the writer's thread perhaps. What else comes meanwhile waits."""
        aside: list[Item] = []
        while not self._commit.is_clean and self._failed is None:
            if self._commit.is_writing:
                item = self._inbox.get(1.0)
                if isinstance(item, (Group, BaseException)):
                    self._take(item)
                elif item is not None:
                    aside.append(item)
            else:
                self._flush(here=True)
        for item in aside:
            self._inbox.put(item)

    def _committed(self, group: Group) -> None:
        self._commit.done(group)
        self._groups += 1
        if group.snapshot is not None and not self._is_closing:
            self._keep()
        with self._grown:
            self._grown.notify_all()

    def _is_idle(self) -> bool:
        """Whether the loop would only wait for the writer."""
        durable_end = self._commit.durable_end
        return self._inbox.empty() and not any(seat.can_look(durable_end) or seat.can_play() for seat in self.seats.values())

    def _snapshot(self) -> None:
        state = self.broker.dump()
        self._snapshot_at, self._snapshot_size, self._groups = self._commit.size, len(state), 0
        self._commit.save(Snapshot(self._commit.sealed_to(), state))

    # Retention

    def _keep(self) -> None:
        """Have the log made smaller, as far as the score asks for it. All that is said so far is durable, or comes later."""
        if self._keeper is not None:
            known = claims(self.broker.state, self.broker.sections, self.broker.listening.names)
            self._keeper.look(known, self.now_us())

    def _say_removed(self, statement: list[Any]) -> None:
        """Called by the keeper: on its thread, or by hand in a turn."""
        if self._hand is not None:
            self.seal(self.broker.removed([statement], self.now_us()))
            self._flush_here()
            if self._failed is not None:
                raise self._failed
            return
        self._check_open()
        reply = Reply()
        self._inbox.put(Remove(statement, reply))
        self._refuse_late()
        reply.wait()

    def _fail(self, error: BaseException) -> None:
        """The log takes no more, or a section can't play: stop, and say so to all that wait."""
        if self._failed is None:
            self._failed = error
            self._commit.fail(error)
            self._refuse_all(error)

    def _refuse_all(self, error: BaseException) -> None:
        """Answer all that wait with an error. The loop does it when it ends; who comes later does it for himself."""
        with self._refusing:
            while (item := self._inbox.get(0)) is not None:
                if isinstance(item, (Publish, Accept, Ask, Remove, Settle, Rescore, Forget)):
                    self._requests.append(item)
            self._requests.extend([*self._rescores, *self._forgets])
            self._rescores.clear()
            self._forgets.clear()
            while self._requests:
                request = self._requests.popleft()
                if isinstance(request, Publish):
                    self._inbox.leave(len(request.publication.said))
                if not isinstance(request, Wake) and request.reply is not None:
                    request.reply.give(None, error)
            while self._settlers:
                self._settlers.pop().give(None, error)

    # Settling

    def _is_flying(self) -> bool:
        return any(seat.section.flying for seat in self.seats.values())

    def _is_quiet(self) -> bool:
        """Whether nothing is left to react to."""
        if not self._inbox.empty() or self._requests or self._rescores or self._forgets:
            return False
        if not self._commit.is_clean or not self._post.is_empty:
            return False
        if not all(pump.is_dry or pump.source.is_endless for pump in self._pumps.values()):
            return False
        if self.broker.listening.is_behind:
            return False
        end = self.broker.state.end
        sections = [seat.section for seat in self.seats.values()]
        return not any(s.reopened or s.away or s.next < end or s.flying or s.has_work or s.waiting for s in sections)

    # A clock moved by hand

    def _due_us(self) -> int | None:
        if self._failed is not None:
            return None
        moments = [self.broker.due_us()]
        moments += [pump.due_us() for pump in self._pumps.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    def _play_due(self) -> None:
        """Play all that is due by the clock."""
        with self._turning:
            self._playing_in = threading.get_ident()
            try:
                while self._failed is None:
                    before = self.broker.state.frames
                    has_spoken = [pump.step() for pump in self._pumps.values()]
                    self._turn()
                    if not any(has_spoken) and self.broker.state.frames == before and self._is_idle():
                        break
            finally:
                self._playing_in = None


def _nowhere(shard: int, first: int, parcels: Sequence[Parcel]) -> int:
    raise AssertionError("a band of one shard has no other to send to")
