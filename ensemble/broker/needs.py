"""What of the log somebody still needs, whatever is to be kept of the past (docs/size.md).

Owns reading it off the durable state. What is beyond `floor` is not heard by all yet; what is before it and listed waits for
another attempt, is held or dead, or is part of a match that is open or not heard yet.

    o needed  <=>  o >= floor  or  o in offsets
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from ensemble.broker.matching.matcher import Matcher
from ensemble.broker.matching.pattern import Pattern
from ensemble.broker.matching.reorder import Reordered
from ensemble.broker.state import State
from ensemble.event import Frame
from ensemble.motif import Motif


class Needs(NamedTuple):
    floor: int
    """Nothing from this offset on may go."""
    offsets: Sequence[int]
    """Those before it that stay, ascending."""

    def between(self, first: int, end: int) -> Sequence[int]:
        """The offsets that stay of those from `first` to before `end`."""
        return self.offsets[bisect_left(self.offsets, first) : bisect_left(self.offsets, end)]


class Claims(NamedTuple):
    """The same as far as the state says it without a look into the log: taken at one moment, by who owns the state."""

    floor: int
    heard_to: int
    """Before it all sections have heard, or hold, all that concerns them."""
    end: int
    offsets: frozenset[int]
    partial: Sequence[tuple[Any, str, bytes]]
    """Of each motif its document, its topic and its partial matches."""


def claims(state: State, players: Collection[str] | None = None, motifs: Collection[str] | None = None) -> Claims:
    """What a state claims of its log.

    Shapes: `players` and `motifs` are those of the score that is played: of what others listened for, who left, only what
            waits, is held or dead, and what half a match is made of. None: all that are known.
    """
    heard_to = floor = state.end
    offsets: set[int] = set()
    for name, section in state.sections.items():
        if players is None or name in players:
            heard_to = min(heard_to, section.position)
        offsets.update(section.open, section.attempts, section.dead, section.dead.values())
    partial = []
    for name, motif in state.motifs.items():
        if motif.is_live:
            floor = min(floor, motif.partial_at)
        elif motifs is None or name in motifs:
            floor = min(floor, motif.position, motif.partial_at)
        if motif.partial:
            partial.append((motif.document, motif.topic, motif.partial))
    return Claims(min(floor, heard_to), heard_to, state.end, frozenset(offsets), partial)


def needed(
    claims: Claims,
    read: Callable[[Any], Motif],
    rows: Callable[[int], Iterable[Frame]],
    frame_at: Callable[[int], Frame],
) -> Needs:
    """What is needed by these claims. Where motifs are listened for, the log is asked for the parts of matches.

    `read` makes a motif of what a score writes; `rows` reads the log from an offset on.
    Errors: ValueError if a motif can't be read any more.
    """
    offsets = set(claims.offsets)
    if claims.partial:
        for document, topic, partial in claims.partial:
            offsets.update(_open(Pattern(read(document), topic), partial))
        offsets.update(_parts_of(sorted(claims.offsets), frame_at))
        for frame in rows(min(claims.heard_to, claims.end)):
            if frame.first >= claims.end:
                break
            if frame.rows is not None:
                offsets.update(chain.from_iterable(frame.rows.parts(ix) for ix in frame.rows.odd))
    return Needs(claims.floor, sorted(offset for offset in offsets if offset < claims.floor))


def _open(pattern: Pattern, partial: bytes) -> Iterator[int]:
    """The offsets of what partial matches are made of."""
    matcher: Matcher | Reordered = Reordered(pattern) if pattern.how.time == "event" else Matcher(pattern)
    _, _, kept = msgspec.msgpack.decode(partial, strict=False)
    matcher.load(kept)
    if isinstance(matcher, Reordered):
        yield from (offset for _, offset, *_ in matcher.waiting)
        matcher = matcher.matcher
    for _, runs in matcher.by_key():
        for run in runs:
            yield from run.offsets()


def _parts_of(offsets: Sequence[int], frame_at: Callable[[int], Frame]) -> Iterator[int]:
    """The parts of those that are matches."""
    frame: Frame | None = None
    for offset in offsets:
        if frame is None or not frame.first <= offset < frame.end:
            frame = frame_at(offset)
        assert frame.rows is not None
        yield from frame.rows.parts(offset - frame.first)
