"""A band as it was: for any history and any place, what a reader of then sees is what a log cut at that place adds up to.

The cut is made in the plainest way: the frames before the place are appended to a log of their own, which is read from its
first frame. Histories say, wait until retries, timers and expiry fall due, and close and open again, which keeps snapshots.
Bugs that are planted at the end show that the property can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ensemble
from ensemble import Event, Reject, emit
from ensemble.event import EPOCH, Frame
from ensemble.log import cut, open_log
from ensemble.log.memory import MemoryReader
from ensemble.reader import Reader
from ensemble.testing import ManualClock
from tests.effort import some

Step = tuple[str, Any]

SCORE = {
    "ensemble": 1,
    "name": "past",
    "players": {
        "sum": {
            "on": ["said", "echoed"],
            "emits": ["echoed"],
            "state": {"expire": "6s"},
            "retry": {"attempts": 2, "first": "1s"},
        },
        "all": {"on": ">"},
    },
}

_numbers = count(1)


def add_up(event: Event, ctx: Any) -> Any:
    ctx.state["sum"] = ctx.state.get("sum", 0) + event.data
    if event.data == 5:
        raise Reject("five")
    if event.data == 6 and ctx.attempt == 1:
        raise ValueError("six, at first")
    if event.data == 3:
        ctx.state = None
    return emit("echoed", event.data - 1, after="2s" if event.data == 4 else None) if event.data > 1 else None


def note(event: Event, ctx: Any) -> None:
    ctx.state["last"] = event.id


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 6))),
        st.tuples(st.just("say many"), st.integers(2, 5)),
        st.tuples(st.just("wait"), st.sampled_from([0, 1, 3, 7])),
        st.tuples(st.just("close and open"), st.none()),
    ),
    min_size=1,
    max_size=12,
)


def played(steps: Sequence[Step]) -> str:
    """The url of a store with this history."""
    url, clock = f"memory:past-{next(_numbers)}", ManualClock()

    def play() -> ensemble.Band:
        return ensemble.open(SCORE, store=url, clock=clock, players={"sum": add_up, "all": note})

    band = play()
    for what, detail in steps:
        if what == "say":
            band.publish("said", detail[1], key=detail[0])
        elif what == "say many":
            band.publish_many({"key": f"k-{n}", "data": n, "topic": "said"} for n in range(detail))
        elif what == "wait":
            clock.advance(seconds=detail)
        else:
            band.close()
            band = play()
        band.settle()
    band.close()
    return url


def log_of(frames: Sequence[Frame], id: str) -> str:
    """The url of a log that has these frames and no snapshot."""
    url = f"memory:cut-{next(_numbers)}"
    log = open_log(url, name="past", id=id)
    log.append([log.seal(Frame(each.first, each.time_us, each.rows, each.marks)) for each in frames])
    log.close()
    return url


def seen(reader: Reader) -> dict[str, Any]:
    status = reader.status()
    return {
        "tables": {name: dict(reader.table(name).items()) for name in status.sections},
        "dead": [(letter.id, letter.player, letter.attempts) for letter in reader.dead()],
        "sections": status.sections,
        "topics": status.topics,
        "timers": status.timers,
        "events": [event.id for event in reader.events()],
    }


def before_offset(frames: Sequence[Frame], offset: int) -> list[Frame]:
    holds = next((frame.seq for frame in frames if frame.first <= offset < frame.end), len(frames))
    return [frame for frame in frames if frame.seq < holds]


def before_time(frames: Sequence[Frame], time_us: int) -> list[Frame]:
    return [frame for frame in frames if frame.time_us < time_us]


def check(steps: Sequence[Step]) -> None:
    reader = ensemble.read(played(steps))
    log = reader._shards[0].log
    frames = list(log.frames())
    for offset in range(log.end().offset + 1):
        assert seen(reader.at(offset)) == seen(ensemble.read(log_of(before_offset(frames, offset), log.id))), f"offset {offset}"
    moments = sorted({frame.time_us + late for frame in frames for late in (0, 1)})
    for time_us in moments:
        when = EPOCH + timedelta(microseconds=time_us)
        assert seen(reader.at(when)) == seen(ensemble.read(log_of(before_time(frames, time_us), log.id))), f"time {when}"


@settings(deadline=None, max_examples=some(40), suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_what_was_is_what_a_log_cut_there_adds_up_to(steps: list[Step]) -> None:
    check(steps)


def off_by_a_frame(log: Any, offset: int) -> Any:
    place = cut_at_offset(log, offset)
    return place._replace(seq=max(0, place.seq - 1))


def with_the_moment_itself(log: Any, time_us: int) -> Any:
    return cut_at_time(log, time_us + 1)


def newest_of_all(self: MemoryReader, upto: int | None = None) -> Any:
    snapshots = self._store.snapshots
    return snapshots[-1] if snapshots else None


cut_at_offset, cut_at_time = cut.place_of_offset, cut.place_of_time

TWICE: list[Step] = [("say", ("a", 1)), ("wait", 1), ("say", ("a", 2))]
BUGS: dict[str, tuple[str, Callable[..., Any], list[Step]]] = {
    "a frame too few": ("ensemble.reader.place_of_offset", off_by_a_frame, TWICE),
    "the moment itself": ("ensemble.reader.place_of_time", with_the_moment_itself, TWICE),
    "a snapshot of later": ("ensemble.log.memory.MemoryReader.snapshot", newest_of_all, [*TWICE, ("close and open", None)]),
}
"""What is planted where, and a history that shows it."""


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_that_is_planted_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, planted, steps = BUGS[bug]
    check(steps)
    monkeypatch.setattr(place, planted)

    with pytest.raises((AssertionError, ensemble.EnsembleError)):
        check(steps)
