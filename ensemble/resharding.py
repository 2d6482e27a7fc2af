"""A store divided anew: as many shards as are asked for, while nobody plays it.

Owns what is done on the disk, and in which order: whatever is interrupted, the store is the old one or the new one.

    1. every old shard is opened for writing: its lock is held to the end, its torn tail is cut, an older writer is refused
    2. generation-N.tmp/0 … is written and synced          the store is the old one; a .tmp folder is removed the next time
    3. generation-N.tmp is renamed to generation-N         the store is the old one; generation-N is read by nobody
    4. shards.json is put in place, by one rename          from here on the store is the new one
    5. of a store that was undivided, ensemble.json, shard-0, blobs and lock are moved to generation-0/0
                                                           what is left of that is done the next time; nobody reads it there

What the old shards know is carried over by `ensemble.broker.carrying`.
"""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from heapq import merge
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from ensemble.broker import Broker, State
from ensemble.broker.carrying import Carrying
from ensemble.broker.matching.moving import Moving
from ensemble.errors import EnsembleError, Unavailable
from ensemble.event import Frame
from ensemble.listening import motif_reader, motives
from ensemble.log import BLOBS, RING, division, new_id, pending, place_of, takes
from ensemble.log import manifest as manifests
from ensemble.log.base import EventLog
from ensemble.log.blobs import ClaimLog, DirectoryBlobs
from ensemble.log.directory import open_directory
from ensemble.log.division import Division
from ensemble.log.draft import Draft
from ensemble.log.files import Files, refusal
from ensemble.log.manifest import Manifest
from ensemble.log.pending_file import PendingFile
from ensemble.score import load
from ensemble.stage.begin import recover

BUFFER_BYTES = 16 << 20
"""How much is in memory of what is written, over all shards."""
FILES_A_SHARD = 6
"""Files that are open for a shard that is read, at the most."""


class Resharded(msgspec.Struct, frozen=True):
    """What came of it."""

    name: str
    url: str
    before: int
    """How many shards there were."""
    shards: int
    events: int
    took_s: float
    kept: str | None
    """The folder that holds the store as it was; None: nothing was changed."""


