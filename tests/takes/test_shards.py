"""Takes of a store in several shards leave all of them together, and read as one."""

from __future__ import annotations

from pathlib import Path

import pytest

import ensemble
from ensemble import takes
from ensemble.errors import OffsetError, Unavailable
from ensemble.resharding import reshard
from tests.takes.conftest import PLAYERS, SCORE


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store in three shards, played when it had one."""
    url = str(tmp_path / "store")
    with ensemble.open(SCORE, store=url, players=PLAYERS) as band:
        for number in range(30):
            band.publish("ordered", {"n": number}, key=f"k{number % 7}")
            band.settle(10)
    reshard(url, 3)
    return url


def test_a_take_by_time_has_what_was_written_before_in_every_shard(store: str) -> None:
    with ensemble.read(store) as reader:
        events = list(reader.events())
        middle = events[45]
        before = {event.id for event in events if event.written_at < middle.written_at}

    made = takes.new(store, "half", middle.written_at)

    with ensemble.read(store, take="half") as reader:
        assert {event.id for event in reader.events()} == before
        assert len(reader._shards) == 3
        assert all(reader.event(each).id == each for each in before)
    assert (made.events, made.parent) == (0, "main")


def test_a_take_at_the_end_has_all_of_it(store: str) -> None:
    takes.new(store, "all")

    with ensemble.read(store) as main, ensemble.read(store, take="all") as take:
        assert [event.id for event in take.events()] == [event.id for event in main.events()]
        assert dict(take.table("tally").items()) == dict(main.table("tally").items())


def test_a_rollback_is_of_all_shards_at_once(store: str) -> None:
    with ensemble.read(store) as reader:
        middle = list(reader.events())[45]

    takes.rollback(store, middle.written_at)

    with ensemble.read(store) as reader:
        assert all(event.written_at < middle.written_at for event in reader.events())
    with ensemble.read(store, take="main") as reader:
        assert len(list(reader.events())) == 90
    takes.use(store, "main")
    takes.drop(store, "rollback-1")
    assert [each.name for each in takes.listed(store)] == ["main"]


def test_offsets_of_several_shards_are_no_place_and_a_store_with_takes_is_not_divided(store: str) -> None:
    with pytest.raises(OffsetError, match="has 3 shards, each with offsets of its own; name a time"):
        takes.new(store, "a", 4)
    takes.new(store, "a")

    with pytest.raises(Unavailable, match="a: takes stand on the log as it is divided now; drop them first"):
        reshard(store, 2)
