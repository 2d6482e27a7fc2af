"""What we test with, for our users to test with: a clock moved by hand, a log with settable faults, event builders."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ensemble.errors import Unavailable
from ensemble.event import EPOCH, Event, Frame, Match, Rows, encode, microseconds
from ensemble.log.base import EventLog, Packing, Snapshot
from ensemble.log.layer import Layer


class ManualClock:
    """A clock that stands still until it is told to move.

    A band opened with `clock=ManualClock()` plays inline, in the caller's thread, and writes the same bytes for the
    same input. `advance` stops at every moment at which a retry or a timer falls due and plays it there. The `timeout:` of
    a function is not kept: nothing could interrupt it.
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
        for _, play in self._listeners:
            play()
        while True:
            due = [moment() for moment, _ in self._listeners]
            moments = [moment for moment in due if moment is not None and moment <= target]
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


def match(topic: str, *events: Event, labels: Mapping[str, int | list[int]] | None = None, key: str | None = None) -> Match:
    """A match of a motif as a player would hear it, made of these events, to call players with in a test.

    Shapes: `labels` says which of the events has which label, by their places: `{"first": 0, "others": [1, 2]}`.
    Its key is that of its first event unless `key` says otherwise, its time that of the last.
    """
    parts = [
        event(part.topic, part.data, key=part.key, id=part.id, time=part.time, offset=at) for at, part in enumerate(events)
    ]
    said = event(topic, {"labels": dict(labels)} if labels else {}, key=parts[0].key if key is None else key, offset=len(parts))
    rows = msgspec.structs.replace(
        said._rows, time_us=parts[-1]._rows.time_us, extras={0: {"causes": list(range(len(parts))), "root": 0}}
    )
    return Match(rows, 0, msgspec.UNSET, parts)


class FaultyLog(Layer):
    """A log whose writing fails or waits when told to; all else is the log that it wraps.

    A failed append leaves it as a real store would: it refuses all that come after. `appends` and `saves` count the
    calls, from 1, those that failed among them.
    """

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.log = log
        self.appends = 0
        self.saves = 0
        self.held = threading.Event()
        """Set while an append waits for `release`: wait for it to know that one has come."""
        self._go = threading.Event()
        self._go.set()
        self._append_faults: dict[int, tuple[Exception, bool]] = {}
        self._save_faults: dict[int, Exception] = {}
        self._refuses: Exception | None = None

    # Faults

    def fail_append(self, number: int = 1, error: Exception | None = None, *, after_writing: bool = False) -> None:
        """Let the append that is `number` from now fail: 1 is the next. With `after_writing` only its answer is lost.

        Without an `error` it is a full disk, as the directory store would tell of it.
        """
        fault = error or Unavailable("store test: can't be appended to: No space left on device; the disk is full")
        self._append_faults[self.appends + number] = (fault, after_writing)

    def fail_save(self, number: int = 1, error: Exception | None = None) -> None:
        """Let the save that is `number` from now fail. The log itself goes on."""
        fault = error or Unavailable("store test: a snapshot can't be written: No space left on device; the disk is full")
        self._save_faults[self.saves + number] = fault

    def hold(self) -> None:
        """Let appends wait from now on, before they write anything, until `release`."""
        self._go.clear()

    def release(self) -> None:
        self._go.set()

    # Writing

    @property
    def epoch(self) -> int:
        return self.log.epoch

    @property
    def notes(self) -> Sequence[str]:
        return self.log.notes

    def seal(self, frame: Frame) -> bytes:
        return self.log.seal(frame)

    def append(self, sealed: Sequence[bytes]) -> None:
        self.appends += 1
        fault, after_writing = self._append_faults.pop(self.appends, (None, False))
        if not self._go.is_set():
            self.held.set()
            self._go.wait()
            self.held.clear()
        if self._refuses is not None:
            raise Unavailable(f"{self._refuses}; this log takes no more until it is opened again")
        if fault is None or after_writing:
            self.log.append(sealed)
        if fault is not None:
            self._refuses = fault
            raise fault

    def save(self, snapshot: Snapshot) -> None:
        self.saves += 1
        fault = self._save_faults.pop(self.saves, None)
        if fault is not None:
            raise fault
        self.log.save(snapshot)

    def packing(self) -> Packing | None:
        return self.log.packing()

    def close(self) -> None:
        self.release()
        super().close()


@dataclass
class TestContext:
    """Stands in for `ctx` where a test calls a player itself. After the call, `state` is what the player made of it."""

    __test__ = False  # pytest: a class that is no test

    state: Any = field(default_factory=dict)
    token: str = "token"
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    attempt: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    live: bool = True
    tables: Mapping[str, Any] = field(default_factory=dict)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("ensemble.player.test"))

    def token_of(self, event: Any) -> str:
        """A text of its own for each event; of what is no event, for each value."""
        return f"{self.token}-{event.id if isinstance(event, Event) else event!r}"


def context(state: Any = None, **given: Any) -> TestContext:
    """A `ctx` to call players with in a test: `token`, `now`, `attempt`, `settings`, `tables` and `live` may be given."""
    return TestContext(state if state is not None else {}, **given)
