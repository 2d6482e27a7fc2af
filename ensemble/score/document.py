"""The document: a score as its author writes it, field by field; and its JSON Schema.

Owns which keys there are, their types, defaults and descriptions: what stands here is what editors complete, what `ensemble
schema` prints and what structure is judged by. Knows nothing of what values mean: `load` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ensemble.motif import KINDS
from ensemble.score.finding import Where
from ensemble.score.units import DURATION, RATE, SIZE

TOKEN = r"[A-Za-z0-9_-]+"
TOPIC = rf"^{TOKEN}(\.{TOKEN})*$"
PATTERN = rf"^(({TOKEN}|\*)(\.({TOKEN}|\*))*(\.>)?|>)$"
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
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


class SectionDoc(_Doc):
    """The running instances of a player (its consumer group)."""

    min: Annotated[int, Meta(ge=0, le=10_000, description="Instances that always run.")] = 0
    max: Annotated[int, Meta(ge=1, le=10_000, description="Instances that run at the most.")] = 1
    batch: Annotated[int, Meta(ge=1, le=100_000, description="Events that an instance is given at a time, at the most.")] = 1000
    linger: Annotated[Duration, _about("How long to wait for a batch to fill.")] = 0
    idle: Annotated[Duration, _about("After how long without work an instance ends.")] = "30s"
    cpus: Annotated[float, Meta(ge=0, description="CPUs that an instance needs (stage ray).")] = 1.0
    gpus: Annotated[float, Meta(ge=0, description="GPUs that an instance needs (stage ray).")] = 0.0
    memory: Annotated[
        Annotated[str, _like(f"^{SIZE}$", "512MiB", "1GiB")] | Annotated[int, Meta(ge=0)],
        _about("Memory that an instance needs (stage ray)."),
    ] = 0


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
    from_: Annotated[Literal["start", "now"], _about("Where a new player begins to hear: the start of the log, or now.")] = (
        "start"
    )


class SourceDoc(_Doc, rename={"with_": "with"}):
    """What starts the music: a file, a clock, or a player that only speaks."""

    about: str = ""
    file: Annotated[
        str | None, _about("A file of JSON lines, beside the score; .gz is read as it is, - is standard input.")
    ] = None
    every: Annotated[Duration | None, _about("Say an event every so often.")] = None
    play: Annotated[Play | None, _about("Code that gives events, module:function or module:Class.")] = None
    with_: Settings = {}
    topic: Annotated[Topic | None, _about("The topic of what it says; lines of a file are then the data alone.")] = None
    data: Annotated[Any, _about("The data that an every: source says.")] = None
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


class StoreDoc(_Doc):
    """Where the log is kept."""

    url: Annotated[
        str | None,
        Meta(
            description="memory:, a directory, or s3://, gs://, az://; left out: .ensemble/NAME in the working directory.",
            extra_json_schema={"examples": [".ensemble/shop", "memory:", "s3://bucket/shop"]},
        ),
    ] = None
    durability: Annotated[Literal["disk", "memory"], _about("Whether an event is on the disk before it is heard.")] = "disk"
    dedupe: Annotated[Duration, _about("How long the id of a published event is remembered.")] = "24h"
    dedupe_most: Annotated[int, Meta(ge=0, le=100_000_000, description="How many ids are remembered at the most.")] = 200_000


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
    silence: Annotated[list[SilenceDoc], _about("Warnings that are not to be told again.")] = []
    costs: Annotated[dict[str, Any], _about("What things cost, by name: yours to fill.")] = {}


def cleaned(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without what means nothing to it: `x-` keys, and keys without a value. Shares what it does not change."""
    out = _fields(document)
    for name, below in (("events", ()), ("players", ("section", "retry", "on_failure")), ("sources", ())):
        entries = out.get(name)
        if isinstance(entries, Mapping):
            out[name] = {key: _fields({} if entry is None else entry) for key, entry in entries.items()}
            for entry in out[name].values():
                for part in below:
                    if isinstance(entry, dict) and part in entry:
                        entry[part] = _fields(entry[part])
    for name in ("stage", "store"):
        if name in out:
            out[name] = _fields(out[name])
    if isinstance(out.get("silence"), list):
        out["silence"] = [_fields(entry) for entry in out["silence"]]
    return out


