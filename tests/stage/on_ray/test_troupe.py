"""A section whose instances are shared by the shards of a band: who leads starts them, and all hear with them."""

from __future__ import annotations

import pytest

from ensemble.broker import Outcome
from ensemble.errors import EnsembleError, PlayerError
from ensemble.stage.inbox import Announce
from ensemble.stage.on_ray.crew import IN_FLIGHT
from ensemble.stage.on_ray.roster import Roster
from ensemble.stage.on_ray.troupe import SCALED
from tests.stage.on_ray.troupers import KILLED, ORPHANED, FakeActor, FakeCall, Stand, work


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Three shards with up to four instances."""
    return Stand(monkeypatch, 3, max=4, idle="10s")


def with_instances(stand: Stand, count: int) -> list[FakeActor]:
    stand.sections[0].scale(count)
    stand.tend()
    for number, actor in enumerate(stand.alive(), 1):
        actor.comes(pid=number)
    stand.tend(1, 1, 1)
    return stand.alive()


def outcomes(stand: Stand, shard: int) -> list[Outcome]:
    return [told for told in stand.told[shard] if isinstance(told, Outcome)]


def test_the_first_event_of_any_shard_wakes_a_section_that_has_no_instance(three: Stand) -> None:
    three.tend(0, 0, 1)
    assert len(three.actors) == 1

    three.actors[0].comes(pid=7)
    three.bring()

    assert [section.pids for section in three.sections] == [[7], [7], [7]]
    assert [section.room() > 0 for section in three.sections] == [True] * 3
    [told] = [told for told in three.told[0] if isinstance(told, Announce) and told.topic == SCALED]
    assert (told.data["from"], told.data["to"]) == (0, 1)
    assert not any(isinstance(told, Announce) for shard in (1, 2) for told in three.told[shard])


def test_its_size_follows_what_all_shards_have_to_do_together(three: Stand) -> None:
    with_instances(three, 1)
    three.sections[0].scale(None)
    for shard, section in enumerate(three.sections):
        section.start(work(shard))
    for _ in three.sections:  # an event takes 1 ms, as these actors say
        three.actors[0].begins()
        three.actors[0].ends()

    three.tend(900, 900, 900, after_s=1)

    assert len(three.alive()) == 3


def test_shards_prefer_different_instances_and_have_two_batches_with_each_at_the_most(three: Stand) -> None:
    instances = with_instances(three, 3)

    for section in three.sections:
        section.start(work(5))

    assert [len(actor.hear.given) for actor in instances] == [1, 1, 1]
    assert [[given[1][0] for given in actor.hear.given] for actor in instances] == [[0], [1], [2]]
    for section in three.sections:
        section._service.each_s = 0.001
        offset = 6
        while section.room():
            section.start(work(offset))
            offset += 1
    assert [len(actor.hear.given) for actor in instances] == [3 * IN_FLIGHT] * 3


def test_an_instance_that_leaves_is_ended_when_no_shard_has_anything_there(three: Stand) -> None:
    [first, second] = with_instances(three, 2)
    three.sections[1].start(work(1))
    three.sections[2].start(work(2))

    three.sections[0].scale(0)
    three.tend(0, 1, 1)
    assert [section.room() for section in three.sections] == [0, 0, 0], "they get nothing more"
    assert [actor.is_dead for actor in (first, second)] == [not actor.flying() for actor in (first, second)]
    for actor in (first, second):
        while actor.begins():
            actor.ends()
    three.tend()

    assert first.is_killed
    assert second.is_killed
    assert [list(outcomes(three, shard)[0].heard) for shard in (1, 2)] == [[1], [2]], "what they had was heard to its end"


def test_it_goes_to_its_least_when_no_shard_had_anything_to_do_for_its_idle_time(three: Stand) -> None:
    with_instances(three, 1)
    three.sections[0].scale(None)
    three.tend(0, 0, 1)
    three.tend(after_s=9)
    three.tend(0, 1, 0, after_s=5)
    three.tend(after_s=1)
    three.tend(after_s=9)
    assert three.alive()

    three.tend(after_s=2)

    assert not three.alive()


def test_what_was_with_a_shared_instance_that_died_comes_back_and_nobody_is_charged(three: Stand) -> None:
    [actor, *_] = with_instances(three, 1)
    for shard, section in enumerate(three.sections):
        section.start(work(shard))

    actor.dies()

    for shard in range(3):
        [outcome] = outcomes(three, shard)
        assert list(outcome.skipped) == [(shard, f"k{shard}")]
        assert not outcome.failures


def test_only_on_an_instance_of_a_shards_own_is_the_event_that_kills_charged(three: Stand) -> None:
    [shared, _] = with_instances(three, 2)
    for shard, section in enumerate(three.sections):
        section.start(work(shard))
    with_shared = [shard for shard, _ in shared.flying()]
    shared.dies()
    for section in three.sections:
        section.room()  # the loop has something to hand out
    three.tend(1, 1, 1)

    owners = {}
    for shard in with_shared:
        for actor in three.actors:  # what is new comes, and what was there finishes
            if not actor.ready.future().done():
                actor.comes(pid=9)
            while not actor.is_dead and actor.begins():
                actor.ends()
        three.sections[shard].room()
        three.tend(1, 1, 1)
        before = {actor: len(actor.hear.given) for actor in three.alive()}
        assert three.sections[shard].room() == 1
        three.sections[shard].start(work(shard))
        [owners[shard]] = [actor for actor in before if len(actor.hear.given) > before[actor]]
        assert owners[shard].flying() == [(shard, shard)], "nobody else has anything there"
        owners[shard].dies()
        assert [failure.offset for failure in outcomes(three, shard)[-1].failures] == [shard]


def test_a_leader_that_is_made_anew_starts_others_and_nobody_is_at_fault(three: Stand) -> None:
    with_instances(three, 1)
    three.sections[1].start(work(5))
    for actor in three.alive():
        actor.dies(ORPHANED)
    three.open(0)

    [outcome] = outcomes(three, 1)
    assert list(outcome.skipped) == [(5, "k5")]
    three.tend(0, 1, 0, after_s=2)
    [actor] = three.alive()
    actor.comes(pid=8)
    three.tend(0, 1, 0)
    assert three.sections[1].room() > 1, "what was there is not under suspicion"
    assert three.sections[1].pids == [8]


def test_a_shard_that_is_made_anew_hands_out_nothing_until_what_it_had_handed_out_before_is_done(three: Stand) -> None:
    [actor] = with_instances(three, 1)
    three.sections[1].start(work(5))
    three.sections[1]._service.each_s = 0.001
    three.sections[1].start(work(6))
    assert actor.begins() == [(1, 5)]

    three.open(1)
    three.tend(0, 1, 0, after_s=1)
    assert three.sections[1].room() == 0
    three.tend(0, 1, 0, after_s=1)
    assert three.sections[1].room() == 0, "number 5 is still being heard"
    actor.ends()
    three.tend(0, 1, 0, after_s=1)

    assert three.sections[1].room() > 0
    assert actor.begins() == [], "number 6 is refused"


def test_an_instance_that_does_not_let_go_of_a_shard_that_was_made_anew_is_ended(three: Stand) -> None:
    [actor] = with_instances(three, 1)
    three.sections[1].start(work(5))
    actor.begins()
    three.open(1)

    three.tend(0, 1, 0, after_s=1)
    actor.dies, dies = (lambda why="": None), actor.dies  # type: ignore[method-assign]
    three.tend(0, 1, 0, after_s=6)

    assert actor.is_killed
    [_, other] = three.alive()
    other.comes(pid=8)
    three.tend(0, 1, 0)
    assert three.sections[1].room() == 0, "it is told to end, and may still hear"
    dies(KILLED)
    three.tend(0, 1, 0)
    assert three.sections[1].room() > 0


def test_what_comes_twice_or_late_changes_nothing(three: Stand) -> None:
    kept = []
    with_instances(three, 1)
    three.sections[0].scale(3)
    three.sections[0].tend(three.now_s, lambda: 1)
    for actor in three.alive()[1:]:
        actor.comes(pid=5)
        kept += list(three.letters)
    three.bring()
    three.tend(1, 1, 1)
    before = [section.pids for section in three.sections]

    three.sections[0].scale(1)
    three.tend()
    for shard, told in kept:
        three.crews[shard].hear(told)

    assert [len(pids) for pids in before] == [3, 3, 3]
    assert [len(section.pids) for section in three.sections] == [1, 1, 1]


def test_a_roster_that_is_older_or_was_meant_for_the_process_before_is_not_gone_by(three: Stand) -> None:
    with_instances(three, 1)
    three.sections[1].told(Roster("p", (1, 0), [], 1))
    assert three.sections[1].pids == [1]

    three.open(1)
    three.sections[1].told(Roster("p", (1, 99), [], 1))
    three.tend(1, 1, 1, after_s=1)

    assert three.sections[1].pids == [1], "it waited for one that answers its own report"


def test_a_report_that_is_older_is_not_gone_by(three: Stand) -> None:
    with_instances(three, 1)
    three.sections[0].scale(None)
    three.now_s += 1
    three.sections[1].tend(three.now_s, lambda: 5000)
    late = list(three.letters)
    three.tend(after_s=1)
    assert late

    for _ in range(12):
        for shard, told in late:
            three.crews[shard].hear(told)
        three.tend(after_s=1)

    assert not three.alive(), "nobody had anything to do"


def test_an_instance_that_cannot_be_built_is_told_of_to_each_shard(three: Stand) -> None:
    three.tend(0, 0, 1)
    three.actors[0].ready.future().set_exception(PlayerError("player p can't be built: no model"))
    three.tend(0, 0, 1)

    for told in three.told:
        assert [str(each) for each in told if isinstance(each, EnsembleError)] == ["player p can't be built: no model"]


def test_one_that_waits_behind_another_shards_batch_does_not_count_as_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(monkeypatch, 2, max=1, timeout="1s")
    [actor] = with_instances(stand, 1)
    stand.sections[1].start(work(1))
    stand.sections[0].start(work(2))
    actor.begins()

    stand.tend(1, 1, after_s=60)
    assert not actor.is_dead, "it says that it hears what the other shard gave it"

    actor.hears = FakeCall(actor)  # which gives no answer
    stand.tend(1, 1, after_s=1)
    stand.tend(1, 1, after_s=4)
    assert actor.is_killed
    assert [list(outcomes(stand, shard)[-1].skipped) for shard in (0, 1)] == [[(2, "k2")], [(1, "k1")]]
