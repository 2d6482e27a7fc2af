"""A source keeps its place in the log, in the frame of the events that it published: each line is said once."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ensemble import Event, InvalidEvent, PlayerError, ScoreError, Unavailable, emit
from ensemble.testing import ManualClock
from tests.conformance.stand import Gate, Stand, eventually, part

pytestmark = pytest.mark.solo("sources are read by the same loop on every stage")

Write = Callable[..., str]

DOOR = {"door": {"play": "given:here", "emits": ["said"]}}
"""A source whose code is given to `open`."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of these lines; gives its path."""

    def write(*lines: Any, name: str = "in.jsonl", end: str = "\n") -> str:
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + end for line in lines)
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return str(path)

    return write


def lines(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"topic": "said", "key": f"k-{n % 3}", "data": n} for n in range(start, start + count)]


def data_of(stand_or_band: Any, topic: str = "said") -> list[Any]:
    return [event.data for event in stand_or_band.events(topic)]


def refusals(band: Any) -> list[tuple[int, str]]:
    return [(event.data["line"], event.data["reason"]) for event in band.events("_band.refused")]


# Files


def test_a_file_is_said_line_by_line_and_then_it_is_done(stand: Stand, write: Write) -> None:
    path = write(*lines(1200))

    band = stand.play(sources={"in": {"file": path}})
    band.settle(30)

    assert data_of(band) == list(range(1200))
    source = band.status().sources["in"]
    size = Path(path).stat().st_size
    assert (source.said, source.refused, source.done, source.place, source.total) == (1200, 0, True, size, size)


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_a_finished_file_adds_nothing_when_it_is_played_again(stand: Stand, write: Write, name: str) -> None:
    sources = {"in": {"file": write(*lines(10), name=name)}}
    stand.play(sources=sources).settle(30)
    stand.leave()
    before = stand.frames()

    for _ in range(3):
        stand.play(sources=sources).settle(30)
    stand.leave()

    after = stand.frames()
    assert sum(frame.count for frame in after) == 10
    assert len(after) == len(before)


def test_again_plays_a_finished_file_once_more(stand: Stand, write: Write) -> None:
    sources = {"in": {"file": write(*lines(10))}}
    stand.play(sources=sources).settle(30)

    band = stand.play(sources=sources, again=True)
    band.settle(30)

    assert data_of(band) == [*range(10), *range(10)]


def test_lines_that_a_finished_file_has_got_since_are_said(stand: Stand, write: Write) -> None:
    sources = {"in": {"file": write(*lines(10))}}
    stand.play(sources=sources).settle(30)
    write(*lines(15))

    band = stand.play(sources=sources)
    band.settle(30)

    assert data_of(band) == list(range(15))


def test_a_gz_file_is_read_as_it_is(stand: Stand, write: Write) -> None:
    band = stand.play(sources={"in": {"file": write(*lines(700), name="in.jsonl.gz")}})
    band.settle(30)

    assert data_of(band) == list(range(700))


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_a_file_whose_read_part_has_changed_is_refused_with_a_sentence(stand: Stand, write: Write, name: str) -> None:
    sources = {"in": {"file": write(*lines(10), name=name)}}
    stand.play(sources=sources).settle(30)
    write(*lines(10, start=100), name=name)

    with pytest.raises(InvalidEvent, match=r"source in: .*has changed in the part that was read before.*10\s+lines.*--again"):
        stand.play(sources=sources).settle(30)
    stand.leave()

    band = stand.play(sources=sources, again=True)
    band.settle(30)
    assert data_of(band) == [*range(10), *range(100, 110)]


def test_a_file_that_became_shorter_is_refused_too(stand: Stand, write: Write) -> None:
    sources = {"in": {"file": write(*lines(10))}}
    stand.play(sources=sources).settle(30)
    write(*lines(9))

    with pytest.raises(InvalidEvent, match="has changed in the part that was read before"):
        stand.play(sources=sources).settle(30)


def test_killed_at_any_moment_and_run_again_each_line_is_said_once(stand_on_disk: Stand, write: Write) -> None:
    shots: list[Stand] = []
    sources = {"in": {"file": write(*lines(3000)), "rate": "6000/s"}}  # so that it is shot while the file is read

    def hear(event: Event) -> None:
        if event.data % 250 == 0:
            shots.append(stand_on_disk.as_if_killed())

    stand_on_disk.play({"hear": part(hear, "said")}, sources=sources).settle(30)
    stand_on_disk.leave()

    lengths = set()
    for shot in shots:
        with shot.reader() as reader:
            lengths.add(len(data_of(reader)))
        band = shot.play(sources=sources)
        band.settle(30)
        assert data_of(band) == list(range(3000))
        shot.leave()
    assert len(lengths) > 1
    assert min(lengths) < 3000


