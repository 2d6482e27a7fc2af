"""What another score would break: which player, by which field, and why; and what only changes.

Owns the comparison of two scores. What a player needs of an event is seen in its `by:`, `where:` and `enrich:`, in the type
that it hears, and in its source; what it does not show there can't be told. Code is imported, and never run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ensemble.errors import PlayerError, ScoreError
from ensemble.motif import Topic, alternatives, document, is_pattern, matches, walk
from ensemble.score import reactions
from ensemble.score.behaviour import Behaviour, behaviour
from ensemble.score.callable import Shape, find, shape
from ensemble.score.compatible import Change, changes
from ensemble.score.fields import of_type
from ensemble.score.model import EventSpec, PlayerSpec, Score
from ensemble.score.vocabulary import Vocabulary, schema_of


class Break(msgspec.Struct, frozen=True):
    """What would not work any more."""

    player: str
    """Whom it breaks; empty: whoever hears what the store has of the topic."""
    topic: str
    """The event, or the motif."""
    field: str
    """`data.total`; empty where it is no field."""
    reason: str

    def __str__(self) -> str:
        whose = f"players.{self.player}" if self.player else f"events[{self.topic}]"
        of = f" of {self.topic}" if self.player and self.topic else ""
        return f"{whose}: {self.field}{of} {self.reason}" if self.field else f"{whose}: {self.reason}"


class Diff(msgspec.Struct, frozen=True):
    breaks: tuple[Break, ...]
    changes: tuple[str, ...]
    """What changes, and breaks nothing that can be seen."""

    @property
    def is_compatible(self) -> bool:
        return not self.breaks


def diff(old: Score, new: Score) -> Diff:
    """Compare a score with the one that is to take its place."""
    made = _Diff(old, new)
    made.events()
    made.players()
    return Diff(tuple(dict.fromkeys(made.breaks)), tuple(dict.fromkeys(made.changes)))


class Need(msgspec.Struct, frozen=True):
    """A field that a player asks for, and where that is seen."""

    path: tuple[str, ...]
    is_needed: bool
    by: str


class _Diff:
    def __init__(self, old: Score, new: Score) -> None:
        self._old, self._new = old, new
        self.breaks: list[Break] = []
        self.changes: list[str] = []
        self._code: dict[str, tuple[Shape, Behaviour] | None] = {}
        self._types = [_schemas(score) for score in (old, new)]

    # Events

    def events(self) -> None:
        for topic in dict.fromkeys((*self._old.events, *self._new.events)):
            before, after = _spec(self._old, topic), _spec(self._new, topic)
            if before is None:
                self.changes.append(f"events[{topic}] is new")
            elif after is None:
                self._gone(topic)
            else:
                self._event(topic, before, after)

    def _gone(self, topic: str) -> None:
        hearing = self._hearing(topic) if not self._is_said(topic) else []
        for name in hearing:
            self.breaks.append(
                Break(name, topic, "", f"it hears {topic}, which events: does not declare any more, and nobody says")
            )
        if not hearing:
            self.changes.append(f"events[{topic}] is not declared any more, so what is said of it is not checked")

    def _event(self, topic: str, before: EventSpec, after: EventSpec) -> None:
        if before.version > after.version:
            wrong = f"has version {after.version}, and had version {before.version}: what was said since can't be heard"
            self.breaks += [Break(name, topic, "", f"{topic} {wrong}") for name in self._hearing(topic) or ("",)]
        steps = [step for step in range(before.version, after.version) if step not in after.upcast]
        if steps:
            wrong = (
                f"{topic} has version {after.version} now, and nothing lifts what was said in version {steps[0]}: write upcast:"
            )
            self.breaks += [Break(name, topic, "", wrong) for name in self._hearing(topic) or ("",)]
        elif after.version > before.version:
            self.changes.append(
                f"events[{topic}] has version {after.version}; what was said in version {before.version} is lifted"
            )
        if before.key != after.key:
            self._key(topic, before, after)
        old, new = (_shape(spec, types) for spec, types in zip((before, after), self._types, strict=True))
        if old is None or new is None:
            if old is not None:
                self.changes.append(f"events[{topic}] has no schema any more")
            return
        is_lifted = after.version > before.version and not steps
        for change in changes(old, new):
            self._change(topic, change, is_lifted=is_lifted)

    def _change(self, topic: str, change: Change, *, is_lifted: bool) -> None:
        broken: list[Break] = []
        if not change.takes_old and not is_lifted:
            reason = f"{change.what}: what was said before may not fit; raise version: and write upcast:"
            broken += [Break(name, topic, change.field, reason) for name in self._hearing(topic) or ("",)]
        if not change.is_known:
            for name in self._hearing(topic):
                need = next((each for each in self._needs(name, topic) if _touches(each, change)), None)
                if need is not None:
                    broken.append(Break(name, topic, change.field, f"{change.what}, and {need.by}"))
        self.breaks += broken
        if not broken:
            self.changes.append(f"events[{topic}]: {change}")

    def _key(self, topic: str, before: EventSpec, after: EventSpec) -> None:
        told = f"its key was {before.key or 'given'}, and is {after.key or 'given'} now"
        keeping = [
            name
            for name in self._hearing(topic)
            if self._new.players[name].by is None and (code := self._code_of(name)) is not None and code[1].keeps_state
        ]
        for name in keeping:
            reason = f"{topic}: {told}: the state that it keeps goes by the key of before"
            self.breaks.append(Break(name, topic, "", reason))
        if not keeping:
            self.changes.append(f"events[{topic}]: {told}")

    # Players

    def players(self) -> None:
        for name, after in self._new.players.items():
            before = self._old.players.get(name)
            if before is None:
                self.changes.append(f"players.{name} is new")
            else:
                self._player(name, before, after)
        for name in self._old.players:
            if name not in self._new.players:
                self.changes.append(f"players.{name} is gone; what it kept stays in the log")

    def _player(self, name: str, before: PlayerSpec, after: PlayerSpec) -> None:
        self._motif(name, before, after)
        code = self._code_of(name)
        if before.by != after.by and code is not None and code[1].keeps_state:
            reason = f"it goes by {after.by or 'the key'} now, and its state by {before.by or 'the key'}"
            self.breaks.append(Break(name, "", "", reason))
        if before.state.type != after.state.type and after.state.type is not None:
            self._state(name, before, after)
        gone = [topic for topic in before.emits if topic not in after.emits and not self._is_said(topic)]
        for topic in gone:
            for other in self._hearing(topic):
                if other in self._old.players:
                    self.breaks.append(
                        Break(other, topic, "", f"it hears {topic}, which {name} does not say any more, nor anybody")
                    )

    def _motif(self, name: str, before: PlayerSpec, after: PlayerSpec) -> None:
        old, new = _heard(self._old, before), _heard(self._new, after)
        if old == new:
            return
        was_match, is_match = _is_composite(self._old, before), _is_composite(self._new, after)
        broken: list[Break] = []
        if was_match != is_match:
            kinds = ("a match of several events", "single events")
            now, then = kinds if is_match else kinds[::-1]
            broken.append(Break(name, "", "", f"on: it hears {now} now, and heard {then}"))
        code = self._code_of(name)
        lost = _labels(self._old, before) - _labels(self._new, after)
        for label in sorted(lost) if is_match and was_match else ():
            asked = code is not None and label in code[1].labels
            if asked or code is None:
                broken.append(
                    Break(name, "", "", f"on: no event of the motif has the label {label!r} any more, and it asks for it")
                )
        topics = _topics(self._new, after)
        for topic in sorted(topics - _topics(self._old, before)):
            broken += self._newly_heard(name, topic)
        self.breaks += broken
        if not broken:
            gone = sorted(_topics(self._old, before) - topics)
            told = f"; it does not hear {', '.join(gone)} any more" if gone else ""
            half = "; what is half matched is given up" if was_match and is_match else ""
            self.changes.append(f"players.{name}: on: is another{told}{half}")

    def _newly_heard(self, name: str, topic: str) -> Iterator[Break]:
        """What a player asks for that an event which it did not hear before does not have."""
        spec = None if is_pattern(topic) else self._new.event_spec(topic)
        shape_ = None if spec is None else _shape(spec, self._types[1])
        names = None if shape_ is None else _names(shape_)
        if names is None:
            return
        for need in self._needs(name, topic):
            if need.is_needed and need.path[0] not in names:
                yield Break(name, topic, f"data.{need.path[0]}", f"is not there, and {need.by}")

    def _state(self, name: str, before: PlayerSpec, after: PlayerSpec) -> None:
        try:
            old, new = (Vocabulary(score).state(name) for score in (self._old, self._new))
        except ScoreError:
            return
        then, now = (None if each is None else schema_of(each) for each in (old, new))
        if then is None or now is None:
            return
        for change in changes(then, now):
            if not change.takes_old:
                reason = f"state: {change.field.replace('data', 'ctx.state', 1)} {change.what}: what it remembers may not fit"
                self.breaks.append(Break(name, "", "", reason))

    # What players need

    def _hearing(self, topic: str) -> list[str]:
        """The players of the new score that hear a topic, themselves or as part of a motif."""
        found = (each for each in reactions.heard(self._new) if matches(each.pattern, topic) or each.pattern == topic)
        return list(dict.fromkeys(each.player for each in found))

    def _is_said(self, topic: str) -> bool:
        said = any(matches(each.pattern, topic) for each in reactions.said(self._new))
        return said or self._new.event_spec(topic) is not None

    def _needs(self, name: str, topic: str) -> Iterator[Need]:
        player = self._new.players[name]
        if player.by is not None:
            yield Need(_split(player.by), True, f"by: goes by {player.by}")
        for field, lookup in player.enrich.items():
            if lookup.path is not None:
                yield Need(_split(lookup.path), True, f"enrich: {field} is looked up by data.{lookup.path}")
        for heard in reactions.heard_by(self._new, name):
            if heard.condition is not None and (matches(heard.pattern, topic) or heard.pattern == topic):
                from ensemble.score.condition import fields

                for path in sorted(fields(heard.condition)):
                    yield Need(path, True, f"where: asks for data.{'.'.join(path)}")
        spec = self._new.event_spec(topic)
        if spec is not None and spec.key is not None:
            yield Need(_split(spec.key), True, f"its key is {spec.key}")
        code = self._code_of(name)
        if code is None:
            return
        made, seen = code
        wanted = of_type(made.hears)
        if wanted is not None:
            for field in wanted.names:
                yield Need((field,), field in wanted.required, f"{made.hears.__name__} has it")
        for reading in seen.reads:
            yield Need(reading.path, reading.is_needed, f"{_place(reading.file)}:{reading.line} asks for it")

    def _code_of(self, name: str) -> tuple[Shape, Behaviour] | None:
        """A player's code; None if it is not there."""
        if name not in self._code:
            self._code[name] = None
            call = self._new.callables.get(name)
            play = self._new.players[name].play
            try:
                if call is None and play is not None:
                    call = find(play, self._new.folder)
                if call is not None:
                    self._code[name] = shape(call), behaviour(call)
            except PlayerError:  # which `check` tells
                pass
        return self._code[name]


