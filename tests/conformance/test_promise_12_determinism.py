"""Promise 12. State is a fold over frames; the same input and clock give the same log, byte by byte."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Event, emit
from ensemble.broker import State
from ensemble.testing import ManualClock
from tests.conformance.stand import Part, Setup, Stand, part


def place(event: Event) -> Any:
    yield emit("order.placed", event.data)
    yield emit("order.reminded", event.data, after="90s")


def pay(event: Event, ctx: Any) -> Any:
    ctx.state["n"] = ctx.state.get("n", 0) + 1
    if (event.data + ctx.attempt) % 3 == 0:
        raise ConnectionError(f"no answer at attempt {ctx.attempt}")
    return emit("order.paid", {"n": event.data, "token": ctx.token, "at": ctx.now.isoformat()})


async def ship(event: Event, ctx: Any) -> Any:
    if event.data["n"] % 7 == 0:
        raise ensemble.Reject("we do not ship this")
    return [emit("order.shipped", event.data), emit("parcel.counted", 1, key="all")]


def tally(events: list[Event]) -> Any:
    return emit("tally", len(events))


BY_HAND = pytest.mark.solo("a clock moved by hand")

MUSIC = {
    "place": part(place, "order.asked", emits=["order.placed", "order.reminded"]),
    "pay": part(pay, "order.placed", emits=["order.paid"], retry={"attempts": 4, "first": "40ms", "jitter": 0.3}),
    "ship": part(ship, "order.paid", emits=["order.shipped", "parcel.counted"]),
    "tally": part(tally, "parcel.counted", emits=["tally"], section={"batch": 10}),
}


STORES: list[Mapping[str, Any]] = [{"dedupe": "10m"}, {"dedupe": "20s"}, {"dedupe": "1h", "dedupe_most": 3}]
"""What the score says of ids, from opening to opening."""


def perform(stand: Stand, parts: Mapping[str, Part] = MUSIC, *, last: int = 59) -> None:
    """The same music each time: publish, leave and come back with other words on how long ids are kept.

    Where the clock can be moved by hand, time passes too.
    """
    clock = ManualClock() if stand.setup.stage == "solo" else None
    for opening in range(stand.size(3, 2)):
        store = STORES[opening % len(STORES)]
        band = stand.play(parts, clock=clock, sources={"tick": {"every": "1m", "topic": "tick"}}, store=store)
        numbers = range(20 * opening, min(20 * opening + 20, last + 1))
        band.publish_many({"topic": "order.asked", "key": f"o-{n % 5}", "data": n} for n in numbers)
        for number in range(4):
            band.publish("order.asked", 1000 + opening, key="x", id=f"web-{opening}-{number}")
            band.publish("order.asked", 2000, key="x", id="again")
        band.settle(30)
        if clock is not None:
            clock.advance(seconds=37)
    if clock is not None:
        clock.advance(minutes=10)
    stand.leave()


def contents(folder: str) -> dict[str, bytes]:
    """What a store's folder holds of the log; the lock names the process, and the manifest the day it was made."""
    root = Path(folder)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in ("lock", "ensemble.json")
    }


def test_the_same_input_and_clock_give_a_byte_identical_store(tmp_path: Path) -> None:
    stands = [Stand(Setup("solo", "directory"), tmp_path) for _ in range(2)]

    for stand in stands:
        perform(stand)

    first, second = (contents(stand.url) for stand in stands)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert sum(map(len, first.values())) > 10_000


def test_the_same_input_and_clock_give_the_same_bytes_in_memory_and_in_a_directory(tmp_path: Path) -> None:
    memory, directory = (Stand(Setup("solo", store), tmp_path) for store in ("memory", "directory"))

    for stand in (memory, directory):
        perform(stand)

    assert [frame.prev for frame in memory.frames()] == [frame.prev for frame in directory.frames()]


def test_these_tests_can_fail_one_event_more_gives_other_bytes(tmp_path: Path) -> None:
    stands = [Stand(Setup("solo", "directory"), tmp_path) for _ in range(2)]

    perform(stands[0])
    perform(stands[1], last=58)

    assert contents(stands[0].url) != contents(stands[1].url)


def folded(stand: Stand) -> State:
    state = State()
    for frame in stand.frames():
        state.apply(frame)
    return state