@pytest.mark.parametrize("clock", [None, ManualClock()], ids=["machine", "manual"])
def test_a_source_is_left_in_the_middle_and_goes_on_there(stand: Stand, write: Write, clock: ManualClock | None) -> None:
    sources = {"in": {"file": write(*lines(5000))}}
    for _ in range(3):
        stand.play(sources=sources)  # closed at once, wherever it is

    band = stand.play(sources=sources)
    band.settle(30)

    assert data_of(band) == list(range(5000))


def test_a_place_and_its_events_are_one_frame(stand: Stand, write: Write) -> None:
    band = stand.play(sources={"in": {"file": write(*lines(1200))}})
    band.settle(30)

    said = 0
    for frame in stand.frames():
        said += frame.count
        if "place" in frame.marks:
            count, *_rest = frame.marks["place"]["in"]
            assert count == said
    assert said == 1200


def test_a_topic_makes_each_line_the_data_alone(stand: Stand, write: Write) -> None:
    band = stand.play(
        sources={"in": {"file": write({"id": "a"}, {"id": "b"}), "topic": "said"}}, events={"said": {"key": "id"}}
    )
    band.settle(30)

    assert [(event.topic, event.key, event.data) for event in band.events()] == [
        ("said", "a", {"id": "a"}),
        ("said", "b", {"id": "b"}),
    ]


def test_a_line_may_be_a_cloudevent(stand: Stand, write: Write) -> None:
    line = {
        "specversion": "1.0",
        "id": "7",
        "source": "/shop",
        "type": "order.placed",
        "subject": "o-1",
        "time": "2026-01-01T01:00:00+01:00",
        "data": {"x": 1},
    }
    band = stand.play(sources={"in": {"file": write(line)}})
    band.settle(30)

    [event] = band.events()
    assert (event.id, event.source, event.topic, event.key, event.data) == ("7", "/shop", "order.placed", "o-1", {"x": 1})
    assert event.cloudevent()["time"] == "2026-01-01T00:00:00Z"


def test_lines_of_any_ending_blank_lines_and_a_byte_order_mark_are_read(stand: Stand, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"topic": "said", "data": 1}\r\n\r\n   \n{"topic": "said", "data": 2}')

    band = stand.play(sources={"in": {"file": str(path)}})
    band.settle(30)

    assert data_of(band) == [1, 2]
    assert refusals(band) == []


def test_an_empty_file_is_done_at_once(stand: Stand, write: Write) -> None:
    band = stand.play(sources={"in": {"file": write()}})
    band.settle(30)

    assert band.status().sources["in"].done
    assert band.status().events == 0


# Refused lines


def test_a_refused_line_is_counted_kept_and_named_by_file_and_line(stand: Stand, write: Write) -> None:
    path = write(*lines(2), "{not json", {"topic": "said", "data": 2}, {"data": 3}, {"topic": "said", "dta": 4})

    band = stand.play(sources={"in": {"file": path}})
    band.settle(30)

    assert data_of(band) == [0, 1, 2]
    kept = [event.data for event in band.events("_band.refused")]
    assert [(each["source"], each["file"], each["line"]) for each in kept] == [("in", path, n) for n in (3, 5, 6)]
    assert [each["text"] for each in kept] == ["{not json", '{"data": 3}', '{"topic": "said", "dta": 4}']
    assert "not JSON" in kept[0]["reason"]
    assert "topic is missing" in kept[1]["reason"]
    assert "did you mean 'data'?" in kept[2]["reason"]
    source = band.status().sources["in"]
    assert (source.said, source.refused, source.done) == (3, 3, True)


def test_refused_lines_can_be_read_and_are_not_refused_again_after_reopening(stand: Stand, write: Write) -> None:
    sources = {"in": {"file": write("nonsense", *lines(1))}}
    stand.play(sources=sources).settle(30)
    stand.play(sources=sources).settle(30)
    stand.leave()

    with stand.reader() as reader:
        assert len(list(reader.events("_band.refused"))) == 1
        assert reader.status().sources["in"].refused == 1


def test_strict_stops_at_the_first_refused_line(stand: Stand, write: Write) -> None:
    path = write(*lines(3), {"data": 1}, *lines(3))

    with pytest.raises(InvalidEvent, match=rf"^{path}:4: topic is missing"):
        stand.play(sources={"in": {"file": path}}, strict=True).settle(30)


