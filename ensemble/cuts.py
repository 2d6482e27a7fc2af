"""Cuts: a place in each shard of a log, such that what is before them is a state that the band could have been in.

Owns which cut is the latest at or before some places: of one shard it is the place itself, of several it must be consistent.
Where a moment lies in one log, and how that is read up to there, is the business of `ensemble.log.cut`.

Invariants, for any two shards a and b, in their states there:
    a.outbox[b].first <= b.inbox[a] <= a.outbox[b].next
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ensemble.broker.state import State
from ensemble.event import Frame
from ensemble.log.base import LogReader, Position
from ensemble.log.cut import place_of_offset, place_of_time


def before_event(time_us: int, shard: int, offset: int, logs: Sequence[LogReader]) -> list[Position]:
    """The latest consistent cut before an event that lies there and was written then."""
    places = [place_of_offset(log, offset) if ix == shard else place_of_time(log, time_us) for ix, log in enumerate(logs)]
    return cut(logs, places)


def state_at(log: LogReader, place: Position) -> State:
    """What a log adds up to at a place."""
    snapshot = log.snapshot(place.seq)
    state = State() if snapshot is None else State.load(snapshot.state)
    for frame in log.frames(0 if snapshot is None else snapshot.at.seq):
        if frame.seq >= place.seq:
            break
        state.apply(frame)
    return state


def cut(logs: Sequence[LogReader], places: Sequence[Position]) -> list[Position]:
    """The latest consistent cut at or before these places, shard by shard."""
    found = list(places)
    if len(logs) == 1:
        return found
    states = [state_at(log, place) for log, place in zip(logs, found, strict=True)]
    while (wrong := _inconsistent(states)) is not None:
        shard, is_beyond = wrong
        found[shard] = _first(logs[shard], is_beyond)
        states[shard] = state_at(logs[shard], found[shard])
    return found


def _inconsistent(states: Sequence[State]) -> tuple[int, Callable[[Frame], bool]] | None:
    """A shard that has to be moved back, and before which frame."""
    for a, sender in enumerate(states):
        for b, box in sender.outbox.items():
            taken = states[b].inbox.get(a, 0)
            if min(box.parcels, default=box.next) > taken:
                return a, lambda frame, b=b, most=taken: frame.marks.get("arrived", {}).get(b, 0) > most
    for b, receiver in enumerate(states):
        for a, taken in receiver.inbox.items():
            sent = states[a].outbox[b].next if b in states[a].outbox else 0
            if taken > sent:
                return b, lambda frame, a=a, most=sent: frame.marks.get("in", {}).get(a, 0) > most
    return None


def _first(log: LogReader, is_beyond: Callable[[Frame], bool]) -> Position:
    """The place before the first frame of which this holds; there must be one."""
    before_us = log.begin().time_us
    for frame in log.frames(log.begin().seq):
        if is_beyond(frame):
            return Position(frame.seq, frame.first, frame.prev, before_us)
        before_us = frame.time_us
    raise AssertionError("a state follows from the frames before it")