@pytest.mark.one_shard("folds one log")
def test_the_state_of_a_band_is_the_fold_of_its_log(stand: Stand) -> None:
    band = stand.play(MUSIC)
    band.publish_many({"topic": "order.asked", "key": f"o-{n % 5}", "data": n} for n in range(100))
    eight = band.publish("order.asked", 1, key="x", id="web-1")
    band.settle(60)
    status = band.status()

    state = folded(stand)

    assert state.end == status.events
    assert state.topics == status.topics
    assert {name: section.heard for name, section in state.sections.items()} == {
        name: section.heard for name, section in status.sections.items()
    }
    assert {key: ensemble.event.decode(value) for key, value in state.sections["pay"].table.items()} == dict(band.table("pay"))
    assert state.seen["web-1"][0] == eight.offset
    assert len(state.timers) == status.timers == 101


@BY_HAND
def test_how_long_ids_are_remembered_is_in_the_log_and_changes_with_the_score(stand: Stand) -> None:
    clock = ManualClock()
    seen: list[list[str]] = []
    for store in STORES:
        band = stand.play(store=store, clock=clock)
        for number in range(5):
            band.publish("said", id=f"{len(seen)}-{number}")
            clock.advance(seconds=8)
        seen.append(list(folded(stand).seen))
    stand.leave()

    state = folded(stand)

    assert seen == [
        ["0-0", "0-1", "0-2", "0-3", "0-4"],
        ["1-2", "1-3", "1-4"],
        ["2-2", "2-3", "2-4"],
    ]
    assert (state.dedupe_us, state.dedupe_most) == (3600_000_000, 3)
    assert [list(frame.marks["dedupe"]) for frame in stand.frames() if "dedupe" in frame.marks] == [
        [600_000_000, 200_000],
        [20_000_000, 200_000],
        [3600_000_000, 3],
    ]


def test_a_log_folded_twice_gives_the_same_state(stand: Stand) -> None:
    perform(stand)

    assert folded(stand).dump() == folded(stand).dump()


def test_the_snapshot_that_closing_leaves_is_the_fold_of_the_log_before_it(stand: Stand) -> None:
    perform(stand)

    with stand.log() as log:
        snapshot = log.snapshot()
        assert snapshot is not None
        state = State()
        for frame in log.frames():
            if frame.seq < snapshot.at.seq:
                state.apply(frame)
    # As values: the order of sets is no part of the state.
    assert State.load(snapshot.state) == State.load(state.dump())


@pytest.mark.directory("it removes the files of snapshots")
def test_a_band_opened_from_a_snapshot_stands_as_one_that_folds_the_whole_log(stand_on_disk: Stand) -> None:
    perform(stand_on_disk)
    whole = stand_on_disk.as_if_killed()
    snapshots = list(whole.own.rglob("*.snap"))
    assert snapshots
    for snapshot in snapshots:
        snapshot.unlink()

    with stand_on_disk.reader() as fast, whole.reader() as slow:
        assert fast.status().sections == slow.status().sections
        assert fast.status().topics == slow.status().topics
        assert fast.dead() == slow.dead()
        assert {name: fast.table(name) for name in MUSIC} == {name: slow.table(name) for name in MUSIC}


@BY_HAND
def test_time_is_stamped_by_the_broker_and_never_goes_back(stand: Stand) -> None:
    clock, earlier = ManualClock("2026-01-01T12:00:00Z"), ManualClock("2026-01-01T11:00:00Z")
    stand.play(clock=clock).publish("said", 1)

    stand.play(clock=earlier).publish("said", 2)
    stand.leave()

    times = [event.written_at for event in stand.reader().events()]
    assert times == [clock.now()] * 2


@BY_HAND
def test_a_band_under_a_manual_clock_does_nothing_by_itself(stand: Stand) -> None:
    clock = ManualClock()
    heard: list[Any] = []
    band = stand.play(
        {"hear": part(lambda event: heard.append(event.data), "tick")},
        clock=clock,
        sources={"tick": {"every": "1m", "topic": "tick", "data": 1}},
    )

    assert heard == []
    clock.advance(minutes=3, seconds=1)
    assert heard == [1, 1, 1]
    band.settle()
    assert heard == [1, 1, 1]


@pytest.mark.parametrize("runs", [2])
def test_a_player_hears_the_same_time_in_the_same_run(tmp_path: Path, runs: int) -> None:
    told = []
    for _ in range(runs):
        clock = ManualClock()
        seen: list[Any] = []
        stand = Stand(Setup("solo", "memory"), tmp_path)

        def look(event: Event, ctx: Any, seen: list[Any] = seen) -> None:
            seen.append((event.data, ctx.now, event.time, event.written_at))

        band = stand.play({"look": part(look, "said")}, clock=clock)
        for number in range(5):
            band.publish("said", number)
            clock.advance(seconds=number)
        stand.leave()
        told.append(seen)

    assert told[0] == told[1]
    assert len(told[0]) == 5
