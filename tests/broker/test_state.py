"""What a shard knows, as a fold over its frames."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble.broker import State
from ensemble.broker.state import FOLDS, dedupe_key, fits, lag
from ensemble.event import Frame, Rows
from tests.broker.shards import rows


def folded(*frames: Frame) -> State:
    state = State()
    for frame in frames:
        state.apply(frame)
    return state


def marked(first: int = 0, time_us: int = 1, **marks: Any) -> Frame:
    return Frame(first, time_us, None, marks)


def with_ids(first: int, time_us: int, *ids: str) -> Frame:
    made: Rows = rows(first, "k" * len(ids))
    made.extras = {row: {"id": id_} for row, id_ in enumerate(ids)}
    return Frame(first, time_us, made, {})


def test_events_are_counted_by_topic() -> None:
    state = folded(Frame(0, 1, rows(0, "ab"), {}), Frame(2, 2, rows(2, "c", "sung"), {}))

    assert (state.end, state.frames, state.time_us, state.topics) == (3, 2, 2, {"said": 2, "sung": 1})


def test_a_frame_that_does_not_follow_is_no_part_of_the_fold() -> None:
    with pytest.raises(AssertionError, match="frame begins at 1, the log ends at 0"):
        folded(marked(1))


def test_marks_that_come_later_in_the_table_are_folded_later() -> None:
    assert list(FOLDS) == [
        "carried", "joined", "turned", "kept", "score", "plan", "dedupe", "again", "heard", "failed", "dead", "wrote",
        "expiring", "expired", "sent", "place", "fired", "later", "out", "arrived", "in", "motif", "removed",
    ]  # fmt: skip


def test_a_watermark_moves_and_leaves_what_is_open_below_it() -> None:
    state = folded(
        Frame(0, 1, rows(0, "abcd"), {"joined": {"play": [0, 0, ["said"]]}}),
        marked(4, heard={"play": [3, 3, [1], [], [], 2, 5, 1]}),
    )

    section = state.sections["play"]
    assert (section.position, section.open, section.heard, section.emitted) == (3, {1}, 2, 5)
    assert lag(state, "play") == 2


def test_lag_counts_the_topics_that_a_section_listens_for_now() -> None:
    state = folded(
        Frame(0, 1, rows(0, "abc"), {"joined": {"play": [0, 0, ["said"]]}}),
        Frame(3, 1, rows(3, "ab", "sung"), {"heard": {"play": [5, 3, [], [], [], 3, 0, 1]}}),
        marked(5, turned={"play": [5, ["said", "sung"]]}),
        Frame(5, 1, rows(5, "a", "sung"), {}),
    )

    assert state.sections["play"].patterns == ("said", "sung")
    assert lag(state, "play") == 1


def test_an_id_is_forgotten_when_its_time_has_passed_by_the_frames_clock() -> None:
    state = folded(marked(dedupe=[100, 10]), with_ids(0, 10, "a"), with_ids(1, 60, "b"), Frame(2, 110, rows(2, "k"), {}))

    assert list(state.seen) == ["b"]


def test_the_oldest_id_goes_first_and_one_that_is_said_anew_is_young() -> None:
    state = folded(marked(dedupe=[100, 2]), with_ids(0, 1, "a", "b"), with_ids(2, 50, "a"), with_ids(3, 51, "c"))

    assert state.seen == {"a": (2, 50), "c": (3, 51)}


def test_a_shorter_memory_forgets_at_once() -> None:
    state = folded(with_ids(0, 1, "a", "b", "c"), marked(3, 2, dedupe=[100, 1]))

    assert list(state.seen) == ["c"]


def test_ids_of_two_cloudevents_sources_are_two() -> None:
    assert dedupe_key({"id": "1"}) == "1"
    assert dedupe_key({"id": "1", "source": "/a"}) != dedupe_key({"id": "1", "source": "/b"})


def test_a_dead_letter_that_is_held_is_let_go_and_another_is_opened_again() -> None:
    died = Frame(2, 1, rows(2, "kk", "_band.dead"), {"dead": {"play": [[0, 0, True], [1, 1, False]]}})
    state = folded(Frame(0, 1, rows(0, "ab"), {"joined": {"play": [0, 0, ["said"]]}}), died)
    assert (state.sections["play"].dead, state.sections["play"].held) == ({0: 2, 1: 3}, {0})

    state.apply(marked(4, again={"play": [0, 1]}))

    section = state.sections["play"]
    assert (section.dead, section.held, section.open) == ({}, set(), {1})


def test_attempts_are_kept_until_the_event_is_heard_or_dead() -> None:
    failed = marked(failed={"play": [[0, 2, 500, "E"], [1, 1, -1, "E"]]})
    assert folded(failed).sections["play"].attempts == {0: (2, 500)}
    assert folded(failed).sections["play"].failed == 2

    assert folded(failed, marked(heard={"play": [1, 1, [], [], [0], 1, 0, 1]})).sections["play"].attempts == {}
    assert folded(failed, marked(dead={"play": [[0, 0, False]]})).sections["play"].attempts == {}


def test_table_writes_put_in_replace_and_take_out() -> None:
    state = folded(marked(wrote={"play": {"a": b"1", "b": b"1"}}), marked(wrote={"play": {"a": b"2", "b": None}}))

    assert state.sections["play"].table == {"a": b"2"}


def test_timers_are_numbered_as_they_are_set_and_go_when_they_fire() -> None:
    timer = [500, "reminder", "k", b"\xc0", 0, 0, "/band/play"]
    state = folded(marked(later=[timer, timer]), marked(fired=[0], later=[timer]))

    assert (list(state.timers), state.timers_set) == ([1, 2], 3)


def test_a_state_that_is_dumped_and_loaded_is_the_same() -> None:
    state = folded(
        with_ids(0, 1, "a"),
        marked(1, wrote={"play": {"a": b"1"}}, place={"in": [1, 2]}, score={"name": "x"}, dedupe=[9_000_000, 9]),
        marked(1, joined={"late": [1, 1, ["said", "sung"]]}, later=[[5, "t", "k", b"", 0, "id", "/s"]]),
    )

    assert State.load(state.dump()) == state


@pytest.mark.parametrize(("topic", "does"), [("a", True), ("b.c", True), ("b", False), ("_band.dead", False)])
def test_a_topic_fits_where_any_pattern_does(topic: str, does: bool) -> None:
    assert fits(("a", "b.*"), topic) is does


def test_a_topic_that_no_event_has_is_not_counted() -> None:
    """Written down, such a frame does not name it: what is folded live must be what is folded again."""
    picked = rows(0, "ab").pick([0])
    picked.topics, picked.topic_ix = ["said", "sung"], [0]

    assert folded(Frame(0, 1, picked, {})).topics == {"said": 1}
