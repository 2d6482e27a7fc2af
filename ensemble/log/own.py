"""A log by the kind of store that its url names, with the layers that the store or the score asks for.

Owns which log of which kind is opened, and what is put around it: data beside the log (`blobs.py`), people who can be forgotten
(`forgetting`). Knows a take's own log, not what it goes on from. What a kind needs is imported when one of it is opened.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import pending
from ensemble.log.base import EventLog, Fork, LogReader
from ensemble.log.url import place_of

if TYPE_CHECKING:
    from ensemble.log.blobs import Blobs
    from ensemble.log.forgetting.ring import Ring
    from ensemble.log.manifest import Manifest
    from ensemble.log.objects.codec import Manifest as ObjectManifest
    from ensemble.log.objects.store import Objects
    from ensemble.score.personal import Personal

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Of a log's id: 32 characters without those that are taken for each other."""

RING = "keys.ring"
"""The file in the folder of a store that has the keys of those who can be forgotten."""

BLOBS = "blobs"
"""The folder in a store that has the data which is too large for its frames."""


class Terms(NamedTuple):
    """How a log is to be opened for writing: see `ensemble.log.open_log`."""

    name: str = ""
    durability: Literal["disk", "memory"] = "disk"
    id: str | None = None
    create: bool = True
    shard: int = 0
    shards: int = 1
    personal: Personal | None = None
    blob_above: int | None = None
    takes_over: bool = True
    doing: str = ""
    """What a directory is held for, if not to be played."""


def open_own(url: str, terms: Terms, fork: Fork | None = None) -> EventLog:
    """The log that is kept at a url itself. `fork` is where a new one leaves its parent."""
    name, durability, id, create, shard, shards, personal, blob_above, takes_over, doing = terms
    kind, place = place_of(url)
    if kind == "memory":
        from ensemble.log.memory import MemoryLog, make_memory_store, memory_store

        store = memory_store(place)
        if store is None:
            if not create:
                raise _nothing_in_memory(url)
            store = make_memory_store(place, id or new_id(), name, shard, fork)
        if personal is not None and store.ring is None:
            from ensemble.log.forgetting.ring import MemoryRing

            store.ring = MemoryRing()
        from ensemble.log.blobs import MemoryBlobs

        has_blobs = blob_above is not None or bool(store.blobs)
        return _layered(MemoryLog(store), terms, MemoryBlobs(store.blobs) if has_blobs else None, store.ring)
    if kind == "objects":
        from ensemble.log.objects.blobs import ObjectBlobs
        from ensemble.log.objects.log import open_objects
        from ensemble.log.objects.store import objects_at

        objects = objects_at(url, make=create)
        opened = open_objects(
            objects,
            name=name,
            log_id=id or new_id(),
            shard=shard,
            shards=shards,
            create=create,
            takes_over=takes_over,
            fork=fork,
        )
        try:
            if shards > 1:
                pending.complete(url, opened)
            # Whether data lies beside it would take a call to find out; to look whether a frame names some takes none.
            blobs = ObjectBlobs(opened.objects, opened.epoch)
            return _layered(opened, terms, blobs, _ring_to_write(terms, opened.objects, opened.id))
        except BaseException:
            opened.close()
            raise
    from ensemble.log import division
    from ensemble.log.directory import open_directory

    whole = Path(place).absolute()
    folder = division.place(whole, shard, shards)
    log = open_directory(
        folder,
        name=name,
        log_id=id or new_id(),
        shard=shard,
        is_synced=durability == "disk",
        create=create,
        doing=doing,
        fork=fork,
    )
    try:
        if division.place(whole, shard, shards) != folder:  # while this process came to the lock
            raise Unavailable(f"store {whole}: it was divided anew just now; open it again")
        if shards > 1:
            pending.complete(url, log)
        from ensemble.log.blobs import DirectoryBlobs

        has_blobs = blob_above is not None or (folder / BLOBS).exists()
        return _layered(log, terms, DirectoryBlobs(folder) if has_blobs else None, _ring_to_write(terms, folder, log.id))
    except BaseException:
        log.close()
        raise


