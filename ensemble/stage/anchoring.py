"""Anchoring: the head of a log that plays is signed and kept outside, every so often and at the end (docs/audit.md).

Owns when, and what is done where it can't be: that is told, and tried again; playing goes on. A log that does not go through
its newest anchor is not played at all.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log.audit import anchor
from ensemble.log.audit.anchors import anchors_at
from ensemble.log.base import EventLog
from ensemble.log.beside import told_fault
from ensemble.log.cut import goes_through
from ensemble.score.model import AuditSpec

log = logging.getLogger("ensemble.stage")


class Anchoring:
    """One log, anchored while it plays. `is_timed`: by a thread of its own, too, and not only at the end."""

    def __init__(self, event_log: EventLog, spec: AuditSpec, *, is_timed: bool = True) -> None:
        """Errors: Unavailable if the key or the anchors can't be read; LogCorrupt if the log is another than was anchored."""
        self._log = event_log
        self._where = spec.anchor
        self._anchors = anchors_at(spec.anchor)
        self._key = anchor.private_key(Path(spec.key))
        self._seq = self._check()
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None
        if is_timed:
            every_s = spec.every_us / 1e6
            self._thread = threading.Thread(target=self._run, args=(every_s,), name="ensemble-anchoring", daemon=True)
            self._thread.start()

    def _check(self) -> int:
        """Hold the log against its newest anchor; the frame before which that is."""
        newest = self._anchors.newest(self._log.id, self._log.shard)
        if newest is None:
            return 0
        try:
            known = anchor.read(newest.text)
        except ValueError as error:
            raise LogCorrupt(f"{newest.where}: byte 0: {error}; restore the anchors from a copy") from error
        own = anchor.name_of(self._key.public_key())
        if known.key != own:
            raise Unavailable(
                f"anchors {self._where}: the newest was signed by {known.key}, and the score's key is {own}; give that key"
            )
        head = known.head
        if not goes_through(self._log, head):
            raise LogCorrupt(
                f"log {self._log.name!r}: byte 0: on {known.at} it went to frame {head.seq}, offset {head.offset} "
                f"({newest.where}), and it does not any more: its end was cut off, or it was written anew; see what "
                "ensemble audit --anchor says of it"
            )
        return head.seq

    def _run(self, every_s: float) -> None:
        while not self._leaving.wait(every_s):
            self.look()

    def look(self) -> None:
        """Anchor what is durable now, if it is further than before."""
        try:
            end = self._log.end()
            if end.seq > self._seq:
                text = anchor.sign(self._log.id, self._log.shard, end, self._key)
                self._anchors.add(text, anchor.read(text))
                self._seq = end.seq
        except Unavailable as error:
            log.warning("band %s: its head could not be anchored: %s", self._log.name, error)
        except Exception as error:  # it must not end the thread in silence, nor keep a band from closing its log
            then = "the band plays on, and it is tried again"
            told_fault(log, f"band {self._log.name}", "its head could not be anchored", error, then)

    def close(self) -> None:
        """Anchor the end."""
        self._leaving.set()
        if self._thread is not None:
            self._thread.join()
        self.look()
