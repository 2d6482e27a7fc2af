"""A motif made ready to be listened for: what does not change while it is.

Owns how a motif becomes nodes. A leaf is a topic of the motif, and has a number; which leaves an event fits is a set of bits,
worked out once an event. Bit 0 stands for the event itself, whatever it fits: only strict neighbours (`next:`) want that.

A count is a sequence of one step that is taken several times; a simple part, be it a list, is a `Choice` of leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from ensemble.event import EPOCH, Event, Rows, decode
from ensemble.motif import (
    PLAIN,
    UNBOUNDED,
    AllOf,
    AnyOf,
    Count,
    How,
    Maybe,
    Motif,
    Next,
    Not,
    Seq,
    Topic,
    Window,
    document,
    is_soft,
    leaves,
    matches,
    tells_time,
    walk,
)
from ensemble.score.condition import comparison, condition, names
from ensemble.score.vocabulary import key_text

ANY = 1
"""The bit that every event has."""

NO_END = 1 << 62
"""More than any number of times, and later than any moment."""

_MICROSECOND = timedelta(microseconds=1)

Ask = Callable[[Event | None, Mapping[str, Any]], bool]
Path = Callable[[Event], str | None]


class Item:
    """One event on its way through the patterns of a key."""

    __slots__ = ("_event", "bits", "ix", "offset", "rows", "time_us")

    def __init__(self, rows: Rows, ix: int, bits: int, time_us: int) -> None:
        self.rows, self.ix, self.bits, self.time_us = rows, ix, bits, time_us
        self.offset = rows.offset(ix)
        self._event: Event | None = None

    @property
    def event(self) -> Event:
        if self._event is None:
            self._event = self.rows.event(self.ix)
        return self._event


class Kept:
    """An event that later conditions speak of: what they may ask of it."""

    __slots__ = ("_shown", "key", "payload", "time_us", "topic", "version")

    def __init__(self, time_us: int, key: str, topic: str, payload: bytes, version: int = 1) -> None:
        self.time_us, self.key, self.topic, self.payload, self.version = time_us, key, topic, payload, version
        self._shown: dict[str, Any] | None = None

    @classmethod
    def of(cls, event: Event) -> Kept:
        return cls((event.time - EPOCH) // _MICROSECOND, event.key, event.topic, event.payload, event.version)

    def shown(self) -> dict[str, Any]:
        """As a condition sees it."""
        if self._shown is None:
            when = EPOCH + self.time_us * _MICROSECOND
            self._shown = {"data": _decoded(self.payload), "key": self.key, "topic": self.topic, "time": when}
        return self._shown

    def dump(self) -> list[Any]:
        return [self.time_us, self.key, self.topic, self.payload, self.version]


Bound = dict[str, "Kept | list[Kept]"]
"""The events that later conditions speak of, by label."""


class Leaf(msgspec.Struct):
    """One topic of a motif."""

    number: int
    pattern: str
    where: Callable[[Event], bool] | None = None
    """A condition on the event alone."""
    ask: Ask | None = None
    """A condition on it and on the labels before it."""
    label: str | None = None
    is_many: bool = False
    """Whether several events may have its label."""
    is_kept: bool = False
    """Whether a later condition speaks of it."""

    @property
    def bit(self) -> int:
        return 2 << self.number


class Choice:
    """A simple part: one event, which fits any of these leaves."""

    __slots__ = ("bits", "leaves", "only")

    def __init__(self, parts: Sequence[Leaf]) -> None:
        self.leaves = tuple(parts)
        self.bits = _together(leaf.bit for leaf in parts)
        self.only = parts[0] if len(parts) == 1 and parts[0].ask is None else None
        """The leaf, where there is one and the event's bits say all."""

    def pick(self, bits: int, item: Item, bound: Bound | None) -> Leaf | None:
        """The first leaf that an event with these bits fits."""
        for leaf in self.leaves:
            if bits & leaf.bit and (leaf.ask is None or leaf.ask(item.event, _with_itself(leaf, item.event, bound))):
                return leaf
        return None


class Step(msgspec.Struct):
    """A part of a sequence: what, how often, and what must not come before it."""

    target: Target
    least: int = 1
    most: int = 1
    without: Target | None = None
    is_next: bool = False


