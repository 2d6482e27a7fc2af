"""Logs: where events are kept. `open_log` to write one, `read_log` to read one; a url says where it is.

    memory:            a fresh log in memory, gone when closed
    memory:NAME        a log in memory that this process knows by name: to be closed, opened again, and read
    path, file://path  a directory
    s3://, gs://, az:// bucket and prefix: an object store (docs/object-log.md)
    objects:PATH       a directory that is used as an object store
    any of them#NAME   a take of that store (docs/takes.md); without a name the current one, which is `main` as a rule

docs/log-format.md has the format, `base.py` the promises. What a kind of log needs is imported when it is opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ensemble.errors import Unavailable
from ensemble.log import takes
from ensemble.log.base import EventLog, Fork, Frame, LogReader, Position, Snapshot
from ensemble.log.branch import Branch, BranchLog

if TYPE_CHECKING:
    from ensemble.log.forgetting.ring import Ring
    from ensemble.log.objects.store import Objects
    from ensemble.score.personal import Personal

__all__ = [
    "EventLog", "Fork", "LogReader", "Position", "Snapshot",
    "count_shards", "environment", "has_log", "hold", "linger_us", "make_take", "new_id", "open_log", "own_logs", "place_of",
    "read_log", "take_of", "where",
]  # fmt: skip

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Of a log's id: 32 characters without those that are taken for each other."""

OBJECT_SCHEMES = ("s3", "gs", "az")
RING = "keys.ring"
"""The file in the folder of a store that has the keys of those who can be forgotten."""

BLOBS = "blobs"
"""The folder in a store that has the data which is too large for its frames."""

LINGER_US = 50_000
"""How long a commit to an object store waits for more, if nothing else is said."""


def open_log(
    url: str,
    *,
    name: str,
    durability: Literal["disk", "memory"] = "disk",
    id: str | None = None,
    create: bool = True,
    shard: int = 0,
    shards: int = 1,
    personal: Personal | None = None,
    blob_above: int | None = None,
    takes_over: bool = True,
) -> EventLog:
    """The log at `url`, to write and read; made there if there is none and `create`. Of a store in several shards: one of them.

    `name` and `id` are what a new log gets; one that is there keeps its own. With `durability="memory"` a commit is
    written but not synced: it survives the death of the process, not of the machine. What is `personal` is encrypted.
    Of an object store nobody can know whether who opened the log before, and has not closed it, still plays: unless this one
    `takes_over`, it is refused then.
    Data of more than `blob_above` bytes is kept beside the log, once.
    Errors: Unavailable if it can't be used (in use, read-only, no store, a newer format, another number of shards);
            LogCorrupt if it is damaged.
    """
    store, take = take_of(url)
    own = _open_own(
        takes.place(store, take), name=name, durability=durability, id=id, create=create and take == takes.MAIN,
        shard=shard, shards=shards, personal=personal, blob_above=blob_above, takes_over=takes_over,
    )  # fmt: skip
    if own.fork is None:
        return own
    try:
        _refuse_bare(url, take)
        log = BranchLog(own, read_log(f"{store}#{own.fork.take}", shard), own.fork)
        getattr(own, "look_through", _nowhere)(log.frame_at)
        return log
    except BaseException:
        own.close()
        raise


def _open_own(
    url: str,
    *,
    name: str,
    durability: Literal["disk", "memory"] = "disk",
    id: str | None = None,
    create: bool = True,
    shard: int = 0,
    shards: int = 1,
    fork: Fork | None = None,
    personal: Personal | None = None,
    blob_above: int | None = None,
    takes_over: bool = True,
) -> EventLog:
    """The log that is kept at a url itself. `fork` is where a new one leaves its parent."""
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
        in_memory: EventLog = MemoryLog(store)
        if blob_above is not None or store.blobs:
            from ensemble.log.blobs import ClaimLog, MemoryBlobs

            in_memory = ClaimLog(in_memory, MemoryBlobs(store.blobs), blob_above)
        if store.ring is None:
            return in_memory
        from ensemble.log.forgetting import ForgettingLog

        return ForgettingLog(in_memory, store.ring, personal)
    if kind == "objects":
        from ensemble.log.blobs import ClaimLog
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
            # Whether data lies beside it would take a call to find out; to look whether a frame names some takes none.
            return _forgetting(ClaimLog(opened, ObjectBlobs(opened.objects), blob_above), personal, opened.objects)
        except BaseException:
            opened.close()
            raise
    from ensemble.log import division
    from ensemble.log.directory import open_directory

    whole = Path(place).absolute()
    folder = division.place(whole, shard, shards)
    log = open_directory(
        folder, name=name, log_id=id or new_id(), shard=shard, is_synced=durability == "disk", create=create, fork=fork
    )
    try:
        if division.place(whole, shard, shards) != folder:  # while this process came to the lock
            raise Unavailable(f"store {whole}: it was divided anew just now; open it again")
        return _forgetting(_claiming(log, folder, blob_above), personal, folder)
    except BaseException:
        log.close()
        raise


