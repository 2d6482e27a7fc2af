"""The takes of a store: their names, where each is kept, which one is current.

Owns `URL#NAME`, the place of a take's own log, and the pointer to the current take. `main` is the trunk: it is kept at the url
itself and is current unless the pointer says otherwise. What a take holds is the business of `branch.py`.

    STORE/                       main
    STORE/takes/NAME             the own log of a take: a store like any other, whose manifest names its parent
    STORE/takes/.NAME            one that is being made or dropped: nobody's
    STORE/current                the name of the current take and a newline; not there: main
    memory:STORE#NAME            in memory

An object store has the same names, but for `.NAME`: there the manifest is made last and removed first.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log.files import Files, refusal

if TYPE_CHECKING:
    from ensemble.log.objects.store import Objects

MAIN = "main"
CURRENT = "current"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_current: dict[str, str] = {}
"""Of stores in memory, by url."""


def split(url: str) -> tuple[str, str | None]:
    """The store and the take of `URL#NAME`; None: no take is named.

    Errors: Unavailable if it is no name.
    """
    store, mark, take = url.rpartition("#")
    if not mark:
        return url, None
    check_name(take)
    return store, take


def check_name(take: str) -> None:
    """Errors: Unavailable unless a take may be called so."""
    if NAME.fullmatch(take) is None:
        raise Unavailable(
            f"take {take!r:.80}: a take is called by letters, digits, '.', '_' and '-', at most 64 of them, the first a letter "
            "or digit; write it as what-if"
        )


def place(store: str, take: str) -> str:
    """Where the own log of a take is kept, as a url."""
    if take == MAIN:
        return store
    return f"{store}#{take}" if store.startswith("memory:") else f"{store.rstrip('/')}/takes/{take}"


def names(store: str) -> list[str]:
    """The takes of a store beside `main`, in order. Unavailable."""
    if store.startswith("memory:"):
        from ensemble.log.memory import memory_names

        begin = store.removeprefix("memory:") + "#"
        return sorted(name.removeprefix(begin) for name in memory_names() if name.startswith(begin))
    folder = _folder(store)
    if folder is None:
        from ensemble.log.objects.store import MANIFEST, objects_at

        objects = objects_at(store)
        found = [name for name in objects.patiently(lambda: objects.folders("takes")) or [] if NAME.fullmatch(name)]
        return [name for name in found if _is_there(objects, f"takes/{name}/{MANIFEST}")]
    try:
        return sorted(each.name for each in (folder / "takes").iterdir() if NAME.fullmatch(each.name) and each.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise refusal(f"{folder / 'takes'}: can't be read", error) from error


def _is_there(objects: Objects, path: str) -> bool:
    return objects.patiently(lambda: objects.get(path)) is not None


def current(store: str) -> str:
    """The take that is played where none is named.

    Errors: LogCorrupt if the pointer is damaged; Unavailable.
    """
    if store.startswith("memory:"):
        return _current.get(store, MAIN)
    folder = _folder(store)
    if folder is None:
        from ensemble.log.objects.store import objects_at

        objects = objects_at(store)
        data = objects.patiently(lambda: objects.get(CURRENT))
    else:
        try:
            data = (folder / CURRENT).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            data = None
        except OSError as error:
            raise refusal(f"{folder / CURRENT}: can't be read", error) from error
    if data is None:
        return MAIN
    take = data.decode("ascii", "replace").removesuffix("\n")
    if NAME.fullmatch(take) is None:
        raise LogCorrupt(f"{store}/{CURRENT}: byte 0: {data[:40]!r} names no take; write the name of one, or remove this file")
    return take


def make_current(store: str, take: str) -> None:
    """From now on this take is played where none is named. Unavailable."""
    if store.startswith("memory:"):
        _current[store] = take
        return
    data, folder = f"{take}\n".encode(), _folder(store)
    if folder is None:
        from ensemble.log.objects.store import objects_at

        objects = objects_at(store)
        objects.patiently(lambda: objects.put(CURRENT, data))
        return
    try:
        Files().replace(folder / CURRENT, data)
    except OSError as error:
        raise refusal(f"store {store}: its current take can't be changed", error) from error


def make(store: str, take: str, build: Callable[[str], None]) -> None:
    """Make a take: `build` makes the store of its own log at a url, and closes it. All of it is there after that, or nothing.

    Errors: Unavailable if there is one of this name, or the store refuses.
    """
    url, folder = place(store, take), _folder(store)
    if folder is None or store.startswith("memory:"):
        sweep(store, take)
        build(url)
        return
    begun = folder / "takes" / f".{take}"
    try:
        Files().make_folder(begun.parent)
        with _alone(begun.parent):
            made = begun.with_name(take)
            if made.is_file() or (made.is_dir() and any(made.iterdir())):
                raise Unavailable(
                    f"store {store}: there is something in {made} already: somebody else made this take just now, or it is no "
                    "take; choose another name, or see what it is (ensemble take list)"
                )
            sweep(store, take)
            try:
                build(str(begun))
                Files().rename(begun, made)
            except BaseException:  # what is left of it would keep retention from all of the store
                shutil.rmtree(begun, ignore_errors=True)
                raise
            Files().sync_folder(begun.parent)
    except OSError as error:
        raise refusal(f"store {store}: the take {take} can't be made", error) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else makes a take meanwhile: who makes one takes away what is left of another of its name."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def remove(store: str, take: str) -> None:
    """Have a take be there no more. What is left of it, `sweep` takes away. Unavailable."""
    if store.startswith("memory:"):
        from ensemble.log.memory import forget_memory_store

        forget_memory_store(place(store, take).removeprefix("memory:"))
        return
    folder = _folder(store)
    if folder is None:
        from ensemble.log.objects.store import MANIFEST, objects_at

        objects = objects_at(place(store, take))
        objects.patiently(lambda: objects.delete(MANIFEST))
        return
    gone = folder / "takes" / f".{take}"
    try:
        if gone.exists():
            shutil.rmtree(gone)
        Files().rename(gone.with_name(take), gone)
        Files().sync_folder(gone.parent)
    except OSError as error:
        raise refusal(f"store {store}: the take {take} can't be dropped", error) from error


def sweep(store: str, take: str) -> None:
    """Take away what is left of a take that is there no more, or was never finished. Unavailable."""
    if store.startswith("memory:"):
        return
    folder = _folder(store)
    if folder is None:
        from ensemble.log.objects.store import MANIFEST, objects_at

        objects = objects_at(place(store, take))
        found = objects.patiently(lambda: objects.list("")) or []
        for path in () if MANIFEST in found else found:
            objects.patiently(lambda path=path: objects.delete(path))  # type: ignore[misc]
        return
    left = folder / "takes" / f".{take}"
    try:
        if left.exists():
            shutil.rmtree(left)
    except OSError as error:
        raise refusal(f"{left}: can't be removed", error) from error


def _folder(store: str) -> Path | None:
    """Of a directory store; None: it is kept elsewhere."""
    from ensemble.log import place_of

    kind, where = place_of(store)
    return Path(where).absolute() if kind == "directory" else None


def is_current(url: str) -> bool:
    """Whether what a url means is the current take of its store: the one whose effects outside count."""
    store, take = split(url)
    return take is None or take == current(store)
