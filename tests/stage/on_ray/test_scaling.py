"""How many instances a section should have: the rule as a table of values, and the rule over time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.score.model import Section
from ensemble.stage.on_ray.scaling import Load, Scaler, Service, wanted

IDLE_S, COOLDOWN_S = 30.0, 10.0
FROM_NONE = Section(min=0, max=8)
FROM_TWO = Section(min=2, max=8)


@pytest.mark.parametrize(
    ("section", "load", "instances"),
    [
        # lag, seconds an event, instances, seconds of idleness
        (FROM_NONE, Load(0, 0.0, 0, 0), 0),
        (FROM_NONE, Load(1, 0.0, 0, 0), 1),  # the first event wakes it
        (FROM_NONE, Load(1000, 0.0, 0, 0), 1),  # nothing is known of them yet: one learns
        (FROM_NONE, Load(1000, 0.0, 3, 0), 3),
        (FROM_NONE, Load(1000, 0.001, 1, 0), 1),  # one hears them within a second
        (FROM_NONE, Load(1001, 0.001, 1, 0), 2),
        (FROM_NONE, Load(5000, 0.001, 1, 0), 5),
        (FROM_NONE, Load(50_000, 0.001, 1, 0), 8),  # never more than max
        (FROM_NONE, Load(3, 10.0, 1, 0), 8),
        (FROM_NONE, Load(0, 0.001, 5, IDLE_S - 1), 5),  # they stay for a while
        (FROM_NONE, Load(0, 0.001, 5, IDLE_S), 0),
        (FROM_NONE, Load(0, 0.001, 12, 0), 8),
        (FROM_TWO, Load(0, 0.0, 0, 0), 2),
        (FROM_TWO, Load(0, 0.001, 5, IDLE_S), 2),
        (FROM_TWO, Load(1, 0.001, 5, 0), 2),
        (FROM_TWO, Load(50_000, 0.001, 2, 0), 8),
    ],
)
def test_the_rule(section: Section, load: Load, instances: int) -> None:
    assert wanted(section, load) == instances


def sections() -> st.SearchStrategy[Section]:
    numbers = st.integers(0, 20)
    return st.tuples(numbers, numbers).map(lambda two: Section(min=min(two), max=max(*two, 1)))


lags = st.integers(0, 10**9)
seconds = st.floats(0, 1e6)


@given(sections(), lags, seconds, st.integers(0, 50), seconds)
def test_whatever_the_load_it_lies_between_min_and_max_and_somebody_hears(
    section: Section, lag: int, service_s: float, instances: int, idle_s: float
) -> None:
    many = wanted(section, Load(lag, service_s, instances, idle_s))

    assert section.min <= many <= section.max
    assert many >= 1 or not lag


@given(sections(), st.lists(st.tuples(lags, st.integers(0, 1000), seconds, st.floats(0, 60)), max_size=30))
def test_over_time_it_lies_between_min_and_max_too(section: Section, course: list[Any]) -> None:
    scaler, service = Scaler(section), Service()
    instances, now_s = section.min, 1000.0
    for lag, heard, took_s, pause_s in course:
        now_s += pause_s
        service.learn(heard, took_s)
        scaler.service_s = service.each_s
        instances = scaler.target(lag, instances, now_s)
        assert section.min <= instances <= section.max
        assert instances >= 1 or not lag


@pytest.mark.parametrize(
    "course",
    [
        # seconds, lag, instances -> target: an event takes 10 ms
        [(0, 500, 1, 5), (1, 500, 5, 5)],  # it grows at once
        [(0, 500, 5, 5), (9, 100, 5, 5), (9.9, 100, 5, 5), (10, 100, 5, 1)],  # it shrinks after the cooldown
        [(0, 500, 5, 5), (9, 100, 5, 5), (9.5, 500, 5, 5), (19, 100, 5, 5), (19.5, 100, 5, 1)],  # which begins anew
        [(0, 100, 5, 5), (29, 0, 5, 5), (30, 0, 5, 0)],  # idle since it was last seen with work
        [(0, 100, 1, 1), (29, 0, 1, 1), (29.5, 1, 1, 1), (59, 0, 1, 1), (60, 0, 1, 0), (61, 1, 0, 1)],
    ],
)
def test_it_grows_at_once_and_shrinks_slowly(course: list[tuple[float, int, int, int]]) -> None:
    scaler = Scaler(FROM_NONE)
    scaler.service_s = 0.01
    begin_s = 1000.0

    for after_s, lag, instances, target in course:
        assert scaler.target(lag, instances, begin_s + after_s) == target, f"after {after_s} s"


def test_a_number_that_a_user_asked_for_holds_whatever_there_is_to_do() -> None:
    scaler = Scaler(FROM_NONE)
    scaler.service_s = 0.01

    scaler.fixed = 3
    targets = [scaler.target(lag, 1, 1000.0 + lag) for lag in (0, 1, 100_000)]
    assert targets == [3, 3, 3]
    assert scaler.due_s(0, 3, 1000.0) is None

    scaler.fixed = None
    assert scaler.target(100_000, 3, 2000.0) == 8


def test_one_event_that_hangs_makes_it_grow_though_nothing_was_learned_of_it() -> None:
    scaler = Scaler(FROM_NONE)
    scaler.service_s = 1e-6

    assert scaler.target(10, 1, 1000.0) == 1
    assert scaler.target(10, 1, 1001.0, slowest_s=0.35) == 4


def test_it_learns_slowly_and_not_from_nothing() -> None:
    service = Service()
    for count, took_s in [(0, 1.0), (5, 0.0)]:
        service.learn(count, took_s)
    assert service.each_s == 0

    service.learn(10, 0.1)
    assert service.each_s == pytest.approx(0.01)
    service.learn(10, 1.1)
    assert service.each_s == pytest.approx(0.03)


def test_it_is_asked_again_when_it_would_have_been_idle_for_long_enough() -> None:
    scaler = Scaler(FROM_NONE)
    scaler.target(5, 1, 1000.0)

    assert scaler.due_s(0, 1, 1001.0) == 1000.0 + IDLE_S
    assert scaler.due_s(5, 1, 1001.0) is None, "there is work, which brings it back anyway"
    assert scaler.due_s(0, 0, 1001.0) is None, "it has no instance to lose"
