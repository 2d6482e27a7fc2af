"""Two takes of a store, compared from where they part.

Owns the way from `main` to a take, and where two such ways part.
"""

from __future__ import annotations

from contextlib import ExitStack, closing

from ensemble.cuts import cut, state_at
from ensemble.log import Fork, Position, count_shards, read_log, take_of
from ensemble.log import takes as kept
from ensemble.replay.difference import Difference, Parting, difference


def difference_of(url: str, a: str, b: str) -> Difference:
    """What two takes of a store say differently since they parted, in all shards.

    Errors: Unavailable if there is no such take.
    """
    store = kept.split(url)[0]
    for name in (a, b):
        kept.check_name(name)
        take_of(f"{store}#{name}")
    with ExitStack() as stack:
        was, now = (
            [stack.enter_context(closing(read_log(url, shard))) for shard in range(count_shards(url) or 1)]
            for url in (f"{store}#{a}", f"{store}#{b}")
        )
        upto = (cut(was, [log.end() for log in was]), cut(now, [log.end() for log in now]))
        partings = []
        for shard, (one, other) in enumerate(zip(was, now, strict=True)):
            ends = upto[0][shard], upto[1][shard]
            since = _parting(_way(store, a, shard), _way(store, b, shard), ends)
            partings.append(Parting(one, other, (state_at(one, ends[0]), state_at(other, ends[1])), since, ends))
        return difference(partings)


def _way(store: str, take: str, shard: int) -> list[tuple[str, Fork | None]]:
    """From `main` to a take: each take on the way, and where it leaves the one before it."""
    way: list[tuple[str, Fork | None]] = []
    while True:
        with closing(read_log(f"{store}#{take}", shard)) as log:
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
