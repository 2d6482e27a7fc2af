"""Who may do what, and when, in a log of objects: the steps of docs/object-log.md, without the store.

Owns the order of calls. Knows no store, byte, clock or thread. A step is a value: `wants()` is the call to the store that it
waits for, `told(answer)` the step after it, or what came of it. Whoever drives one makes the calls, as often as it has
patience for, and may stop at any place: that is what a crash is.

    entry n is created after entry n-1                            (no gaps)
    entry n is of the log  <=>  no segment holds its block, or the segment has it
    a block's entries are deleted only once its segment is there  (the deletion boundary)
    a segment's name, once taken, is never free again
    of the packs of one row the one with the highest generation counts, from its create on; what it was made of is deleted only
    once the segments of its blocks are stubs   (a stub: a segment without entries)
    a name begins with its log's id                               (no other log's writer ever takes it)
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

BLOCK = 256
"""So many entries make a segment. It is a property of the store, and stands in its manifest."""


class Entry(NamedTuple):
    """One object of the log: what one commit made durable, the beginning of a writer, or its end (without a body).

    `writer` is a word that no other opening of a log ever had, so that equal entries are one and the same.
    """

    epoch: int
    writer: str
    is_begin: bool
    body: bytes

    @property
    def is_group(self) -> bool:
        """Whether it holds frames."""
        return bool(self.body) and not self.is_begin


Segment: TypeAlias = tuple[Entry, ...]
"""All entries of a block, in order."""


STUB: Segment = ()
"""What takes the place of a segment whose entries were packed: its name stays taken, and says so."""


class Name(NamedTuple):
    """Of an object: entry `number` of a log, the segment of block `number`, or the manifest, which says which log is here.

    Or of a pack: of block `number`, or of what is past, which holds all blocks from the first one on. Packs with the same name
    but for the generation are a row. Or of what is of several logs (`proposal.py`), whose word stands in the place of a log's.
    """

    kind: Literal["entry", "segment", "manifest", "pack", "past", "proposal", "decision"]
    number: int = 0
    log: str = ""
    generation: int = 0


MANIFEST = Name("manifest")


class Log(NamedTuple):
    """Which log it is, and how many entries of it make a block."""

    id: str
    block: int

    def entry(self, number: int) -> Name:
        return Name("entry", number, self.id)

    def segment(self, block: int) -> Name:
        return Name("segment", block, self.id)

    def pack(self, block: int, generation: int = 0) -> Name:
        return Name("pack", block, self.id, generation)

    def past(self, generation: int = 0) -> Name:
        return Name("past", 0, self.id, generation)

    def end_of_block(self, number: int) -> int:
        """The first entry of the block after that of entry `number`."""
        return number - number % self.block + self.block


class Call(NamedTuple):
    """What the store is asked. `create` fails where the name is taken; `delete` of what is not there is done.

    `look` asks whether there is such an object: `Found` then says no more than that. `list` asks for the generations that there
    are of a row, or for the words of all proposals. `stub` makes a segment a stub, whether there is one or not. A delete of
    several deletes them in any order, and may be broken off between any two.
    """

    verb: Literal["create", "get", "look", "list", "stub", "delete"]
    name: Name
    value: Entry | Segment | Held | bytes | None = None
    also: tuple[Name, ...] = ()
    """What is deleted with it."""


class Done(NamedTuple):
    """It was created, or it is not there any more."""


class Taken(NamedTuple):
    """The name is taken, by whatever: also by this very call, if it was made before and its answer was lost."""


class Absent(NamedTuple):
    """There is nothing of this name."""


class Unknown(NamedTuple):
    """No answer. It may have happened, it may happen yet, or never."""


class Held(NamedTuple):
    """A pack: it holds what is left of the blocks from `first` to the one before `end`."""

    first: int
    end: int
    data: Any
    """The driver's: nothing is decided by it, but for whether two packs are the same one."""


class Found(NamedTuple):
    value: Entry | Segment | Held | bytes | tuple[int | str, ...] = ()


Answer: TypeAlias = Done | Taken | Absent | Unknown | Found


