"""Dead letters that are to be heard again, asked for in any order, while the section is busy."""

from __future__ import annotations

import threading
from itertools import permutations
from typing import Any

import pytest

from ensemble import Event
from tests.conformance.stand import Gate, Stand, part

pytestmark = pytest.mark.solo("the same broker hands out dead letters again on every stage")


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

    band = stand.play({"hear": part(hear, "said", retry={"attempts": 1}, timeout="60s")})
    receipts = [band.publish("said", number, key=str(number)) for number in range(6)]
    band.settle(30)
    is_mended.set()
    band.publish("said", "slow", key="slow")
    gate.wait_for(1)
    for number in order:
        assert band.retry_dead(id=receipts[number].id) == 1
    gate.open()
    band.settle(30)

    assert {key: state["heard"] for key, state in band.table("hear").items()} == {str(n): [n] for n in order}
    section = band.status().sections["hear"]
    assert (section.lag, section.dead) == (0, 3)
