"""What we test with, for our users to test with: a clock moved by hand, a log with settable faults, event builders."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from ensemble.event import EPOCH, Event, Rows, encode, microseconds


class ManualClock:
    """A clock that stands still until it is told to move.

    A band opened with `clock=ManualClock()` plays inline, in the caller's thread, and writes the same bytes for the
    same input. `advance` stops at every moment at which a retry or a timer falls due and plays it there.
    """

    def __init__(self, start: datetime | str = "2026-01-01T00:00:00Z") -> None:
        self._now_us = microseconds(start)
        self._listeners: list[tuple[Callable[[], int | None], Callable[[], None]]] = []

    def now_us(self) -> int:
        return self._now_us

    def now(self) -> datetime:
        return EPOCH + timedelta(microseconds=self._now_us)

    def advance(self, *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0) -> None:
        """Let this much time pass, playing on the way what falls due, each at its own moment."""
        target = self._now_us + round((seconds + 60 * minutes + 3600 * hours + 86400 * days) * 1_000_000)
        while True:
            moments = [due for due, _ in self._listeners for due in [due()] if due is not None and due <= target]
            if not moments:
                break
            self._now_us = max(self._now_us, min(moments))
            for _, play in self._listeners:
                play()
        self._now_us = target
        for _, play in self._listeners:
            play()

    def join(self, due: Callable[[], int | None], play: Callable[[], None]) -> None:
        """Called by a band: `due` gives its next moment in microseconds, `play` plays what is due now."""
        self._listeners.append((due, play))

    def leave(self, play: Callable[[], None]) -> None:
        self._listeners = [listener for listener in self._listeners if listener[1] != play]


def event(
    topic: str,
    data: Any = None,
    *,
    key: str = "",
    id: str | None = None,  # noqa: A002 - the field's own name
    time: datetime | str | None = None,
    offset: int = 0,
) -> Event:
    """An event as a player would hear it, to call players with in a test.

    Units: `time` is an aware datetime or RFC 3339 text; None: 2026-01-01T00:00:00Z.
    """
    time_us = microseconds("2026-01-01T00:00:00Z" if time is None else time)
    return Rows(
        log_id="test",
        shard=0,
        first=offset,
        time_us=time_us,
        topics=[topic],
        topic_ix=0,
        keys=[key],
        data=[encode(data)],
        sources=["/test"],
        source_ix=0,
        extras={0: {"id": id}} if id else None,
    ).event(0)
