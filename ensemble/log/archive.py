"""The archive of a log: what retention is going to take is put there first, as it is (docs/size.md, "The archive").

Owns what is put there, and in which order. Where it lies is a `Shelf`'s; how it is read `archived.py`'s. Knows no rule: that
something goes, and when, is retention's.

    packs follow each other, from the first part of the log to `end`, without a gap
    what was taken out of the log lies before `end`, and what lies before `end` is never put there again
"""

from __future__ import annotations

import re
from pathlib import Path

from ensemble.errors import Unavailable
from ensemble.log.base import Copied, EventLog, Packing, Part, Position, Refused
from ensemble.log.cut import goes_through
from ensemble.log.files import corrupt
from ensemble.log.manifest import Manifest
from ensemble.log.segment import Damage
from ensemble.log.shelf import Shelf, shelf_at
from ensemble.log.url import place_of


class Archive:
    """One log's. Used by one thread: the one that writes finished parts anew."""

    def __init__(self, url: str, log: EventLog, shards: int) -> None:
        self.url = resolved(url)
        self._log = log
        self._shards = shards
        self._shelf: Shelf | None = None
        self._end: Position | None = None
        """How far it goes; None: it is empty, or nobody has looked yet."""
        self._owed: Manifest | None = None
        """What is to be written before anything else is put there."""
        self.is_ending = False
        """Whether nothing more is to be begun: set by any thread."""

    def keep(self, packing: Packing, end_seq: int) -> None:
        """Returns once all of the log before this frame is durable there.

        Errors: Refused, where it can't be put there, with what to do; LogCorrupt.
        """
        try:
            parts = packing.parts()
            shelf = self._shelf or self._open(packing)
            for part in parts:
                if part.seq >= end_seq:
                    break
                if self.is_ending:
                    raise self._refused("the band is being closed")
                if self._end is None or self._end.seq < part.end_seq:
                    self._add(shelf, packing, part)
        except Refused:
            raise
        except Unavailable as error:
            raise self._refused(str(error)) from error
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage

    def _add(self, shelf: Shelf, packing: Packing, part: Part) -> None:
        copied = packing.copy(part)
        if self._end is not None and copied.begin != self._end:
            raise self._refused(
                f"it ends before frame {self._end.seq}, and what is next in the log begins with frame {copied.begin.seq}; name "
                "another place, which will have the log from there on"
            )
        if self._end is None and any(told(self.url) in removal.rule for removal in copied.removals):
            raise self._refused(
                "it is empty, and the log says that its past lies there: is the disk there, the bucket the right one? Else "
                "name another place, which will have what is left of the log"
            )
        if self._owed is not None:
            shelf.begin(self._owed)
            self._owed = None
        packing.carry(part, shelf.blobs)
        if not shelf.add(part.seq, copied.data):
            self._compare(shelf, copied)
        self._end = copied.end

    def _compare(self, shelf: Shelf, copied: Copied) -> None:
        """What is there already was put there by a writer that died, or was replaced, before it said so."""
        there = shelf.pack(copied.begin.seq, self._log.id, self._log.shard)
        if (there.begin, there.end) != (copied.begin, copied.end):
            raise self._refused(f"other frames than those of this log lie there from frame {copied.begin.seq} on; name another")

    def _open(self, packing: Packing) -> Shelf:
        log, home = self._log, packing.home
        if _is_inside(self.url, home):
            raise self._refused(f"it lies in the store itself ({home}); name a place outside of it")
        shelf = shelf_at(self.url, log.shard, self._shards)
        known = shelf.manifest()
        own = Manifest(log.id, log.name, log.shard, None, home)
        if known is not None and not known.store:
            raise self._refused("there is a store there, and an archive is to have a place of its own; name another")
        if known is not None and known.id != log.id:
            whose = f"it is that of log {known.id} ({known.name}), not of {log.id} ({log.name})"
            raise self._refused(f"{whose}; name another place")
        seqs = shelf.seqs()
        end = shelf.pack(seqs[-1], log.id, log.shard).end if seqs else None
        if end is not None and not (log.begin().seq <= end.seq and goes_through(log, end)):
            raise self._refused(
                f"it ends before frame {end.seq}, and the log does not go on from there: some of it went without being "
                "archived, or the store is an older copy; name another place, which will have what is left of the log"
            )
        self._shelf, self._end, self._owed = shelf, end, own if known != own else None
        return shelf

    def _refused(self, why: str) -> Refused:
        return Refused(f"archive {self.url}: {why}; nothing is taken from the log until then")


def told(url: str) -> str:
    """What a rule says beside itself, of what lies in an archive."""
    return f", archived in {url}"


def resolved(url: str) -> str:
    """The url of an archive, whatever folder a process works in. Unavailable if there can be none."""
    kind, place = place_of(url)
    if kind == "memory":
        raise Refused(f"archive {url!r}: what is in memory is gone when its process ends; name a folder or an object store")
    if kind == "directory":
        return str(Path(place).absolute())
    if url.startswith("objects:"):
        return f"objects:{Path(url.removeprefix('objects:')).absolute()}"
    return url.rstrip("/")


def _is_inside(url: str, home: str) -> bool:
    """Whether an archive would lie in the store whose own log lies at `home`."""
    store = re.sub(r"/generation-\d+/\d+$", "", home)
    return f"{_without_links(url)}/".startswith(f"{_without_links(store)}/")


def _without_links(url: str) -> str:
    """The one path that leads there, of a place in a file system."""
    path = url.removeprefix("objects:")
    return path if "://" in path else str(Path(path).resolve())
