"""A whole batch fails at once, by its time or by what no player should raise: only the event that does it is charged."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ensemble import Event, emit
from ensemble.testing import ManualClock
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("how a batch is taken apart is decided by the same code on every stage")

LONG = 60.0


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """What hanging players wait for; set when the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("most", [1, 3])
def test_one_hanging_event_of_a_batch_is_the_only_dead_letter(stand: Stand, released: threading.Event, most: int) -> None:
    heard: list[int] = []

    def hear(events: list[Event]) -> None:
        if any(event.data == 3 for event in events):
            released.wait(LONG)
        heard.extend(event.data for event in events)

    says = {"timeout": "50ms", "retry": {"attempts": 2, "first": "1ms"}, "section": {"batch": 8, "max": most}}
    band = stand.play({"hear": part(hear, "said", **says)})
    band.publish_many({"topic": "said", "key": str(number), "data": number} for number in range(24))
    band.settle(60)

    assert [(letter.event.data, letter.attempts) for letter in band.dead()] == [(3, 2)]
    assert "took longer than its timeout of 0.05 s" in band.dead()[0].error
    assert sorted(heard) == [number for number in range(24) if number != 3]


def test_events_of_one_key_stay_in_order_when_a_batch_of_them_hangs(stand: Stand, released: threading.Event) -> None:
    heard: list[int] = []
    hung: list[int] = []

    def hear(events: list[Event]) -> None:
        data = [event.data for event in events]
        if 2 in data and len(hung) < 5:
            hung.append(len(data))
            released.wait(LONG)
        heard.extend(data)

    says = {"timeout": "50ms", "retry": {"attempts": 9, "first": "20ms", "jitter": 1}, "section": {"linger": "50ms"}}
    band = stand.play({"hear": part(hear, "said", **says)})
    band.publish_many({"topic": "said", "key": "a", "data": number} for number in range(12))
    band.settle(60)

    assert band.dead() == []
    assert heard == list(range(12))
    assert hung[0] > 1
    assert hung[-1] == 1


@pytest.mark.parametrize("leave", [lambda: sys.exit(1), lambda: _raise(GeneratorExit()), lambda: _raise(KeyboardInterrupt())])
def test_what_leaves_the_process_elsewhere_is_charged_to_the_event_that_raised_it(
    stand: Stand, leave: Callable[[], None]
) -> None:
    heard: list[int] = []

    def hear(events: list[Event]) -> None:
        for event in events:
            if event.data == 3:
                leave()
        heard.extend(event.data for event in events)

    band = stand.play({"hear": part(hear, "said", retry={"attempts": 1})})
    band.publish_many({"topic": "said", "key": str(number), "data": number} for number in range(8))
    band.settle(60)

    assert [letter.event.data for letter in band.dead()] == [3]
    assert sorted(heard) == [number for number in range(8) if number != 3]


def test_events_of_one_key_stay_in_order_when_a_library_exits_in_a_batch_of_them(stand: Stand) -> None:
    heard: list[int] = []
    exits: list[int] = []

    def hear(events: list[Event]) -> None:
        if len(exits) < 6:
            exits.append(len(events))
            sys.exit(1)
        heard.extend(event.data for event in events)

    clock = ManualClock()
    policy = {"attempts": 9, "first": "100ms", "jitter": 1}
    band = stand.play({"hear": part(hear, "said", retry=policy)}, clock=clock)
    band.publish_many({"topic": "said", "key": "a", "data": number} for number in range(8))
    clock.advance(minutes=5)

    assert heard == list(range(8))
    assert band.dead() == []


def test_a_batch_that_is_heard_again_in_halves_is_as_it_was_said(stand: Stand) -> None:
    def hear(events: list[Event]) -> list[Any]:
        said = []
        for event in events:
            event.data["n"] += 1
            if event.data["bad"]:
                raise ValueError("no")
            said.append(emit("answered", event.data["n"]))
        return said

    band = stand.play({"hear": part(hear, "said", emits=["answered"], retry={"attempts": 1})})
    band.publish_many({"topic": "said", "key": str(number), "data": {"n": 0, "bad": number == 7}} for number in range(8))
    band.settle(60)

    assert [event.data for event in band.events("answered")] == [1] * 7


def _raise(error: BaseException) -> None:
    raise error
