"""What is kept in the memory of this process, by its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import ClassVar

from ensemble.errors import Unavailable
from ensemble.log.base import EventLog, Fork, LogReader
from ensemble.log.blobs import ClaimReader, MemoryBlobs
from ensemble.log.memory import MemoryLog, MemoryReader, MemoryStore, make_memory_store, memory_store
from ensemble.log.own import Terms, new_id
from ensemble.log.own.layers import layered
from ensemble.log.pending import Board


class OwnInMemory:
    """See `ensemble.log.own.Own`."""

    keeps_out_retention: ClassVar[bool] = False

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name

    def open(self, terms: Terms, fork: Fork | None = None) -> EventLog:
        store = memory_store(self._name)
        if store is None:
            if not terms.create:
                raise self._nothing()
            store = make_memory_store(self._name, terms.id or new_id(), terms.name, terms.shard, fork)
        if terms.personal is not None and store.ring is None:
            from ensemble.log.forgetting.ring import MemoryRing

            store.ring = MemoryRing()
        has_blobs = terms.blob_above is not None or bool(store.blobs)
        return layered(MemoryLog(store), terms, MemoryBlobs(store.blobs) if has_blobs else None, store.ring)

    def read(self, shard: int) -> LogReader:
        store = self._store()
        return self.with_keys(ClaimReader(MemoryReader(store), MemoryBlobs(store.blobs)))

    def count(self) -> int | None:
        return 1 if memory_store(self._name) is not None else None

    def blobs(self, shard: int) -> None:
        return None

    def archived(self) -> str:
        return ""

    def fork(self) -> Fork | None:
        store = memory_store(self._name)
        return None if store is None else store.fork

    @contextmanager
    def shut(self, *, is_take: bool, by_hand: str) -> Iterator[None]:
        with closing(self.open(Terms(create=False))):
            yield

    def with_keys(self, archive: LogReader) -> LogReader:
        ring = self._store().ring
        if ring is None:
            return archive
        from ensemble.log.forgetting import ForgettingReader

        return ForgettingReader(archive, ring)

    def board(self) -> Board:
        raise AssertionError("what is in memory has one shard")

    def _store(self) -> MemoryStore:
        store = memory_store(self._name)
        if store is None:
            raise self._nothing()
        return store

    def _nothing(self) -> Unavailable:
        return Unavailable(f"store {self._url!r}: there is no such log in this process's memory; play a score with it first")
