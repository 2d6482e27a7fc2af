"""What can be known of a score's code without running it: imports, signatures, types, and what its source says.

Owns the findings about players' code; `check` gives them their places.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ensemble.errors import PlayerError
from ensemble.motif import is_pattern, matches
from ensemble.score import reactions
from ensemble.score.behaviour import Behaviour, Saying, behaviour
from ensemble.score.callable import Shape, SourceShape, find, find_state_type, find_type, shape, source_shape
from ensemble.score.fields import Fields, of_schema, of_type
from ensemble.score.finding import Where, nearest
from ensemble.score.model import PlayerSpec, Score, Stub


class Add(Protocol):
    def __call__(
        self, code: str, where: Where, wrong: str, cure: str = "", *, word: str = "", known: Collection[str] = ()
    ) -> None: ...


def say_of_code(score: Score, players: Mapping[str, Callable[..., Any]], add: Add) -> None:
    """Tell `add` everything that is wrong with a score's code."""
    checker = _Code(score, players, add)
    checker.types()
    checker.players()
    checker.sources()
    checker.conditions()
    checker.circles()


class _Code:
    def __init__(self, score: Score, players: Mapping[str, Callable[..., Any]], add: Add) -> None:
        self._score = score
        self._given = players
        self._add = add
        self._types: dict[str, Any] = {}
        self._behaviours: dict[str, Behaviour] = {}

    # Types

    def types(self) -> None:
        for topic, event in self._score.events.items():
            for play in event.upcast.values():
                try:
                    find(play, self._score.folder)
                except PlayerError as error:
                    self._add("event-upcast", ("events", topic, "upcast"), str(error))
            if event.type is None:
                continue
            try:
                self._types[event.type] = find_type(event.type, self._score.folder)
            except PlayerError as error:
                self._add("event-type", ("events", topic, "type"), str(error))
        for name, player in self._score.players.items():
            if player.state.type is None:
                continue
            try:
                find_state_type(player.state.type, self._score.folder)
            except PlayerError as error:
                self._add("state-type", ("players", name, "state", "type"), str(error))

    def _type(self, topic: str) -> Any:
        spec = self._score.event_spec(topic)
        return None if spec is None or spec.type is None else self._types.get(spec.type)

    def _fields(self, topic: str) -> Fields | None:
        """The fields of an event's data, where they are known."""
        type_ = self._type(topic)
        if type_ is not None:
            return of_type(type_)
        spec = self._score.event_spec(topic)
        return None if spec is None or spec.schema is None or spec.type is not None else of_schema(spec.schema)

    # Players

    def players(self) -> None:
        for name, spec in self._score.players.items():
            call = self._call(name, spec.play, ("players", name, "play"))
            if call is None:
                continue
            try:
                made = shape(call)
            except PlayerError as error:
                self._add("player-signature", ("players", name, "play"), str(error))
                continue
            self._stub(name, spec)
            self._settings(made, spec.settings, ("players", name))
            self._hears(made, name)
            self._says(made, spec)
            seen = self._behaviours[name] = behaviour(call)
            at: Where = ("players", name, "emits" if spec.emits else "play")
            self._sayings(seen.says, spec.emits, at)
            if seen.keeps_state or made.batch:
                self._state(seen, made, spec)
            if made.batch and spec.reads:
                wrong = "it hears whole batches, which have no one key to look up by"
                cure = "hear events one by one, or have them enriched: enrich: {field: PLAYER[key]}"
                self._add("state-without-key", ("players", name, "reads"), wrong, cure)

    def _stub(self, name: str, spec: PlayerSpec) -> None:
        """What plays in a player's place in takes is called as the player is."""
        if not isinstance(spec.outside, Stub):
            return
        where: Where = ("players", name, "outside", "stub")
        try:
            self._settings(shape(find(spec.outside.stub, self._score.folder)), spec.settings, where)
        except PlayerError as error:
            self._add("player-import", where, str(error))

    def sources(self) -> None:
        for name, spec in self._score.sources.items():
            if spec.play is None and name not in self._given:
                continue
            call = self._call(name, spec.play, ("sources", name, "play"))
            if call is None:
                continue
            try:
                self._settings(source_shape(call), spec.settings, ("sources", name))
            except PlayerError as error:
                self._add("player-signature", ("sources", name, "play"), str(error))
                continue
            if spec.emits:  # without it a source may say anything
                allowed = spec.emits if spec.topic is None else (*spec.emits, spec.topic)
                self._sayings(behaviour(call).says, allowed, ("sources", name, "emits"))

    def _call(self, name: str, play: str | None, where: Where) -> Any:
        if name in self._given:
            return self._given[name]
        if play is None:
            return None
        try:
            return find(play, self._score.folder)
        except PlayerError as error:
            self._add("player-import", where, str(error))
            return None

    def _settings(self, made: Shape | SourceShape, settings: Mapping[str, Any], at: Where) -> None:
        taken = "the constructor" if made.kind == "class" else "the function"
        for name in settings:
            if name not in made.settings and not made.accepts_any:
                cure = f"it takes {', '.join(made.settings)}" if made.settings else f"{taken} takes no settings"
                wrong = f"{taken} has no parameter {name!r}"
                self._add("player-signature", (*at, "with", name), wrong, cure, word=name, known=made.settings)
        meant = {nearest(name, made.settings) for name in settings if name not in made.settings}
        missing = [name for name in made.required if name not in settings and name not in meant]
        if missing:
            where = (*at, "with") if settings else (*at, "play")
            shown = ", ".join(f"{name}: ..." for name in missing)
            cure = f"write with: {{{shown}}}, or give the parameter a default"
            self._add("player-signature", where, f"{taken} needs {', '.join(missing)}", cure)

    def _hears(self, made: Shape, name: str) -> None:
        """A typed player wants fields; the events it hears should have them."""
        wanted = of_type(made.hears)
        if wanted is None:
            return
        for heard in reactions.heard_by(self._score, name):
            if heard.is_part:
                wrong = f"it hears {made.hears.__name__}, and a motif of several events is no such thing"
                self._add("hears-type", heard.where, wrong, "annotate its parameter with Match, and take match.events")
                return
            known = None if is_pattern(heard.pattern) else self._fields(heard.pattern)
            if known is None or self._type(heard.pattern) is made.hears:
                continue
            enriched = self._score.players[name].enrich
            missing = [field for field in wanted.required if field not in known.names and field not in enriched]
            if missing and (known.is_closed or any(nearest(field, known.names) for field in missing)):
                wrong = f"{made.hears.__name__} needs {', '.join(missing)}, which {heard.pattern} does not have"
                self._add("hears-type", heard.where, wrong, f"it has {', '.join(known.names)}")

    # What players say

    def _says(self, made: Shape, spec: PlayerSpec) -> None:
        """Types in the return annotation: each has to be that of an event in emits, or of its only one."""
        topics = [topic for topic in spec.emits if not is_pattern(topic)]
        if not made.says or len(topics) != len(spec.emits):
            return
        types = [self._type(topic) for topic in topics]
        at: Where = ("players", spec.name, "emits" if topics else "play")
        for type_ in made.says:
            name = type_.__name__
            if type_ in types:
                continue
            if not topics:
                self._add("emits-schema", at, f"it answers with {name}, but there is no emits:", "name the event that it says")
            elif len(topics) > 1:
                cure = f"write type: for the event that is a {name}, or answer with emit(topic, ...)"
                wrong = f"it answers with {name}, and none of {', '.join(topics)} is of this type"
                self._add("emits-schema", at, wrong, cure)
            elif types[0] is not None:
                wrong = f"it answers with {name}, but {topics[0]} is a {types[0].__name__}"
                self._add("emits-schema", at, wrong, "change one of them")
            else:
                own, fields = of_type(type_), self._fields(topics[0])
                if own is not None and fields is not None:
                    self._fit(own.names, topics[0], fields, at, f"it answers with {name}, which")

    def _sayings(self, sayings: Sequence[Saying], allowed: Sequence[str], at: Where) -> None:
        """What is written out in the source as emit("topic", field=...)."""
        told = set()
        for saying in sayings:
            if not any(matches(pattern, saying.topic) for pattern in allowed):
                if saying.topic not in told:
                    told.add(saying.topic)
                    wrong = f"{_place(saying)} says {saying.topic}, but emits: allows {', '.join(allowed) or 'nothing'}"
                    self._add("emits-undeclared", at, wrong, "add it to emits:", word=saying.topic, known=allowed)
                continue
            fields = self._fields(saying.topic)
            if saying.fields is not None and fields is not None:
                self._fit(saying.fields, saying.topic, fields, at, f"{_place(saying)} says {saying.topic}, which")

    def _fit(self, given: Sequence[str], topic: str, fields: Fields, at: Where, who: str) -> None:
        """Whether data with these fields can be an event's."""
        unknown = [field for field in given if field not in fields.names and (fields.is_closed or nearest(field, fields.names))]
        missing = [field for field in fields.required if field not in given]
        if (unknown and self._type(topic) is None) or missing:
            wrong = " and ".join(
                f"{what} {', '.join(names)}"
                for what, names in (("lacks", missing), ("has", unknown if self._type(topic) is None else []))
                if names
            )
            self._add("emits-schema", at, f"{who} {wrong}", f"{topic} has {', '.join(fields.names)}")

    # State

    def _state(self, seen: Behaviour, made: Shape, spec: PlayerSpec) -> None:
        if not seen.keeps_state:
            return
        at: Where = ("players", spec.name)
        if made.batch:
            wrong = "it hears whole batches, which have no one key, and keeps ctx.state"
            self._add("state-without-key", (*at, "play"), wrong, "hear events one by one, or keep nothing")
        elif spec.order == "none":
            wrong = "with order: none there is no key to keep ctx.state by"
            self._add("state-without-key", (*at, "order"), wrong, "write order: key, or keep nothing")

    # Fields

    def conditions(self) -> None:
        """Fields that `where:`, `key:`, `by:` and `personal:` name."""
        for topic, event in self._score.events.items():
            fields = None if is_pattern(topic) else self._fields(topic)
            if event.key is not None and fields is not None:
                self._field(tuple(event.key.removeprefix("data.").split(".")), fields, topic, ("events", topic, "key"))
            if event.personal is not None and fields is not None:
                at: Where = ("events", topic, "personal")
                places = {(*at, "fields", i): field for i, field in enumerate(event.personal.fields)}
                if event.personal.subject != "key":
                    places[*at, "subject"] = event.personal.subject
                for place, named_path in places.items():
                    self._field(tuple(named_path.removeprefix("data.").split(".")), fields, topic, place)
        for name, player in self._score.players.items():
            for heard in reactions.heard_by(self._score, name):
                fields = None if is_pattern(heard.pattern) else self._fields(heard.pattern)
                if fields is None:
                    continue
                if player.by is not None:
                    self._field(
                        tuple(player.by.removeprefix("data.").split(".")),
                        fields,
                        heard.pattern,
                        ("players", name, "by"),
                    )
                if heard.condition is not None:
                    from ensemble.score.condition import fields as named

                    where: Where = (*heard.where[:-1], "where") if heard.where[-1] == "event" else heard.where
                    for path in sorted(named(heard.condition)):
                        self._field(path, fields, heard.pattern, where)

    def _field(self, path: tuple[str, ...], fields: Fields, topic: str, where: Where) -> None:
        known: Fields | None = fields
        for i, name in enumerate(path):
            if known is None:
                return
            if name not in known.names:
                near = nearest(name, known.names)
                if known.is_closed or near:
                    shown = ".".join(["data", *path[: i + 1]])
                    cure = f"it has {', '.join(known.names)}"
                    self._add("unknown-field", where, f"{topic} has no {shown}", cure, word=name, known=known.names)
                return
            known = known.at(name)

    # Circles

    def circles(self) -> None:
        always = {name for name, seen in self._behaviours.items() if seen.always_answers}
        for ring in reactions.circles(self._score, always):
            shown = " -> ".join([*ring, ring[0]])
            wrong = f"{shown} answer each other for ever: each always says something that the next one hears"
            cure = "let one of them stay silent at some point, or listen with where:"
            self._add("endless-cycle", ("players", ring[0], "emits"), wrong, cure)


def _place(saying: Saying) -> str:
    file = Path(saying.file)
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return f"{shown}:{saying.line}"
