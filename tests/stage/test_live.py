"""Input that may have nothing to give yet: what has come is given, whatever is still awaited."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ensemble.stage.live import AsTheyCome, InTurn, Items, Pipe
from tests.conformance.stand import Gate, eventually

KINDS: dict[str, Callable[[Callable[[], Iterator[Any]]], Items]] = {
    "in turn": InTurn,
    "as they come": lambda begin: AsTheyCome(begin, "speaks"),
}


def all_of(items: Items, most: int = 3) -> list[list[Any]]:
    """Everything, in the portions in which it was taken; those that are empty left out."""
    portions = []
    while not items.is_over:
        portions.append(items.take(most))
    return [each for each in portions if each]


def taken(items: Items, count: int, most: int) -> list[Any]:
    """So many items, however long they take to come."""
    got: list[Any] = []

    def have_come() -> bool:
        got.extend(items.take(most))
        return len(got) >= count

    eventually(have_come, f"{count} items")
    return got


# A speaker


@pytest.mark.parametrize("kind", KINDS)
def test_all_items_are_taken_in_order_and_no_more_at_a_time_than_are_wanted(kind: str) -> None:
    items = KINDS[kind](lambda: iter(range(8)))

    portions = all_of(items)

    assert [number for portion in portions for number in portion] == list(range(8))
    assert max(map(len, portions)) <= 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_speaker_is_not_begun_before_somebody_wants_an_item_and_is_closed_at_the_end(kind: str) -> None:
    life: list[str] = []

    def speak() -> Iterator[int]:
        life.append("begun")
        try:
            yield 1
            yield 2
        finally:
            life.append("closed")

    items = KINDS[kind](speak)
    assert life == []

    assert taken(items, 1, most=1) == [1]
    items.close()

    assert life == ["begun", "closed"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_speaker_raises_comes_after_all_that_it_said(kind: str) -> None:
    def speak() -> Iterator[int]:
        yield 1
        raise OSError("line is dead")

    items = KINDS[kind](speak)

    assert taken(items, 1, most=3) == [1]
    for _ in range(2):
        with pytest.raises(OSError, match="line is dead"):
            items.take(3)
    assert not items.is_over


@pytest.mark.parametrize("kind", KINDS)
def test_a_speaker_that_can_not_begin_says_why(kind: str) -> None:
    def speak() -> Iterator[int]:
        raise OSError("no line")

    with pytest.raises(OSError, match="no line"):
        KINDS[kind](speak).take(1)


def test_in_turn_as_many_are_taken_as_are_wanted() -> None:
    assert all_of(InTurn(lambda: iter(range(8)))) == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_what_a_speaker_has_said_is_given_while_it_waits() -> None:
    gate = Gate()

    def speak() -> Iterator[int]:
        yield 1
        yield 2
        gate.pass_through()
        yield 3

    items = AsTheyCome(speak, "speaks")

    first = taken(items, 2, most=500)
    gate.wait_for(1)
    assert items.take(500) == []
    assert not items.is_over
    gate.open()

    assert first == [1, 2]
    assert all_of(items) == [[3]]


def test_a_speaker_is_not_asked_for_more_than_one_item_ahead_of_what_is_wanted() -> None:
    asked: list[int] = []

    def speak() -> Iterator[int]:
        for number in range(1000):
            asked.append(number)
            yield number

    items = AsTheyCome(speak, "speaks")

    assert taken(items, 5, most=1) == [0, 1, 2, 3, 4]
    assert len(asked) <= 6
    items.close()


def test_closing_does_not_wait_for_ever_for_a_speaker_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensemble.stage.live.PATIENCE_S", 0.01)
    gate, closed = Gate(), threading.Event()

    def speak() -> Iterator[int]:
        try:
            gate.pass_through()
            yield 1
            yield 2
        finally:
            closed.set()

    items = AsTheyCome(speak, "speaks")
    items.take(1)
    gate.wait_for(1)

    items.close()

    assert not closed.is_set()
    gate.open()
    assert closed.wait(20)


# A pipe


@pytest.fixture
def ends() -> Iterator[tuple[Pipe, Callable[[bytes], None], Callable[[], None]]]:
    """A pipe, what writes into it, and what closes its other end."""
    reading, writing = os.pipe()
    is_open = [True]

    def close() -> None:
        if is_open:
            os.close(writing)
            is_open.clear()

    yield Pipe(reading), lambda data: (os.write(writing, data), None)[1], close
    close()
    os.close(reading)


Ends = tuple[Pipe, Callable[[bytes], None], Callable[[], None]]
MOST = 100


def at_once() -> float:
    return time.monotonic()


def test_a_line_is_ready_once_all_of_it_has_come(ends: Ends) -> None:
    pipe, write, _ = ends
    assert not pipe.is_ready(MOST, at_once())

    write(b"one\ntw")

    assert pipe.is_ready(MOST, at_once())
    assert pipe.readline(MOST) == b"one\n"
    assert not pipe.is_ready(MOST, at_once())
    write(b"o\n")
    assert pipe.is_ready(MOST, at_once())
    assert pipe.readline(MOST) == b"two\n"


def test_the_last_line_needs_no_end_and_after_it_comes_nothing(ends: Ends) -> None:
    pipe, write, close = ends
    write(b"one\nlast")
    close()

    assert [pipe.readline(MOST) for _ in range(4)] == [b"one\n", b"last", b"", b""]
    assert pipe.is_ready(MOST, at_once())


def test_of_a_line_that_is_too_long_its_beginning_is_ready(ends: Ends) -> None:
    pipe, write, close = ends
    write(b"x" * 250 + b"\n")
    close()

    assert pipe.is_ready(MOST, at_once())
    assert [len(pipe.readline(MOST)) for _ in range(4)] == [100, 100, 51, 0]


def test_a_line_that_comes_while_it_is_waited_for_is_ready(ends: Ends) -> None:
    pipe, write, _ = ends
    writer = threading.Thread(target=write, args=(b"late\n",))
    writer.start()

    assert pipe.is_ready(MOST, time.monotonic() + 60)
    writer.join()
    assert pipe.readline(MOST) == b"late\n"


def test_what_is_there_can_be_read_without_regard_to_lines(ends: Ends) -> None:
    pipe, write, close = ends
    write(b"one\ntwo")

    assert pipe.read(5) == b"one\nt"
    assert pipe.read(100) == b"wo"
    close()
    assert pipe.read(100) == b""
