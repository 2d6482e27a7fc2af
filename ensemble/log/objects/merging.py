"""Merging: the entries of a block become one segment, on a thread of its own.

Owns which blocks are to be merged yet, and the thread that does it. It is no part of any commit: what it can't do stays undone
until there is something to merge again, or the log is opened again, and costs nothing but more objects.

    blocks before `merged` are segments, or stay as they are; the others wait, in order
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log.beside import told_fault
from ensemble.log.objects.protocol import Log, Merge, Merged, Segment, Unripe
from ensemble.log.objects.store import Objects

SEGMENT_BYTES = 8 * 1024 * 1024
"""A block with more in it stays as it is: its entries are large already, and a segment is got as a whole."""

KEPT = 2
"""The entries of so many blocks wait in memory; those of others are got again."""

CLOSING_S = 10.0
"""How long closing waits for what is under way."""

log = logging.getLogger("ensemble.log")


def merge(objects: Objects, of: Log, number: int, run: Segment = ()) -> bool:
    """Merge a block of a log, if it is ripe. Whether it is merged.

    `run` are its entries, where they are known for certain, and the next block has begun.
    Errors: Unavailable; LogCorrupt.
    """
    step: Merge | Merged | Unripe = Merge(number, of, run, "create") if run else Merge(number, of)
    while isinstance(step, Merge):
        if step.phase == "create" and sum(len(entry.body) for entry in step.run) > SEGMENT_BYTES:
            return False
        step = step.told(objects.ask(step))
    return isinstance(step, Merged)


class Merger:
    """Merges the blocks of one log that are added, in order. What goes wrong stands in `notes`, as long as it does."""

    def __init__(self, objects: Objects, of: Log, merged: int, blocks: Iterable[int], notes: list[str]) -> None:
        self.merged = merged
        self._notes = notes
        self._trouble: list[str] = []
        self._objects = objects
        self._of = of
        self._waiting: deque[tuple[int, Segment]] = deque((block, ()) for block in blocks)
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread: threading.Thread | None = None
        if self._waiting:
            self._start()

    def add(self, number: int, run: Segment) -> None:
        """Have a block merged: its entries, if they are known, and none else. Never waits."""
        with self._changed:
            self._waiting.append((number, run if len(self._waiting) < KEPT else ()))
            self._changed.notify_all()
        if self._thread is None:
            self._start()

    def close(self) -> None:
        """Finish the block that is under way; the others are merged when the log is opened again."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(CLOSING_S)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="ensemble-merger", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if self._is_closing:
                    return
                number, run = self._waiting[0]
                count = len(self._waiting)
            try:
                merge(self._objects, self._of, number, run)
                self._tell()
            except LogCorrupt as error:
                self._tell(f"block {number} can't be merged, and stays as it is: {error}")
            except Exception as error:  # whatever it is, it must not end the thread in silence
                what, then = f"block {number} can't be merged now", "it is tried again with the next one"
                if isinstance(error, Unavailable):
                    self._tell(f"{what}; {then}: {error}")
                else:
                    self._tell(told_fault(log, f"store {self._objects.where}", what, error, then))
                with self._changed:
                    self._changed.wait_for(lambda count=count: len(self._waiting) > count or self._is_closing)  # type: ignore[misc]
                continue
            with self._changed:
                self._waiting.popleft()
                self.merged = number + 1

    def _tell(self, *trouble: str) -> None:
        """Say what went wrong with the last block, or that nothing did."""
        for each in self._trouble:
            self._notes.remove(each)
        self._trouble = [*trouble]
        for each in trouble:
            self._notes.append(each)
            log.warning("store %s: %s", self._objects.where, each)
