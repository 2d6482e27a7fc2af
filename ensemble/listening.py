"""What a player's motif comes to at the broker: the score's `on:`, `order:` and `by:`, made ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from ensemble.broker.routing import Listener
from ensemble.event import Event
from ensemble.motif import leaves
from ensemble.score.condition import condition
from ensemble.score.model import PlayerSpec


def listener(spec: PlayerSpec) -> Listener:
    """What a player listens for, made ready."""
    parts = leaves(spec.on)
    assert parts is not None, "a composite motif is refused when the score is loaded"
    return Listener(
        [(part.pattern, None if part.where is None else condition(part.where)) for part in parts],
        order=spec.order,
        by=None if spec.by is None else _path(spec.by),
    )


def _path(path: str) -> Callable[[Event], str]:
    """The lane of an event by a path into its data; the empty lane where there is nothing."""
    names = path.removeprefix("data.").split(".")

    def at(event: Event) -> str:
        try:
            value = event.data
        except (msgspec.DecodeError, ValueError, RecursionError):  # as if there were nothing: it is the player's to fail
            return ""
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return "" if value is None else value if isinstance(value, str) else str(value)

    return at
