"""Dead letters that are to be heard again, asked for in any order, while the section is busy."""

from __future__ import annotations

import threading
from itertools import permutations
from typing import Any

import pytest

from ensemble import Event
from tests.conformance.stand import Gate, Stand, eventually, part


@pytest.mark.parametrize("order", list(permutations((0, 3, 5))), ids=str)
def test_each_is_heard_once_whatever_the_order_in_which_they_were_asked_for(stand: Stand, order: tuple[int, ...]) -> None:
    gate = Gate()
    is_mended = threading.Event()

    def hear(event: Event, ctx: Any) -> None:
        if event.data == "slow":
            gate.pass_through()
        elif not is_mended.is_set():
            raise ValueError("not yet")
        else:
            ctx.state["heard"] = [*ctx.state.get("heard", []), event.data]

    band = stand.play({"hear": part(hear, "said", retry={"attempts": 1})})
    receipts = [band.publish("said", number, key=str(number)) for number in range(6)]
    band.settle(30)
    is_mended.set()
    band.publish("said", "slow", key="slow")
    gate.wait_for(1)
    asked = []
    for count, number in enumerate(order, 1):  # each waits for its answer until the player lets the loop go on
        offset = receipts[number].offset
        asked.append(threading.Thread(target=band._stage.again, args=("hear", offset)))
        asked[-1].start()
        eventually(lambda n=count: _queued(band) >= n, "the question's arrival")  # type: ignore[misc]
    gate.open()
    band.settle(30)
    for thread in asked:
        thread.join()

    assert {key: state["heard"] for key, state in band.table("hear").items()} == {str(n): [n] for n in order}
    section = band.status().sections["hear"]
    assert (section.lag, section.dead) == (0, 3)


def _queued(band: Any) -> int:
    return int(band._stage._inbox._queue.qsize())
