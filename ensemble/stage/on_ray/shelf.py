"""Large frames of the log, put into the cluster's memory once for all sections that hear them.

Owns which frames go there, and for how long. What is there is a copy, which Ray may lose: the log has it, and a batch that
could not be read is handed out again with its events in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ensemble.event import Rows
from ensemble.stage.on_ray.wire import Shared, shared

INLINE_BYTES = 90_000
"""Bytes of a batch or an outcome that travel inside Ray's own call, which carries 100 KiB. What is larger goes through Ray's
object store: so a frame of which one batch has more is put there once, rather than once a section."""
FRAME_BYTES_MOST = 4 << 20
"""Larger frames are not shared: each batch would read all of one for a few rows."""
KEPT_BYTES = 32 << 20
"""How much stays in the store for sections that have not come to it yet. What is in flight Ray keeps anyway."""


class Shelf:
    """The frames of one shard that are shared. `put` brings one into the cluster's memory, `is_worth_it` says whether to."""

    def __init__(self, put: Callable[[Shared], Any], is_worth_it: Callable[[], bool]) -> None:
        self._put, self._is_worth_it = put, is_worth_it
        self._lock = threading.Lock()
        self._refs: dict[int, tuple[Any, int]] = {}
        """First offset of a frame -> its reference and its bytes, the one that was asked for last at the end."""
        self._unread: set[int] = set()
        """Frames that somebody could not read there."""
        self._size = 0

    def ref(self, rows: Rows, ixs: Sequence[int]) -> Any | None:
        """The reference to a frame of which these rows go into a batch; None: they go in it themselves."""
        data = rows.data
        if len(ixs) * max(len(data[ixs[0]]), len(data[ixs[-1]])) < INLINE_BYTES:  # so it is nearly always: no more is looked at
            return None
        with self._lock:
            if rows.first in self._refs:
                kept = self._refs[rows.first] = self._refs.pop(rows.first)
                return kept[0]
            if rows.first in self._unread or not self._is_worth_it():
                return None
            if sum(len(data[ix]) for ix in ixs) < INLINE_BYTES or sum(map(len, data)) > FRAME_BYTES_MOST:
                return None
            frame = shared(rows)
            self._refs[rows.first] = self._put(frame), len(frame.data)
            self._size += len(frame.data)
            while self._size > KEPT_BYTES:
                self._drop(next(iter(self._refs)))
            return self._refs[rows.first][0]

    def forget(self) -> None:
        """Keep nothing there: what the log says is another than it was."""
        with self._lock:
            for first in list(self._refs):
                self._drop(first)

    def _drop(self, first: int) -> None:
        _, size = self._refs.pop(first, (None, 0))
        self._size -= size

    def could_not_read(self, firsts: Iterable[int]) -> None:
        """These frames, by their first offsets, are not to be shared: somebody could not read one of them."""
        with self._lock:
            for first in firsts:
                self._drop(first)
                self._unread.add(first)
