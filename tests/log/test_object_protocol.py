"""docs/object-log.md, checked: every order of every call of two writers, a deleter and a reader, to a stated bound.

The steps are the product's (`ensemble.log.objects.protocol`); the store is a model of one. Any call may be answered, or its
answer is lost: before it took effect, after it did, or it takes effect at any time later. A delete of several may stop after
any of them (where fewer than two answers are lost: the worlds are many). A crash needs no step of its own: every state is
looked at, and in each anybody may have made its last call.
Bound: blocks of two entries; each writer opens the log, appends twice and, in some cases, merges the first block if it knows it
whole; the deleter merges that block; so many answers lost as a case says. In one case somebody removes the store, all of it at
once, and makes another there; only there writers look at the manifest, since elsewhere it says always the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest

from ensemble.log.objects.protocol import (
    MANIFEST,
    Absent,
    Answer,
    Begun,
    Call,
    Done,
    Entry,
    Follow,
    Found,
    Gone,
    Kept,
    Log,
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
OLD, NEW = Log("old", BLOCK), Log("new", BLOCK)
LOG_OF = {"A": OLD, "B": OLD, "N": NEW}
"""Which log each writer opens."""


class Wrong(AssertionError):
    """An invariant does not hold."""


class Writer(NamedTuple):
    """Opens the log, appends, and stops for good where it is refused."""

    name: str
    step: Open | Put | Merge | None
    begun: Begun = Begun(0, 0)
    appends: int = 0
    seen: tuple[Entry, ...] = ()
    acknowledged: tuple[tuple[int, Entry], ...] = ()
    merges: bool = False
    """Whether it merges the first block, if it knows all of it."""
    manifest: bytes | None = None
    """What it looks for before it acknowledges; None: it does not look."""

    @property
    def log(self) -> Log:
        return LOG_OF[self.name]

    def wants(self) -> Call:
        assert self.step is not None
        return self.step.wants()

    def told(self, answer: Answer) -> Writer:
        assert self.step is not None
        after = self.step.told(answer)
        match after:
            case Begun():
                assert isinstance(self.step, Open)
                return self._replace(begun=after, seen=self.step.seen, step=self._next(after.number, after.epoch, 0))
            case Kept():
                assert isinstance(self.step, Put)
                done = self._replace(
                    acknowledged=(*self.acknowledged, (self.step.number, self.step.entry)), appends=self.appends + 1
                )
                more = done.appends < APPENDS
                return done._replace(
                    step=self._next(self.step.number + 1, self.begun.epoch, done.appends) if more else done._merge()
                )
            case Lost() | Gone() | Merged() | Unripe():
                return self._replace(step=None)
            case Open() | Put() | Merge():
                return self._replace(step=after)

    def _next(self, number: int, epoch: int, appends: int) -> Put:
        return Put(number, self.log, Entry(epoch, self.name, False, b"%d" % appends), self.manifest)

    def _merge(self) -> Merge | None:
        """The first block is merged by who knows all of it, and that there is more, without reading it again."""
        begin = {self.begun.number - 1: Entry(self.begun.epoch, self.name, True, b"")}
        known = {**dict(enumerate(self.seen)), **begin, **dict(self.acknowledged)}
        if not self.merges or not all(number in known for number in range(BLOCK + 1)):
            return None
        return Merge(0, self.log, tuple(known[number] for number in range(BLOCK)), "create")


def writer(name: str, *, merges: bool = False, looks: bool = False) -> Writer:
    log = LOG_OF[name]
    manifest = log.id.encode() if looks else None
    return Writer(name, Open(0, 0, log, name, manifest), merges=merges, manifest=manifest)


class Deleter(NamedTuple):
    step: Merge | None

    def wants(self) -> Call:
        assert self.step is not None
        return self.step.wants()

    def told(self, answer: Answer) -> Deleter:
        assert self.step is not None
        after = self.step.told(answer)
        return Deleter(after if isinstance(after, Merge) else None)


class Reader(NamedTuple):
    """Reads from the beginning to the end, once. With `is_ahead` it gets a block's entries backwards before it looks at one."""

    step: Follow | None
    is_ahead: bool = False
    seen: tuple[Entry, ...] = ()
    ahead: tuple[Name, ...] = ()
    got: tuple[tuple[Name, Answer], ...] = ()

    def begun(self) -> Reader:
        if self.step is None or not self.is_ahead:
            return self
        names = [OLD.entry(number) for number in range(self.step.number, OLD.end_of_block(self.step.number))]
        return self._replace(ahead=tuple(names), got=())

    def wants(self) -> Call:
        assert self.step is not None
        return Call("get", self.ahead[-1]) if self.ahead else self.step.wants()

    def told(self, answer: Answer) -> Reader:
        assert self.step is not None
        if not self.ahead:
            return self._after(self.step.told(answer))
        if isinstance(answer, Unknown):
            return self
        reader = self._replace(ahead=self.ahead[:-1], got=(*self.got, (self.ahead[-1], answer)))
        if reader.ahead:
            return reader
        step: Follow | Seen = self.step
        while isinstance(step, Follow) and step.phase == "read":
            step = step.told(dict(reader.got)[step.wants().name])
        return reader._after(step)

    def _after(self, after: Follow | Seen) -> Reader:
        if isinstance(after, Follow):
            return self._replace(step=after)
        seen = self.seen + after.entries
        return self._replace(step=None if after.is_end else Follow(len(seen), OLD), seen=seen).begun()


