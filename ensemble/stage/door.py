"""The door of a band that plays: how other processes on this machine speak to it.

Owns a Unix socket beside the store and what goes over it: MessagePack values, each after its length in 4 bytes, big-endian.
A request is [verb, arguments], an answer [value] or [kind of error, its text]. Only the user who plays may come in.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from ensemble import errors
from ensemble.errors import EnsembleError, InvalidEvent, Unavailable
from ensemble.event import Receipt
from ensemble.log import place_of, where
from ensemble.log.takes import split

ADDRESS = "door"
"""The file in the store's folder that says where the socket is."""
PATH_MOST = 100
"""Longest path that a socket may have everywhere."""
REQUEST_MOST = 64 << 20
CHUNK = 500

Verbs = Mapping[str, Callable[..., Any]]


class Door:
    """Lets others in while a band plays. `verbs` are what may be asked."""

    def __init__(self, folder: Path, verbs: Verbs) -> None:
        self._folder = folder
        self._verbs = verbs
        self._own: Path | None = None
        path = folder / "door.sock"
        if len(os.fsencode(path.resolve())) > PATH_MOST:
            self._own = Path(tempfile.mkdtemp(prefix="ensemble-"))
            path = self._own / "door.sock"
        self._path = path.resolve()
        self._marks: dict[Path, tuple[int, int] | None] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._run, name="ensemble-door", daemon=True).start()

    def _open(self) -> None:
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._socket.bind(os.fspath(self._path))
        finally:
            os.umask(before)
        self._marks[self._path] = _mark(self._path)
        self._socket.listen(16)
        address = self._folder / ADDRESS
        address.write_text(f"{self._path}\n")
        self._marks[address] = _mark(address)

    def _run(self) -> None:
        while True:
            try:
                guest, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(guest,), name="ensemble-guest", daemon=True).start()

    def _serve(self, guest: socket.socket) -> None:
        with guest, contextlib.suppress(OSError, msgspec.DecodeError, ValueError):
            while (request := _receive(guest)) is not None:
                verb, arguments = request
                try:
                    answer = [self._verbs[verb](**arguments)]
                except (EnsembleError, KeyError, TimeoutError) as error:
                    answer = [type(error).__name__, str(error.args[0]) if error.args else str(error)]
                _send(guest, msgspec.msgpack.encode(answer))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for path, mark in self._marks.items():
            if _mark(path) == mark:  # else the store was removed and made anew, and this is the door of who plays it now
                path.unlink(missing_ok=True)
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)


def _mark(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of its name; None if there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


class Guest:
    """The speaking half of a band that another process plays."""

    def __init__(self, connection: socket.socket, url: str) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.url = url

    def publish(
        self,
        topic: str,
        data: Any = None,
        *,
        key: str | None = None,
        id: str | None = None,
        time: datetime | str | None = None,
        wait: bool = True,
    ) -> Receipt:
        """As `Band.publish`."""
        return Receipt(*self._ask("publish", topic=topic, data=data, key=key, id=id, time=time, wait=wait))

    def publish_many(self, items: Iterable[Any], *, topic: str | None = None, wait: bool = True) -> int:
        """As `Band.publish_many`."""
        count, items = 0, iter(items)
        while chunk := list(itertools.islice(items, CHUNK)):
            count += self._ask("publish_many", items=chunk, topic=topic, wait=wait)
        return count

    def retry_dead(self, player: str | None = None, id: str | None = None) -> int:
        """As `Band.retry_dead`."""
        return int(self._ask("retry_dead", player=player, id=id))

    def forget(self, subject: str) -> int:
        """As `Band.forget`."""
        return int(self._ask("forget", subject=subject))

    def tables(self) -> list[tuple[int, Mapping[str, str]]]:
        """Of each shard how many frames its state is made of, and a digest of each player's table as of then."""
        return [(frames, tables) for frames, tables in self._ask("tables")]

    def _ask(self, verb: str, **arguments: Any) -> Any:
        try:
            request = msgspec.msgpack.encode([verb, arguments])
        except (TypeError, OverflowError, ValueError, RecursionError) as error:
            raise InvalidEvent(f"data can't be written: {error}") from error
        with self._lock:
            if self._connection.fileno() < 0:
                raise Unavailable(f"this connection to {self.url} was closed, or interrupted before its answer; connect again")
            try:
                _send(self._connection, request)
                answer = _receive(self._connection)
            except BaseException as error:  # the answer may still come: nobody must take it for that to another request
                self._connection.close()
                if isinstance(error, OSError):
                    raise Unavailable(f"the band that plays {self.url} went away: {error.strerror}; try again") from error
                raise
        if answer is None:
            raise Unavailable(f"the band that plays {self.url} went away; try again")
        if len(answer) == 1:
            return answer[0]
        kind = getattr(errors, answer[0], None) or {"KeyError": KeyError, "TimeoutError": TimeoutError}[answer[0]]
        raise kind(answer[1])

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def store_folder(url: str) -> Path | None:
    """The folder in which a directory store keeps the log that a url means, that of its take; None for the other kinds."""
    if url.startswith("ray:") or place_of(split(url)[0])[0] != "directory":
        return None
    _, folder = place_of(where(url))
    return Path(folder)


def knock(folder: Path, url: str) -> Guest | None:
    """Come in to the band that plays the store in this folder; None if nobody answers."""
    try:
        path = (folder / ADDRESS).read_text().strip()
    except OSError:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError:  # who played was killed, and left the address
        connection.close()
        return None
    return Guest(connection, url)


def _send(to: socket.socket, data: bytes) -> None:
    to.sendall(len(data).to_bytes(4, "big") + data)


def _receive(from_: socket.socket) -> Any:
    """The next value; None if the other side has gone."""
    head = _read(from_, 4)
    if head is None:
        return None
    size = int.from_bytes(head, "big")
    if size > REQUEST_MOST:
        raise ValueError("too big a request")
    body = _read(from_, size)
    return None if body is None else msgspec.msgpack.decode(body)


def _read(from_: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = from_.recv(min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)
