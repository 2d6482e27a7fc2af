"""The instances of a section of one shard: they come, go and die as a test says, with no Ray."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from ensemble.broker import Outcome
from ensemble.errors import EnsembleError
from ensemble.score.model import Section
from ensemble.stage.inbox import Announce
from ensemble.stage.on_ray import suspicion, troupe, vigil
from ensemble.stage.on_ray.crew import Instances
from ensemble.stage.on_ray.troupe import SCALED
from tests.stage.on_ray.troupers import FakeActor, FakeCall, Stand, work


class Alone(Stand):
    """A band of one shard."""

    @property
    def instances(self) -> Instances:
        return self.sections[0]

    def scale(self, count: int, now_s: float) -> None:
        self.instances.scale(count)
        self.instances.tend(now_s, lambda: 0)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Alone:
    return Alone(monkeypatch, timeout="1s")


def test_an_instance_that_is_let_go_before_it_is_ready_is_no_failure_to_start(place: Alone) -> None:
    for turn in range(2 * troupe.STARTS_MOST):
        place.scale(1, now_s=turn)

        place.scale(0, now_s=turn)

    assert [actor.is_killed for actor in place.actors] == [True] * 2 * troupe.STARTS_MOST, "none was held back by those before"
    assert not [told for told in place.told[0] if isinstance(told, EnsembleError)]


def test_an_instance_that_was_let_go_does_not_count_when_it_is_ready_all_the_same(place: Alone) -> None:
    place.scale(1, now_s=0)
    actor = place.actors[0]
    actor.dies = lambda why="": None  # type: ignore[method-assign]
    place.scale(0, now_s=1)

    actor.comes(pid=7)

    assert place.instances.count == 0
    assert not [told for told in place.told[0] if isinstance(told, Announce) and told.topic == SCALED]


def test_an_instance_that_dies_while_it_has_nothing_to_hear_is_replaced(place: Alone) -> None:
    place.scale(1, now_s=0)
    place.actors[0].comes(pid=7)
    assert place.instances.pids == [7]

    place.actors[0].dies()
    place.instances.tend(1, lambda: 0)
    place.actors[1].comes(pid=8)

    assert place.instances.pids == [8], "no batch was sent to the dead one"


def test_an_instance_that_finds_no_place_is_told_of_once_and_waited_for(
    place: Alone, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(troupe, "HUNGRY_S", 3)
    place.scale(1, now_s=0)

    for now_s in range(1, 10):
        place.instances.tend(now_s, lambda: 1)
        assert len(caplog.records) == (now_s > 3)

    assert caplog.messages == ["player p: it needs 1 CPU"]
    place.actors[0].comes(pid=7)
    assert place.instances.pids == [7]


def test_what_the_nodes_have_is_asked_outside_of_the_loop_and_told_only_where_somebody_still_waits(
    place: Alone, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place.scale(1, now_s=0)
    waiting: list[Callable[[], object]] = []
    porter = SimpleNamespace(submit=lambda call, *given: waiting.append(lambda: call(*given)))
    monkeypatch.setattr(place.crews[0]._troupes["p"], "_porter", porter)  # Ray takes its time

    place.instances.tend(11, lambda: 1)
    [ask] = waiting
    assert caplog.messages == []
    ask()
    assert caplog.messages == ["player p: it needs 1 CPU"]
    place.actors[0].comes(pid=7)
    ask()

    assert len(caplog.messages) == 1


def test_a_cluster_that_does_not_say_what_it_has_ends_nobody(
    place: Alone, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(section: Section) -> str:
        raise RuntimeError("the GCS is away")

    monkeypatch.setattr(troupe, "shortage", fails)
    place.scale(1, now_s=0)

    place.instances.tend(11, lambda: 1)

    assert caplog.messages == [
        "player p: an instance waits for a place, and Ray does not say what the nodes have: the GCS is away"
    ]


def test_a_batch_for_an_instance_that_died_since_there_was_room_comes_back_untried(place: Alone) -> None:
    place.scale(1, now_s=0)
    place.actors[0].comes(pid=7)
    assert place.instances.room()

    place.actors[0].dies()
    place.instances.start(work(5, 6))

    [outcome] = [told for told in place.told[0] if isinstance(told, Outcome)]
    assert list(outcome.skipped) == [(5, "k5"), (6, "k6")]
    assert not outcome.failures


def lose(place: Alone, why: str) -> Outcome:
    """Have one event heard by an instance that is lost meanwhile; what came of it."""
    place.scale(1, now_s=len(place.actors))
    place.actors[-1].comes(pid=7)
    place.instances.start(work(5))
    place.actors[-1].dies(why)
    return [told for told in place.told[0] if isinstance(told, Outcome)][-1]


def test_an_event_alone_with_an_instance_whose_process_died_is_charged_with_it(place: Alone) -> None:
    assert [failure.offset for failure in lose(place, "The actor died: Worker exit type: SYSTEM_ERROR").failures] == [5]


@pytest.mark.parametrize("why", ["its node has died", "The actor is temporarily unavailable: RpcError"])
def test_an_event_alone_with_an_instance_whose_node_is_lost_is_not(place: Alone, why: str) -> None:
    outcome = lose(place, why)

    assert not outcome.failures
    assert list(outcome.skipped) == [(5, "k5")]


def test_an_event_that_is_there_whenever_an_instance_is_lost_is_charged_in_the_end(place: Alone) -> None:
    charged = [len(lose(place, "The actor is temporarily unavailable").failures) for _ in range(2 * suspicion.SPARED_MOST + 2)]

    assert charged == 2 * [*[0] * suspicion.SPARED_MOST, 1]


def begin(place: Alone, count: int) -> tuple[FakeActor, float]:
    """One instance that hears so many events, and answers when the test says; and when it began."""
    place.scale(1, now_s=0)
    actor = place.actors[0]
    actor.hears = FakeCall(actor)
    actor.comes(pid=7)
    place.instances.start(work(*range(count)))
    return actor, place.now_s


def test_an_instance_that_owes_an_answer_for_longer_than_one_call_may_take_is_ended_however_many_events_it_has(
    place: Alone,
) -> None:
    actor, began_s = begin(place, count=500)

    ends = []
    for after_s in (1, 2 + vigil.GRACE_S - 0.1, 2 + vigil.GRACE_S + 0.1):  # asked after 1 s; it may keep silent for one call
        place.instances.tend(began_s + after_s, lambda: 500)
        ends.append(actor.is_killed)

    assert ends == [False, False, True]
    assert len(actor.hears.asked) == 1
    [outcome] = [told for told in place.told[0] if isinstance(told, Outcome)]
    assert (len(outcome.skipped), outcome.failures) == (500, [])


def test_an_instance_that_answers_may_hear_for_as_long_as_all_its_events_may_take(place: Alone) -> None:
    actor, began_s = begin(place, count=500)

    ends = []
    for number in [*range(1, 400), 501 + vigil.GRACE_S]:
        place.instances.tend(began_s + number, lambda: 500)
        if not actor.is_killed:
            actor.hears.asked[-1].set_result(((0, 1), 0, 0.0))
        ends.append(actor.is_killed)

    assert ends == [*[False] * 399, True]


def test_what_waits_behind_a_batch_of_another_shard_that_hangs_goes_to_an_instance_that_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = Stand(monkeypatch, shards=2, max=3, min=3, batch=1)
    place.tend(9, 9)
    for pid, actor in enumerate(place.actors):
        actor.comes(pid)
    place.tend(9, 9)
    first, second = place.sections
    for offset in (1, 2):  # two of three hang with events of the first shard
        first.start(work(offset))
    hanging = [actor for actor in place.actors if actor.begins()]
    [free] = [actor for actor in place.actors if actor not in hanging]

    for _ in range(8):
        if second.room():
            second.start(work(5))
        if (1, 5) in free.flying():
            break
        place.tend(9, 9, after_s=1.0)
        place.told[1].clear()

    assert len(hanging) == 2
    assert free.begins() == [(1, 5)]
