"""Every decision is a frame, which is folded at once."""

from __future__ import annotations

import pytest

from ensemble.broker import Later, Outcome, Policy, Publication, Said, State
from ensemble.event import Frame, encode
from ensemble.score.model import Emit, RetryPolicy
from tests.broker.shards import Shard, rows, said

THRICE = Policy(RetryPolicy(attempts=3, first_us=100, factor=2, jitter=0))


def topics(shard: Shard) -> list[str]:
    return [frame.rows.topic(ix) for frame in shard.frames for ix in range(frame.count) if frame.rows is not None]


# Opening


def test_a_new_section_joins_at_the_start_or_now() -> None:
    past = [Frame(0, 1, rows(0, "abc"), {}), Frame(3, 1, rows(3, "a", "sung"), {})]

    start, now = Shard(frames=past), Shard(frames=past, from_now=["play"])

    assert start.frames[-1].marks == {"joined": {"play": [0, 0, ["said"]]}}
    assert now.frames[-1].marks == {"joined": {"play": [4, 3, ["said"]]}}
    assert (start.broker.lag("play"), now.broker.lag("play")) == (3, 0)


def test_a_section_that_turns_to_other_topics_asks_how_many_of_them_are_still_before_it() -> None:
    joined = {"joined": {"play": [1, 0, ["sung"]]}}
    past = [Frame(0, 1, rows(0, "ab"), joined), Frame(2, 1, rows(2, "c"), {})]

    shard = Shard(frames=past, since=lambda patterns, offset: 2 if (patterns, offset) == (("said",), 1) else 99)

    assert shard.frames[-1].marks == {"turned": {"play": [1, ["said"]]}}
    assert shard.broker.lag("play") == 2


def test_opening_again_with_nothing_new_writes_nothing() -> None:
    before = Shard(score={"name": "x"}, dedupe=(5, 5))

    again = Shard(frames=before.frames, score={"name": "x"}, dedupe=(5, 5))

    assert len(again.frames) == len(before.frames) == 1


def test_another_score_and_another_window_are_recorded() -> None:
    before = Shard(score={"name": "x"})

    again = Shard(frames=before.frames, score={"name": "y"}, dedupe=(5, 5))

    assert again.frames[-1].marks == {"score": {"name": "y"}, "dedupe": [5, 5]}


# From outside


def test_the_same_id_is_the_same_event_within_a_call_and_from_call_to_call() -> None:
    shard = Shard()

    assert shard.publish(said("abc", r0="i", r2="i")) == [0, 1, 0]
    assert shard.publish(said("ab", r1="i")) == [2, 0]
    assert shard.publish(said("a", r0="i")) == [0]
    assert len(shard.frames) == 3, "what is all known is not written"


def test_an_id_may_be_used_again_when_its_time_has_passed() -> None:
    shard = Shard(dedupe=(100, 10))

    assert [shard.publish(said("a", r0="i"), now_us) for now_us in (10, 109, 110)] == [[0], [0], [1]]


def test_a_place_is_recorded_with_the_events_that_were_read_up_to_it_and_without_any() -> None:
    shard = Shard()

    frame, _ = shard.broker.publish([Publication(said("a"), "/in", ("in", 1)), Publication(said(""), "/in", ("in", 2))], 1)

    assert frame is not None
    assert frame.marks == {"place": {"in": 2}}
    assert shard.broker.publish([Publication(said(""), "/in")], 1) == (None, [range(1, 1)])


def test_time_never_goes_back() -> None:
    shard = Shard()
    shard.publish(said("a"), 500)
    shard.publish(said("a"), 400)

    assert [frame.time_us for frame in shard.frames] == [1, 500, 500]


# From players


