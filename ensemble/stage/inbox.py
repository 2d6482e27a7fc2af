"""The way to the loop and back: what is asked of it, and what it answers.

Owns the queue between all other threads and the loop, and how much may wait in it. A publisher that is too fast waits, or is
told so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from ensemble.broker.outbox import Parcel
from ensemble.broker.words import Outcome, Policy, Publication
from ensemble.errors import Overloaded
from ensemble.score.lifts import Lifts
from ensemble.score.model import PlayerSpec, Score
from ensemble.stage.commit import Group
from ensemble.stage.post import Arrived

EVENTS_MOST = 20_000
"""Events that may wait to be published; of one publication there may be more."""


_telling = threading.Lock()


class Reply:
    """What somebody outside the loop waits for. Given once, by the loop."""

    __slots__ = ("_error", "_lock", "_then", "_value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._value: Any = None
        self._error: BaseException | None = None
        self._then: Callable[[], Any] | None = None

    def give(self, value: Any, error: BaseException | None = None) -> None:
        self._value, self._error = value, error
        self._lock.release()
        self._tell()

    def then(self, call: Callable[[], Any]) -> None:
        """Have this called once the answer is there: in the thread that gives it, or now. One call a reply."""
        self._then = call
        if not self._lock.locked():
            self._tell()

    def _tell(self) -> None:
        """Call what waits, once, whoever comes first: who gives, or who asked to be called."""
        with _telling:
            call, self._then = self._then, None
        if call is not None:
            call()

    def wait(self, timeout: float | None = None) -> Any:
        """The answer. TimeoutError if it does not come in time; or what went wrong."""
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise TimeoutError
        self._lock.release()
        if self._error is not None:
            raise self._error
        return self._value


class Publish(msgspec.Struct):
    """Have these events said; the reply brings their offsets."""

    publication: Publication
    reply: Reply | None


class Accept(msgspec.Struct):
    """Take in what another shard has sent; the reply brings the number of its first parcel that is not here yet."""

    shard: int
    first: int
    parcels: Sequence[Parcel]
    reply: Reply


class Ask(msgspec.Struct):
    """Have a question answered in the loop."""

    question: Callable[[], Any]
    reply: Reply


class Remove(msgspec.Struct):
    """Say in the log what retention is about to take; the reply comes when that is durable."""

    statement: list[Any]
    reply: Reply


class Settle(msgspec.Struct):
    """Tell when nothing is left to react to."""

    reply: Reply


class Announce(msgspec.Struct):
    """Have the band itself say something: under `_band`."""

    topic: str
    key: str
    data: Any


class Wake(msgspec.Struct):
    """Something changed that the loop has to look at."""


class Role(msgspec.Struct, frozen=True):
    """What a stage needs to know of a player, wherever its code may be."""

    spec: PlayerSpec
    is_async: bool = False
    hears_batches: bool = False
    """Whether one call hears many events."""


class Roll(msgspec.Struct):
    """A player that comes, or takes the place of the one of its name; without a role: that goes."""

    name: str
    role: Role | None
    policy: Policy = Policy()
    writes: Callable[[], Mapping[str, bytes | None]] | None = None
    """What makes the table of the one before that of this one; asked for when nothing more comes to it."""


class Rescore(msgspec.Struct):
    """Play another score from here on; the reply comes when all players have changed over and it is recorded."""

    score: dict[str, Any]
    plan: bytes
    rolls: list[Roll]
    reply: Reply
    heard: Score
    """The same, read."""
    lifts: Lifts | None = None
    """What lifts events from then on, if that is other than before."""


class Forget(msgspec.Struct):
    """Make a subject's data unreadable for good; the reply brings how many keys were destroyed."""

    subject: str
    reply: Reply


Request = Publish | Accept | Ask | Remove | Settle | Rescore | Forget | Wake
Item = Request | Announce | Outcome | Group | Arrived | BaseException


class Inbox:
    """A queue whose publications are counted."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: SimpleQueue[Item] = SimpleQueue()
        self._load = 0
        self._changed = threading.Condition()
        self.put = self._queue.put
        self.empty = self._queue.empty

    def get(self, timeout_s: float) -> Item | None:
        """The next item, waited for at the most so long; None if there is none."""
        try:
            return self._queue.get(timeout=timeout_s) if timeout_s > 0 else self._queue.get_nowait()
        except Empty:
            return None

    def has_room(self, count: int) -> bool:
        """Whether `admit` would not wait."""
        return not self._load or self._load + count <= EVENTS_MOST

    def admit(self, count: int, *, wait: bool, check: Callable[[], None]) -> None:
        """Wait until there is room for so many events. `check` raises where there never will be.

        Errors: Overloaded if there is none and `wait` is False.
        """
        with self._changed:
            while self._load and self._load + count > EVENTS_MOST:
                if not wait:
                    raise Overloaded(
                        f"{self._load} events wait in the inbox of band {self._name}, which takes {EVENTS_MOST}; "
                        "publish slower, or with wait=True"
                    )
                self._changed.wait(1)
                check()
            self._load += count

    def leave(self, count: int) -> None:
        """So many events wait no longer."""
        with self._changed:
            self._load = max(0, self._load - count)
            self._changed.notify_all()