def _fields(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: below for key, below in value.items() if below is not None and not key.startswith("x-")}


# The schema


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the score format: what editors complete and check scores by."""
    (root,), definitions = msgspec.json.schema_components([Document], ref_template="#/$defs/{name}")
    definitions = dict(sorted(definitions.items()))
    for name, definition in definitions.items():
        if definition.get("type") == "object":
            definition.pop("title", None)
            definition["patternProperties"] = {"^x-": {"description": "Yours: Ensemble does not read it."}}
        del name
    definitions["Motif"] = _motif_schema()
    definitions["Part"] = _part_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ensemble score",
        **root,
        "$defs": definitions,
    }


def structure() -> dict[str, Any]:
    """The same without what `load` judges, and words, better: how texts look, and motifs."""
    schema: dict[str, Any] = _without_looks(json_schema())
    schema["$defs"]["Motif"] = {}
    return schema


def _without_looks(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_looks(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    looks = {"pattern", "examples", "propertyNames", "const"}
    return {
        name: _without_looks(value)
        for name, value in schema.items()
        if name not in looks and not (name == "$ref" and str(value).startswith("http"))
    }


def _motif_schema() -> dict[str, Any]:
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
        "all": {**parts, "items": motif, "description": "Each once, in any order, of one key."},
        "seq": {**parts, "items": {"$ref": "#/$defs/Part"}, "description": "In this order; others may lie between."},
        "count": {**motif, "description": "The times-th of these."},
        "times": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
        "every": {**duration, "description": "All of each such time, one after the other."},
        "of": motif,
        "within": {**duration, "description": "The time that it may take."},
        "by": {"type": "string", "description": "Path into data to correlate by, instead of the key."},
    }
    needed = {"count": ["count", "times"], "every": ["every", "of"]}
    forms = [
        {
            "type": "object",
            "properties": {key: fields[key] for key in keys},
            "patternProperties": {"^x-": {}},
            "required": needed.get(kind, [kind]),
            "additionalProperties": False,
        }
        for kind, keys in KINDS.items()
        if kind != "not"
    ]
    topic = {"type": "string", "pattern": PATTERN, "description": "A topic or pattern, or the name of a motif."}
    any_of = {"type": "array", "items": motif, "minItems": 1, "description": "Any of these."}
    return {
        "title": "Motif",
        "description": "The pattern of events that a player listens for.",
        "anyOf": [topic, any_of, *forms],
    }


def _part_schema() -> dict[str, Any]:
    without = {
        "type": "object",
        "properties": {"not": {"$ref": "#/$defs/Motif", "description": "None of these between its neighbours."}},
        "required": ["not"],
        "additionalProperties": False,
    }
    return {"title": "Part", "description": "A part of a sequence.", "anyOf": [{"$ref": "#/$defs/Motif"}, without]}


# Judging structure


class Fault(msgspec.Struct, frozen=True):
    """Something in the document's structure that is wrong. `word` was found where one of `known` should be."""

    where: Where
    code: str
    wrong: str
    cure: str = ""
    word: str = ""
    known: tuple[str, ...] = ()
    is_key: bool = False


def read(document: Mapping[str, Any]) -> tuple[Document, list[Fault]]:
    """The document as typed data, and every fault of its structure; what is faulty is left out of the data."""
    clean = cleaned(document)
    try:
        return msgspec.convert(clean, Document), []
    except msgspec.ValidationError:
        return _prune(clean)