def read_own(url: str, shard: int) -> LogReader:
    """The log that is kept at a url itself, to read only."""
    from ensemble.log.blobs import ClaimReader  # around any: data may come to lie beside it while it is read

    kind, place = place_of(url)
    if kind == "memory":
        from ensemble.log.blobs import MemoryBlobs
        from ensemble.log.memory import MemoryReader, memory_store

        store = memory_store(place)
        if store is None:
            raise _nothing_in_memory(url)
        in_memory = ClaimReader(MemoryReader(store), MemoryBlobs(store.blobs))
        if store.ring is None:
            return in_memory
        from ensemble.log.forgetting import ForgettingReader

        return ForgettingReader(in_memory, store.ring)
    if kind == "objects":
        from ensemble.log.objects.blobs import ObjectBlobs
        from ensemble.log.objects.log import read_objects
        from ensemble.log.objects.reading import ObjectFrames
        from ensemble.log.objects.store import objects_at

        found = read_objects(objects_at(url), shard)
        if isinstance(found, ObjectFrames):
            return _readable(ClaimReader(found, ObjectBlobs(found.objects)), found.objects)
        return _with_keys(ClaimReader(found, found.blobs), found.store)
    from ensemble.log.blobs import DirectoryBlobs
    from ensemble.log.directory import read_directory
    from ensemble.log.shelf import FolderShelf, folder_manifest

    folder, known = folder_manifest(Path(place).absolute(), shard)
    if known is not None and known.store:
        from ensemble.log.archived import ArchiveReader

        archive = ArchiveReader(FolderShelf(folder), known)
        return _with_keys(ClaimReader(archive, archive.blobs), archive.store)
    return _readable(ClaimReader(read_directory(folder), DirectoryBlobs(folder)), folder)


def own_blobs(url: str, shard: int) -> Blobs | None:
    """Where a shard of the log that is kept at a url itself puts what is large; None: where only its own process can get it.

    Errors: Unavailable if it can't be found out.
    """
    kind, place = place_of(url)
    if kind == "memory":
        return None
    if kind == "objects":
        from ensemble.log.objects.blobs import ObjectBlobs
        from ensemble.log.objects.log import part_of, read_root
        from ensemble.log.objects.store import objects_at

        objects = objects_at(url)
        root = read_root(objects)
        return None if root is None else ObjectBlobs(part_of(objects, root, shard))
    from ensemble.log import division
    from ensemble.log.blobs import DirectoryBlobs

    whole = Path(place).absolute()
    return DirectoryBlobs(division.place(whole, shard, division.count(whole) or 1))


def count_own(url: str) -> int | None:
    kind, place = place_of(url)
    if kind == "memory":
        from ensemble.log.memory import memory_store

        return 1 if memory_store(place) is not None else None
    if kind == "objects":
        from ensemble.log.objects.log import read_root
        from ensemble.log.objects.store import objects_at

        root = read_root(objects_at(url))
        return None if root is None else root.shards
    from ensemble.log import division

    return division.count(Path(place).absolute())


def shards_begun(url: str) -> list[int]:
    """Which shards were begun of what is kept at a url, in an object store or in memory; a directory's are made at once.

    One that is damaged was. Unavailable; LogCorrupt if it can't be told how many there are to be.
    """
    if place_of(url)[0] != "objects":
        return list(range(count_own(url) or 0))
    from ensemble.log.objects.log import part_of, read_root
    from ensemble.log.objects.store import MANIFEST, objects_at

    objects = objects_at(url)
    root = read_root(objects)
    parts = [] if root is None else [part_of(objects, root, shard) for shard in range(root.shards)]
    return [shard for shard, part in enumerate(parts) if part.patiently(partial(part.get, MANIFEST)) is not None]


def archived_at(url: str) -> str:
    """The url of the store whose archive is kept at a url; empty: none is kept there. Unavailable; LogCorrupt."""
    known = None if place_of(url)[0] == "memory" else _first_manifest(url)
    return "" if known is None else known.store


