"""The motif as a tree, and what can be read off it. Its meaning is written down in docs/motifs.md.

    A                                        Topic     one event
    [A, B], {any: [A, B]}                    AnyOf     any of them
    {event: A, where: data.x > 1, as: a}     Topic     one event that fulfils a condition, under a label
    {all: [A, B], within: 30m}               AllOf     each once, in any order
    {seq: [A, {not: B}, C], within: 10m}     Seq       in this order; others may lie between, a B may not
    {next: A}, {optional: A}                 Next, Maybe   parts of a sequence: the very next event; taken if it comes
    {count: A, times: 5, within: 1m}         Count     the fifth A within a minute
    {every: 10s, of: A}                      Window    all A of ten seconds

A simple motif is one that a single event fulfils: a Topic, or an AnyOf of these. All others are composite.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import msgspec

UNBOUNDED = 0
"""No upper end of a range."""


class How(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a composite motif is listened for as a whole."""

    after: Literal["skip-past-last", "no-skip"] = "skip-past-last"
    time: Literal["broker", "event"] = "broker"
    lateness_us: int = 0
    most: int = 1_000_000
    """Partial matches that may be open at a time."""
    overflow: Literal["oldest", "newest"] = "oldest"
    """Which are given up where there are more."""


PLAIN = How()


