"""The score as frozen data: what it says, after reading, merging and checking.

Owns the shapes only. `load` makes them, `check` judges them, the stages read them. All durations are microseconds
(`_us`), all sizes bytes; a field that the YAML file calls by a Python keyword has a trailing underscore here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ensemble.motif import Motif, matches
from ensemble.score.composing import Callables, Composed
from ensemble.shown import Shown

NOW = 1 << 62
"""Later than any event's time: from now on."""

Place = tuple[str, int, int]
"""Where something stands: file, line, column; both count from 1."""


RECORD = "x-ensemble"
"""Key of a score's document under which it keeps the folder of its file."""


class Places:
    """Where what a score says stands in its files. No part of what it says: all places are equal."""

    def of(self, where: Sequence[str | int]) -> Place | None:
        """The place of what a path leads to (`("players", "payment", "on")`), or of the nearest above it; None if unknown."""
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "Places()"


class Retain(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the past is kept at the least; None: that sets no bound."""

    time_us: int | None = None
    size: int | None = None
    """In bytes: the newest that have it."""
    archive: str = ""
    """Of the whole log: the url to which all goes before any of it is taken; empty: it is gone then."""


class PersonalSpec(msgspec.Struct, frozen=True):
    """Whose data something is."""

    subject: str
    """Path into it of who that is; `key`: the key of the event, or that by which a state is kept."""
    fields: tuple[str, ...] = ()
    """Paths into it of what is theirs; none: all of it."""


class EventSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What may be said under a topic, or under all topics of a pattern."""

    topic: str
    about: str = ""
    key: str | None = None
    """Path into data (`customer.id`) of the event's key; None: the publisher gives it, or it is empty."""
    schema: Mapping[str, Any] | None = None
    type: str | None = None
    """`module:Name` of a Python type."""
    retain: Retain | None = None
    compact: bool = False
    """Whether of each key only the newest is kept."""
    personal: PersonalSpec | None = None
    version: int = 1
    """The version of its schema or type."""
    upcast: Mapping[int, str] = {}
    """Version -> `module:function` that makes data of it data of the next one."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    min: int = 0
    max: int = 1
    batch: int = 1000
    linger_us: int = 0
    idle_us: int = 30_000_000
    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    resources: Mapping[str, float] = {}
    """Custom resources that an instance needs, by their names on the cluster."""
    cooldown_us: int = 10_000_000
    """How long a section must have wanted fewer instances before it has fewer, while there is work."""


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


class StateSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a player's state is, and how long it stays."""

    type: str | None = None
    """`module:Name` of a Python type; None: a dict."""
    expire_us: int | None = None
    """How long a key's state stays after it was last written; None: for ever."""
    personal: PersonalSpec | None = None


class Lookup(msgspec.Struct, frozen=True):
    """`TABLE[key]` or `TABLE[data.PATH]`: the state that a player keeps for a key."""

    player: str
    path: str | None = None
    """Path into data of the key; None: the event's own key."""


class Stub(msgspec.Struct, frozen=True):
    """`outside: {stub: module:function}`: what plays in a player's place where nothing may be done outside."""

    stub: str


class PlayerSpec(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    on: Motif
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
    state: StateSpec = StateSpec()
    reads: tuple[str, ...] = ()
    """Players whose state of the same key it may look up."""
    enrich: Mapping[str, Lookup] = {}
    """Field of what it hears -> what the broker puts there."""
    from_: str = "start"
    """`start`, `now`, or a time."""
    from_us: int = 0
    """The same in microseconds since 1970: what was written before is past to a player that is new. NOW: all of it."""
    outside: Literal["", "allow", "mute"] | Stub = ""
    """What it does outside, in a take that is not the current one and while the past is replayed; empty: it asks `ctx.live`."""


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What starts the music: exactly one of `file`, `every_us`, `cron` and `play`."""

    name: str
    about: str = ""
    file: str | None = None
    """Absolute, or relative to the working directory: `load` has already put the score's own folder before it."""
    every_us: int | None = None
    cron: str | None = None
    zone: str = "UTC"
    """The time zone in which `cron` is read."""
    play: str | None = None
    settings: Mapping[str, Any] = {}
    topic: str | None = None
    data: Any = None
    """What an `every:` or `cron:` source says."""
    key: str | None = None
    rate: float | None = None
    """Events a second, or None: as fast as they are heard."""
    emits: tuple[str, ...] = ()


class StageSpec(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["solo", "ray"] = "solo"
    shards: int = 1
    address: str | None = None
    runtime_env: Mapping[str, Any] = {}
    """What Ray brings to the nodes beside Ensemble: `working_dir`, `pip`, `env_vars` and the like."""


class StoreSpec(msgspec.Struct, frozen=True, kw_only=True):
    url: str = ""
    """Where the log is kept; empty: `.ensemble/NAME` under the working directory."""
    durability: Literal["disk", "memory"] = "disk"
    linger_us: int | None = None
    """How long a commit waits for more; None: as fits the kind of store."""
    dedupe_us: int = 86_400_000_000
    """How long the id of a published event is remembered."""
    dedupe_most: int = 200_000
    """How many are remembered at the most; the oldest go first."""
    blob_above: int | None = None
    """Data of more bytes is kept beside the log; None: none is."""
    compress: Literal["none", "zstd"] = "none"
    """How finished segments are compressed."""


class AuditSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where the heads of the log are anchored while it plays."""

    anchor: str
    """A path or url, outside of the store."""
    key: str
    """The file with the private key that signs them."""
    every_us: int = 3_600_000_000


class Silence(msgspec.Struct, frozen=True):
    """A warning that the score's author has seen: not to be told of again."""

    code: str
    reason: str
    at: str | None = None
    """The place (`players.audit`), and all below it; None: anywhere."""


class _Named(msgspec.Struct, frozen=True):
    name: str


class Score(_Named, Composed, Shown, frozen=True, kw_only=True):
    about: str = ""
    events: Mapping[str, EventSpec] = {}
    motifs: Mapping[str, Motif] = {}
    players: Mapping[str, PlayerSpec] = {}
    sources: Mapping[str, SourceSpec] = {}
    stage: StageSpec = StageSpec()
    store: StoreSpec = StoreSpec()
    retain: Retain | None = None
    """How much of the past is kept; None: all of it."""
    audit: AuditSpec | None = None
    silence: tuple[Silence, ...] = ()
    costs: Mapping[str, Any] = {}
    folder: str = "."
    """The folder of the score's file: players are imported from there (and from the working directory) too."""
    document: Mapping[str, Any] = {}
    """The score as one plain document: included scores merged, the environment filled in. `load(document)` is this score."""
    places: Places = Places()
    callables: Callables = msgspec.field(default_factory=Callables)
    """What plays its players and sources, where these were written in Python: by name. No part of what it says."""

    def event_spec(self, topic: str) -> EventSpec | None:
        """What is declared for a topic; None if nothing is.

        Its own entry's fields win; those it does not have come from the wildcards that fit, the most specific first.
        """
        merged: dict[str, Any] = {}
        found = False
        for spec in self.specs_for(topic):
            found = True
            for name in ("about", "key", "schema", "type", "personal", "retain", "compact"):
                merged[name] = merged.get(name) or getattr(spec, name)
            if merged.get("version", 1) == 1:
                merged["version"], merged["upcast"] = spec.version, spec.upcast
        return EventSpec(topic=topic, **merged) if found else None

    def specs_for(self, topic: str) -> Iterator[EventSpec]:
        """The entries that fit a topic: its own, then wildcards, the most specific first."""
        own = self.events.get(topic)
        if own is not None:
            yield own
        fitting = [spec for spec in self.events.values() if spec.topic != topic and matches(spec.topic, topic)]
        yield from sorted(fitting, key=lambda spec: _vagueness(spec.topic))


def _vagueness(pattern: str) -> tuple[int, int, int]:
    tokens = pattern.split(".")
    spelled = sum(token not in ("*", ">") for token in tokens)
    return -spelled, tokens[-1] == ">", -len(tokens)
