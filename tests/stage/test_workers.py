"""Instances on threads: how many there are, and what happens to one whose call takes too long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from ensemble import Event, PlayerError, testing
from ensemble.broker import Batch, Outcome
from ensemble.motif import Topic
from ensemble.player import GivenUp, Player, Work
from ensemble.score import Score
from ensemble.score.model import PlayerSpec, Section
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.workers import Alone, Threads, Watch
from tests.conformance.stand import Gate, eventually


class Life:
    """What becomes of the instances of a player."""

    def __init__(self) -> None:
        self.built = 0
        self.closed = 0
        self.gate = Gate()
        self._lock = threading.Lock()

    def player(self, **section: Any) -> Player:
        life = self

        class Hear:
            def __init__(self) -> None:
                with life._lock:
                    life.built += 1

            def __call__(self, event: Event) -> None:
                life.gate.pass_through()

            def close(self) -> None:
                with life._lock:
                    life.closed += 1

        return player(Hear, **section)


def player(call: Callable[..., Any], **section: Any) -> Player:
    return Player(PlayerSpec(name="hear", on=Topic("came"), section=Section(**section)), call, Vocabulary(Score(name="test")))


def work(number: int) -> Work:
    """A batch of one event."""
    batch = Batch("hear", [number], [f"k-{number}"], {}, 0)
    return Work(batch, [testing.event("came", key=f"k-{number}", offset=number)], [number], [number], {})


def works(count: int) -> Work:
    """A batch of so many events."""
    batch = Batch("hear", range(count), [f"k-{number}" for number in range(count)], {}, 0)
    events = [testing.event("came", key=f"k-{number}", offset=number) for number in range(count)]
    return Work(batch, events, range(count), range(count), {})


@pytest.fixture
def life() -> Iterator[Life]:
    life = Life()
    yield life
    life.gate.open()


@pytest.fixture
def hire() -> Iterator[Callable[[Player], Threads]]:
    """Makes threads, which are let go when the test ends; what they post is in `posted`."""
    hired: list[Threads] = []

    def hire(player: Player) -> Threads:
        hired.append(Threads(player, posted.put, posted.put))
        return hired[-1]

    posted: SimpleQueue[Any] = SimpleQueue()
    yield hire
    for threads in hired:
        threads.close()


# How many there are


@pytest.mark.parametrize(
    ("section", "count"), [({"min": 4, "max": 8}, 4), ({"min": 0, "max": 8}, 1), ({"min": 1, "max": 1}, 1)], ids=str
)
def test_min_instances_are_there_when_the_band_opens_and_one_at_least(
    life: Life, hire: Callable[[Player], Threads], section: dict[str, int], count: int
) -> None:
    threads = hire(life.player(**section))

    assert threads.count == life.built == count
    assert life.closed == 0


def test_an_instance_that_was_built_for_the_opening_is_the_one_that_hears(
    life: Life, hire: Callable[[Player], Threads]
) -> None:
    threads = hire(life.player(max=4))

    threads.start(work(0))
    life.gate.wait_for(1)

    assert life.built == threads.count == 1


def test_there_are_more_instances_while_there_is_more_to_hear_than_min_can_take(
    life: Life, hire: Callable[[Player], Threads]
) -> None:
    threads = hire(life.player(min=1, max=3))

    for number in range(3):
        threads.start(work(number))
    life.gate.wait_for(3)

    assert threads.count == 3
    assert threads.room() == 0


@pytest.mark.parametrize("least", [0, 2])
def test_idle_instances_are_let_go_until_min_are_left(life: Life, hire: Callable[[Player], Threads], least: int) -> None:
    threads = hire(life.player(min=least, max=4, idle_us=1_000_000))
    for number in range(4):
        threads.start(work(number))
    life.gate.open()
    eventually(lambda: len(threads._free) == 4, "the end of all four calls")
    later_s = max(worker.idle_since for worker in threads._free) + 1

    threads.tend(later_s, lambda: 0)

    assert threads.count == least
    eventually(lambda: life.closed == 4 - least, "the closing of those that were let go")
    assert threads.tend(later_s, lambda: 0) is None


def test_a_section_without_instances_gets_one_with_the_next_event(life: Life, hire: Callable[[Player], Threads]) -> None:
    threads = hire(life.player(max=2, idle_us=1_000_000))
    threads.tend(threads._free[0].idle_since + 1, lambda: 0)
    assert threads.count == 0

    threads.start(work(0))
    life.gate.wait_for(1)

    assert threads.count == 1


def test_a_class_that_can_not_be_built_is_told_of_at_once_and_the_instances_that_could_be_are_closed() -> None:
    life = Life()
    lock = threading.Lock()

    class Scarce:
        def __init__(self) -> None:
            with lock:
                life.built += 1
                if life.built > 2:
                    raise OSError("no licence left")

        def __call__(self, event: Event) -> None: ...

        def close(self) -> None:
            with lock:
                life.closed += 1

    with pytest.raises(PlayerError, match=r"player hear can't be built: .*Scarce.* raised OSError: no licence left"):
        Threads(player(Scarce, min=3, max=3), lambda outcome: None, lambda error: None)

    assert life.closed == 2


# How long a call may take


def test_a_call_that_is_not_over_by_its_timeout_is_given_up() -> None:
    watch, gate = Watch(), Gate()
    ended: SimpleQueue[BaseException] = SimpleQueue()

    def call() -> None:
        try:
            watch.guard(gate.pass_through)()
        except GivenUp as error:
            ended.put(error)

    thread = threading.Thread(target=call)
    thread.start()
    gate.wait_for(1)
    due_s = watch.due_s(5)

    assert not watch.give_up(5, due_s - 0.1)
    assert watch.give_up(5, due_s)
    gate.open()
    thread.join(20)
    assert isinstance(ended.get(timeout=20), GivenUp)


def test_a_call_that_is_over_can_not_be_given_up() -> None:
    watch = Watch()

    answer = watch.guard(lambda number: number + 1)(1)

    assert answer == 2
    assert not watch.give_up(0, float("inf"))


def test_the_time_of_a_generator_is_that_until_its_last_item() -> None:
    watch = Watch()
    could_be_given_up: list[bool] = []

    def speak() -> Iterator[int]:
        yield 1
        could_be_given_up.append(watch.due_s(5) < watch.due_s(6) and watch._since is not None)
        yield 2

    assert watch.guard(speak)() == [1, 2]
    assert could_be_given_up == [True]


def test_each_call_has_the_whole_timeout() -> None:
    watch = Watch()
    dues: list[float] = []

    guarded = watch.guard(lambda: dues.append(watch.due_s(5)))
    guarded()
    guarded()

    assert dues[0] < dues[1]


def test_a_player_that_raises_is_not_watched_any_longer() -> None:
    watch = Watch()

    with pytest.raises(ZeroDivisionError):
        watch.guard(lambda: 1 // 0)()

    assert not watch.give_up(0, float("inf"))


def test_an_outcome_tells_how_long_its_batch_took_though_its_time_is_limited() -> None:
    outcomes: SimpleQueue[Outcome] = SimpleQueue()
    spec = PlayerSpec(name="hear", on=Topic("came"), timeout_us=60_000_000)
    threads = Threads(Player(spec, lambda event: None, Vocabulary(Score(name="test"))), outcomes.put, lambda error: None)

    threads.start(work(0))

    assert outcomes.get(timeout=20).took_s > 0
    threads.close()


# One instance alone


def alone(call: Any) -> tuple[Alone, SimpleQueue[Outcome], list[Outcome]]:
    """A player alone, what it posts from its thread, and what it brings at once."""
    posted: SimpleQueue[Outcome] = SimpleQueue()
    at_once: list[Outcome] = []
    workers = Alone(player(call), posted.put, at_once.append, lambda error: None)
    return workers, posted, at_once


def test_a_player_alone_is_not_waited_for_until_it_is_known_to_be_quick() -> None:
    gate = threading.Event()

    def wait(event: Event) -> None:
        gate.wait(20)

    workers, posted, at_once = alone(wait)

    workers.start(works(1))

    assert (workers.room(), at_once) == (0, [])
    gate.set()
    assert posted.get(timeout=20).count == 1
    workers.close()


def test_a_quick_function_is_heard_in_the_caller_s_thread_from_then_on() -> None:
    threads: list[str] = []
    workers, posted, at_once = alone(lambda event: threads.append(threading.current_thread().name))

    workers.start(works(100))
    posted.get(timeout=20)
    workers.start(works(1))

    assert len(at_once) == 1
    assert threads[-1] == threading.current_thread().name
    workers.close()


def test_a_function_that_was_quick_and_takes_long_once_goes_back_to_a_thread_for_good() -> None:
    is_slow = False

    def hear(event: Event) -> None:
        if is_slow:
            threading.Event().wait(0.06)

    workers, posted, at_once = alone(hear)
    workers.start(works(100))
    posted.get(timeout=20)

    is_slow = True
    workers.start(works(1))
    is_slow = False
    for _ in range(3):
        workers.start(works(100))
        posted.get(timeout=20)

    assert len(at_once) == 1
    workers.close()


def test_a_class_stays_in_the_thread_that_built_it() -> None:
    threads: list[int] = []

    class Counts:
        def __init__(self) -> None:
            threads.append(threading.get_ident())

        def __call__(self, event: Event) -> None:
            threads.append(threading.get_ident())

    workers, posted, at_once = alone(Counts)
    for _ in range(3):
        workers.start(works(50))
        posted.get(timeout=20)

    assert (at_once, len(set(threads))) == ([], 1)
    workers.close()
