"""Instances whose process dies while they hear, on Ray. What it was hearing comes back; only what kills is charged with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensemble import Event, emit
from tests.conformance.home import at_home
from tests.conformance.stand import Gate, Setup, Stand, part


@pytest.fixture
def on_ray(cluster: None, tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(Setup("ray", "directory"), tmp_path)
    yield stand
    stand.end()


@pytest.mark.everywhere("test_ray_faults.py has one that kills its process")
@pytest.mark.patience(240)
@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_an_event_that_kills_its_instance_is_a_dead_letter_and_all_others_are_heard_once(on_ray: Stand, kind: str) -> None:
    def hear(event: Event) -> object:
        if event.data == 5:
            os._exit(3)
        return emit("heard", event.data)

    async def hear_later(event: Event) -> object:
        return hear(event)

    call = {"function": hear, "coroutine": hear_later}[kind]
    retry = {"attempts": 2, "first": "1ms"}
    band = on_ray.play({"hear": part(call, "said", emits=["heard"], retry=retry, section={"batch": 8})})

    band.publish_many({"topic": "said", "key": str(number % 7), "data": number} for number in range(20))
    band.settle(120)

    [letter] = band.dead()
    assert (letter.event.data, letter.attempts) == (5, 2)
    assert letter.error.startswith("InstanceDied: the process of player hear died while it heard this event: ")
    assert sorted(event.data for event in band.events("heard")) == [number for number in range(20) if number != 5]
    assert band.status().sections["hear"].lag == 0


def test_what_an_instance_was_hearing_when_it_was_killed_is_heard_by_another_without_a_dead_letter(on_ray: Stand) -> None:
    gate = Gate()
    pids: list[int] = at_home([])

    def hear(event: Event) -> object:
        pids.append(os.getpid())
        gate.pass_through()
        return emit("heard", event.data)

    band = on_ray.play({"hear": part(hear, "said", emits=["heard"], section={"batch": 8})})
    band.publish_many({"topic": "said", "key": str(number), "data": number} for number in range(8))
    gate.wait_for(1)

    os.kill(pids[0], signal.SIGKILL)
    gate.open()
    band.settle(60)

    assert len(set(pids)) > 1
    assert sorted(event.data for event in band.events("heard")) == list(range(8))
    assert band.dead() == []