class Seen(NamedTuple):
    """Entries of the log, one after another; `is_end` if the log went no further when they were looked for."""

    entries: tuple[Entry, ...]
    is_end: bool
    is_merged: bool = False
    """Whether they come from the segment: then they are all there are to the end of the block; or none: they were packed."""

    @property
    def is_packed(self) -> bool:
        return self.is_merged and not self.entries


class Follow(NamedTuple):
    """Reading on from entry `number`, to the end of its block or of the log, or to `until`. Ends in `Seen`.

    What is read is believed only after a look at the block's segment: without one, nothing of this block was ever deleted, so
    that nobody can have created a name anew; and what is absent was not yet there. The entries may be got in any order, or side
    by side, as long as the look comes after them. Who takes the block for merged begins with the segment.
    """

    number: int
    log: Log
    run: tuple[Entry, ...] = ()
    phase: Literal["segment", "read", "look", "look at the end"] = "read"
    until: int | None = None

    def wants(self) -> Call:
        if self.phase == "read":
            return Call("get", self.log.entry(self.number + len(self.run)))
        return Call("get", self.log.segment(self.number // self.log.block))

    def told(self, answer: Answer) -> Follow | Seen:
        if isinstance(answer, Unknown):
            return self
        if self.phase == "read":
            if not isinstance(answer, Found):
                return self._replace(phase="look at the end")
            run = (*self.run, _entry(answer))
            number = self.number + len(run)
            is_full = number % self.log.block == 0 or number == self.until
            return self._replace(run=run, phase="look" if is_full else "read")
        if isinstance(answer, Found):
            return Seen(_segment(answer)[self.number % self.log.block :], False, True)
        if self.phase == "segment":
            return self._replace(phase="read")
        return Seen(self.run, self.phase == "look at the end")


class Kept(NamedTuple):
    """The entry is in the log for good: now it may be acknowledged."""


class Lost(NamedTuple):
    """The place was another's. The entry is not in the log; or it is, but was not found in time to say so."""

    by: Entry | None
    """Who has the place, if that can still be told."""


class Gone(NamedTuple):
    """The manifest is not what it was: the store was removed, or made anew, or divided anew."""


class Put(NamedTuple):
    """Writing an entry at its place. Ends in `Kept`, `Lost` or `Gone`.

    The commit point is the create. The look at the segment comes after it: a create that succeeded where the block is
    merged already has made a deleted name anew, and means nothing.
    """

    number: int
    log: Log
    entry: Entry
    manifest: bytes | None = None
    """What the manifest must say before this is acknowledged; None: it is not looked at this time."""
    phase: Literal["create", "compare", "look", "manifest", "clear"] = "create"

    def wants(self) -> Call:
        name = self.log.entry(self.number)
        match self.phase:
            case "create":
                return Call("create", name, self.entry)
            case "compare":
                return Call("get", name)
            case "look":
                return Call("look", self.log.segment(self.number // self.log.block))
            case "manifest":
                return Call("get", MANIFEST)
            case "clear":
                return Call("delete", name)

    def told(self, answer: Answer) -> Put | Kept | Lost | Gone:
        if self.phase == "clear":  # whatever came of it: what is left of a merged block is read by nobody
            return Lost(None)
        if isinstance(answer, Unknown):
            return self
        match self.phase:
            case "create":
                assert isinstance(answer, Done | Taken), "a create has no other answer"
                return self._replace(phase="compare" if isinstance(answer, Taken) else "look")
            case "compare":
                if not isinstance(answer, Found):  # deleted meanwhile, so others are far ahead
                    return Lost(None)
                found = _entry(answer)
                return self._replace(phase="look") if found == self.entry else Lost(found)
            case "look":
                if isinstance(answer, Found):
                    return self._replace(phase="clear")
                return Kept() if self.manifest is None else self._replace(phase="manifest")
            case _:
                is_there = isinstance(answer, Found) and answer.value == self.manifest
                return Kept() if is_there else Gone()


class Begun(NamedTuple):
    """The log is ours until somebody begins after us: this epoch, and entry `number` is next."""

    epoch: int
    number: int


class Behind(NamedTuple):
    """The log went so far meanwhile that what comes next was packed."""


class Open(NamedTuple):
    """Taking the log over: read to its end, and put a beginning there. Ends in `Begun`, in `Gone`, or in `Behind`.

    `seen` is what was read; the driver may take it out at any time. `epoch` is that of the last entry before `number`.
    """

    number: int
    epoch: int
    log: Log
    writer: str
    manifest: bytes | None = None
    body: bytes = b""
    seen: tuple[Entry, ...] = ()
    step: Follow | Put | None = None

    def wants(self) -> Call:
        return self._step().wants()

    def at_end(self) -> Open:
        """The same, once the log has been followed to its end, `number`."""
        begin = Entry(self.epoch + 1, self.writer, True, self.body)
        return self._replace(step=Put(self.number, self.log, begin, self.manifest))

    def told(self, answer: Answer) -> Open | Begun | Gone | Behind:
        after = self._step().told(answer)
        match after:
            case Seen() if after.is_packed:
                return Behind()
            case Seen(entries, is_end):
                number = self.number + len(entries)
                epoch = entries[-1].epoch if entries else self.epoch
                further = self._replace(number=number, epoch=epoch, seen=self.seen + entries, step=None)
                return further.at_end() if is_end else further
            case Kept():
                return Begun(self.epoch + 1, self.number + 1)
            case Lost():  # another was quicker: read what it wrote
                return self._replace(step=None)
            case Gone():
                return after
            case _:
                return self._replace(step=after)

    def _step(self) -> Follow | Put:
        return self.step or Follow(self.number, self.log)


class Merged(NamedTuple):
    """The block's segment is there, its entries are not."""


class Unripe(NamedTuple):
    """The log has not come to the next block yet."""


class Merge(NamedTuple):
    """Making block `number` a segment and deleting its entries; by anybody, any number at a time. Ends in `Merged` or `Unripe`.

    The first entry of the next block must be there: then nobody who still writes waits for a look at this block.
    What another deletes while this one reads is no matter: then the segment's name is taken. Who knows all entries of the block
    for certain, and that the next block has begun, may give `run` and begin with the create.
    """

    number: int
    log: Log
    run: Segment = ()
    phase: Literal["look", "read", "ripe", "create", "delete"] = "look"

    def wants(self) -> Call:
        start = self.number * self.log.block
        match self.phase:
            case "look":
                return Call("look", self.log.segment(self.number))
            case "read":
                return Call("get", self.log.entry(start + len(self.run)))
            case "ripe":
                return Call("look", self.log.entry(start + self.log.block))
            case "create":
                return Call("create", self.log.segment(self.number), self.run)
            case "delete":
                first, *others = (self.log.entry(start + ix) for ix in range(self.log.block))
                return Call("delete", first, also=tuple(others))

    def told(self, answer: Answer) -> Merge | Merged | Unripe:
        if isinstance(answer, Unknown):
            return self
        match self.phase:
            case "look":
                return self._replace(phase="delete" if isinstance(answer, Found) else "read")
            case "read":
                if not isinstance(answer, Found):
                    return Unripe()
                run = (*self.run, _entry(answer))
                return self._replace(run=run, phase="ripe" if len(run) == self.log.block else "read")
            case "ripe":
                return self._replace(phase="create") if isinstance(answer, Found) else Unripe()
            case "create":  # by us or by another: it is there
                assert isinstance(answer, Done | Taken), "a create has no other answer"
                return self._replace(phase="delete")
            case "delete":
                return Merged()


class Unpacked(NamedTuple):
    """No pack held the block when it was looked for."""


class Find(NamedTuple):
    """Finding the pack that holds a block. Ends in `Held` or `Unpacked`.

    Its own packs are listed before what is past: who takes blocks into the past deletes their packs after that, so one of the
    two is found. What was deleted since it was listed is looked for anew. What is past is believed only if a list after it was
    got shows it still: else it might be a deleted generation that was made anew, and reach further than what counts. (A block's
    own pack that was made anew so is of that block, and true; it holds what was taken out since.)
    """

    block: int
    log: Log
    own: int = 0
    """The highest generation of its own packs, once they were listed; 0: there is none."""
    past: int = 0
    held: Held | None = None
    """What is past, once it was got."""
    phase: Literal["list", "list the past", "get the past", "list the past again", "get"] = "list"

    def wants(self) -> Call:
        match self.phase:
            case "list":
                return Call("list", self.log.pack(self.block))
            case "list the past" | "list the past again":
                return Call("list", self.log.past())
            case "get the past":
                return Call("get", self.log.past(self.past))
            case "get":
                return Call("get", self.log.pack(self.block, self.own))

    def told(self, answer: Answer) -> Find | Held | Unpacked:
        if isinstance(answer, Unknown):
            return self
        match self.phase:
            case "list":
                return self._replace(own=_highest(answer), phase="list the past")
            case "list the past":
                past = _highest(answer)
                return self._replace(past=past, phase="get the past") if past else self._own()
            case "get the past":
                if not isinstance(answer, Found):
                    return Find(self.block, self.log)
                return self._replace(held=_held(answer), phase="list the past again")
            case "list the past again":
                if self.held is None or _highest(answer) != self.past:
                    return Find(self.block, self.log)
                return self.held if self.block < self.held.end else self._own()
            case "get":
                return _held(answer) if isinstance(answer, Found) else Find(self.block, self.log)

    def _own(self) -> Find | Unpacked:
        return self._replace(phase="get") if self.own else Unpacked()


class Replaced(NamedTuple):
    """The pack counts, and what it was made of is gone."""


class Overtaken(NamedTuple):
    """The pack means nothing: another has the name, or there is one of a higher generation."""


class Replace(NamedTuple):
    """Putting a pack in the place of what it was made of. Ends in `Replaced` or `Overtaken`.

    It was made of what counted, and is of the generation after that. The commit point is the create. Only then are the segments
    of `blocks` made stubs, then `older` deleted: packs that were made part of it, entries of blocks that were never merged. The
    look at its row comes after the create: a generation that was deleted can be created anew by who stalled, and means nothing.
    The block after the last must have begun.
    """

    name: Name
    log: Log
    held: Held
    blocks: tuple[int, ...]
    older: tuple[Name, ...] = ()
    phase: Literal["create", "compare", "list", "stub", "delete", "clear"] = "create"

    def wants(self) -> Call:
        match self.phase:
            case "create":
                return Call("create", self.name, self.held)
            case "compare":
                return Call("get", self.name)
            case "list":
                return Call("list", self.name._replace(generation=0))
            case "stub":
                return Call("stub", self.log.segment(self.blocks[0]))
            case "delete":
                return Call("delete", self.older[0], also=self.older[1:])
            case "clear":
                return Call("delete", self.name)

    def told(self, answer: Answer) -> Replace | Replaced | Overtaken:
        if self.phase == "clear":  # what is left of it counts for nothing
            return Overtaken()
        if isinstance(answer, Unknown):
            return self
        match self.phase:
            case "create":
                assert isinstance(answer, Done | Taken), "a create has no other answer"
                return self._replace(phase="compare" if isinstance(answer, Taken) else "list")
            case "compare":
                is_ours = isinstance(answer, Found) and _held(answer) == self.held
                return self._replace(phase="list") if is_ours else Overtaken()
            case "list":
                if _highest(answer) > self.name.generation:
                    return self._replace(phase="clear")
                return self._next()
            case "stub":
                return self._replace(blocks=self.blocks[1:])._next()
            case "delete":
                return Replaced()

    def _next(self) -> Replace | Replaced:
        if self.blocks:
            return self._replace(phase="stub")
        return self._replace(phase="delete") if self.older else Replaced()


def _highest(answer: Answer) -> int:
    assert isinstance(answer, Found), "a list is always answered"
    generations: Any = answer.value
    return max(generations, default=0)


def _held(answer: Found) -> Held:
    value: Any = answer.value
    assert isinstance(value, Held), "a pack's name leads to a pack"
    return value


def _entry(answer: Found) -> Entry:
    value: Any = answer.value
    assert isinstance(value, Entry), "an entry's name leads to an entry"
    return value


def _segment(answer: Found) -> Segment:
    value: Any = answer.value
    assert isinstance(value, tuple) and not isinstance(value, Entry | Held), "a segment's name leads to a segment"
    return value
