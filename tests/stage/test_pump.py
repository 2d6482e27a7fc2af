"""A pump asks its source for more: no faster than its rate, no further ahead than what is durable, and not when it may not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from ensemble.broker import Publication, Said
from ensemble.errors import InvalidEvent
from ensemble.event import encode
from ensemble.stage.inbox import Reply
from ensemble.stage.pump import LINES, OUTSTANDING_MOST, Pump
from ensemble.stage.sources import Place
from tests.conformance.stand import eventually


class Speaker:
    """A source with so much to say; it keeps how much it was asked for at a time."""

    name = "speaker"
    total: int | None = None
    is_endless = False

    def __init__(self, count: int, *, rate: float | None = None, error: Exception | None = None) -> None:
        self.place = Place()
        self.rate = rate
        self.asked: list[int] = []
        self.is_closed = False
        self._left, self._error = count, error

    def next(self, now_us: int, most: int) -> Publication | None:
        self.asked.append(most)
        if self.place.is_done:
            return None
        if not self._left and self._error is not None:
            raise self._error
        count = min(most, self._left)
        self._left -= count
        self.place = Place(count=self.place.count + count, is_done=not self._left and self._error is None)
        return Publication(Said(["said"], 0, [""] * count, [encode(None)] * count), "/test")

    def due_us(self) -> int | None:
        return None

    def close(self) -> None:
        self.is_closed = True


class Ear:
    """What a pump speaks to, with a clock that a test sets. What was said becomes durable when the test says so."""

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.now_us = 0
        self.heard: list[int] = []
        self.replies: list[Reply] = []
        self.is_durable = True
        self.is_done = threading.Event()
        self.pump = Pump(speaker, self.publish, lambda: self.now_us, self.is_done.set)

    def publish(self, publication: Publication) -> Reply:
        self.heard.append(len(publication.said))
        reply = Reply()
        self.replies.append(reply)
        if self.is_durable:
            reply.give(None)
        return reply

    def step(self) -> int:
        """Let it say what it may say now; how many events."""
        before = sum(self.heard)
        while self.pump.step():
            pass
        return sum(self.heard) - before


@pytest.fixture
def started() -> Iterator[Callable[[Ear], Ear]]:
    """Starts pumps on their threads; they are stopped when the test ends."""
    ears: list[Ear] = []

    def start(ear: Ear) -> Ear:
        ears.append(ear)
        ear.pump.start()
        return ear

    yield start
    for ear in ears:
        ear.pump.stop()
        for reply in ear.replies:
            if reply._lock.locked():
                reply.give(None)
        ear.pump.close()


def test_a_source_without_a_rate_says_all_at_once_in_publications_of_some_size() -> None:
    ear = Ear(Speaker(1200))

    assert ear.step() == 1200
    assert ear.heard == [LINES, LINES, 200]
    assert ear.pump.is_dry


@pytest.mark.parametrize(("rate", "a_second"), [(1000.0, 1000), (20.0, 20), (4.0, 4), (1.0, 1)])
def test_a_source_with_a_rate_says_so_much_a_second(rate: float, a_second: int) -> None:
    ear = Ear(Speaker(10_000, rate=rate))

    said = 0
    for ear.now_us in range(0, 5_000_000, 10_000):
        said += ear.step()

    assert said == pytest.approx(5 * a_second, abs=max(1, a_second / 10))


def test_a_source_with_a_rate_is_asked_for_no_more_than_its_share() -> None:
    ear = Ear(Speaker(100, rate=200.0))

    ear.step()

    assert ear.speaker.asked == [10]
    assert ear.pump.due_us() == 50_000


def test_a_source_that_could_not_keep_up_with_its_rate_does_not_catch_up_in_a_burst() -> None:
    ear = Ear(Speaker(100, rate=20.0))
    ear.step()

    ear.now_us = 3_000_000

    assert ear.step() == 1


def test_a_source_that_has_nothing_more_to_say_has_no_moment() -> None:
    ear = Ear(Speaker(1, rate=1.0))
    ear.step()
    ear.now_us = 1_000_000
    ear.step()

    assert ear.pump.is_dry
    assert ear.pump.due_us() is None


def test_a_pump_says_everything_and_tells_that_it_has_ended(started: Callable[[Ear], Ear]) -> None:
    ear = started(Ear(Speaker(1200)))

    assert ear.is_done.wait(20)
    assert sum(ear.heard) == 1200
    assert ear.pump.is_dry
    assert ear.pump.trouble is None


def test_a_pump_stays_only_so_far_ahead_of_what_is_durable(started: Callable[[Ear], Ear]) -> None:
    ear = Ear(Speaker(100 * LINES))
    ear.is_durable = False

    started(ear)
    eventually(lambda: len(ear.heard) == OUTSTANDING_MOST + 1, "as many publications as may be on their way")
    assert not ear.is_done.is_set()
    ear.replies[0].give(None)

    eventually(lambda: len(ear.heard) == OUTSTANDING_MOST + 2, "one more")


def test_a_pump_that_may_not_speak_is_silent_until_it_may(started: Callable[[Ear], Ear]) -> None:
    ear = Ear(Speaker(10))
    ear.pump.let(False)
    started(ear)
    assert ear.speaker.asked == []

    ear.pump.let(True)

    assert ear.is_done.wait(20)
    assert ear.heard == [10]


@pytest.mark.parametrize("is_started", [False, True], ids=["step", "thread"])
def test_what_ends_a_source_before_its_time_is_kept(started: Callable[[Ear], Ear], is_started: bool) -> None:
    error = InvalidEvent("no such thing")
    ear = Ear(Speaker(10, error=error))

    if is_started:
        assert started(ear).is_done.wait(20)
    else:
        ear.step()

    assert ear.heard == [10]
    assert ear.pump.trouble is error
    assert ear.pump.is_dry


def test_a_pump_that_is_closed_has_closed_its_source(started: Callable[[Ear], Ear]) -> None:
    ear = Ear(Speaker(10**9))
    ear.pump.let(False)
    started(ear)

    ear.pump.stop()
    ear.pump.close()

    assert ear.speaker.is_closed


def test_a_pump_that_waits_for_its_rate_can_be_stopped(started: Callable[[Ear], Ear]) -> None:
    ear = Ear(Speaker(10, rate=0.001))  # the test's clock stands still: the next would never be due
    started(ear)
    eventually(lambda: ear.heard == [1], "the first")

    ear.pump.stop()

    assert ear.is_done.wait(20)
    assert ear.heard == [1]
