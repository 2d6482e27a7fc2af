"""What a `heard` mark says: which events a section dealt with by a frame. For whoever reads a log, after the fact.

Owns the rule, which is `Section.advance` read backwards. Must not know how the log is read: what a section listened for
is asked.

    dealt with  =  closed  +  what it listened for between the old position and the new one  -  opened
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ensemble.broker.state import SectionState


def dealt_with(
    section: SectionState,
    mark: Sequence[Any],
    concerning: Callable[[int, int], Sequence[int]],
    concerns: Callable[[int], bool],
) -> Sequence[int]:
    """The offsets that a section, in its state before the frame, dealt with for good: those below its position first.

    `concerning` gives the offsets from one to another that it listened for; `concerns` tells it of one, where nobody had asked.
    """
    position, _passed, opened, closed, *_ = mark
    beyond = concerning(section.position, position)
    if not (opened or closed):
        return beyond
    left_out = set(opened)
    below = [offset for offset in sorted(closed) if offset not in section.unasked or concerns(offset)]
    return [*below, *(offset for offset in beyond if offset not in left_out)]
