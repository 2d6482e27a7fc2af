"""Which events concern a section, and in whose lane each waits."""

from __future__ import annotations

from ensemble.broker import Listener
from ensemble.broker.routing import NOTHING
from ensemble.event import Rows, encode
from tests.broker.shards import rows


def mixed() -> Rows:
    """Four events under two topics, of keys a to d, with numbers for data."""
    return Rows(
        "log", 0, 10, 1, ["said", "sung"], [0, 1, 0, 1], list("abcd"), [encode(n) for n in range(4)], ["/test"], 0
    )  # fmt: skip


def is_even(event: object) -> bool:
    return bool(event.data % 2 == 0)  # type: ignore[attr-defined]


def test_a_frame_of_one_topic_concerns_a_section_wholly_or_not_at_all() -> None:
    frame = rows(5, "abc")

    assert list(Listener([("said", None)]).heed(frame).offsets) == [5, 6, 7]
    assert Listener([("said", None)]).heed(frame).keys == ["a", "b", "c"]
    assert Listener([("sung", None)]).heed(frame) == NOTHING


def test_of_a_frame_of_several_topics_those_that_fit_are_picked() -> None:
    heed = Listener([("sung", None)]).heed(mixed())

    assert (list(heed.offsets), heed.keys, list(heed.skipped)) == ([11, 13], ["b", "d"], [])


def test_what_was_looked_at_before_is_left_out() -> None:
    assert list(Listener([("said", None)]).heed(rows(5, "abc"), 1).offsets) == [6, 7]
    assert list(Listener([("*", None)]).heed(mixed(), 3).offsets) == [13]


def test_what_does_not_fulfil_the_condition_is_skipped_and_what_is_of_another_topic_is_not_even_that() -> None:
    heed = Listener([("said", is_even), ("sung", lambda event: False)]).heed(mixed())

    assert (list(heed.offsets), list(heed.skipped)) == ([10, 12], [11, 13])


def test_one_condition_that_holds_is_enough_and_a_leaf_without_one_takes_all() -> None:
    either = Listener([("said", lambda event: False), ("*", is_even)])
    all_of_it = Listener([("said", lambda event: False), ("said", None)])

    assert list(either.heed(mixed()).offsets) == [10, 12]
    assert list(all_of_it.heed(mixed()).offsets) == [10, 12]
    assert list(all_of_it.heed(mixed()).skipped) == []


def test_a_lane_is_the_key_or_what_by_reads_or_one_for_all() -> None:
    frame = rows(0, "ab", data=["x", "y"])

    assert Listener([("said", None)], by=lambda event: event.data).heed(frame).keys == ["x", "y"]
    assert Listener([("said", None)], order="all").heed(frame).keys == ["", ""]
    assert Listener([("said", None)], order="none").heed(frame).keys == ["a", "b"]


def test_patterns_are_named_once_in_a_settled_order() -> None:
    assert Listener([("b", None), ("a", is_even), ("b", is_even)]).patterns == ("a", "b")