class Topic(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event whose topic matches `pattern` and for which `where` (CEL) holds."""

    pattern: str
    where: str | None = None
    label: str | None = None


class AnyOf(msgspec.Struct, frozen=True, omit_defaults=True):
    """Any one of the parts."""

    parts: tuple[Motif, ...]
    how: How = PLAIN


class AllOf(msgspec.Struct, frozen=True, omit_defaults=True):
    """Each part once, in any order, all of one key."""

    parts: tuple[Motif, ...]
    within_us: int | None = None
    by: str | None = None
    where: str | None = None
    how: How = PLAIN


class Not(msgspec.Struct, frozen=True, omit_defaults=True):
    """In a sequence: no such event between its neighbours; at the end, none until `within` is over."""

    part: Motif


class Next(msgspec.Struct, frozen=True, omit_defaults=True):
    """In a sequence: begins with the very next event under any topic that the whole motif names."""

    part: Motif


class Maybe(msgspec.Struct, frozen=True, omit_defaults=True):
    """In a sequence or an all: taken if it comes before what completes the motif."""

    part: Motif


class Seq(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts in this order; other events may lie between."""

    parts: tuple[Motif, ...]
    within_us: int | None = None
    by: str | None = None
    where: str | None = None
    how: How = PLAIN


class Count(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `times`-th within a duration; or `times` to `most` of them, as many as come."""

    of: Motif
    times: int
    within_us: int | None = None
    by: str | None = None
    most: int | None = None
    """None: exactly `times`; UNBOUNDED: any number from there on."""
    how: How = PLAIN


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """All events of a time: of `every_us`, one after the other; of the last `sliding_us`, told every so often; or until
    nothing has come for `gap_us`.
    """

    of: Motif
    every_us: int | None = None
    by: str | None = None
    sliding_us: int | None = None
    gap_us: int | None = None
    within_us: int | None = None
    how: How = PLAIN


Motif: TypeAlias = "Topic | AnyOf | AllOf | Seq | Not | Next | Maybe | Count | Window"


def leaves(motif: Motif) -> tuple[Topic, ...] | None:
    """The topics of a simple motif, any one of which fulfils it; None if the motif is composite."""
    if isinstance(motif, Topic):
        return (motif,)
    if isinstance(motif, AnyOf):
        found: list[Topic] = []
        for part in motif.parts:
            below = leaves(part)
            if below is None:
                return None
            found += below
        return tuple(found)
    return None


def alternatives(motif: Motif) -> tuple[Motif, ...]:
    """The motifs any of which fulfils it, each a Topic or composite and no list: what a player's `on:` comes to.

    A list that is told how it is to be listened for as a whole stays one.
    """
    if isinstance(motif, AnyOf) and motif.how == PLAIN:
        return tuple(each for part in motif.parts for each in alternatives(part))
    return (motif,)


def topics(motif: Motif) -> tuple[str, ...]:
    """All topic patterns in a motif, those under `not` among them; each once, in the order in which they are written."""
    return tuple(dict.fromkeys(topic.pattern for topic in walk(motif)))


def walk(motif: Motif) -> Iterator[Topic]:
    """The topics in a motif, in the order in which they are written."""
    return (each for each in _nodes(motif) if isinstance(each, Topic))


def repeated(motif: Motif) -> tuple[Topic, ...]:
    """The events for which an `all` in a motif asks more than once, whatever it calls them."""
    found: list[Topic] = []
    for each in _nodes(motif):
        if isinstance(each, AllOf):
            parts = [part.part if isinstance(part, Maybe) else part for part in each.parts]
            bare = [msgspec.structs.replace(part, label=None) for part in parts if isinstance(part, Topic)]
            found += [part for part in bare if bare.count(part) > 1]
    return tuple(dict.fromkeys(found))


def _nodes(motif: Motif) -> Iterator[Motif]:
    """A motif, and all that it is made of."""
    yield motif
    if isinstance(motif, (AnyOf, AllOf, Seq)):
        for part in motif.parts:
            yield from _nodes(part)
    elif not isinstance(motif, Topic):
        yield from _nodes(motif.part if isinstance(motif, (Not, Next, Maybe)) else motif.of)


def is_range(motif: Motif) -> bool:
    """Whether it is a count of which more may come than need to."""
    return isinstance(motif, Count) and motif.most not in (None, motif.times)


def is_soft(motif: Motif) -> bool:
    """Whether a sequence can go on from this part without knowing whether all of it has come."""
    return isinstance(motif, Maybe) or (isinstance(motif, Count) and is_range(motif) and not motif.within_us and not motif.by)


def least_us(motif: Motif) -> int:
    """A match takes longer than this, or just as long; 0 where it may take no time."""
    if isinstance(motif, AllOf):
        return max(least_us(part) for part in motif.parts if not isinstance(part, Maybe))
    if isinstance(motif, AnyOf):
        return min(least_us(part) for part in motif.parts)
    if isinstance(motif, Seq):
        if isinstance(motif.parts[-1], Not):
            return motif.within_us or 0
        return sum(least_us(part) for part in motif.parts if not isinstance(part, (Not, Maybe)))
    if isinstance(motif, Count):
        return least_us(motif.of) * motif.times
    if isinstance(motif, Window):
        return motif.gap_us or 0
    return least_us(motif.part) if isinstance(motif, Next) else 0


def tells_time(motif: Motif) -> bool:
    """Whether a match may be complete with no event, by time alone."""
    if isinstance(motif, Topic):
        return False
    if isinstance(motif, Window) or (isinstance(motif, Count) and is_range(motif)):
        return True
    if isinstance(motif, Seq) and (isinstance(motif.parts[-1], Not) or is_soft(motif.parts[-1])):
        return True
    if isinstance(motif, (AnyOf, AllOf, Seq)):
        return any(tells_time(part) for part in motif.parts)
    return tells_time(motif.of if isinstance(motif, Count) else motif.part)


def document(motif: Motif) -> Any:
    """A motif as a score writes it: `parse(document(m)) == m`. Names of simple motifs are written out."""
    if isinstance(motif, Topic):
        if motif.where is None and motif.label is None:
            return motif.pattern
        return _without_none({"event": motif.pattern, "where": motif.where, "as": motif.label})
    if isinstance(motif, AnyOf):
        parts = [document(part) for part in motif.parts]
        return parts if motif.how == PLAIN else {"any": parts, **_how(motif.how)}
    if isinstance(motif, (Not, Next, Maybe)):
        kind = {Not: "not", Next: "next", Maybe: "optional"}[type(motif)]
        return {kind: document(motif.part)}
    if isinstance(motif, Count):
        fields = {"count": document(motif.of), "times": _times(motif), "within": _us(motif.within_us), "by": motif.by}
    elif isinstance(motif, Window):
        fields = {
            "every": _us(motif.every_us),
            "gap": _us(motif.gap_us),
            "sliding": _us(motif.sliding_us),
            "of": document(motif.of),
            "within": _us(motif.within_us),
            "by": motif.by,
        }
    else:
        fields = {
            "all" if isinstance(motif, AllOf) else "seq": [document(part) for part in motif.parts],
            "within": _us(motif.within_us),
            "by": motif.by,
            "where": motif.where,
        }
    return _without_none({**fields, **_how(motif.how)})


def _times(motif: Count) -> int | str:
    if motif.most is None:
        return motif.times
    return f"{motif.times}..{motif.most or ''}"


def _how(how: How) -> dict[str, Any]:
    fields = {
        "after": how.after,
        "time": how.time,
        "lateness": _us(how.lateness_us),
        "most": how.most,
        "overflow": how.overflow,
    }
    plain = {
        "after": PLAIN.after,
        "time": PLAIN.time,
        "lateness": duration_text(0),
        "most": PLAIN.most,
        "overflow": PLAIN.overflow,
    }
    return {name: value for name, value in fields.items() if value != plain[name]}


def _us(us: int | None) -> str | None:
    return None if us is None else duration_text(us)


def duration_text(us: int) -> str:
    """A duration as scores write it, in the largest unit of which it is a whole number."""
    for unit, size in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)):
        if us % size == 0:
            return f"{us // size}{unit}"
    return f"{us}us"


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
