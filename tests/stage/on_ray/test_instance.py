"""An instance's log lines say who said them, in which process, and about which event."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest

from ensemble import Event, testing
from ensemble.broker import Batch
from ensemble.motif import Topic
from ensemble.player import Player, Work
from ensemble.score import Score
from ensemble.score.model import PlayerSpec
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.on_ray.instance import ByPlayer


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(ByPlayer("talks"))
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(self.format(record))


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines, logger = Lines(), logging.getLogger("ensemble.player.talks")
    logger.addHandler(lines)
    logger.propagate = False
    yield lines
    logger.removeHandler(lines)
    logger.propagate = True


def hear(call: Any) -> None:
    player = Player(PlayerSpec(name="talks", on=Topic("came")), call, Vocabulary(Score(name="test")))
    events = [testing.event("came", number, key="k", offset=number) for number in (5, 6)]
    player.build().hear(Work(Batch("talks", [5, 6], ["k", "k"], {}, 0), events, [5, 6], [5, 6], {}))


def test_a_line_about_an_event_has_its_id(lines: Lines) -> None:
    def talks(event: Event, ctx: Any) -> None:
        ctx.log.warning("number %d", event.data, extra={"colour": "red"})

    hear(talks)

    assert lines.lines == [f"WARNING player talks, instance {os.getpid()}, event test-{n}: number {n}" for n in (5, 6)]
    assert {(record.name, vars(record)["colour"]) for record in lines.records} == {("ensemble.player.talks", "red")}


def test_a_line_about_a_whole_batch_has_none_and_nor_has_one_of_the_instance_itself(lines: Lines) -> None:
    def talks(events: list[Event], ctx: Any) -> None:
        ctx.log.warning("%d of them", len(events))

    hear(talks)
    logging.getLogger("ensemble.player.talks").error("closed")

    assert lines.lines == [
        f"WARNING player talks, instance {os.getpid()}: 2 of them",
        f"ERROR player talks, instance {os.getpid()}: closed",
    ]
