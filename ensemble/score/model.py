"""The score as frozen data: what it says, after reading, merging and checking.

Owns the shapes only. `load` makes them, `check` judges them, the stages read them. All durations are microseconds
(`_us`), all sizes bytes; a field that the YAML file calls by a Python keyword has a trailing underscore here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ensemble.motif import Motif

Place = tuple[str, int, int]
"""Where something stands: file, line, column; both count from 1."""


class EventSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What may be said under a topic, or under all topics of a pattern."""

    topic: str
    about: str = ""
    key: str | None = None
    """Path into data (`customer.id`) of the event's key; None: the publisher gives it, or it is empty."""
    schema: Mapping[str, Any] | None = None
    type: str | None = None
    """`module:Name` of a Python type."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    min: int = 0
    max: int = 1
    batch: int = 1000
    linger_us: int = 0
    idle_us: int = 30_000_000
    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Attempt n+1 comes `min(most, first * factor**(n-1))` after attempt n, give or take the share `jitter`."""

    attempts: int = 5
    first_us: int = 100_000
    factor: float = 2.0
    most_us: int = 30_000_000
    jitter: float = 0.1


class Emit(msgspec.Struct, frozen=True):
    """`on_failure: {emit: topic}`."""

    topic: str


class PlayerSpec(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    on: Motif  # type: ignore[valid-type]
    play: str | None = None
    """`module:function` or `module:Class`; None where `ensemble.open(players=...)` is to give a callable."""
    about: str = ""
    group: str = ""
    emits: tuple[str, ...] = ()
    settings: Mapping[str, Any] = {}
    section: Section = Section()
    retry: RetryPolicy = RetryPolicy()
    timeout_us: int | None = None
    on_failure: Literal["dead-letter", "hold"] | Emit = "dead-letter"
    order: Literal["key", "none", "all"] = "key"
    by: str | None = None
    from_: Literal["start", "now"] = "start"
    place: Place | None = None


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What starts the music: exactly one of `file`, `every_us` and `play`."""

    name: str
    about: str = ""
    file: str | None = None
    """Absolute, or relative to the working directory: `load` has already put the score's own folder before it."""
    every_us: int | None = None
    play: str | None = None
    settings: Mapping[str, Any] = {}
    topic: str | None = None
    data: Any = None
    """What an `every:` source says."""
    key: str | None = None
    rate: float | None = None
    """Events a second, or None: as fast as they are heard."""
    emits: tuple[str, ...] = ()
    place: Place | None = None


class StageSpec(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["solo", "ray"] = "solo"
    shards: int = 1
    address: str | None = None


class StoreSpec(msgspec.Struct, frozen=True, kw_only=True):
    url: str = "memory:"
    durability: Literal["disk", "memory"] = "disk"
    dedupe_us: int = 86_400_000_000
    """How long the id of a published event is remembered."""
    dedupe_most: int = 200_000
    """How many are remembered at the most; the oldest go first."""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    about: str = ""
    events: Mapping[str, EventSpec] = {}
    motifs: Mapping[str, Motif] = {}  # type: ignore[valid-type]
    players: Mapping[str, PlayerSpec] = {}
    sources: Mapping[str, SourceSpec] = {}
    stage: StageSpec = StageSpec()
    store: StoreSpec = StoreSpec()
    folder: str = "."
    """The folder of the score's file: players are imported from there (and from the working directory) too."""
    warnings: tuple[Any, ...] = ()
    """Findings that do not stop the score from playing (`ensemble.score.check.Finding`)."""

    def event_spec(self, topic: str) -> EventSpec | None:
        """What is declared for a topic: by its own name, else by the first wildcard that fits; None if nothing."""
        from ensemble.motif import matches

        spec = self.events.get(topic)
        if spec is None:
            spec = next((s for s in self.events.values() if matches(s.topic, topic)), None)
        return spec
