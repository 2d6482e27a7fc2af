"""Half a surrogate pair can't be written as UTF-8. Wherever one comes from, only its own event suffers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from ensemble import Event, InvalidEvent, Unavailable, emit
from ensemble.testing import FaultyLog
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("texts are made writable by the same code on every stage")

ONCE = {"attempts": 1}
HALF = "\ud83d"


def test_an_error_whose_text_cannot_be_written_is_told_escaped(stand: Stand) -> None:
    def hear(event: Event) -> None:
        if event.data == "bad":
            raise ValueError(f"no file {os.fsdecode(b'caf' + bytes([0xE9]))}")

    band = stand.play({"hear": part(hear, "said", retry=ONCE)})
    band.publish_many(["bad", "good"], topic="said")
    band.settle(30)

    [letter] = band.dead()
    assert letter.error == r"ValueError: no file caf\udce9"
    assert r"caf\udce9" in letter.traceback
    assert band.status().sections["hear"].heard == 1


@pytest.mark.parametrize("topic", ["o.\udcff", "o.a b", "o.*", "*", ">", "a..b", "o.", "", "o.é", "x" * 1000, "_band"])
def test_a_topic_that_fits_a_wildcard_of_emits_must_still_be_a_topic(stand: Stand, topic: str) -> None:
    def hear(event: Event) -> Any:
        return emit(topic, 1) if event.data == "bad" else None

    band = stand.play({"hear": part(hear, "said", emits=[">", "o.*"], retry=ONCE)})
    band.publish_many(["bad", "good"], topic="said")
    band.settle(30)

    [letter] = band.dead()
    assert letter.error.startswith("PlayerError: player hear said ")
    assert [event.topic for event in band.events() if event.topic != "said"] == []
    assert band.status().sections["hear"].heard == 1


@pytest.mark.parametrize("name", ["source", "correlationid", "causationid", "id", "type", "subject"])
def test_a_cloud_event_with_a_text_that_cannot_be_written_is_refused(stand: Stand, name: str) -> None:
    band = stand.play({"hear": part(lambda event: None, "said")})
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "said", "data": 1}

    with pytest.raises(InvalidEvent, match="item 1"):
        band.publish_many([{**event, name: f"x{HALF}"}])

    assert band.publish_many([event]) == 1


def test_who_publishes_hears_of_it_when_a_frame_cannot_be_sealed(stand: Stand, log_of: Callable[[], FaultyLog]) -> None:
    band = stand.play({"hear": part(lambda event: None, "said")})
    log = log_of()

    def seal(frame: Any) -> bytes:
        raise TypeError("it can't be written")

    log.seal = seal  # type: ignore[method-assign]

    with pytest.raises(TypeError, match="can't be written"):
        band.publish("said")
    with pytest.raises((TypeError, Unavailable), match="can't be written"):
        band.publish("said")
