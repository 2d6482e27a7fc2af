"""The takes of a store in the memory of this process: stores of their own, called STORE#NAME."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock

from ensemble.log.memory import forget_memory_store, memory_names
from ensemble.log.takes import place

_pointers: dict[str, bytes] = {}
"""By the url of the store."""

_lock = Lock()
"""Held by who changes the takes of any store in memory."""


class TakesInMemory:
    """See `ensemble.log.takes.Takes`."""

    def __init__(self, store: str) -> None:
        self._store = store

    def names(self) -> list[str]:
        begin = self._store.removeprefix("memory:") + "#"
        return sorted(name.removeprefix(begin) for name in memory_names() if name.startswith(begin))

    def strays(self) -> list[str]:
        return []

    def pointer(self) -> bytes | None:
        return _pointers.get(self._store)

    def point(self, data: bytes) -> None:
        _pointers[self._store] = data

    def make(self, take: str, build: Callable[[str], None]) -> None:
        with self.alone():
            build(place(self._store, take))

    @contextmanager
    def alone(self) -> Iterator[None]:
        with _lock:
            yield

    def dropping(self, take: str) -> AbstractContextManager[None]:
        return self.alone()

    def is_dropped(self, take: str) -> bool:
        return False

    def remove(self, take: str) -> None:
        forget_memory_store(place(self._store, take).removeprefix("memory:"))

    def sweep(self, take: str) -> None:
        """Nothing is left of one."""
