"""Solo: one process plays the score.

One thread, the loop, owns the broker; everything else speaks to it through its inbox and hears back when what it asked for is
durable. In each turn the loop takes in what came, lets players hear what is durable, and commits. With a manual clock there
is no thread at all: `settle` and the clock drive the same turns in the caller's thread, so that a run can be repeated byte by
byte.

Invariant: nothing leaves the loop (a batch to a player, a receipt, an answer) that a crash could still lose.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ensemble.broker.broker import Broker, Outcome, Publication
from ensemble.broker.section import Section
from ensemble.errors import EnsembleError, Overloaded, Unavailable
from ensemble.event import Frame
from ensemble.log.base import EventLog, Snapshot
from ensemble.player import Player, Work
from ensemble.stage.commit import Commit, Group
from ensemble.stage.sources import Source
from ensemble.stage.tape import Tape
from ensemble.stage.workers import Inline, InlineTasks, Pace, Tasks, Threads, Workers

WINDOW = 4096
"""How many events of a section are taken off the log ahead of being heard, at the least."""
INBOX_MOST = 20_000
"""Events that may wait in the inbox; a publisher of more waits, or is told Overloaded."""
FRAME_MOST = 4096
"""Events published by several at a time that are put into one frame."""
LOOKS_MOST = 256
"""Frames that a section looks through in one turn."""
BEHIND_MOST = 100_000
"""How far the sections may trail before the sources wait for them, in events."""
SNAPSHOT_BYTES = 64 << 20
"""How much log is written between snapshots, at the least; four times the last snapshot if that is more."""
LEAVING_S = 30.0
"""How long `close` waits for what is in flight."""

T = TypeVar("T")
log = logging.getLogger("ensemble.stage")


class Reply:
    """What somebody outside the loop waits for."""

    __slots__ = ("_error", "_lock", "_value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._value: Any = None
        self._error: BaseException | None = None

    def give(self, value: Any, error: BaseException | None = None) -> None:
        self._value, self._error = value, error
        self._lock.release()

    def wait(self, timeout: float | None = None) -> Any:
        """The answer. TimeoutError if it does not come in time; or what went wrong."""
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise TimeoutError
        self._lock.release()
        if self._error is not None:
            raise self._error
        return self._value


class Clock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000


class Turn:
    """What waits in the inbox beside outcomes and groups."""

    __slots__ = ("ask", "publication", "reply")

    def __init__(
        self, reply: Reply | None, publication: Publication | None = None, ask: Callable[[], Any] | None = None
    ) -> None:
        self.reply = reply
        self.publication = publication
        self.ask = ask


class Solo:
    """A stage of one process. `clock`: a ManualClock, or None for the machine's."""

    def __init__(
        self,
        broker: Broker,
        event_log: EventLog,
        players: Mapping[str, Player],
        sources: Sequence[Source],
        clock: Any = None,
    ) -> None:
        self.broker = broker
        self.log = event_log
        self.sources = {source.name: source for source in sources}
        self.is_manual = clock is not None
        self._clock = clock or Clock()
        self._players = players
        self._tape = Tape(event_log)
        self._inbox: SimpleQueue[Turn | Outcome | Group | BaseException] = SimpleQueue()
        self._commit = Commit(event_log, broker.state.end, self._inbox.put, is_inline=self.is_manual)
        self._outcomes: deque[Outcome] = deque()
        self._waiting: deque[Turn] = deque()
        self._settlers: list[Reply] = []
        self._troubles: list[BaseException] = []
        self._failed: BaseException | None = None
        self._is_closing = False
        self._ended = threading.Event()
        self._room = threading.Event()
        self._room.set()
        self._load = 0
        self._load_changed = threading.Condition()
        self._grown = threading.Condition()
        self._followers = 0
        self._snapshot_at = 0
        self._snapshot_size = 0
        self._lock = threading.RLock()
        self._dry: set[str] = set()
        self._linger: dict[str, float] = {}
        self._pumps: list[threading.Thread] = []
        self._wake_s: float | None = None
        self._async = AsyncThread()
        self._thread: threading.Thread | None = None
        self.workers: dict[str, Workers] = {}
        self._paces: dict[str, Pace] = {}

    # Beginning and ending

    def open(self, score: dict[str, Any] | None, from_now: Sequence[str]) -> None:
        """Build the instances and begin to play. PlayerError if a player can't be built."""
        try:
            for name, player in self._players.items():
                self.workers[name] = self._workers(player)
                self._paces[name] = Pace(most=max(1, player.spec.section.batch))
                if self.is_manual or player.shape.is_async:
                    self._paces[name].limit = self._paces[name].most
            frame = self.broker.open(score, from_now, self._clock.now_us())
            if frame is not None:
                self._seal(frame)
            while (group := self._commit.flush(here=True)) is not None:
                self._committed(group)
        except BaseException:
            self._release()
            raise
        if self.is_manual:
            self._clock.join(self._due_us, self._play_due)
            return
        self._thread = threading.Thread(target=self._run, name="ensemble-loop", daemon=True)
        self._thread.start()
        for source in self.sources.values():
            pump = threading.Thread(target=self._pump, args=(source,), name=f"ensemble-{source.name}", daemon=True)
            self._pumps.append(pump)
            pump.start()

    def _workers(self, player: Player) -> Workers:
        if player.shape.is_async:
            kind = InlineTasks if self.is_manual else Tasks
            return kind(player, self._come_back, self._async.loop())
        if not self.is_manual and (player.spec.section.max > 1 or player.spec.timeout_us is not None):
            return Threads(player, self._inbox.put, self._inbox.put)
        return Inline(player, self._outcomes.append)

    def _come_back(self, outcome: Outcome) -> None:
        if self.is_manual:
            self._outcomes.append(outcome)
        else:
            self._inbox.put(outcome)

    def close(self) -> None:
        """Finish what is in flight, make it durable, and leave the rest for the next opening."""
        if self._ended.is_set():
            return
        self._is_closing = True
        self._room.set()
        for source in self.sources.values():
            if self.is_manual:
                source.close()
        if self.is_manual:
            self._clock.leave(self._play_due)
            with self._lock:
                self._end()
        else:
            self._inbox.put(Turn(None))
            assert self._thread is not None
            self._thread.join()
        self._release()

    def _release(self) -> None:
        for workers in self.workers.values():
            workers.close()
        self._async.close()
        self._commit.close()
        self.log.close()
        self._ended.set()

    def _end(self) -> None:
        """Move the positions, keep a snapshot, write it all."""
        if self._failed is None:
            try:
                frame = self.broker.rest(self._clock.now_us())
                if frame is not None:
                    self._seal(frame)
                if self._commit.size > 0:
                    self._snapshot()
                self._flush_all()
            except EnsembleError as error:
                self._fail(error)
        closed = Unavailable(f"band {self.broker.name} is closed; open it again")
        self._answer_all(self._failed or closed)

    def _flush_all(self) -> None:
        while not self._commit.is_clean:
            if self._commit.is_writing:
                item = self._inbox.get()
                if isinstance(item, Group):
                    self._committed(item)
                elif isinstance(item, BaseException):
                    raise item
                elif isinstance(item, Turn):
                    self._waiting.append(item)
            else:
                group = self._commit.flush(here=True)
                if group is not None:
                    self._committed(group)

    def _answer_all(self, error: BaseException) -> None:
        while True:
            try:
                item = self._inbox.get_nowait()
            except Empty:
                break
            if isinstance(item, Turn):
                self._waiting.append(item)
        for turn in self._waiting:
            if turn.reply is not None:
                turn.reply.give(None, error)
        self._waiting.clear()
        for reply in self._settlers:
            reply.give(None, error)
        self._settlers.clear()
        with self._load_changed:
            self._load = 0
            self._load_changed.notify_all()

    # What is asked from outside

    def publish(self, publication: Publication, *, wait: bool = True) -> Reply:
        """Have these events said. The reply brings their offsets, once they are durable.

        Errors: Overloaded if the inbox is full and `wait` is False; Unavailable if the band is closed or its log failed.
        """
        self._check_open()
        if threading.current_thread() is self._thread:
            raise EnsembleError("a player can't publish while it hears an event; let it answer with emit(topic, ...)")
        count = len(publication.said)
        reply = Reply()
        if self.is_manual:
            with self._lock:
                self._publish([Turn(reply, publication)])
                self._flush_here()
            return reply
        with self._load_changed:
            while self._load and self._load + count > INBOX_MOST:
                if not wait:
                    raise Overloaded(
                        f"{self._load} events wait in the inbox of band {self.broker.name}, which takes {INBOX_MOST}; "
                        "publish slower, or wait=True"
                    )
                self._load_changed.wait(1)
                self._check_open()
            self._load += count
        self._inbox.put(Turn(reply, publication))
        return reply

    def ask(self, question: Callable[[], T]) -> T:
        """What `question` answers in the loop, once all that it could have seen is durable."""
        if threading.current_thread() is self._thread:
            return question()
        self._check_open()
        reply = Reply()
        if self.is_manual:
            with self._lock:
                self._ask(Turn(reply, ask=question))
                self._flush_here()
        else:
            self._inbox.put(Turn(reply, ask=question))
        value: T = reply.wait()
        return value

    def settle(self, timeout: float | None = None) -> None:
        """Wait until nothing is left to react to. TimeoutError; or what made that impossible.

        Under a manual clock: play all that is due now.
        """
        self._check_open()
        if self.is_manual:
            with self._lock:
                self._play_due()
                if self._troubles:
                    raise self._troubles.pop(0)
                if self._failed is not None:
                    raise self._failed
            return
        reply = Reply()
        self._inbox.put(Turn(reply))
        reply.wait(timeout)

    def _check_open(self) -> None:
        if self._failed is not None:
            raise self._failed
        if self._is_closing:
            raise Unavailable(f"band {self.broker.name} is closed; open it again")

    # The loop

    def _run(self) -> None:
        leaving: float | None = None
        try:
            while True:
                self._turn()
                if self._is_closing:
                    leaving = leaving or time.monotonic() + LEAVING_S
                    if not self._is_flying() or time.monotonic() > leaving:
                        break
                if self._failed is not None:
                    break
        except BaseException as error:
            log.exception("the loop of band %s stopped", self.broker.name)
            self._fail(error)
        if self._is_closing or self._failed is None:
            self._end()
        else:
            self._answer_all(self._failed)

    def _turn(self) -> None:
        self._take_in()
        now_us = self._clock.now_us()
        if not self._is_closing and not self._commit.is_full:
            self._say_what_is_due(now_us)
            for name, section in self.broker.sections.items():
                self._feed(section)
                self._play(name, section, now_us)
        self._commit_turn()
        if self._settlers and self._is_quiet():
            self._settle()

    def _take_in(self) -> None:
        """Wait for something to do, and take it."""
        turns: list[Turn] = []
        wait_s = 0 if self.is_manual else self._wait_s()
        try:
            item = self._inbox.get(timeout=wait_s) if wait_s else self._inbox.get_nowait()
            while True:
                if isinstance(item, Outcome):
                    self._hear(item)
                elif isinstance(item, Group):
                    self._committed(item)
                elif isinstance(item, Turn):
                    turns.append(item)
                else:
                    self._fail(item)
                item = self._inbox.get_nowait()
        except Empty:
            pass
        if turns:
            self._waiting.extend(turns)
        if self._waiting and not self._commit.is_full:
            self._take_turns()

    def _take_turns(self) -> None:
        publications: list[Turn] = []
        count = 0
        while self._waiting:
            turn = self._waiting.popleft()
            if turn.publication is not None:
                publications.append(turn)
                count += len(turn.publication.said)
                if count < FRAME_MOST:
                    continue
            if publications:
                self._publish(publications)
                publications, count = [], 0
            if turn.ask is not None:
                self._ask(turn)
            elif turn.publication is None and turn.reply is not None:
                self._settlers.append(turn.reply)
        if publications:
            self._publish(publications)

    def _wait_s(self) -> float:
        """How long nothing can happen but through the inbox, in seconds; 0: there is work."""
        if self._commit.is_full:
            return 1.0
        if not self._commit.is_clean and not self._commit.is_writing:
            return 0
        if not self._is_closing:
            for name, section in self.broker.sections.items():
                if self._can_feed(section) or (section.has_work and self._may_play(name, section)):
                    return 0
        moments: list[float] = [60.0]
        due_us = self.broker.due_us()
        if due_us is not None:
            moments.append((due_us - self._clock.now_us()) / 1e6)
        if self._wake_s is not None:
            moments.append(self._wake_s - time.monotonic())
        if self._is_closing:
            moments.append(0.1)
        return max(0.0, min(moments))

    def _publish(self, turns: Sequence[Turn]) -> None:
        publications = [turn.publication for turn in turns if turn.publication is not None]
        frame, offsets = self.broker.publish(publications, self._clock.now_us())
        if frame is not None:
            self._seal(frame)

        def told(error: BaseException | None) -> None:
            for turn, where in zip(turns, offsets, strict=True):
                if turn.reply is not None:
                    turn.reply.give(where, error)
            if not self.is_manual:
                with self._load_changed:
                    self._load = max(0, self._load - sum(len(p.said) for p in publications))
                    self._load_changed.notify_all()

        self._commit.tell(told)

    def _ask(self, turn: Turn) -> None:
        assert turn.ask is not None and turn.reply is not None
        reply = turn.reply
        try:
            answer = turn.ask()
        except Exception as error:
            reply.give(None, error)
            return
        self._commit.tell(lambda error: reply.give(answer, error))

    def now_us(self) -> int:
        return int(self._clock.now_us())

    def wait_beyond(self, offset: int, timeout: float) -> bool:
        """Wait until the log is durable beyond an offset. False: it is not, and the band is closed."""
        while self._commit.durable_end <= offset:
            if self._ended.is_set() or self._failed is not None:
                return False
            with self._grown:
                self._followers += 1
                self._grown.wait(timeout)
                self._followers -= 1
        return True

    def seal(self, frame: Frame) -> None:
        """Have a frame of the broker's written. Only from within `ask`."""
        self._seal(frame)

    def _seal(self, frame: Frame) -> None:
        size = self._commit.seal(frame)
        if frame.rows is not None:
            self._tape.keep(frame, size)

    # Playing

    def _say_what_is_due(self, now_us: int) -> None:
        frame = self.broker.fire(now_us)
        if frame is not None:
            self._seal(frame)
        for section in self.broker.sections.values():
            section.wake(now_us)

    def _can_feed(self, section: Section) -> bool:
        if section.ready_count >= WINDOW:
            return False
        return bool(section.reopened) or section.next < self._commit.durable_end

    def _feed(self, section: Section) -> None:
        """Let a section look at what is durable, a window of it."""
        for _ in range(LOOKS_MOST):
            if not self._can_feed(section):
                return
            if section.reopened:
                frame = self._tape.at(section.reopened[0])
                offsets = []
                while section.reopened and section.reopened[0] < frame.end:
                    offsets.append(section.reopened.popleft())
                assert frame.rows is not None
                section.look_again(frame.rows, offsets)
            else:
                frame = self._tape.at(section.next)
                section.look(frame.rows, frame.end)

    def _may_play(self, name: str, section: Section) -> bool:
        return self.workers[name].room() > 0 and not self._lingers(name, section)

    def _lingers(self, name: str, section: Section) -> bool:
        """Whether a section waits a little for more events to hear together."""
        linger_us = self._players[name].spec.section.linger_us
        if not linger_us or self.is_manual or section.ready_count >= self._players[name].spec.section.batch:
            return False
        now_s = time.monotonic()
        until = self._linger.setdefault(name, now_s + linger_us / 1e6)
        if now_s >= until:
            return False
        self._wake_s = until if self._wake_s is None else min(self._wake_s, until)
        return True

    def _play(self, name: str, section: Section, now_us: int) -> None:
        """Hand out batches of one section, as many as it has room for; an inline one hears a single batch a turn."""
        workers, pace = self.workers[name], self._paces[name]
        while section.has_work and self._may_play(name, section):
            limit = min(int(pace.limit), workers.room())
            if isinstance(workers, Threads):
                limit = min(limit, max(1, section.ready_count // max(1, self._players[name].spec.section.max)))
            batch = section.take(limit, now_us)
            if batch is None:
                return
            self._linger.pop(name, None)
            events, roots = self._tape.events(batch.offsets)
            began = time.monotonic()
            workers.start(Work(batch, events, roots, section.state.table))
            if self._outcomes:
                if not self.is_manual:
                    pace.learn(len(batch), time.monotonic() - began)
                while self._outcomes:
                    self._hear(self._outcomes.popleft())
                return

    def _hear(self, outcome: Outcome) -> None:
        now_us = self._clock.now_us()
        if isinstance(self.workers[outcome.section], Threads):
            self._paces[outcome.section].learn(outcome.count, (now_us - outcome.began_us) / 1e6)
        self._seal(self.broker.hear(outcome, now_us))

    def _commit_turn(self) -> None:
        if not self.is_manual:
            self._tend()
        if self._commit.is_clean:
            return
        if self._commit.size - self._snapshot_at > max(SNAPSHOT_BYTES, 4 * self._snapshot_size):
            frame = self.broker.rest(self._clock.now_us())
            if frame is not None:
                self._seal(frame)
            self._snapshot()
        try:
            group = self._commit.flush(here=self._is_idle())
        except EnsembleError as error:
            self._fail(error)
            return
        if group is not None:
            self._committed(group)

    def _committed(self, group: Group) -> None:
        self._commit.done(group)
        if self._followers:
            with self._grown:
                self._grown.notify_all()

    def _is_idle(self) -> bool:
        """Whether the loop would only wait for the writer."""
        if not self._inbox.empty():
            return False
        return not any(
            self._can_feed(section) or (section.has_work and self.workers[name].room())
            for name, section in self.broker.sections.items()
        )

    def _snapshot(self) -> None:
        state = self.broker.state.dump()
        self._snapshot_at, self._snapshot_size = self._commit.size, len(state)
        self._commit.save(Snapshot(self._commit.sealed_to(), state))

    def _tend(self) -> None:
        """Give up what takes too long, and let the sources know whether there is room."""
        now_s = time.monotonic()
        moments = [moment for workers in self.workers.values() if (moment := workers.tend(now_s)) is not None]
        self._wake_s = min(moments, default=None)
        if self._pumps:
            slowest = min((section.next for section in self.broker.sections.values()), default=self.broker.state.end)
            if self.broker.state.end - slowest < BEHIND_MOST:
                self._room.set()
            else:
                self._room.clear()

    # Settling

    def _is_flying(self) -> bool:
        return any(section.flying for section in self.broker.sections.values())

    def _is_quiet(self) -> bool:
        if not self._inbox.empty() or self._waiting or not self._commit.is_clean:
            return False
        if any(not source.is_endless and name not in self._dry for name, source in self.sources.items()):
            return False
        return not any(
            section.reopened or section.next < self.broker.state.end or section.flying or section.has_work or section.waiting
            for section in self.broker.sections.values()
        )

    def _settle(self) -> None:
        error = self._troubles.pop(0) if self._troubles else None
        for reply in self._settlers:
            reply.give(None, error)
        self._settlers.clear()

    def _fail(self, error: BaseException) -> None:
        """The log takes no more: stop, and say so to all that wait."""
        if self._failed is None:
            self._failed = error
            self._commit.fail(error)
            self._answer_all(error)

    # Sources

    def _pump(self, source: Source) -> None:
        """Let a source speak, on a thread of its own, as fast as it is heard."""
        outstanding: deque[Reply] = deque()
        try:
            while not self._is_closing and self._failed is None:
                if not self._room.wait(0.1):
                    continue
                publication = source.next(self._clock.now_us())
                if publication is not None:
                    outstanding.append(self.publish(publication))
                elif source.place.is_done:
                    break
                else:
                    due_us = source.due_us()
                    wait_s = 0.05 if due_us is None else min(0.1, max(0.0, (due_us - self._clock.now_us()) / 1e6))
                    self._ended.wait(wait_s)
                while len(outstanding) > 4:
                    outstanding.popleft().wait()
            for reply in outstanding:
                reply.wait()
        except BaseException as error:
            if not self._is_closing and error is not self._failed:
                self._troubles.append(error)
        finally:
            source.close()
            self._dry.add(source.name)
            self._inbox.put(Turn(None))

    # A manual clock

    def _due_us(self) -> int | None:
        if self._failed is not None:
            return None
        moments = [self.broker.due_us(), *(source.due_us() for source in self.sources.values() if source.is_endless)]
        return min((moment for moment in moments if moment is not None), default=None)

    def _play_due(self) -> None:
        """Play all that is due by the manual clock."""
        with self._lock:
            while self._failed is None:
                before = self.broker.state.frames
                self._let_sources_speak()
                self._turn()
                if self.broker.state.frames == before and self._is_still():
                    break

    def _is_still(self) -> bool:
        return self._commit.is_clean and not any(
            self._can_feed(section) or section.has_work for section in self.broker.sections.values()
        )

    def _let_sources_speak(self) -> None:
        for source in self.sources.values():
            if source.name in self._dry:
                continue
            try:
                publication = source.next(self._clock.now_us())
            except EnsembleError as error:
                self._troubles.append(error)
                self._dry.add(source.name)
                continue
            if publication is not None:
                self._publish([Turn(None, publication)])
            elif source.place.is_done:
                self._dry.add(source.name)

    def _flush_here(self) -> None:
        try:
            group = self._commit.flush(here=True)
        except EnsembleError as error:
            self._fail(error)
            return
        if group is not None:
            self._committed(group)


class AsyncThread:
    """An event loop on a thread of its own, started when the first asynchronous player needs it."""

    def __init__(self) -> None:
        self._loop: Any = None
        self._thread: threading.Thread | None = None

    def loop(self) -> Any:
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="ensemble-async", daemon=True)
            self._thread.start()
        return self._loop

    def close(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            assert self._thread is not None
            self._thread.join(timeout=5)
            self._loop.close()
            self._loop = None
