"""Input that may have nothing to give yet: a pipe, a player that speaks.

Owns reading such input so that what has come is not held back by what has not. Whoever takes from it waits a little at the
most: `FIRST_S` for a first piece, and once that is there `MOMENT_S` for others to go with it.

Nothing is asked of a speaker ahead of time: it goes on only while somebody wants more of it.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

FIRST_S = 0.05
MOMENT_S = 0.02
PATIENCE_S = 1.0
"""How long closing waits for a speaker that is in the middle of something."""
CHUNK = 1 << 16


class Items(Protocol):
    """What a speaker gives."""

    @property
    def is_over(self) -> bool:
        """Whether there will be no more."""
        ...

    def take(self, most: int) -> list[Any]:
        """The next items; empty if there are none now. What the speaker raised is raised once all before that was taken."""
        ...

    def close(self) -> None: ...


class InTurn:
    """Items asked for in the caller's thread, as many as are wanted, however long that takes: the same ones in each run."""

    def __init__(self, begin: Callable[[], Iterator[Any]]) -> None:
        self.is_over = False
        self._begin = begin
        self._items: Iterator[Any] | None = None
        self._error: Exception | None = None

    def take(self, most: int) -> list[Any]:
        taken: list[Any] = []
        if self._error is not None:
            raise self._error
        try:
            if self._items is None:
                self._items = self._begin()
            while len(taken) < most:
                taken.append(next(self._items))
        except StopIteration:
            self.is_over = True
        except Exception as error:
            if not taken:
                raise
            self._error = error
        return taken

    def close(self) -> None:
        _end(self._items)


class AsTheyCome:
    """Items asked for on a thread of their own, and taken as they come.

    The two threads meet under the lock only to wait and to wake each other: an item alone is put and taken without it.
    """

    def __init__(self, begin: Callable[[], Iterator[Any]], name: str) -> None:
        self.is_over = False
        self._begin, self._name = begin, name
        self._changed = threading.Condition()
        self._items: deque[Any] = deque()
        self._wanted = 0
        """How many may lie here: none while nobody takes."""
        self._is_ended = False
        self._is_closed = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def take(self, most: int) -> list[Any]:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        items = self._items
        with self._changed:
            self._wanted = most
            self._changed.notify_all()
            if self._changed.wait_for(lambda: items or self._is_ended, FIRST_S):
                self._changed.wait_for(lambda: len(items) >= most or self._is_ended, MOMENT_S)
            self._wanted = 0
            taken = [items.popleft() for _ in range(min(most, len(items)))]
            if not taken and self._error is not None:
                raise self._error
            self.is_over = self._is_ended and self._error is None and not items
        return taken

    def _run(self) -> None:
        given: Iterator[Any] | None = None
        error: BaseException | None = None
        items = self._items
        try:
            given = self._begin()
            while len(items) < self._wanted or self._is_wanted():
                items.append(next(given))
                if len(items) in (1, self._wanted):
                    with self._changed:
                        self._changed.notify_all()
        except StopIteration:
            pass
        except BaseException as raised:
            error = raised
        _end(given)
        with self._changed:
            self._is_ended, self._error = True, error
            self._changed.notify_all()

    def _is_wanted(self) -> bool:
        """Wait until one more item is wanted; False: none ever will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._items) < self._wanted)
            return not self._is_closed

    def close(self) -> None:
        """Let the speaker end. One that waits for its own input is left to it."""
        with self._changed:
            self._is_closed, self._wanted = True, 0
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(PATIENCE_S)


class Pipe:
    """The lines of a file descriptor that may have no whole line yet. It is not closed: it belongs to who opened it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()
        self._searched = 0
        """How much of the buffer is known to have no end of a line."""
        self._is_at_end = False

    def is_ready(self, most: int, until_s: float) -> bool:
        """Whether `readline(most)` gives something without waiting, now or by a moment of the monotonic clock."""
        while not self._has_line(most):
            if not select.select([self._fd], [], [], max(0.0, until_s - time.monotonic()))[0]:
                return False
            self._fill()
        return True

    def readline(self, most: int) -> bytes:
        """The next line, or its first `most` bytes; empty at the end."""
        while not self._has_line(most):
            self._fill()
        end = self._buffer.find(b"\n", 0, most) + 1
        return self._cut(end or min(most, len(self._buffer)))

    def read(self, most: int) -> bytes:
        """What is there, up to so many bytes; empty at the end."""
        while not self._has_line(1):
            self._fill()
        return self._cut(min(most, len(self._buffer)))

    def _has_line(self, most: int) -> bool:
        if self._is_at_end or len(self._buffer) >= most:
            return True
        found = self._buffer.find(b"\n", self._searched)
        self._searched = len(self._buffer) if found < 0 else found
        return found >= 0

    def _fill(self) -> None:
        piece = os.read(self._fd, CHUNK)
        self._buffer += piece
        self._is_at_end = not piece

    def _cut(self, size: int) -> bytes:
        piece = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._searched = 0
        return piece

    def close(self) -> None:
        pass


def _end(items: Iterator[Any] | None) -> None:
    close = getattr(items, "close", None)
    if close is not None:
        close()
