"""The document: a score as its author writes it, field by field; and its JSON Schema.

Owns which keys there are, their types, defaults and descriptions: what stands here is what editors complete, what `ensemble
schema` prints and what structure is judged by. Knows nothing of what values mean: `load` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ensemble.motif import KINDS, PARTS
from ensemble.score.units import DURATION, RATE, SIZE

TOKEN = r"[A-Za-z0-9_-]+"
TOPIC = rf"^{TOKEN}(\.{TOKEN})*$"
PATTERN = rf"^(({TOKEN}|\*)(\.({TOKEN}|\*))*(\.>)?|>)$"
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
LOOKUP = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\[(key|data(\.[^.\s\[\]]+)+)\]$"
PLAY = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"


def _like(pattern: str, *examples: str) -> Meta:
    """How a text looks, for editors; `load` says it in words when one looks otherwise."""
    return Meta(extra_json_schema={"pattern": pattern, "examples": list(examples)})


def _about(text: str) -> Meta:
    return Meta(description=text)


Duration = (
    Annotated[str, _like(f"^{DURATION}$", "100ms", "5s", "30m", "24h")]
    | Annotated[int, Meta(extra_json_schema={"const": 0})]
    | Annotated[float, Meta(extra_json_schema={"const": 0})]
)
Size = Annotated[str, _like(f"^{SIZE}$", "512MiB", "1GiB")] | Annotated[int, Meta(ge=0)]
Topic = Annotated[str, _like(TOPIC, "order.placed")]
Pattern = Annotated[str, _like(PATTERN, "order.placed", "order.*", "order.>")]
Path = Annotated[str, _like(r"^[^.\s\[\]]+(\.[^.\s\[\]]+)*$", "order_id", "customer.id")]
Play = Annotated[str, _like(PLAY, "players.shop:charge")]
Listened = Annotated[Any, Meta(extra_json_schema={"$ref": "#/$defs/Motif"})]
Settings = Annotated[
    dict[str, Any], _about("Settings, given as keyword arguments: to the function, or to the class when it is made.")
]


class _Doc(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    pass


class RetainDoc(_Doc):
    """How much of the past is kept; what nobody needs any more and is older, or is too much, goes."""

    time: Annotated[Duration | None, _about("How long events are kept at the least.")] = None
    size: Annotated[Size | None, _about("How much is kept, the newest of it: the oldest goes where there is more.")] = None


class RetainAllDoc(RetainDoc):
    """How much of the past of the whole log is kept, and where the rest goes."""

    archive: Annotated[
        str | None,
        _about("A folder or url (s3, gs, az) outside of the store: what goes is put there first, as it was."),
    ] = None


class PersonalDoc(_Doc):
    """Whose data it is, so that they can be forgotten."""

    subject: Annotated[
        str,
        _about("Path into it of whose it is; key: the key of the event, or that by which a state is kept."),
        _like(r"^[^.\s\[\]]+(\.[^.\s\[\]]+)*$", "customer_id", "key"),
    ]
    fields: Annotated[list[Path] | Path, _about("Paths into it of what is theirs; left out: all of it.")] = []


class EventDoc(_Doc):
    """What may be said under a topic, or under all topics of a pattern."""

    about: Annotated[str, _about("What has happened when this is said.")] = ""
    key: Annotated[Path | None, _about("Path into data of the event's key: events of one key are heard in order.")] = None
    schema: Annotated[
        dict[str, Any] | None,
        Meta(
            description="JSON Schema 2020-12 of data.",
            extra_json_schema={"$ref": "https://json-schema.org/draft/2020-12/schema"},
        ),
    ] = None
    type: Annotated[
        Play | None,
        _about("A Python type of data, module:Name: a msgspec Struct, dataclass, TypedDict or pydantic model."),
    ] = None
    retain: Annotated[RetainDoc | None, _about("How many of these events are kept, if fewer than of all.")] = None
    compact: Annotated[bool, _about("Whether of each key only the newest of these events is kept.")] = False
    personal: Annotated[PersonalDoc | None, _about("Whose data it is, so that they can be forgotten.")] = None
    version: Annotated[
        int, Meta(ge=1, le=1_000_000, description="The version of its schema or type; events keep the one they were said in.")
    ] = 1
    upcast: Annotated[
        list[Play] | dict[str, Play],
        _about("Functions that make data of version 1, 2, ... data of the next one: a list from 1 on, or by version."),
    ] = []


class SectionDoc(_Doc):
    """The running instances of a player (its consumer group)."""

    min: Annotated[int, Meta(ge=0, le=10_000, description="Instances that always run.")] = 0
    max: Annotated[int, Meta(ge=1, le=10_000, description="Instances that run at the most.")] = 1
    batch: Annotated[int, Meta(ge=1, le=100_000, description="Events that an instance is given at a time, at the most.")] = 1000
    linger: Annotated[Duration, _about("How long to wait for a batch to fill.")] = 0
    idle: Annotated[Duration, _about("After how long without work an instance ends.")] = "30s"
    cpus: Annotated[float, Meta(ge=0, description="CPUs that an instance needs (stage ray).")] = 1.0
    gpus: Annotated[float, Meta(ge=0, description="GPUs that an instance needs (stage ray).")] = 0.0
    memory: Annotated[Size, _about("Memory that an instance needs (stage ray).")] = 0
    resources: Annotated[
        dict[str, Annotated[float, Meta(gt=0)]],
        _about("Custom resources that an instance needs, by their names on the cluster (stage ray)."),
    ] = {}
    cooldown: Annotated[
        Duration, _about("How long a section must have wanted fewer instances before it has fewer (stage ray).")
    ] = "10s"


class RetryDoc(_Doc):
    """When an event that failed is tried again. Attempt n+1 comes min(most, first * factor^(n-1)) after attempt n."""

    attempts: Annotated[int, Meta(ge=1, le=1_000_000, description="Attempts in all, the first among them; 1: never again.")] = 5
    first: Annotated[Duration, _about("Time between the first attempt and the second.")] = "100ms"
    factor: Annotated[float, Meta(ge=1, le=1000, description="By what it grows each time.")] = 2.0
    most: Annotated[Duration, _about("The longest time between two attempts.")] = "30s"
    jitter: Annotated[float, Meta(ge=0, le=1, description="The share of each time that is left to chance, 0 to 1.")] = 0.1


class FailureDoc(_Doc):
    """Say an event when the attempts are used up."""

    emit: Annotated[Topic, _about("The topic of that event.")]


class StubDoc(_Doc):
    """Play something else in a player's place."""

    stub: Annotated[Play, _about("Its code, module:function or module:Class, called as the player is.")]


