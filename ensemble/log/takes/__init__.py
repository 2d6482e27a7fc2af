"""The takes of a store: their names, where each is kept, which one is current.

Owns `URL#NAME`, the place of a take's own log, and the pointer to the current take. `main` is the trunk: it is kept at the url
itself and is current unless the pointer says otherwise. What a take holds is the business of `branch.py`.

    STORE/                       main
    STORE/takes/NAME             the own log of a take: a store like any other, whose manifest names its parent
    STORE/current                the name of the current take and a newline; not there: main
    memory:STORE#NAME            in memory

Each kind of store has a module of its own here, which says how a take comes to be there whole, or not at all, and who is kept
out meanwhile. A kind is imported when one of it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log.url import place_of

MAIN = "main"
CURRENT = "current"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Takes(Protocol):
    """What every kind of store does with the takes beside its `main`.

    Errors: Unavailable, if the store refuses.
    """

    def names(self) -> list[str]:
        """Those that are there, in order."""
        ...

    def strays(self) -> list[str]:
        """What lies where takes do, and is none."""
        ...

    def pointer(self) -> bytes | None:
        """What says which is current; None: nothing does."""
        ...

    def point(self, data: bytes) -> None:
        """Have the pointer say this, at once."""
        ...

    def make(self, take: str, build: Callable[[str], None]) -> None:
        """As `make`, below."""
        ...

    def alone(self) -> AbstractContextManager[None]:
        """As `alone`, below."""
        ...

    def dropping(self, take: str) -> AbstractContextManager[None]:
        """As `dropping`, below."""
        ...

    def is_dropped(self, take: str) -> bool:
        """As `is_dropped`, below."""
        ...

    def remove(self, take: str) -> None:
        """As `remove`, below."""
        ...

    def sweep(self, take: str) -> None:
        """As `sweep`, below."""
        ...


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
    if not isinstance(take, str) or NAME.fullmatch(take) is None:
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
    return _takes_of(store).names()


def strays(store: str) -> list[str]:
    """What lies where takes do in a directory, and is none: folders that have something in them. Unavailable."""
    return _takes_of(store).strays()


def current(store: str) -> str:
    """The take that is played where none is named.

    Errors: LogCorrupt if the pointer is damaged; Unavailable.
    """
    data = _takes_of(store).pointer()
    if data is None:
        return MAIN
    take = data.decode("ascii", "replace").removesuffix("\n")
    if NAME.fullmatch(take) is None:
        raise LogCorrupt(f"{store}/{CURRENT}: byte 0: {data[:40]!r} names no take; make one current: ensemble take use main")
    return take


def is_current(url: str) -> bool:
    """Whether what a url means is the current take of its store: the one whose effects outside count."""
    store, take = split(url)
    return take is None or take == current(store)


def make_current(store: str, take: str) -> None:
    """From now on this take is played where none is named. Unavailable."""
    _takes_of(store).point(f"{take}\n".encode())


def make(store: str, take: str, build: Callable[[str], None]) -> None:
    """Make a take: `build` makes the store of its own log at a url, and closes it. All of it is there after that, or nothing.

    Errors: Unavailable if there is one of this name, or the store refuses.
    """
    _takes_of(store).make(take, build)


def alone(store: str) -> AbstractContextManager[None]:
    """Nobody else makes a take of a store meanwhile, drops one, or makes one current; in an object store nobody is kept out.

    Errors: Unavailable where a folder can't be locked.
    """
    return _takes_of(store).alone()


def dropping(store: str, take: str) -> AbstractContextManager[None]:
    """Nobody makes a take of this take meanwhile, or whoever does is refused. Unavailable."""
    return _takes_of(store).dropping(take)


def is_dropped(store: str, take: str) -> bool:
    """Whether somebody is dropping a take whom nothing keeps out, or was ended while he did. Unavailable."""
    return _takes_of(store).is_dropped(take)


def remove(store: str, take: str) -> None:
    """Have a take be there no more. What is left of it, `sweep` takes away. Unavailable."""
    _takes_of(store).remove(take)


def sweep(store: str, take: str) -> None:
    """Take away what is left of a take that is there no more, or was never finished. Unavailable."""
    _takes_of(store).sweep(take)


def _takes_of(store: str) -> Takes:
    """Errors: Unavailable if this version knows no such kind of store."""
    kind, where = place_of(store)
    if kind == "memory":
        from ensemble.log.takes.memory import TakesInMemory

        return TakesInMemory(store)
    if kind == "objects":
        from ensemble.log.takes.objects import TakesInObjects

        return TakesInObjects(store)
    from ensemble.log.takes.directory import TakesInDirectory

    return TakesInDirectory(store, where)
