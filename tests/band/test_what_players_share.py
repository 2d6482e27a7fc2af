"""What the instances and calls of a player share, and what they must not change: words, settings, the log's size."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ensemble import Event, emit
from ensemble.broker.state import State
from ensemble.log import read_log
from ensemble.player import Player
from ensemble.score import load
from ensemble.score.vocabulary import Vocabulary
from ensemble.testing import ManualClock
from tests.conformance.stand import Stand, eventually, part

pytestmark = pytest.mark.solo("players of one process share its memory and its threads")


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that give way to each other after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_words_that_several_instances_come_to_at_a_time_have_places_of_their_own() -> None:
    score = load({"ensemble": 1, "name": "test", "players": {"say": {"on": "said", "emits": ["o.*"]}}})
    player = Player(score.players["say"], lambda event: None, Vocabulary(score))
    started = threading.Barrier(8)

    def say() -> None:
        started.wait()
        for number in range(50):
            player.word(f"o.{number}")

    threads = [threading.Thread(target=say) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(player.topics) == sorted(f"o.{number}" for number in range(50))
    assert [player.word(topic).ix for topic in player.topics] == list(range(50))


def test_a_frame_holds_the_topics_of_its_own_events_only(stand: Stand) -> None:
    def hear(event: Event) -> Any:
        return [emit(f"o.a{event.data}", 1), emit(f"o.b{event.data}", 2), emit(f"o.a{event.data}", 3)]

    band = stand.play({"hear": part(hear, "said", emits=["o.*"])}, clock=ManualClock())
    for number in range(20):
        band.publish("said", number)
        band.settle()

    assert [(event.topic, event.data) for event in band.events("o.*")] == [
        (f"o.{letter}{number}", data) for number in range(20) for letter, data in (("a", 1), ("b", 2), ("a", 3))
    ]
    said = [frame.rows for frame in stand.frames() if frame.rows is not None and frame.rows.topics[0].startswith("o.")]
    assert {len(rows.topics) for rows in said} == {2}


def test_settings_that_a_player_changes_are_its_own(stand_on_disk: Stand) -> None:
    def hear(event: Event, ctx: Any, *, seen: list[Any]) -> None:
        seen.append(event.data)
        ctx.settings["seen"].append("by ctx")

    band = stand_on_disk.play({"hear": part(hear, "said", with_={"seen": []})})
    band.publish_many([1, 2, 3], topic="said")
    band.settle(30)
    assert band.score.players["hear"].settings == {"seen": []}
    assert band.dead() == []
    stand_on_disk.leave()

    log = read_log(stand_on_disk.url)
    snapshot = log.snapshot()
    assert snapshot is not None
    score = State.load(snapshot.state).score
    log.close()
    assert score is not None
    assert score["players"]["hear"]["with"] == {"seen": []}


def test_a_reader_may_be_asked_by_several_threads(stand_on_disk: Stand) -> None:
    band = stand_on_disk.play({"hear": part(lambda event: None, "said")})
    is_done = threading.Event()
    errors: list[BaseException] = []
    with stand_on_disk.reader() as reader:

        def ask() -> None:
            try:
                while not is_done.is_set():
                    reader.status()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(300):
            band.publish("said", number)
        is_done.set()
        for thread in threads:
            thread.join()

        assert errors == []
        eventually(lambda: reader.status().events == 300)


def test_a_dead_letter_that_cannot_be_heard_makes_no_other(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: Event) -> None:
        raise ValueError("no bell")

    twice = {"attempts": 2, "first": "1s"}
    parts = {
        "alarm": part(fail, "_band.dead", retry=twice),
        "hold": part(fail, "_band.dead", retry={"attempts": 1}, on_failure="hold"),
        "hear": part(fail, "said", retry={"attempts": 1}),
    }
    clock = ManualClock()
    band = stand.play(parts, clock=clock)
    band.publish_many([1, 2], topic="said")
    band.settle()
    clock.advance(minutes=9)

    assert [letter.player for letter in band.dead()] == ["hear", "hear"]
    assert [(name, s.failed, s.lag, s.held) for name, s in sorted(band.status().sections.items())] == [
        ("alarm", 4, 0, 0), ("hear", 2, 0, 0), ("hold", 2, 0, 0),
    ]  # fmt: skip
    assert caplog.text.count("player alarm can't hear the dead letter at offset") == 2


def test_an_id_that_is_used_again_after_its_window_is_remembered_as_the_newest(stand: Stand) -> None:
    clock = ManualClock()
    band = stand.play(store={"dedupe": "10s", "dedupe_most": 3}, clock=clock)
    for id in "ABC":
        band.publish("said", id=id)
    clock.advance(seconds=20)

    again = band.publish("said", id="A").offset
    band.publish("said", id="D")

    assert band.publish("said", id="A").offset == again