class StateDoc(_Doc):
    """What a player remembers by key: `ctx.state`."""

    type: Annotated[
        Play | None, _about("A Python type of it, module:Name, of which every field has a default; left out: a dict.")
    ] = None
    expire: Annotated[Duration | None, _about("How long a key's state stays after it was last written.")] = None
    personal: Annotated[PersonalDoc | None, _about("Whose it is, so that they can be forgotten.")] = None


Lookup = Annotated[str, _like(LOOKUP, "customers[data.customer_id]", "catalog[key]")]


class PlayerDoc(_Doc, rename={"with_": "with", "from_": "from"}):
    """A stateless function or class that listens to a motif and may answer with events."""

    on: Annotated[Listened, _about("The motif that it listens for.")]
    play: Annotated[
        Play | None, _about("Its code, module:function or module:Class; may be given to ensemble.open instead.")
    ] = None
    about: str = ""
    group: Annotated[str, _about("The name of a group of players, for drawing.")] = ""
    emits: Annotated[list[Pattern] | Pattern, _about("Topics that it may say; saying anything else is an error.")] = []
    with_: Settings = {}
    section: SectionDoc = msgspec.field(default_factory=SectionDoc)
    retry: RetryDoc = msgspec.field(default_factory=RetryDoc)
    timeout: Annotated[Duration | None, _about("How long it may take for one event; then that attempt has failed.")] = None
    on_failure: Annotated[
        Literal["dead-letter", "hold"] | FailureDoc,
        _about(
            "What becomes of an event when its attempts are used up: a dead letter, hold (its key waits), or an event is said."
        ),
    ] = "dead-letter"
    order: Annotated[
        Literal["key", "none", "all"], _about("Which events are heard one at a time: those of one key, none, or all.")
    ] = "key"
    by: Annotated[Path | None, _about("Path into data to order and keep state by, instead of the event's key.")] = None
    state: Annotated[StateDoc, _about("What it remembers by key.")] = msgspec.field(default_factory=StateDoc)
    reads: Annotated[
        list[str] | str, _about("Players whose state of the same key it may look up, in ctx.tables; it can't write it.")
    ] = []
    enrich: Annotated[
        dict[str, Lookup],
        _about("Fields that the broker adds to what it hears: the state that a player keeps for a key, PLAYER[data.PATH]."),
    ] = {}
    from_: Annotated[
        str,
        Meta(
            description="Where a new player begins to hear: at the start of the log, now, or at a time.",
            extra_json_schema={"pattern": r"^(start|now|[0-9]{4}-.*)$", "examples": ["start", "now", "2026-01-31T08:00:00Z"]},
        ),
    ] = "start"
    outside: Annotated[
        Literal["allow", "mute"] | StubDoc | None,
        _about(
            "What becomes of its effects outside in a take that is not the current one: allow, mute (it is not called), or a "
            "stub is called. Left out: it is called, with ctx.live false."
        ),
    ] = None


