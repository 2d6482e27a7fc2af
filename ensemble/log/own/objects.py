"""What is kept in an object store, below a prefix, in as many shards as it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import ClassVar

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import pending
from ensemble.log.base import EventLog, Fork, LogReader
from ensemble.log.blobs import ClaimReader
from ensemble.log.objects.blobs import ObjectBlobs
from ensemble.log.objects.codec import Manifest
from ensemble.log.objects.log import is_unended, open_objects, own_manifest, part_of, read_objects, read_root
from ensemble.log.objects.proposing import Proposals
from ensemble.log.objects.reading import ObjectFrames
from ensemble.log.objects.store import MANIFEST, objects_at
from ensemble.log.own import Terms, new_id, with_keys
from ensemble.log.own.layers import layered, readable, ring_to_write


class OwnInObjects:
    """See `ensemble.log.own.Own`."""

    keeps_out_retention: ClassVar[bool] = False

    def __init__(self, url: str) -> None:
        self._url = url

    def open(self, terms: Terms, fork: Fork | None = None) -> EventLog:
        log = open_objects(
            objects_at(self._url, make=terms.create),
            name=terms.name,
            log_id=terms.id or new_id(),
            shard=terms.shard,
            shards=terms.shards,
            create=terms.create,
            takes_over=terms.takes_over,
            fork=fork,
        )
        try:
            if terms.shards > 1:
                pending.complete(self.board(), log)
            # Whether data lies beside it would take a call to find out; to look whether a frame names some takes none.
            return layered(log, terms, ObjectBlobs(log.objects, log.epoch), ring_to_write(terms, log.objects, log.id))
        except BaseException:
            log.close()
            raise

    def read(self, shard: int) -> LogReader:
        found = read_objects(objects_at(self._url), shard)
        if isinstance(found, ObjectFrames):
            return readable(ClaimReader(found, ObjectBlobs(found.objects)), found.objects)
        return with_keys(ClaimReader(found, found.blobs), found.store)

    def count(self) -> int | None:
        root = read_root(objects_at(self._url))
        return None if root is None else root.shards

    def blobs(self, shard: int) -> ObjectBlobs | None:
        objects = objects_at(self._url)
        root = read_root(objects)
        return None if root is None else ObjectBlobs(part_of(objects, root, shard))

    def archived(self) -> str:
        known = self._first_manifest()
        return "" if known is None else known.store

    def fork(self) -> Fork | None:
        known = self._first_manifest()
        return None if known is None else known.fork

    @contextmanager
    def shut(self, *, is_take: bool, by_hand: str) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                shards, begun = self.count() or 1, self.begun()
            except LogCorrupt as error:
                self._refuse_played(error, by_hand)
                shards, begun = 0, []
            # Nor a take of which a shard is not there: only who was to make it may have left one open.
            is_half_made = is_take and len(begun) < shards
            for shard in begun:
                terms = Terms(create=False, shard=shard, shards=shards, takes_over=is_half_made)
                try:
                    stack.enter_context(closing(self.open(terms)))
                except LogCorrupt as error:
                    self._refuse_played(error, by_hand, shard)
            yield

    def with_keys(self, archive: LogReader) -> LogReader:
        return readable(archive, objects_at(self._url))

    def board(self) -> Proposals:
        return Proposals(objects_at(self._url))

    def begun(self) -> list[int]:
        """Which shards were begun; one that is damaged was. Unavailable; LogCorrupt if it can't be told how many there are."""
        objects = objects_at(self._url)
        root = read_root(objects)
        parts = [] if root is None else [part_of(objects, root, shard) for shard in range(root.shards)]
        return [shard for shard, part in enumerate(parts) if part.patiently(partial(part.get, MANIFEST)) is not None]

    def _refuse_played(self, error: LogCorrupt, by_hand: str, shard: int | None = None) -> None:
        """Nothing, if nobody plays what is damaged: whoever opens it now is refused, who did before may not have seen it."""
        if is_unended(objects_at(self._url), shard):
            raise Unavailable(
                f"store {self._url}: it is damaged ({error}), and somebody plays it, or was ended before he could close it; "
                "stop that one; if he was ended, restore what is damaged from a copy, play it once more and stop it, or, "
                f"without a copy, {by_hand}"
            ) from error

    def _first_manifest(self) -> Manifest | None:
        """None: it was never begun."""
        objects = objects_at(self._url)
        root = read_root(objects)
        return None if root is None else own_manifest(part_of(objects, root, 0))
