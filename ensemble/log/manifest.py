"""The manifest of a directory store: what makes a folder a store.

Owns `ensemble.json`, and the judgement of folders that have none. It is written last when a store is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log.base import Fork, Position, begin_of
from ensemble.log.checked import check_of, written
from ensemble.log.files import Files, refusal

FORMAT = 3
"""The newest of docs/log-format.md, which has the rule for raising it: that of archives."""
FIRST_FORMAT = 1
"""In which a store is begun. It gets the next with its first pack."""
PACKED_FORMAT = 2

NAME = "ensemble.json"
ARCHIVE = "archive"
"""The kind of store that a manifest says it is, where it is one that nobody plays."""
PARTS = frozenset({NAME, NAME + ".tmp", "lock", "shard-0"})
"""What a store consists of; a folder with nothing else in it is one that was begun."""


class Manifest(NamedTuple):
    id: str
    name: str
    shard: int = 0
    """Its number, where the store is one of several shards of a band."""
    fork: Fork | None = None
    """Where it leaves its parent, where it is a take."""
    store: str = ""
    """Of an archive: the url of the store that the log is played in, which has its keys."""

    @property
    def begin(self) -> Position:
        """The place before its first frame."""
        return begin_of(self.id, self.shard, self.fork)


def is_store(place: str | Path) -> bool:
    """Whether a store was made there."""
    try:
        return (Path(place) / NAME).is_file()
    except OSError as error:
        raise refusal(f"store {place}: can't be looked at", error) from error


def make(folder: Path, manifest: Manifest, files: Files) -> None:
    """Write the manifest: from now on the folder is a store. OSError if the disk refuses."""
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    entries: dict[str, Any] = {"format": FIRST_FORMAT, "id": manifest.id, "name": manifest.name, "created": created}
    if manifest.shard:
        entries["shard"] = manifest.shard
    if manifest.fork is not None:
        entries["parent"] = manifest.fork.entry()
    files.replace(folder / NAME, written(entries))


def of_archive(manifest: Manifest) -> bytes:
    """The manifest of an archive, as it is written."""
    entries: dict[str, Any] = {"format": FORMAT, "kind": ARCHIVE, "id": manifest.id, "name": manifest.name}
    return written(entries | {"shard": manifest.shard, "store": manifest.store})


def of_empty_part(shard: int, others: Iterable[Manifest | None]) -> Manifest | None:
    """What stands for the manifest of a shard that has let nothing go yet, in an archive to which others have; its id is empty.

    None: the others are those of no archive.
    """
    known = next((each for each in others if each is not None and each.store), None)
    return None if known is None else known._replace(id="", shard=shard)


def not_played(where: object, name: str, store: str) -> Unavailable:
    """What is said to who would play an archive."""
    return Unavailable(
        f"store {where}: this is the archive of band {name}, which can be read and not played; play its store, {store}"
    )


def raise_format(folder: Path, files: Files) -> None:
    """Say that the store has packs: versions that know none refuse it from here on. OSError if the disk refuses."""
    path = folder / NAME
    entries: dict[str, Any] = json.loads(path.read_bytes())
    if entries["format"] >= PACKED_FORMAT:
        return
    del entries["check"]
    entries["format"] = PACKED_FORMAT
    files.replace(path, written(entries))


def read(folder: Path) -> Manifest | None:
    """The manifest of a store; None where there is none yet, and none is in the way of making it.

    Errors: LogCorrupt if it is damaged; Unavailable if it is of a newer format, or if the place is something else.
    """
    path = folder / NAME
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        _refuse_other_things(folder)
        return None
    except OSError as error:
        raise refusal(f"{path}: can't be read", error) from error
    return parse(path, data)


def parse(path: Path | str, data: bytes) -> Manifest:
    """What a manifest says; `path` is what it is called. Errors as of `read`."""
    why = "is not the JSON object that it should be"
    try:
        entries: Any = json.loads(data)
        if isinstance(entries, dict):
            # Before the check: a newer format may check otherwise.
            if isinstance(entries.get("format"), int) and entries["format"] > FORMAT:
                place = str(path).removesuffix("/" + NAME)
                raise Unavailable(
                    f"store {place}: it has format {entries['format']}, this version of Ensemble knows formats up to "
                    f"{FORMAT}; use the version of Ensemble that wrote it, or a newer one"
                )
            check = entries.pop("check", None)
            if check == check_of(entries):
                fork = Fork.of(entries.get("parent"))
                return Manifest(entries["id"], entries["name"], entries.get("shard", 0), fork, entries.get("store", ""))
            why = "was changed or damaged: its check does not fit its entries"
    except ValueError as error:
        why = f"{why} ({error})"
    raise LogCorrupt(f"{path}: byte 0: the manifest {why}; restore this file from a copy of the store")


def _refuse_other_things(folder: Path) -> None:
    try:
        names = {path.name for path in folder.iterdir()}
        has_log = any(path.suffix in (".seg", ".pack") for path in (folder / "shard-0").glob("*"))
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise Unavailable(
            f"store {folder}: this is a file, or lies below one, and a store is a folder; choose another path"
        ) from error
    except OSError as error:
        raise refusal(f"store {folder}: can't be looked at", error) from error
    if has_log:
        raise LogCorrupt(f"{folder / NAME}: byte 0: the manifest is missing; restore this file from a copy of the store")
    others = sorted(names - PARTS)
    if others:
        raise Unavailable(
            f"store {folder}: this folder has other things in it ({', '.join(others[:3])}{', …' if len(others) > 3 else ''}) "
            "and is no Ensemble store; choose an empty or a new folder"
        )
