"""From the typed document to the model: what single values mean, and which can't stand together.

Owns every judgement that takes no look at the outside world: topics, motifs, durations, sizes, rates, schemas. Each fault is
reported, and the next value is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from ensemble.errors import InvalidEvent
from ensemble.event import microseconds
from ensemble.motif import PATH, Grammar, Motif, Report, Topic, alternatives, pattern_fault
from ensemble.score import document as doc
from ensemble.score import units
from ensemble.score.codes import CODES
from ensemble.score.costs import KINDS, price
from ensemble.score.finding import Where
from ensemble.score.model import (
    NOW,
    AuditSpec,
    Emit,
    EventSpec,
    Lookup,
    PersonalSpec,
    Places,
    PlayerSpec,
    Retain,
    RetryPolicy,
    Score,
    Section,
    Silence,
    SourceSpec,
    StageSpec,
    StateSpec,
    StoreSpec,
    Stub,
)

T = TypeVar("T")

_NAME, _PLAY, _LOOKUP = re.compile(doc.NAME), re.compile(doc.PLAY), re.compile(doc.LOOKUP)
LONGEST_NAME = 100
BLOB_LEAST = 1024
SCHEMES = ("memory", "file", "s3", "gs", "az")


def build(document: doc.Document, report: Report, *, folder: str, plain: Mapping[str, Any], places: Places) -> Score:
    """The score of a document. What is wrong is reported, and stands in the score as if it had been left out."""
    return _Builder(document, report).score(folder, plain, places)


class _Builder:
    def __init__(self, document: doc.Document, report: Report) -> None:
        self._document = document
        self._report = report
        self._grammar = Grammar(
            partial(report, code="motif"), duration_us=duration_us, check_where=_check_where, motifs=document.motifs
        )

    def score(self, folder: str, plain: Mapping[str, Any], places: Places) -> Score:
        document = self._document
        self._name(document.name, ("name",))
        events = {topic: self._event(topic, each) for topic, each in document.events.items()}
        motifs = {name: motif for name in document.motifs if (motif := self._named_motif(name)) is not None}
        players = {name: self._player(name, each) for name, each in document.players.items()}
        sources = {name: self._source(name, each) for name, each in document.sources.items()}
        for name in document.sources:
            if name in document.players:
                self._report(
                    ("sources", name), f"a player is called {name!r} too", "give one of them another name", is_key=True
                )
        return Score(
            name=document.name,
            about=document.about,
            events=events,
            motifs=motifs,
            players={name: player for name, player in players.items() if player is not None},
            sources=sources,
            stage=StageSpec(
                kind=document.stage.kind,
                shards=document.stage.shards,
                address=document.stage.address,
                runtime_env=document.stage.runtime_env,
            ),
            store=self._store(document.store),
            retain=self._retain_all(document.retain),
            audit=None if document.audit is None else self._audit(document.audit, ("audit",)),
            silence=tuple(self._silence(i, each) for i, each in enumerate(document.silence)),
            costs=self._costs(document.costs),
            folder=folder,
            document=plain,
            places=places,
        )

    # Events and motifs

    def _event(self, topic: str, event: doc.EventDoc) -> EventSpec:
        at: Where = ("events", topic)
        self._topic(topic, at, wildcards=True, is_key=True)
        self._path(event.key, (*at, "key"))
        self._play(event.type, (*at, "type"), "a type, as in players.shop.events:OrderPlaced")
        if event.schema is not None:
            from ensemble.score.schemas import schema_faults

            for where, wrong, cure in schema_faults(event.schema):
                self._report((*at, "schema", *where), wrong, cure)
        return EventSpec(
            topic=topic,
            about=event.about,
            key=event.key,
            schema=event.schema,
            type=event.type,
            retain=self._retain(event.retain, (*at, "retain")),
            compact=event.compact,
            personal=self._personal(event.personal, (*at, "personal")),
            version=event.version,
            upcast=self._upcast(event, at),
        )

    def _retain(self, retain: doc.RetainDoc | None, at: Where) -> Retain | None:
        if retain is None:
            return None
        if retain.time is None and retain.size is None:
            self._report(at, "it sets no bound", "write time: or size:, or leave it out to keep all")
        return self._bounds(retain, at)

    def _retain_all(self, retain: doc.RetainAllDoc | None) -> Retain | None:
        """What holds for the whole log. An archive alone is enough where topics say what goes."""
        if retain is None or retain.archive is None:
            return self._retain(retain, ("retain",))
        at: Where = ("retain", "archive")
        topics = self._document.events.values()
        if retain.time is None and retain.size is None and not any(event.retain or event.compact for event in topics):
            self._report(at, "nothing ever goes, so nothing is archived", "write time: or size: beside it, or leave it out")
        scheme, colon, place = retain.archive.partition("://")
        is_nowhere = colon and (scheme not in SCHEMES or not place.strip("/"))
        if not retain.archive or is_nowhere or retain.archive.startswith(("memory:", "ray:")) or "#" in retain.archive:
            cure = f"write a folder, or one of {', '.join(each + '://' for each in SCHEMES[2:])} with a bucket, without #"
            self._report(at, f"there can be no archive at {retain.archive!r}", cure)
        return self._bounds(retain, ("retain",), retain.archive)

    def _bounds(self, retain: doc.RetainDoc, at: Where, archive: str = "") -> Retain:
        time_us = None if retain.time is None else self._read(duration_us, retain.time, (*at, "time"))
        size = None if retain.size is None else self._read(units.size_bytes, retain.size, (*at, "size"))
        return Retain(time_us=time_us, size=size, archive=archive)

    def _personal(self, personal: doc.PersonalDoc | None, at: Where) -> PersonalSpec | None:
        if personal is None:
            return None
        self._path(personal.subject, (*at, "subject"))
        fields = [personal.fields] if isinstance(personal.fields, str) else list(personal.fields)
        for i, field in enumerate(fields):
            where = (*at, "fields") if isinstance(personal.fields, str) else (*at, "fields", i)
            self._path(field, where)
            if field in fields[:i]:
                self._report(where, f"{field!r} is there twice", "remove one of them")
        return PersonalSpec(personal.subject, tuple(fields))

    def _upcast(self, event: doc.EventDoc, at: Where) -> dict[int, str]:
        """Version -> what lifts from it. They lead to the event's version without a gap."""
        given = event.upcast
        steps: dict[int, str] = {}
        by_name = given if isinstance(given, dict) else {str(i + 1): play for i, play in enumerate(given)}
        for i, (name, play) in enumerate(by_name.items()):
            where: Where = (*at, "upcast", name if isinstance(given, dict) else i)
            self._play(play, where, "a function, as in players.shop.events:to_2")
            if not name.isdecimal() or not 1 <= int(name) < event.version:
                wrong = f"there is no version {name} to lift from: {at[1]} has version {event.version}"
                self._report(where, wrong, "raise version:, or remove it", is_key=True)
            else:
                steps[int(name)] = play
        gaps = [version for version in range(min(steps, default=0), event.version) if version and version not in steps]
        if steps and gaps:
            wrong = f"it lifts from version {min(steps)}, and not from version {gaps[0]}"
            self._report((*at, "upcast"), wrong, f"add what lifts from version {gaps[0]} to {gaps[0] + 1}", is_key=True)
        return steps

    def _named_motif(self, name: str) -> Motif | None:
        at: Where = ("motifs", name)
        fault = pattern_fault(name, wildcards=False)
        if fault is not None:
            self._report(at, *fault, is_key=True)
        elif name in self._document.events:
            self._report(at, f"{name!r} is an event too", "give the motif another name", is_key=True)
        return self._grammar.named(name)

    # Players

    def _player(self, name: str, player: doc.PlayerDoc) -> PlayerSpec | None:
        at: Where = ("players", name)
        self._name(name, at, is_key=True)
        self._play(player.play, (*at, "play"), "a function or class, as in players.shop:charge")
        on = self._grammar.parse(player.on, (*at, "on"))
        if player.order != "key" and player.by is not None:
            self._report((*at, "by"), f"it has no meaning with order: {player.order}", "remove one of them")
        elif player.by is not None and on is not None and any(not isinstance(each, Topic) for each in alternatives(on)):
            wrong = "a player orders by a path what it hears alone, and it hears a motif of several events, which has a key"
            self._report((*at, "by"), wrong, "write by: in the motif: the value there is the key of the match")
        if player.order == "none" and player.state != doc.StateDoc():
            wrong = "with order: none a player has no key to keep state by"
            self._report((*at, "state"), wrong, "write order: key, or remove it", is_key=True)
        self._path(player.by, (*at, "by"))
        if "ctx" in player.with_:
            self._report(
                (*at, "with", "ctx"),
                "'ctx' is what a player gets from the band",
                "give the setting another name",
                is_key=True,
            )
        on_failure: Any = player.on_failure
        if isinstance(on_failure, doc.FailureDoc):
            self._topic(on_failure.emit, (*at, "on_failure", "emit"))
            on_failure = Emit(on_failure.emit)
        outside: Any = player.outside or ""
        if isinstance(outside, doc.StubDoc):
            self._play(outside.stub, (*at, "outside", "stub"), "a function or class, as in players.shop:pretend")
            outside = Stub(outside.stub)
        timeout_us = None
        if player.timeout is not None:
            timeout_us = self._read(duration_us, player.timeout, (*at, "timeout"))
            if timeout_us == 0:
                self._report(
                    (*at, "timeout"), "0 leaves no time at all", "write a duration, or leave timeout: out for no limit"
                )
        spec = PlayerSpec(
            name=name,
            on=on or Topic(">"),
            play=player.play,
            about=player.about,
            group=player.group,
            emits=self._emits(player.emits, (*at, "emits")),
            settings=player.with_,
            section=self._section(player.section, (*at, "section")),
            retry=self._retry(player.retry, (*at, "retry")),
            timeout_us=timeout_us,
            on_failure=on_failure,
            order=player.order,
            by=player.by,
            state=self._state(player.state, (*at, "state")),
            reads=self._reads(name, player, (*at, "reads")),
            enrich={field: lookup for field in player.enrich if (lookup := self._lookup(field, player, at)) is not None},
            from_=player.from_,
            from_us=self._begin(player.from_, (*at, "from")),
            outside=outside,
        )
        return None if on is None else spec

    def _state(self, state: doc.StateDoc, at: Where) -> StateSpec:
        self._play(state.type, (*at, "type"), "a type, as in players.shop.state:Cart")
        expire_us = None
        if state.expire is not None:
            expire_us = self._read(duration_us, state.expire, (*at, "expire"))
            if expire_us == 0:
                cure = "write a duration, or leave expire: out to keep it for ever"
                self._report((*at, "expire"), "0 keeps nothing at all", cure)
        return StateSpec(type=state.type, expire_us=expire_us, personal=self._personal(state.personal, (*at, "personal")))

    def _reads(self, name: str, player: doc.PlayerDoc, at: Where) -> tuple[str, ...]:
        listed = [player.reads] if isinstance(player.reads, str) else list(player.reads)
        for i, other in enumerate(listed):
            where = at if isinstance(player.reads, str) else (*at, i)
            if other == name:
                self._report(where, "a player's own state is ctx.state", "name another player")
            elif other in listed[:i]:
                self._report(where, f"{other!r} is there twice", "remove one of them")
        if listed and player.order == "none":
            wrong = "with order: none a player has no key to look up by"
            self._report(at, wrong, "write order: key, or look up by a path: enrich: {field: PLAYER[data.PATH]}")
        return tuple(listed)

    def _lookup(self, field: str, player: doc.PlayerDoc, at: Where) -> Lookup | None:
        text = player.enrich[field]
        found = _LOOKUP.fullmatch(text)
        if not field or found is None:
            wrong = f"{text!r:.80} is no lookup" if field else "an empty name for a field"
            cure = "write the player whose state it is, and the key's place: customers[data.customer_id], or customers[key]"
            self._report((*at, "enrich", field) if field else (*at, "enrich"), wrong, cure)
            return None
        other, _, path = text.removesuffix("]").partition("[")
        return Lookup(other, None if path == "key" else path.removeprefix("data."))

    def _begin(self, text: str, at: Where) -> int:
        """Where a new player begins to hear."""
        if text in ("start", "now"):
            return NOW if text == "now" else 0
        try:
            return microseconds(text)
        except InvalidEvent as error:
            known = ("start", "now")
            if text[:1].isdigit():
                self._report(at, str(error).removeprefix("time "), "write start, now, or a time")
            else:
                wrong, cure = f"{text!r:.80} is not start, now or a time", "a time is 2026-01-31T08:00:00Z"
                self._report(at, wrong, cure, word=text, known=known)
            return 0

    def _emits(self, emits: Sequence[str] | str, at: Where) -> tuple[str, ...]:
        listed = [emits] if isinstance(emits, str) else list(emits)
        for i, topic in enumerate(listed):
            where = at if isinstance(emits, str) else (*at, i)
            if topic in listed[:i]:
                self._report(where, f"{topic!r} is there twice", "remove one of them")
            elif topic in self._document.motifs:
                self._report(where, f"{topic!r} is a motif", "a player says events; name their topics")
            else:
                self._topic(topic, where, wildcards=True)
        return tuple(listed)

    def _section(self, section: doc.SectionDoc, at: Where) -> Section:
        if section.min > section.max:
            self._report((*at, "min"), f"{section.min} is more than max: {section.max}", "raise max, or lower min")
        return Section(
            min=section.min,
            max=section.max,
            batch=section.batch,
            linger_us=self._read(duration_us, section.linger, (*at, "linger")) or 0,
            idle_us=self._read(duration_us, section.idle, (*at, "idle")) or 0,
            cpus=section.cpus,
            gpus=section.gpus,
            memory=self._read(units.size_bytes, section.memory, (*at, "memory")) or 0,
            resources=section.resources,
            cooldown_us=self._read(duration_us, section.cooldown, (*at, "cooldown")) or 0,
        )

    def _retry(self, retry: doc.RetryDoc, at: Where) -> RetryPolicy:
        first_us = self._read(duration_us, retry.first, (*at, "first"))
        most_us = self._read(duration_us, retry.most, (*at, "most"))
        if first_us is not None and most_us is not None and first_us > most_us:
            self._report((*at, "first"), f"{retry.first} is more than most: {retry.most}", "raise most, or lower first")
        return RetryPolicy(
            attempts=retry.attempts,
            first_us=first_us or 0,
            factor=retry.factor,
            most_us=most_us or 0,
            jitter=retry.jitter,
        )

    # Sources, store, silence

    def _source(self, name: str, source: doc.SourceDoc) -> SourceSpec:
        at: Where = ("sources", name)
        self._name(name, at, is_key=True)
        kinds = [kind for kind in ("file", "every", "cron", "play") if getattr(source, kind) is not None]
        if len(kinds) != 1:
            has = " and ".join(f"{kind}:" for kind in kinds)
            found = f"it has {has}" if kinds else "it has none of file:, every:, cron: and play:"
            self._report(at, found, "a source has exactly one of them", is_key=True)
        self._check_source(source, kinds[0] if len(kinds) == 1 else "", at)
        every_us = None
        if source.every is not None:
            every_us = self._read(duration_us, source.every, (*at, "every"))
            if every_us is not None and every_us < 1_000:
                self._report((*at, "every"), f"{source.every} is too often", "the shortest is 1ms")
        self._cron(source, at)
        return SourceSpec(
            name=name,
            about=source.about,
            file=source.file,
            every_us=every_us,
            cron=source.cron,
            zone=source.zone or "UTC",
            play=source.play,
            settings=source.with_,
            topic=source.topic,
            data=source.data,
            key=source.key,
            rate=None if source.rate is None else self._read(units.rate, source.rate, (*at, "rate")),
            emits=self._emits(source.emits, (*at, "emits")),
        )

    def _check_source(self, source: doc.SourceDoc, kind: str, at: Where) -> None:
        self._play(source.play, (*at, "play"), "a function or class, as in players.shop:visitors")
        if source.topic is not None:
            self._topic(source.topic, (*at, "topic"))
        if source.file == "":
            self._report((*at, "file"), "an empty file name", "name a file of JSON lines, or - for standard input")
        if kind in ("every", "cron") and source.topic is None:
            self._report(at, f"{kind}: has no topic:", "name the topic of what it says, as in topic: books.close", is_key=True)
        given = {
            "data": source.data is not None,
            "key": source.key is not None,
            "rate": source.rate is not None,
            "zone": source.zone is not None,
            "with": bool(source.with_),
        }
        for field, kinds in _SOURCE_FIELDS.items():
            if given[field] and kind and kind not in kinds:
                belongs = " and ".join(f"{each}:" for each in kinds)
                self._report(
                    (*at, field),
                    f"it has no meaning with {kind}:",
                    f"it belongs to {belongs}; remove it",
                    is_key=True,
                )

    def _cron(self, source: doc.SourceDoc, at: Where) -> None:
        from ensemble.score.cron import Cron, zone_of

        if source.zone is not None and self._read(zone_of, source.zone, (*at, "zone")) is None:
            return
        if source.cron is not None:
            self._read(Cron, source.cron, (*at, "cron"))

    def _store(self, store: doc.StoreDoc) -> StoreSpec:
        url = store.url
        if url is None:
            url = f".ensemble/{self._document.name}"
        scheme, colon, _ = url.partition("://")
        if not url:
            self._report(("store", "url"), "an empty url", "write a directory, memory:, or leave url: out")
        elif colon and scheme not in SCHEMES:
            wrong = f"there is no kind of store called {scheme!r}"
            cure = f"write a directory, memory:, or one of {', '.join(each + '://' for each in SCHEMES[2:])}"
            self._report(("store", "url"), wrong, cure, word=scheme, known=SCHEMES)
        return StoreSpec(
            url=url,
            durability=store.durability,
            linger_us=None if store.linger is None else self._read(duration_us, store.linger, ("store", "linger")),
            dedupe_us=self._read(duration_us, store.dedupe, ("store", "dedupe")) or 0,
            dedupe_most=store.dedupe_most,
            blob_above=None if store.blob_above is None else self._blob_above(store.blob_above),
            compress=store.compress,
        )

    def _audit(self, audit: doc.AuditDoc, at: Where) -> AuditSpec:
        for field in ("anchor", "key"):
            if not getattr(audit, field):
                cure = "name a place outside of the store" if field == "anchor" else "name the file with the key that signs"
                self._report((*at, field), "it is empty", cure)
        every_us = self._read(duration_us, audit.every, (*at, "every"))
        if every_us == 0:
            self._report((*at, "every"), "0 is too often", "write a duration, as in 1h")
        return AuditSpec(anchor=audit.anchor, key=audit.key, every_us=every_us or 1)

    def _costs(self, costs: Mapping[str, Any]) -> Mapping[str, Any]:
        """What they say of requests has a meaning; all else is the score's own."""
        prices = costs.get("requests", {})
        if not isinstance(prices, Mapping):
            self._report(("costs", "requests"), "no prices by kind of request", "write {put: 0.005/1000, get: 0.0004/1000}")
            return costs
        for kind, value in prices.items():
            if kind not in KINDS:
                cure = f"there are {', '.join(KINDS)}"
                self._report(
                    ("costs", "requests", kind), f"no kind of request {kind!r:.80}", cure, is_key=True, word=kind, known=KINDS
                )
            else:
                self._read(price, value, ("costs", "requests", kind))
        return costs

    def _blob_above(self, size: str | int) -> int | None:
        above = self._read(units.size_bytes, size, ("store", "blob_above"))
        if above is not None and above < BLOB_LEAST:
            cure = f"the least is {BLOB_LEAST}B: what is smaller takes more room beside the log than in it"
            self._report(("store", "blob_above"), f"{size} is too small", cure)
        return above

    def _silence(self, i: int, silence: doc.SilenceDoc) -> Silence:
        at: Where = ("silence", i)
        if silence.code not in CODES:
            wrong, cure = f"there is no warning {silence.code!r}", "`ensemble check` says each one's in brackets"
            self._report((*at, "code"), wrong, cure, word=silence.code, known=CODES)
        elif CODES[silence.code].severity == "error":
            self._report((*at, "code"), f"{silence.code!r} is an error, which can't be silenced", "mend what it tells of")
        if not silence.reason.strip():
            self._report((*at, "reason"), "an empty reason", "say why the warning is not to be told again")
        return Silence(silence.code, silence.reason, silence.at)

    # Single values

    def _read(self, reader: Callable[[Any], T], value: Any, at: Where) -> T | None:
        try:
            return reader(value)
        except ValueError as error:
            self._report(at, str(error))
            return None

    def _topic(self, topic: str, at: Where, *, wildcards: bool = False, is_key: bool = False) -> None:
        """A topic that is said, which can't be one of the band's own."""
        fault = pattern_fault(topic, wildcards=wildcards)
        if fault is None and topic.partition(".")[0].startswith("_band"):
            fault = f"{topic!r} begins with _band, which only the band itself says", "choose another topic"
        if fault is not None:
            self._report(at, *fault, is_key=is_key)

    def _name(self, name: str, at: Where, *, is_key: bool = False) -> None:
        if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            self._report(
                at,
                f"{name!r:.80} is not a name",
                f"write letters, digits, '_', '-' and '.', beginning with a letter or digit, at most {LONGEST_NAME} characters",
                is_key=is_key,
            )

    def _path(self, path: str | None, at: Where) -> None:
        if path is not None and not PATH.fullmatch(path):
            self._report(at, f"{path!r:.80} is not a path into data", "write names with dots between them, as in customer.id")

    def _play(self, play: str | None, at: Where, what: str) -> None:
        if play is None or _PLAY.fullmatch(play):
            return
        cure = f"write module:name of {what}"
        if ":" not in play and _PLAY.fullmatch(":".join(play.rsplit(".", 1))):
            cure = f"write a colon before the name: {':'.join(play.rsplit('.', 1))}"
        elif ".py" in play or "/" in play:
            cure = f"it is a module, not a file; {cure}"
        self._report(at, f"{play!r:.80} is not module:name", cure)


_SOURCE_FIELDS = {
    "data": ("every", "cron"),
    "key": ("every", "cron", "play"),
    "rate": ("file", "play"),
    "zone": ("cron",),
    "with": ("play",),
}


def duration_us(value: str | float) -> int:
    """A duration as scores write it: text with units, or 0."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value != 0:
        raise ValueError(f"{value} has no unit; write {value}ms, {value}s, {value}m or {value}h")
    return units.duration_us(value)


def _check_where(text: str, labels: Collection[str]) -> None:
    from ensemble.score.condition import parse

    parse(text, labels)
