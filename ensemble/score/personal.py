"""What a score says of people's data: whose it is, and where it lies (docs/forget.md).

Owns the rules, made ready: for the events of a topic, and for what a player remembers. Knows no keys and no log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ensemble.event import payload_of
from ensemble.score.model import Emit, PersonalSpec, Score
from ensemble.score.vocabulary import Vocabulary, key_text

KEY = "key"
"""The subject is the event's own key, or that by which a state is kept."""

REFUSED = "_band.refused"
OBITUARY = "_band.dead"
NOBODY = ""
"""Whose it is where that can't be told."""


class Rule(msgspec.Struct, frozen=True):
    """Whose a payload is, and what in it is theirs."""

    subject: tuple[str, ...] | None
    """Path into it; None: the key."""
    fields: tuple[tuple[str, ...], ...] = ()
    """Paths into it; none: all of it."""
    names: frozenset[str] = frozenset()
    """Names of fields that the score declares: these are no data."""
    blank: bytes | None = None
    """What stands for all of it once it is forgotten; None: what it was, with neutral values."""

    def subject_of(self, key: str, data: Any) -> str:
        """Whose it is; nobody's where it does not say."""
        if self.subject is None:
            return key
        for name in self.subject:
            data = data.get(name) if isinstance(data, Mapping) else None
        return key_text(data) or NOBODY


class Personal:
    """The rules of a score.

    `obituaries` are the topics that tell of failures: their errors are the data of whoever the failed event is about.
    """

    def __init__(self, score: Score, vocabulary: Vocabulary) -> None:
        self._score = score
        self._vocabulary = vocabulary
        self._events: dict[str, Rule | None] = {REFUSED: Rule(None, (("reason",), ("text",)))}
        self.states = {
            name: _rule(spec, blank=_fresh(vocabulary.state(name)))
            for name, player in score.players.items()
            if (spec := player.state.personal) is not None
        }
        """By player."""
        said_of_failures = (each.on_failure.topic for each in score.players.values() if isinstance(each.on_failure, Emit))
        self.obituaries = frozenset([OBITUARY, *(topic for topic in said_of_failures if self.event(topic) is None)])

    def event(self, topic: str) -> Rule | None:
        """Of the events of a topic; None: nothing in them is personal."""
        if topic not in self._events:
            spec = self._score.event_spec(topic)
            self._events[topic] = None
            if spec is not None and spec.personal is not None:
                names = frozenset(_names(spec.schema)) | frozenset(_names(_schema_of(self._vocabulary.word(topic).type)))
                self._events[topic] = _rule(spec.personal, names=names)
        return self._events[topic]


def personal(score: Score, vocabulary: Vocabulary) -> Personal | None:
    """The rules of a score; None: it says nothing of people's data."""
    return Personal(score, vocabulary) if spoken_of(score) else None


def spoken_of(score: Score) -> Mapping[str, PersonalSpec]:
    """What a score says of people's data: place in it -> what. Two scores for which it is equal have the same rules."""
    events = {f"events.{topic}": each.personal for topic, each in score.events.items() if each.personal is not None}
    states = {f"players.{name}": p.state.personal for name, p in score.players.items() if p.state.personal is not None}
    return events | states


def _rule(spec: PersonalSpec, **more: Any) -> Rule:
    return Rule(
        None if spec.subject == KEY else tuple(spec.subject.removeprefix("data.").split(".")),
        tuple(tuple(path.removeprefix("data.").split(".")) for path in spec.fields),
        **more,
    )


def _fresh(type_: Any) -> bytes:
    """A state as it is at first."""
    return payload_of({} if type_ is None else type_())


def _schema_of(type_: Any) -> Any:
    """A Python type as JSON Schema; None where it has none."""
    if type_ is None:
        return None
    try:
        return type_.model_json_schema() if hasattr(type_, "model_json_schema") else msgspec.json.schema(type_)
    except TypeError:  # of what JSON has no word for
        return None


def _names(schema: Any) -> Iterator[str]:
    """The names of fields that a JSON Schema declares, however deep."""
    if isinstance(schema, Mapping):
        for keyword, below in schema.items():
            if keyword == "properties" and isinstance(below, Mapping):
                yield from (str(name) for name in below)
            yield from _names(below)
    elif isinstance(schema, (list, tuple)):
        for each in schema:
            yield from _names(each)
