"""A source at work: a thread that lets it speak as fast as it is heard; or, under a manual clock, one turn at a time.

Owns when a source is asked for more, and for how much: no faster than its `rate`. It waits while the sections trail far behind,
and until what it said is durable.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ensemble.broker.words import Publication
from ensemble.errors import EnsembleError
from ensemble.stage.inbox import Reply
from ensemble.stage.sources import Source

OUTSTANDING_MOST = 16
"""Publications that may be on their way to the log."""
PATIENCE_S = 0.1
"""How soon a pump sees that it is to stop."""
LINES = 500
"""How many lines of a file, or items of a speaker, make one publication at the most."""
PORTIONS = 20
"""Publications a second of a source with a rate: so many that it flows, so few that they are worth a frame."""


class Pump:
    """One source. `publish` says its events, `done` tells that it has ended."""

    def __init__(
        self, source: Source, publish: Callable[[Publication], Reply], now_us: Callable[[], int], done: Callable[[], Any]
    ) -> None:
        self.source = source
        self._publish, self._now_us, self._done = publish, now_us, done
        self._most = LINES if source.rate is None else max(1, min(LINES, int(source.rate / PORTIONS)))
        self._not_before_us: int | None = None
        """Until when the source has had its share."""
        self._may_speak = threading.Event()
        self._may_speak.set()
        self._is_stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_dry = False
        """Whether it has nothing more to say; one that is endless never is."""
        self.trouble: BaseException | None = None
        """What ended it before its time."""

    def start(self) -> None:
        name = f"ensemble-{self.source.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def let(self, may_speak: bool) -> None:
        """Let it go on, or have it wait."""
        if may_speak:
            self._may_speak.set()
        else:
            self._may_speak.clear()

    def stop(self) -> None:
        self._is_stopped.set()
        self._may_speak.set()

    def close(self) -> None:
        """Free what the source holds, once it speaks no more."""
        if self._thread is not None:
            self._thread.join(timeout=1)  # one that waits for its own input is left to it
        if self._thread is None or not self._thread.is_alive():
            self.source.close()

    def step(self) -> bool:
        """Let it speak once, in the caller's thread; whether it said anything."""
        if self.is_dry:
            return False
        try:
            publication = self._next()
        except EnsembleError as error:
            self.trouble, self.is_dry = error, True
            return False
        if publication is not None:
            self._publish(publication)
            return True
        self.is_dry = self.source.place.is_done
        return False

    def _run(self) -> None:
        outstanding: deque[Reply] = deque()
        try:
            while not self._is_stopped.is_set():
                if not self._may_speak.wait(PATIENCE_S):
                    continue
                publication = self._next()
                if publication is not None:
                    outstanding.append(self._publish(publication))
                    if len(outstanding) > OUTSTANDING_MOST:
                        outstanding.popleft().wait()
                elif self.source.place.is_done:
                    break
                else:
                    self._is_stopped.wait(self._pause_s())
            for reply in outstanding:
                reply.wait()
        except BaseException as error:
            if not self._is_stopped.is_set():
                self.trouble = error
        self.is_dry = True
        self._done()

    def _next(self) -> Publication | None:
        """What the source says next, unless it has had its share for now."""
        now_us = self._now_us()
        if self._not_before_us is not None and now_us < self._not_before_us:
            return None
        before = self.source.place.count
        publication = self.source.next(now_us, self._most)
        read = self.source.place.count - before
        if self.source.rate is not None and read:
            self._not_before_us = max(now_us, self._not_before_us or now_us) + round(1e6 * read / self.source.rate)
        return publication

    def due_us(self) -> int | None:
        """When the source may be asked again; None: at once, or never when it is dry."""
        moments = [self._not_before_us, self.source.due_us()]
        return None if self.is_dry else max((moment for moment in moments if moment is not None), default=None)

    def _pause_s(self) -> float:
        due_us = self.due_us()
        return 0.0 if due_us is None else min(PATIENCE_S, max(0.0, (due_us - self._now_us()) / 1e6))
