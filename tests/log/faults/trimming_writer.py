"""A process that says events, saves and trims until it is killed: `python trimming_writer.py URL SEED [ARCHIVE]`.

After each group that was acknowledged it prints the offset of the next event. What an event holds follows from its offset.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))

from ensemble.broker.needs import Needs
from ensemble.broker.state import State
from ensemble.event import REMOVED, Frame, Rows, encode
from ensemble.log import EventLog, LogReader, Snapshot
from ensemble.log.directory import DirectoryLog, open_directory
from ensemble.log.objects import codec
from ensemble.log.objects.log import open_objects, read_root
from ensemble.log.objects.store import MANIFEST, objects_at
from ensemble.log.retention import trim
from tests.log.past_samples import rules

NEEDED_EVERY = 97
"""Each event at such an offset is needed for ever."""
KEPT, IN_OBJECTS = "60KB", "8KB"
"""There each commit is a file, and fewer are made in the time."""


BLOCK = 12
"""So many commits to an object store make a segment."""


def opened(url: str) -> EventLog:
    if not url.startswith(("objects:", "s3:")):
        return open_directory(url, name="band", log_id="log", segment_bytes=6_000)
    objects = objects_at(url, make=True)
    if read_root(objects) is None:
        made = codec.new_manifest("log", "band", 0)._replace(block=BLOCK)
        objects.create(MANIFEST, codec.encode_manifest(made))
    return open_objects(objects, name="band", log_id="log")


def event(offset: int) -> tuple[str, str, bytes]:
    chance = random.Random(offset)
    return "ab"[offset % 2], f"k-{chance.randrange(20)}", encode({"n": offset, "x": "x" * chance.randrange(400)})


def said(log: EventLog, count: int) -> Frame:
    first = log.end().offset
    events = [event(first + ix) for ix in range(count)]
    rows = Rows(
        "", 0, first, 0, ["a", "b"], [int(topic == "b") for topic, _, _ in events], [key for _, key, _ in events],
        [data for _, _, data in events], ["/band"], 0,
    )  # fmt: skip
    wrote = {key: encode(first + ix) for ix, (_, key, _) in enumerate(events)}
    return Frame(first, log.end().time_us + 1, rows, {"wrote": {"p": wrote}})


def folded(log: LogReader) -> State:
    snapshot = log.snapshot()
    state = State() if snapshot is None else State.load(snapshot.state)
    for frame in log.frames(0 if snapshot is None else snapshot.at.seq):
        state.apply(frame)
    return state


def write(log: EventLog, seed: int, archive: str | None = None) -> None:
    chance = random.Random(seed)
    retain = {"size": KEPT if isinstance(log, DirectoryLog) else IN_OBJECTS}
    which = rules(retain if archive is None else retain | {"archive": archive}, {"b": {"compact": True}}, compress="zstd")
    state = folded(log)
    print(state.end, flush=True)

    def append(frame: Frame) -> None:
        sealed = log.seal(frame)
        state.apply(frame)
        log.append([sealed])

    def say(statement: list[Any]) -> None:
        append(Frame(state.end, state.time_us, None, {"removed": [statement]}))
        print(state.end, flush=True)

    while True:
        for _ in range(chance.randrange(1, 10)):
            append(said(log, chance.randrange(1, 6)))
            print(state.end, flush=True)
        log.save(Snapshot(log.end(), state.dump()))
        floor = max(0, state.end - chance.randrange(50))
        trim(log, which, Needs(floor, range(0, floor, NEEDED_EVERY)), state.time_us, say, worth=chance.choice([0, 0.2, 0.9]))


def check(log: LogReader, acknowledged: int) -> None:
    """That all is there that must be, and is as it was said."""
    begin, end = log.begin(), log.end()
    assert end.offset >= acknowledged
    at, seq = begin.offset, begin.seq
    newest: dict[str, int] = {}
    there: set[int] = set()
    for frame in log.frames():
        assert (frame.first, frame.seq) == (at, seq)
        at, seq = frame.end, frame.seq + 1
        for ix in range(frame.count):
            assert frame.rows is not None
            topic, key, data = event(frame.first + ix)
            if topic == "b":
                newest[key] = frame.first + ix
            if frame.rows.topic(ix) != REMOVED:
                assert (frame.rows.topic(ix), frame.rows.keys[ix], frame.rows.data[ix]) == (topic, key, data)
                there.add(frame.first + ix)
    assert (at, seq) == (end.offset, end.seq)
    assert set(newest.values()) <= there, "the newest of a key stays"
    assert {offset for offset in range(begin.offset, end.offset) if offset % 2 == 0} <= there, "a topic without a rule stays"
    for offset in range(0, end.offset - 50, NEEDED_EVERY):
        rows = log.frame_at(offset).rows
        assert rows is not None
        assert rows.data[offset - rows.first] == event(offset)[2]
    base = log.base()
    whole = State() if base is None else State.load(base.state)
    for frame in log.frames():
        whole.apply(frame)
    expected: dict[str, bytes] = {}
    for offset in range(end.offset):
        expected[event(offset)[1]] = encode(offset)
    for state in (whole, folded(log)):
        assert state.sections["p"].table == expected
        assert sum(state.topics.values()) == end.offset


if __name__ == "__main__":
    write(opened(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
