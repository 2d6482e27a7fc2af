"""The takes of a store: their names, where each is kept, which one is current.

Owns `URL#NAME`, the place of a take's own log, and the pointer to the current take. `main` is the trunk: it is kept at the url
itself and is current unless the pointer says otherwise. What a take holds is the business of `branch.py`.

    STORE/                       main
    STORE/takes/NAME             the own log of a take: a store like any other, whose manifest names its parent
    STORE/takes/.NAME            one that is being made or dropped: nobody's
    STORE/current                the name of the current take and a newline; not there: main
    memory:STORE#NAME            in memory

An object store has the same names, but for `.NAME`: there the manifest is made first and removed first. So a take in several
shards may be there of which some were never begun: nobody can play it, and it is dropped as any other.

Who makes a take, drops one or makes one current is `alone`: the folder `takes` is locked. An object store has no lock; there
who drops a take puts a mark of his own before he looks whether others stand on it, and who makes one looks for such marks once
his is there.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import division, manifest
from ensemble.log.files import Files, refusal

if TYPE_CHECKING:
    from ensemble.log.objects.store import Objects

MAIN = "main"
CURRENT = "current"
DROPPING = "dropping"
"""Below this lie the marks of those who are dropping a take: an object each, which nobody else takes away before the take."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_current: dict[str, str] = {}
"""Of stores in memory, by url."""

_in_memory = Lock()
"""Held by who changes the takes of a store in memory."""


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


def is_there(store: str, take: str) -> Unavailable:
    """What is said to who would make a take of a name that there is."""
    drop = "" if take == MAIN else f", or drop it: ensemble take drop {take}"
    return Unavailable(f"store {store}: there is a take {take!r} already; choose another name{drop}")


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
        return sorted(each.name for each in (folder / "takes").iterdir() if NAME.fullmatch(each.name) and _is_store(each))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise refusal(f"{folder / 'takes'}: can't be read", error) from error


def _is_store(folder: Path) -> bool:
    """Whether a store was made there, of one shard or several; it may be damaged."""
    return (folder / manifest.NAME).is_file() or (folder / division.NAME).is_file()


def strays(store: str) -> list[str]:
    """What lies where takes do in a directory, and is none: folders that have something in them. Unavailable."""
    folder = None if store.startswith("memory:") else _folder(store)
    if folder is None:
        return []
    try:
        return sorted(str(each) for each in _folders(folder) if not each.name.startswith(".") and not _is_store(each))
    except OSError as error:
        raise refusal(f"{folder / 'takes'}: can't be read", error) from error