class Stage(msgspec.Struct):
    """What a sequence waits for at one place."""

    awaited: tuple[tuple[int, Target], ...]
    """The steps any of which may be taken, in the order written."""
    without: Target | None
    is_next: bool
    may_end: bool
    """Whether it is complete when its time is over."""
    wants: int
    """The bits that change something here."""
    has_below: bool
    """Whether patterns are awaited here, and not single events."""
    quick: tuple[int, int, int, Stage | None] | None = None
    """Where one event is awaited and its bits say all: these, its leaf, the step, and the stage after it (None: complete)."""


class Node(msgspec.Struct, kw_only=True):
    """What all patterns share."""

    width: int
    """How many leaves the whole motif has: a leaf that took an event is noted as offset * width + number."""
    bits: int = 0
    """All that can matter to it."""
    starts: int = 0
    """What it may begin with."""
    within_us: int = NO_END
    by: Path | None = None
    """What its events have in common beside the key."""
    ask: Ask | None = None
    can_merge: bool = False
    """Whether of two partial matches at the same place the later can never be heard before the earlier."""
    is_single: bool = False
    """Whether none begins while one is open."""


class SeqNode(Node, kw_only=True):
    steps: tuple[Step, ...]
    absent: Target | None = None
    """What must not come until its time is over."""
    stages: tuple[tuple[Stage, Stage, Stage], ...] = ()
    """By step: when it must be taken again, may be, and may not."""
    is_quick: bool = False
    """Whether that is so in all of its stages, with nothing to ask."""


class AllNode(Node, kw_only=True):
    parts: tuple[Target, ...]
    needed: int
    """The parts that must be there, as bits."""


class AnyNode(Node, kw_only=True):
    parts: tuple[Target, ...]


class WindowNode(Node, kw_only=True):
    of: Choice
    every_us: int = 0
    sliding_us: int = 0
    gap_us: int = 0


Target = Choice | SeqNode | AllNode | AnyNode | WindowNode


class Pattern:
    """A composite motif made ready. `topic` is that of its matches; `said` are the topics of all motifs' matches."""

    def __init__(self, motif: Motif, topic: str, said: frozenset[str] = frozenset()) -> None:
        self.motif = motif
        self.topic = topic
        self.document = document(motif)
        how: How = getattr(motif, "how", PLAIN)
        self.how = how
        self.tells_time = tells_time(motif) and how.time == "broker"
        """Whether the broker has to be woken for it: a match may be complete with no event."""
        self._said = said | {topic}
        maker = _Maker(motif)
        by = getattr(motif, "by", None)
        self.by: Path | None = None if by is None else path(by)
        root = maker.target(motif, is_top=True)
        assert not isinstance(root, Choice), "a simple motif is heard as it is"
        self.root = root
        self.leaves = tuple(maker.leaves)
        self.width = len(self.leaves)
        self._judges: dict[str, tuple[int, tuple[tuple[int, Callable[[Event], bool]], ...]] | None] = {}

    def judge(self, topic: str) -> tuple[int, tuple[tuple[int, Callable[[Event], bool]], ...]] | None:
        """The bits of every event of a topic, and those that a condition decides; None: it does not concern the motif."""
        if topic not in self._judges:
            fitting = [leaf for leaf in self.leaves if self._fits(leaf.pattern, topic)]
            sure = ANY | _together(leaf.bit for leaf in fitting if leaf.where is None)
            asked = tuple((leaf.bit, leaf.where) for leaf in fitting if leaf.where is not None)
            self._judges[topic] = (sure, asked) if fitting else None
        return self._judges[topic]

    def _fits(self, pattern: str, topic: str) -> bool:
        """Wildcards don't fit the matches of motifs: else two of these could hear each other for ever."""
        return pattern == topic != self.topic if topic in self._said else matches(pattern, topic)

    def needs(self) -> frozenset[str]:
        """The topics that it names as they are: those of other motifs among them."""
        return frozenset(leaf.pattern for leaf in self.leaves)


