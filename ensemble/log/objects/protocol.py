"""Who may do what, and when, in a log of objects: the steps of docs/object-log.md, without the store.

Owns the order of calls. Knows no store, byte, clock or thread. A step is a value: `wants()` is the call to the store that it
waits for, `told(answer)` the step after it, or what came of it. Whoever drives one makes the calls, as often as it has
patience for, and may stop at any place: that is what a crash is.

    entry n is created after entry n-1                            (no gaps)
    entry n is of the log  <=>  no segment holds its block, or the segment has it
    a block's entries are deleted only once its segment is there  (the deletion boundary)
    a segment's name, once taken, is never free again
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

BLOCK = 256
"""So many entries make a segment. It is a property of the store, and stands in its manifest."""


class Entry(NamedTuple):
    """One object of the log: what one commit made durable, or the beginning of a writer.

    `writer` is a word that no other opening of a log ever had, so that equal entries are one and the same.
    """

    epoch: int
    writer: str
    is_begin: bool
    body: bytes


Segment: TypeAlias = tuple[Entry, ...]
"""All entries of a block, in order."""


class Name(NamedTuple):
    """Of an object: entry `number`, or the segment of block `number`."""

    kind: Literal["entry", "segment"]
    number: int


class Call(NamedTuple):
    """What the store is asked. `create` fails where the name is taken; `delete` of what is not there is done.

    `look` asks whether there is such an object: `Found` then says no more than that.
    """

    verb: Literal["create", "get", "look", "delete"]
    name: Name
    value: Entry | Segment | None = None


class Done(NamedTuple):
    """It was created, or it is not there any more."""


class Taken(NamedTuple):
    """The name is taken, by whatever: also by this very call, if it was made before and its answer was lost."""


class Absent(NamedTuple):
    """There is nothing of this name."""


class Unknown(NamedTuple):
    """No answer. It may have happened, it may happen yet, or never."""


class Found(NamedTuple):
    value: Entry | Segment = ()


Answer: TypeAlias = Done | Taken | Absent | Unknown | Found


class Seen(NamedTuple):
    """Entries of the log, one after another; `is_end` if the log went no further when they were looked for."""

    entries: tuple[Entry, ...]
    is_end: bool


class Follow(NamedTuple):
    """Reading on from entry `number`, to the end of its block or of the log, or to `until`. Ends in `Seen`.

    What is read is believed only after a look at the block's segment: without one, nothing of this block was ever deleted, so
    that nobody can have created a name anew; and what is absent was not yet there.
    """

    number: int
    block: int
    run: tuple[Entry, ...] = ()
    phase: Literal["read", "look", "look at the end"] = "read"
    until: int | None = None

    def wants(self) -> Call:
        if self.phase == "read":
            return Call("get", Name("entry", self.number + len(self.run)))
        return Call("get", Name("segment", self.number // self.block))

    def told(self, answer: Answer) -> Follow | Seen:
        if isinstance(answer, Unknown):
            return self
        if self.phase == "read":
            if not isinstance(answer, Found):
                return self._replace(phase="look at the end")
            run = (*self.run, _entry(answer))
            number = self.number + len(run)
            is_full = number % self.block == 0 or number == self.until
            return self._replace(run=run, phase="look" if is_full else "read")
        if isinstance(answer, Found):
            stop = None if self.until is None else self.until - self.number + self.number % self.block
            return Seen(_segment(answer)[self.number % self.block : stop], False)
        return Seen(self.run, self.phase == "look at the end")


class Kept(NamedTuple):
    """The entry is in the log for good: now it may be acknowledged."""


class Lost(NamedTuple):
    """The place was another's. The entry is not in the log; or it is, but was not found in time to say so."""

    by: Entry | None
    """Who has the place, if that can still be told."""


class Put(NamedTuple):
    """Writing an entry at its place. Ends in `Kept` or `Lost`.

    The commit point is the create. The look at the segment comes after it: a create that succeeded where the block is
    merged already has made a deleted name anew, and means nothing.
    """

    number: int
    block: int
    entry: Entry
    phase: Literal["create", "compare", "look", "clear"] = "create"

    def wants(self) -> Call:
        name = Name("entry", self.number)
        match self.phase:
            case "create":
                return Call("create", name, self.entry)
            case "compare":
                return Call("get", name)
            case "look":
                return Call("look", Name("segment", self.number // self.block))
            case "clear":
                return Call("delete", name)

    def told(self, answer: Answer) -> Put | Kept | Lost:
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
            case _:
                return self._replace(phase="clear") if isinstance(answer, Found) else Kept()


class Begun(NamedTuple):
    """The log is ours until somebody begins after us: this epoch, and entry `number` is next."""

    epoch: int
    number: int


class Open(NamedTuple):
    """Taking the log over: read to its end, and put a beginning there. Ends in `Begun`.

    `seen` is what was read; the driver may take it out at any time. `epoch` is that of the last entry before `number`.
    """

    number: int
    epoch: int
    block: int
    writer: str
    body: bytes = b""
    seen: tuple[Entry, ...] = ()
    step: Follow | Put | None = None

    def wants(self) -> Call:
        return self._step().wants()

    def told(self, answer: Answer) -> Open | Begun:
        after = self._step().told(answer)
        match after:
            case Seen(entries, is_end):
                number = self.number + len(entries)
                epoch = entries[-1].epoch if entries else self.epoch
                begin = Put(number, self.block, Entry(epoch + 1, self.writer, True, self.body)) if is_end else None
                return self._replace(number=number, epoch=epoch, seen=self.seen + entries, step=begin)
            case Kept():
                return Begun(self.epoch + 1, self.number + 1)
            case Lost():  # another was quicker: read what it wrote
                return self._replace(step=None)
            case _:
                return self._replace(step=after)

    def _step(self) -> Follow | Put:
        return self.step or Follow(self.number, self.block)


class Merged(NamedTuple):
    """The block's segment is there, its entries are not."""


class Unripe(NamedTuple):
    """The log has not come to the next block yet."""


class Merge(NamedTuple):
    """Making block `number` a segment and deleting its entries; by anybody, any number at a time. Ends in `Merged` or `Unripe`.

    The first entry of the next block must be there: then nobody who still writes waits for a look at this block.
    What another deletes while this one reads is no matter: then the segment's name is taken.
    """

    number: int
    block: int
    run: tuple[Entry, ...] = ()
    deleted: int = 0
    phase: Literal["look", "read", "ripe", "create", "delete"] = "look"

    def wants(self) -> Call:
        segment, start = Name("segment", self.number), self.number * self.block
        match self.phase:
            case "look":
                return Call("look", segment)
            case "read" | "ripe":
                return Call("get", Name("entry", start + len(self.run)))
            case "create":
                return Call("create", segment, self.run)
            case "delete":
                return Call("delete", Name("entry", start + self.deleted))

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
                return self._replace(run=run, phase="ripe" if len(run) == self.block else "read")
            case "ripe":
                return self._replace(phase="create") if isinstance(answer, Found) else Unripe()
            case "create":  # by us or by another: it is there
                assert isinstance(answer, Done | Taken), "a create has no other answer"
                return self._replace(phase="delete")
            case "delete":
                deleted = self.deleted + 1
                return Merged() if deleted == self.block else self._replace(deleted=deleted)


def _entry(answer: Found) -> Entry:
    value: Any = answer.value
    assert isinstance(value, Entry), "an entry's name leads to an entry"
    return value


def _segment(answer: Found) -> Segment:
    assert not isinstance(answer.value, Entry), "a segment's name leads to a segment"
    return answer.value
