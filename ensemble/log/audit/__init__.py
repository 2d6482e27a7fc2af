"""Auditing one log: all that its bytes prove, and all that is wrong with them (docs/audit.md).

Owns what an audit comes to. Each kind of log is walked by a module of its own; what a frame and a group must be is said
elsewhere (`frame`, `chain`, `recovery`), once. Nothing is changed, and no lock taken.

    is every verdict "held" and no finding there, then the log goes through all places that were asked for, unchanged
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log.base import Fork, Position
from ensemble.log.takes import MAIN

if TYPE_CHECKING:
    from ensemble.event import Frame
    from ensemble.log.pack import Pack

Verdict: TypeAlias = Literal["held", "other", "beyond", "unread"]
"""Of a place: the log goes through it; it was another there; it ends before; or damage hides it."""

Known: TypeAlias = Callable[[str, int], Sequence[Position]]
"""Log id and shard -> places through which that log is known to go."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it was written."""

    file: str
    """A file, or an object."""
    byte: int
    wrong: str

    def __str__(self) -> str:
        return f"{self.file}: byte {self.byte}: {self.wrong}"


class Audited(msgspec.Struct):
    """What came of auditing one log. Where its manifest is damaged nothing else was looked at, and `id` is empty."""

    id: str = ""
    name: str = ""
    shard: int = 0
    take: str = MAIN
    fork: Fork | None = None
    """Where it leaves its parent, of a take."""
    begin: Position = Position(0, 0, b"", 0)
    """The place before the first frame that is there."""
    end: Position = Position(0, 0, b"", 0)
    """The place after the last frame that is whole."""
    bytes: int = 0
    """Of whole groups."""
    findings: list[Finding] = []
    notes: list[str] = []
    verdicts: dict[Position, Verdict] = {}
    """On each place that was asked for."""
    unseen: list[Position] = []
    """Those of these that can't be looked at here any more, and are taken to be held: retention took what lay there."""
    archive: str = ""
    """Where the log says that it lies, as it was, since it last said so; empty: nowhere."""


def audit_log(url: str, shard: int = 0, known: Known = lambda log_id, shard: ()) -> Audited:
    """Look at every byte of the log that is kept at `url` itself; of a store in several shards: of one of them.

    Errors: Unavailable if there is none, or it can't be read.
    """
    from ensemble.log import place_of

    kind, place = place_of(url)
    if kind == "memory":
        from ensemble.log.audit.memory import audit_memory
        from ensemble.log.memory import memory_store

        store = memory_store(place)
        if store is None:
            raise Unavailable(f"store {url!r}: there is no such log in this process's memory; play a score with it first")
        return audit_memory(store, known)
    if kind == "objects":
        from ensemble.log.audit.objects import audit_objects
        from ensemble.log.objects.store import objects_at

        return audit_objects(objects_at(url), shard, known)
    from ensemble.log.audit.directory import audit_directory

    return audit_directory(Path(place).absolute(), shard, known)


def unsaid(packs: Iterable[tuple[Pack, bytes]], frames: Iterable[Frame], found: Audited) -> list[Pack]:
    """The packs of which the log that is left does not say, with the hash of each, that they take the place of what was there.

    Shapes: `packs` are those out of which something was taken, each with the SHA-256 of all its bytes. In which archive that
            lies is noted in `found`.
    """
    known = list(packs)
    said: set[tuple[Any, ...]] = set()
    for frame in frames if known else ():
        for seq, end_seq, _, end, hash_, digest, _, *archive in frame.marks.get("removed", ()):
            said.add((seq, end_seq, end, hash_, digest))
            found.archive = archive[0] if archive else found.archive
    return [pack for pack, digest in known if (pack.begin.seq, *pack.end[:2], pack.end.hash, digest) not in said]


def tell_unsaid(packs: Iterable[tuple[Pack, bytes]], frames: Iterable[Frame], found: Audited) -> None:
    """What was taken out of a pack must be said: else it is not what was written."""
    for pack in unsaid(packs, frames, found):
        wrong = "events were taken out of it, and nothing in the log says of this file that it takes their place"
        found.findings.append(Finding(str(pack.path), 0, wrong))


def pass_over(pack: Pack, verdicts: dict[Position, Verdict], found: Audited) -> None:
    """Places in what is past can't be looked at here any more; the pack that stands for it says where it ends, which is
    proven."""
    gone = [at for at, verdict in verdicts.items() if verdict == "unread" and at.seq < pack.end.seq]
    verdicts.update(dict.fromkeys(gone, "held"))
    found.unseen += [at for at in gone if at in found.verdicts]


def of_error(error: LogCorrupt, file: object) -> Finding:
    """What a reader says of a file, as a finding; the advice that goes with it is for one who can't go on."""
    text = str(error).removeprefix(f"{file}: byte 0: ")
    return Finding(str(file), 0, text.partition("; restore ")[0])
