"""Promise 5. Publishing twice with the same id within the dedupe window is one event, and gives the same receipt."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ensemble.testing import ManualClock
from tests.conformance.home import at_home
from tests.conformance.stand import Stand, part


def test_the_same_id_twice_is_one_event_and_one_receipt(stand: Stand) -> None:
    heard: list[str] = at_home([])
    band = stand.play({"hear": part(lambda event: heard.append(event.id), "order.placed")})

    first = band.publish("order.placed", {"total": 1}, id="web-1")
    second = band.publish("order.placed", {"total": 1}, id="web-1")
    band.settle(30)

    assert first == second
    assert first.id == "web-1"
    assert heard == ["web-1"]
    assert len(list(band.events())) == 1


@pytest.mark.one_shard("an id is remembered by the shard of its key")
def test_the_first_to_come_stays_whatever_the_second_says(stand: Stand) -> None:
    band = stand.play()

    band.publish("order.placed", {"total": 1}, key="a", id="web-1")
    band.publish("order.changed", {"total": 2}, key="b", id="web-1")

    assert [(event.topic, event.key, event.data) for event in band.events()] == [("order.placed", "a", {"total": 1})]


def test_without_an_id_every_publish_is_an_event_of_its_own(stand: Stand) -> None:
    band = stand.play()

    receipts = [band.publish("order.placed", {"total": 1}) for _ in range(3)]

    assert len({receipt.id for receipt in receipts}) == 3
    assert [receipt.offset for receipt in receipts] == [0, 1, 2]


def test_an_id_is_known_after_the_band_is_opened_again(stand: Stand) -> None:
    first = stand.play().publish("order.placed", {"total": 1}, id="web-1")

    band = stand.play()
    second = band.publish("order.placed", {"total": 1}, id="web-1")

    assert first == second
    assert len(list(band.events())) == 1


def test_an_id_is_known_after_a_kill(stand_on_disk: Stand) -> None:
    first = stand_on_disk.play().publish("order.placed", {"total": 1}, id="web-1")

    killed = stand_on_disk.as_if_killed()
    second = killed.play().publish("order.placed", {"total": 1}, id="web-1")
    killed.leave()

    assert first == second


def test_the_same_id_in_one_batch_is_one_event(stand: Stand) -> None:
    band = stand.play()

    band.publish_many({"topic": "order.placed", "data": n, "id": f"web-{n % 10}"} for n in range(1500))

    assert [event.id for event in band.events()] == [f"web-{n}" for n in range(10)]


def test_many_publishers_of_the_same_ids_at_once_make_one_event_of_each(stand: Stand) -> None:
    band = stand.play()

    def publish(publisher: int) -> list[tuple[str, int]]:
        receipts = [band.publish("order.placed", publisher, id=f"web-{n}") for n in range(25)]
        return [(receipt.id, receipt.offset) for receipt in receipts]

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(publish, range(8)))

    assert all(receipts == told[0] for receipts in told)
    assert sorted(told[0]) == sorted((event.id, event.offset) for event in band.events())


@pytest.mark.solo("a clock moved by hand")
def test_an_id_is_forgotten_when_the_dedupe_window_has_passed(stand: Stand) -> None:
    clock = ManualClock()
    band = stand.play(store={"dedupe": "1h"}, clock=clock)

    first = band.publish("order.placed", id="web-1")
    clock.advance(minutes=59)
    within = band.publish("order.placed", id="web-1")
    clock.advance(minutes=2)
    after = band.publish("order.placed", id="web-1")

    assert within == first
    assert after.offset != first.offset
    assert band.status().events == 2


@pytest.mark.parametrize("second", ["/shop", "/market"])
def test_a_cloudevent_is_one_by_its_id_and_its_source(stand: Stand, second: str) -> None:
    band = stand.play()

    for source in ("/shop", second):
        band.publish_many([{"specversion": "1.0", "id": "1", "source": source, "type": "order.placed", "data": source}])

    assert [event.data for event in band.events()] == list(dict.fromkeys(["/shop", second]))


def test_events_that_players_say_are_not_taken_for_one_another(stand: Stand) -> None:
    from ensemble import emit

    band = stand.play({"echo": part(lambda event: [emit("echoed", 1), emit("echoed", 1)], "said", emits=["echoed"])})

    band.publish("said", id="echo")
    band.settle(30)

    assert len({event.id for event in band.events("echoed")}) == 2
