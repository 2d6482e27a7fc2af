"""One key has a long backlog, or one slow event. Promise: it slows down only itself."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from ensemble import Event
from tests.conformance.stand import Stand, eventually, part

pytestmark = pytest.mark.solo("instances of this process, on threads and as coroutines")


def test_the_backlog_of_one_key_leaves_room_for_the_others_of_an_asynchronous_player(stand: Stand) -> None:
    loops: list[Any] = []
    gate = asyncio.Event()
    heard: list[tuple[str, int]] = []

    async def hear(event: Event) -> None:
        loops.append(asyncio.get_running_loop())
        if event.key == "hot":
            await gate.wait()
        heard.append((event.key, event.data))

    band = stand.play({"hear": part(hear, "said")})
    band.publish_many({"topic": "said", "key": "hot", "data": number} for number in range(3000))
    band.publish("said", 0, key="cold")

    eventually(lambda: heard == [("cold", 0)], "the cold key")
    loops[0].call_soon_threadsafe(gate.set)
    band.settle(60)
    assert [data for key, data in heard if key == "hot"] == list(range(3000))


def test_a_slow_event_gives_back_what_waits_behind_it_in_its_batch(stand: Stand) -> None:
    released = threading.Event()
    lock = threading.Lock()
    heard: list[tuple[str, int]] = []

    def hear(event: Event) -> None:
        if event.data == 10:
            released.wait(60)
        with lock:
            heard.append((event.key, event.data))

    band = stand.play({"hear": part(hear, "said", section={"max": 2})})
    band.publish_many({"topic": "said", "key": str(number), "data": -1 - number} for number in range(2000))
    band.settle(60)  # it has learned that its events are fast, and takes many at a time
    heard.clear()
    band.publish_many({"topic": "said", "key": str(number), "data": number} for number in range(400))
    band.publish_many({"topic": "said", "key": str(number), "data": number} for number in (10, 11, 10))

    eventually(lambda: len(heard) == 400, "all other keys")
    released.set()
    band.settle(60)

    assert sorted(data for _, data in heard) == sorted([*range(400), 10, 11, 10])
    section = band.status().sections["hear"]
    assert (section.heard, section.failed, section.lag) == (2403, 0, 0)


def test_what_was_given_back_stays_in_the_order_of_its_key(stand: Stand) -> None:
    released = threading.Event()
    lock = threading.Lock()
    heard: list[int] = []

    def hear(event: Event, ctx: Any) -> Any:
        if event.data == 3:
            released.wait(60)
        ctx.state["heard"] = [*ctx.state.get("heard", []), event.data]
        with lock:
            heard.append(event.data)

    band = stand.play({"hear": part(hear, "said", section={"max": 2}, timeout="40s")})
    band.publish_many({"topic": "said", "key": str(number % 7), "data": number} for number in range(70))
    eventually(lambda: len(heard) >= 30, "some of the others")
    released.set()
    band.settle(60)

    assert {key: state["heard"] for key, state in band.table("hear").items()} == {
        str(key): list(range(key, 70, 7)) for key in range(7)
    }
    assert len(heard) == 70
