"""Ensemble: an event-driven choreography engine. Nobody conducts; players hear events and react with more events.

    import ensemble

    with ensemble.open("score.yaml") as band:
        band.publish("order.placed", {"order_id": "o-1", "total": 39.5})
        band.settle()

The names below are imported when they are first used, so that `import ensemble` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble.auditing import Audit, audit
    from ensemble.band import Band
    from ensemble.deployment import down, join, leave, up
    from ensemble.errors import (
        EnsembleError,
        InvalidEvent,
        LogCorrupt,
        OffsetError,
        Overloaded,
        PlayerError,
        Reject,
        Retry,
        ScoreError,
        Unavailable,
    )
    from ensemble.event import Emission, Event, Match, Receipt, emit
    from ensemble.forgetting import forget
    from ensemble.opening import connect, open, read
    from ensemble.player import Context
    from ensemble.reader import Reader
    from ensemble.score import Score, load
    from ensemble.status import Chain, DeadLetter, Status

_HOMES = {
    "ensemble.auditing": ("Audit", "audit"),
    "ensemble.band": ("Band",),
    "ensemble.deployment": ("down", "join", "leave", "up"),
    "ensemble.errors": (
        "EnsembleError",
        "InvalidEvent",
        "LogCorrupt",
        "OffsetError",
        "Overloaded",
        "PlayerError",
        "Reject",
        "Retry",
        "ScoreError",
        "Unavailable",
    ),
    "ensemble.event": ("Emission", "Event", "Match", "Receipt", "emit"),
    "ensemble.forgetting": ("forget",),
    "ensemble.opening": ("connect", "open", "read"),
    "ensemble.player": ("Context",),
    "ensemble.reader": ("Reader",),
    "ensemble.score": ("Score", "load"),
    "ensemble.status": ("Chain", "DeadLetter", "Status"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Audit",
    "Band",
    "Chain",
    "Context",
    "DeadLetter",
    "Emission",
    "EnsembleError",
    "Event",
    "InvalidEvent",
    "LogCorrupt",
    "Match",
    "OffsetError",
    "Overloaded",
    "PlayerError",
    "Reader",
    "Receipt",
    "Reject",
    "Retry",
    "Score",
    "ScoreError",
    "Status",
    "Unavailable",
    "audit",
    "connect",
    "down",
    "emit",
    "forget",
    "join",
    "leave",
    "load",
    "open",
    "read",
    "up",
]


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext ensemble`: have the cell magic `%%score`."""
    import_module("ensemble.magic").register(shell)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'ensemble' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