def _spec(score: Score, topic: str) -> EventSpec | None:
    return score.events.get(topic) if is_pattern(topic) else score.event_spec(topic)


def _schemas(score: Score) -> Mapping[str, Any]:
    try:
        return Vocabulary(score).schemas()
    except ScoreError:  # types that can't be imported: `check` tells
        return {}


def _shape(spec: EventSpec, types: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return spec.schema if spec.schema is not None else types.get(spec.type or "")


def _names(schema: Mapping[str, Any]) -> set[str] | None:
    """The fields that data has; None if the schema does not tell."""
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref.startswith("#/$defs/"):
        schema = schema.get("$defs", {}).get(ref.removeprefix("#/$defs/"), {})
    properties = schema.get("properties")
    return {*properties, *schema.get("required", ())} if isinstance(properties, Mapping) else None


def _touches(need: Need, change: Change) -> bool:
    """Whether a change of a field is of something that a player asks for; that it may be missing hurts who can't do without."""
    path = change.path
    if change.what == "may be missing now" and not need.is_needed:
        return False
    return need.path[: len(path)] == path or path[: len(need.path)] == need.path


def _split(path: str) -> tuple[str, ...]:
    return tuple(path.removeprefix("data.").split("."))


def _heard(score: Score, player: PlayerSpec) -> Any:
    """All that a player listens for, the motifs that it names written out."""
    named = {each: document(score.motifs[each]) for leaf in walk(player.on) if (each := leaf.pattern) in score.motifs}
    return document(player.on), named


def _is_composite(score: Score, player: PlayerSpec) -> bool:
    parts = alternatives(player.on)
    return any(not isinstance(each, Topic) or each.pattern in score.motifs for each in parts)


def _topics(score: Score, player: PlayerSpec) -> set[str]:
    if player.name not in score.players:
        return set()
    return {each.pattern for each in reactions.heard_by(score, player.name) if each.pattern not in score.motifs}


def _labels(score: Score, player: PlayerSpec) -> set[str]:
    motifs: Sequence[Any] = [
        player.on,
        *(score.motifs[leaf.pattern] for leaf in walk(player.on) if leaf.pattern in score.motifs),
    ]
    return {leaf.label for motif in motifs for leaf in walk(motif) if leaf.label is not None}


def _place(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
