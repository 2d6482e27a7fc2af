"""The files that a shard's folder holds of its log: segments, and packs that took the place of some, in order.

Owns which of them count: of what was written anew the newest. Knows nothing of what stands in segments.

    piece i of a pack covers the frames [seq, end_seq); no other piece begins in there
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ensemble.log.files import Gone, corrupt, refusal
from ensemble.log.pack import SUFFIX, FilePack
from ensemble.log.segment import Damage, Segment

Piece = Segment | FilePack

TEMPORARY = SUFFIX + ".tmp"
LOOKS_MOST = 100
"""How often a folder is looked at that changes each time."""


def pieces_of(
    folder: Path, log_id: str, shard: int, known: Mapping[Path, Piece] | None = None, stale: list[Path] | None = None
) -> list[Piece]:
    """What the log consists of, in order. Those that are `known` come back as they are; of other segments nothing is known yet.

    `stale` gets the files that another took the place of.
    Errors: LogCorrupt if the folder has one that is not called as it should be, or a pack is damaged.
    """
    known = known or {}
    for _ in range(LOOKS_MOST):
        names = _names(folder)
        # A listing may miss what is renamed meanwhile; that happens only beside packs.
        if any(SUFFIX in name for name in names) and _names(folder) != names:
            continue
        try:
            found = [
                known.get(folder / name) or _piece(folder / name, log_id, shard) for name in names if TEMPORARY not in name
            ]
        except Gone:
            continue
        except Damage as damage:
            raise corrupt(damage.path, damage.place, damage.why) from damage
        return _ruling(found, stale)
    raise refusal(f"{folder}: can't be read", OSError(f"it changed each of {LOOKS_MOST} times"))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.suffix == ".seg" or SUFFIX in path.name)
    except OSError as error:
        raise refusal(f"{folder}: can't be read", error) from error


def _piece(path: Path, log_id: str, shard: int) -> Piece:
    if path.suffix == SUFFIX:
        return FilePack(path, log_id, shard)
    if len(path.stem) != 20 or not path.stem.isdigit():
        raise corrupt(path, 0, "a segment is called by the 20 digits of its first frame")
    return Segment(path)


def _ruling(found: Sequence[Piece], stale: list[Path] | None) -> list[Piece]:
    """Those that count: a pack before what it was made of, and of packs the newest."""
    ruling: list[Piece] = []
    for piece in sorted(found, key=lambda each: (each.seq, -each.generation if isinstance(each, FilePack) else 1)):
        last = ruling[-1] if ruling else None
        if isinstance(last, FilePack) and piece.seq < last.head.end.seq:
            if stale is not None:
                stale.append(piece.path)
        else:
            ruling.append(piece)
    return ruling


def lacking(pieces: Sequence[Piece], extents: Sequence[tuple[int, int, int]], seq: int, folder: Path) -> Damage | None:
    """What is missing of the segments that a snapshot of frame `seq` knows (first frame, offset, size); or nothing."""
    there = {piece.seq: piece for piece in pieces}
    packs = [piece for piece in pieces if isinstance(piece, FilePack)]
    for start, _, size in extents:
        piece = there.get(start)
        if isinstance(piece, FilePack) or any(pack.seq <= start < pack.end.seq for pack in packs):
            continue
        path = folder / f"{start:020d}.seg"
        if piece is None:
            return Damage(path, 0, f"this segment is missing; the snapshot of frame {seq} knows it")
        found = size_of(path)
        if found < size:
            return Damage(path, found, f"this segment has {found:,} bytes; the snapshot of frame {seq} knows it with {size:,}")
    return None


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise Gone(str(refusal(f"{path}: can't be read", error))) from error
    except OSError as error:
        raise refusal(f"{path}: can't be read", error) from error
