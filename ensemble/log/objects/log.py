"""A log in an object store (docs/object-log.md): one writer at a time, any number of readers.

Owns opening, appending and closing. Who may write is the protocol's; this drives it.
"""

from __future__ import annotations

import json
import os
import socket
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from threading import Lock

from obstore.exceptions import AlreadyExistsError

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Frame
from ensemble.log.base import Fork, Snapshot
from ensemble.log.chain import Chain
from ensemble.log.group import encode_record, groups_of
from ensemble.log.objects import codec
from ensemble.log.objects.codec import Kept, Manifest
from ensemble.log.objects.protocol import Begun, Entry, Lost, Merge, Merged, Open, Put, Unripe
from ensemble.log.objects.protocol import Kept as Durable
from ensemble.log.objects.reading import ObjectFrames, ObjectReader, View
from ensemble.log.objects.store import Objects

MANIFEST = "ensemble.json"
SNAPSHOTS_KEPT = 2

_played: set[str] = set()
"""The stores that this process writes. Another process can't be known of before it is fenced."""

_playing = Lock()


def open_objects(
    objects: Objects, *, name: str, log_id: str, shard: int = 0, create: bool = True, fork: Fork | None = None
) -> ObjectLog:
    """The log below a prefix, to write and read. See `ensemble.log.open_log`."""
    with _playing:
        if objects.where in _played:
            raise Unavailable(
                f"store {objects.where}: it is being played in this process already; close that band first, or read it with "
                "ensemble.read"
            )
        _played.add(objects.where)
    try:
        known = read_manifest(objects) or (_make(objects, codec.new_manifest(log_id, name, shard, fork)) if create else None)
        if known is None:
            raise _no_store(objects)
        return ObjectLog(objects, known)
    except BaseException:
        let_go(objects.where)
        raise


def read_objects(objects: Objects) -> ObjectReader:
    """The log below a prefix, to read only. See `ensemble.log.read_log`."""
    known = read_manifest(objects)
    if known is None:
        raise _no_store(objects)
    return ObjectReader(objects, known)


def read_manifest(objects: Objects) -> Manifest | None:
    """The manifest of a store; None if there is none. Unavailable; LogCorrupt."""
    data = objects.patiently(lambda: objects.get(MANIFEST))
    return None if data is None else codec.decode_manifest(f"{objects.where}/{MANIFEST}", data)


def merge(objects: Objects, number: int, block: int) -> bool:
    """Merge a block of the log, if it is ripe. Whether it is merged. Unavailable; LogCorrupt."""
    step: Merge | Merged | Unripe = Merge(number, block)
    while isinstance(step, Merge):
        step = step.told(objects.ask(step))
    return isinstance(step, Merged)


def let_go(where: str) -> None:
    with _playing:
        _played.discard(where)


def _make(objects: Objects, manifest: Manifest) -> Manifest:
    others = objects.patiently(lambda: objects.list("")) or []
    if others:
        raise Unavailable(
            f"store {objects.where}: other things are kept there ({', '.join(others[:3])}{', …' if len(others) > 3 else ''}) "
            "and it is no Ensemble store; choose an empty prefix"
        )
    with suppress(AlreadyExistsError, FileExistsError):  # by another, or by us: the answer to the first trial was lost
        objects.patiently(lambda: objects.create(MANIFEST, codec.encode_manifest(manifest)))
    made = read_manifest(objects)
    if made is None:
        raise Unavailable(f"store {objects.where}: there is no such bucket; make it first, or correct the url")
    return made


def _no_store(objects: Objects) -> Unavailable:
    return Unavailable(f"store {objects.where}: there is no store; check the url, or play a score with this store first")


class ObjectLog(ObjectFrames):
    """The writing half. Its view is what is durable, and changes in one assignment."""

    def __init__(self, objects: Objects, manifest: Manifest) -> None:
        super().__init__(objects, manifest)
        self._writer = os.urandom(12).hex()
        self._refuses: str | None = None
        since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        who = {"who": f"process {os.getpid()} on {socket.gethostname()}", "since": since}
        step: Open | Begun = Open(self._number, self._epoch, manifest.block, self._writer, json.dumps(who).encode())
        while isinstance(step, Open):
            step = step.told(objects.ask(step))
            if isinstance(step, Open) and step.seen:
                self._take(step.seen)
                step = step._replace(seen=())
        self._number, self._epoch = step.number, step.epoch
        self._durable = self._whole()
        self._chain = Chain(self._durable.end, step.epoch)
        self._saved = objects.patiently(lambda: objects.list("snapshots")) or []

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
        seq, view, groups = snapshot.at.seq, self._durable, self._groups
        if seq > view.end.seq:
            raise ValueError(f"a snapshot of frame {seq} is of no place in a log of {view.end.seq} frames")
        if seq == view.end.seq:
            kept = Kept(snapshot, self._number, seq, self._epoch, groups)
        else:
            ix = bisect_right(groups.seqs, seq, 0, view.groups) - 1
            kept = Kept(snapshot, groups.numbers[ix], groups.seqs[ix], 0, groups.before(ix))
        path, data = f"snapshots/{seq:020d}", codec.encode_snapshot(self.id, kept)
        self.objects.patiently(lambda: self.objects.put(path, data))
        saved = sorted({*self._saved, path})
        for old in saved[:-SNAPSHOTS_KEPT]:
            self.objects.patiently(lambda old=old: self.objects.delete(old))  # type: ignore[misc]
        self._saved = saved[-SNAPSHOTS_KEPT:]

    def close(self) -> None:
        if not self._is_closed:
            super().close()
            let_go(self.objects.where)

    def _view(self) -> View:
        return self._durable

    def _append_group(self, sealed: Sequence[bytes]) -> None:
        ends = self._chain.ends(sealed, self._durable.end)
        body = b"".join((encode_record(sealed), *sealed))
        # First: whatever breaks the commit off, an interrupt too, nobody knows then what is in the log.
        self._refuses = f"store {self.objects.where}: a commit was broken off; this log takes no more until it is opened again"
        try:
            self._put(Put(self._number, self._manifest.block, Entry(self.epoch, self._writer, False, body)))
        except (Unavailable, LogCorrupt) as error:
            self._refuses = f"{error}; this log takes no more until it is opened again"
            raise Unavailable(self._refuses) from error
        self._refuses = None
        self._note(self._number, body, ends[-1])
        self._number += 1
        self._durable = View(len(self._groups.numbers), ends[-1])

    def _put(self, put: Put) -> None:
        """Returns once the entry is in the log. Unavailable; LogCorrupt."""
        step: Put | Durable | Lost = put
        while isinstance(step, Put):
            # What is left of a stray is nobody's loss: one trial is enough.
            answer = self.objects.call(step.wants()) if step.phase == "clear" else self.objects.ask(step)
            step = step.told(answer)
        if isinstance(step, Lost):
            raise Unavailable(
                f"store {self.objects.where}: it was taken over by another writer ({self._told(step.by)}; our epoch is "
                f"{self.epoch}); close this band; what it had not yet acknowledged is not in the log"
            )

    def _told(self, by: Entry | None) -> str:
        if by is None:
            return "while this one stalled: the log went far beyond it"
        try:
            who = json.loads(by.body) if by.is_begin else {}
            return f"{who['who']}, since {who['since']}, epoch {by.epoch}"
        except (ValueError, KeyError, TypeError):
            return f"epoch {by.epoch}"
