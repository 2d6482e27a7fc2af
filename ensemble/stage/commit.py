"""Group commit: sealed frames on their way to the log.

Owns what is sealed and not yet durable, and the thread that writes. A group is all that was sealed while the group before it
was being written, so groups grow with the load. When there is nothing else to do the stage writes in its own thread, which
spares an event alone two hand-overs. Where a commit is dear, a group waits for more: it *lingers*.

Invariant: groups are appended in the order of sealing, one at a time; `durable_end` moves when `append` has returned.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

import msgspec

from ensemble.event import Frame
from ensemble.log.base import EventLog, Position, Snapshot

BYTES_MOST = 32 << 20
"""How much may be sealed and not yet durable."""
LINGER_BYTES = 8 << 20
"""A group that has grown so far waits for no more."""


class Group(msgspec.Struct):
    """Frames that are written together, what they lead to, and what is told when they are durable."""

    sealed: list[bytes] = []
    size: int = 0
    end: int = 0
    seq: int = 0
    told: list[Callable[[BaseException | None], None]] = []
    snapshot: Snapshot | None = None


class Commit:
    """The way from sealed to durable. `post` brings a written group, or what went wrong, back to the stage's thread."""

    def __init__(
        self,
        log: EventLog,
        end: int,
        post: Callable[[Group | BaseException], None],
        *,
        is_inline: bool,
        linger_us: int = 0,
    ) -> None:
        self._log = log
        self._post = post
        self._open = Group()
        self._writing: Group | None = None
        self._queue: SimpleQueue[Group | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_inline = is_inline
        self._linger_s = 0.0 if is_inline else linger_us / 1e6
        self._ripe_s: float | None = None
        """When the open group has waited long enough, by the monotonic clock; None: nobody has asked yet."""
        self.durable_end = end
        self._last: tuple[Frame, bytes] | None = None
        self.size = 0
        """Bytes sealed so far."""

    def seal(self, frame: Frame) -> int:
        """Seal a frame into the open group; its size comes back."""
        sealed = self._log.seal(frame)
        group, size = self._open, len(sealed)
        group.sealed.append(sealed)
        group.size += size
        group.end = frame.end
        self.size += size
        self._last = (frame, sealed)
        return size

    def tell(self, told: Callable[[BaseException | None], None]) -> None:
        """Have this called when all that is sealed so far is durable, or has failed (then with the error)."""
        if self._open.sealed:
            self._open.told.append(told)
        elif self._writing is not None:
            self._writing.told.append(told)
        else:
            told(None)

    def sealed_to(self) -> Position:
        """The place after the frame that was sealed last; there must be one."""
        assert self._last is not None
        frame, sealed = self._last
        return Position(frame.seq + 1, frame.end, hashlib.sha256(sealed).digest(), frame.time_us)

    def save(self, snapshot: Snapshot) -> None:
        """Have a snapshot kept once the open group, which it is of, is durable."""
        self._open.snapshot = snapshot

    @property
    def is_clean(self) -> bool:
        """Whether all that was sealed is durable."""
        return self._writing is None and not self._open.sealed and self._open.snapshot is None

    @property
    def is_writing(self) -> bool:
        return self._writing is not None

    @property
    def is_full(self) -> bool:
        return self._open.size > BYTES_MOST

    @property
    def lingers(self) -> bool:
        """Whether a group waits for more."""
        return self._linger_s > 0

    def rest_s(self) -> float:
        """How long the open group still waits for more; 0: it is to be written."""
        group = self._open
        if not self._linger_s or not group.sealed or group.size >= LINGER_BYTES:
            return 0.0
        now_s = time.monotonic()
        if self._ripe_s is None:
            self._ripe_s = now_s + self._linger_s
        return max(0.0, self._ripe_s - now_s)

    def flush(self, *, here: bool) -> Group | None:
        """Write the open group: in this thread if `here` (it comes back, durable), else on the writer's."""
        if self.is_clean or self._writing is not None:
            return None
        group, self._open = self._open, Group()
        self._writing, self._ripe_s = group, None
        if here or self._is_inline:
            self._write(group)
            return group
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ensemble-writer", daemon=True)
            self._thread.start()
        self._queue.put(group)
        return None

    def done(self, group: Group) -> None:
        """A group is durable: called in the stage's thread, for each in turn."""
        self._writing = None
        if group.sealed:
            self.durable_end = group.end
        for told in group.told:
            told(None)

    def fail(self, error: BaseException) -> None:
        """Tell all that wait that it failed."""
        groups = [group for group in (self._writing, self._open) if group is not None]
        self._writing, self._open = None, Group()
        for group in groups:
            for told in group.told:
                told(error)

    def close(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _write(self, group: Group) -> None:
        if group.sealed:
            self._log.append(group.sealed)
        if group.snapshot is not None:
            self._log.save(group.snapshot)

    def _run(self) -> None:
        while (group := self._queue.get()) is not None:
            try:
                self._write(group)
            except BaseException as error:
                self._post(error)
                return
            self._post(group)
