"""What a log must show when all has been heard, read frame by frame by rules of its own: it does not use the broker's fold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ensemble.event import Event, Frame


@dataclass
class Hearing:
    """What a section has dealt with, offset by offset."""

    position: int = 0
    done: Counter[int] = field(default_factory=Counter)
    put_off: set[int] = field(default_factory=set)


def deal(hearing: Hearing, mark: list[object]) -> list[int]:
    """Fold one `heard` mark in; the offsets that were dealt with in it."""
    position, _passed, opened, closed, *_ = mark
    assert isinstance(position, int)
    assert isinstance(opened, list | tuple)
    assert isinstance(closed, list | tuple)
    now = [offset for offset in range(hearing.position, position) if offset not in set(opened)]
    now += closed
    hearing.put_off |= set(opened)
    hearing.put_off -= set(closed)
    hearing.position = max(hearing.position, position)
    hearing.done.update(now)
    return now


def effect_faults(frames: Iterable[Frame], listens: Mapping[str, Callable[[str], bool]]) -> list[str]:
    """What is wrong with a log in which every section has heard all: effects torn from their hearing, missing, or there twice.

    Shapes: `listens` says for each section which topics concern it.
    """
    wrong: list[str] = []
    hearings: defaultdict[str, Hearing] = defaultdict(Hearing)
    matches: set[tuple[str, tuple[int, ...]]] = set()
    answered_in: dict[tuple[int, str], int] = {}
    topics: list[str] = []
    end = 0
    for frame in frames:
        if frame.first != end:
            wrong.append(f"frame {frame.seq} begins at offset {frame.first}, the one before it ended at {end}")
        end = frame.end
        dealt = {name: set(deal(hearings[name], mark)) for name, mark in frame.marks.get("heard", {}).items()}
        for event in events_of(frame):
            topics.append(event.topic)
            if event.causationid is None:
                continue
            if parts := tuple(event._rows.parts(event._ix)):  # a motif that was heard, which the broker says itself
                if (event.topic, parts) in matches or parts[-1] >= event.offset:
                    wrong.append(f"a match of {event.topic} is made of {parts} again, or of what comes after it")
                matches.add((event.topic, parts))
                continue
            cause, section = int(event.causationid.rpartition("-")[2]), event.source.rpartition("/")[2]
            if cause not in dealt.get(section, ()):
                wrong.append(f"{section} answered {cause} with {event.topic} in frame {frame.seq}, but did not hear it there")
            first = answered_in.setdefault((cause, section), frame.seq)
            if first != frame.seq:
                wrong.append(f"{section} answered {cause} in frame {first}, and with {event.topic} again in frame {frame.seq}")
    for name, fits in listens.items():
        hearing = hearings[name]
        for offset, topic in enumerate(topics):
            if fits(topic) and hearing.done[offset] != 1:
                wrong.append(f"{name} has dealt {hearing.done[offset]} times with {offset}, {topic}")
    return wrong


def events_of(frame: Frame) -> Iterable[Event]:
    rows = frame.rows
    return () if rows is None else (rows.event(ix) for ix in range(len(rows)))
