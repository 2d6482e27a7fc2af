"""What is known of the code that plays a part of a score: where it stands, and whether it keeps state.

Owns the answer for who draws or lists a score. It never raises: what is wrong with code is `check`'s to tell.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ensemble import whereabouts
from ensemble.errors import PlayerError
from ensemble.score.behaviour import behaviour
from ensemble.score.callable import find, function_of
from ensemble.score.model import PlayerSpec, Score, SourceSpec


class Code(msgspec.Struct, frozen=True):
    """What is known; nothing of code that can't be imported."""

    place: str | None = None
    """`file:line` at which it begins."""
    keeps_state: bool = False


def code_of(score: Score, spec: PlayerSpec | SourceSpec, call: Any = None) -> Code:
    """The code of a player or source: what `play:` names, or the callable that takes its place."""
    if call is None:
        if spec.play is None:
            return Code()
        try:
            call = find(spec.play, score.folder)
        except PlayerError:
            return Code()
    return Code(whereabouts.of_code(call if isinstance(call, type) else function_of(call)), behaviour(call).keeps_state)
