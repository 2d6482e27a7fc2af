"""What a store holds against what a score says: events of versions that nothing lifts, schemas that were broken.

Owns the judgement before anything plays, and what is recorded of schemas so that it can be made. What differs between two
schemas is `score.compatible`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ensemble.broker.state import State
from ensemble.errors import ScoreError
from ensemble.score import Finding, Score, load
from ensemble.score.compatible import changes
from ensemble.score.finding import Where, path_text
from ensemble.score.lifts import missing
from ensemble.score.model import RECORD, EventSpec
from ensemble.score.vocabulary import Vocabulary

TYPES = "types"
"""Key of the record in a score's document that has the schemas of its events' types, by their names."""
SHOWN = 3
"""How many fields that break are told."""


def recorded(score: Score, vocabulary: Vocabulary) -> dict[str, Any]:
    """The document of a score as a log keeps it: with the schemas of types, which it only names."""
    document, types = dict(score.document), vocabulary.schemas()
    if document and types:
        document[RECORD] = {**document.get(RECORD, {}), TYPES: types}
    return document


def faults(state: State, score: Score, vocabulary: Vocabulary) -> list[Finding]:
    """What a store has that this score can't play. Empty as a rule."""
    return [*_unlifted(state, score, vocabulary), *_broken(state, score, vocabulary)]


def refuse(state: State, score: Score, vocabulary: Vocabulary) -> None:
    """Nothing, if the score can play what the store has. ScoreError."""
    found = faults(state, score, vocabulary)
    if found:
        raise ScoreError(found)


def _unlifted(state: State, score: Score, vocabulary: Vocabulary) -> Iterator[Finding]:
    if not vocabulary.has_versions and not state.versions:
        return
    for topic in state.topics:
        spec = score.event_spec(topic)
        if spec is None:
            continue
        versions = state.versions_of(topic)
        for version, step in missing(vocabulary.word(topic), versions):
            has = f"the store has {versions[version]:,} events of {topic} in version {version}"
            if version > spec.version:
                wrong, cure = f"{has}, and here it has version {spec.version}", f"write version: {version} at the least"
            else:
                wrong, cure = f"{has}, and nothing lifts from version {step}", "write upcast: [module:function] that does"
            yield _finding(
                score, _entry(score, topic), "version" if "version" in _written(score, topic) else "", f"{wrong}; {cure}"
            )


def _broken(state: State, score: Score, vocabulary: Vocabulary) -> Iterator[Finding]:
    known = state.score or {}
    types_then = known.get(RECORD, {}).get(TYPES, {}) if isinstance(known.get(RECORD), Mapping) else {}
    types_now = vocabulary.schemas()
    if not known.get("events") or (known["events"] == score.document.get("events") and types_then == types_now):
        return
    try:
        then = load(known)
    except ScoreError:  # of another version of the format: nothing is known
        return
    for topic in state.topics:
        before, after = then.event_spec(topic), score.event_spec(topic)
        if before is None or after is None or before.version != after.version:
            continue
        old, new = _shape(before, types_then), _shape(after, types_now)
        if old is None or new is None:
            continue
        breaking = [str(change) for change in changes(old, new) if not change.takes_old]
        if breaking:
            more = f", and {len(breaking) - SHOWN} more" if len(breaking) > SHOWN else ""
            message = (
                f"what the store has of {topic} may not fit it any more: {'; '.join(breaking[:SHOWN])}{more}. Write version: "
                f"{after.version + 1} and upcast: a function that lifts what was said before"
            )
            yield _finding(score, _entry(score, topic), "schema" if after.schema is not None else "type", message)


def _shape(spec: EventSpec, types: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of an event's data; None if nothing is known of it."""
    if spec.schema is not None:
        return spec.schema
    return None if spec.type is None else types.get(spec.type)


def _entry(score: Score, topic: str) -> str:
    """The entry of events: that says what a topic is."""
    return topic if topic in score.events else next(spec.topic for spec in score.specs_for(topic))


def _written(score: Score, topic: str) -> Mapping[str, Any]:
    entry: Mapping[str, Any] = (score.document.get("events") or {}).get(_entry(score, topic)) or {}
    return entry


def _finding(score: Score, entry: str, field: str, message: str) -> Finding:
    where: Where = ("events", entry, field) if field else ("events", entry)
    file, line, column = score.places.of(where) or ("<score>", None, None)
    return Finding(code="evolution", message=message, path=path_text(where), file=file, line=line, column=column)
