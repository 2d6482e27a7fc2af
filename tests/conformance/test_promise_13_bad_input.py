"""Promise 13. Bad input gets a clear error, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ensemble
from ensemble import Event, InvalidEvent, LogCorrupt, PlayerError, ScoreError, emit
from tests.conformance.home import at_home
from tests.conformance.stand import Stand, part

ORDER_SCHEMA = {
    "type": "object",
    "required": ["order_id", "total"],
    "properties": {"order_id": {"type": "string"}, "total": {"type": "number", "minimum": 0}},
}


class Payment(msgspec.Struct):
    order_id: str
    amount: int


EVENTS: dict[str, Mapping[str, Any]] = {
    "order.placed": {"key": "order_id", "schema": ORDER_SCHEMA},
    "payment.captured": {"key": "order_id", "type": f"{__name__}:Payment"},
}
ONCE = {"attempts": 1}


@pytest.mark.one_shard("counts offsets and frames of one log")
@pytest.mark.parametrize(
    ("topic", "data", "words"),
    [
        ("order.placed", {"total": 1}, ["order.placed", "'order_id' is missing"]),
        ("order.placed", {"order_id": "o-1", "total": "1"}, ["order.placed", "data.total", "a number", "'1'"]),
        ("order.placed", {"order_id": "o-1", "total": -1}, ["order.placed", "data.total", "-1"]),
        ("order.placed", ["o-1", 1], ["order.placed", "data", "an object"]),
        ("payment.captured", {"order_id": "o-1"}, ["payment.captured", "amount"]),
        ("payment.captured", {"order_id": "o-1", "amount": "9"}, ["payment.captured", "data.amount", "int", "str"]),
    ],
)
def test_an_event_that_breaks_its_schema_is_refused_by_field_before_anything_is_written(
    stand: Stand, topic: str, data: Any, words: list[str]
) -> None:
    band = stand.play(events=EVENTS)
    band.publish("order.placed", {"order_id": "o-0", "total": 0})
    before = stand.frames()

    with pytest.raises(InvalidEvent) as refused:
        band.publish(topic, data)

    assert [word for word in words if word not in str(refused.value)] == []
    assert len(stand.frames()) == len(before)
    assert band.publish("order.placed", {"order_id": "o-2", "total": 2}).offset == 1


@pytest.mark.one_shard("events of different keys are listed in the order of the log")
def test_what_comes_before_a_wrong_item_of_many_is_published_and_the_error_says_how_many(stand: Stand) -> None:
    band = stand.play(events=EVENTS)
    items: list[Any] = [{"order_id": f"o-{n}", "total": n} for n in range(700)]
    items[600] = {"order_id": "o-600", "total": None}

    with pytest.raises(InvalidEvent, match=r"item 601: .*data\.total.*\(600 before it were published\)"):
        band.publish_many(items, topic="order.placed")

    assert [event.key for event in band.events()] == [f"o-{n}" for n in range(600)]


def test_a_wrong_event_said_by_a_player_is_that_players_failure(stand: Stand) -> None:
    band = stand.play(
        {"bad": part(lambda event: emit("order.placed", order_id=7), "asked", emits=["order.placed"], retry=ONCE)},
        events=EVENTS,
    )

    receipt = band.publish("asked")
    band.settle(30)

    [letter] = band.dead()
    assert letter.id == receipt.id
    assert "InvalidEvent: order.placed: " in letter.error
    assert "total" in letter.error
    assert list(band.events("order.placed")) == []


def test_one_wrong_word_takes_back_all_that_the_player_said_with_it(stand: Stand) -> None:
    def speak(event: Event) -> Any:
        yield emit("order.placed", order_id="o-1", total=1)
        yield emit("order.placed", order_id="o-2", total="much")

    band = stand.play({"speak": part(speak, "asked", emits=["order.placed"], retry=ONCE)}, events=EVENTS)

    band.publish("asked")
    band.settle(30)

    assert list(band.events("order.placed")) == []
    assert len(band.dead()) == 1


def test_saying_what_the_score_does_not_let_a_player_say_is_that_players_failure(stand: Stand) -> None:
    band = stand.play(
        {"bad": part(lambda event: emit("order.canceled"), "asked", emits=["order.cancelled", "bill.*"], retry=ONCE)}
    )

    band.publish("asked")
    band.settle(30)

    [letter] = band.dead()
    assert "'order.canceled'" in letter.error
    assert "order.cancelled, bill.*" in letter.error
    assert "emits:" in letter.error


def test_patterns_in_emits_let_a_player_say_what_fits(stand: Stand) -> None:
    band = stand.play({"good": part(lambda event: emit(event.data), "asked", emits=["bill.*", "note.>"], retry=ONCE)})

    band.publish_many(["bill.sent", "note.a.b.c", "bill", "bill.sent.twice"], topic="asked")
    band.settle(30)

    assert [event.topic for event in band.events() if event.causationid and event.topic != "_band.dead"] == [
        "bill.sent",
        "note.a.b.c",
    ]
    assert [letter.event.data for letter in band.dead()] == ["bill", "bill.sent.twice"]


STRICT = {"type": "object", "required": ["order_id"], "properties": {"order_id": {"type": "string"}}}
FITTING = {"type": "object", "required": ["player", "error"], "properties": {"attempts": {"type": "integer", "minimum": 1}}}


@pytest.mark.parametrize("declared", [{"schema": STRICT}, {"type": f"{__name__}:Payment"}], ids=["schema", "type"])
def test_what_is_said_of_a_failure_is_not_written_where_it_breaks_its_schema(
    stand: Stand, declared: Mapping[str, Any]
) -> None:
    def pay(event: Event) -> None:
        raise ValueError("no such card")

    band = stand.play(
        {"pay": part(pay, "asked", retry=ONCE, on_failure={"emit": "payment.failed"})}, events={"payment.failed": declared}
    )
    receipt = band.publish("asked", key="o-1")
    band.settle(30)

    assert [event.topic for event in band.events()] == ["asked"]
    [letter] = band.dead()
    assert (letter.id, letter.attempts, letter.held) == (receipt.id, 1, False)
    assert letter.error.startswith("ValueError: no such card; and payment.failed can't tell of it: payment.failed: data")
    assert "order_id" in letter.error
    assert "no such card" in letter.traceback


def test_one_batch_may_end_in_events_of_the_score_and_in_dead_letters(stand: Stand) -> None:
    def pay(events: list[Event]) -> None:
        for event in events:
            raise ValueError("x" * event.data)

    short = {"type": "object", "properties": {"error": {"type": "string", "maxLength": 20}}}
    band = stand.play(
        {"pay": part(pay, "asked", retry=ONCE, on_failure={"emit": "payment.failed"})},
        events={"payment.failed": {"schema": short}},
    )
    band.publish_many([{"topic": "asked", "key": f"o-{n}", "data": n * 5} for n in range(6)])
    band.settle(30)

    assert sorted(event.key for event in band.events("payment.failed")) == ["o-0", "o-1"]
    assert sorted(letter.event.key for letter in band.dead()) == ["o-2", "o-3", "o-4", "o-5"]
    assert all("payment.failed can't tell of it" in letter.error for letter in band.dead())
    assert band.retry_dead() == 4


def test_what_is_said_of_a_failure_and_fits_its_schema_is_said(stand: Stand) -> None:
    def pay(event: Event) -> None:
        raise ValueError("no such card")

    band = stand.play(
        {"pay": part(pay, "asked", retry=ONCE, on_failure={"emit": "payment.failed"})},
        events={"payment.failed": {"schema": FITTING}},
    )
    band.publish("asked", key="o-1")
    band.settle(30)

    [told] = band.events("payment.failed")
    assert (told.key, told.data["player"], told.data["error"]) == ("o-1", "pay", "ValueError: no such card")
    assert band.dead() == []


@pytest.mark.parametrize(
    "score",
    [
        {"ensemble": 1, "name": "test", "players": {"hear": {"on": "order..placed"}}},
        {"ensemble": 1, "name": "test", "playrs": {}},
        {"ensemble": 1, "name": "test", "players": {"hear": {"on": "said", "play": "no.such:player"}}},
        {"ensemble": 1, "name": "test", "events": {"said": {"schema": {"type": "objct"}}}},
    ],
    ids=["motif", "key", "player", "schema"],
)
def test_a_wrong_score_never_starts_and_makes_no_store(tmp_path: Path, score: Any) -> None:
    folder = tmp_path / "store"

    with pytest.raises(ScoreError):
        ensemble.open(score, store=str(folder))

    assert not folder.exists()


def test_a_class_that_can_not_be_built_is_told_of_at_opening_and_the_store_is_free_for_the_next(stand: Stand) -> None:
    class Broken:
        def __init__(self) -> None:
            raise OSError("no such model")

        def __call__(self, event: Event) -> None: ...

    with pytest.raises(PlayerError, match=r"player hear can't be built: .*OSError: no such model"):
        stand.play({"good": part(lambda event: None, "said"), "hear": part(Broken, "said")})

    stand.play().publish("said", 1)
    assert [event.data for event in stand.reader().events()] == [1]


def test_a_player_without_code_is_told_of_before_anything_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "store"

    with pytest.raises(ScoreError, match=r"players\.hear has no play:"):
        ensemble.open({"ensemble": 1, "name": "test", "players": {"hear": {"on": "said"}}}, store=str(folder))

    assert not folder.exists()


def test_callables_for_nobody_are_told_of(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match=r"no player 'audti'.*audit"):
        ensemble.open(
            {"ensemble": 1, "name": "test", "players": {"audit": {"on": ">"}}}, store="memory:", players={"audti": print}
        )


def segment(stand: Stand) -> Path:
    return max((stand.own / "shard-0").glob("*.seg"))


@pytest.mark.directory("objects are never torn")
def test_a_torn_tail_is_cut_back_to_the_last_whole_frame_and_said(stand_on_disk: Stand) -> None:
    band = stand_on_disk.play()
    for number in range(5):
        band.publish("said", number)
    killed = stand_on_disk.as_if_killed()  # a clean close would leave a snapshot of what is torn here
    path = segment(killed)
    os.truncate(path, path.stat().st_size - 3)

    band = killed.play()

    assert [event.data for event in band.events()] == [0, 1, 2, 3]
    [note] = band.status().notes
    assert str(path) in note
    assert "torn" in note
    assert band.publish("said", "after").offset == 4
    killed.leave()


@pytest.mark.directory("it damages a segment file")
def test_a_damaged_middle_stops_with_the_file_and_the_byte(stand_on_disk: Stand) -> None:
    band = stand_on_disk.play()
    for number in range(5):
        band.publish("said", "x" * 100 + str(number))
    killed = stand_on_disk.as_if_killed()
    path = segment(killed)
    damaged = bytearray(path.read_bytes())
    middle = damaged.index(b"x" * 100 + b"2")
    damaged[middle] ^= 1
    path.write_bytes(damaged)

    with pytest.raises(LogCorrupt, match=rf"{path}.*byte \d+"):
        killed.play()
    with pytest.raises(LogCorrupt, match=rf"{path}.*byte \d+"), killed.reader() as reader:
        list(reader.events())


@pytest.mark.one_shard("events of different keys are heard in the order of the log")
def test_after_a_wrong_event_everything_else_is_heard(stand: Stand) -> None:
    heard: list[str] = at_home([])
    band = stand.play({"hear": part(lambda event: heard.append(event.key), "order.placed")}, events=EVENTS)

    for number in range(20):
        if number % 3:
            with pytest.raises(InvalidEvent):
                band.publish("order.placed", {"order_id": f"o-{number}"})
        else:
            band.publish("order.placed", {"order_id": f"o-{number}", "total": number})
    band.settle(30)

    assert heard == [f"o-{number}" for number in range(0, 20, 3)]