def test_a_line_longer_than_can_be_read_is_refused_and_the_next_is_read(
    stand: Stand, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensemble.stage.sources.LINE_MOST", 1000)
    path = write({"topic": "said", "data": "x" * 5000}, {"topic": "said", "data": 2})

    band = stand.play(sources={"in": {"file": path}})
    band.settle(30)

    assert data_of(band) == [2]
    [(line, reason)] = refusals(band)
    assert line == 1
    assert "longer than" in reason


def test_a_torn_gz_file_says_where_it_can_not_be_read_and_keeps_what_it_said(stand: Stand, write: Write) -> None:
    path = Path(write(*lines(3000), name="in.jsonl.gz"))
    path.write_bytes(path.read_bytes()[:-200])

    with pytest.raises(InvalidEvent, match=r"source in: .*in\.jsonl\.gz can't be read past line [0-9]+"):
        stand.play(sources={"in": {"file": str(path)}}).settle(30)


def test_a_file_that_is_not_there_is_told_of_when_the_band_opens(stand: Stand, tmp_path: Path) -> None:
    with pytest.raises((ScoreError, Unavailable), match=r"sources\.in\.file: .*nowhere\.jsonl.*No such file"):
        stand.play(sources={"in": {"file": str(tmp_path / "nowhere.jsonl")}})

    stand.play()  # and it left nothing locked


def test_inputs_take_the_place_of_the_scores_files(stand: Stand, write: Write) -> None:
    own, other = write(*lines(3)), write(*lines(2, start=50), name="other.jsonl")

    band = stand.play(sources={"in": {"file": own}}, inputs=[other])
    band.settle(30)
    assert data_of(band) == [50, 51]

    band = stand.play(sources={"in": {"file": own}}, inputs=[other])
    band.settle(30)
    assert data_of(band) == [50, 51]


def test_ids_in_a_file_are_deduplicated_as_any(stand: Stand, write: Write) -> None:
    path = write(*({"topic": "said", "id": f"i-{n % 4}", "data": n} for n in range(10)))

    band = stand.play(sources={"in": {"file": path}})
    band.settle(30)

    assert data_of(band) == [0, 1, 2, 3]


def test_a_rate_is_kept_by_the_clock(stand: Stand, write: Write) -> None:
    clock = ManualClock()
    band = stand.play(sources={"in": {"file": write(*lines(100)), "rate": "20/s"}}, clock=clock)

    counts = []
    for _ in range(5):
        band.settle()
        counts.append(band.status().events)
        clock.advance(seconds=1)

    steps = [later - earlier for earlier, later in pairwise(counts)]
    assert all(15 <= step <= 25 for step in steps), counts


def test_a_speaker_keeps_its_rate_too(stand: Stand) -> None:
    clock = ManualClock()
    sources = {"door": {**DOOR["door"], "rate": "20/s"}}
    band = stand.play(sources=sources, callables={"door": lambda: (emit("said", n) for n in range(100))}, clock=clock)

    counts = []
    for _ in range(5):
        band.settle()
        counts.append(band.status().events)
        clock.advance(seconds=1)

    assert counts == [1, 21, 41, 61, 81]


def test_a_speaker_with_a_rate_is_not_asked_ahead_of_it(stand: Stand) -> None:
    clock = ManualClock()
    asked: list[int] = []

    def speak() -> Iterator[Any]:
        for number in range(100):
            asked.append(number)
            yield emit("said", number)

    band = stand.play(sources={"door": {**DOOR["door"], "rate": "1/s"}}, callables={"door": speak}, clock=clock)
    clock.advance(seconds=3)

    assert asked == data_of(band) == [0, 1, 2, 3]


def test_a_file_that_was_empty_is_read_once_something_is_in_it(stand: Stand, write: Write) -> None:
    sources = {"in": {"file": write()}}
    stand.play(sources=sources).settle(30)
    write(*lines(3))

    band = stand.play(sources=sources)
    band.settle(30)

    assert data_of(band) == [0, 1, 2]


def test_a_file_that_has_grown_since_it_was_done_is_done_again(stand: Stand, write: Write) -> None:
    sources = {"in": {"file": write(*lines(3))}}
    stand.play(sources=sources).settle(30)
    write(*lines(5))

    band = stand.play(sources=sources)
    band.settle(30)

    assert band.status().sources["in"].done


# Every so often


def test_every_says_its_event_at_each_multiple_of_its_time(stand: Stand) -> None:
    clock = ManualClock("2026-01-01T00:00:30Z")
    band = stand.play(sources={"tick": {"every": "1m", "topic": "tick", "data": {"n": 1}, "key": "k"}}, clock=clock)

    clock.advance(seconds=29)
    assert data_of(band, "tick") == []
    clock.advance(minutes=2)

    assert [(event.key, event.data, event.time.isoformat()) for event in band.events("tick")] == [
        ("k", {"n": 1}, "2026-01-01T00:01:00+00:00"),
        ("k", {"n": 1}, "2026-01-01T00:02:00+00:00"),
    ]


def test_every_without_data_says_the_time(stand: Stand) -> None:
    clock = ManualClock()
    band = stand.play(sources={"nightly": {"every": "24h", "topic": "books.close"}}, clock=clock)

    clock.advance(days=2)

    assert data_of(band, "books.close") == [{"at": "2026-01-02T00:00:00Z"}, {"at": "2026-01-03T00:00:00Z"}]


def test_ticks_that_were_slept_through_are_one(stand: Stand) -> None:
    clock = ManualClock()
    sources = {"tick": {"every": "1m", "topic": "tick"}}
    stand.play(sources=sources, clock=clock)
    clock.advance(minutes=1)
    stand.leave()
    clock.advance(minutes=10)

    band = stand.play(sources=sources, clock=clock)
    band.settle()

    assert data_of(band, "tick") == [{"at": "2026-01-01T00:01:00Z"}, {"at": "2026-01-01T00:11:00Z"}]


def test_settle_does_not_wait_for_what_never_ends(stand: Stand) -> None:
    band = stand.play(sources={"tick": {"every": "1h", "topic": "tick"}})

    band.settle(5)

    assert data_of(band, "tick") == []


# Players that only speak


def test_a_player_that_only_speaks_is_a_source(stand: Stand) -> None:
    def speak(*, count: int) -> Iterator[Any]:
        for number in range(count):
            yield emit("said", number, key=f"k-{number}")

    band = stand.play(sources={"door": {**DOOR["door"], "with": {"count": 3}}}, callables={"door": speak})
    band.settle(30)

    assert [(event.key, event.data) for event in band.events()] == [("k-0", 0), ("k-1", 1), ("k-2", 2)]
    assert band.status().sources["door"].done


def test_a_speaker_may_be_asynchronous(stand: Stand) -> None:
    async def speak() -> AsyncIterator[Any]:
        for number in range(3):
            yield emit("said", number)

    band = stand.play(sources=DOOR, callables={"door": speak})
    band.settle(30)

    assert data_of(band) == [0, 1, 2]


def test_what_a_speaker_says_is_heard_while_it_waits_for_more(stand: Stand) -> None:
    gate = Gate()
    heard: list[int] = []

    def speak() -> Iterator[Any]:
        yield emit("said", 1)
        yield emit("said", 2)
        gate.pass_through()
        yield emit("said", 3)

    band = stand.play({"hear": part(lambda event: heard.append(event.data), "said")}, sources=DOOR, callables={"door": speak})
    eventually(lambda: heard == [1, 2], "the hearing of what was said")
    gate.wait_for(1)
    gate.open()
    band.settle(30)

    assert heard == [1, 2, 3]


def test_a_band_can_be_closed_while_a_speaker_waits(stand: Stand) -> None:
    gate = Gate()

    def speak(*, place: int) -> Iterator[Any]:
        if place == 0:
            yield emit("said", 0)
            gate.pass_through()
        yield emit("said", 1)

    stand.play(sources=DOOR, callables={"door": speak})
    gate.wait_for(1)
    stand.leave()
    gate.open()

    band = stand.play(sources=DOOR, callables={"door": speak})
    band.settle(30)

    assert data_of(band)[-1] == 1
    assert len(data_of(band)) <= 2


def test_under_a_clock_moved_by_hand_a_speaker_is_said_in_the_same_frames_whatever_time_it_takes(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = []
    for patience_s in (0.0, 60.0):
        for name in ("FIRST_S", "MOMENT_S"):
            monkeypatch.setattr(f"ensemble.stage.live.{name}", patience_s)
        other = Stand(stand.setup, stand.folder)
        speak = {"door": lambda: (emit("said", number) for number in range(1200))}
        other.play(sources=DOOR, callables=speak, clock=ManualClock()).settle()
        logs.append(other.frames())
        other.leave()

    assert [frame.count for frame in logs[0]] == [0, 500, 500, 200]
    assert logs[0] == logs[1]


def test_a_speaker_that_was_killed_says_each_of_its_events_once(stand_on_disk: Stand) -> None:
    shots: list[Stand] = []

    def speak() -> Iterator[Any]:
        for number in range(2000):
            yield emit("said", number)

    def hear(event: Event) -> None:
        if event.data % 400 == 0:
            shots.append(stand_on_disk.as_if_killed())

    sources = DOOR
    stand_on_disk.play({"hear": part(hear, "said")}, sources=sources, callables={"door": speak}).settle(30)
    stand_on_disk.leave()

    for shot in shots:
        band = shot.play(sources=sources, callables={"door": speak})
        band.settle(30)
        assert data_of(band) == list(range(2000))
        shot.leave()
    assert len(shots) == 5


def test_a_speaker_that_takes_its_place_goes_on_from_there_itself(stand: Stand) -> None:
    begun: list[int] = []

    def speak(*, place: int) -> Iterator[Any]:
        begun.append(place)
        for number in range(place, place + 2):
            yield emit("said", number)

    sources = DOOR
    for _ in range(2):
        band = stand.play(sources=sources, callables={"door": speak})
        band.settle(30)

    assert data_of(band) == [0, 1]
    assert begun == [0]


@pytest.mark.parametrize("answer", [7, "said", [emit("said"), 7]])
def test_a_speaker_that_says_no_event_is_told_so(stand: Stand, answer: Any) -> None:
    sources = DOOR

    with pytest.raises(PlayerError, match=r"source door gave .*, which is no event"):
        stand.play(sources=sources, callables={"door": lambda: answer if isinstance(answer, list) else [answer]}).settle(30)


def test_a_speaker_that_raises_is_told_of_and_goes_on_when_it_is_mended(stand: Stand) -> None:
    is_mended: list[bool] = []

    def speak() -> Iterator[Any]:
        for number in range(10):
            if number == 7 and not is_mended:
                raise OSError("line is dead")
            yield emit("said", number)

    sources = DOOR
    with pytest.raises(
        PlayerError,
        match=r"source door: .* raised OSError: line is dead at \S*test_sources\.py:\d+, after it had said 7 events; mend",
    ):
        stand.play(sources=sources, callables={"door": speak}).settle(30)
    is_mended.append(True)

    band = stand.play(sources=sources, callables={"door": speak})
    band.settle(30)

    assert data_of(band) == list(range(10))


def test_what_a_speaker_said_before_a_wrong_event_is_said(stand: Stand) -> None:
    with pytest.raises(PlayerError, match="source door gave 7, which is no event"):
        stand.play(sources=DOOR, callables={"door": lambda: [emit("said", 0), emit("said", 1), 7, emit("said", 3)]}).settle(30)
    stand.leave()

    with stand.reader() as reader:
        assert data_of(reader) == [0, 1]


def test_a_wrong_event_of_a_speaker_is_told_of(stand: Stand) -> None:
    sources = DOOR

    with pytest.raises(InvalidEvent, match=r"said: .*total"):
        stand.play(
            sources=sources,
            callables={"door": lambda: [emit("said", {})]},
            events={"said": {"schema": {"type": "object", "required": ["total"]}}},
        ).settle(30)


def test_a_wrong_event_of_a_speaker_is_told_of_with_its_line(stand: Stand) -> None:
    def speak() -> Iterator[Any]:
        yield emit("said", {"total": 1})
        yield emit("said", {})

    with pytest.raises(InvalidEvent, match=r"source door: said: .*total.*; said at (\S+):(\d+), after 1 event$") as told:
        stand.play(
            sources=DOOR,
            callables={"door": speak},
            events={"said": {"schema": {"type": "object", "required": ["total"]}}},
        ).settle(30)

    found = re.search(r"said at \S*test_sources\.py:(\d+),", str(told.value))
    assert found is not None
    assert 0 <= int(found[1]) - speak.__code__.co_firstlineno <= 2  # its code, or where it stands


def test_a_speaker_may_say_only_what_its_emits_allows(stand: Stand) -> None:
    def speak() -> Iterator[Any]:
        yield emit("said", 1)
        yield emit("siad", 2)

    with pytest.raises(PlayerError, match=r"^source door said 'siad', but its score lets it say said; add it to emits:; said"):
        stand.play(sources=DOOR, callables={"door": speak}).settle(30)


@pytest.mark.parametrize(
    ("source", "item"),
    [
        ({"play": "given:here"}, emit("anything", 1)),
        ({"play": "given:here", "topic": "said"}, emit("said", 1)),
        ({"play": "given:here", "topic": "said", "emits": ["told"]}, 1),
        ({"play": "given:here", "emits": ["told.*"]}, ("told.once", 1)),
    ],
    ids=["no emits", "topic", "topic and emits", "pattern"],
)
def test_a_speaker_says_what_it_may(stand: Stand, source: Any, item: Any) -> None:
    band = stand.play(sources={"door": source}, callables={"door": lambda: [item]})
    band.settle(30)

    assert [event.data for event in band.events()] == [1]
