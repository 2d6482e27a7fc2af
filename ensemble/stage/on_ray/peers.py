"""The shards of a band among themselves: each finds the others by the names of their actors.

Owns the lines between shards. A name stays when Ray makes an actor anew; a handle that was passed on would be one thing more to
lose. Blocks: not to be used in a thread of Ray's, nor in an event loop.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from ensemble.errors import Unavailable
from ensemble.stage.on_ray import cluster
from ensemble.stage.on_ray.line import Line


class PeerLine(Line):
    """The line of a shard to another, which waits in a thread beside the shard's event loop: what Ray warns of otherwise."""

    @staticmethod
    def _get(ref: Any, timeout: float | None) -> Any:
        return ref.future().result(timeout)


class Peers:
    """All shards of a band, this one (`number`) among them. Any thread may use it."""

    def __init__(self, called: Sequence[str], number: int) -> None:
        self._called = called
        self.number = number
        self._lines: dict[int, Line] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return max(1, len(self._called))

    def line(self, number: int) -> Line:
        """The line to a shard.

        Errors: Unavailable if there is none of its name (yet).
        """
        with self._lock:
            line = self._lines.get(number)
            if line is None:
                actor = cluster.find(self._called[number])
                if actor is None:
                    raise Unavailable(f"shard {number} ({self._called[number]}) is not there (yet)")
                line = self._lines[number] = PeerLine(actor, self._called[number])
            return line

    def call(self, number: int, verb: str, *given: Any) -> Any:
        """Put a question to a shard, and don't wait: an object reference comes back."""
        return self.line(number).call(verb, *given)

    def ask(self, number: int, verb: str, *given: Any) -> Any:
        """Put a question that does no harm when put twice, and wait for the answer."""
        return self.line(number).ask(verb, *given)
