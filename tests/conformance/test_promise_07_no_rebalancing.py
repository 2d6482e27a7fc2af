"""Promise 7. Any idle instance hears any event whose key is free; a hot key slows down only itself; nothing is ever moved."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ensemble import Event
from tests.conformance.home import AtHome, at_home
from tests.conformance.stand import Gate, Stand, eventually, part
from tests.effort import some


def test_a_hot_key_that_hangs_slows_down_only_itself(stand: Stand) -> None:
    gate = Gate()
    heard: list[str] = at_home([])

    def hear(event: Event) -> None:
        if event.key == "hot":
            gate.pass_through()
        heard.append(event.key)

    band = stand.play({"hear": part(hear, "came", section={"max": 2, "batch": 10})})

    band.publish("came", key="hot")
    gate.wait_for(1)
    band.publish_many({"topic": "came", "key": "hot" if n % 2 else f"k-{n}"} for n in range(200))
    eventually(lambda: len(heard) == 100, "the hearing of all other keys")
    assert "hot" not in heard

    gate.open()
    band.settle(30)

    assert heard.count("hot") == 101
    assert band.status().sections["hear"].lag == 0


def test_one_idle_instance_is_enough_to_hear_every_free_key(stand: Stand) -> None:
    gate = Gate()
    by: dict[str, str] = at_home({})

    def hear(event: Event) -> None:
        if event.key.startswith("slow"):
            gate.pass_through()
        by[event.key] = threading.current_thread().name

    band = stand.play({"hear": part(hear, "came", section={"max": 4, "batch": 1})})

    for number in range(3):
        band.publish("came", key=f"slow-{number}")
    gate.wait_for(3)  # three of four instances hang, and no key belongs to any of them
    for number in range(50):
        band.publish("came", key=f"k-{number}")
    eventually(lambda: len(by) == 50, "the hearing of fifty keys by the one that is free")

    assert band.status().sections["hear"].instances == 4
    gate.open()
    band.settle(30)
    assert len(by) == 53


class Room(AtHome):
    """Counts who is inside at the same time."""

    def __init__(self) -> None:
        self.peak = 0
        self._inside = 0
        self._lock = threading.Lock()

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            self.peak = max(self.peak, self._inside)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1


@pytest.mark.parametrize("most", [1, 2, 5])
def test_there_are_never_more_instances_than_max(stand: Stand, most: int) -> None:
    room = Room()

    def hear(event: Event) -> None:
        room.enter()
        threading.Event().wait(0.002)
        room.leave()

    band = stand.play({"hear": part(hear, "came", section={"max": most, "batch": 2})})

    band.publish_many({"topic": "came", "key": f"k-{n}"} for n in range(60))
    band.settle(30)

    assert 1 <= room.peak <= most
    assert band.status().sections["hear"].instances <= most


def test_another_number_of_instances_moves_no_place_and_hears_nothing_twice(stand: Stand) -> None:
    heard: list[int] = at_home([])
    sizes = [1, 4, 2, 8, 1]

    for number, most in enumerate(sizes):
        band = stand.play({"hear": part(lambda event: heard.append(event.data), "came", section={"max": most})})
        band.publish_many({"topic": "came", "key": f"k-{n % 9}", "data": 100 * number + n} for n in range(100))
        band.settle(30)

    assert sorted(heard) == list(range(500))
    assert band.status().sections["hear"].heard == 500


@pytest.mark.patience(180)
@pytest.mark.parametrize("kind", ["threads", "coroutine"])
def test_a_hot_key_with_a_long_backlog_is_heard_as_fast_as_any_other(stand: Stand, kind: str) -> None:
    gate = Gate()

    def hear(event: Event) -> None:
        gate.pass_through()

    async def hear_later(event: Event) -> None:
        if not gate.is_open():  # a thread for each of so many takes longer than all else here
            await asyncio.to_thread(gate.pass_through)

    said = {"threads": part(hear, "came", section={"max": 2}), "coroutine": part(hear_later, "came")}[kind]
    band = stand.play({"hear": said})
    count = stand.size(some(50_000), 5_000)

    band.publish_many({"topic": "came", "key": "hot", "data": n} for n in range(count))
    gate.wait_for(1)
    gate.open()
    band.settle(100)

    assert band.status().sections["hear"].heard == count


def test_two_sections_that_hear_the_same_do_not_wait_for_each_other(stand: Stand) -> None:
    gate = Gate()
    heard: list[int] = at_home([])
    band = stand.play(
        {
            "hangs": part(lambda event: gate.pass_through(), "came", section={"max": 2}),
            "goes": part(lambda event: heard.append(event.data), "came"),
        }
    )

    band.publish_many(range(100), topic="came")
    eventually(lambda: len(heard) == 100, "the end of the section that goes on")

    assert band.status().sections["hangs"].lag == 100
    gate.open()
    band.settle(30)
    assert band.status().sections["hangs"].lag == 0


def test_idle_instances_are_let_go_and_come_back_on_the_next_event(stand: Stand) -> None:
    closed: list[int] = at_home([])

    class Hear:
        def __call__(self, event: Event) -> None:
            threading.Event().wait(0.002)

        def close(self) -> None:
            closed.append(1)

    band = stand.play({"hear": part(Hear, "came", section={"max": 4, "batch": 1, "idle": "50ms"})})

    band.publish_many({"topic": "came", "key": f"k-{n}"} for n in range(40))
    band.settle(30)
    eventually(lambda: band.status().sections["hear"].instances <= 1, "letting go of idle instances")
    eventually(lambda: closed, "the closing of what is let go")

    band.publish("came")
    band.settle(30)
    assert band.status().sections["hear"].heard == 41
