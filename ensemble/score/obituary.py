"""The obituary: the data of the event that tells of an event that its player could not hear.

Owns its fields, and whether an event that a score declares can have them (`on_failure: {emit: topic}`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ensemble.errors import InvalidEvent, ScoreError
from ensemble.score.model import Score

FIELDS: Mapping[str, Any] = {
    "player": "a-player",
    "offset": 1,
    "topic": "a.topic",
    "attempts": 1,
    "error": "ValueError: no",
    "traceback": "ValueError: no",
    "held": False,
}
"""Each field, with a value such as it may have."""

_OF_SHAPE = ("required", "additionalProperties", "unevaluatedProperties", "propertyNames", "maxProperties", "type")
"""What no value of the fields can mend."""


def misfit(score: Score, topic: str, *, imports: bool) -> str | None:
    """Why the event of a topic can never have an obituary's fields; None if it may. Types are imported if `imports`."""
    spec = score.event_spec(topic)
    if spec is None:
        return None
    wrong = None if spec.schema is None else _of_schema(spec.schema)
    if wrong is None and spec.type is not None and imports:
        wrong = _of_type(score, topic)
    return wrong


def _of_schema(schema: Mapping[str, Any]) -> str | None:
    import jsonschema_rs

    from ensemble.score.vocabulary import fault

    try:
        validator = jsonschema_rs.Draft202012Validator(dict(schema), offline=True, validate_formats=True)
    except (jsonschema_rs.ValidationError, ValueError, RecursionError):  # which is an error of its own
        return None
    return next((fault(error) for error in validator.iter_errors(dict(FIELDS)) if error.kind.name in _OF_SHAPE), None)


def _of_type(score: Score, topic: str) -> str | None:
    from ensemble.score.vocabulary import Vocabulary

    try:
        check = Vocabulary(score).word(topic).check
    except ScoreError:  # which is an error of its own
        return None
    try:
        if check is not None:
            check(dict(FIELDS))
    except InvalidEvent as error:
        return str(error).removeprefix(f"{topic}: ")
    return None
