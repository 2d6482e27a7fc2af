"""A log in an object store (docs/object-log.md): one writer at a time, any number of readers.

Owns opening, appending and closing. Who may write is the protocol's; this drives it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from obstore.exceptions import AlreadyExistsError

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Frame
from ensemble.log import manifest as manifests
from ensemble.log.base import Fork, Packing, Position, Snapshot
from ensemble.log.chain import Chain
from ensemble.log.division import Division
from ensemble.log.group import encode_record, groups_of, peek_record
from ensemble.log.objects import codec
from ensemble.log.objects.codec import Kept, Manifest
from ensemble.log.objects.index import Index
from ensemble.log.objects.merging import SEGMENT_BYTES, Merger
from ensemble.log.objects.packing import ObjectPacking
from ensemble.log.objects.packs import ObjectPack, Packs
from ensemble.log.objects.protocol import Begun, Behind, Entry, Gone, Log, Lost, Open, Put
from ensemble.log.objects.protocol import Kept as Durable
from ensemble.log.objects.reading import ObjectFrames, ObjectReader, View
from ensemble.log.objects.store import MANIFEST, Objects
from ensemble.log.pack import Item

if TYPE_CHECKING:
    from ensemble.log.archived import ArchiveReader

SNAPSHOTS_KEPT = 2

BEGINS_BYTES = 256 * 1024
"""What the beginnings of writers in a block may come to: merging counts them, the index does not."""

LOOK_EVERY_S = 1.0
"""A commit looks at the manifest if none did for so long."""

_played: set[str] = set()
"""The logs that this process writes. Another process can't be known of before it is fenced."""

_playing = Lock()


class Root(NamedTuple):
    """What stands in the manifest of a prefix, and what it means: a log, or several shards."""

    data: bytes
    means: Manifest | Division

    @property
    def shards(self) -> int:
        return 1 if isinstance(self.means, Manifest) else self.means.shards


def open_objects(
    objects: Objects,
    *,
    name: str,
    log_id: str,
    shard: int = 0,
    shards: int = 1,
    create: bool = True,
    takes_over: bool = True,
    fork: Fork | None = None,
) -> ObjectLog:
    """The log below a prefix, to write and read; of several shards, one of them. See `ensemble.log.open_log`."""
    root = read_root(objects)
    if root is None:
        if not create:
            raise _no_store(objects)
        own = codec.new_manifest(log_id, name, shard, fork)
        root = _make(objects, codec.encode_manifest(own) if shards == 1 else codec.encode_division(Division(shards, 0)))
    if root.shards != shards:
        raise _other_shards(objects, root.shards, shards)
    part = part_of(objects, root, shard)
    with _playing:
        if part.where in _played:
            raise Unavailable(
                f"store {part.where}: it is being played in this process already; close that band first, or read it with "
                "ensemble.read"
            )
        _played.add(part.where)
    try:
        known = root.means if isinstance(root.means, Manifest) else own_manifest(part)
        if known is None:
            if not create:
                raise _no_store(part)
            known = _make_own(part, codec.new_manifest(log_id, name, shard, fork))
        if known.store:
            raise manifests.not_played(part.where, known.name, known.store)
        return ObjectLog(part, known, root.data, takes_over=takes_over)
    except BaseException:
        let_go(part.where)
        raise


def read_objects(objects: Objects, shard: int = 0) -> ObjectReader | ArchiveReader:
    """The log below a prefix, to read only; of several shards, one of them. See `ensemble.log.read_log`."""
    root = read_root(objects)
    if root is None:
        raise _no_store(objects)
    part = part_of(objects, root, shard)
    known, archive = manifest_of(objects, root, shard)
    if archive is not None:
        from ensemble.log.archived import ArchiveReader
        from ensemble.log.shelf import ObjectShelf

        return ArchiveReader(ObjectShelf(part), archive)
    if known is None:
        raise _no_store(part)
    return ObjectReader(part, known)