class SourceDoc(_Doc, rename={"with_": "with"}):
    """What starts the music: a file, a clock, or a player that only speaks."""

    about: str = ""
    file: Annotated[
        str | None, _about("A file of JSON lines, beside the score; .gz is read as it is, - is standard input.")
    ] = None
    every: Annotated[Duration | None, _about("Say an event every so often.")] = None
    cron: Annotated[
        str | None,
        Meta(
            description="Say an event at moments as cron writes them: minute, hour, day of the month, month, day of the week.",
            extra_json_schema={"examples": ["0 3 * * *", "*/15 8-18 * * 1-5"]},
        ),
    ] = None
    zone: Annotated[
        str | None, Meta(description="The time zone in which cron: is read.", extra_json_schema={"examples": ["Europe/Vienna"]})
    ] = None
    play: Annotated[Play | None, _about("Code that gives events, module:function or module:Class.")] = None
    with_: Settings = {}
    topic: Annotated[Topic | None, _about("The topic of what it says; lines of a file are then the data alone.")] = None
    data: Annotated[Any, _about("The data that an every: or cron: source says.")] = None
    key: Annotated[str | None, _about("The key of what it says.")] = None
    rate: Annotated[
        Annotated[str, _like(f"^{RATE}$", "500/s", "30/m")] | Annotated[float, Meta(gt=0)] | None,
        _about("How fast, at the most; left out: as fast as it is heard."),
    ] = None
    emits: Annotated[list[Pattern] | Pattern, _about("Topics that it may say.")] = []


class StageDoc(_Doc):
    """Where the band plays."""

    kind: Annotated[Literal["solo", "ray"], _about("One process, or a Ray cluster.")] = "solo"
    shards: Annotated[int, Meta(ge=1, le=10_000, description="Into how many shards the log is divided.")] = 1
    address: Annotated[str | None, _about("The address of the Ray cluster.")] = None
    runtime_env: Annotated[
        dict[str, Any], _about("What Ray brings to the nodes: working_dir, pip, env_vars and the like (stage ray).")
    ] = {}


class StoreDoc(_Doc):
    """Where the log is kept."""

    url: Annotated[
        str | None,
        Meta(
            description="memory:, a directory, objects:PATH, s3://, gs:// or az://; left out: .ensemble/NAME where it plays.",
            extra_json_schema={"examples": [".ensemble/shop", "memory:", "s3://bucket/shop"]},
        ),
    ] = None
    durability: Annotated[Literal["disk", "memory"], _about("Whether an event is on the disk before it is heard.")] = "disk"
    linger: Annotated[
        Duration | None, _about("How long a commit waits for more; left out: 50ms in an object store, 0 elsewhere.")
    ] = None
    dedupe: Annotated[Duration, _about("How long the id of a published event is remembered.")] = "24h"
    dedupe_most: Annotated[int, Meta(ge=0, le=100_000_000, description="How many ids are remembered at the most.")] = 200_000
    blob_above: Annotated[
        Size | None, _about("Data that is larger is kept once, beside the log, and fetched when somebody looks at it.")
    ] = None
    compress: Annotated[Literal["none", "zstd"], _about("How finished segments are compressed.")] = "none"