class Remover(NamedTuple):
    """Removes the store and makes another in its place, which a writer opens then."""

    step: str = "remove"

    def wants(self) -> Call:
        raise AssertionError("it does not ask the store as the others do")


Process = Writer | Deleter | Reader | Remover


class World(NamedTuple):
    processes: tuple[Process, ...]
    objects: frozenset[tuple[Name, Any]]
    first: tuple[tuple[str, tuple[Entry, ...]], ...]
    """Log -> what was created first under the name of each entry, deleted or not: the log as it truly is."""
    late: frozenset[Call]
    """Calls that were given up and may take effect yet."""
    losses: int
    """So many answers may still be lost."""
    void: frozenset[Entry] = frozenset()
    """What was created where the manifest no longer spoke of its log."""
    stops: bool = True
    """Whether a delete of several may stop after any of them."""


def act(world: World, call: Call) -> tuple[World, Answer]:
    """The store: what a call does, and its answer."""
    held = dict(world.objects)
    match call.verb:
        case "get" | "look":
            return world, Found(held[call.name]) if call.name in held else Absent()
        case "delete":
            for name in (call.name, *call.also):
                held.pop(name, None)
            return world._replace(objects=frozenset(held.items())), Done()
        case "create":
            if call.name in held:
                return world, Taken()
            held[call.name] = call.value
            world = world._replace(objects=frozenset(held.items()))
            return (note(world, call.name, call.value) if isinstance(call.value, Entry) else world), Done()


def note(world: World, name: Name, entry: Entry) -> World:
    """An entry was created: as the first of its name, or again."""
    logs = dict(world.first)
    first = logs.get(name.log, ())
    if dict(world.objects).get(MANIFEST) != LOG_OF[entry.writer].id.encode():
        return world if entry in first else world._replace(void=world.void | {entry})  # else it is late, and was kept before
    if name.number > len(first):
        raise Wrong(f"entry {name.number} was created, entry {len(first)} never was")
    if name.number == len(first):
        logs[name.log] = (*first, entry)
    return world._replace(first=tuple(logs.items()))


