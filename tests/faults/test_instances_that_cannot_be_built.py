"""An instance can't be built while the band plays, since what it needs is away: the band goes on, and builds again."""

from __future__ import annotations

import threading

import pytest

from ensemble import Event, PlayerError
from tests.conformance.stand import Gate, Stand, eventually, part

pytestmark = pytest.mark.solo("instances of this process; those of a cluster are built anew by Ray")


class Counted:
    """A player whose builds from `first` to `last` fail, counted from 1; the first of all is the band's own trial."""

    def __init__(self, first: int, last: int) -> None:
        self._lock = threading.Lock()
        self.first, self.last = first, last
        self.built = 0
        self.heard: list[int] = []

    def player(self, hear: object = None) -> type:
        counted = self

        class Hear:
            def __init__(self) -> None:
                with counted._lock:
                    counted.built += 1
                    if counted.first <= counted.built <= counted.last:
                        raise ConnectionError("the database restarts")

            def __call__(self, event: Event) -> None:
                if callable(hear):
                    hear(event)
                counted.heard.append(event.data)

        return Hear


@pytest.mark.parametrize("order", ["key", "none"])
def test_what_it_was_to_hear_is_heard_when_one_can_be_built(stand: Stand, order: str) -> None:
    counted = Counted(2, 4)
    gone = Gate()

    def hear(event: Event) -> None:
        if counted.built == 1:  # so that a second instance is wanted
            gone.pass_through()

    band = stand.play({"hear": part(counted.player(hear), "said", section={"max": 2, "batch": 3}, order=order)})
    band.publish_many({"topic": "said", "key": str(number % 2), "data": number} for number in range(12))
    eventually(lambda: counted.built > 1, "a second instance")
    gone.open()
    band.settle(60)

    assert sorted(counted.heard) == list(range(12))
    if order == "key":
        assert [n for n in counted.heard if n % 2] == [1, 3, 5, 7, 9, 11]
    section = band.status().sections["hear"]
    assert (section.failed, section.lag) == (0, 0)


def test_those_that_there_are_go_on(stand: Stand) -> None:
    counted = Counted(3, 10**6)
    gate = Gate()
    band = stand.play({"hear": part(counted.player(lambda _: gate.pass_through()), "said", section={"max": 4, "batch": 1})})
    for number in range(8):
        band.publish("said", number, key=str(number))
    gate.open()
    band.settle(60)

    assert sorted(counted.heard) == list(range(8))


def test_at_the_opening_it_is_an_error_as_before(stand: Stand) -> None:
    counted = Counted(1, 1)

    with pytest.raises(PlayerError, match="the database restarts"):
        stand.play({"hear": part(counted.player(), "said", section={"max": 2})})


def test_the_rest_of_a_batch_without_order_is_heard_when_one_of_it_took_too_long(stand: Stand) -> None:
    released = threading.Event()
    heard: list[int] = []

    def hear(event: Event) -> None:
        if event.data == 3:
            released.wait(60)
        heard.append(event.data)

    says = {"timeout": "50ms", "order": "none", "retry": {"attempts": 1}}
    band = stand.play({"hear": part(hear, "said", **says)})
    band.publish_many(list(range(8)), topic="said")
    band.settle(60)

    assert [letter.event.data for letter in band.dead()] == [3]
    assert sorted(heard) == [0, 1, 2, 4, 5, 6, 7]
    released.set()
