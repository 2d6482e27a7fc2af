"""The cut at which the shards of a band leave together: nothing that crossed between them is heard twice or lost."""

from __future__ import annotations

from typing import Any

from ensemble.broker import Broker, State
from ensemble.broker.outbox import shard_of
from ensemble.broker.words import Publication, Said
from ensemble.cuts import cut, state_at
from ensemble.event import Frame, encode
from ensemble.log.cut import place_of_time
from ensemble.log.memory import MemoryLog, MemoryStore

THERE = next(key for key in map(str, range(99)) if shard_of(key, 2) == 1)
"""A key of shard 1."""


class Shard:
    """A broker of one of two shards, and its log."""

    def __init__(self, number: int) -> None:
        self.log = MemoryLog(MemoryStore(f"log-{number}", "band", number))
        self.broker = Broker(State(), log_id=self.log.id, name="band", shard=number, shards=2, listeners={}, policies={})

    def keep(self, *frames: Frame | None) -> None:
        for frame in frames:
            if frame is not None:
                self.log.append([self.log.seal(frame)])

    def say(self, key: str, now_us: int) -> None:
        frame, _ = self.broker.publish([Publication(Said(["said"], 0, [key], [encode(None)]), "/band")], now_us)
        self.keep(frame)


def cross(a: Shard, b: Shard, *, sent_us: int, taken_us: int) -> None:
    """An event of a goes to b."""
    a.say(THERE, sent_us)
    box = a.broker.state.outbox[1]
    number = b.broker.state.inbox.get(0, 0)
    frames, _ = b.broker.accept(0, number, [box.parcels[each] for each in range(number, box.next)], taken_us)
    b.keep(*frames)


def states(shards: list[Shard], time_us: int) -> list[Any]:
    logs = [shard.log for shard in shards]
    places = cut(logs, [place_of_time(log, time_us) for log in logs])
    return [state_at(log, place) for log, place in zip(logs, places, strict=True)]


def test_what_was_sent_and_not_yet_taken_is_on_its_way() -> None:
    a, b = Shard(0), Shard(1)
    cross(a, b, sent_us=10, taken_us=20)

    there, here = states([a, b], 15)

    assert there.outbox[1].next == 1 and list(there.outbox[1].parcels) == [0]
    assert here.inbox == {} and here.end == 0


def test_what_was_taken_before_it_was_sent_by_another_clock_is_not_taken_yet() -> None:
    a, b = Shard(0), Shard(1)
    b.say(THERE, 5)
    cross(a, b, sent_us=100, taken_us=50)

    there, here = states([a, b], 80)

    assert there.end == 0 and not there.outbox
    assert here.inbox == {} and here.end == 1


def test_what_was_forgotten_before_it_was_taken_by_another_clock_is_not_forgotten() -> None:
    a, b = Shard(0), Shard(1)
    cross(a, b, sent_us=10, taken_us=90)
    a.broker.arrived(1, 1)
    a.say("x" if shard_of("x", 2) == 0 else THERE, 60)

    there, here = states([a, b], 80)

    assert list(there.outbox[1].parcels) == [0]
    assert here.inbox == {}


def test_shards_that_agree_leave_where_they_are_asked_to() -> None:
    a, b = Shard(0), Shard(1)
    for number in range(5):
        cross(a, b, sent_us=10 * number, taken_us=10 * number + 1)

    there, here = states([a, b], 30)

    assert there.outbox[1].next == 3
    assert here.inbox == {0: 3}
