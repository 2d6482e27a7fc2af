"""Large data as an instance gets it: from where the shard has put it, if this process can get there, else from the shard.

Owns the way there (docs/size.md, "Large data"). What it gets by its hash is right, whoever gave it. What is encrypted only the
shard opens: keys never leave it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from hashlib import sha256

import msgspec

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Event
from ensemble.log import blobs_at
from ensemble.log.blobs import Blobs, Claim, Claimed, Fetch
from ensemble.player import Work
from ensemble.stage.on_ray.peers import Peers

ANY_LOG = ""
"""Whichever the shard plays: in a take the event may be of one of those before it."""

log = logging.getLogger("ensemble.stage")


class Claims:
    """What one instance can get. Any thread."""

    def __init__(self, url: str, called: Sequence[str]) -> None:
        """`called` are the names of the shards' actors."""
        self._url = url
        self._peers = Peers(called, 0)
        self._places: dict[int, Blobs | None] = {}
        """Where each shard puts what is large; None: this process can't get there."""
        self._last = b"", b""
        """What was got last, and its digest: several views may look at it, one after the other."""

    def of(self, shard: int) -> Fetch:
        """What gets that which frames of a shard name."""
        return partial(self._get, shard)

    def _get(self, shard: int, claim: Claim) -> bytes:
        if claim.key_id:
            return self._from_shard(shard, claim)
        digest, data = self._last
        if digest != claim.digest:
            data = self._from_store(shard, claim) or self._from_shard(shard, claim)
            self._last = claim.digest, data
        return data

    def _from_shard(self, shard: int, claim: Claim) -> bytes:
        data: bytes = self._peers.ask(shard, "data", ANY_LOG, claim.offset)
        if not claim.key_id and sha256(data).digest() != claim.digest:
            raise LogCorrupt(f"shard {shard}: event {claim.offset} is not what was handed out: the band was rolled back since")
        return data

    def _from_store(self, shard: int, claim: Claim) -> bytes | None:
        """None: this process can't get it there."""
        try:
            place = self._place(shard)
            return None if place is None else place.get(claim.digest)
        except (LogCorrupt, Unavailable) as error:  # another machine, or no credentials here; if it is lost, the shard says so
            log.debug("large data of shard %s is asked for: %s", shard, error)
            return None

    def _place(self, shard: int) -> Blobs | None:
        if shard not in self._places:
            self._places[shard] = None
            self._places[shard] = blobs_at(self._url, shard)
        return self._places[shard]


def is_elsewhere(event: Event) -> bool:
    """Whether the data of an event is fetched when somebody looks at it."""
    return isinstance(event._rows.data, Claimed) and event._ix in event._rows.data.claims


def bring(work: Work, which: Sequence[int]) -> None:
    """Have the data of these events of a batch here. What can't be had is left to who looks at it. Blocks."""
    events = work.events
    assert isinstance(events, list), "what was unpacked is a list"
    for row in which:
        try:
            events[row] = msgspec.structs.replace(events[row], _rows=events[row]._rows.pick([events[row]._ix]), _ix=0)
        except (LogCorrupt, Unavailable):
            continue