def after(world: World) -> Iterator[World]:
    """Every world that can be next."""
    for call in world.late:
        yield act(world, call)[0]._replace(late=world.late - {call})
    for ix, process in enumerate(world.processes):
        if process.step is None:
            continue

        def become(world: World, process: Process, ix: int = ix) -> World:
            return world._replace(processes=(*world.processes[:ix], process, *world.processes[ix + 1 :]))

        if isinstance(process, Remover):
            if process.step == "remove":
                yield become(world._replace(objects=frozenset()), Remover("make"))
            else:
                made = frozenset({*world.objects, (MANIFEST, NEW.id.encode())})
                yield become(world._replace(objects=made), writer("N", looks=True))
            continue
        call, known = process.wants(), process

        def heard(world: World, answer: Answer, become: Any = become, process: Any = known) -> World:
            told: World = become(world, process.told(answer))
            return told

        done, answer = act(world, call)
        yield heard(done, answer)
        if call.also and world.stops:
            for name in (call.name, *call.also):
                yield heard(act(world, Call("delete", name))[0], Unknown())
        if world.losses:
            poorer = world.losses - 1
            yield heard(world, Unknown())._replace(losses=poorer)
            if call.verb in ("create", "delete"):
                yield heard(done, Unknown())._replace(losses=poorer)
                yield heard(world, Unknown())._replace(losses=poorer, late=world.late | {call})