def reshard(url: str, shards: int, files: Files | None = None) -> Resharded:
    """Divide a store anew into so many shards; nobody may play it meanwhile. What it was stays beside it.

    `files` are the operations on the disk; tests give some that fail.
    Errors: ValueError where the number is none; Unavailable if there is no such store, if it is in use, or can't be written;
            LogCorrupt if it is damaged. Then nothing has changed.
    """
    if not 1 <= shards <= division.MOST:
        raise ValueError(f"{shards} shards: a store has 1 to {division.MOST} of them")
    store = _folder(url)
    before = division.count(store)
    if before is None:
        raise Unavailable(f"store {url}: there is no store; check the path, or play a score with this store first")
    files, began_s = files or Files(), monotonic()
    known = division.read(store)
    with ExitStack() as stack:
        stack.enter_context(_many_files(before))
        logs = _opened(stack, store, known, before, files)
        if division.read(store) != known:
            raise Unavailable(f"store {url}: it was divided anew by another process just now; see what it is, and try again")
        name = next((log.name for log in logs if log is not None), "")
        _tidy(store, known, files)
        if before == shards:
            return Resharded(name, url, before, shards, 0, monotonic() - began_s, None)
        new = Division(shards, _next_generation(store))
        folder = store / f"generation-{new.generation}"
        begun = folder.with_name(f"{folder.name}.tmp")
        try:
            events = _write(begun, logs, name, shards, files)
            files.rename(begun, folder)
            files.sync_folder(store)
            division.write(store, new, files)
        except (EnsembleError, OSError) as error:
            what = error if isinstance(error, EnsembleError) else refusal(f"store {url}: can't be written", error)
            if division.read(store) == new:
                raise type(what)(f"{what}; it is in {_counted(shards)} now") from error
            shutil.rmtree(begun, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            raise type(what)(f"{what}; the store is as it was, in {_counted(before)}") from error
        kept = "generation-0" if known is None else f"generation-{known.generation}"
        with suppress(OSError):  # the next time
            (store / pending.PENDING).unlink(missing_ok=True)  # each of its parts was in its shard
            _put_away(store, new, files)
    return Resharded(name, url, before, shards, events, monotonic() - began_s, str(store / kept))


def _folder(url: str) -> Path:
    if url.startswith("ray:"):
        raise Unavailable(
            f"store {url}: this is a band that is up on Ray; take it down (ensemble down {url.removeprefix('ray:')}), and name "
            "the store that it plays"
        )
    store, take = takes.split(url)
    kind, place = place_of(store)
    if kind == "memory":
        raise Unavailable(f"store {url}: a log in memory can't be divided anew; only a store in a directory can")
    if kind == "objects":
        raise Unavailable(f"store {url}: a log in an object store can't be divided anew; only a store in a directory can")
    standing = [take] if take else takes.names(store)
    if standing:
        raise Unavailable(f"store {store}: {', '.join(standing)}: takes stand on the log as it is divided now; drop them first")
    return Path(place).absolute()


# The old shards


def _opened(stack: ExitStack, store: Path, known: Division | None, count: int, files: Files) -> list[EventLog | None]:
    """The logs of a store, held for writing; None where a shard was never begun."""
    logs: list[EventLog | None] = []
    for shard in range(count):
        folder = store if known is None else known.folder(store, shard)
        if known is not None and not manifests.is_store(folder) and manifests.read(folder) is None:
            logs.append(None)
            continue
        if (folder / RING).exists():
            raise Unavailable(f"store {store}: it has a key ring, and a store that has one can't be divided anew yet")
        log = open_directory(folder, name="", log_id="", shard=shard, create=False, files=files, doing="divides it anew")
        stack.callback(log.close)
        if known is not None:
            pending.complete(PendingFile(str(store), store), log)
        # What lies beside the old shard is written into the frames of the new ones: its place is that shard's own.
        logs.append(ClaimLog(log, DirectoryBlobs(folder), None) if (folder / BLOBS).exists() else log)
    return logs


class _many_files:  # noqa: N801 - a context
    """Room for the files of so many shards, where the system gives it to whoever asks."""

    def __init__(self, shards: int) -> None:
        self._wanted = 256 + FILES_A_SHARD * shards
        self._before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def __enter__(self) -> None:
        soft, hard = self._before
        if soft < self._wanted:
            wanted = self._wanted if hard == resource.RLIM_INFINITY else min(hard, self._wanted)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._before)


# The new shards


def _motifs(states: Sequence[State], logs: Sequence[EventLog | None], log_ids: Sequence[str], name: str, shards: int) -> Moving:
    """The motifs of several events on their way. Unavailable where they can't be carried over."""
    score = next((state.score for state in states if state.score is not None and state.motifs), None)
    wanted = None if score is None else motives(load(score))
    rows = [_no_frames if log is None else log.rows for log in logs]
    try:
        return Moving(states, log_ids, rows, motif_reader((wanted or {}).values()), shards, wanted)
    except Unavailable as error:
        raise Unavailable(f"band {name}: {error}") from None
    except ValueError as error:
        raise Unavailable(f"band {name}: a motif that was listened for can't be read any more: {error}") from error


def _no_frames(offset: int) -> Iterator[Frame]:
    return iter(())