def read_root(objects: Objects) -> Root | None:
    """The manifest of a prefix; None if there is none. Unavailable; LogCorrupt."""
    data = objects.patiently(objects.root_manifest)
    return None if data is None else Root(data, codec.decode_manifest(f"{objects.where}/{MANIFEST}", data))


def let_go(where: str) -> None:
    with _playing:
        _played.discard(where)


def is_unended(objects: Objects, shard: int | None = None) -> bool:
    """Whether somebody plays what is below a prefix, or was ended before he could close it: of one shard, or of any.

    For what can't be opened because it is damaged: it looks at the newest entries only. One that is damaged is no end.
    Errors: Unavailable; LogCorrupt if a shard is asked for, and the manifest of the whole is damaged.
    """
    root = None if shard is None else read_root(objects)
    if shard is not None and root is not None:
        parts = [part_of(objects, root, shard)]
    else:
        below = objects.patiently(lambda: objects.folders("")) or []
        parts = [objects]
        for generation in [each for each in below if each.startswith("generation-")]:
            whole = objects.below(generation)
            parts += [whole.below(each) for each in whole.patiently(lambda whole=whole: whole.folders("")) or []]  # type: ignore[misc]
    return any(part.where in _played or not _has_ended(part) for part in parts)


def _has_ended(part: Objects) -> bool:
    """Whether each log that was begun in the place of one shard ends with an end. Unavailable."""
    newest = {path.rpartition("/")[0]: path for path in part.patiently(lambda: part.list("log/")) or []}
    for path in newest.values():
        data = part.patiently(lambda path=path: part.get(path))  # type: ignore[misc]
        try:
            if data is None or codec.decode_entry(f"{part.where}/{path}", data).body:
                return False
        except LogCorrupt:
            return False
    return True


def part_of(objects: Objects, root: Root, shard: int) -> Objects:
    """The objects of one shard."""
    if isinstance(root.means, Manifest):
        return objects
    return objects.below(f"generation-{root.means.generation}/{shard}")


def manifest_of(objects: Objects, root: Root, shard: int) -> tuple[Manifest | None, manifests.Manifest | None]:
    """The manifest of one shard, if it was begun; and of an archive what it says as such, or what stands for it.

    Errors: Unavailable; LogCorrupt.
    """
    if isinstance(root.means, Manifest):
        return root.means, root.means.archive if root.means.store else None
    known = own_manifest(part_of(objects, root, shard))
    if known is not None:
        return known, known.archive if known.store else None
    others = (own_manifest(part_of(objects, root, each)) for each in range(root.means.shards) if each != shard)
    return None, manifests.of_empty_part(shard, (each.archive for each in others if each is not None))


def own_manifest(part: Objects) -> Manifest | None:
    """The manifest of one shard; None if it was never begun. Unavailable; LogCorrupt."""
    data = part.patiently(lambda: part.get(MANIFEST))
    if data is None:
        return None
    known = codec.decode_manifest(f"{part.where}/{MANIFEST}", data)
    if not isinstance(known, Manifest):
        raise LogCorrupt(f"{part.where}/{MANIFEST}: byte 0: the manifest of one shard should be here; restore it from a copy")
    return known


def _make_own(part: Objects, manifest: Manifest) -> Manifest:
    with suppress(AlreadyExistsError, FileExistsError):  # by another, or by us: the answer to the first trial was lost
        part.patiently(lambda: part.create(MANIFEST, codec.encode_manifest(manifest)))
    made = own_manifest(part)
    if made is None:
        raise _removed(part)
    return made


