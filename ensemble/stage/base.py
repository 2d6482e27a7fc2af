"""What a stage is to a band: the verbs that any place to play on must know.

Owns the ports between band and stage. A stage may be this process (`solo.py`) or a cluster (`on_ray/`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ensemble.broker.words import Outcome, Publication
from ensemble.log.base import LogReader
from ensemble.stage.inbox import Item, Role
from ensemble.stage.workers import Workers
from ensemble.status import Standing


class View(Protocol):
    """What can be asked of a shard's state. What is seen is durable."""

    def sections(self) -> list[str]:
        """The sections that have played."""
        ...

    def seen(self, id: str) -> int | None:
        """The offset of the event to which its publisher gave this id; None if it is not remembered."""
        ...

    def dead(self) -> list[tuple[int, int, str]]:
        """Each dead letter: the offset of the event that tells of it, that of the event itself, and the section."""
        ...

    def table_keys(self, name: str) -> list[str]:
        """The keys of a section's table."""
        ...

    def table_value(self, name: str, key: str) -> bytes | None:
        """The state of one key, encoded."""
        ...

    def table_items(self, name: str, prefix: str = "") -> Mapping[str, bytes]:
        """A section's table at one moment, as far as its keys begin so."""
        ...

    def digests(self) -> tuple[int, Mapping[str, str]]:
        """How many frames were folded, and a digest of each section's table as of then."""
        ...

    def standing(self) -> Standing: ...


class Answer(Protocol):
    """What will be said of a request."""

    def wait(self, timeout: float | None = None) -> Any:
        """The answer. TimeoutError if it does not come in time; or what went wrong."""
        ...


class Shard(NamedTuple):
    """What can be read of one shard."""

    log: LogReader
    view: View


class Stage(Protocol):
    """Where a band plays. Any thread may call."""

    @property
    def shards(self) -> Sequence[Shard]:
        """By their numbers."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What recovery did, in sentences for the user."""
        ...

    @property
    def publication_most(self) -> tuple[int, int]:
        """How many events, and bytes of data, should go into one publication of many."""
        ...

    def publish(self, publication: Publication, *, wait: bool = True) -> Answer:
        """Have these events said. The reply brings their offsets, each in its shard, once they are durable.

        Errors: Overloaded if too much waits and `wait` is False; Unavailable.
        """
        ...

    def settle(self, timeout: float | None = None) -> None:
        """Wait until nothing is left to react to. TimeoutError; or what made that impossible."""
        ...

    def again(self, section: str | None, place: tuple[int, int] | None) -> int:
        """Have dead letters heard again: all, those of a section, or the one of an event (shard, offset). How many."""
        ...

    def forget(self, subject: str) -> int:
        """Make a subject's data unreadable for good, in what is kept and in memory; how many keys were destroyed.

        Errors: KeyError if there is no data of such a subject; Unavailable.
        """
        ...

    def wait_beyond(self, offsets: Sequence[int], timeout: float) -> bool:
        """Wait until the log of a shard is durable beyond its offset here. False: none is, and the band is closed."""
        ...

    def close(self) -> None:
        """Finish what is in flight, make it durable, and leave the rest for the next opening."""
        ...


class Crew(Protocol):
    """Who is on stage: makes the workers of each player."""

    def hire(self, role: Role, post: Callable[[Item], None], post_now: Callable[[Outcome], None]) -> Workers:
        """The workers of a player. PlayerError if its class can't be built.

        `post` is for any thread; `post_now` for outcomes that `Workers.start` itself brings, in the loop's thread.
        """
        ...

    def close(self) -> None:
        """All workers are closed: let go of what they shared."""
        ...


class Clock:
    """The machine's clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000


class HandClock(Protocol):
    """A clock that is moved by hand: `ensemble.testing.ManualClock`."""

    def now_us(self) -> int: ...

    def join(self, due: Callable[[], int | None], play: Callable[[], None]) -> None: ...

    def leave(self, play: Callable[[], None]) -> None: ...