def _claiming(log: EventLog, folder: Path, above: int | None) -> EventLog:
    """The log whose large data lies beside it, if there is some or is to be; else the log itself."""
    if above is None and not (folder / BLOBS).exists():
        return log
    from ensemble.log.blobs import ClaimLog, DirectoryBlobs

    return ClaimLog(log, DirectoryBlobs(folder), above)


def _forgetting(log: EventLog, personal: Personal | None, place: Path | Objects) -> EventLog:
    """The log in which people can be forgotten, if it has a key ring at this place or is to have one; else the log itself."""
    if personal is None and not _has_ring(place):
        return log
    from ensemble.log.forgetting import ForgettingLog

    return ForgettingLog(log, _ring(place, log.id, is_writer=True), personal)


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


def _readable(log: LogReader, place: Path | Objects) -> LogReader:
    """The log in which people can be forgotten, if it has a key ring at this place; else the log itself."""
    if not _has_ring(place):
        return log
    from ensemble.log.forgetting import ForgettingReader

    return ForgettingReader(log, _ring(place, log.id))


def count_shards(url: str) -> int | None:
    """How many shards the store at `url` has; None if there is no store, or it is in the memory of another process."""
    store, take = _named(url)
    return _count_own(takes.place(store, take))


def _count_own(url: str) -> int | None:
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


def read_log(url: str, shard: int = 0) -> LogReader:
    """The log at `url`, to read only: whether it is being written at the moment or not, and without disturbing it.

    Of a store in several shards: one of them.

    Errors: Unavailable if there is none or it can't be read; LogCorrupt if it is damaged.
    """
    store, take = take_of(url)
    own = _read_own(takes.place(store, take), shard)
    if own.fork is None:
        return own
    _refuse_bare(url, take)
    return Branch(own, read_log(f"{store}#{own.fork.take}", shard), own.fork)


def _read_own(url: str, shard: int) -> LogReader:
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
        from ensemble.log.objects.store import objects_at

        found = read_objects(objects_at(url), shard)
        return _readable(ClaimReader(found, ObjectBlobs(found.objects)), found.objects)
    from ensemble.log import division
    from ensemble.log.blobs import DirectoryBlobs
    from ensemble.log.directory import read_directory

    whole = Path(place).absolute()
    folder = division.place(whole, shard, division.count(whole) or 1)
    return _readable(ClaimReader(read_directory(folder), DirectoryBlobs(folder)), folder)


def has_log(url: str) -> bool:
    """Whether there is a log at `url`.

    Errors: Unavailable if this version knows no such kind of store.
    """
    return count_shards(url) is not None


def take_of(url: str) -> tuple[str, str]:
    """The store and the take that a url means: the take that it names, else the current one.

    Errors: Unavailable if it names one that is not there.
    """
    store, take = _named(url)
    if take != takes.MAIN and _count_own(takes.place(store, take)) is None:
        from ensemble.score.finding import nearest

        there = takes.names(store)
        near = nearest(take, [*there, takes.MAIN])
        hint = (
            f"did you mean {near!r}?"
            if near
            else f"there is {', '.join([takes.MAIN, *there])}; make it with: ensemble take new {take}"
        )
        raise Unavailable(f"store {store}: there is no take {take!r}; {hint}")
    return store, take


def _named(url: str) -> tuple[str, str]:
    store, take = takes.split(url)
    if store == "memory:" and take is not None:
        raise Unavailable(f"store {url!r}: a log in memory without a name has no takes; call it memory:NAME")
    return store, take or takes.current(store)


