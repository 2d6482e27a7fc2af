"""Large frames are put into Ray's store once, for as long as sections hear them; what is lost there is in the log."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble import emit
from ensemble.broker import Batch, Outcome
from ensemble.event import Event, Rows
from ensemble.player import Work
from ensemble.stage.on_ray import actors
from ensemble.stage.on_ray.shelf import FRAME_BYTES_MOST, INLINE_BYTES, KEPT_BYTES, Shelf
from ensemble.stage.on_ray.wire import Shared, shared
from tests.conformance.stand import Stand as Band
from tests.conformance.stand import eventually, part
from tests.stage.on_ray.troupers import Stand


def frame(first: int, *sizes: int) -> Rows:
    count = len(sizes)
    keys = [f"k{n}" for n in range(count)]
    return Rows("log", 0, first, 0, ["a.b"], 0, keys, [bytes(size) for size in sizes], ["/test"], 0)


class Store:
    def __init__(self) -> None:
        self.put: list[Shared] = []

    def __call__(self, thing: Shared) -> int:
        self.put.append(thing)
        return len(self.put)


def test_a_frame_of_which_a_batch_is_too_large_for_a_call_is_put_once_for_all_sections() -> None:
    store = Store()
    kept = Shelf(store, lambda: True)

    refs = [kept.ref(frame(7, INLINE_BYTES + 1), [0]) for _ in range(5)]

    assert refs == [1] * 5
    assert len(store.put) == 1


@pytest.mark.parametrize(
    ("rows", "ixs", "is_worth_it"),
    [
        (frame(0, INLINE_BYTES - 1), [0], True),
        (frame(0, *[100] * 899), range(899), True),
        (frame(0, INLINE_BYTES + 1, 100), [1], True),  # a small part of a large frame
        (frame(0, FRAME_BYTES_MOST, INLINE_BYTES), [1], True),  # each batch would read all of it
        (frame(0, INLINE_BYTES + 1), [0], False),  # only one section hears
    ],
)
def test_what_fits_into_a_call_or_is_heard_by_one_goes_in_the_batch(rows: Rows, ixs: Any, is_worth_it: bool) -> None:
    store = Store()

    assert Shelf(store, lambda: is_worth_it).ref(rows, ixs) is None
    assert not store.put


def test_the_frames_that_were_asked_for_last_are_kept() -> None:
    store = Store()
    kept = Shelf(store, lambda: True)
    size = FRAME_BYTES_MOST // 2
    many = KEPT_BYTES // size

    for first in range(many - 1):
        kept.ref(frame(first, size), [0])
    kept.ref(frame(0, size), [0])
    for first in range(many, many + 2):
        kept.ref(frame(first, size), [0])
    before = len(store.put)
    kept.ref(frame(0, size), [0])
    assert len(store.put) == before
    kept.ref(frame(1, size), [0])
    assert len(store.put) == before + 1, "it had to make room"


def test_a_frame_that_somebody_could_not_read_is_shared_no_more() -> None:
    store = Store()
    kept = Shelf(store, lambda: True)
    kept.ref(frame(7, INLINE_BYTES + 1), [0])

    kept.could_not_read([7])

    assert kept.ref(frame(7, INLINE_BYTES + 1), [0]) is None


def large_work(*offsets: int) -> Work:
    rows = frame(0, *[2 * INLINE_BYTES] * (1 + max(offsets)))
    events = [Event(rows, offset) for offset in offsets]
    return Work(Batch("p", list(offsets), [event.key for event in events], {}, 0), events, offsets, offsets, {})


def test_a_batch_whose_frame_was_lost_comes_back_untried_and_goes_with_its_events_in_it_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray.exceptions import OwnerDiedError

    stand = Stand(monkeypatch)
    stand.crews[0]._shelf = kept = Shelf(Store(), lambda: True)
    section = stand.sections[0]
    section._shelf = kept
    section.scale(1)
    stand.tend(1)
    [actor] = stand.alive()
    actor.comes(pid=7)

    section.start(large_work(0))
    assert actor.hear.given[-1][3:] == (1,)
    actor.hear.asked[-1].set_exception(OwnerDiedError("00" * 28, b"", ""))
    [outcome] = [told for told in stand.told[0] if isinstance(told, Outcome)]
    assert list(outcome.skipped) == [(0, "k0")]
    assert not outcome.failures
    section.start(large_work(0))

    assert not actor.is_dead
    assert actor.hear.given[-1][3:] == ()
    actor.at = 1
    assert actor.begins() == [(0, 0)]


class Reads:
    def size(self, frame: Shared) -> int:
        return len(frame.data)

    def put(self) -> list[Any]:
        return [actors.put(shared(frame(0, 300_000)))]


def test_ray_says_of_a_lost_frame_what_is_told_from_a_dead_instance(cluster: None) -> None:
    import ray

    kind: Any = ray.remote(Reads)
    actor, owner = (kind.options(num_cpus=0.1).remote() for _ in range(2))
    [there] = ray.get(owner.put.remote())
    assert ray.get(actor.size.remote(there)) > 300_000

    def error() -> Any:
        return actor.size.remote(there).future().exception(60)

    ray.kill(owner)  # what it has put is lost as soon as the node hears of it
    assert actors.is_unreadable(eventually(error, "the loss"))

    ray.kill(actor)
    dead = actor.size.remote(actors.put(shared(frame(0, 300_000)))).future().exception(60)
    assert not actors.is_unreadable(dead)


def test_events_too_large_for_a_call_are_heard_by_all_sections(stand_on_disk: Band) -> None:
    def measure(event: Event) -> Any:
        return emit("measured", {"size": len(event.data["text"]), "number": event.data["number"]})

    names = ("first", "second", "third")
    band = stand_on_disk.play({name: part(measure, "said", emits=["measured"]) for name in names})

    for number, size in enumerate((10, 99_000, 130_000, 1_000_000)):
        band.publish("said", {"text": "x" * size, "number": number}, key=f"k{number % 2}")
    band.settle(60)

    measured = sorted((event.data["number"], event.data["size"]) for event in band.events("measured"))
    assert measured == [(n, size) for n, size in enumerate((10, 99_000, 130_000, 1_000_000)) for _ in names]
