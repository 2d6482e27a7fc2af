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