def _nowhere(frame_at: Callable[[int], Frame]) -> None:
    """Of a log that looks nothing up."""


def _refuse_bare(url: str, take: str) -> None:
    if take == takes.MAIN:
        raise Unavailable(f"store {url}: this is the own log of a take, which begins in another store; name it as STORE#NAME")


def where(url: str) -> str:
    """The url at which the own log of what a url means is kept."""
    return takes.place(*_named(url))


def own_logs(store: str, take: str) -> list[LogReader]:
    """The own logs of a take, shard by shard, to read what it has said itself: without its past.

    Errors: Unavailable if there is no such take, or it can't be read; LogCorrupt.
    """
    url = takes.place(store, take)
    return [_read_own(url, shard) for shard in range(_count_own(url) or 1)]


@contextmanager
def hold(store: str, take: str) -> Iterator[list[EventLog]]:
    """Keep everybody from playing a take meanwhile: the own logs of all its shards, held for writing.

    Errors: Unavailable if somebody plays it.
    """
    url = takes.place(store, take)
    shards = _count_own(url) or 1
    with ExitStack() as stack:
        logs = []
        for shard in range(shards):
            logs.append(_open_own(url, name="", create=False, shard=shard, shards=shards, takes_over=False))
            stack.callback(logs[-1].close)
        yield logs


def make_take(url: str, take: str, name: str, forks: Sequence[Fork]) -> None:
    """Make a take in the store of this url, which leaves its parent there, shard by shard. It has no frames of its own yet.

    Errors: Unavailable if there is one of this name, or the store refuses.
    """
    store, _ = takes.split(url)
    takes.check_name(take)
    if take == takes.MAIN or _count_own(takes.place(store, take)) is not None:
        raise Unavailable(
            f"store {store}: there is a take {take!r} already; choose another name, or drop it: ensemble take drop {take}"
        )

    def build(place: str) -> None:
        for shard, fork in enumerate(forks):
            _open_own(place, name=name, shard=shard, shards=len(forks), fork=fork).close()

    takes.make(store, take, build)


def place_of(url: str) -> tuple[str, str]:
    """Kind (`memory`, `directory` or `objects`) and place.

    Errors: Unavailable if this version knows no such kind of store.
    """
    scheme, colon, rest = url.partition(":")
    if scheme == "memory" and colon:
        return "memory", rest
    if scheme == "objects" and colon and not rest.startswith("//"):
        if not rest:
            raise Unavailable(f"store {url!r}: no place is given; write the path of a directory after it: objects:shop")
        return "objects", url
    if "://" in url:
        if scheme in OBJECT_SCHEMES:
            return "objects", url
        if scheme == "file":
            from urllib.parse import unquote, urlsplit

            parts = urlsplit(url)
            if parts.netloc not in ("", "localhost") or not parts.path:
                raise Unavailable(f"store {url!r}: a file url has three slashes and an absolute path; write {_fixed(url)!r}")
            return "directory", unquote(parts.path)
        raise Unavailable(
            f"store {url!r}: there is no kind of store called {scheme!r}; this version keeps logs in memory (memory:), in "
            "directories (a path, file:///path) and in object stores (s3://, gs://, az://, objects:path)"
        )
    if not url:
        raise Unavailable("store '': no place is given; write memory: or the path of a directory")
    return "directory", url


def linger_us(url: str, given: int | None = None) -> int:
    """How long a commit to this store waits for more that is said: what the score says, or what fits the kind of store."""
    if given is not None:
        return given
    return LINGER_US if place_of(url)[0] == "objects" else 0


def environment(url: str) -> dict[str, str]:
    """What of this process's environment leads to the store: region, endpoint, credentials. For others to open it."""
    prefix = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}.get(url.partition("://")[0])
    return {} if prefix is None else {name: value for name, value in os.environ.items() if name.startswith(prefix)}


def _fixed(url: str) -> str:
    return "file:///" + url.removeprefix("file://")


def _nothing_in_memory(url: str) -> Unavailable:
    return Unavailable(f"store {url!r}: there is no such log in this process's memory; play a score with it first")


def new_id() -> str:
    """What a new log is called."""
    return "".join(ALPHABET[byte % 32] for byte in os.urandom(12))
