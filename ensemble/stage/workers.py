"""Instances at work: inline in the stage's own thread, on a thread each, or as coroutines.

Owns where a batch is heard and how long that may take. A worker takes a batch (`start`) when it has room and gives its
outcome back through `post`, from any thread. What it can't know: what the outcome leads to.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

from ensemble.broker.words import Outcome
from ensemble.player import GivenUp, Hearing, Instance, Player, Work

QUICK_S = 0.0001
"""An event that is heard in less may be heard in the stage's own thread."""
SLOW_S = 0.05
"""A batch that took longer there sends its player back to a thread of its own."""
HELD_UP_S = 0.1
"""How long what is in a batch waits for one slow event before it, where another instance could hear it."""
PAUSE_S, PAUSE_MOST_S = 0.05, 30.0
"""Before another instance is built where one could not be: doubled each time."""

Post = Callable[[Outcome], None]
Fail = Callable[[BaseException], None]


class Workers(Protocol):
    """The instances of one section."""

    @property
    def overlaps(self) -> bool:
        """Whether more than one batch may be in flight."""
        ...

    @property
    def spread(self) -> int:
        """How many instances share what there is to hear."""
        ...

    def room(self) -> int:
        """How many more events could be started now; 0: none."""
        ...

    def start(self, work: Work) -> None:
        """Begin to hear a batch. Called by the stage's thread, only when there is room."""
        ...

    def tend(self, now_s: float, load: Callable[[], int]) -> float | None:
        """Give up what took too long, close what idles; `load` says how many events there are to deal with.

        When to be called again (monotonic seconds) comes back; None: no need.
        """
        ...

    @property
    def count(self) -> int: ...

    def close(self) -> None:
        """Let the instances go. Nothing is in flight any more, or it is given up."""
        ...


def timed(hear: Callable[..., Outcome], *given: Any) -> Outcome:
    """The outcome of a batch, and how long it took."""
    began_s = time.perf_counter()
    outcome = hear(*given)
    outcome.took_s = time.perf_counter() - began_s
    return outcome


def untried(work: Work, rows: Sequence[int] | None = None) -> Outcome:
    """The outcome of a batch, or of these rows of it, that nobody heard: all come back."""
    batch = work.batch
    back = [(batch.offsets[ix], batch.keys[ix]) for ix in (range(len(batch)) if rows is None else rows)]
    return Outcome(batch.section, len(back), [key for _, key in back], (), None, batch.began_us, skipped=back)


class Agenda:
    """The rows of a batch, for the thread that hears them one by one; what it has not come to may be taken back.

    Invariant: a row is heard or `gone`, and never both; the rows of a lane are all one or all the other.
    """

    def __init__(self, lanes: Sequence[str], *, is_ordered: bool) -> None:
        self._lanes, self._is_ordered = lanes, is_ordered
        self._lock = threading.Lock()
        self._next = 0
        self.since_s = time.monotonic()
        """When the row was begun that is heard now."""
        self.gone: set[int] = set()

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        with self._lock:
            while self._next in self.gone:
                self._next += 1
            if self._next >= len(self._lanes):
                raise StopIteration
            self._next += 1
            self.since_s = time.monotonic()
            return self._next - 1

    @property
    def is_over(self) -> bool:
        return len(self.gone) + self._next >= len(self._lanes)

    def take_back(self) -> list[int]:
        """The rows that are not begun, of lanes of which none is."""
        with self._lock:
            begun = set(self._lanes[: self._next]) if self._is_ordered else set()
            rows = [ix for ix in range(self._next, len(self._lanes)) if self._lanes[ix] not in begun and ix not in self.gone]
            self.gone.update(rows)
            return rows


class Inline:
    """One instance, heard in the stage's own thread, for a clock moved by hand: what follows from what is always the same."""

    overlaps = False
    spread = 1
    count = 1

    def __init__(self, player: Player, post: Post) -> None:
        self._instance = player.build()
        self._post = post

    def room(self) -> int:
        return 1 << 30

    def start(self, work: Work) -> None:
        self._post(timed(self._instance.hear, work))

    def tend(self, now_s: float, load: Callable[[], int]) -> float | None:
        return None

    def close(self) -> None:
        self._instance.close()


