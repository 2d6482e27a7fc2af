"""Things of a test that players use wherever they are heard: in this process, or in one of Ray's.

Owns the way home. A thing that is `at_home` travels as a guest's card: in another process, what is called on it is called here,
in the test, while the player waits for the answer. In this process it is the thing itself. Arguments and answers are pickled.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")


class AtHome:
    """A class whose instances stay where the test is."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _arrive, home.card(self)


class KeptList(list[Any], AtHome):
    __reduce_ex__ = AtHome.__reduce_ex__


class KeptDict(dict[Any, Any], AtHome):
    __reduce_ex__ = AtHome.__reduce_ex__


class Kept(AtHome):
    """Anything else: a barrier, an event to wait for."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._thing, name)


def at_home(thing: T) -> T:
    """The thing, staying here: what players do to it, wherever they are, is done to this one."""
    if type(thing) is list:
        return cast(T, KeptList(cast(list[Any], thing)))
    if type(thing) is dict:
        return cast(T, KeptDict(cast(dict[Any, Any], thing)))
    return cast(T, Kept(thing))


class Home:
    """Serves what was sent away from this process, each guest on a thread of its own, so that one may wait for another."""

    def __init__(self) -> None:
        self._things: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._folder = ""
        self._key = b""

    def card(self, thing: Any) -> tuple[str, bytes, int]:
        """What a guest needs to find a thing: where, the key, and its number."""
        with self._lock:
            if self._listener is None:
                self._open()
            self._things[id(thing)] = thing
            return os.fspath(Path(self._folder, "home")), self._key, id(thing)

    def thing(self, address: str, number: int) -> Any:
        """A thing that is kept here; None if that is the card of another home."""
        return self._things.get(number) if self._folder and address.startswith(self._folder) else None

    def forget(self) -> None:
        """The test is over: nothing of it is asked for any more."""
        with self._lock:
            self._things.clear()

    def close(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            shutil.rmtree(self._folder, ignore_errors=True)
        self.forget()

    def _open(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="home-")
        self._key = secrets.token_bytes(16)
        self._listener = Listener(os.fspath(Path(self._folder, "home")), "AF_UNIX", backlog=64, authkey=self._key)
        threading.Thread(target=self._welcome, args=(self._listener,), name="home", daemon=True).start()

    def _welcome(self, listener: Listener) -> None:
        while self._listener is listener:
            try:
                guest = listener.accept()
            except (OSError, EOFError):  # it was closed, or who knocked has gone
                continue
            threading.Thread(target=self._serve, args=(guest,), name="home-guest", daemon=True).start()

    def _serve(self, guest: Connection[Any, Any]) -> None:
        with guest:
            while True:
                try:
                    number, name, args, kwargs = guest.recv()
                except (EOFError, OSError):
                    return
                try:
                    answer = True, getattr(self._things[number], name)(*args, **kwargs)
                except Exception as error:
                    answer = False, error
                try:
                    guest.send(answer)
                except OSError:  # the guest was ended while it waited
                    return


home = Home()

_lines = threading.local()


class Guest:
    """A thing that is at home in another process."""

    def __init__(self, address: str, key: bytes, number: int) -> None:
        self._card = (address, key, number)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return partial(self._call, name)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._call("__setitem__", key, value)

    def __getitem__(self, key: Any) -> Any:
        return self._call("__getitem__", key)

    def __len__(self) -> int:
        return int(self._call("__len__"))

    def __iadd__(self, more: Any) -> Guest:
        self._call("extend", more)
        return self

    def __reduce__(self) -> Any:
        return _arrive, self._card

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        address, key, number = self._card
        lines: dict[str, Connection[Any, Any]] = _lines.__dict__.setdefault("by_address", {})
        line = lines.get(address)
        if line is None:
            line = lines[address] = Client(address, "AF_UNIX", authkey=key)
        line.send((number, name, args, kwargs))
        is_good, answer = line.recv()
        if not is_good:
            raise answer
        return answer


def _arrive(address: str, key: bytes, number: int) -> Any:
    """A card is unpickled: here it is the thing itself, elsewhere a guest's hold on it."""
    thing = home.thing(address, number)
    return Guest(address, key, number) if thing is None else thing
