"""Promise 1. `publish` returns once the event is durable, and no player hears an event that a crash could still lose."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import ensemble
from ensemble import Event, emit
from ensemble.testing import FaultyLog
from tests.conformance.home import at_home
from tests.conformance.stand import Stand, eventually, part


def test_what_a_player_hears_can_be_read_from_the_store_at_that_moment(stand: Stand) -> None:
    unwritten: list[str] = at_home([])
    url = stand.url

    def look(event: Event) -> Any:
        with ensemble.read(url) as reader:
            if next(reader.events(since=event.offset), None) != event:
                unwritten.append(event.id)
        return emit("second", event.data) if event.topic == "first" else None

    band = stand.play({"look": part(look, ["first", "second"], emits=["second"])})

    for number in range(20):
        band.publish("first", number)
    band.publish_many(range(200), topic="first")
    band.settle(30)

    assert band.status().sections["look"].heard == 440
    assert unwritten == []


def test_a_receipt_is_of_an_event_that_can_be_read_from_the_store(stand: Stand) -> None:
    band = stand.play()

    receipts = [band.publish("order.placed", {"number": number}) for number in range(10)]

    with stand.reader() as reader:
        for number, receipt in enumerate(receipts):
            event = next(reader.events(since=receipt.offset))
            assert (event.id, event.data) == (receipt.id, {"number": number})


@pytest.mark.solo("a log with settable faults is of this process; where the log is another's, the test above asks it itself")
def test_publish_does_not_return_and_nobody_hears_while_the_store_has_not_taken_the_event(
    stand: Stand, log_of: Callable[[], FaultyLog]
) -> None:
    heard: list[int] = []
    receipts: list[Any] = []
    band = stand.play({"hear": part(lambda event: heard.append(event.data), "said")})
    log_of().hold()

    publisher = threading.Thread(target=lambda: receipts.append(band.publish("said", 1)))
    publisher.start()
    assert log_of().held.wait(20)
    publisher.join(0.05)

    assert (heard, receipts) == ([], [])

    log_of().release()
    publisher.join(20)
    band.settle(20)
    assert heard == [1]
    assert len(receipts) == 1


@pytest.mark.solo("a log with settable faults is of this process")
def test_what_a_player_said_is_heard_only_once_the_store_has_taken_it(
    stand: Stand, log_of: Callable[[], FaultyLog]
) -> None:
    heard: list[str] = []

    def first(event: Event) -> Any:
        log_of().hold()  # before anything of this hearing can be written
        return emit("answered", "yes")

    band = stand.play(
        {
            "first": part(first, "asked", emits=["answered"]),
            "second": part(lambda event: heard.append(event.data), "answered"),
        }
    )
    band.publish("asked")
    assert log_of().held.wait(20)

    assert heard == []
    assert list(stand.reader().events("answered")) == []

    log_of().release()
    band.settle(20)
    assert heard == ["yes"]


def test_an_event_that_was_acknowledged_is_there_after_a_kill(stand_on_disk: Stand) -> None:
    band = stand_on_disk.play()
    receipts = [band.publish("order.placed", number) for number in range(50)]

    killed = stand_on_disk.as_if_killed()

    assert [event.id for event in killed.reader().events()] == [receipt.id for receipt in receipts]
    killed.play()
    assert [event.data for event in killed.reader().events()] == list(range(50))
    killed.leave()


@pytest.mark.directory("elsewhere durability means nothing")
@pytest.mark.solo("it counts the calls of fdatasync in this process")
def test_only_a_score_that_says_so_gives_up_the_disk(stand_on_disk: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.log.files import Files

    synced: list[int] = []
    sync = Files.sync

    def sync_and_count(self: Files, fd: int) -> None:
        synced.append(fd)
        sync(self, fd)

    monkeypatch.setattr(Files, "sync", sync_and_count)

    def syncs_of_ten_events(**store: Any) -> int:
        band = stand_on_disk.play(store=store)
        before = len(synced)
        for number in range(10):
            band.publish("order.placed", number)
        return len(synced) - before

    assert syncs_of_ten_events() >= 10
    assert syncs_of_ten_events(durability="memory") == 0


def test_an_event_published_in_memory_durability_outlives_the_process(stand_on_disk: Stand) -> None:
    band = stand_on_disk.play(store={"durability": "memory"})
    band.publish_many(range(100), topic="order.placed")

    killed = stand_on_disk.as_if_killed()

    assert eventually(lambda: len(list(killed.reader().events())) == 100)
