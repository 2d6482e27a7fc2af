"""A player that waits for the band to settle would wait for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ensemble import Band, Event
from ensemble.testing import ManualClock
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("on Ray a player has no band in its hands")


@pytest.mark.parametrize("clock", [ManualClock, lambda: None], ids=["by hand", "in time"])
@pytest.mark.parametrize("kind", ["inline", "threads", "async"])
def test_it_fails_with_a_sentence_that_says_so(stand: Stand, kind: str, clock: Callable[[], Any]) -> None:
    bands: list[Band] = []

    def hear(event: Event) -> None:
        bands[0].settle()

    async def hear_later(event: Event) -> None:
        bands[0].settle()

    says = {"section": {"max": 2}} if kind == "threads" else {}
    call = hear_later if kind == "async" else hear
    bands.append(stand.play({"hear": part(call, "said", retry={"attempts": 1}, **says)}, clock=clock()))
    bands[0].publish("said")
    bands[0].settle(30)

    [letter] = bands[0].dead()
    assert letter.error.startswith("EnsembleError: a player can't settle while it hears an event")
