"""Whoever opens a band from Python is told of its dead letters, a few of them one by one."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import ensemble
from ensemble.stage.deaths import AT_ONCE, SUM_EVERY_S, Deaths
from tests.conformance.stand import Stand, part


def refuse(event: ensemble.Event) -> None:
    raise ensemble.Reject(f"number {event.data}")


@pytest.mark.solo("on Ray they are logged where the shard plays")
def test_a_dead_letter_is_logged_with_player_event_error_and_line(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    band = stand.play({"refuse": part(refuse, "said")})

    receipt = band.publish("said", 1)
    band.settle(10)

    [record] = [each for each in caplog.records if each.name == "ensemble.dead"]
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert text.startswith(f"test: player refuse could not hear {receipt.id} (said): Reject: number 1 at ")
    assert "test_deaths.py:" in text


@pytest.mark.solo("on Ray they are logged where the shard plays")
def test_of_many_dead_letters_a_few_are_logged_and_the_rest_is_summed(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    band = stand.play({"refuse": part(refuse, "said")})

    band.publish_many(range(1000), topic="said")
    band.settle(30)
    stand.leave()

    texts = [each.getMessage() for each in caplog.records if each.name == "ensemble.dead"]
    assert len(texts) <= 20
    assert any("more events became dead letters" in text for text in texts)


def test_after_a_while_they_are_told_one_by_one_again(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    frames: list[Any] = []
    with ensemble.open(
        {"ensemble": 1, "name": "test", "players": {"refuse": {"on": "said"}}},
        store="memory:deaths",
        players={"refuse": refuse},
    ) as band:
        band.publish_many(range(AT_ONCE + 2), topic="said")
        band.settle(10)
        frames += [frame for frame in band._shards[0].log.frames() if "dead" in frame.marks]
    caplog.clear()
    deaths = Deaths("test", lambda: now_s)

    for frame in frames:
        deaths.tell(frame)
    now_s = SUM_EVERY_S
    deaths.tell(frames[0])

    texts = [each.getMessage() for each in caplog.records]
    assert [text for text in texts if "more" in text] == ["test: 2 more events became dead letters; band.dead() lists them"]
    assert "could not hear" in texts[-1]
