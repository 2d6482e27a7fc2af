"""The post brings what is durable to the other shards, in order and until they have it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence

import pytest

from ensemble.broker.outbox import Outbox, Parcel
from ensemble.errors import Unavailable
from ensemble.stage import post
from ensemble.stage.post import Arrived, Post
from tests.conformance.stand import eventually


class Shard:
    """Another shard: it takes what comes, says what it has, and may fail or be held up."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[int]]] = []
        """First number and sizes of the parcels of each call."""
        self.faults: list[Exception] = []
        self.answers: list[int] = []
        """What it says that it has, where that is not all that came."""
        self.may_go = threading.Event()
        self.may_go.set()

    def carry(self, shard: int, first: int, parcels: Sequence[Parcel]) -> int:
        self.may_go.wait()
        self.calls.append((first, [len(parcel) for parcel in parcels]))
        if self.faults:
            raise self.faults.pop(0)
        return self.answers.pop(0) if self.answers else first + len(parcels)


def parcel(events: int = 1, size: int = 1) -> Parcel:
    return Parcel("/test", ["said"], 0, ["k"] * events, [b"x" * size] * events)


@pytest.fixture
def there() -> Shard:
    return Shard()


@pytest.fixture
def arrived() -> list[Arrived]:
    return []


@pytest.fixture
def sending(there: Shard, arrived: list[Arrived]) -> Iterator[Post]:
    made = Post(there.carry, arrived.append)
    yield made
    there.may_go.set()
    made.close()


def told(sending: Post, arrived: list[Arrived], first: int) -> None:
    """Wait until a shard says that it has all before a number, and tell the post."""
    eventually(lambda: bool(arrived) and arrived[-1].first >= first)
    sending.told(arrived[-1])


def test_what_is_sent_arrives_and_is_gone_once_the_loop_knows(
    there: Shard, sending: Post, arrived: list[Arrived]
) -> None:
    empty = [sending.is_empty]

    sending.send(1, 0, parcel())
    eventually(lambda: bool(arrived))
    empty.append(sending.is_empty)
    sending.told(arrived[0])
    empty.append(sending.is_empty)

    assert arrived == [Arrived(1, 1)]
    assert empty == [True, False, True]


def test_what_waits_goes_together_and_in_order(there: Shard, sending: Post, arrived: list[Arrived]) -> None:
    there.may_go.clear()
    for number in range(4):
        sending.send(1, number, parcel(number + 1))
    there.may_go.set()

    told(sending, arrived, 4)

    assert [size for _, sizes in there.calls for size in sizes] == [1, 2, 3, 4]
    assert [first for first, _ in there.calls] == sorted({first for first, _ in there.calls})


def test_a_call_carries_so_much_and_no_more_unless_a_parcel_alone_is_larger(
    there: Shard, sending: Post, arrived: list[Arrived], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "BAG_BYTES", 1000)
    there.may_go.clear()
    for number, size in enumerate([10, 5000, 300, 300, 300]):
        sending.send(1, number, parcel(size=size))
    there.may_go.set()

    told(sending, arrived, 5)

    assert all(len(sizes) == 1 for first, sizes in there.calls if first == 1)
    assert sum(len(sizes) for _, sizes in there.calls) == 5
    assert max(len(sizes) for _, sizes in there.calls) <= 2


def test_a_call_that_failed_is_made_again(
    there: Shard, sending: Post, arrived: list[Arrived], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(post, "PAUSE_S", 0.001)
    monkeypatch.setattr(post, "PATIENCE_S", 0.0)
    there.faults = [Unavailable("it is being made anew"), Unavailable("it is being made anew")]

    with caplog.at_level(logging.WARNING, logger="ensemble.stage"):
        sending.send(1, 0, parcel())
        told(sending, arrived, 1)

    assert [first for first, _ in there.calls] == [0, 0, 0]
    said = [record.message for record in caplog.records if "does not take" in record.message]
    assert len(said) == 1  # the same complaint is not repeated
    assert "it is being made anew" in said[0]


def test_what_it_does_not_have_yet_is_sent_again(there: Shard, sending: Post, arrived: list[Arrived]) -> None:
    there.may_go.clear()
    there.answers = [0, 1]
    sending.send(1, 0, parcel())
    sending.send(1, 1, parcel())
    there.may_go.set()

    told(sending, arrived, 2)

    assert [first for first, _ in there.calls][:3] == [0, 0, 1]


def test_each_shard_has_a_way_of_its_own(arrived: list[Arrived]) -> None:
    """One that takes nothing holds up no other."""
    stuck = threading.Event()

    def carry(shard: int, first: int, parcels: Sequence[Parcel]) -> int:
        if shard == 1:
            stuck.wait()
        return first + len(parcels)

    sending = Post(carry, arrived.append)
    try:
        sending.send(1, 0, parcel())
        sending.send(2, 7, parcel())

        eventually(lambda: bool(arrived))
        assert arrived == [Arrived(2, 8)]
    finally:
        stuck.set()
        sending.close()


def test_sections_wait_while_too_much_is_on_its_way(
    there: Shard, sending: Post, arrived: list[Arrived], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "BYTES_MOST", 100)

    sending.send(1, 0, parcel(size=200))
    assert sending.is_full
    told(sending, arrived, 1)

    assert not sending.is_full


def test_what_the_log_says_is_on_its_way_goes_first_after_a_crash(
    there: Shard, sending: Post, arrived: list[Arrived]
) -> None:
    box = Outbox(next=6, parcels={4: parcel(4), 5: parcel(5)})

    sending.begin({1: box})
    sending.send(1, 6, parcel(6))
    told(sending, arrived, 7)

    assert there.calls[0][0] == 4
    assert [size for _, sizes in there.calls for size in sizes] == [4, 5, 6]


def test_a_closed_post_brings_nothing_more(
    there: Shard, arrived: list[Arrived], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = threading.active_count()
    sending = Post(there.carry, arrived.append)
    there.faults = [Unavailable("not now")] * 1000
    sending.send(1, 0, parcel())
    eventually(lambda: bool(there.calls))

    sending.close()

    eventually(lambda: threading.active_count() <= before)
    assert arrived == []