def _write(folder: Path, logs: Sequence[EventLog | None], name: str, shards: int, files: Files) -> int:
    """Write the new shards into a folder; how many events they have."""
    drafts = [Draft(folder / str(shard), Manifest(new_id(), name, shard), files) for shard in range(shards)]
    old = [State() if log is None else recover(log) for log in logs]
    if any(state.gone for state in old):
        raise Unavailable(
            f"band {name}: retention took events of this store, to which others point; such a store can't be divided anew: "
            "begin a new one with as many shards, and leave this one to be read"
        )
    log_ids = ["" if log is None else log.id for log in logs]
    moving = _motifs(old, logs, log_ids, name, shards)
    states = [State() for _ in drafts]
    writing = _Writing(drafts, states)
    first = {"dedupe": [old[0].dedupe_us, old[0].dedupe_most]}
    carrying = Carrying(old, log_ids, [draft.id for draft in drafts])
    for shard, log in enumerate(logs):
        if log is not None:
            carrying.look(shard, log.rows())
            carrying.want(shard, moving.wanted(shard), moving.positions(shard))
    carrying.begin()
    for shard, frame in _merged(logs):
        for moved in carrying.move(shard, frame):
            marks: dict[str, Any] = {} if drafts[moved.shard].end.seq else dict(first)
            writing.add(moved.shard, Frame(moved.rows.first, frame.time_us, moved.rows, marks))
    now_us = max(state.time_us for state in old)
    for shard, marks in enumerate(carrying.carried()):
        begun = {} if drafts[shard].end.seq else first
        writing.add(shard, Frame(drafts[shard].end.offset, now_us, None, {**begun, **marks}))
    for shard, marks in carrying.tables():
        writing.add(shard, Frame(drafts[shard].end.offset, now_us, None, marks))
    for shard, marks in enumerate(moving.marks(carrying.ends, carrying.lies, carrying.reached)):
        if marks:
            writing.add(shard, Frame(drafts[shard].end.offset, now_us, None, marks))
    brokers: dict[int, Broker] = {}
    for shard, publication in carrying.late():
        broker = brokers.get(shard)
        if broker is None:
            broker = brokers[shard] = Broker(
                states[shard], log_id=drafts[shard].id, name=name, shard=shard, shards=shards, listeners={}, policies={}
            )
            broker.listening.want(moving.live(), _no_frames, states[shard].end)
        late, _ = broker.publish([publication], now_us)
        if late is not None:  # else its ids were seen before
            writing.append(shard, late)
    for draft, state in zip(drafts, states, strict=True):
        draft.finish(state.dump())
    for draft in drafts:
        files.sync_folder(draft.folder)
    return sum(state.end for state in states)


class _Writing:
    """Frames on their way into drafts, folded as they go."""

    def __init__(self, drafts: Sequence[Draft], states: Sequence[State]) -> None:
        self._drafts, self._states = drafts, states
        self._size = 0

    def add(self, shard: int, frame: Frame) -> None:
        self._states[shard].apply(frame)
        self.append(shard, frame)

    def append(self, shard: int, frame: Frame) -> None:
        """Of a frame that is folded already."""
        draft = self._drafts[shard]
        before = draft.size
        draft.append(frame)
        self._size += draft.size - before
        if self._size > BUFFER_BYTES:
            for each in self._drafts:
                each.flush()
            self._size = 0


def _merged(logs: Sequence[EventLog | None]) -> Iterator[tuple[int, Frame]]:
    """The frames with events of all shards, in the order of their times."""

    def frames(shard: int, log: EventLog) -> Iterator[tuple[int, Frame]]:
        for frame in log.rows():
            yield shard, frame

    streams = [frames(shard, log) for shard, log in enumerate(logs) if log is not None]
    return streams[0] if len(streams) == 1 else merge(*streams, key=lambda each: each[1].time_us)


# Where they lie


def _next_generation(store: Path) -> int:
    """A number that no generation ever had here: generation-0 is what was undivided."""
    numbers = [path.name.removeprefix("generation-") for path in store.glob("generation-*")]
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)


def _tidy(store: Path, known: Division | None, files: Files) -> None:
    """Do what was left to do when this was interrupted before."""
    try:
        for path in store.glob("generation-*.tmp"):
            shutil.rmtree(path)
        if known is not None and known.generation:
            _put_away(store, known, files)
    except OSError as error:
        raise refusal(f"store {store}: what was begun before can't be put away", error) from error


def _put_away(store: Path, known: Division, files: Files) -> None:
    """Move what an undivided store consisted of out of the way of the divided one. OSError."""
    left = [name for name in ("shard-0", BLOBS, manifests.NAME, "lock") if (store / name).exists()]
    if not left or known.generation == 0:
        return
    folder = store / "generation-0" / "0"
    files.make_folder(folder)
    for name in left:
        if not (folder / name).exists():
            files.rename(store / name, folder / name)
    files.sync_folder(folder)
    files.sync_folder(store)


def _counted(shards: int) -> str:
    return "one shard" if shards == 1 else f"{shards} shards"