class _Maker:
    """Makes the nodes of one motif. Leaves get their numbers in the order in which they are written."""

    def __init__(self, motif: Motif) -> None:
        labels = frozenset(topic.label for topic in walk(motif) if topic.label is not None)
        self._labels = labels
        self._asked = frozenset(label for text in _conditions(motif) for label in names(text, labels))
        self.leaves: list[Leaf] = []
        self.width = sum(1 for _ in walk(motif))

    def target(self, motif: Motif, *, is_many: bool = False, is_top: bool = False) -> Target:
        simple = leaves(motif)
        if simple is not None:
            return Choice([self._leaf(topic, is_many=is_many) for topic in simple])
        match motif:
            case Seq():
                return self._seq(motif, is_many=is_many, is_top=is_top)
            case Count():
                return self._count(motif, is_top=is_top)
            case AllOf():
                return self._all(motif, is_many=is_many, is_top=is_top)
            case AnyOf():
                parts = tuple(self.target(part, is_many=is_many) for part in motif.parts)
                return AnyNode(width=self.width, bits=_all_bits(parts), starts=_together(map(starts_of, parts)), parts=parts)
            case Window():
                return self._window(motif, is_top=is_top)
        raise AssertionError(f"{motif} stands where it can't")

    def _leaf(self, topic: Topic, *, is_many: bool) -> Leaf:
        where, ask = topic.where, None
        if where is not None and names(where, self._labels):
            where, ask = None, comparison(where, self._labels)
        leaf = Leaf(
            len(self.leaves),
            topic.pattern,
            None if where is None else condition(where),
            ask,
            topic.label,
            is_many,
            topic.label in self._asked,
        )
        self.leaves.append(leaf)
        return leaf

    def _shared(self, motif: Seq | AllOf | Count | Window, *, is_top: bool) -> dict[str, Any]:
        where = getattr(motif, "where", None)
        return {
            "width": self.width,
            "within_us": motif.within_us or NO_END,
            "by": None if motif.by is None or is_top else path(motif.by),
            "ask": None if where is None else comparison(where, self._labels),
        }

    def _seq(self, motif: Seq, *, is_many: bool, is_top: bool) -> SeqNode:
        steps: list[Step] = []
        without: Target | None = None
        for part in motif.parts:
            if isinstance(part, Not):
                without = self.target(part.part)
            else:
                steps.append(self._step(part, without, is_many=is_many))
                without = None
        return self._sequence(motif, steps, without, is_top=is_top)

    def _step(self, part: Motif, without: Target | None, *, is_many: bool) -> Step:
        if isinstance(part, Maybe):
            return Step(self.target(part.part, is_many=is_many), 0, 1, without)
        is_next = isinstance(part, Next)
        if isinstance(part, Next):
            part = part.part
        if isinstance(part, Count) and (is_soft(part) or (part.within_us is None and part.by is None)):
            return Step(self.target(part.of, is_many=True), part.times, _most(part), without, is_next)
        return Step(self.target(part, is_many=is_many), 1, 1, without, is_next)

    def _count(self, motif: Count, *, is_top: bool) -> SeqNode:
        return self._sequence(
            motif, [Step(self.target(motif.of, is_many=True), motif.times, _most(motif))], None, is_top=is_top
        )

    def _sequence(self, motif: Seq | Count, steps: list[Step], absent: Target | None, *, is_top: bool) -> SeqNode:
        node = SeqNode(steps=tuple(steps), absent=absent, **self._shared(motif, is_top=is_top))
        below = [step.target for step in steps] + [step.without for step in steps if step.without is not None]
        if absent is not None:
            below.append(absent)
        node.bits = _all_bits(below) | (ANY if any(step.is_next for step in steps) else 0)
        node.starts = starts_of(steps[0].target)
        node.can_merge = _is_plain(node, below)
        node.stages = tuple(
            (_stage(node, at, True, False), _stage(node, at, True, True), _stage(node, at, False, True))
            for at in range(len(steps))
        )
        _quicken(node)
        return node

    def _all(self, motif: AllOf, *, is_many: bool, is_top: bool) -> AllNode:
        parts = tuple(self.target(part.part if isinstance(part, Maybe) else part, is_many=is_many) for part in motif.parts)
        needed = _together(1 << i for i, part in enumerate(motif.parts) if not isinstance(part, Maybe))
        node = AllNode(parts=parts, needed=needed, **self._shared(motif, is_top=is_top))
        node.bits, node.starts = _all_bits(parts), _together(map(starts_of, parts))
        node.can_merge = _is_plain(node, parts)
        return node

    def _window(self, motif: Window, *, is_top: bool) -> WindowNode:
        of = self.target(motif.of, is_many=True)
        assert isinstance(of, Choice), "a window is of single events"
        node = WindowNode(
            of=of,
            every_us=motif.every_us or 0,
            sliding_us=motif.sliding_us or 0,
            gap_us=motif.gap_us or 0,
            is_single=True,
            **self._shared(motif, is_top=is_top),
        )
        node.bits = node.starts = of.bits
        return node