class AuditDoc(_Doc):
    """Where the head of the log is anchored while the band plays, so that a log that was cut off or made anew is noticed."""

    anchor: Annotated[
        str,
        Meta(
            description="Outside of the store: a path, or a url of s3, gs, az or https.",
            extra_json_schema={"examples": ["/mnt/worm/shop.jsonl", "s3://vault/shop", "https://collector.example/shop"]},
        ),
    ]
    key: Annotated[str, _about("The file with the private key that signs: ensemble audit --new-key FILE makes one.")]
    every: Annotated[Duration, _about("How often, while something is said.")] = "1h"


class SilenceDoc(_Doc):
    """A warning of `ensemble check` that is not to be told again."""

    code: Annotated[str, _about("The warning's code, such as unheard-event.")]
    reason: Annotated[str, _about("Why it is right as it is.")]
    at: Annotated[str | None, _about("The place, such as players.audit, and all below it; left out: anywhere.")] = None


class Document(_Doc):
    """A score of Ensemble: which player listens to what, and what it may answer."""

    name: Annotated[
        str,
        Meta(description="The name of the band.", extra_json_schema={"pattern": NAME, "examples": ["acme-fitness"]}),
    ]
    ensemble: Annotated[Literal[1], _about("The version of this format.")] = 1
    about: Annotated[str, _about("What happens in this score.")] = ""
    include: Annotated[list[str] | str, _about("Other scores, beside this one, to merge into it.")] = []
    events: Annotated[
        dict[str, EventDoc],
        Meta(
            description="What may be said, by topic or pattern.",
            extra_json_schema={"propertyNames": {"pattern": PATTERN}},
        ),
    ] = {}
    motifs: Annotated[
        dict[str, Listened],
        Meta(
            description="Named motifs, for any player to listen to.",
            extra_json_schema={"propertyNames": {"pattern": TOPIC}},
        ),
    ] = {}
    players: Annotated[
        dict[str, PlayerDoc],
        Meta(description="The players, by name.", extra_json_schema={"propertyNames": {"pattern": NAME}}),
    ] = {}
    sources: Annotated[
        dict[str, SourceDoc],
        Meta(description="What starts the music, by name.", extra_json_schema={"propertyNames": {"pattern": NAME}}),
    ] = {}
    stage: StageDoc = msgspec.field(default_factory=StageDoc)
    store: StoreDoc = msgspec.field(default_factory=StoreDoc)
    retain: Annotated[RetainAllDoc | None, _about("How much of the past is kept; left out: all.")] = None
    audit: Annotated[AuditDoc | None, _about("Where the head of the log is anchored while the band plays.")] = None
    silence: Annotated[list[SilenceDoc], _about("Warnings that are not to be told again.")] = []
    costs: Annotated[
        dict[str, Any],
        _about("What things cost, by name: yours to fill. Under requests: the prices of what an object store is asked."),
    ] = {}


def cleaned(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without what means nothing to it: `x-` keys, and keys without a value. Shares what it does not change."""
    out: dict[str, Any] = _fields(document)
    for name, below in (("events", ("retain",)), ("players", ("section", "retry", "on_failure", "outside")), ("sources", ())):
        entries = out.get(name)
        if isinstance(entries, Mapping):
            out[name] = {key: _fields({} if entry is None else entry) for key, entry in entries.items()}
            for entry in out[name].values():
                for part in below:
                    if isinstance(entry, dict) and part in entry:
                        entry[part] = _fields(entry[part])
    for name in ("stage", "store", "retain", "audit"):
        if name in out:
            out[name] = _fields(out[name])
    if isinstance(out.get("silence"), list):
        out["silence"] = [_fields(entry) for entry in out["silence"]]
    return out


def _fields(value: Any) -> Any:
    """A mapping without these keys; what is no mapping, as it is."""
    if not isinstance(value, Mapping):
        return value
    return {key: below for key, below in value.items() if below is not None and not key.startswith("x-")}


# The schema


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the score format: what editors complete and check scores by."""
    (root,), definitions = msgspec.json.schema_components([Document], ref_template="#/$defs/{name}")
    definitions = dict(sorted(definitions.items()))
    for definition in definitions.values():
        definition.pop("title", None)
        definition["patternProperties"] = {"^x-": {"description": "Yours: Ensemble does not read it."}}
    definitions["Motif"], definitions["Part"] = _motif_schemas()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ensemble score",
        **root,
        "$defs": definitions,
    }


