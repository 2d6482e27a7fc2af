"""Any process can read a store at any time, playing or not, without disturbing it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Context, Event, OffsetError, Unavailable, emit
from ensemble.testing import ManualClock
from tests.conformance.stand import Stand, eventually, part

pytestmark = pytest.mark.solo("what a reader sees is in the log, whoever wrote it")


def count(event: Event, ctx: Context) -> Any:
    ctx.state["n"] = ctx.state.get("n", 0) + 1
    if event.data == 13:
        raise ensemble.Reject("thirteen")
    return emit("counted", event.data)


PARTS = {"count": part(count, "said", emits=["counted"])}


def say(band: Any, numbers: range) -> None:
    band.publish_many({"topic": "said", "key": f"k-{n % 4}", "data": n} for n in numbers)
    band.settle(30)


def shown(reader: Any) -> dict[str, Any]:
    """Everything that a reading half tells, as values."""
    status = reader.status()
    return {
        "events": [event.cloudevent() for event in reader.events()],
        "table": dict(reader.table("count")),
        "dead": [(letter.id, letter.player, letter.error, letter.traceback, letter.at) for letter in reader.dead()],
        "status": (status.name, status.id, status.events, status.frames, status.topics),
        "sections": {
            name: (section.lag, section.heard, section.emitted, section.failed, section.dead)
            for name, section in status.sections.items()
        },
    }


def test_a_reader_tells_the_same_as_the_band_while_it_plays(stand: Stand) -> None:
    band = stand.play(PARTS)

    with stand.reader() as reader:
        for start in range(0, 60, 20):
            say(band, range(start, start + 20))
            assert shown(reader) == shown(band)


def test_a_reader_tells_the_same_after_the_band_has_left(stand: Stand) -> None:
    band = stand.play(PARTS)
    say(band, range(40))
    playing = shown(band)
    stand.leave()

    with stand.reader() as reader:
        left = shown(reader)

    assert {name: left[name] for name in left if name != "status"} == {
        name: playing[name] for name in playing if name != "status"
    }


def test_a_band_that_is_closed_can_still_not_be_asked_to_play_and_says_so(stand: Stand) -> None:
    band = stand.play(PARTS)
    stand.leave()

    with pytest.raises(Unavailable, match="band test is closed; open it again"):
        band.publish("said", 1)
    with pytest.raises(Unavailable, match="closed"):
        band.settle(1)
    band.close()  # again does no harm


def test_another_process_reads_while_the_band_plays(stand_on_disk: Stand) -> None:
    band = stand_on_disk.play(PARTS)
    say(band, range(30))
    code = (
        "import ensemble, json, sys\n"
        "with ensemble.read(sys.argv[1]) as r:\n"
        "    print(json.dumps([[e.data for e in r.events('counted')], dict(r.table('count')),\n"
        "                      [d.error for d in r.dead()], r.status().sections['count'].heard]))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, stand_on_disk.url], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    counted, table, errors, heard = json.loads(done.stdout)
    assert counted == [event.data for event in band.events("counted")]
    assert table == dict(band.table("count"))
    assert errors == ["Reject: thirteen"]
    assert heard == 29


def test_reading_changes_no_byte_of_the_store(stand_on_disk: Stand) -> None:
    say(stand_on_disk.play(PARTS), range(30))
    stand_on_disk.leave()

    def contents() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in stand_on_disk.path.rglob("*") if path.is_file()}

    before = contents()

    with stand_on_disk.reader() as reader:
        shown(reader)
        reader.why(next(iter(reader.events())).id)

    assert contents() == before


def test_a_store_that_may_only_be_read_can_be_read(stand_on_disk: Stand) -> None:
    say(stand_on_disk.play(PARTS), range(10))
    stand_on_disk.leave()
    folders = [path for path in [stand_on_disk.path, *stand_on_disk.path.rglob("*")] if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        with stand_on_disk.reader() as reader:
            assert len(list(reader.events("said"))) == 10
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_many_readers_at_once_see_every_event_once_in_order(stand: Stand) -> None:
    band = stand.play(PARTS)
    seen: list[list[int]] = []

    def follow() -> None:
        heard = []
        with stand.reader() as reader:
            for event in reader.tail("said", since=0):
                heard.append(event.data)
                if event.data == 499:
                    break
        seen.append(heard)

    followers = [threading.Thread(target=follow) for _ in range(4)]
    for follower in followers:
        follower.start()
    for start in range(0, 500, 50):
        say(band, range(start, start + 50))
    for follower in followers:
        follower.join(30)

    assert seen == [list(range(500))] * 4


# events


@pytest.fixture
def told(stand: Stand) -> tuple[Any, ManualClock]:
    """A band with ten events, a second apart, of three topics and two keys."""
    clock = ManualClock()
    band = stand.play(clock=clock)
    for number in range(10):
        band.publish(["order.placed", "order.paid", "user.moved"][number % 3], number, key=f"k-{number % 2}")
        clock.advance(seconds=1)
    return band, clock


@pytest.mark.parametrize("half", ["band", "reader"])
@pytest.mark.parametrize(
    ("asked", "data"),
    [
        ({}, range(10)),
        ({"pattern": ">"}, range(10)),
        ({"pattern": "order.*"}, [0, 1, 3, 4, 6, 7, 9]),
        ({"pattern": "*.paid"}, [1, 4, 7]),
        ({"pattern": "nobody"}, []),
        ({"key": "k-1"}, [1, 3, 5, 7, 9]),
        ({"pattern": "order.placed", "key": "k-1"}, [3, 9]),
        ({"since": 7}, [7, 8, 9]),
        ({"since": 10}, []),
        ({"until": 3}, [0, 1, 2]),
        ({"since": 3, "until": 6}, [3, 4, 5]),
        ({"since": "2026-01-01T00:00:08Z"}, [8, 9]),
        ({"until": "2026-01-01T00:00:02Z"}, [0, 1]),
        ({"since": "2026-01-01T01:00:03+01:00", "until": 5}, [3, 4]),
        ({"since": 6, "until": 6}, []),
    ],
    ids=str,
)
def test_events_are_asked_for_by_pattern_key_offset_and_time(
    stand: Stand, told: tuple[Any, ManualClock], half: str, asked: dict[str, Any], data: Any
) -> None:
    band, _ = told

    with stand.reader() as reader:
        assert [event.data for event in (band if half == "band" else reader).events(**asked)] == list(data)


def test_events_takes_a_datetime_too(told: tuple[Any, ManualClock]) -> None:
    band, clock = told

    assert [event.data for event in band.events(since=clock.now() - timedelta(seconds=2))] == [8, 9]


def test_events_beyond_the_log_are_an_error_that_names_the_bounds(told: tuple[Any, ManualClock]) -> None:
    band, _ = told

    with pytest.raises(OffsetError, match=r"11 .*0 to 9"):
        list(band.events(since=11))
    with pytest.raises(OffsetError, match="not negative"):
        list(band.events(since=-1))


@pytest.mark.parametrize("pattern", ["order..placed", "", "a b", "order.>.x", ".a"])
def test_a_pattern_that_is_none_is_told_of(told: tuple[Any, ManualClock], pattern: str) -> None:
    band, _ = told

    with pytest.raises((ValueError, ensemble.EnsembleError)) as wrong:
        list(band.events(pattern))

    assert repr(pattern) in str(wrong.value) or pattern in str(wrong.value)


# tail


def first(count: int, events: Iterator[Event]) -> list[Any]:
    return [next(events).data for _ in range(count)]


def test_tail_begins_now_and_goes_on(stand: Stand) -> None:
    band = stand.play()
    band.publish("said", 0)

    events = band.tail("said")
    waiting: list[list[Any]] = []
    follower = threading.Thread(target=lambda: waiting.append(first(2, events)))
    follower.start()
    for number in range(1, 200):
        band.publish("said", number)
        if waiting:
            break
    follower.join(20)

    [[one, two]] = waiting
    assert one >= 1
    assert two == one + 1


def test_tail_since_begins_there(stand: Stand) -> None:
    band = stand.play()
    band.publish_many(range(10), topic="said")

    assert first(3, band.tail("said", since=7)) == [7, 8, 9]
    assert first(1, band.tail("said", since="2020-01-01T00:00:00Z")) == [0]


def test_the_tail_of_a_band_ends_when_it_is_closed(stand: Stand) -> None:
    band = stand.play()
    band.publish("said", 1)
    heard: list[Any] = []
    follower = threading.Thread(target=lambda: heard.extend(event.data for event in band.tail(since=0)))
    follower.start()
    eventually(lambda: heard == [1], "the tail's first event")

    stand.leave()
    follower.join(20)

    assert not follower.is_alive()


def test_tail_from_another_process_sees_what_is_said_later(stand_on_disk: Stand) -> None:
    band = stand_on_disk.play()
    band.publish("said", 0)
    code = (
        "import ensemble, sys\n"
        "with ensemble.read(sys.argv[1]) as r:\n"
        "    for event in r.tail('said', since=0):\n"
        "        print(event.data, flush=True)\n"
        "        if event.data == 3: break\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, stand_on_disk.url], stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "0\n"
        for number in range(1, 4):
            band.publish("said", number)
        assert follower.stdout.read() == "1\n2\n3\n"


# table, status


def test_a_table_of_nobody_says_who_there_is(stand: Stand) -> None:
    band = stand.play(PARTS)
    say(band, range(3))

    with stand.reader() as reader:
        for half in (band, reader):
            with pytest.raises(KeyError, match=r"no player 'cuont'.*count"):
                half.table("cuont")


def test_a_table_is_a_mapping_of_what_is_there_at_each_look(stand: Stand) -> None:
    band = stand.play(PARTS)
    table = band.table("count")
    assert len(table) == 0

    say(band, range(8))

    assert sorted(table) == ["k-0", "k-1", "k-2", "k-3"]
    assert table["k-0"] == {"n": 2}
    assert table.get("nobody") is None
    assert "k-1" in table
    with pytest.raises(KeyError):
        table["nobody"]


def test_a_status_counts(stand: Stand) -> None:
    band = stand.play(PARTS)
    say(band, range(20))

    status = band.status()

    section = status.sections["count"]
    assert (section.heard, section.emitted, section.failed, section.dead, section.lag) == (19, 19, 1, 1, 0)
    assert status.events == 20 + 19 + 1
    assert status.topics == {"said": 20, "counted": 19, "_band.dead": 1}
    assert status.url == stand.url
    assert status.bytes is not None
    assert status.bytes > 0
    assert status.notes == ()


def test_the_reader_of_a_store_that_nobody_played_tells_that_nothing_is_there(stand: Stand) -> None:
    stand.play()
    stand.leave()

    with stand.reader() as reader:
        assert list(reader.events()) == []
        assert reader.dead() == []
        assert reader.status().events == 0
        assert reader.status().sections == {}


def test_lag_of_a_section_that_is_away_is_seen_by_a_reader(stand: Stand) -> None:
    say(stand.play(PARTS), range(5))
    stand.play().publish_many(range(7), topic="said")
    stand.leave()

    band = stand.play()
    with stand.reader() as reader:
        assert reader.status().sections.keys() == band.status().sections.keys() == {"count"}


def test_a_band_notes_that_its_store_was_made_for_another_score(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    ensemble.open({"ensemble": 1, "name": "one"}, store=store).close()

    with ensemble.open({"ensemble": 1, "name": "two"}, store=store) as band:
        [note] = band.status().notes

    assert "was made for one, and two is played into it" in note


def test_times_are_those_that_events_show_in_whatever_order_they_were_written(stand: Stand) -> None:
    band = stand.play()
    days = ["2018-02-03", "2018-02-01", "2018-02-02"]
    band.publish_many({"topic": "said", "data": day, "time": f"{day}T12:00:00Z"} for day in days)
    now = band.publish("said", "now")

    def told(**chosen: Any) -> list[Any]:
        return [event.data for event in band.events(**chosen)]

    assert told(since="2018-02-02T00:00:00Z", until="2018-02-03T00:00:00Z") == ["2018-02-02"]
    assert told(until="2018-02-02T12:00:00Z") == ["2018-02-01"]
    assert told(since="2018-02-02T12:00:00Z") == ["2018-02-03", "2018-02-02", "now"]
    assert told(since=band.event(now.id).time) == ["now"]
    assert told(since="2018-02-01T00:00:00Z", until=2) == ["2018-02-03", "2018-02-01"]
    assert told(since=1, until="2018-02-03T00:00:00Z") == ["2018-02-01", "2018-02-02"]


def test_a_tail_since_a_time_goes_by_the_times_that_events_show(stand: Stand) -> None:
    band = stand.play()
    band.publish("said", "old", time="2018-02-01T00:00:00Z")
    band.publish("said", "young", time="2018-02-03T00:00:00Z")

    assert next(band.tail(since="2018-02-02T00:00:00Z")).data == "young"


def test_a_chain_is_told_as_a_tree_and_in_one_line(stand: Stand) -> None:
    says = {"emits": ["b", "c"]}
    both = part(lambda event: [emit("b"), emit("c", key="other")], "a", **says)
    band = stand.play({"first": both, "second": part(lambda event: emit("d"), "b", emits=["d"])})
    asked = band.publish("a", 1, key="k").id
    band.settle(30)

    ids = {event.topic: event.id for event in band.events()}
    assert str(band.why(asked)).splitlines() == [
        f"a  k  {asked}",
        f"└── b  k  {ids['b']}  by first",
        f"    └── d  k  {ids['d']}  by second",
        f"└── c  other  {ids['c']}  by first",
    ]
    assert str(band.why(ids["d"])).splitlines() == [f"a  k  {asked}", f"b  k  {ids['b']}", f"d  k  {ids['d']}  by second"]
    assert repr(band.why(ids["d"])) == f"Chain('d', key='k', id='{ids['d']}', 2 before it)"