def fork_at(url: str) -> Fork | None:
    """Where what is kept at a url leaves its parent, by the manifest of its first shard alone: the rest may be damaged.

    None: it is no take, or that shard was never begun. Unavailable; LogCorrupt.
    """
    kind, place = place_of(url)
    if kind == "memory":
        from ensemble.log.memory import memory_store

        store = memory_store(place)
        return None if store is None else store.fork
    known = _first_manifest(url)
    if known is None and kind == "directory":  # where all of a take is made at once
        raise LogCorrupt(f"{url}: the manifest of its first shard is missing; restore it from a copy of the store")
    return None if known is None else known.fork


def _first_manifest(url: str) -> Manifest | ObjectManifest | None:
    """That of the first shard of what is kept at a url, in a folder or an object store; None: it was never begun."""
    kind, place = place_of(url)
    if kind == "objects":
        from ensemble.log.objects.log import own_manifest, part_of, read_root
        from ensemble.log.objects.store import objects_at

        objects = objects_at(url)
        root = read_root(objects)
        return None if root is None else own_manifest(part_of(objects, root, 0))
    from ensemble.log import division, manifest

    whole = Path(place).absolute()
    return manifest.read(division.place(whole, 0, division.count(whole) or 1))


def new_id() -> str:
    """What a new log is called."""
    return "".join(ALPHABET[byte % 32] for byte in os.urandom(12))


def _with_keys(log: LogReader, store: str) -> LogReader:
    """An archive, with the keys that lie beside its log, in the store at this url: where that is not, nothing personal can be
    read."""
    from ensemble.log.forgetting import ForgettingReader
    from ensemble.log.forgetting.ring import AbsentRing

    kind, place = place_of(store)
    if kind == "memory":
        from ensemble.log.memory import memory_store

        kept = memory_store(place)
        if kept is None:
            return ForgettingReader(log, AbsentRing(store))
        return log if kept.ring is None else ForgettingReader(log, kept.ring)
    try:
        if count_own(store) is None:
            return ForgettingReader(log, AbsentRing(store))
        if kind == "directory":
            return _readable(log, Path(place))
        from ensemble.log.objects.store import objects_at

        return _readable(log, objects_at(store))
    except Unavailable as error:
        return ForgettingReader(log, AbsentRing(store, str(error)))


def _layered(log: EventLog, terms: Terms, blobs: Blobs | None, ring: Ring | None) -> EventLog:
    """The log with what is around it: large data beside it, and around that the keys, so that what lies there is encrypted."""
    if blobs is not None:
        from ensemble.log.blobs import ClaimLog

        log = ClaimLog(log, blobs, terms.blob_above)
    if ring is not None:
        from ensemble.log.forgetting import ForgettingLog

        log = ForgettingLog(log, ring, terms.personal)
    return log


def _ring_to_write(terms: Terms, place: Path | Objects, log_id: str) -> Ring | None:
    """The keys of a log, if there are some at this place or are to be."""
    return _ring(place, log_id, is_writer=True) if terms.personal is not None or _has_ring(place) else None


def _readable(log: LogReader, place: Path | Objects) -> LogReader:
    """The log in which people can be forgotten, if it has a key ring at this place; else the log itself."""
    if not _has_ring(place):
        return log
    from ensemble.log.forgetting import ForgettingReader

    return ForgettingReader(log, _ring(place, log.id))


def _has_ring(place: Path | Objects) -> bool:
    if isinstance(place, Path):
        return (place / RING).exists()
    from ensemble.log.forgetting.object_ring import has_ring

    return has_ring(place)


def _ring(place: Path | Objects, log_id: str, *, is_writer: bool = False) -> Ring:
    if isinstance(place, Path):
        from ensemble.log.forgetting.ring import FileRing

        return FileRing(place / RING, is_writer=is_writer)
    from ensemble.log.forgetting.object_ring import ObjectRing

    return ObjectRing(place, log_id, is_writer=is_writer)


def _nothing_in_memory(url: str) -> Unavailable:
    return Unavailable(f"store {url!r}: there is no such log in this process's memory; play a score with it first")
