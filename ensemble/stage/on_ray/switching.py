"""A rebuilt table put in the place of another, where who rebuilds it is not who plays: what the two say to each other.

Owns the moment of the switch. The shard comes to the place at which the player has nothing in flight and all of it is in the
log, and waits there; whoever rebuilds follows the log up to there, and gives what is to be written. Shard after shard.

    asked -> come -> given, or given up (then all is as it was)
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ensemble.errors import EnsembleError, Unavailable
from ensemble.stage.on_ray.line import Line, Lost

Writes = dict[str, bytes | None]

PATIENCE_S = 10.0
"""How long a shard waits for what is to be written; then who rebuilds is taken for gone."""
LOOK_S = 2.0
"""How long who rebuilds is kept waiting at a time for a shard to come."""
TRIALS = 5
"""How often a shard is asked whose process dies each time."""


class Switch:
    """A shard's half: it is asked for in the loop, and answered from elsewhere."""

    def __init__(self, player: str) -> None:
        self._player = player
        self._changed = threading.Condition()
        self._has_come = self._is_given = False
        self._writes: Mapping[str, bytes | None] | None = None

    def writes(self) -> Mapping[str, bytes | None]:
        """What is to be written, once it is given. Called in the loop, when nothing more comes to the table. EnsembleError."""
        with self._changed:
            self._has_come = True
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._is_given, PATIENCE_S):
                self._is_given = True
                raise EnsembleError(
                    f"player {self._player}: who rebuilds its table did not say in {PATIENCE_S:g} s what is to be written, so "
                    "it plays on as it was; rebuild again"
                )
        if self._writes is None:
            raise EnsembleError(f"player {self._player}: the switch was given up; it plays on as it was")
        return self._writes

    def come(self, timeout_s: float) -> bool:
        """Wait until the shard has come to where it can be switched; whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self._has_come, timeout_s)

    def give(self, writes: Mapping[str, bytes | None] | None) -> None:
        """What is to be written; None: nothing, the switch is given up. Unavailable if the shard waits no more."""
        with self._changed:
            if self._is_given:
                raise Unavailable(f"player {self._player}: the shard does not wait for the switch any more; rebuild again")
            self._writes, self._is_given = writes, True
            self._changed.notify_all()


class Switches:
    """The switches of a shard, by what who asks calls them."""

    def __init__(self) -> None:
        self._known: dict[str, Switch] = {}

    def of(self, token: str, player: str) -> Switch:
        """The switch that is called so; from now on it is there."""
        return self._known.setdefault(token, Switch(player))

    def end(self, token: str) -> None:
        self._known.pop(token, None)


def switch(lines: Sequence[Line], plan: bytes, player: str, writes: Callable[[int], Writes]) -> None:
    """Have all shards play by this plan, in which a player is another, over the table that is asked for shard by shard.

    A shard whose process dies meanwhile is asked anew: what was given to it was of the place to which it had come then.
    Errors: what a shard says, or whoever rebuilds: then that shard and those after it are as they were.
    """
    for shard, line in enumerate(lines):
        for left in reversed(range(TRIALS)):
            try:
                _switch(line, plan, player, partial(writes, shard))
            except Lost:
                if not left:
                    raise
            else:
                break


def _switch(line: Line, plan: bytes, player: str, writes: Callable[[], Writes]) -> None:
    """The same of one shard. Lost if it is to be asked anew."""
    token = secrets.token_hex(6)
    call = line.call("rebuild", plan, player, token)
    while not line.ask("come", token, player, LOOK_S):
        try:
            line.wait_once(call, timeout=0)
        except TimeoutError:
            continue
        return  # it was written, and the answer to this was lost
    try:
        found = writes()
    except BaseException:
        line.ask("give", token, player, None)
        raise
    line.ask("give", token, player, found)
    line.wait_once(call)
