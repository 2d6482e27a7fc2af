"""A player that takes its time: nobody else waits for it."""

from __future__ import annotations

import time

import pytest

import ensemble
from ensemble import Event
from tests.conformance.stand import Gate

SCORE = {"ensemble": 1, "name": "slow", "players": {"slow": {"on": "long"}, "quick": {"on": "short"}}}


def test_while_a_player_takes_long_others_hear_and_every_question_is_answered() -> None:
    gate, heard = Gate(), []

    def slow(event: Event) -> None:
        gate.pass_through()

    with ensemble.open(SCORE, store="memory:", players={"slow": slow, "quick": lambda event: heard.append(event.data)}) as band:
        band.publish("long")
        gate.wait_for(1)

        began = time.monotonic()
        band.publish("short", 7)
        with pytest.raises(TimeoutError, match="slow has 1 to hear"):
            band.settle(timeout=0.3)
        status = band.status()

        assert time.monotonic() - began < 10
        assert heard == [7]
        assert (status.sections["slow"].lag, status.sections["quick"].lag) == (1, 0)
        gate.open()
        band.settle(20)
