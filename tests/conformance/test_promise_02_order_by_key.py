"""Promise 2. A section hears the events of one key one at a time, in log order, across topics; other keys run beside it."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from ensemble import Event, emit
from tests.conformance.home import AtHome, at_home
from tests.conformance.stand import Stand, part

KEYS = ["ann", "bob", "cid", "dee", "eve"]


class Ledger(AtHome):
    """Notes what is heard, by key, and whether two events were heard at once."""

    def __init__(self, lane: Callable[[Event], str] = lambda event: event.key) -> None:
        self.heard: defaultdict[str, list[int]] = defaultdict(list)
        self.all: list[int] = []
        self.overlaps: list[str] = []
        self._lane = lane
        self._inside: set[str] = set()
        self._lock = threading.Lock()

    def begin(self, event: Event) -> None:
        lane = self._lane(event)
        with self._lock:
            if lane in self._inside:
                self.overlaps.append(f"{event.id} began while another event of {lane!r} was being heard")
            self._inside.add(lane)
            self.heard[lane].append(event.offset)
            self.all.append(event.offset)

    def end(self, event: Event) -> None:
        with self._lock:
            self._inside.discard(self._lane(event))


def function(ledger: Ledger) -> Any:
    def hear(event: Event) -> None:
        ledger.begin(event)
        ledger.end(event)

    return hear


def waiting_function(ledger: Ledger) -> Any:
    def hear(event: Event) -> None:
        ledger.begin(event)
        threading.Event().wait(0.0005 * (event.offset % 3))  # so that others overtake, if they may
        ledger.end(event)

    return hear


def coroutine(ledger: Ledger) -> Any:
    async def hear(event: Event) -> None:
        ledger.begin(event)
        await asyncio.sleep(0.0005 * (event.offset % 3))
        ledger.end(event)

    return hear


def whole_batch(ledger: Ledger) -> Any:
    def hear(events: list[Event]) -> None:
        for event in events:
            ledger.begin(event)
            ledger.end(event)

    return hear


KINDS = {
    "function": (function, {"max": 1}),
    "threads": (waiting_function, {"max": 4, "batch": 7}),
    "coroutine": (coroutine, {"batch": 50}),
    "batch": (whole_batch, {"batch": 20}),
    "batch on threads": (whole_batch, {"max": 3, "batch": 20}),
}


def conversation() -> list[dict[str, Any]]:
    """Three topics, five keys, mixed."""
    topics = ["order.placed", "order.paid", "user.moved"]
    return [{"topic": topics[n % 3], "key": KEYS[n // 3 % 5], "data": n} for n in range(400)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_events_of_a_key_are_heard_one_at_a_time_in_log_order_across_topics(stand: Stand, kind: str) -> None:
    ledger = Ledger()
    make, section = KINDS[kind]
    band = stand.play({"hear": part(make(ledger), ["order.*", "user.moved"], section=section)})

    band.publish_many(conversation())
    band.settle(30)

    expected: defaultdict[str, list[int]] = defaultdict(list)
    for event in band.events():
        expected[event.key].append(event.offset)
    assert ledger.heard == expected
    assert ledger.overlaps == []


@pytest.mark.parametrize("kind", ["threads", "coroutine"])
def test_what_a_player_says_to_a_key_is_heard_in_the_order_in_which_it_was_said(stand: Stand, kind: str) -> None:
    ledger = Ledger()
    make, section = KINDS[kind]

    def answer(event: Event) -> Any:
        return [emit("answer", number) for number in range(3)]

    band = stand.play(
        {"answer": part(answer, "order.*", emits=["answer"]), "hear": part(make(ledger), "answer", section=section)}
    )

    band.publish_many(conversation())
    band.settle(30)

    assert {key: offsets == sorted(offsets) for key, offsets in ledger.heard.items()} == dict.fromkeys(KEYS, True)
    assert sum(map(len, ledger.heard.values())) == band.status().topics["answer"]
    assert ledger.overlaps == []


def test_events_of_different_keys_run_beside_each_other_on_threads(stand: Stand) -> None:
    meeting = at_home(threading.Barrier(3))

    def meet(event: Event) -> None:
        meeting.wait(20)  # only three at once get through

    band = stand.play({"meet": part(meet, "came", section={"max": 3})})

    for key in KEYS[:3]:
        band.publish("came", key=key)
    band.settle(30)

    assert band.status().sections["meet"].heard == 3
    assert band.dead() == []


def test_events_of_different_keys_run_beside_each_other_as_coroutines(stand: Stand) -> None:
    waiting: list[asyncio.Event] = []

    async def meet(event: Event) -> None:
        here = asyncio.Event()
        waiting.append(here)
        if len(waiting) == 5:
            for each in waiting:
                each.set()
        await asyncio.wait_for(here.wait(), 20)

    band = stand.play({"meet": part(meet, "came")})

    for key in KEYS:
        band.publish("came", key=key)
    band.settle(30)

    assert band.status().sections["meet"].heard == 5
    assert band.dead() == []


def test_order_none_lets_the_events_of_one_key_run_beside_each_other(stand: Stand) -> None:
    meeting = at_home(threading.Barrier(3))

    def meet(event: Event) -> None:
        meeting.wait(20)

    band = stand.play({"meet": part(meet, "came", order="none", section={"max": 3})})

    for _ in range(3):
        band.publish("came", key="ann")
    band.settle(30)

    assert band.status().sections["meet"].heard == 3
    assert band.dead() == []


@pytest.mark.one_shard("order: all is the order of the log, and several shards have several")
@pytest.mark.parametrize("kind", ["threads", "coroutine"])
def test_order_all_hears_every_event_one_at_a_time_whatever_its_key(stand: Stand, kind: str) -> None:
    ledger = Ledger(lane=lambda event: "all")
    make, section = KINDS[kind]
    band = stand.play({"hear": part(make(ledger), "order.*", order="all", section=section)})

    band.publish_many(conversation())
    band.settle(30)

    assert ledger.all == [event.offset for event in band.events("order.*")]
    assert ledger.overlaps == []


@pytest.mark.parametrize("kind", ["function", "threads", "coroutine"])
def test_by_orders_events_by_a_path_into_their_data_instead_of_their_key(stand: Stand, kind: str) -> None:
    ledger = Ledger(lane=lambda event: str(event.data["customer"]["id"]))
    make, section = KINDS[kind]
    band = stand.play({"hear": part(make(ledger), "order.placed", by="customer.id", section=section)})

    band.publish_many(
        [{"topic": "order.placed", "key": f"o-{n}", "data": {"customer": {"id": n % 4}}} for n in range(200)]
    )
    band.settle(30)

    assert {lane: len(offsets) for lane, offsets in ledger.heard.items()} == dict.fromkeys("0123", 50)
    assert all(offsets == sorted(offsets) for offsets in ledger.heard.values())
    assert ledger.overlaps == []


def test_order_by_key_goes_on_where_it_was_after_the_band_is_opened_again(stand: Stand) -> None:
    ledger = Ledger()
    hear = part(waiting_function(ledger), ["order.*", "user.moved"], section={"max": 4, "batch": 3})
    band = stand.play({"hear": hear})

    for start in range(0, 400, 100):
        band.publish_many(conversation()[start : start + 100])
        band = stand.play({"hear": hear})  # leaves with work undone
    band.settle(30)

    assert all(offsets == sorted(set(offsets)) for offsets in ledger.heard.values())
    assert sum(map(len, ledger.heard.values())) == 400
    assert ledger.overlaps == []


def test_these_tests_can_fail_a_ledger_sees_events_that_overlap_or_come_too_early() -> None:
    from ensemble.testing import event

    ledger = Ledger()
    first, second = event("a", key="ann", offset=0), event("a", key="ann", offset=1)

    ledger.begin(second)
    ledger.begin(first)

    assert ledger.overlaps == [f"{first.id} began while another event of 'ann' was being heard"]
    assert ledger.heard["ann"] != sorted(ledger.heard["ann"])
