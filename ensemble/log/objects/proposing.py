"""Proposing, and settling what was proposed: the steps of `proposal.py`, driven over a store of several shards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing

from ensemble.errors import Unavailable
from ensemble.log.base import EventLog
from ensemble.log.objects.log import read_objects
from ensemble.log.objects.proposal import Accepted, Propose, Refused, Settle, Settled, proposal
from ensemble.log.objects.protocol import Answer, Call, Log, Unknown
from ensemble.log.objects.reading import ObjectReader
from ensemble.log.objects.store import Objects


class Proposals:
    """See `ensemble.log.pending.Board`."""

    def __init__(self, objects: Objects) -> None:
        self.where = objects.where
        self._objects = objects

    def put(self, data: bytes, logs: Sequence[EventLog]) -> None:
        """Where the store gives no answer in the end it may hold, and the sentence says that."""
        parts, ends = self._stand(logs)
        step: Propose | Accepted | Refused = Propose(os.urandom(12).hex(), data, ends)
        while isinstance(step, Propose):
            there, phase = self._objects if step.shard is None else parts[step.shard], step.phase
            try:
                step = step.told(_tried(there, step.wants()) if phase == "withdraw" else there.ask(step))
            except Unavailable as error:
                if phase in ("decide", "compare"):
                    raise Unavailable(
                        f"{error}; whether the shards get it is not known now, and is once all of them were opened again: play "
                        "the store and stop it, or do this again"
                    ) from error
                raise
        if isinstance(step, Refused):
            raise self._taken_over(step.shard)

    def holding(self) -> Iterator[tuple[str, bytes]]:
        """What is proposed, and not decided, is refused."""
        step: Settle | Settled = Settle()
        while isinstance(step, Settle):
            is_clearing = step.phase == "clear"
            step = step.told(_tried(self._objects, step.wants()) if is_clearing else self._objects.ask(step))
        for token, data in step.accepted:
            yield self._objects.path(proposal(token)), data

    def remove(self, name: str) -> None:
        self._objects.patiently(lambda: self._objects.delete(name))

    def _stand(self, logs: Sequence[EventLog]) -> tuple[list[Objects], tuple[tuple[Log, int], ...]]:
        """Where the objects of each log are, and which entry is next there.

        Errors: Unavailable if somebody began in one of them after who has these logs.
        """
        parts, ends = [], []
        for log in logs:
            with closing(read_objects(self._objects, log.shard)) as there:
                assert isinstance(there, ObjectReader), "what is written is no archive"
                names, number, epoch = there.next_entry()
            if epoch != log.epoch:
                raise self._taken_over(log.shard)
            parts.append(there.objects)
            ends.append((names, number))
        return parts, tuple(ends)

    def _taken_over(self, shard: int | None) -> Unavailable:
        which = "one of its shards" if shard is None else f"its shard {shard}"
        return Unavailable(
            f"store {self.where}: {which} was opened by somebody else meanwhile, and nothing was changed: stop who plays it, "
            "and do this again"
        )


def _tried(objects: Objects, call: Call) -> Answer:
    """The answer to a call after which all is as it should be, whatever comes of it: one that is refused stops nobody."""
    try:
        return objects.call(call)
    except Unavailable:
        return Unknown()
