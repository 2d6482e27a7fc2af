"""Whose turn it is: lanes of keys, retries, and the watermark."""

from __future__ import annotations

from typing import Any

from ensemble.broker.section import Lane, Section
from tests.broker.shards import rows, section, taken


def back(of: Section, keys: str, **more: Any) -> None:
    """Have a batch of these lanes come back."""
    of.settle(list(keys), len(keys), **more)


# Lanes


def test_events_of_one_key_come_in_one_batch_in_order() -> None:
    play = section(rows(0, "abab"))

    assert taken(play) == [0, 1, 2, 3]


def test_a_key_in_flight_holds_back_its_later_events_and_no_others() -> None:
    play = section(rows(0, "aabb"))
    assert taken(play, 1) == [0]

    assert taken(play) == [2, 3]
    back(play, "a")
    assert taken(play) == [1]


def test_what_was_parked_comes_before_what_came_later() -> None:
    play = section(rows(0, "aa"))
    assert taken(play, 1) == [0]
    assert taken(play) == []
    play.look(rows(2, "ba"), 4)

    back(play, "a")

    assert taken(play, 1) == [1]


def test_one_batch_at_a_time_is_in_flight_where_batches_do_not_overlap() -> None:
    play = section(rows(0, "ab"), overlapping=False)
    assert taken(play, 1) == [0]

    assert not play.has_work
    back(play, "a")
    assert play.has_work


def test_without_order_a_key_in_flight_holds_back_nothing() -> None:
    play = section(rows(0, "aaa"), order="none")

    assert [taken(play, 1) for _ in range(3)] == [[0], [1], [2]]


def test_with_one_order_for_all_every_event_waits_for_the_one_before() -> None:
    play = section(rows(0, "abc"), order="all")
    assert taken(play, 1) == [0]

    assert not play.has_work
    back(play, [""])  # type: ignore[arg-type]
    assert taken(play) == [1, 2]


def test_events_of_other_topics_are_looked_past() -> None:
    play = section(rows(0, "ab", "sung"), rows(2, "c"))

    assert taken(play) == [2]


# Retries


def test_an_event_that_failed_is_due_at_its_time_and_goes_before_the_rest_of_its_key() -> None:
    play = section(rows(0, "aab"))
    assert taken(play) == [0, 1, 2]
    back(play, "aab", waiting=[(0, "a", 100)], skipped=[(1, "a")])

    assert (play.due_us, play.waiting, taken(play)) == (100, 1, [])
    play.wake(99)
    assert taken(play) == []
    play.wake(100)
    assert taken(play) == [0]
    back(play, "a")
    assert taken(play) == [1]


def test_what_was_not_tried_goes_back_before_what_is_parked() -> None:
    play = section(rows(0, "aa"))
    assert taken(play) == [0, 1]
    play.look(rows(2, "a"), 3)
    assert taken(play) == []

    back(play, "aa", skipped=[(0, "a"), (1, "a")])

    assert taken(play, 2) == [0, 1]
    back(play, "aa")
    assert taken(play) == [2]


def test_a_held_event_waits_until_it_is_let_go() -> None:
    play = section(rows(0, "aab"))
    assert taken(play) == [0, 1, 2]
    back(play, "aab", held=[(0, "a")], skipped=[(1, "a")])
    play.wake(10**9)
    assert taken(play) == []

    play.let_go(0)

    assert taken(play) == [0]
    back(play, "a")
    assert taken(play) == [1]


def test_an_event_that_is_not_held_can_not_be_let_go() -> None:
    play = section(rows(0, "a"))

    play.let_go(0)

    assert taken(play) == [0]
    assert taken(play) == []


# The watermark


def moved(of: Section, done: list[int]) -> tuple[int, int, list[int], list[int]]:
    """Where the watermark goes, and what is recorded; it is folded as the broker would."""
    move = of.advance(done)
    of.state.position = move.position
    of.state.passed += move.passed
    of.state.open.update(move.opened)
    of.state.open.difference_update(move.closed)
    return move.position, move.passed, list(move.opened), list(move.closed)


def test_batches_that_finish_in_order_move_one_number() -> None:
    play = section(rows(0, "abc"), rows(3, "d"))

    assert moved(play, [0, 1]) == (2, 2, [], [])
    assert moved(play, [2, 3]) == (4, 2, [], [])


def test_a_batch_that_finishes_before_an_earlier_one_opens_what_is_not_done() -> None:
    play = section(rows(0, "abcd"))

    assert moved(play, [2]) == (3, 3, [0, 1], [])
    assert moved(play, [1]) == (3, 0, [], [1])
    assert moved(play, [0, 3]) == (4, 1, [], [0])
    assert play.state.open == set()


def test_the_watermark_passes_what_concerns_nobody_only_when_it_is_told_to_rest() -> None:
    play = section(rows(0, "ab", "sung"))
    assert play.state.position == 0

    rest = play.rest()

    assert rest is not None
    assert (rest.position, rest.passed) == (2, 0)
    assert section(rows(0, "a")).rest() is None


def test_open_offsets_are_looked_at_again_on_opening() -> None:
    before = section(rows(0, "abc"))
    moved(before, [2])

    play = Section("play", before.state, before.listener, overlapping=True)

    assert list(play.reopened) == [0, 1]
    play.look_again(rows(0, "abc"), [0, 1])
    assert taken(play) == [0, 1]


# What is parked


def test_a_lane_gives_back_what_was_parked_first_and_grows_no_larger_than_what_it_holds() -> None:
    lane = Lane([1, 2])
    lane.put_back([0])
    for offset in range(3, 1000):
        lane.park(offset)

    assert lane.take(2) == [0, 1]
    assert lane.take(900) == list(range(2, 902))
    assert (len(lane), len(lane._offsets)) == (98, 98)