def _stage(node: SeqNode, at: int, may_repeat: bool, may_pass: bool) -> Stage:
    awaited: list[tuple[int, Target]] = [(at, node.steps[at].target)] if may_repeat else []
    without: Target | None = None
    is_next = False
    may_end = may_pass and all(step.least == 0 for step in node.steps[at + 1 :])
    if may_pass and at + 1 < len(node.steps):
        without, is_next = node.steps[at + 1].without, node.steps[at + 1].is_next
        for j in range(at + 1, len(node.steps)):
            awaited.append((j, node.steps[j].target))
            if node.steps[j].least:
                break
    if may_end and node.absent is not None:
        without = node.absent
    below = [target for _, target in awaited] + ([] if without is None else [without])
    wants = _all_bits(below) | (ANY if is_next else 0)
    has_below = not all(isinstance(target, Choice) for target in below)
    return Stage(tuple(awaited), without, is_next, may_end, wants, has_below)


def _quicken(node: SeqNode) -> None:
    """Make the way of a sequence of single events short: the commonest, and the one whose speed shows."""
    is_plain = node.by is None and node.ask is None and node.absent is None

    def leaf_of(target: Target | None) -> Leaf | None:
        leaf = target.only if isinstance(target, Choice) else None
        return None if leaf is None or leaf.is_kept else leaf

    for j in range(len(node.steps) - 1, 0, -1):
        stage, step = node.stages[j - 1][2], node.steps[j]
        leaf = leaf_of(step.target)
        if not is_plain or leaf is None or (step.least, step.most) != (1, 1) or step.is_next:
            break
        if step.without is not None and leaf_of(step.without) is None:
            break
        after = None if j + 1 == len(node.steps) else node.stages[j][2]
        stage.quick = (leaf.bit, leaf.number, j, after)
    else:
        first = node.steps[0]
        node.is_quick = is_plain and leaf_of(first.target) is not None and first.most == 1 and len(node.steps) > 1


def _is_plain(node: Node, below: Sequence[Target]) -> bool:
    """Whether nothing of a partial match but its place in the pattern decides what becomes of it."""
    is_flat = all(
        isinstance(target, Choice) and all(leaf.ask is None and not leaf.is_kept for leaf in target.leaves) for target in below
    )
    return is_flat and node.within_us == NO_END and node.by is None and node.ask is None


def starts_of(target: Target) -> int:
    """The bits with which a part may begin."""
    return target.bits if isinstance(target, Choice) else target.starts


def _all_bits(targets: Sequence[Target]) -> int:
    return _together(target.bits for target in targets)


def _together(bits: Iterator[int] | map[int]) -> int:
    total = 0
    for bit in bits:
        total |= bit
    return total


def _most(motif: Count) -> int:
    return motif.times if motif.most is None else NO_END if motif.most == UNBOUNDED else motif.most


def _conditions(motif: Motif) -> Iterator[str]:
    """All conditions in a motif."""
    where = getattr(motif, "where", None)
    if where is not None:
        yield where
    below: Sequence[Motif]
    if isinstance(motif, (AnyOf, AllOf, Seq)):
        below = motif.parts
    elif isinstance(motif, (Not, Next, Maybe)):
        below = (motif.part,)
    else:
        below = () if isinstance(motif, Topic) else (motif.of,)
    for part in below:
        yield from _conditions(part)


def path(text: str) -> Path:
    """The value at a path into an event's data as a key would be written; None where there is none."""
    parts = text.removeprefix("data.").split(".")

    def at(event: Event) -> str | None:
        value = _decoded(event.payload)
        for name in parts:
            value = value.get(name) if isinstance(value, Mapping) else None
        return None if value is None else key_text(value)

    return at


def _decoded(payload: bytes) -> Any:
    try:
        return decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError):  # as if there were nothing: it is a player's to fail
        return None


def _with_itself(leaf: Leaf, event: Event, bound: Bound | None) -> dict[str, Any]:
    """The labels that a leaf's condition may name: those before it, and its own."""
    return seen(bind(leaf, event, bound) if leaf.is_kept else bound)


def bind(leaf: Leaf, event: Event, bound: Bound | None) -> Bound:
    """The labels with one more event; those before stay as they are."""
    assert leaf.label is not None
    known = {} if bound is None else bound
    kept = Kept.of(event)
    before = known.get(leaf.label, ())
    assert not isinstance(before, Kept), "a label of one event is given once"
    return {**known, leaf.label: [*before, kept] if leaf.is_many else kept}


def seen(bound: Bound | None) -> dict[str, Any]:
    """The labels as a condition sees them."""
    if not bound:
        return {}
    return {label: [each.shown() for each in kept] if isinstance(kept, list) else kept.shown() for label, kept in bound.items()}
