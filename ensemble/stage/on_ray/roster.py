"""What the shards of a band and the one that leads tell each other of the instances of a section.

Owns the shapes. Either side tells all that it knows, each time, and numbers it: what comes twice or late changes nothing, and
what was lost is in the next. A *mark* says by which code and settings of the player one plays: for a while two may be played.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from ensemble.event import encode
from ensemble.stage.on_ray.plan import Plan

LEADER = 0
"""The shard that leads: it alone starts and ends instances."""

Moment = tuple[int, int]
"""The epoch of who tells, which a log's new writer raises, and the number of what it tells: a later one is larger."""


class Member(msgspec.Struct):
    """An instance that is ready."""

    id: int
    actor: Any
    pid: int
    mark: str
    owner: int | None = None
    """The one shard that may give it more; None: all may."""
    is_sole: bool = False
    """Whether the others have nothing there any more."""
    is_leaving: bool = False
    """It gets nothing more, and is ended when nobody has anything there."""


class Roster(msgspec.Struct):
    """Who is there: from the leader to a shard."""

    section: str
    at: Moment
    members: list[Member]
    known: int = 0
    """The epoch of that shard as the leader knows it."""
    error: str = ""
    """Why there will be no instances."""


class Report(msgspec.Struct):
    """What a shard has to do, and what it knows of the instances: from a shard to the leader."""

    section: str
    shard: int
    at: Moment
    mark: str
    seen: Moment = (0, 0)
    """The latest roster that it goes by."""
    lag: int = 0
    service_s: float = 0.0
    """How long an event takes an instance; 0: not known yet."""
    slowest_s: float = 0.0
    """How long an event that is being heard has taken already."""
    busy: frozenset[int] = frozenset()
    """The instances that have something from it."""
    finishing: frozenset[int] = frozenset()
    """Those among them that get no more from it."""
    lost: frozenset[int] = frozenset()
    """Those that died, or hang."""
    spent: frozenset[int] = frozenset()
    """Those that are of no more use when they have finished."""
    is_suspicious: bool = False
    """Whether it needs an instance of its own, to find out which event kills."""
    is_closed: bool = False


def mark_of(plan: Plan, name: str) -> str:
    """By what a player plays: the same in each shard that plays it so, whenever that began."""
    return sha256(encode([plan.document["players"][name], plan.calls.get(name)])).hexdigest()[:12]
