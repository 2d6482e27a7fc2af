"""What is kept in a directory, in as many shards as it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import division, manifest, pending
from ensemble.log.base import EventLog, Fork, LogReader
from ensemble.log.blobs import ClaimReader, DirectoryBlobs
from ensemble.log.directory import open_directory, read_directory
from ensemble.log.fence import Lock, raise_epoch
from ensemble.log.files import Files, refusal
from ensemble.log.manifest import Manifest
from ensemble.log.own import BLOBS, CHANGES_TAKES, Terms, new_id, with_keys
from ensemble.log.own.layers import layered, readable, ring_to_write
from ensemble.log.pending_file import PendingFile
from ensemble.log.shelf import FolderShelf, folder_manifest


class OwnInDirectory:
    """See `ensemble.log.own.Own`."""

    keeps_out_retention: ClassVar[bool] = True

    def __init__(self, url: str, place: str) -> None:
        self._url = url
        self._whole = Path(place).absolute()

    def open(self, terms: Terms, fork: Fork | None = None) -> EventLog:
        folder = division.place(self._whole, terms.shard, terms.shards)
        log = open_directory(
            folder,
            name=terms.name,
            log_id=terms.id or new_id(),
            shard=terms.shard,
            is_synced=terms.durability == "disk",
            create=terms.create,
            doing=terms.doing,
            fork=fork,
        )
        try:
            if division.place(self._whole, terms.shard, terms.shards) != folder:  # while this process came to the lock
                raise Unavailable(f"store {self._whole}: it was divided anew just now; open it again")
            if terms.shards > 1:
                pending.complete(self.board(), log)
            has_blobs = terms.blob_above is not None or (folder / BLOBS).exists()
            return layered(log, terms, DirectoryBlobs(folder) if has_blobs else None, ring_to_write(terms, folder, log.id))
        except BaseException:
            log.close()
            raise

    def read(self, shard: int) -> LogReader:
        folder, known = folder_manifest(self._whole, shard)
        if known is not None and known.store:
            from ensemble.log.archived import ArchiveReader

            archive = ArchiveReader(FolderShelf(folder), known)
            return with_keys(ClaimReader(archive, archive.blobs), archive.store)
        return readable(ClaimReader(read_directory(folder), DirectoryBlobs(folder)), folder)

    def count(self) -> int | None:
        return division.count(self._whole)

    def blobs(self, shard: int) -> DirectoryBlobs:
        return DirectoryBlobs(division.place(self._whole, shard, self.count() or 1))

    def archived(self) -> str:
        known = self._first_manifest()
        return "" if known is None else known.store

    def fork(self) -> Fork | None:
        known = self._first_manifest()
        if known is None:  # all of a take is made at once
            raise LogCorrupt(f"{self._url}: the manifest of its first shard is missing; restore it from a copy of the store")
        return known.fork

    @contextmanager
    def shut(self, *, is_take: bool, by_hand: str) -> Iterator[None]:
        """Without its logs: the disk may be full."""
        with ExitStack() as stack:
            for folder in (self._whole, *sorted(self._whole.glob("generation-*/*"))):
                if (folder / "lock").exists() or (folder / "shard-0").is_dir():  # of a copy there may be no lock
                    try:
                        lock = Lock(folder, CHANGES_TAKES)
                    except OSError as error:
                        raise refusal(f"store {folder}: can't be locked", error) from error
                    # Who writes on without the lock is fenced where that can be. If it was left, that stays to be seen.
                    stack.callback(lock.forget if lock.was_left else lock.release)
                    with suppress(OSError, LogCorrupt):
                        raise_epoch(folder / "shard-0", 0, Files())
            yield

    def with_keys(self, archive: LogReader) -> LogReader:
        return readable(archive, self._whole)

    def board(self) -> PendingFile:
        return PendingFile(self._url, self._whole)

    def _first_manifest(self) -> Manifest | None:
        return manifest.read(division.place(self._whole, 0, self.count() or 1))
