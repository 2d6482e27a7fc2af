"""A section's place on the stage: how large its batches are, and when it waits for more to hear together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ensemble.broker import Broker, Listener, Opening, Outcome, Policy, Publication, Said, State
from ensemble.event import encode
from ensemble.log import open_log
from ensemble.motif import Topic
from ensemble.player import Work
from ensemble.score.model import PlayerSpec, Section
from ensemble.stage.inbox import Role
from ensemble.stage.seat import Pace, Seat
from ensemble.stage.tape import Tape


def after(pace: Pace, *, fixed_s: float = 0.0, each_s: float = 0.0, batches: int = 30, waiting: int = 1 << 20) -> Pace:
    """A pace that has learnt from batches of a player that costs this much."""
    for _ in range(batches):
        count = max(1, min(int(pace.limit), waiting))
        pace.learn(count, fixed_s + each_s * count)
    return pace


# Pace


def test_a_batch_is_as_long_as_a_moment() -> None:
    assert after(Pace(1000), each_s=0.001).limit == pytest.approx(20)


def test_a_batch_is_one_event_where_an_event_takes_longer_than_a_moment() -> None:
    assert after(Pace(1000), each_s=1.0).limit == 1


def test_a_batch_has_the_most_that_the_score_allows_where_events_take_next_to_nothing() -> None:
    assert after(Pace(500), each_s=1e-7).limit == 500


def test_a_cost_that_is_fixed_does_not_make_batches_small() -> None:
    assert after(Pace(500), fixed_s=0.05).limit == 500


def test_what_is_fixed_takes_its_part_of_the_moment() -> None:
    assert after(Pace(1000), fixed_s=0.004, each_s=0.001).limit == pytest.approx(16, abs=1)


def test_no_more_than_half_of_a_batch_is_lost_on_what_is_fixed() -> None:
    assert after(Pace(1000), fixed_s=0.1, each_s=0.001).limit == pytest.approx(100, rel=0.1)


def test_batches_of_one_size_keep_what_was_known_of_the_fixed_cost() -> None:
    pace = after(Pace(1000), fixed_s=0.1, each_s=0.001)

    after(pace, fixed_s=0.1, each_s=0.001, batches=1000, waiting=5)

    assert pace.limit == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize(("before_s", "now_s", "limit"), [(0.001, 0.01, 2), (0.01, 0.001, 20)], ids=["slower", "faster"])
def test_a_player_that_changes_its_speed_is_followed(before_s: float, now_s: float, limit: int) -> None:
    pace = after(Pace(1000), each_s=before_s)

    assert after(pace, each_s=now_s, batches=60).limit == pytest.approx(limit, rel=0.3)


def test_not_even_the_first_batch_has_more_than_the_score_allows() -> None:
    assert Pace(1).limit == 1
    assert Pace(4).limit == 4


def test_the_first_batches_are_small_since_nobody_knows_yet() -> None:
    pace = Pace(1000)
    assert pace.limit == 8

    pace.learn(8, 8e-7)

    assert pace.limit == 32


# Whole batches, and waiting for more


class Hall:
    """Workers that note what they are given; they have room until they are told otherwise."""

    count = 1
    overlaps = False

    def __init__(self, spread: int) -> None:
        self.spread = spread
        self.sizes: list[int] = []
        self.free = 1 << 30

    def room(self) -> int:
        return self.free

    def start(self, work: Work) -> None:
        self.sizes.append(len(work.events))

    def tend(self, now_s: float, load: Callable[[], int]) -> float | None:
        return None

    def close(self) -> None: ...


class Place:
    """A seat over a log in memory, with a clock that a test sets."""

    def __init__(self, section: Section, *, hears_batches: bool = False, is_paced: bool = True, spread: int = 1) -> None:
        self.now_s = 100.0
        self.hall = Hall(spread)
        self._log = open_log("memory:", name="test")
        self._broker = Broker(
            State(),
            log_id=self._log.id,
            name="test",
            listeners={"hear": Listener([("came", None)], order="none")},
            policies={"hear": Policy()},
            overlapping=["hear"],
        )
        self._broker.open(Opening(), 0, lambda patterns, offset: 0)
        self._tape = Tape(self._log)
        role = Role(PlayerSpec(name="hear", on=Topic("came"), section=section), hears_batches=hears_batches)
        self.seat = Seat(
            self._broker.sections["hear"], role, self.hall, self._tape, lambda: 0, lambda name: {},
            is_paced=is_paced, monotonic=lambda: self.now_s,
        )  # fmt: skip

    def come(self, count: int) -> None:
        """So many events come, are durable and are looked at."""
        said = Said(["came"], 0, [""] * count, [encode(None)] * count)
        frame, _ = self._broker.publish([Publication(said, "/test")], 0)
        assert frame is not None
        self._tape.keep(frame, 1)
        self.seat.look(frame.end)

    def play(self) -> list[int]:
        """Let it play all that it may; the sizes of the batches."""
        self.hall.sizes.clear()
        while self.seat.can_play() and self.seat.play(0):
            pass
        return list(self.hall.sizes)


def test_who_hears_whole_batches_gets_all_that_waits() -> None:
    place = Place(Section(batch=500), hears_batches=True)

    place.come(400)

    assert place.play() == [400]


def test_who_hears_whole_batches_gets_no_more_than_its_batch() -> None:
    place = Place(Section(batch=500), hears_batches=True)

    place.come(1200)

    assert place.play() == [500, 500, 200]


def test_however_slow_a_call_is_the_next_whole_batch_is_not_smaller() -> None:
    place = Place(Section(batch=500), hears_batches=True)

    place.seat.came_back(Outcome("hear", 8, (), (), None, 0, took_s=10.0))
    place.come(400)

    assert place.play() == [400]


def test_a_whole_batch_is_not_split_among_instances() -> None:
    place = Place(Section(batch=500, max=4), hears_batches=True, spread=4)

    place.come(400)

    assert place.play() == [400]


def test_who_hears_one_by_one_leaves_some_for_the_other_instances() -> None:
    place = Place(Section(max=4), spread=4)

    place.come(16)

    assert place.play()[0] == 4


def test_a_section_that_lingers_waits_until_its_batch_is_full() -> None:
    place = Place(Section(batch=100, linger_us=300_000))

    place.come(99)
    assert place.play() == []
    place.come(1)

    assert place.play() == [100]


def test_a_section_that_lingers_waits_no_longer_than_its_linger_and_then_hears_all() -> None:
    place = Place(Section(batch=1000, linger_us=300_000))
    place.come(60)
    assert place.play() == []
    assert place.seat.wake_s == pytest.approx(100.3)

    place.now_s = 100.2
    place.come(40)
    assert place.play() == []
    place.now_s = 100.3

    assert place.play() == [100]


def test_each_batch_lingers_anew() -> None:
    place = Place(Section(batch=1000, linger_us=300_000))
    place.come(10)
    place.play()
    place.now_s = 100.3
    place.play()

    place.now_s = 200.0
    place.come(10)

    assert place.play() == []
    assert place.seat.wake_s == pytest.approx(200.3)


def test_who_has_nothing_to_hear_has_no_moment_to_wake_at() -> None:
    place = Place(Section(batch=1000, linger_us=300_000))
    place.come(10)
    place.play()
    place.now_s = 100.3
    place.play()

    assert place.play() == []
    assert place.seat.wake_s is None


def test_under_a_clock_moved_by_hand_batches_follow_neither_speed_nor_linger() -> None:
    place = Place(Section(batch=500, linger_us=300_000), is_paced=False)

    place.seat.came_back(Outcome("hear", 8, (), (), None, 0, took_s=10.0))
    place.come(400)

    assert place.play() == [400]
