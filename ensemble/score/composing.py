"""Scores written in Python: `score = Score("shop")`, `@score.player(on=..., emits=...)`, and the same as YAML.

Owns how a score grows. Each addition is read like a score file, so both forms know the same words and tell of the same
mistakes; `load(score.to_yaml()) == score`. A score that is played or drawn is what it said at that moment.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

if TYPE_CHECKING:
    from ensemble.score.model import Score

F = TypeVar("F", bound=Callable[..., Any])

PYTHONS = {"with_": "with", "from_": "from"}
"""Words of a score that Python keeps for itself, as they are written there."""


class Callables(dict[str, Callable[..., Any]]):
    """What plays the parts of a score, by name. No part of what it says: all are equal."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Callables)

    __hash__ = None


class Composed:
    """Mixed into `Score`: what adds to it."""

    __slots__ = ()

    def event(self, topic: str, **fields: Any) -> None:
        """Declare an event: `score.event("order.placed", key="order_id", about="...")`.

        Errors: ScoreError, and nothing is added.
        """
        self._add("events", topic, fields)

    def motif(self, name: str, motif: Any) -> None:
        """Give a motif a name: `score.motif("late", {"seq": ["order.placed", {"not": "order.paid"}], "within": "15m"})`.

        Errors: ScoreError, and nothing is added.
        """
        self._add("motifs", name, motif)

    def player(self, on: Any, *, emits: Sequence[str] | str = (), name: str | None = None, **fields: Any) -> Callable[[F], F]:
        """Make a function or class a player: `@score.player(on="order.placed", emits=["payment.captured"])`.

        Shapes: `fields` are those of a player in YAML, `with_` and `from_` for `with` and `from`. Its name is the function's.
        Errors: ScoreError, and nothing is added.
        """

        def add(call: F) -> F:
            said = [emits] if isinstance(emits, str) else list(emits)
            self._play("players", name or call.__name__, call, {"on": on, **({"emits": said} if said else {}), **fields})
            return call

        return add

    def source(self, *, emits: Sequence[str] | str = (), name: str | None = None, **fields: Any) -> Callable[[F], F]:
        """Make a function a source: `@score.source(emits="guest.arrived")`.

        Errors: ScoreError, and nothing is added.
        """

        def add(call: F) -> F:
            said = [emits] if isinstance(emits, str) else list(emits)
            self._play("sources", name or call.__name__, call, {**({"emits": said} if said else {}), **fields})
            return call

        return add

    def to_yaml(self) -> str:
        """The score as a file has it.

        Players that are defined in a notebook have no `play:` there: give them to `ensemble.open` by name.
        """
        from ensemble.score.model import RECORD
        from ensemble.score.source import write_text

        return write_text({key: value for key, value in self._document().items() if key != RECORD})

    def _play(self, part: str, name: str, call: Callable[..., Any], fields: dict[str, Any]) -> None:
        place = _place(call)
        if place is None and part == "sources":  # a source is told by its play:, which the callable itself takes the place of
            place = f"{call.__module__}:{call.__name__}"
        self._add(part, name, {**({"play": place} if place else {}), **fields})
        cast("Score", self).callables[name] = call

    def _document(self) -> dict[str, Any]:
        score = cast("Score", self)
        return dict(score.document) or {"ensemble": 1, "name": score.name, **({"about": score.about} if score.about else {})}

    def _add(self, part: str, name: str, value: Any) -> None:
        from ensemble.score import load

        if isinstance(value, dict):
            value = {PYTHONS.get(key, key): each for key, each in value.items()}
        document = self._document()
        read = load({**document, part: {**document.get(part, {}), name: value}})
        for field in read.__struct_fields__:
            if field not in ("callables", "places"):
                msgspec.structs.force_setattr(cast("Score", self), field, getattr(read, field))


def _place(call: Callable[..., Any]) -> str | None:
    """`module:name` by which it can be imported again; None of what is defined in a notebook or within a function."""
    module, name = getattr(call, "__module__", None), getattr(call, "__qualname__", "")
    if module in (None, "__main__") or "." in name or "<" in name:
        return None
    return f"{module}:{name}" if getattr(sys.modules.get(module), name, None) is call else None
