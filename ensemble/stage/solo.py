"""Solo: the players of one process, in the loop's own thread, on threads, or as coroutines.

Owns which player is played how. With a manual clock all play in the loop's thread, so that a run can be repeated byte by byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ensemble.broker.words import Outcome
from ensemble.player import Player
from ensemble.stage.inbox import Item, Role
from ensemble.stage.workers import Alone, AsyncThread, Inline, InlineTasks, Tasks, Threads, Workers


class SoloCrew:
    """The players of this process. `by_hand`: under a clock moved by hand."""

    def __init__(self, players: Mapping[str, Player], *, by_hand: bool) -> None:
        self.players = dict(players)
        """By name; one that joins is put in before it is hired."""
        self._by_hand = by_hand
        self._async = AsyncThread()

    def hire(self, role: Role, post: Callable[[Item], None], post_now: Callable[[Outcome], None]) -> Workers:
        player = self.players[role.spec.name]
        if player.shape.is_async:
            if self._by_hand:
                return InlineTasks(player, post_now, self._async.loop())
            return Tasks(player, post, self._async.loop())
        if self._by_hand:
            return Inline(player, post_now)
        if player.spec.section.max > 1 or player.spec.timeout_us is not None:
            return Threads(player, post, post)
        return Alone(player, post, post_now, post)

    def close(self) -> None:
        self._async.close()