@cache  # there are far fewer logs than worlds
def check_log(objects: frozenset[tuple[Name, Any]], first: tuple[Entry, ...], log: Log) -> None:
    """What was once created is read for good, at its place; and the writers stand in it one after another."""
    held = dict(objects)
    epoch, writer = 0, ""
    for number, entry in enumerate(first):
        segment = held.get(log.segment(number // BLOCK))
        read = segment[number % BLOCK] if segment is not None else held.get(log.entry(number))
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
    logs, manifest = dict(world.first), dict(world.objects).get(MANIFEST)
    for log in (OLD, NEW):
        if manifest == log.id.encode():
            check_log(world.objects, logs.get(log.entry(0).log, ()), log)
    for process in world.processes:
        if isinstance(process, Writer):
            truth = logs.get(process.log.entry(0).log, ())
            begin = Entry(process.begun.epoch, process.name, True, b"")
            for number, entry in ((process.begun.number - 1, begin), *process.acknowledged):
                if entry in world.void:
                    raise Wrong(f"{process.name} was told that entry {number} is kept; its store is another one's")
                if number >= 0 and truth[number : number + 1] != (entry,):
                    raise Wrong(f"{process.name} was told that entry {number} is kept; it is not in the log")
        if isinstance(process, Writer | Reader):
            truth = logs.get((process.log if isinstance(process, Writer) else OLD).entry(0).log, ())
            if process.seen != truth[: len(process.seen)]:
                raise Wrong(f"{process.seen} was read; the log is {truth}")


def explore(
    losses: int, *, writers: str = "AB", reader: str | None = None, merges: bool = False, with_remover: bool = False
) -> tuple[int, set[int]]:
    """Look at every world there can be. How many there were, and how many entries were acknowledged in those at the end."""
    check_log.cache_clear()
    processes: list[Process] = [writer(name, merges=merges, looks=with_remover) for name in writers]
    processes.append(Deleter(Merge(0, OLD)))
    if reader:
        first = Follow(0, OLD, phase="segment" if reader == "segments first" else "read")
        processes.append(Reader(first, is_ahead=reader == "ahead").begun())
    if with_remover:
        processes.append(Remover())
    start = World(tuple(processes), frozenset({(MANIFEST, OLD.id.encode())}), (), frozenset(), losses, stops=losses < 2)
    known, ahead, acknowledged = {start}, [start], set()
    while ahead:
        world = ahead.pop()
        check(world)
        if all(process.step is None for process in world.processes):
            acknowledged.add(sum(len(p.acknowledged) for p in world.processes if isinstance(p, Writer)))
            if any(isinstance(p, Writer) and p.name == "N" and p.appends < APPENDS for p in world.processes):
                raise Wrong("N was refused in a log that nobody else opened")
        for each in after(world):
            if each not in known:
                known.add(each)
                ahead.append(each)
    return len(known), acknowledged


@pytest.mark.parametrize(
    ("losses", "reader", "merges", "worlds"),
    [
        (0, "in order", False, 30_000),
        (0, "ahead", False, 30_000),
        (0, "segments first", False, 30_000),
        (1, None, True, 100_000),
        pytest.param(2, None, False, 140_000, marks=pytest.mark.everywhere("it takes as long as all the others together")),
    ],
)
def test_whatever_is_late_lost_or_stalled_the_log_is_one(losses: int, reader: str | None, merges: bool, worlds: int) -> None:
    seen, acknowledged = explore(losses, reader=reader, merges=merges)

    assert seen > worlds
    assert acknowledged == {2, 3, 4}  # an older writer gets through all, a part or nothing before it is refused


def test_a_store_that_is_removed_and_made_anew_is_no_matter_to_the_new_one_and_its_old_writer_is_told() -> None:
    seen, acknowledged = explore(1, writers="A", with_remover=True)

    assert seen > 3_000
    assert acknowledged == {APPENDS, APPENDS + 1, 2 * APPENDS}  # N always gets through; A as far as it had come


def test_a_writer_with_no_other_is_never_refused_whatever_is_lost_and_merged() -> None:
    seen, acknowledged = explore(3, writers="A", merges=True)

    assert seen > 1000
    assert acknowledged == {APPENDS}


# Planted bugs: what the exploration is worth

put, follow, merge, opened = Put.told, Follow.told, Merge.told, Open.told


def put_without_a_look(step: Put, answer: Answer) -> Put | Kept | Lost | Gone:
    after = put(step, answer)
    return Kept() if isinstance(after, Put) and after.phase == "look" else after


def put_that_looked_before(step: Put, answer: Answer) -> Put | Kept | Lost | Gone:
    """As if the look at the boundary came before the create: nothing is looked at after it."""
    if step.phase == "create" and isinstance(answer, Done):
        return Kept()
    return put(step, answer)


def put_that_takes_what_stands_there_for_its_own(step: Put, answer: Answer) -> Put | Kept | Lost | Gone:
    return step._replace(phase="look") if step.phase == "create" and isinstance(answer, Taken) else put(step, answer)


def put_that_takes_silence_for_yes(step: Put, answer: Answer) -> Put | Kept | Lost | Gone:
    return step._replace(phase="look") if step.phase == "create" and isinstance(answer, Unknown) else put(step, answer)


def open_without_a_beginning(step: Open, answer: Answer) -> Open | Begun | Gone:
    after = opened(step, answer)
    if isinstance(after, Open) and isinstance(after.step, Put):
        return Begun(after.epoch + 1, after.number)
    return after


def open_that_keeps_the_epoch(step: Open, answer: Answer) -> Open | Begun | Gone:
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
        (Put, put_that_takes_silence_for_yes, 1, "never was|it is not in the log"),
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
        explore(losses, reader="in order" if steps is Follow else None)


def test_a_merge_that_does_not_wait_for_the_next_block_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Merge, "told", merge_of_what_is_there)

    _, acknowledged = explore(0, writers="A")

    assert min(acknowledged) < APPENDS


def put_that_never_looks_at_the_manifest(step: Put, answer: Answer) -> Put | Kept | Lost | Gone:
    after = put(step, answer)
    return Kept() if isinstance(after, Put) and after.phase == "manifest" else after


def test_a_writer_that_never_looks_at_the_manifest_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Put, "told", put_that_never_looks_at_the_manifest)

    with pytest.raises(Wrong, match="its store is another one's"):
        explore(0, writers="A", with_remover=True)


def test_names_that_do_not_say_which_log_they_are_of_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Log, "entry", lambda log, number: Name("entry", number))

    with pytest.raises(Wrong, match=r"N was refused|was read; the log is|is read there"):
        explore(0, writers="A", with_remover=True)
