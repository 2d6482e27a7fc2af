"""What a player's part of the score comes to at the broker: its `on:`, `order:` and `by:`, its `retry:` and `on_failure:`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from ensemble.broker.outbox import forwarded_topic
from ensemble.broker.routing import Listener, crosses
from ensemble.broker.words import Policy
from ensemble.event import Event
from ensemble.motif import leaves
from ensemble.score.condition import condition
from ensemble.score.model import Emit, PlayerSpec
from ensemble.score.vocabulary import Vocabulary, key_text


def listener(spec: PlayerSpec, shards: int = 1) -> Listener:
    """What a player listens for, made ready. In several shards also what the others send its section."""
    parts = leaves(spec.on)
    assert parts is not None, "a composite motif is refused when the score is loaded"
    by = None if spec.by is None else _path(spec.by)
    heard = [(part.pattern, None if part.where is None else condition(part.where)) for part in parts]
    if shards > 1 and crosses(spec.order, by):
        heard.append((forwarded_topic(spec.name), None))
    return Listener(heard, order=spec.order, by=by)


def policy(spec: PlayerSpec, vocabulary: Vocabulary) -> Policy:
    """What becomes of a player's failures, made ready."""
    emit = spec.on_failure
    check = vocabulary.word(emit.topic).check if isinstance(emit, Emit) else None
    return Policy(spec.retry, emit, check)


def _path(path: str) -> Callable[[Event], str]:
    """The lane of an event by a path into its data, named as a key would be; the empty lane where there is nothing."""
    names = path.removeprefix("data.").split(".")

    def at(event: Event) -> str:
        try:
            value = event.data
        except (msgspec.DecodeError, ValueError, RecursionError):  # as if there were nothing: it is the player's to fail
            return ""
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            return ""
        text = key_text(value)
        return str(value) if text is None else text

    return at