def _prune(document: dict[str, Any]) -> tuple[Document, list[Fault]]:
    """Leave out what is faulty, and what can't stand without it, until the rest is whole."""
    import jsonschema_rs

    schema = structure()
    validator = jsonschema_rs.Draft202012Validator(schema, offline=True)
    faults: list[Fault] = []
    document = _copied(document)
    for round_ in range(10):
        errors = list(validator.iter_errors(document))
        if not errors:
            break
        if round_ == 0:
            faults = [fault for error in errors for fault in _faults(error, schema)]
        for error in sorted(errors, key=lambda each: [str(part).zfill(9) for part in each.instance_path], reverse=True):
            _drop(document, error)
    return msgspec.convert(document, Document), faults


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(below) for key, below in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _drop(document: dict[str, Any], error: Any) -> None:
    where, kind = list(error.instance_path), error.kind.as_dict()
    keyword = error.kind.name
    found = _at(document, where)
    if keyword == "additionalProperties" and isinstance(found, dict):
        for name in kind["unexpected"]:
            found.pop(name, None)
    elif not where:
        document["name"] = "unnamed"  # the only key that a score can't be without
    else:
        above = _at(document, where[:-1])
        if isinstance(above, dict):
            above.pop(where[-1], None)
        elif isinstance(above, list) and where[-1] < len(above):
            del above[where[-1]]


def _at(value: Any, where: Sequence[str | int]) -> Any:
    for part in where:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _faults(error: Any, schema: dict[str, Any]) -> Iterator[Fault]:
    """One error of the validator in words."""
    where, kind, keyword = tuple(error.instance_path), error.kind.as_dict(), error.kind.name
    holder = _at(schema, list(error.schema_path)[:-1]) or {}
    if keyword == "additionalProperties":
        known = tuple(holder.get("properties", ()))
        for name in kind["unexpected"]:
            cure = f"known here: {', '.join(sorted(known))}"
            yield Fault((*where, name), "unknown-key", f"unknown key {name!r}", cure, name, known, is_key=True)
    elif keyword == "required":
        name = kind["property"].strip('"')
        yield Fault(where, "missing-key", f"{name}: is missing", _MISSING.get(name, f"add {name}:"))
    else:
        found = shown(error.instance)
        options = list(_options(holder, schema))
        word = error.instance if isinstance(error.instance, str) else ""
        expected = expectation(holder, schema)
        yield Fault(where, "wrong-value", f"{found} is not {expected}", "", word, tuple(map(str, options)))


_MISSING = {
    "name": "a score has a name: name: my-band",
    "on": "say what the player listens for, as in on: order.placed",
    "emit": "name the topic of the event that is said: {emit: order.failed}",
    "reason": "say why the warning is not to be told again: reason: ...",
    "code": "name the warning's code, as in code: unheard-event",
}


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref.startswith("#/$defs/"):
        return root["$defs"][ref.removeprefix("#/$defs/")]  # type: ignore[no-any-return]
    return schema


def _options(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[Any]:
    schema = _resolved(schema, root)
    yield from schema.get("enum", ())
    for part in schema.get("anyOf", ()):
        yield from _options(part, root)


def expectation(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """What a part of the schema allows, in words."""
    schema = _resolved(schema, root)
    if "anyOf" in schema:
        parts = dict.fromkeys(
            expectation(part, root) for part in schema["anyOf"] if _resolved(part, root).get("type") != "null"
        )
        if {"text", "a whole number", "a number"} <= set(parts):  # a duration
            return "a duration, such as 100ms, 5s or 24h"
        return " or ".join(parts)
    if "enum" in schema:
        return (
            " or ".join(map(str, schema["enum"]))
            if len(schema["enum"]) < 3
            else "one of " + ", ".join(map(str, schema["enum"]))
        )
    kind = schema.get("type")
    if kind == "object":
        known = schema.get("properties")
        return f"a mapping with {', '.join(sorted(known))}" if known else "a mapping"
    if kind == "array":
        return f"a list of {expectation(schema.get('items', {}), root)}"
    bounds = [
        f"{words} {schema[name]}"
        for name, words in (("minimum", "at least"), ("exclusiveMinimum", "more than"), ("maximum", "at most"))
        if name in schema
    ]
    word = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}.get(
        str(kind), "right"
    )
    return f"{word} of {' and '.join(bounds)}" if bounds and word != "text" else word


def shown(value: Any) -> str:
    """A value as it is shown in a sentence."""
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = "true" if value is True else "false" if value is False else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
