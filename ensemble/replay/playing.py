"""Players called for one batch at a time, here and now, with the time that the batch says.

Owns their instances. What comes of a batch is the caller's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ensemble.broker.section import Batch
from ensemble.broker.state import State
from ensemble.broker.words import Outcome
from ensemble.event import Event, Ref
from ensemble.listening import lookups
from ensemble.player import Player, Work
from ensemble.player.outside import muted
from ensemble.stage.inbox import Item, Role
from ensemble.stage.seat import look_up
from ensemble.stage.solo import SoloCrew
from ensemble.stage.workers import Workers

PROBES = 20
"""Batches of a player that are heard twice, to see whether it is steady."""


class Playing:
    """The players of a score. PlayerError if one can't be built."""

    def __init__(self, players: Mapping[str, Player]) -> None:
        self.players = players
        self._outcomes: list[Outcome] = []
        self._probed: Counter[str] = Counter()
        self.unsteady: Counter[str] = Counter()
        """Players that answered the same batch in two ways, and how often."""
        self._crew = SoloCrew(players, by_hand=True)
        self._workers: dict[str, Workers] = {}
        try:
            for name, player in players.items():
                role = Role(player.spec, player.shape.is_async, player.shape.batch)
                self._workers[name] = self._crew.hire(role, self._came_back, self._outcomes.append)
        except BaseException:
            self.close()
            raise
        self._lookups: dict[str, tuple[Sequence[str], Mapping[str, tuple[str, Callable[[Event], str | None]]]]] = {
            name: (player.spec.reads, lookups(player.spec)) for name, player in players.items()
        }

    def _came_back(self, item: Item) -> None:
        """Nothing else comes back from players that are called here and now."""
        assert isinstance(item, Outcome)
        self._outcomes.append(item)

    def is_muted(self, name: str) -> bool:
        """Whether nobody plays: what it said then is said again."""
        return name in self.players and self.players[name].call is muted

    def hear(
        self, batch: Batch, events: Sequence[Event], refs: Sequence[Ref], roots: Sequence[Ref], state: State
    ) -> list[Outcome]:
        """What comes of a batch, heard in this state; of a player that hears several lanes at a time, a part for each."""
        work = Work(batch, events, refs, roots, state.section(batch.section).table)
        reads, enrich = self._lookups[batch.section]
        if reads or enrich:
            look_up(work, reads, enrich, lambda name: state.sections[name].table if name in state.sections else {})
        self._outcomes.clear()
        self._workers[batch.section].start(work)
        return list(self._outcomes)

    def probe(
        self,
        batch: Batch,
        events: Sequence[Event],
        refs: Sequence[Ref],
        roots: Sequence[Ref],
        state: State,
        outcomes: Sequence[Outcome],
    ) -> None:
        """Ask once more what came out otherwise than then: who answers the same question in two ways is `unsteady`."""
        name = batch.section
        self._probed[name] += 1
        if self._probed[name] <= PROBES:
            again = self.hear(batch, [event.view() for event in events], refs, roots, state)
            if _essence(again) != _essence(outcomes):
                self.unsteady[name] += 1

    def close(self) -> None:
        for each in self._workers.values():
            each.close()
        self._crew.close()


def _essence(outcomes: Sequence[Outcome]) -> list[Any]:
    """What came of a batch, without how long it took."""
    return [
        (
            outcome.wrote,
            None
            if outcome.said is None
            else (outcome.said.topics, outcome.said.topic_ix, outcome.said.keys, outcome.said.data),
            [(failure.offset, failure.error) for failure in outcome.failures],
            [(each.after_us, each.topic, each.key, each.data) for each in outcome.later],
        )
        for outcome in outcomes
    ]
