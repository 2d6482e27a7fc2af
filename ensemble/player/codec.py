"""What a player remembers for a key: `ctx.state` as its author sees it, and as the log keeps it.

Owns the way between the two, with a type (`state: {type: ...}`) or without. Knows no log and no broker.

    read(written(state)) == state;    written(read(None)) == fresh, which is not written by itself
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from ensemble.errors import PlayerError
from ensemble.event import decode, payload_of


class StateCodec:
    """The states of one player. `type` is a Struct, dataclass or model of which every field has a default; None: a dict."""

    def __init__(self, player: str, type: Any = None) -> None:
        self._player = player
        self._type = type
        self._decode = None if type is None or hasattr(type, "model_validate") else msgspec.msgpack.Decoder(type).decode
        self.fresh: bytes | None = None if type is None else payload_of(type())
        """What a new state is as bytes; None: nothing is there."""

    def read(self, data: bytes | None) -> Any:
        """A state as its player sees it; without data a new one.

        Errors: PlayerError if it does not fit the type.
        """
        if data is None:
            return {} if self._type is None else self._type()
        if self._type is None:
            return decode(data)
        try:
            return self._read_typed(data)
        except (msgspec.ValidationError, ValueError) as error:  # pydantic's ValidationError is a ValueError
            raise PlayerError(
                f"player {self._player}: what it remembers of this key is no {self._type.__name__}: {error}; it was written "
                "before the type changed: let the type take both, or give the player another name, by which it begins anew"
            ) from error

    def _read_typed(self, data: bytes) -> Any:
        return self._type.model_validate(decode(data)) if self._decode is None else self._decode(data)

    def taken(self, value: Any) -> Any:
        """A state that takes the place of another. TypeError if it is none."""
        if value is None:
            return {} if self._type is None else None
        if self._type is not None:
            if not isinstance(value, self._type):
                name = self._type.__name__
                raise TypeError(f"ctx.state = {value!r:.80}: the state of player {self._player} is a {name}, or None: gone")
            return value
        if not isinstance(value, Mapping):
            raise TypeError(f"ctx.state = {value!r:.80}: a state is a mapping; write ctx.state['...'] = {value!r:.80}")
        return dict(value)

    def written(self, state: Any) -> bytes | None:
        """A state as the log keeps it; None: nothing."""
        if state is None or (self._type is None and not state):
            return None
        return payload_of(state)

    def is_same(self, before: bytes | None, after: bytes | None) -> bool:
        """Whether nothing was done to a state, though its type may write it in another way than it was written before."""
        if before is None or before == after or self._type is None:
            return before == after or (before is None and after == self.fresh)
        try:
            return self.written(self._read_typed(before)) == after
        except ValueError:  # it does not fit, and was replaced unread
            return False

    def check(self, data: bytes | None) -> None:
        """Refuse what could not be read again: a field that was given a value of another type.

        Errors: PlayerError, which names the field.
        """
        if data is None or self._type is None:
            return
        try:
            self._read_typed(data)
        except ValueError as error:  # msgspec's and pydantic's ValidationErrors are of this kind
            raise PlayerError(f"player {self._player}: ctx.state is no {self._type.__name__} any more: {error}") from error


class Tables(dict[str, Any]):
    """What other players remember of a key, by their names."""

    def __init__(self, player: str, states: Mapping[str, Any]) -> None:
        super().__init__(states)
        self._player = player

    def __missing__(self, name: str) -> NoReturn:
        known = ", ".join(self) or "nobody"
        raise KeyError(f"player {self._player} reads {known}; write reads: [{name}] in its score to look up {name!r}")
