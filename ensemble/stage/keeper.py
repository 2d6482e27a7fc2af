"""Retention while a band plays: what its score says of the past is done beside it (docs/size.md).

Owns when that is looked at, and the thread on which it is done. What goes is said in the log first, by the loop; a failure
here is told, and harms nothing but the disk's room.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from ensemble.broker.needs import Claims, needed
from ensemble.errors import EnsembleError
from ensemble.listening import motif_reader
from ensemble.log.base import EventLog, Refused
from ensemble.log.beside import told_fault
from ensemble.log.retention import Retention, Rules, statement

log = logging.getLogger("ensemble.stage")


class Keeper:
    """One shard's. `say` says a statement in the log and returns once it is durable."""

    def __init__(self, event_log: EventLog, rules: Rules, say: Callable[[list[Any]], None], *, is_inline: bool) -> None:
        self._log = event_log
        self._retention = Retention(event_log, rules)
        self._say = say
        self._read = motif_reader(())
        self._is_inline = is_inline
        self._queue: SimpleQueue[tuple[Claims, int] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._told = ""
        """Why the archive refused the last time."""

    def look(self, claims: Claims, now_us: int) -> None:
        """See what may go by now, and have it gone. Returns at once, unless it is inline."""
        if self._is_inline:
            self._tidy(claims, now_us)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ensemble-keeper", daemon=True)
            self._thread.start()
        if self._queue.empty():  # else it has not come to the look before this one: the next will do
            self._queue.put((claims, now_us))

    def close(self) -> None:
        """Finish what is being written, and no more. The loop must have ended."""
        self._is_closing = True
        self._retention.end()
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                self._tidy(*job)
            except Exception as error:  # a slip of ours, or of a store's library: it must not end the thread, nor be silent
                then = "the band plays on, and it is tried again after the next snapshot"
                told_fault(log, f"band {self._log.name}", "the log was not made smaller", error, then)

    def _tidy(self, claims: Claims, now_us: int) -> None:
        packing = self._log.packing()
        if packing is None:
            return
        try:
            needs = needed(claims, self._read, self._log.rows, self._log.frame_at)
            for packed in self._retention.pack(needs, now_us):
                if self._is_closing:
                    packing.drop(packed)
                    return
                if packed.removals:
                    self._say(statement(packed, self._retention.archive))
                packing.put(packed)
            self._told = ""
        except Refused as error:
            if not self._is_closing and str(error) != self._told:  # once, not at each look
                log.warning("band %s: %s; the band plays on", self._log.name, error)
            self._told = str(error)
        except (EnsembleError, ValueError) as error:
            if not self._is_closing:
                log.error("band %s: the log was not made smaller: %s; the band plays on", self._log.name, error)
