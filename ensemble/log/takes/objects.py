"""The takes of an object store: a prefix each.

The manifest of a take is made first and removed first. So a take in several shards may be there of which some were never begun:
nobody can play it, and it is dropped as any other.

An object store has no lock: who drops a take puts a mark of his own before he looks whether others stand on it, and who makes
one looks for such marks once his is there.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ensemble.errors import Unavailable
from ensemble.log.objects.store import MANIFEST, Objects, objects_at
from ensemble.log.takes import CURRENT, NAME, place

DROPPING = "dropping"
"""Below this lie the marks of those who are dropping a take: an object each, which nobody else takes away before the take."""


class TakesInObjects:
    """See `ensemble.log.takes.Takes`."""

    def __init__(self, store: str) -> None:
        self._store = store

    def names(self) -> list[str]:
        objects = objects_at(self._store)
        found = [name for name in objects.patiently(lambda: objects.folders("takes")) or [] if NAME.fullmatch(name)]
        return [name for name in found if _is_there(objects, f"takes/{name}/{MANIFEST}")]

    def strays(self) -> list[str]:
        return []

    def pointer(self) -> bytes | None:
        objects = objects_at(self._store)
        return objects.patiently(lambda: objects.get(CURRENT))

    def point(self, data: bytes) -> None:
        objects = objects_at(self._store)
        objects.patiently(lambda: objects.put(CURRENT, data))

    def make(self, take: str, build: Callable[[str], None]) -> None:
        self.sweep(take)
        build(place(self._store, take))

    @contextmanager
    def alone(self) -> Iterator[None]:
        yield

    @contextmanager
    def dropping(self, take: str) -> Iterator[None]:
        objects, mark = self._own(take), f"{DROPPING}/{secrets.token_hex(6)}"
        objects.patiently(lambda: objects.put(mark, b""))
        try:
            yield
        except BaseException:
            with suppress(Unavailable):
                objects.patiently(lambda: objects.delete(mark))
            raise

    def is_dropped(self, take: str) -> bool:
        objects = self._own(take)
        return bool(objects.patiently(lambda: objects.list(DROPPING, 1)))

    def remove(self, take: str) -> None:
        objects = self._own(take)
        objects.patiently(lambda: objects.delete(MANIFEST))

    def sweep(self, take: str) -> None:
        objects = self._own(take)
        found = objects.patiently(lambda: objects.list("")) or []
        for path in () if MANIFEST in found else found:
            objects.patiently(lambda path=path: objects.delete(path))  # type: ignore[misc]

    def _own(self, take: str) -> Objects:
        """Those of a take's own log."""
        return objects_at(place(self._store, take))


def _is_there(objects: Objects, path: str) -> bool:
    return objects.patiently(lambda: objects.get(path)) is not None
