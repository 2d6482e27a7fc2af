"""Exit codes: what a script learns without reading."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    DONE = 0
    WRONG = 1
    """The score or the input is wrong."""
    USAGE = 2
    DEAD = 3
    """Some events ended as dead letters."""
    STORE = 4
    """The store or the cluster can't be used."""
    INTERRUPTED = 130


def code_of(error: BaseException) -> Code:
    """The exit code for what was raised."""
    from ensemble.errors import LogCorrupt, Overloaded, Unavailable

    return Code.STORE if isinstance(error, (LogCorrupt, Overloaded, Unavailable)) else Code.WRONG


IN_PYTHON = {
    "publish to it with ensemble.connect, read it with ensemble.read": (
        "publish to it with `ensemble publish`, look into it with `ensemble tail`"
    ),
    "a time (2011-11-01T08:16:00Z), or the id of an event": (
        "a time (2011-11-01T08:16:00Z, 2011-11-01), how long ago (30m), or the id of an event"
    ),
}
"""Advice for who calls from Python, and what it is on a command line."""


def told(error: BaseException) -> str:
    """What was raised, as a sentence for who types commands."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    for in_python, typed in IN_PYTHON.items():
        text = text.replace(in_python, typed)
    return text
