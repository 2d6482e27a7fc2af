"""What goes into a broker: what the score says, what is to be said, and what came of hearing.

Owns shapes only. They come from publishers and players, and have no offsets yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ensemble.event import NO_EXTRAS, Named, Ref
from ensemble.motif import Motif
from ensemble.score.model import Emit, RetryPolicy


class Motive(msgspec.Struct, frozen=True):
    """A motif of several events to be listened for: what, what its matches are called, and from where on if it is new."""

    motif: Motif
    topic: str
    begin: int | None = 0
    """The offset from which on it is heard if it is new; None: the end of the log."""


class Opening(msgspec.Struct, frozen=True):
    """What the score says when a shard begins to play."""

    score: dict[str, Any] | None = None
    """Its document; None: as before."""
    from_now: Sequence[str] = ()
    """The sections that begin at the end of the log if they are new."""
    dedupe: tuple[int, int] | None = None
    """How long the ids of publishers are remembered (microseconds), and how many at the most; None: as before."""
    plan: bytes = b""
    """What the stage begins from in another process."""
    motives: Mapping[str, Motive] = {}
    """The motifs of several events that are listened for."""
    begins: Mapping[str, int] = {}
    """The offsets at which other new sections begin; those that are not here begin at the first."""


class Said(msgspec.Struct, gc=False):
    """Events that somebody wants said, in columns. They have no offsets yet.

    Shapes: one entry of `keys` and `data` an event; `topic_ix` is an int where all have one topic. `causes` and `roots` are
            None for what is published from outside. `extras` as in `Rows`.
    """

    topics: list[str]
    topic_ix: int | Sequence[int]
    keys: Sequence[str]
    data: Sequence[bytes]
    causes: Sequence[Ref] | None = None
    roots: Sequence[Ref] | None = None
    extras: Mapping[int, dict[str, Any]] | None = None
    versions: dict[str, int] | None = None
    """As in `Rows`."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def odd(self) -> Mapping[int, dict[str, Any]]:
        """As in `Rows`."""
        extras = self.extras
        return NO_EXTRAS if extras is None else extras.more if type(extras) is Named else extras

    def topic(self, row: int) -> str:
        """The topic of one of its events."""
        ix = self.topic_ix
        return self.topics[ix if isinstance(ix, int) else ix[row]]

    def pick(self, rows: Sequence[int]) -> Said:
        """These of its events, ascending."""
        ix, extras = self.topic_ix, self.extras
        return Said(
            self.topics,
            ix if isinstance(ix, int) else [ix[row] for row in rows],
            [self.keys[row] for row in rows],
            [self.data[row] for row in rows],
            None if self.causes is None else [self.causes[row] for row in rows],
            None if self.roots is None else [self.roots[row] for row in rows],
            {new: extras[old] for new, old in enumerate(rows) if old in extras} or None if extras else None,
            self.versions,
        )


class Publication(msgspec.Struct, gc=False):
    """Events from outside, and how far their source has been read with them."""

    said: Said
    source: str
    place: tuple[str, Any] | None = None
    token: str | None = None
    """Makes it the same publication when it comes again, from who could not know whether it had arrived."""


class Failure(msgspec.Struct):
    """One event that a player could not hear."""

    offset: int
    key: str
    """The event's own key."""
    lane: str
    topic: str
    ref: Ref
    """How an answer names the event."""
    root: Ref
    error: str
    """One line: `ValueError: no such card`."""
    traceback: str
    is_final: bool = False
    """Not to be tried again, whatever the policy says."""
    after_us: int | None = None
    """When to try again, where the player said so."""
    extras: dict[str, Any] | None = None
    """What an answer to it has from it, as in `Rows`."""


class Later(msgspec.Struct):
    """An event to be said after a delay."""

    after_us: int
    topic: str
    key: str
    data: bytes
    cause: Ref
    root: Ref
    extras: dict[str, Any] | None = None
    """As in `Rows`."""


class Outcome(msgspec.Struct):
    """What came of a batch, or of a part of one: of all keys that it names, wholly.

    Shapes: `keys` are the lanes of all events that come back; `heard` the offsets that were heard, in the order handed out.
    """

    section: str
    count: int
    keys: Sequence[str]
    heard: Sequence[int]
    said: Said | None
    began_us: int
    wrote: dict[str, bytes | None] = {}
    later: Sequence[Later] = ()
    failures: Sequence[Failure] = ()
    skipped: Sequence[tuple[int, str]] = ()
    """Offset and lane of what was not tried, since an earlier event of its lane failed."""
    took_s: float = 0.0
    """How long the player took, where the batch was heard in one go. Nothing is decided by it: it sets the stage's pace."""


class Policy(msgspec.Struct, frozen=True):
    """What the score says of a player's failures, and of how long its state is kept."""

    retry: RetryPolicy = RetryPolicy()
    on_failure: str | Emit = "dead-letter"
    check: Callable[[Any], None] | None = None
    """Raises InvalidEvent where an event of `on_failure: {emit: ...}` can't have this data."""
    keep_us: int = 0
    """How long a key's state stays after it was last written; 0: for ever."""
    version: int = 1
    """That of the event of `on_failure: {emit: ...}`."""