class Watch:
    """Tells how long a player has been in one call, and keeps a late one from changing anything.

    Invariant: once `give_up` said True, the thread that is watched touches its `Hearing` no more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None
        self._is_given_up = False

    def guard(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self._since = time.monotonic()
            try:
                answer = call(*args, **kwargs)
                return list(answer) if isinstance(answer, Iterator) else answer
            finally:
                with self._lock:
                    self._since = None
                    if self._is_given_up:
                        raise GivenUp

        return guarded

    def due_s(self, timeout_s: float) -> float:
        since = self._since
        return (time.monotonic() if since is None else since) + timeout_s

    def give_up(self, timeout_s: float, now_s: float) -> bool:
        with self._lock:
            if self._since is None or now_s - self._since < timeout_s:
                return False
            self._is_given_up = True
            return True


class _Thread:
    """One instance on a thread of its own: built, called and closed there."""

    def __init__(
        self,
        player: Player,
        post: Post,
        fail: Fail,
        free: Callable[[_Thread], None],
        unbuilt: Callable[[_Thread, BaseException], None],
    ) -> None:
        self.player = player
        self.inbox: SimpleQueue[Work | None] = SimpleQueue()
        self.error: BaseException | None = None
        """Why it could not be built."""
        self.is_built = threading.Event()
        """Set once it is built, or can't be."""
        self.idle_since = time.monotonic()
        self.hearing: Hearing | None = None
        self.watch: Watch | None = None
        self.work: Work | None = None
        self.agenda: Agenda | None = None
        self.is_left_over = False
        """Whether `hearing` was begun by another thread, which is stuck in it."""
        self._post, self._fail, self._free, self._unbuilt = post, fail, free, unbuilt
        self.thread = threading.Thread(target=self._run, name=f"ensemble-{player.name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            instance = self.player.build()
        except BaseException as error:
            self.error = error
            self._unbuilt(self, error)
            return
        finally:
            self.is_built.set()
        while (work := self.inbox.get()) is not None:
            try:
                outcome = self._hear(instance, work)
            except GivenUp:
                break
            except BaseException as error:
                self._fail(error)
                break
            self._free(self)
            self._post(outcome)
        instance.close()

    def _hear(self, instance: Instance, work: Work) -> Outcome:
        if self.player.spec.timeout_us is None:
            return timed(self._hearing_of(instance, work, instance.call).hear)
        watch = Watch()
        call = watch.guard(instance.call)
        if self.is_left_over and self.hearing is not None:
            self.is_left_over, self.watch = False, watch
            return self.hearing.go_on(call)
        self.hearing, self.watch = self._hearing_of(instance, work, call), watch
        return timed(self.hearing.hear)

    def _hearing_of(self, instance: Instance, work: Work, call: Callable[..., Any]) -> Hearing:
        hearing = Hearing(instance, work, call)
        if self.agenda is not None:
            hearing.which, hearing.gone = self.agenda, self.agenda.gone
        return hearing


class Threads:
    """`min` to `max` instances on a thread each: for players that wait, and for those whose time is limited.

    One at least is built at once, so that a class that can't be is found where its user sees it.
    """

    def __init__(self, player: Player, post: Post, fail: Fail) -> None:
        self._player, self._post, self._fail = player, post, fail
        self._most = max(1, player.spec.section.max)
        self._least = min(player.spec.section.min, self._most)
        self._idle_s = player.spec.section.idle_us / 1e6
        timeout_us = player.spec.timeout_us
        self._timeout_s = None if timeout_us is None else timeout_us / 1e6
        self.spread = self._most
        self.overlaps = self._most > 1
        self._lock = threading.Lock()
        self._busy: set[_Thread] = set()
        self._failed_builds = 0
        self._not_before_s = 0.0
        self._is_open = False
        self._free = [self._one_more() for _ in range(max(1, self._least))]
        for worker in self._free:
            worker.is_built.wait()
        errors = [worker.error for worker in self._free if worker.error is not None]
        if errors:
            self.close()
            raise errors[0]
        self._is_open = True

    def _one_more(self) -> _Thread:
        return _Thread(self._player, self._post, self._fail, self._came_free, self._could_not_be_built)

    @property
    def count(self) -> int:
        return len(self._free) + len(self._busy)

    def room(self) -> int:
        with self._lock:
            if not self._free and time.monotonic() < self._not_before_s:
                return 0
            return (self._most - len(self._busy)) and 1 << 30

    def start(self, work: Work) -> None:
        with self._lock:
            worker = self._free.pop() if self._free else None
        if worker is None:
            worker = self._one_more()
        worker.work, worker.hearing, worker.watch, worker.agenda = work, None, None, None
        if self._most > 1 and len(work.batch) > 1 and not self._player.shape.batch:
            worker.agenda = Agenda(work.batch.keys, is_ordered=self._player.spec.order != "none")
        with self._lock:
            self._busy.add(worker)
        worker.inbox.put(work)

    def _came_free(self, worker: _Thread) -> None:
        with self._lock:
            self._busy.discard(worker)
            worker.idle_since = time.monotonic()
            self._free.append(worker)
            self._failed_builds = 0

    def _could_not_be_built(self, worker: _Thread, error: BaseException) -> None:
        """Give back what the instance was to hear, and build no other for a while: what it needs may come back."""
        if not self._is_open:
            return  # then it is raised
        work = worker.inbox.get()
        assert work is not None
        with self._lock:
            self._failed_builds += 1
            pause_s = min(PAUSE_MOST_S, PAUSE_S * 2 ** min(self._failed_builds, 20))
            self._not_before_s = time.monotonic() + pause_s
            self._busy.discard(worker)
        self._player.log.warning("%s; the next is built in %g s", error, pause_s)
        if worker.hearing is not None:
            worker.hearing.leave_rest()
            self._post(worker.hearing.all())
        else:
            self._post(untried(work))

    def tend(self, now_s: float, load: Callable[[], int]) -> float | None:
        again: list[float] = []
        with self._lock:
            if self._not_before_s > now_s:
                again.append(self._not_before_s)
            busy = list(self._busy)
            spare = len(self._free) + len(busy) - self._least
            for worker in list(self._free):
                if spare > 0 and now_s - worker.idle_since >= self._idle_s:
                    self._free.remove(worker)
                    worker.inbox.put(None)
                    spare -= 1
            if spare > 0 and self._free:
                again.append(min(worker.idle_since for worker in self._free) + self._idle_s)
        for worker in busy:
            agenda = worker.agenda
            if agenda is None or agenda.is_over or worker.work is None:
                continue
            if now_s - agenda.since_s < HELD_UP_S:
                again.append(agenda.since_s + HELD_UP_S)
            elif rows := agenda.take_back():
                self._post(untried(worker.work, rows))
        if self._timeout_s is not None:
            for worker in busy:
                if worker.watch is None or worker.hearing is None:
                    again.append(now_s + self._timeout_s)
                elif worker.watch.give_up(self._timeout_s, now_s):
                    self._give_up(worker)
                    again.append(now_s + self._timeout_s)
                else:
                    again.append(worker.watch.due_s(self._timeout_s))
        return min(again, default=None)

    def _give_up(self, worker: _Thread) -> None:
        """Let the call that takes too long fail. Its thread can't be ended; it is left alone and ends when it comes back."""
        with self._lock:
            self._busy.discard(worker)
        assert worker.hearing is not None
        assert worker.work is not None
        worker.inbox.put(None)
        error = TimeoutError(f"player {self._player.name} took longer than its timeout of {self._timeout_s:g} s")
        if worker.hearing.give_up(error):
            other = self._one_more()
            other.work, other.hearing, other.is_left_over = worker.work, worker.hearing, True
            with self._lock:
                self._busy.add(other)
            other.inbox.put(worker.work)
        else:
            self._post(worker.hearing.all())

    def close(self) -> None:
        with self._lock:
            workers = self._free
            self._free = []
        for worker in workers:
            worker.inbox.put(None)
        for worker in workers:
            worker.thread.join(timeout=5)


class Alone:
    """The one instance of a player: on a thread of its own, until it is known to be quick.

    A function that is quick is called in the stage's own thread from then on, which spares two hand-overs a batch; once a batch
    of it takes long it goes back to a thread and stays there, so that nobody else waits for it again. A class stays where it
    was built: what it has opened may belong to its thread.
    """

    overlaps = False
    spread = 1
    count = 1

    def __init__(self, player: Player, post: Post, post_now: Post, fail: Fail) -> None:
        self._post_now = post_now
        self._function = player.build() if player.shape.kind != "class" else None
        self._is_quick = False
        self._may_be_quick = self._function is not None
        self._is_busy = False
        self._post = post
        self._thread = _Thread(player, self._came_back, fail, lambda _: None, lambda _, error: None)
        self._thread.is_built.wait()
        if self._thread.error is not None:
            raise self._thread.error

    def room(self) -> int:
        return 0 if self._is_busy else 1 << 30

    def start(self, work: Work) -> None:
        if self._is_quick and self._function is not None:
            outcome = timed(self._function.hear, work)
            self._is_quick = self._may_be_quick = outcome.took_s < SLOW_S
            self._post_now(outcome)
        else:
            self._is_busy = True
            self._thread.inbox.put(work)

    def _came_back(self, outcome: Outcome) -> None:
        self._is_quick = self._may_be_quick and outcome.took_s <= QUICK_S * outcome.count
        self._is_busy = False
        self._post(outcome)

    def tend(self, now_s: float, load: Callable[[], int]) -> float | None:
        return None

    def close(self) -> None:
        self._thread.inbox.put(None)
        self._thread.thread.join(timeout=0 if self._is_busy else 5)


def lanes_of(work: Work, order: str) -> list[tuple[str, list[int]]]:
    """The rows of each lane of a batch, in order."""
    if order == "none":
        return [(lane, [ix]) for ix, lane in enumerate(work.batch.keys)]
    rows: dict[str, list[int]] = {}
    for ix, lane in enumerate(work.batch.keys):
        rows.setdefault(lane, []).append(ix)
    return list(rows.items())


class Tasks:
    """One instance of an asynchronous player: many events wait at once, those of one lane one after the other."""

    count = 1
    overlaps = True
    spread = 1

    def __init__(self, player: Player, post: Post, loop: asyncio.AbstractEventLoop) -> None:
        self._player, self._post, self._loop = player, post, loop
        self._instance = self._on_loop(self._build())
        self._most = max(1, player.spec.section.batch) * max(1, player.spec.section.max)
        self._flying = 0
        self._lock = threading.Lock()
        """Guards `_flying`: rows are counted in by the stage's thread, and out by this loop's."""
        self._timeout_s = None if player.spec.timeout_us is None else player.spec.timeout_us / 1e6
        self._tasks: set[asyncio.Task[Outcome]] = set()
        self._is_leaving = False

    def _on_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _build(self) -> Instance:
        return self._player.build()

    def room(self) -> int:
        return self._most - self._flying

    def start(self, work: Work) -> None:
        with self._lock:
            self._flying += len(work.batch)
        self._loop.call_soon_threadsafe(self._spread, work)

    def _spread(self, work: Work) -> None:
        for lane, rows in lanes_of(work, self._player.spec.order):
            task = self._loop.create_task(self.hear(work, lane, rows))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, work, lane, rows))

    def _ended(self, work: Work, lane: str, rows: list[int], task: asyncio.Task[Outcome]) -> None:
        """Post what came of a lane. One that ended without an outcome fails with what ended it: its key must not wait."""
        self._tasks.discard(task)
        with self._lock:
            self._flying -= len(rows)
        if self._is_leaving and task.cancelled():
            return
        error = asyncio.CancelledError("its task was cancelled") if task.cancelled() else task.exception()
        if error is None:
            self._post(task.result())
            return
        hearing = Hearing(self._instance, work)
        hearing.fail(rows, error)
        self._post(hearing.outcome([lane], len(rows)))

    async def hear(self, work: Work, lane: str, rows: list[int]) -> Outcome:
        hearing = Hearing(self._instance, work)
        await hearing.later_one_by_one(rows, self._timeout_s, lambda: self._is_leaving)
        return hearing.outcome([lane], len(rows))

    def tend(self, now_s: float, load: Callable[[], int]) -> float | None:
        return None

    def close(self) -> None:
        async def end() -> None:
            self._is_leaving = True
            for task in list(self._tasks):
                task.cancel()
            self._instance.close()

        self._on_loop(end())


class InlineTasks(Tasks):
    """Asynchronous players under a manual clock: all of a batch at once, outcomes in the order of the batch."""

    overlaps = False

    def start(self, work: Work) -> None:
        lanes = lanes_of(work, self._player.spec.order)

        async def all_groups() -> list[Outcome]:
            return await asyncio.gather(*(self.hear(work, lane, rows) for lane, rows in lanes))

        for outcome in self._on_loop(all_groups()):
            self._post(outcome)


class AsyncThread:
    """An event loop on a thread of its own, started when the first asynchronous player needs it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="ensemble-async", daemon=True)
            self._thread.start()
        return self._loop

    def close(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
            self._loop.close()
            self._loop = None