def _make(objects: Objects, manifest: bytes) -> Root:
    others = objects.patiently(lambda: objects.list("", 4)) or []
    if others and MANIFEST not in others and read_root(objects) is None:  # else another has made it just now
        if any(path.startswith(("log/", "segments/", "generation-")) for path in others):
            raise LogCorrupt(
                f"{objects.where}/{MANIFEST}: byte 0: the manifest is missing, and {others[0]} is there; restore this object "
                "from a copy of the store. If the store was removed on purpose, remove that too: who still played it wrote it"
            )
        raise Unavailable(
            f"store {objects.where}: other things are kept there ({', '.join(others[:3])}{', …' if len(others) > 3 else ''}) "
            "and it is no Ensemble store; choose an empty prefix"
        )
    with suppress(AlreadyExistsError, FileExistsError):  # by another, or by us: the answer to the first trial was lost
        objects.patiently(lambda: objects.create(MANIFEST, manifest))
    made = read_root(objects)
    if made is None:
        raise Unavailable(f"store {objects.where}: there is no such bucket; make it first, or correct the url")
    _refuse_careless(objects, made.data)
    return made


def _refuse_careless(objects: Objects, manifest: bytes) -> None:
    """Refuse a store that does not heed "only if there is none": all of the protocol rests on it."""
    try:
        objects.patiently(lambda: objects.create(MANIFEST, manifest))
    except (AlreadyExistsError, FileExistsError):
        return
    objects.patiently(lambda: objects.delete(MANIFEST))
    raise Unavailable(
        f"store {objects.where}: it puts an object over another though asked to create it only if there is none, so two "
        "writers can't be told apart there; choose one that knows conditional creates (If-None-Match)"
    )


def _no_store(objects: Objects) -> Unavailable:
    return Unavailable(f"store {objects.where}: there is no store; check the url, or play a score with this store first")


def _removed(objects: Objects) -> Unavailable:
    return Unavailable(
        f"store {objects.where}: it was removed, or moved away, or made anew as another one, while it was played; close this "
        "band, and open it again to play what is there now"
    )


def _other_shards(objects: Objects, there: int, asked: int) -> Unavailable:
    has = "one shard" if there == 1 else f"{there} shards"
    asks = "one is" if asked == 1 else f"{asked} are"
    as_it_is = f"stage: {{kind: ray, shards: {there}}}" if there > 1 else "one"
    return Unavailable(
        f"store {objects.where}: it has {has}, and {asks} asked for; play it with {as_it_is} (a store in an object store "
        "can't be divided anew)"
    )


