"""docs/object-log.md, checked: every order of every call of two writers, a deleter and a reader, to a stated bound.

The steps are the product's (`ensemble.log.objects.protocol`); the store is a model of one. Any call may be answered, or its
answer is lost: before it took effect, after it did, or it takes effect at any time later. A crash needs no step of its own:
every state is looked at, and in each anybody may have made its last call.
Bound: blocks of two entries; each writer opens the log and appends twice; the deleter merges one block; so many answers lost
as a case says.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest

from ensemble.log.objects.protocol import (
    Absent,
    Answer,
    Begun,
    Call,
    Done,
    Entry,
    Follow,
    Found,
    Kept,
    Lost,
    Merge,
    Merged,
    Name,
    Open,
    Put,
    Seen,
    Taken,
    Unknown,
    Unripe,
)  # fmt: skip

BLOCK = 2
APPENDS = 2


class Wrong(AssertionError):
    """An invariant does not hold."""


class Writer(NamedTuple):
    """Opens the log, appends, and stops for good where it is refused."""

    name: str
    step: Open | Put | None
    begun: Begun = Begun(0, 0)
    appends: int = 0
    seen: tuple[Entry, ...] = ()
    acknowledged: tuple[tuple[int, Entry], ...] = ()

    def told(self, answer: Answer) -> Writer:
        assert self.step is not None
        after = self.step.told(answer)
        match after:
            case Begun():
                assert isinstance(self.step, Open)
                return self._replace(begun=after, seen=self.step.seen, step=self._next(after.number, after.epoch, 0))
            case Kept():
                assert isinstance(self.step, Put)
                told = (*self.acknowledged, (self.step.number, self.step.entry))
                done = self.appends + 1
                step = self._next(self.step.number + 1, self.begun.epoch, done) if done < APPENDS else None
                return self._replace(acknowledged=told, appends=done, step=step)
            case Lost():
                return self._replace(step=None)
            case Open() | Put():
                return self._replace(step=after)

    def _next(self, number: int, epoch: int, appends: int) -> Put:
        return Put(number, BLOCK, Entry(epoch, self.name, False, b"%d" % appends))


class Deleter(NamedTuple):
    step: Merge | None

    def told(self, answer: Answer) -> Deleter:
        assert self.step is not None
        after = self.step.told(answer)
        return Deleter(after if isinstance(after, Merge) else None)


class Reader(NamedTuple):
    """Reads from the beginning to the end, once."""

    step: Follow | None
    seen: tuple[Entry, ...] = ()

    def told(self, answer: Answer) -> Reader:
        assert self.step is not None
        after = self.step.told(answer)
        if isinstance(after, Follow):
            return self._replace(step=after)
        seen = self.seen + after.entries
        return Reader(None if after.is_end else Follow(len(seen), BLOCK), seen)


Process = Writer | Deleter | Reader


class World(NamedTuple):
    processes: tuple[Process, ...]
    objects: frozenset[tuple[Name, Any]]
    first: tuple[Entry, ...]
    """What was created first under the name of each entry, deleted or not: the log as it truly is."""
    late: frozenset[Call]
    """Calls that were given up and may take effect yet."""
    losses: int
    """So many answers may still be lost."""


def act(world: World, call: Call) -> tuple[World, Answer]:
    """The store: what a call does, and its answer."""
    held = dict(world.objects)
    match call.verb:
        case "get" | "look":
            return world, Found(held[call.name]) if call.name in held else Absent()
        case "delete":
            held.pop(call.name, None)
            return world._replace(objects=frozenset(held.items())), Done()
        case "create":
            if call.name in held:
                return world, Taken()
            held[call.name] = call.value
            first = world.first
            if call.name.kind == "entry" and call.name.number >= len(first):
                if call.name.number > len(first):
                    raise Wrong(f"entry {call.name.number} was created, entry {len(first)} never was")
                assert isinstance(call.value, Entry)
                first = (*first, call.value)
            return world._replace(objects=frozenset(held.items()), first=first), Done()


def after(world: World) -> Iterator[World]:
    """Every world that can be next."""
    for call in world.late:
        yield act(world, call)[0]._replace(late=world.late - {call})
    for ix, process in enumerate(world.processes):
        if process.step is None:
            continue
        call = process.step.wants()

        def heard(world: World, answer: Answer, ix: int = ix, process: Process = process) -> World:
            processes = (*world.processes[:ix], process.told(answer), *world.processes[ix + 1 :])
            return world._replace(processes=processes)

        done, answer = act(world, call)
        yield heard(done, answer)
        if world.losses:
            poorer = world.losses - 1
            yield heard(world, Unknown())._replace(losses=poorer)
            if call.verb in ("create", "delete"):
                yield heard(done, Unknown())._replace(losses=poorer)
                yield heard(world, Unknown())._replace(losses=poorer, late=world.late | {call})


@cache  # there are far fewer logs than worlds
def check_log(objects: frozenset[tuple[Name, Any]], first: tuple[Entry, ...]) -> None:
    """What was once created is read for good, at its place; and the writers stand in it one after another."""
    held = dict(objects)
    epoch, writer = 0, ""
    for number, entry in enumerate(first):
        segment = held.get(Name("segment", number // BLOCK))
        read = segment[number % BLOCK] if segment is not None else held.get(Name("entry", number))
        if read != entry:
            raise Wrong(f"entry {number} was {entry}, now {read} is read there")
        if entry.is_begin:
            if entry.epoch <= epoch:
                raise Wrong(f"epoch {entry.epoch} begins at {number} after epoch {epoch}")
            epoch, writer = entry.epoch, entry.writer
        elif (entry.epoch, entry.writer) != (epoch, writer):
            raise Wrong(f"{entry.writer} wrote entry {number} with epoch {entry.epoch}, after {writer} had begun epoch {epoch}")


def check(world: World) -> None:
    """The invariants, in every world."""
    check_log(world.objects, world.first)
    for process in world.processes:
        if isinstance(process, Writer):
            for number, entry in process.acknowledged:
                if world.first[number] != entry:
                    raise Wrong(f"{process.name} was told that entry {number} is kept; it is not in the log")
        if isinstance(process, Writer | Reader) and process.seen != world.first[: len(process.seen)]:
            raise Wrong(f"{process.seen} was read; the log is {world.first}")


def explore(losses: int, *, writers: str = "AB", with_reader: bool = False) -> tuple[int, set[int]]:
    """Look at every world there can be. How many there were, and how many entries were acknowledged in those at the end."""
    check_log.cache_clear()
    those = [Writer(name, Open(0, 0, BLOCK, name)) for name in writers]
    readers = [Reader(Follow(0, BLOCK))] if with_reader else []
    start = World((*those, Deleter(Merge(0, BLOCK)), *readers), frozenset(), (), frozenset(), losses)
    known, ahead, acknowledged = {start}, [start], set()
    while ahead:
        world = ahead.pop()
        check(world)
        if all(process.step is None for process in world.processes):
            acknowledged.add(sum(len(p.acknowledged) for p in world.processes if isinstance(p, Writer)))
        for each in after(world):
            if each not in known:
                known.add(each)
                ahead.append(each)
    return len(known), acknowledged


@pytest.mark.parametrize(("losses", "with_reader", "worlds"), [(0, True, 30_000), (2, False, 150_000)])
def test_whatever_is_late_lost_or_stalled_the_log_is_one(losses: int, with_reader: bool, worlds: int) -> None:
    seen, acknowledged = explore(losses, with_reader=with_reader)

    assert seen > worlds
    assert acknowledged == {2, 3, 4}  # an older writer gets through all, a part or nothing before it is refused


def test_a_writer_with_no_other_is_never_refused_whatever_is_lost_and_merged() -> None:
    seen, acknowledged = explore(3, writers="A")

    assert seen > 1000
    assert acknowledged == {APPENDS}


# Planted bugs: what the exploration is worth

put, follow, merge, opened = Put.told, Follow.told, Merge.told, Open.told


def put_without_a_look(step: Put, answer: Answer) -> Put | Kept | Lost:
    after = put(step, answer)
    return Kept() if isinstance(after, Put) and after.phase == "look" else after


def put_that_looked_before(step: Put, answer: Answer) -> Put | Kept | Lost:
    """As if the look at the boundary came before the create: nothing is looked at after it."""
    if step.phase == "create" and isinstance(answer, Done):
        return Kept()
    return put(step, answer)


def put_that_takes_what_stands_there_for_its_own(step: Put, answer: Answer) -> Put | Kept | Lost:
    return step._replace(phase="look") if step.phase == "create" and isinstance(answer, Taken) else put(step, answer)


def put_that_takes_silence_for_yes(step: Put, answer: Answer) -> Put | Kept | Lost:
    return step._replace(phase="look") if step.phase == "create" and isinstance(answer, Unknown) else put(step, answer)


def open_without_a_beginning(step: Open, answer: Answer) -> Open | Begun:
    after = opened(step, answer)
    if isinstance(after, Open) and isinstance(after.step, Put):
        return Begun(after.epoch + 1, after.number)
    return after


def open_that_keeps_the_epoch(step: Open, answer: Answer) -> Open | Begun:
    after = opened(step, answer)
    if isinstance(after, Open) and isinstance(after.step, Put):
        return after._replace(step=after.step._replace(entry=after.step.entry._replace(epoch=1)))
    return after


def follow_without_a_look(step: Follow, answer: Answer) -> Follow | Seen:
    after = follow(step, answer)
    if isinstance(after, Follow) and after.phase != "read":
        return Seen(after.run, after.phase == "look at the end")
    return after


def merge_that_deletes_first(step: Merge, answer: Answer) -> Merge | Merged | Unripe:
    if step.phase == "ripe" and isinstance(answer, Found):
        return step._replace(phase="delete")
    if step.phase == "create":
        return Merged() if not isinstance(answer, Unknown) else step
    after = merge(step, answer)
    return step._replace(phase="create") if step.run and isinstance(after, Merged) else after


def merge_of_what_is_there(step: Merge, answer: Answer) -> Merge | Merged | Unripe:
    if step.phase == "ripe" and not isinstance(answer, Unknown):
        return step._replace(phase="create")
    return merge(step, answer)


@pytest.mark.parametrize(
    ("steps", "bug", "losses", "why"),
    [
        (Put, put_without_a_look, 0, "is kept; it is not in the log"),
        (Put, put_that_looked_before, 0, "is kept; it is not in the log"),
        (Put, put_that_takes_what_stands_there_for_its_own, 0, "not in the log|wrote entry"),
        (Put, put_that_takes_silence_for_yes, 1, "never was"),
        (Open, open_without_a_beginning, 0, "wrote entry"),
        (Open, open_that_keeps_the_epoch, 0, "after epoch"),
        (Follow, follow_without_a_look, 0, "was read; the log is"),
        (Merge, merge_that_deletes_first, 0, "is read there"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, steps: type, bug: Any, losses: int, why: str) -> None:
    monkeypatch.setattr(steps, "told", bug)

    with pytest.raises(Wrong, match=why):
        explore(losses, with_reader=steps is Follow)


def test_a_merge_that_does_not_wait_for_the_next_block_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Merge, "told", merge_of_what_is_there)

    _, acknowledged = explore(0, writers="A")

    assert min(acknowledged) < APPENDS
