"""Two takes of a store, compared from where they part.

Owns the way from `main` to a take, and where two such ways part.
"""

from __future__ import annotations

from contextlib import closing

from ensemble.errors import Unavailable
from ensemble.log import Fork, Position, count_shards, read_log, take_of
from ensemble.log import takes as kept
from ensemble.replay.difference import Difference, difference
from ensemble.stage.begin import recover


def difference_of(url: str, a: str, b: str) -> Difference:
    """What two takes of a store say differently since they parted.

    Errors: Unavailable if there is no such take, or the store has several shards.
    """
    store = kept.split(url)[0]
    for name in (a, b):
        kept.check_name(name)
        take_of(f"{store}#{name}")
        if (count_shards(f"{store}#{name}") or 1) > 1:
            raise Unavailable(f"store {store}: it has {count_shards(store)} shards, and takes of one are compared so far")
    with closing(read_log(f"{store}#{a}")) as was, closing(read_log(f"{store}#{b}")) as now:
        ends = was.end(), now.end()
        since = _parting(_way(store, a), _way(store, b), ends)
        return difference(was, now, (recover(was), recover(now)), since, ends)


def _way(store: str, take: str) -> list[tuple[str, Fork | None]]:
    """From `main` to a take: each take on the way, and where it leaves the one before it."""
    way: list[tuple[str, Fork | None]] = []
    while True:
        with closing(read_log(f"{store}#{take}")) as log:
            way.append((take, log.fork))
        if log.fork is None:
            return way[::-1]
        take = log.fork.take


def _parting(a: list[tuple[str, Fork | None]], b: list[tuple[str, Fork | None]], ends: tuple[Position, Position]) -> Position:
    common = 0
    while common < min(len(a), len(b)) and a[common][0] == b[common][0]:
        common += 1
    leaves = []
    for way, end in zip((a, b), ends, strict=True):
        fork = way[common][1] if common < len(way) else None
        leaves.append(end if fork is None else fork.at)
    return min(leaves)