def test_what_was_heard_said_written_and_set_is_one_frame() -> None:
    shard = Shard()
    shard.publish(said("a"))
    answer = Said(["told"], 0, ["a"], [encode(1)], [0], [0])
    later = [Later(50, "told", "a", encode(2), 0, 0)]

    frame = shard.hear(shard.take(), 10, said=answer, wrote={"a": b"1"}, later=later)

    assert frame is not None
    assert frame.count == 1
    assert list(frame.marks) == ["heard", "wrote", "later"]
    assert shard.broker.state.sections["play"].table == {"a": b"1"}
    assert shard.broker.due_us() == 60


def test_an_outcome_that_only_comes_back_writes_nothing_and_is_handed_out_again() -> None:
    shard = Shard()
    shard.publish(said("aa"))
    batch = shard.take()

    skipped = list(zip(batch.offsets, batch.keys, strict=True))
    assert shard.broker.hear(Outcome("play", 2, batch.keys, [], None, 1, skipped=skipped), 1) is None

    assert list(shard.take().offsets) == [0, 1]


def test_attempts_are_counted_and_the_last_one_makes_a_dead_letter() -> None:
    shard = Shard(THRICE)
    shard.publish(said("a"))

    dues = []
    for now_us in (1, 101, 301):
        batch = shard.take(now_us)
        shard.hear(batch, now_us, fails=[0])
        dues.append(shard.broker.due_us())

    assert dues == [101, 301, None]
    assert topics(shard) == ["said", "_band.dead"]
    section = shard.broker.state.sections["play"]
    assert (section.dead, section.attempts, section.failed, section.position) == ({0: 1}, {}, 3, 1)
    assert shard.broker.lag("play") == 0


def test_a_held_event_is_load_no_more_though_it_is_lag() -> None:
    shard = Shard(Policy(RetryPolicy(attempts=1), "hold"))
    shard.publish(said("ab"))
    shard.hear(shard.take(), fails=[0])

    assert (shard.broker.lag("play"), shard.broker.load("play")) == (1, 0)


def test_a_dead_letter_is_heard_again_with_its_attempts_counted_anew() -> None:
    shard = Shard(Policy(RetryPolicy(attempts=1), "hold"))
    shard.publish(said("a"))
    shard.hear(shard.take(), fails=[0])

    shard.keep(shard.broker.again("play", [0], 2))

    batch = shard.take(2)
    assert (list(batch.offsets), batch.attempts) == ([0], {})


def test_a_failure_that_is_answered_is_no_dead_letter() -> None:
    shard = Shard(Policy(RetryPolicy(attempts=1), Emit("failed")))
    shard.publish(said("ab"))
    frame = shard.hear(shard.take(), fails=[1])

    assert topics(shard) == ["said", "said", "failed"]
    assert frame is not None
    assert "dead" not in frame.marks


# By time


def test_timers_fire_in_the_order_in_which_they_are_due_and_then_in_which_they_were_set() -> None:
    shard = Shard()
    shard.publish(said("a"))
    later = [Later(after, "told", "a", encode(n), 0, 0) for n, after in enumerate((30, 10, 10, 90))]
    shard.hear(shard.take(), 0, later=later)
    assert shard.broker.fire(9) is None

    frame = shard.keep(shard.broker.fire(30))

    assert frame is not None
    assert frame.marks == {"fired": [1, 2, 0]}
    assert shard.broker.due_us() == 90


def test_a_shard_that_is_opened_again_knows_what_its_log_adds_up_to() -> None:
    shard = Shard(THRICE)
    shard.publish(said("ab", r0="i"))
    shard.hear(shard.take(), fails=[1], later=[Later(40, "told", "a", encode(1), 0, 0)], wrote={"a": b"1"})
    assert shard.broker.rest(5) is None

    again = Shard(THRICE, frames=shard.frames)

    assert again.broker.state == shard.broker.state == State.load(shard.broker.state.dump())
    assert again.broker.due_us() == 41


@pytest.mark.parametrize(("section", "source"), [(None, "/band"), ("play", "/band/play")])
def test_a_source_is_the_band_or_one_of_its_players(section: str | None, source: str) -> None:
    assert Shard().broker.source(section) == source