class ObjectLog(ObjectFrames):
    """The writing half. Its view is what is durable, and changes in one assignment."""

    def __init__(self, objects: Objects, manifest: Manifest, root: bytes, *, takes_over: bool = True) -> None:
        super().__init__(objects, manifest)
        self._root = root
        self._writer = os.urandom(12).hex()
        self._refuses: str | None = None
        self._asked_before = self._asked
        self._had_packs = self._kept is not None and self._kept.has_packs
        merged = self._merged
        known = range(merged, self._number // self._log.block)
        self._catch_up()
        self._packs.of(0)  # the first page of them, which is all as a rule: after that it knows of its own
        if self._holder is not None:
            if not takes_over:
                raise Unavailable(
                    f"store {objects.where}: it is played by {_told(self._holder)}, or that one was ended before it could "
                    "close it; publish there, or play its score again"
                )
            self.notes.append(
                f"store {objects.where}: it was taken over from {_told(self._holder)}, which has not closed it; if that one "
                "still plays, it is refused from now on"
            )
        self._begin()
        # Of those that have a segment the last may have been left with entries.
        last = [self._merged - 1] if self._merged > merged else []
        blocks = sorted({*known, *self._unmerged, *last})
        ripe = (self._number - 1) // self._log.block  # so many are whole, and the next one has begun
        self._merger = Merger(objects, self._log, blocks[0] if blocks else ripe, blocks, self.notes)

    def _begin(self) -> None:
        """Take the log over."""
        since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        who = {"who": f"process {os.getpid()} on {socket.gethostname()}", "since": since}
        opening = Open(self._number, self._epoch, self._log, self._writer, self._root, json.dumps(who).encode())
        step: Open | Begun | Gone | Behind = opening.at_end()
        while isinstance(step, Open):
            step = step.told(self.objects.ask(step))
            if isinstance(step, Open) and step.seen:
                self._take(step.seen)
                step = step._replace(seen=())
        if isinstance(step, Gone):
            raise Unavailable(f"store {self.objects.where}: it was removed or made anew just now; open it again")
        if isinstance(step, Behind):
            raise Unavailable(f"store {self.objects.where}: others have written it far beyond meanwhile; open it again")
        self._looked_s = time.monotonic()
        self._said = opening.body
        self._note_other(self._number, Entry(step.epoch, self._writer, True, opening.body))
        self._number, self._epoch = step.number, step.epoch
        self._durable = self._whole()
        self._chain = Chain(self._durable.end, step.epoch)

    @property
    def epoch(self) -> int:
        return self._chain.epoch

    def seal(self, frame: Frame) -> bytes:
        return self._chain.seal(frame)

    def append(self, sealed: Sequence[bytes]) -> None:
        self._refuse_closed()
        if self._refuses:
            raise Unavailable(self._refuses)
        for group in groups_of(sealed):
            self._append_group(group)

    def save(self, snapshot: Snapshot) -> None:
        self._refuse_closed()
        at, view = snapshot.at, self._durable
        if at.seq > view.end.seq:
            raise ValueError(f"a snapshot of frame {at.seq} is of no place in a log of {view.end.seq} frames")
        if self.objects.patiently(self.objects.root_manifest) != self._root:
            raise _removed(self.objects)
        is_end = at.seq == view.end.seq
        number, begins, size = (view.number, at.seq, view.size) if is_end else self._group_of(view, at.seq)
        merged = min(self._merger.merged, number // self._log.block)
        blocks = self._index.before(number)
        epoch = self.epoch if is_end else 0
        has_packs = self._had_packs or self._packs.is_any
        kept = Kept(snapshot, number, begins, epoch, merged, size, blocks, dict(self.requests()), self._said, has_packs)
        path, data = codec.snapshot_path(self.id, at.seq), codec.encode_snapshot(self.id, kept)
        self.objects.patiently(lambda: self.objects.put(path, data))
        saved = sorted({*self._saved, path})
        for old in saved[:-SNAPSHOTS_KEPT]:
            self.objects.patiently(lambda old=old: self.objects.delete(old))  # type: ignore[misc]
        self._saved = saved[-SNAPSHOTS_KEPT:]

    def packing(self) -> Packing:
        return ObjectPacking(self)

    @property
    def packs(self) -> Packs:
        return self._packs

    @property
    def index(self) -> Index:
        return self._index

    @property
    def names(self) -> Log:
        return self._log

    @property
    def first(self) -> Position:
        """The place before its own first frame."""
        return self._manifest.begin

    def frame(self, seq: int) -> Frame:
        """One frame, which must be there. LogCorrupt; Unavailable."""
        spot = self._index.of_seq(seq)
        return next(self._read(self._durable, spot, lambda header: header.seq >= seq, seq=seq, is_alone=True))

    def snapshots_at(self) -> list[int]:
        """The frames before which its snapshots were kept, the newest last."""
        return [int(path.rpartition("/")[2]) for path in self._saved]

    def is_merged(self, block: int) -> bool:
        """Whether a block that is whole was merged, and its entries deleted, for certain."""
        size = self._index.place(block + 1).size - self._index.place(block).size
        return block < self._merger.merged and size < SEGMENT_BYTES - BEGINS_BYTES

    def pieces(self, number: int, until: int) -> Iterator[tuple[int, Entry | ObjectPack]]:
        """What is kept of these entries, in order."""
        return self._pieces(number, until)

    def items(self, number: int, entry: Entry, at: Position | None) -> Iterator[Item]:
        """The frames of a group, each checked against the one before it; of the first that may be unknown. LogCorrupt."""
        header = self._first(number, entry.body)
        before = at or Position(header.seq, header.first, header.prev, header.time_us)
        return (Item(*each) for each in self._frames_of(number, entry.body, before))

    def requests(self) -> Mapping[str, int]:
        """What its writers have asked of the store, by kind, from the log's beginning on."""
        return Counter(self._asked_before) + self.objects.requests

    def close(self) -> None:
        if not self._is_closed:
            self._merger.close()
            if not self._refuses:
                with suppress(Unavailable, LogCorrupt):  # then whoever opens next takes it for played
                    self._put(Put(self._number, self._log, Entry(self.epoch, self._writer, False, b"")))
            super().close()
            let_go(self.objects.where)

    def _view(self) -> View:
        return self._durable

    def _pack_of(self, number: int) -> ObjectPack | None:
        if number in self._recent and not self._packs.has(number // self._log.block):
            return None
        return super()._pack_of(number)

    def _group_of(self, view: View, seq: int) -> tuple[int, int, int]:
        """The entry that holds a frame, the first frame of that, and the bytes of all groups before."""
        spot = self._index.of_seq(seq)
        size = spot.size
        for number, entry in self._pieces(spot.number, view.number, is_alone=True):
            if isinstance(entry, ObjectPack):
                raise ValueError(f"a snapshot of frame {seq} comes too late: what is there was written anew")
            record = peek_record(entry.body) if entry.is_group else None
            if record is not None and seq < record.end_seq:
                return number, record.seq, size
            size += len(entry.body) if entry.is_group else 0
        raise self._corrupt(view.number - 1, f"frame {seq} should be here, or before")

    def _append_group(self, sealed: Sequence[bytes]) -> None:
        ends = self._chain.ends(sealed, self._durable.end)
        body = b"".join((encode_record(sealed), *sealed))
        entry, number = Entry(self.epoch, self._writer, False, body), self._number
        now_s = time.monotonic()
        is_looking = now_s > self._looked_s + LOOK_EVERY_S
        # First: whatever breaks the commit off, an interrupt too, nobody knows then what is in the log.
        self._refuses = f"store {self.objects.where}: a commit was broken off; this log takes no more until it is opened again"
        try:
            self._put(Put(number, self._log, entry, self._root if is_looking else None))
        except (Unavailable, LogCorrupt) as error:
            self._refuses = f"{error}; this log takes no more until it is opened again"
            raise Unavailable(self._refuses) from error
        self._refuses = None
        if is_looking:
            self._looked_s = now_s
        self._note(number, entry, self._durable.end, ends[-1])
        self._number = number + 1
        self._durable = View(self._number, ends[-1], self._index.size)
        if number and number % self._log.block == 0:  # the block before is whole, and this one has begun
            held = [self._recent.get(each) for each in range(number - self._log.block, number)]
            self._merger.add(number // self._log.block - 1, tuple(each for each in held if each) if all(held) else ())

    def _put(self, put: Put) -> None:
        """Returns once the entry is in the log. Unavailable; LogCorrupt."""
        step: Put | Durable | Lost | Gone = put
        while isinstance(step, Put):
            # What is left of a stray is nobody's loss: one trial is enough.
            answer = self.objects.call(step.wants()) if step.phase == "clear" else self.objects.ask(step)
            step = step.told(answer)
        if isinstance(step, Gone):
            raise _removed(self.objects)
        if isinstance(step, Lost):
            raise Unavailable(
                f"store {self.objects.where}: it was taken over by another writer ({self._told(step.by)}; our epoch is "
                f"{self.epoch}); close this band; what it had not yet acknowledged is not in the log"
            )

    def _told(self, by: Entry | None) -> str:
        if by is None:
            return "while this one stalled: the log went far beyond it"
        return f"{_told(by.body)}, epoch {by.epoch}" if by.is_begin else f"epoch {by.epoch}"


def _told(begin: bytes) -> str:
    """Who a beginning speaks of, and since when."""
    try:
        who = json.loads(begin)
        return f"{who['who']}, since {who['since']}"
    except (ValueError, KeyError, TypeError):
        return "another writer"
