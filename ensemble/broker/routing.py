"""Which events concern a section, and in whose lane each waits.

Owns the listener: a player's motif made ready to sort whole frames. Pure: the same rows give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from ensemble.broker.outbox import listens
from ensemble.event import Event, Rows

Predicate = Callable[[Event], bool]


class Heed(msgspec.Struct):
    """The rows of a frame that concern a section.

    Shapes: `offsets` and `keys` (the lanes) have one entry an event, ascending; `skipped` are the offsets whose topic
            fits but whose `where` does not hold.
    """

    offsets: Sequence[int]
    keys: Sequence[str]
    skipped: Sequence[int] = ()


NOTHING = Heed((), ())


def crosses(order: str, by: Callable[[Event], str] | None, patterns: Iterable[str]) -> bool:
    """Whether a lane may have events of different shards: of several keys, or the band's own, which stay where they arise."""
    return by is not None or order == "all" or (order == "key" and any(each.split(".")[0] == "_band" for each in patterns))


class Listener:
    """A simple motif: topic patterns, each with or without a condition."""

    def __init__(
        self,
        leaves: Sequence[tuple[str, Predicate | None]],
        *,
        order: Literal["key", "none", "all"] = "key",
        by: Callable[[Event], str] | None = None,
    ) -> None:
        self.leaves = leaves
        self.patterns = tuple(sorted({pattern for pattern, _ in leaves}))
        self.order = order
        self.by = by
        self.crosses = crosses(order, by, self.patterns)
        self._judges: dict[str, Sequence[Predicate] | bool] = {}

    def heed(self, rows: Rows, start: int = 0) -> Heed:
        """Sort the rows of a frame, from row `start` on."""
        judges = [self._judge(topic) for topic in rows.topics]
        if not any(judge is not False for judge in judges):
            return NOTHING
        n, first = len(rows), rows.first
        ix = rows.topic_ix
        if isinstance(ix, int):
            judges = [judges[ix]]
            if judges[0] is False:
                return NOTHING
        skipped: Sequence[int] = ()
        if all(judge is True for judge in judges):
            if start == 0 and self.order == "key" and self.by is None:
                return Heed(range(first, first + n), rows.keys)
            chosen: Sequence[int] = range(start, n)
        elif isinstance(ix, int):
            chosen, skipped = self._ask(rows, [(row, judges[0]) for row in range(start, n)])
        else:
            chosen, skipped = self._ask(rows, [(row, judges[ix[row]]) for row in range(start, n)])
        return Heed(
            range(first + start, first + n) if isinstance(chosen, range) else [first + row for row in chosen],
            self.lanes(rows, chosen),
            skipped,
        )

    def concerns(self, rows: Rows, row: int) -> bool:
        """Whether one event is to be heard."""
        judge = self._judge(rows.filed(row))
        return judge if isinstance(judge, bool) else any(where(rows.event(row)) for where in judge)

    def _judge(self, topic: str) -> Sequence[Predicate] | bool:
        """True: every event of the topic; False: none; else those for which any of the conditions holds."""
        judge = self._judges.get(topic)
        if judge is None:
            fitting = [where for pattern, where in self.leaves if listens(pattern, topic)]
            conditions = [where for where in fitting if where is not None]
            judge = False if not fitting else conditions if len(conditions) == len(fitting) else True
            self._judges[topic] = judge
        return judge

    def _ask(self, rows: Rows, asked: Sequence[tuple[int, Sequence[Predicate] | bool]]) -> tuple[list[int], list[int]]:
        chosen, skipped = [], []
        for row, judge in asked:
            if judge is True:
                chosen.append(row)
            elif judge is not False:
                event = rows.event(row)
                if any(where(event) for where in judge):
                    chosen.append(row)
                else:
                    skipped.append(rows.first + row)
        return chosen, skipped

    def lanes(self, rows: Rows, chosen: Sequence[int]) -> Sequence[str]:
        """The lane of each of these rows."""
        if self.order == "all":
            return [""] * len(chosen)
        if self.by is not None:
            return [self.by(rows.event(row)) for row in chosen]
        keys = rows.keys
        return [keys[row] for row in chosen]
