"""The few kinds of error: a new kind only where the caller would act differently.

Wording of every message: who and where; what is wrong; what was found; what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class EnsembleError(Exception):
    """The root of all errors that Ensemble raises on purpose."""


class Finding(Protocol):
    """One thing that is wrong in a score; `str()` gives the whole line that a user reads."""

    def __str__(self) -> str: ...


class ScoreError(EnsembleError):
    """The score is wrong: fix the score. `findings` holds every error that was found, not the first alone."""

    def __init__(self, findings: Sequence[Finding] | str) -> None:
        self.findings: tuple[Finding | str, ...] = (findings,) if isinstance(findings, str) else tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


class InvalidEvent(EnsembleError):
    """An event breaks its schema or can't be written: fix the data. Nothing was written."""


class PlayerError(EnsembleError):
    """A player did what it must not: said an undeclared topic, returned what is no event, could not be built."""


class OffsetError(EnsembleError):
    """An offset lies outside the log: read the bounds again."""


class Overloaded(EnsembleError):
    """The band's inbox is full and the caller asked not to wait: slow down."""


class Unavailable(EnsembleError):
    """The store or the cluster can't be used now: try later, or do what the sentence says."""


class LogCorrupt(EnsembleError):
    """The middle of a log is damaged: stop. Nothing is ever skipped in silence."""


class Reject(Exception):
    """Raised by a player: this event can never be heard; it goes to the dead letters at once."""


class Retry(Exception):
    """Raised by a player: try this event again, after `after` ("5s", seconds, or None for the policy's backoff).

    It counts as an attempt; the last attempt's Retry makes a dead letter.
    """

    def __init__(self, why: str = "asked to be tried again", *, after: str | float | None = None) -> None:
        super().__init__(why)
        self.after = after
