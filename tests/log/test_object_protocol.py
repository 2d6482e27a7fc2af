"""docs/object-log.md, checked: every order of every call of two writers, a deleter and a reader, to a stated bound.

The steps are the product's (`ensemble.log.objects.protocol`); the store is a model of one. Any call may be answered, or its
answer is lost: before it took effect, after it did, or it takes effect at any time later. A delete of several may stop after
any of them (where fewer than two answers are lost: the worlds are many). A crash needs no step of its own: every state is
looked at, and in each anybody may have made its last call.
Packs are walked through by themselves, over a log that is written already: what they add depends on names of blocks only.
Bound: blocks of two entries; each writer opens the log, appends twice and, in some cases, merges the first block if it knows it
whole; the deleter merges that block; so many answers lost as a case says. In one case somebody removes the store, all of it at
once, and makes another there; only there writers look at the manifest, since elsewhere it says always the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest

from ensemble.log.objects.protocol import (
    MANIFEST,
    STUB,
    Absent,
    Answer,
    Begun,
    Behind,
    Call,
    Done,
    Entry,
    Find,
    Follow,
    Found,
    Gone,
    Held,
    Kept,
    Log,
    Lost,
    Merge,
    Merged,
    Name,
    Open,
    Overtaken,
    Put,
    Replace,
    Replaced,
    Seen,
    Taken,
    Unknown,
    Unpacked,
    Unripe,
)  # fmt: skip
from tests.log.interleavings import Wrong, asked, took_effect_late, walk

BLOCK = 2
APPENDS = 2
OLD, NEW = Log("old", BLOCK), Log("new", BLOCK)
LOG_OF = {"A": OLD, "B": OLD, "N": NEW}
"""Which log each writer opens."""


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
            case Lost() | Gone() | Merged() | Unripe() | Behind():
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


class Packed(NamedTuple):
    """What a pack of this model holds: whole entries, and by whom something was taken out."""

    entries: tuple[Entry, ...]
    taken: frozenset[str]
    generation: int = 0
    is_past: bool = False


class Packer(NamedTuple):
    """Packs what it is told to, one after the other: a block, or all that is before one. Each time it takes something out."""

    name: str
    jobs: tuple[tuple[str, int], ...]
    step: Find | Follow | Replace | None
    held: Held | None = None
    """What it takes up: the pack of the block, or of what is past."""
    first: int = 0
    """The first block that it adds."""
    blocks: tuple[tuple[Entry, ...], ...] = ()
    taken: frozenset[str] = frozenset()
    loose: tuple[int, ...] = ()
    """Blocks that were never merged."""
    done: tuple[tuple[str, int, str], ...] = ()
    """What it was told that it counts: what, up to which block, with what of it taken out."""
    number: int = 0
    """How many it has tried."""

    def wants(self) -> Call:
        assert self.step is not None
        return self.step.wants()

    def told(self, answer: Answer) -> Packer:
        assert self.step is not None
        after = self.step.told(answer)
        kind, until = self.jobs[0]
        block = self.first + len(self.blocks)
        match after:
            case Find() | Follow() | Replace():
                return self._replace(step=after)
            case Held(data=data) if kind == "past" and data.is_past:
                if after.end > until:  # nothing is left to do
                    return self._next()
                if after.end == until:
                    return self._put(data, after)
                return self._replace(held=after, first=after.end, blocks=(), step=Find(after.end, OLD))
            case Held(data=data) if kind == "pack":
                return self._next() if data.is_past else self._put(data, after)
            case Held(data=data):
                return self._add(data.entries, data.taken)
            case Unpacked():
                return self._replace(step=Follow(block * BLOCK, OLD, phase="segment"))
            case Seen() if after.is_packed:
                return self._replace(step=Find(block, OLD))
            case Seen():
                loose = () if after.is_merged else (block,)
                return self._replace(loose=self.loose + loose)._add(after.entries, frozenset())
            case Replaced():
                assert isinstance(self.step, Replace)
                mark = f"{self.name}{self.number}"
                return self._replace(done=(*self.done, (kind, until, mark)))._next()
            case Overtaken():
                return self._next()
        raise AssertionError(f"{after} is no step")

    def _add(self, entries: tuple[Entry, ...], taken: frozenset[str]) -> Packer:
        kind, until = self.jobs[0]
        if kind == "pack":
            return self._put(Packed(entries, taken), None)
        more = self._replace(blocks=(*self.blocks, entries), taken=self.taken | taken)
        block = more.first + len(more.blocks)
        if block < until:
            return more._replace(step=Find(block, OLD))
        known = more.held.data if more.held is not None else Packed((), frozenset())
        return more._put(Packed(sum(more.blocks, known.entries), known.taken | more.taken), more.held)

    def _put(self, what: Packed, before: Held | None) -> Packer:
        """Put a pack of this in place, of the generation after that of the one before."""
        kind, until = self.jobs[0]
        generation = 1 if before is None else before.data.generation + 1
        name = OLD.past(generation) if kind == "past" else OLD.pack(until, generation)
        first, end = (0, until) if kind == "past" else (until, until + 1)
        new = range(first if kind == "pack" or before is None else before.end, end)
        taken = what.taken | {f"{self.name}{self.number}"}
        held = Held(first, end, Packed(what.entries, taken, generation, kind == "past"))
        older: tuple[Name, ...] = () if before is None else (name._replace(generation=generation - 1),)
        if kind == "past":
            older += tuple(OLD.pack(block, generation) for block in new for generation in (1, 2, 3))
        older += tuple(OLD.entry(n) for block in self.loose for n in range(block * BLOCK, block * BLOCK + BLOCK))
        return self._replace(step=Replace(name, OLD, held, tuple(new), older))

    def _next(self) -> Packer:
        return packer(self.name, *self.jobs[1:])._replace(done=self.done, number=self.number + 1)


def packer(name: str, *jobs: tuple[str, int]) -> Packer:
    first = jobs[0][1] if jobs and jobs[0][0] == "pack" else 0
    return Packer(name, jobs, Find(first, OLD) if jobs else None, first=first)


class Looker(NamedTuple):
    """Reads one block, once: where it looks first for a pack, or for its segment, as who knows nothing of packs."""

    block: int
    step: Find | Follow | None
    begins: frozenset[tuple[str, int, str]] | None = None
    """What was said to count when it began."""
    seen: tuple[Entry, ...] | Held | None = None

    def wants(self) -> Call:
        assert self.step is not None
        return self.step.wants()

    def told(self, answer: Answer) -> Looker:
        assert self.step is not None
        after = self.step.told(answer)
        match after:
            case Find() | Follow():
                return self._replace(step=after)
            case Seen() if after.is_packed:
                return self._replace(step=Find(self.block, OLD), seen=())
            case Unpacked() if self.seen == ():
                raise Wrong(f"block {self.block} has a stub, and no pack was found")
            case Unpacked():
                return self._replace(step=Follow(self.block * BLOCK, OLD, phase="segment"))
            case Held():
                return self._replace(step=None, seen=after)
            case Seen(entries, is_end):
                if is_end:
                    raise Wrong(f"the log seems to end in block {self.block}")
                return self._replace(step=None, seen=entries)
        raise AssertionError(f"{after} is no step")


Process = Writer | Deleter | Reader | Remover | Packer | Looker


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


@cache
def held_in(objects: frozenset[tuple[Name, Any]]) -> dict[Name, Any]:
    """The objects by their names, to look at."""
    return dict(objects)


def act(world: World, call: Call) -> tuple[World, Answer]:
    """The store: what a call does, and its answer."""
    held = held_in(world.objects)
    if call.verb in ("stub", "delete", "create"):
        held = dict(held)
    match call.verb:
        case "get" | "look":
            return world, Found(held[call.name]) if call.name in held else Absent()
        case "list":
            return world, Found(tuple(name.generation for name in held if name._replace(generation=0) == call.name))
        case "stub":
            held[call.name] = STUB
            return world._replace(objects=frozenset(held.items())), Done()
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
    if held_in(world.objects).get(MANIFEST) != LOG_OF[entry.writer].id.encode():
        return world if entry in first else world._replace(void=world.void | {entry})  # else it is late, and was kept before
    if name.number > len(first):
        raise Wrong(f"entry {name.number} was created, entry {len(first)} never was")
    if name.number == len(first):
        logs[name.log] = (*first, entry)
    return world._replace(first=tuple(logs.items()))


def said(world: World) -> frozenset[tuple[str, int, str]]:
    """What packers were told that it counts."""
    return frozenset(each for process in world.processes if isinstance(process, Packer) for each in process.done)


def after(world: World) -> Iterator[World]:
    """Every world that can be next."""
    yield from took_effect_late(world, act)
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
        if isinstance(process, Looker) and process.begins is None:
            process = process._replace(begins=said(world))
        call, known = process.wants(), process

        def heard(world: World, answer: Answer, become: Any = become, process: Any = known) -> World:
            told: World = become(world, process.told(answer))
            return told

        yield from asked(world, call, act, heard)
        if call.also and world.stops:
            for name in (call.name, *call.also):
                yield heard(act(world, Call("delete", name))[0], Unknown())


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
    logs, manifest = dict(world.first), held_in(world.objects).get(MANIFEST)
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
    held_in.cache_clear()
    processes: list[Process] = [writer(name, merges=merges, looks=with_remover) for name in writers]
    processes.append(Deleter(Merge(0, OLD)))
    if reader:
        first = Follow(0, OLD, phase="segment" if reader == "segments first" else "read")
        processes.append(Reader(first, is_ahead=reader == "ahead").begun())
    if with_remover:
        processes.append(Remover())
    start = World(tuple(processes), frozenset({(MANIFEST, OLD.id.encode())}), (), frozenset(), losses, stops=losses < 2)
    acknowledged = set()

    def look(world: World) -> None:
        check(world)
        if all(process.step is None for process in world.processes):
            acknowledged.add(sum(len(p.acknowledged) for p in world.processes if isinstance(p, Writer)))
            if any(isinstance(p, Writer) and p.name == "N" and p.appends < APPENDS for p in world.processes):
                raise Wrong("N was refused in a log that nobody else opened")

    return walk(start, after, look), acknowledged


@pytest.mark.parametrize(
    ("losses", "reader", "merges", "worlds"),
    [
        (0, "in order", False, 30_000),
        pytest.param(0, "ahead", False, 30_000, marks=pytest.mark.everywhere("much as in order")),
        pytest.param(0, "segments first", False, 30_000, marks=pytest.mark.everywhere("much as in order")),
        pytest.param(1, None, True, 100_000, marks=pytest.mark.everywhere("it takes as long as the two that read")),
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


# Packs


WRITTEN = tuple(Entry(1, "A", number == 0, b"%d" % number) for number in range(2 * BLOCK + 1))
"""The log over which packs are made: two blocks, and the first entry of the third."""


def holder(objects: dict[Name, Any], block: int) -> Held | None:
    """The pack that holds a block, by the rule: what is past, if it goes so far; else its own of the highest generation."""
    pasts = [name for name in objects if name.kind == "past"]
    past: Held | None = objects[max(pasts, key=lambda name: name.generation)] if pasts else None
    if past is not None and block < past.end:
        return past
    own = [name for name in objects if name.kind == "pack" and name.number == block]
    return objects[max(own, key=lambda name: name.generation)] if own else None


@cache
def check_packs(objects: frozenset[tuple[Name, Any]], done: frozenset[tuple[str, int, str]]) -> None:
    """Each block is held by what must hold it, whole; and what was said to be taken out is not there any more."""
    held = dict(objects)
    for block in range(2):
        truth = WRITTEN[block * BLOCK : block * BLOCK + BLOCK]
        pack, segment = holder(held, block), held.get(OLD.segment(block))
        if pack is not None:
            start = (block - pack.first) * BLOCK
            if pack.data.entries[start : start + BLOCK] != truth:
                raise Wrong(f"block {block} is not whole in {pack}")
        refuse_what_was_taken(block, pack, done)
        if pack is not None:
            continue
        if segment is not None:
            if segment != truth:
                raise Wrong(f"block {block} has the segment {segment}")
        elif any(held.get(OLD.entry(block * BLOCK + ix)) != entry for ix, entry in enumerate(truth)):
            raise Wrong(f"block {block} has lost entries")


def refuse_what_was_taken(
    block: int, pack: Held | None, done: Iterable[tuple[str, int, str]], *, is_read: bool = False
) -> None:
    """What was taken out of a block by who was told that his pack counts is not there any more.

    Who reads a block's own pack may see it again, for a moment: in a deleted generation that was made anew since he listed it.
    """
    past = {mark for kind, until, mark in done if kind == "past" and until > block}
    own = {mark for kind, until, mark in done if (kind, until) == ("pack", block)}
    if pack is None and (past or own):
        raise Wrong(f"block {block} was said to be packed, and is not")
    # What is past holds what is needed, whatever was taken out of the packs of its blocks.
    if pack is None or (is_read and not pack.data.is_past and not past):
        return
    if not (past if pack.data.is_past else past | own) <= pack.data.taken:
        raise Wrong(f"{past | own} was taken out of block {block}, and is there again")


def explore_packs(
    *packers: Packer, losses: int, lookers: Iterable[Looker] = (), merged: Iterable[int] = (0, 1), with_writer: bool = False
) -> tuple[int, set[frozenset[tuple[str, int, str]]]]:
    """Look at every world there can be. How many there were, and what was said to count in those at the end."""
    check_packs.cache_clear()
    held_in.cache_clear()
    merged = set(merged)
    objects: dict[Name, Any] = {OLD.entry(n): entry for n, entry in enumerate(WRITTEN) if n // BLOCK not in merged}
    objects |= {OLD.segment(block): WRITTEN[block * BLOCK : block * BLOCK + BLOCK] for block in merged}
    processes: list[Process] = [*packers, *lookers]
    if len(merged) < 2:
        processes.append(Deleter(Merge(1, OLD)))
    if with_writer:  # it stalled when it was to write entry 1, and another has written that since
        entry = Entry(1, "B", False, b"late")
        processes.append(Writer("B", Put(1, OLD, entry), Begun(1, 1), appends=APPENDS - 1))
    start = World(
        tuple(processes), frozenset({*objects.items(), (MANIFEST, OLD.id.encode())}), ((OLD.id, WRITTEN),), frozenset(), losses
    )
    ends = set()

    def look(world: World) -> None:
        done = said(world)
        check_packs(world.objects, done)
        check_read(world)
        if all(process.step is None for process in world.processes):
            ends.add(done)

    return walk(start, after, look), ends


def check_read(world: World) -> None:
    for process in world.processes:
        if isinstance(process, Looker) and process.step is None:
            truth = WRITTEN[process.block * BLOCK : process.block * BLOCK + BLOCK]
            seen = process.seen
            refuse_what_was_taken(process.block, seen if isinstance(seen, Held) else None, process.begins or (), is_read=True)
            if isinstance(seen, Held):
                now = holder(held_in(world.objects), process.block)
                if seen.data.is_past and (now is None or not now.data.is_past):
                    raise Wrong(f"block {process.block} was taken for past, and never was")
                start = (process.block - seen.first) * BLOCK
                seen = seen.data.entries[start : start + BLOCK]
            if seen != truth:
                raise Wrong(f"{seen} was read of block {process.block}")
        if isinstance(process, Writer) and process.acknowledged:
            raise Wrong("a writer was told that what it wrote into a merged block is kept")


def looker(block: int, *, finds: bool) -> Looker:
    return Looker(block, Find(block, OLD) if finds else Follow(block * BLOCK, OLD, phase="segment"))


@pytest.mark.parametrize(
    ("jobs", "losses", "lookers", "merged", "with_writer"),
    [
        # A block is packed again and again, by one who was replaced, too; and read, by who knows of packs and who does not.
        (((("pack", 0), ("pack", 0)), (("pack", 0),)), 0, (looker(0, finds=True),), (0, 1), False),
        (((("pack", 0), ("pack", 0)), (("pack", 0),)), 0, (looker(0, finds=False),), (0, 1), False),
        pytest.param(
            ((("pack", 0), ("pack", 0)), (("pack", 0),)),
            0,
            (looker(0, finds=True), looker(0, finds=False)),
            (0, 1),
            True,
            marks=pytest.mark.everywhere("it takes as long as all the others together"),
        ),
        (((("pack", 0), ("pack", 0)), (("pack", 0),)), 1, (), (0, 1), False),
        # What is past grows, while who was replaced packs a block of it, or has it grow further.
        (((("past", 1), ("past", 2)), (("pack", 0), ("pack", 1))), 0, (looker(0, finds=True),), (0, 1), False),
        (((("past", 1), ("past", 1)), (("past", 2),)), 1, (), (0, 1), False),
        # A block that was never merged is packed, beside who merges it.
        (((("past", 2),), (("pack", 1),)), 0, (), (0,), False),
        pytest.param(((("past", 2),), (("pack", 1),)), 1, (), (0,), False, marks=pytest.mark.everywhere("with lost answers")),
        (((("pack", 1),),), 0, (looker(1, finds=False),), (0,), True),
    ],
)
def test_whoever_packs_blocks_and_whoever_reads_them_all_is_held_once_and_for_good(
    jobs: Any, losses: int, lookers: Any, merged: Any, with_writer: bool
) -> None:
    packers = [packer(name, *each) for name, each in zip("XY", jobs, strict=False)]

    seen, ends = explore_packs(*packers, losses=losses, lookers=lookers, merged=merged, with_writer=with_writer)

    assert seen > 500
    assert any(ends)


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


def open_without_a_beginning(step: Open, answer: Answer) -> Open | Begun | Gone | Behind:
    after = opened(step, answer)
    if isinstance(after, Open) and isinstance(after.step, Put):
        return Begun(after.epoch + 1, after.number)
    return after


def open_that_keeps_the_epoch(step: Open, answer: Answer) -> Open | Begun | Gone | Behind:
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


replace, find = Replace.told, Find.told


def replace_without_a_look(step: Replace, answer: Answer) -> Replace | Replaced | Overtaken:
    after = replace(step, answer)
    return after._next() if isinstance(after, Replace) and after.phase == "list" else after


def replace_that_takes_what_stands_there_for_its_own(step: Replace, answer: Answer) -> Replace | Replaced | Overtaken:
    return step._replace(phase="list") if step.phase == "create" and isinstance(answer, Taken) else replace(step, answer)


def replace_that_deletes_first(step: Replace, answer: Answer) -> Replace | Replaced | Overtaken:
    after = replace(step, answer)
    if isinstance(after, Replace) and step.phase == "list" and after.phase == "stub" and after.older:
        return after._replace(phase="delete")
    if step.phase == "delete" and isinstance(after, Replaced) and step.blocks:
        return step._replace(phase="stub", older=())
    return after


def find_that_believes_what_is_past(step: Find, answer: Answer) -> Find | Held | Unpacked:
    after = find(step, answer)
    if isinstance(after, Find) and after.phase == "list the past again" and after.held is not None:
        return after.held if after.block < after.held.end else after._own()
    return after


@pytest.mark.parametrize(
    ("steps", "bug", "why"),
    [
        (Find, find_that_believes_what_is_past, "was taken for past"),
        (Replace, replace_without_a_look, "is not whole|lost entries|has the segment|is not"),
        (Replace, replace_that_takes_what_stands_there_for_its_own, "is there again|is not whole|is not"),
        (Replace, replace_that_deletes_first, "the log seems to end|was read of block|no pack was found|is kept"),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_a_planted_bug_in_packing_is_found(monkeypatch: pytest.MonkeyPatch, steps: type, bug: Any, why: str) -> None:
    monkeypatch.setattr(steps, "told", bug)

    def explore_all() -> None:
        lookers = (looker(1, finds=False),)
        pasts = packer("X", ("past", 1), ("past", 1)), packer("Y", ("past", 2))
        explore_packs(*pasts, losses=0, lookers=(looker(1, finds=True),))
        explore_packs(packer("X", ("pack", 1)), losses=0, lookers=lookers, merged=(0,), with_writer=True)
        explore_packs(packer("X", ("pack", 0)), losses=0, merged=(), with_writer=True)

    with pytest.raises(Wrong, match=why):
        explore_all()


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
