"""What a log says of what retention took out of it: the marks `removed` (docs/size.md, "What stays provable").

Owns holding packs against these statements, and finding the archive that they name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ensemble.log.base import LogReader
from ensemble.log.pack import Pack


def statements(reader: LogReader) -> Iterator[list[Any]]:
    """All that are left in a log, in order: it reads all frames."""
    return (said for frame in reader.frames() for said in frame.marks.get("removed", ()))


def unsaid(lost: Sequence[tuple[Pack, bytes]], reader: LogReader, archives: list[str] | None = None) -> list[Pack]:
    """The packs out of which something was taken, and of which the log does not say that they take the place of what was there.

    Shapes: each pack with its SHA-256; `archives` gets the urls of the archives that the log names, in order.
    """
    said: set[tuple[Any, ...]] = set()
    for seq, end_seq, _, end, hash_, digest, _, *archive in statements(reader):
        said.add((seq, end_seq, end, hash_, digest))
        if archives is not None:
            archives += archive
    return [pack for pack, digest in lost if (pack.begin.seq, pack.end.seq, pack.end.offset, pack.end.hash, digest) not in said]
