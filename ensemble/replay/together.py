"""All shards of a past, played on side by side into one take.

Owns the order in which their recorded frames are taken up, and what goes from shard to shard of the take: a parcel arrives when
the one that it is the pair of did, one that has no pair as soon as nothing recorded is on its way there. Of one shard there is
nothing to do but to follow.

Invariant, for a frame f that is taken up, and any shards a and b: what f says has arrived, or was heard to have arrived, was
taken up before. So each state on the way is a consistent cut (docs/takes.md).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import permutations

from ensemble.broker import State
from ensemble.broker.outbox import Parcel
from ensemble.event import Frame
from ensemble.log.base import EventLog
from ensemble.replay.followed import Followed
from ensemble.replay.following import Following
from ensemble.replay.playing import Playing
from ensemble.replay.record import Record
from ensemble.score import Score


def in_turn(records: Sequence[Record]) -> Iterator[tuple[Record, Frame]]:
    """The frames to come of all shards, by their times, each after what it rests on. Each is to be passed by `apply`."""
    coming = [record.frames() for record in records]
    heads = [next(frames, None) for frames in coming]
    while True:
        able = [
            (frame.time_us, shard)
            for shard, frame in enumerate(heads)
            if frame is not None and _may_come(records, shard, frame)
        ]
        if not able:
            assert not any(heads), "the records end at a consistent cut"
            return
        _, shard = min(able)
        frame = heads[shard]
        assert frame is not None
        yield records[shard], frame
        heads[shard] = next(coming[shard], None)


def _may_come(records: Sequence[Record], shard: int, frame: Frame) -> bool:
    """Whether the other shards have come to where they had sent, and taken in, what a frame says."""
    marks = frame.marks
    sent = all(_sent(records[a].state, shard) >= number for a, number in marks.get("in", {}).items())
    return sent and all(records[b].state.inbox.get(shard, 0) >= number for b, number in marks.get("arrived", {}).items())


def _sent(state: State, shard: int) -> int:
    """How many parcels a shard has sent to another."""
    box = state.outbox.get(shard)
    return 0 if box is None else box.next


class Together:
    """The shards of a take that is being made, as `Following` of one."""

    def __init__(
        self, records: Sequence[Record], logs: Sequence[EventLog], score: Score, playing: Playing, chosen: frozenset[str]
    ) -> None:
        names: dict[str, str] = {}
        self._records = records
        self._shards: list[Following] = []
        self._ways = {
            (a, b): ([_sent(records[a].state, b)], [_sent(records[a].state, b)])
            for a, b in permutations(range(len(records)), 2)
        }
        """From where to where -> up to which number parcels were sent: in the record, and at the same moments in the take."""
        for shard, (record, log) in enumerate(zip(records, logs, strict=True)):
            self._shards.append(Following(record, log, score, playing, chosen, names, partial(self._parcels, shard)))

    def sections(self) -> Iterator[Followed]:
        """All sections of all shards."""
        for each in self._shards:
            yield from each.sections.values()

    def follow(self, shard: int, frame: Frame) -> None:
        """Play what a recorded frame tells of."""
        self._shards[shard].follow(frame)
        if self._ways:
            self._note(shard)
            self._bring(frame.time_us)

    def finish(self) -> list[State]:
        """Hear what is left of what was not said then, and write it all; the states at the end."""
        while True:
            for shard, each in enumerate(self._shards):
                each.hear_what_waits()
                self._note(shard)
            if not self._bring(max(each.broker.state.time_us for each in self._shards)):
                return [each.finish() for each in self._shards]

    def _note(self, a: int) -> None:
        """Remember how much a shard has sent by now, on either side: parcel by parcel, where it sent several at once."""
        for b in range(len(self._shards)):
            if b == a:
                continue
            then, now = self._ways[a, b]
            sent_then, sent_now = _sent(self._records[a].state, b), _sent(self._shards[a].broker.state, b)
            for number in range(then[-1] + 1, sent_then):
                then.append(number)
                now.append(min(now[-1] + 1, sent_now))
            if (sent_then, sent_now) != (then[-1], now[-1]):
                then.append(sent_then)
                now.append(sent_now)

    def _parcels(self, b: int, a: int, number: int) -> tuple[int, list[Parcel]]:
        """What a has sent to b in the take of what it had sent before this number in the record, and b does not have."""
        then, now = self._ways[a, b]
        return self._unbrought(a, b, now[bisect_right(then, number) - 1])

    def _unbrought(self, a: int, b: int, end: int) -> tuple[int, list[Parcel]]:
        first = self._shards[b].broker.state.inbox.get(a, 0)
        box = self._shards[a].broker.state.outbox.get(b)
        parcels = [] if box is None else [box.parcels[number] for number in range(first, max(first, end))]
        if parcels:
            self._shards[a].broker.arrived(b, end)
        return first, parcels

    def _bring(self, now_us: int) -> bool:
        """Bring everywhere what nothing recorded is on its way before; whether anything went."""
        went = False
        for a, b in self._ways:
            if _sent(self._records[a].state, b) == self._records[b].state.inbox.get(a, 0):
                first, parcels = self._unbrought(a, b, _sent(self._shards[a].broker.state, b))
                if parcels:
                    went = True
                    self._shards[b].take_in(a, first, parcels, now_us)
                    self._shards[b].hear_free(now_us)
                    self._note(b)
        return went