@contextmanager
def stand_on(folder: Path, *, is_held: bool = False) -> Iterator[bool]:
    """Whether there are takes of a store in a folder, or somebody makes one now: what they need must stay.

    So must what may be one that was damaged. What is left of one that was never finished, or was dropped, is taken away.
    Where nobody has made a take yet there is nothing to lock. If the answer `is_held`, the folder `takes` is made there: who
    begins to make one waits until this is left.
    Errors: OSError.
    """
    if is_held:
        with suppress(FileExistsError):  # a file of that name: then no takes can be made either
            (folder / "takes").mkdir()
    with ExitStack() as stack:
        try:
            fd = os.open(folder / "takes", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            found = _is_taken(folder)
        except (FileNotFoundError, NotADirectoryError):
            found = False
        except BlockingIOError:
            found = True
        yield found


def _is_taken(folder: Path) -> bool:
    """Whether there is a take, or what may be one, before which nothing is left of others. `takes` is locked. OSError."""
    for each in _folders(folder):
        if not each.name.startswith("."):
            return True
        shutil.rmtree(each, ignore_errors=True)
    return False


def _folders(folder: Path) -> list[Path]:
    """Those in `takes` that are called as takes are, or as what is left of them, and are not empty. OSError."""
    if not (folder / "takes").is_dir():
        return []
    found = [each for each in (folder / "takes").iterdir() if NAME.fullmatch(each.name.removeprefix(".")) and each.is_dir()]
    return [each for each in found if any(each.iterdir())]


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
        except IsADirectoryError as error:
            raise Unavailable(
                f"{folder / CURRENT}: a folder is where the name of the current take should be; put it away, then make a take "
                "current: ensemble take use main"
            ) from error
        except OSError as error:
            raise refusal(f"{folder / CURRENT}: can't be read", error) from error
    if data is None:
        return MAIN
    take = data.decode("ascii", "replace").removesuffix("\n")
    if NAME.fullmatch(take) is None:
        raise LogCorrupt(f"{store}/{CURRENT}: byte 0: {data[:40]!r} names no take; make one current: ensemble take use main")
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
        with alone(store):
            build(url)
        return
    begun = folder / "takes" / f".{take}"
    try:
        Files().make_folder(begun.parent)
        with alone(store):
            made = begun.with_name(take)
            if made.is_file() or (made.is_dir() and any(made.iterdir())):
                raise Unavailable(
                    f"store {store}: there is something in {made} already: somebody else made this take just now, or it is no "
                    "take; choose another name, or see what is in it, and remove it"
                )
            sweep(store, take)
            try:
                build(str(begun))
                Files().rename(begun, made)
            except BaseException:
                shutil.rmtree(begun, ignore_errors=True)
                raise
            Files().sync_folder(begun.parent)
    except OSError as error:
        raise refusal(f"store {store}: the take {take} can't be made", error) from error


@contextmanager
def alone(store: str) -> Iterator[None]:
    """Nobody else makes a take of a store meanwhile, drops one, or makes one current; in an object store nobody is kept out.

    Errors: Unavailable where a folder can't be locked.
    """
    folder = None if store.startswith("memory:") else _folder(store)
    if store.startswith("memory:"):
        with _in_memory:
            yield
    elif folder is None or not (folder / "takes").is_dir():
        yield
    else:
        with ExitStack() as stack:
            try:
                fd = os.open(folder / "takes", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                fcntl.flock(fd, fcntl.LOCK_EX)
            except OSError as error:
                raise refusal(f"{folder / 'takes'}: can't be locked", error) from error
            yield


@contextmanager
def dropping(store: str, take: str) -> Iterator[None]:
    """Nobody makes a take of this take meanwhile, or whoever does is refused. Unavailable."""
    objects = _objects(store, take)
    if objects is None:
        with alone(store):
            yield
        return
    mark = f"{DROPPING}/{secrets.token_hex(6)}"
    objects.patiently(lambda: objects.put(mark, b""))
    try:
        yield
    except BaseException:
        with suppress(Unavailable):
            objects.patiently(lambda: objects.delete(mark))
        raise


def is_dropped(store: str, take: str) -> bool:
    """Whether somebody is dropping a take of an object store, or was ended while he did. Unavailable."""
    objects = _objects(store, take)
    return objects is not None and bool(objects.patiently(lambda: objects.list(DROPPING, 1)))


def _objects(store: str, take: str) -> Objects | None:
    """Those of a take's own log; None: it is kept elsewhere."""
    if store.startswith("memory:") or _folder(store) is not None:
        return None
    from ensemble.log.objects.store import objects_at

    return objects_at(place(store, take))


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
        _clear(gone)
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
        _clear(left)
    except OSError as error:
        raise refusal(f"{left}: can't be removed", error) from error


def _clear(folder: Path) -> None:
    with suppress(FileNotFoundError):  # another may do the same
        shutil.rmtree(folder)


def _folder(store: str) -> Path | None:
    """Of a directory store; None: it is kept elsewhere."""
    from ensemble.log import place_of

    kind, where = place_of(store)
    return Path(where).absolute() if kind == "directory" else None


def is_current(url: str) -> bool:
    """Whether what a url means is the current take of its store: the one whose effects outside count."""
    store, take = split(url)
    return take is None or take == current(store)
