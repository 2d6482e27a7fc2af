"""Whose turn it is: publications are taken in the order in which their publisher sent them.

Ray starts the calls of an asynchronous actor in any order, and a publication that finds no room is waited for on a thread. Owns
the numbers that each publisher has got through. Runs in the actor's event loop; knows no Ray.

    a, b of one publisher, a.number < b.number  =>  a is taken before b
"""

from __future__ import annotations

import asyncio

PATIENCE_S = 5.0
"""How long a publication waits for one that was sent before it: that one may have been lost with its publisher's thread."""


class Turns:
    """The turns of one publisher."""

    def __init__(self) -> None:
        self.door = asyncio.Lock()
        """Held by who waits for room, so that those behind him wait too."""
        self._next = 0
        self._early: dict[int, asyncio.Future[None]] = {}

    async def come(self, number: int, oldest: int) -> None:
        """Wait for all that was sent before. `oldest` is the first that had no answer yet: none before it is still to come."""
        self._next = max(self._next, oldest)
        if number > self._next:
            early = self._early[number] = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(early, PATIENCE_S)
            except TimeoutError:
                pass
            finally:
                self._early.pop(number, None)
        if number >= self._next:  # else it was sent again, and has its place already
            self._next = number + 1
            following = self._early.get(self._next)
            if following is not None and not following.done():
                following.set_result(None)
