"""A store in several shards: a folder that holds a store for each, and says how many there are.

Owns `shards.json` and where each shard's own store lies. A store of one shard has none, unless it once had several.

    shards.json                 {"format": 1, "shards": 4, "generation": 1, "check": "…"}
    generation-1/0 … 3          the store of each shard
    generation-0/…              what it was before it was divided anew: read by nobody any more

The file is written last when a store is divided, and put in place by one rename: before that the old division
holds, after it the new.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import manifest
from ensemble.log.checked import check_of, written
from ensemble.log.files import Files, refusal

FORMAT = 1
NAME = "shards.json"
MOST = 1024
"""Shards of a band at the most."""


class Division(NamedTuple):
    """Into how many shards a store is divided, and which of its generations holds them."""

    shards: int
    generation: int

    def folder(self, store: Path, shard: int) -> Path:
        """Where the store of one shard lies."""
        return store / f"generation-{self.generation}" / str(shard)


def read(store: Path) -> Division | None:
    """How a store is divided; None if it is whole, or not there.

    Errors: LogCorrupt if the file is damaged; Unavailable if it is of a newer format.
    """
    path = store / NAME
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise refusal(f"{path}: can't be read", error) from error
    try:
        entries: Any = json.loads(data)
        check = entries.pop("check", None)
        if check == check_of(entries):
            if entries["format"] > FORMAT:
                raise Unavailable(
                    f"store {store}: it is divided by format {entries['format']}, this version of Ensemble knows {FORMAT}; use "
                    "the version of Ensemble that wrote it, or a newer one"
                )
            return Division(entries["shards"], entries["generation"])
    except (ValueError, AttributeError, TypeError, KeyError):  # it is no JSON, or not the object that it should be
        pass
    raise LogCorrupt(f"{path}: byte 0: it was changed or damaged; restore this file from a copy of the store")


def write(store: Path, division: Division, files: Files | None = None) -> None:
    """Have a store divided so from now on. Unavailable if the disk refuses."""
    files = files or Files()
    entries = {"format": FORMAT, "shards": division.shards, "generation": division.generation}
    try:
        files.make_folder(store)
        files.replace(store / NAME, written(entries))
    except OSError as error:
        raise refusal(f"store {store}: can't be divided", error) from error


def count(store: Path) -> int | None:
    """How many shards a store has; None if there is no store."""
    division = read(store)
    if division is not None:
        return division.shards
    return 1 if manifest.is_store(store) else None


def place(store: Path, shard: int, shards: int) -> Path:
    """Where a shard's own store lies, in a store that has so many, or that is to be made with so many.

    Errors: Unavailable if it has another number of shards.
    """
    division = read(store)
    there = division.shards if division is not None else 1 if manifest.is_store(store) else shards
    if there != shards:
        asked = "one is" if shards == 1 else f"{shards} are"
        as_it_is = f"stage: {{kind: ray, shards: {there}}}" if there > 1 else "one"
        raise Unavailable(
            f"store {store}: it has {_shards(there)}, and {asked} asked for; play it with {as_it_is}, or divide it anew: "
            f"ensemble reshard {store} {shards}"
        )
    if division is None:
        if shards == 1:
            return store
        division = Division(shards, 0)
        _refuse_other_things(store)
        write(store, division)
    return division.folder(store, shard)


def _refuse_other_things(store: Path) -> None:
    try:
        others = [path.name for path in store.iterdir()]
    except FileNotFoundError:
        return
    except OSError as error:
        raise refusal(f"store {store}: can't be looked at", error) from error
    if others and set(others) - {NAME + ".tmp"}:
        raise Unavailable(
            f"store {store}: this folder has other things in it ({', '.join(sorted(others)[:3])}) and is no Ensemble store; "
            "choose an empty or a new folder"
        )


def _shards(count: int) -> str:
    return "one shard" if count == 1 else f"{count} shards"
