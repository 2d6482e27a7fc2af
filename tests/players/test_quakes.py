"""A week of real earthquakes, by the players alone."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from math import isclose
from pathlib import Path
from typing import Any

import pytest

from ensemble.testing import event
from players.quakes.aftershocks import distance_km, reach_days, reach_km, sort
from players.quakes.census import count_quakes
from players.quakes.events import AftershockNoted, Quake, SequenceBegun, SequenceOvertaken
from players.quakes.measure import Measure, cell, moment_magnitude
from players.quakes.warning import warn
from tests.players.oracle import read_input
from tests.players.tabletop import context, finish

WEEK = Path(__file__).parents[2] / "scores/data/quakes_2018-02.jsonl.gz"
START = datetime(2018, 2, 4, tzinfo=UTC)


def quake(name: str, mw: float, *, hours: float = 0, latitude: float = 24.1, longitude: float = 121.7) -> Quake:
    return Quake(name, "20N 120E", START + timedelta(hours=hours), mw, latitude, longitude, 10.0, "Hualien", "us", 0)


def hear(ctx: Any, *quakes: Quake) -> list[Any]:
    return [answer for each in quakes for answer in sort(each, ctx)]


def test_the_first_strong_quake_begins_a_sequence_and_a_weak_one_says_nothing() -> None:
    ctx = context()

    assert hear(ctx, quake("weak", 4.4)) == []
    assert ctx.state == {}
    assert [type(answer) for answer in hear(ctx, quake("strong", 4.5))] == [SequenceBegun]


def test_a_weaker_quake_near_and_soon_is_an_aftershock() -> None:
    [_, aftershock] = hear(context(), quake("main", 6.1), quake("after", 4.9, hours=2, latitude=24.2))

    assert aftershock == AftershockNoted("after", "20N 120E", 4.9, "main", 11.1, 2.0)


def test_a_quake_too_far_or_too_late_begins_a_sequence_of_its_own() -> None:
    far = quake("far", 4.9, latitude=24.1 + 1.1 * reach_km(6.1) / 111)
    late = quake("late", 4.9, hours=24 * reach_days(6.1) + 1)

    assert [type(answer) for answer in hear(context(), quake("main", 6.1), far)] == [SequenceBegun] * 2
    assert [type(answer) for answer in hear(context(), quake("main", 6.1), late)] == [SequenceBegun] * 2


def test_a_stronger_quake_takes_the_sequence_over_and_what_was_before_are_foreshocks() -> None:
    ctx = context()

    answers = hear(ctx, quake("first", 6.1), quake("second", 5.0, hours=1), quake("third", 6.4, hours=50))

    assert answers[-1] == SequenceOvertaken("third", "20N 120E", 6.4, "Hualien", "first", 6.1)
    [sequence] = ctx.state["sequences"]
    assert (sequence["id"], sequence["foreshocks"], sequence["aftershocks"]) == ("third", 2, 0)


def test_distances_are_those_of_the_globe() -> None:
    paris = {"latitude": 48.8566, "longitude": 2.3522}
    across = {"latitude": 0.0, "longitude": 179.5}

    assert isclose(distance_km(paris, quake("london", 1, latitude=51.5074, longitude=-0.1278)), 343.6, rel_tol=0.01)
    assert isclose(distance_km(across, quake("dateline", 1, latitude=0.0, longitude=-179.5)), 111.2, rel_tol=0.01)


@pytest.mark.parametrize(
    ("latitude", "longitude", "name"),
    [
        (24.1, 121.7, "20N 120E"),
        (-0.1, -0.1, "5S 5W"),
        (0, 0, "0N 0E"),
        (-35, 178.9, "35S 175E"),
        (33.6, -117.2, "30N 120W"),
    ],
)
def test_a_cell_is_named_by_its_south_west_corner(latitude: float, longitude: float, name: str) -> None:
    assert cell(latitude, longitude, 5) == name


def test_body_wave_magnitudes_are_converted_where_that_is_known_to_hold() -> None:
    assert moment_magnitude(5.0, "mb") == 5.28
    assert moment_magnitude(3.0, "mb") == 3.0
    assert moment_magnitude(5.0, "mww") == 5.0


def test_the_batch_player_answers_one_quake_an_event_in_order() -> None:
    lines = [line["data"] for line in read_input(WEEK)[:200]]

    answers = Measure(degrees=5)([event("quake.reported", data) for data in lines])

    assert [answer.id for answer in answers] == [data["id"] for data in lines]


def test_the_strongest_quake_of_the_week_had_foreshocks() -> None:
    lines = [line["data"] for line in read_input(WEEK)]
    quakes = Measure()([event("quake.reported", data) for data in lines if data["kind"] == "earthquake"])
    states: dict[str, Any] = {}

    answers = [answer for each in quakes for answer in hear(states.setdefault(each.cell, context()), each)]

    assert len(quakes) == 1679
    overtaken = [(answer.place, answer.mw) for answer in answers if isinstance(answer, SequenceOvertaken)]
    assert ("22km NNE of Hualian, Taiwan", 6.4) in overtaken
    mains = {answer.id for answer in answers if not isinstance(answer, AftershockNoted)}
    kinds = Counter(type(answer) for answer in answers)
    assert all(answer.main in mains for answer in answers if isinstance(answer, AftershockNoted))
    assert kinds[SequenceBegun] == len([1 for ctx in states.values() for _ in ctx.state.get("sequences", [])])


def test_ten_times_as_many_quakes_for_each_magnitude_less_is_a_b_value_of_one() -> None:
    ctx: Any = context()
    for tenth in range(15, 45):
        for _ in range(round(10 ** (4 - tenth / 10) * 3)):
            count_quakes(event("quake.measured", {"mw": tenth / 10}), ctx, complete_from=1.5)

    assert 0.95 < ctx.state["b"] < 1.05


def test_a_warning_is_sent_once_an_event() -> None:
    first, second = (finish(warn(quake("q", 6.4), context(token="t"))) for _ in range(2))

    assert first == second
    assert (first.mw, first.place) == (6.4, "Hualien")
