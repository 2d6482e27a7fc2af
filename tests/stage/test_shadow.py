"""How a shadow goes along a log that may be far away, grows, and fails now and then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

import ensemble
from ensemble import Event, Unavailable
from ensemble.event import Frame
from ensemble.log.base import LogReader
from ensemble.ready import ready
from ensemble.stage.shadow import Shadow

SCORE = {"ensemble": 1, "name": "shadowed", "players": {"hear": {"on": "said"}}}


def hear(event: Event) -> None: ...


class FarLog:
    """A log that sends all that it is asked for at once, and fails when so many frames of that were taken."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self.sent = self._taken = 0
        self.fails_at = -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def frames(self, seq: int = 0) -> Iterator[Frame]:
        frames = list(self._log.frames(seq))
        self.sent += len(frames)
        for frame in frames:
            if self._taken == self.fails_at:
                self.fails_at = -1
                raise Unavailable("the line is dead")
            self._taken += 1
            yield frame


@pytest.fixture
def band() -> Iterator[ensemble.Band]:
    with ensemble.open(SCORE, store="memory:shadowed", players={"hear": hear}) as band:
        yield band


@pytest.fixture
def log(band: ensemble.Band) -> Iterator[FarLog]:
    with ensemble.read("memory:shadowed") as reader:
        yield FarLog(reader._shards[0].log)


@pytest.fixture
def shadow(log: FarLog) -> Iterator[Shadow]:
    shadow = Shadow(ready(SCORE, {"hear": hear}).players["hear"], cast(LogReader, log))
    yield shadow
    shadow.close()


def grow(band: ensemble.Band, log: FarLog, frames: int) -> None:
    """Have the log grow to so many frames at least."""
    while log.end().seq < frames:
        band.publish("said", None)
        band.settle()


@pytest.mark.parametrize("most", [1, 2, 3, 16])
def test_each_frame_of_a_log_that_grows_is_asked_for_once(band: ensemble.Band, log: FarLog, shadow: Shadow, most: int) -> None:
    for more in (1, most, 4 * most, 4 * most + 1):  # so that it stops in the middle of what it asked for, and at its end
        before = shadow.seq
        grow(band, log, before + more)
        steps = [shadow.follow(most)]
        grow(band, log, log.end().seq + 1)  # while it has the end as it was
        while steps[-1]:
            steps.append(shadow.follow(most))

        assert shadow.seq == before + sum(steps) == log.end().seq, "nothing but the end is taken for it"
        assert log.sent == shadow.seq
    assert shadow.heard == band.status().sections["hear"].heard


def test_what_fails_on_the_way_is_gone_on_with_where_it_was(band: ensemble.Band, log: FarLog, shadow: Shadow) -> None:
    grow(band, log, 9)
    log.fails_at = 4

    with pytest.raises(Unavailable, match="dead"):
        shadow.follow(16)
    assert shadow.seq == 4
    while shadow.follow(16):
        pass
    assert shadow.seq == log.end().seq
    assert shadow.heard == band.status().sections["hear"].heard
