"""Who plays in the place of a player that does things outside, where these are not to be done: `outside:` of a score.

Owns the stand-ins. Where they play, in a take that is not the current one and in a replay, others know (docs/takes.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ensemble.score.callable import find
from ensemble.score.model import PlayerSpec, Stub


def muted(event: Any) -> None:
    """It hears, and says nothing."""


def stand_in(spec: PlayerSpec, folder: str) -> Callable[..., Any] | None:
    """Who is called instead of a player; None: it is called itself. PlayerError if a stub can't be found in the folder."""
    if isinstance(spec.outside, Stub):
        stub: Callable[..., Any] = find(spec.outside.stub, folder)
        return stub
    return muted if spec.outside == "mute" else None