def _motif_schemas() -> tuple[dict[str, Any], dict[str, Any]]:
    """A motif, and a part of a sequence or of an all."""
    motif = {"$ref": "#/$defs/Motif"}
    parts = {"type": "array", "minItems": 2}
    duration = {"type": "string", "pattern": f"^{DURATION}$", "examples": ["30m"]}
    fields: dict[str, Any] = {
        "event": {"type": "string", "pattern": PATTERN, "description": "One event of this topic or pattern."},
        "where": {
            "type": "string",
            "description": "A condition in CEL over data, key, topic and time.",
            "examples": ["data.total > 100"],
        },
        "as": {
            "type": "string",
            "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
            "description": "A label, for conditions to speak of it.",
        },
        "all": {**parts, "items": {"$ref": "#/$defs/Part"}, "description": "Each once, in any order, of one key."},
        "seq": {**parts, "items": {"$ref": "#/$defs/Part"}, "description": "In this order; others may lie between."},
        "count": {**motif, "description": "The times-th of these."},
        "times": {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 1_000_000},
                {"type": "string", "pattern": r"^[0-9]+\.\.[0-9]*$", "examples": ["2..5", "3.."]},
            ],
            "description": "How often; of a range as many as come.",
        },
        "any": {"type": "array", "minItems": 1, "items": motif, "description": "Any of these, as a list alone would say."},
        "not": {**motif, "description": "None of these between its neighbours."},
        "next": {**motif, "description": "The very next event."},
        "optional": {**motif, "description": "Taken if it comes."},
        "every": {**duration, "description": "All of each such time, one after the other."},
        "sliding": {**duration, "description": "How far back a window looks that is told every so often."},
        "gap": {**duration, "description": "All until nothing has come for so long: a session."},
        "of": motif,
        "after": {"enum": ["skip-past-last", "no-skip"], "description": "What becomes of the events of a match."},
        "time": {"enum": ["broker", "event"], "description": "Whose time counts."},
        "lateness": {**duration, "description": "With time: event: how late events may come."},
        "most": {"type": "integer", "minimum": 1, "description": "Partial matches that may be open at a time."},
        "overflow": {"enum": ["oldest", "newest"], "description": "Which of them are given up where there are more."},
        "within": {**duration, "description": "The time that it may take."},
        "by": {"type": "string", "description": "Path into data to correlate by, instead of the key."},
    }
    needed = {"count": ["count", "times"], "every": ["every", "of"], "gap": ["gap", "of"]}
    every_form = {
        kind: {
            "type": "object",
            "properties": {key: fields[key] for key in keys},
            "patternProperties": {"^x-": {}},
            "required": needed.get(kind, [kind]),
            "additionalProperties": False,
        }
        for kind, keys in KINDS.items()
    }
    forms = [form for kind, form in every_form.items() if kind not in PARTS]
    topic = {"type": "string", "pattern": PATTERN, "description": "A topic or pattern, or the name of a motif."}
    any_of = {"type": "array", "items": motif, "minItems": 1, "description": "Any of these."}
    whole = {
        "title": "Motif",
        "description": "The pattern of events that a player listens for.",
        "anyOf": [topic, any_of, *forms],
    }
    part = {
        "title": "Part",
        "description": "A part of a sequence, or of an all.",
        "anyOf": [motif, *(every_form[kind] for kind in PARTS)],
    }
    return whole, part
