"""What a player may know beside the event: `ctx`.

Owns what is the author's to see of a call. Nothing is looked up before it is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ensemble.broker.failure import token_of
from ensemble.errors import PlayerError
from ensemble.event import EPOCH

if TYPE_CHECKING:
    from ensemble.player.hearing import Hearing


class PlayerLog(logging.LoggerAdapter[logging.Logger]):
    """A player's logger while it hears an event."""

    def __init__(self, logger: logging.Logger, event_id: str) -> None:
        super().__init__(logger, {"event_id": event_id})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """What the player itself gives as `extra` is kept."""
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


class Context:
    """What a player may know beside the event: `ctx`.

    `state` is the state of the event's lane, loaded when first asked for and kept with what was emitted.
    """

    __slots__ = (
        "_given", "_hearing", "_is_loaded", "_ix", "_loaded", "_rows", "_state", "_tables", "_which",
        "attempt", "live", "settings",
    )  # fmt: skip

    def __init__(self, hearing: Hearing, which: Sequence[int], given: Sequence[Any], attempt: int) -> None:
        self._hearing = hearing
        self._which = which
        self._given = given
        self._rows: dict[int, int] | None = None
        """Identity of each argument -> its row of the batch; made when first asked for."""
        self._ix = which[0]
        self._state: Any = None
        self._loaded: bytes | None = None
        self._is_loaded = False
        self._tables: Mapping[str, Any] | None = None
        self.attempt = attempt
        """The number of this attempt, from 1."""
        self.live = hearing.work.is_live and hearing.player.is_live
        """Whether what is done outside counts: false in a take that is not current, a replay, and where a table is rebuilt."""
        self.settings: Mapping[str, Any] = hearing.settings

    @property
    def state(self) -> Any:
        """The player's state for this key: a dict, empty at first; empty again means gone.

        With `state: {type: ...}` one of these, a new one at first.
        """
        if not self._is_loaded:
            self._load()
            self._state = self._hearing.player.codec.read(self._loaded)
        return self._state

    @state.setter
    def state(self, value: Any) -> None:
        """None, or an empty mapping: gone."""
        state = self._hearing.player.codec.taken(value)
        if not self._is_loaded:
            self._load()
        self._state = state

    def _load(self) -> None:
        self._loaded = self._hearing.load(self._ix)
        self._is_loaded = True

    @property
    def tables(self) -> Mapping[str, Any]:
        """What the players of `reads:` keep for this key, by their names: as of when the batch was handed out.

        Errors: KeyError for a player that `reads:` does not name.
        """
        if self._tables is None:
            self._tables = self._hearing.tables(self._ix)
        return self._tables

    @property
    def log(self) -> PlayerLog:
        """The player's logger; its records carry the id of the event as `event_id`, but for a whole batch, which has none."""
        hearing = self._hearing
        return PlayerLog(hearing.player.log, "" if hearing.player.shape.batch else hearing.work.events[self._ix].id)

    @property
    def token(self) -> str:
        """The same text on every run of this event by this player: an idempotency key for the outside.

        Errors: PlayerError for a whole batch, which has no one event: see `token_of`.
        """
        player = self._hearing.player
        if player.shape.batch:
            raise PlayerError(
                f"player {player.name} hears whole batches, which have no one token: it would change with where a batch "
                "begins; use ctx.token_of(event) for each event"
            )
        return self._token(self._ix)

    def token_of(self, event: Any) -> str:
        """The token of one of the events that this call was given, as an event or as the type that the player hears.

        Errors: PlayerError if it is none of them.
        """
        if self._rows is None:
            self._rows = {id(given): ix for ix, given in zip(self._which, self._given, strict=True)}
        ix = self._rows.get(id(event))
        if ix is None:
            raise PlayerError(
                f"player {self._hearing.player.name}: ctx.token_of({event!r:.80}): this call was not given that; "
                "ask for one of the events that it was given"
            )
        return self._token(ix)

    def _token(self, ix: int) -> str:
        event = self._hearing.work.events[ix]
        return token_of(event._rows.born(event._ix), self._hearing.player.name)

    @property
    def now(self) -> datetime:
        """When the batch was handed out, by the broker's clock. UTC; recorded in the log."""
        return EPOCH + timedelta(microseconds=self._hearing.work.batch.began_us)

    def changed(self) -> tuple[bool, bytes | None]:
        """Whether the state is another than before, and what it is now; None: gone."""
        if not self._is_loaded:
            return False, None
        codec = self._hearing.player.codec
        state = codec.written(self._state)
        if codec.is_same(self._loaded, state):
            return False, state
        codec.check(state)
        return True, state
