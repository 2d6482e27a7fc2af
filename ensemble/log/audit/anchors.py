"""Where anchors are kept: in a file, as objects, or by a collector (docs/audit.md, "Anchors").

Owns reading and adding lines. What a line says is `anchor.py`'s. A line that was added is there for good when `add` returns.
"""

from __future__ import annotations

import fcntl
import json
import os
from abc import ABC, abstractmethod
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from ensemble.errors import Unavailable
from ensemble.log.files import Files, refusal

if TYPE_CHECKING:
    from ensemble.log.audit.anchor import Anchor

TIMEOUT_S = 30
BEGINS = b'{"anchor":'
"""How every line begins."""


class Line(NamedTuple):
    """An anchor as it was kept, and where."""

    where: str
    text: bytes


class Anchors(Protocol):
    """A place for anchors."""

    def read(self) -> list[Line]:
        """All that are kept there, the oldest first. Unavailable."""
        ...

    def newest(self, log: str, shard: int) -> Line | None:
        """The last that was kept of a shard of a log; None if there is none. Unavailable."""
        ...

    def add(self, text: bytes, anchor: Anchor) -> None:
        """Keep one more; `text` is its line without an end. Unavailable."""
        ...


def anchors_at(url: str) -> Anchors:
    """The anchors at a path, or a url: file, s3, gs, az, http or https.

    Errors: Unavailable if there is no such kind of place.
    """
    scheme, colon, _ = url.partition("://")
    if not colon:
        return FileAnchors(Path(url))
    if scheme == "file":
        return FileAnchors(Path(unquote(urlsplit(url).path)))
    if scheme in ("http", "https"):
        return CollectedAnchors(url)
    if scheme in ("s3", "gs", "az"):
        return ObjectAnchors(url)
    raise Unavailable(
        f"anchors {url!r}: {scheme!r} is no place for anchors; give a path, or a url of file, s3, gs, az or https"
    )


class _Lines(ABC):
    """Lines that are kept together, and read all at once."""

    @abstractmethod
    def read(self) -> list[Line]: ...

    def newest(self, log: str, shard: int) -> Line | None:
        whose = f'"log":{json.dumps(log)},'.encode(), f'"shard":{shard},'.encode()
        return next((line for line in reversed(self.read()) if all(each in line.text for each in whose)), None)


class FileAnchors(_Lines):
    """A file of lines, to which lines are added."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Line]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise refusal(f"anchors {self._path}: can't be read", error) from error
        *lines, rest = data.split(b"\n")
        if not rest.startswith(BEGINS[: len(rest)]):  # else it was interrupted: nobody was told that it is there
            lines.append(rest)
        return [Line(f"{self._path}: line {n}", text) for n, text in enumerate(lines, 1) if text]

    def add(self, text: bytes, anchor: Anchor) -> None:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)  # several shards may have one file
                size = os.fstat(fd).st_size
                tail = os.pread(fd, min(size, 4096), max(0, size - 4096))
                size -= len(tail) - 1 - tail.rfind(b"\n")
                os.ftruncate(fd, size)
                Files().write(fd, text + b"\n", size)
                os.fsync(fd)
            finally:
                os.close(fd)
            Files().sync_folder(self._path.parent)
        except OSError as error:
            raise refusal(f"anchors {self._path}: can't be written", error) from error


class ObjectAnchors:
    """An object a head in an object store, created only if there is none of its name."""

    def __init__(self, url: str) -> None:
        from ensemble.log.objects.store import objects_at

        self._objects = objects_at(url)

    def read(self) -> list[Line]:
        lines = []
        for path in self._objects.patiently(lambda: self._objects.list("")) or []:
            text = self._objects.patiently(lambda path=path: self._objects.get(path))  # type: ignore[misc]
            if text is not None:
                lines.append(Line(f"{self._objects.where}/{path}", text))
        return lines

    def newest(self, log: str, shard: int) -> Line | None:
        paths = self._objects.patiently(lambda: self._objects.list(f"{log}/{shard}")) or []
        text = self._objects.patiently(lambda: self._objects.get(paths[-1])) if paths else None
        return None if text is None else Line(f"{self._objects.where}/{paths[-1]}", text)

    def add(self, text: bytes, anchor: Anchor) -> None:
        from obstore.exceptions import AlreadyExistsError

        path = f"{anchor.log}/{anchor.shard}/{anchor.head.seq:020d}"
        with suppress(AlreadyExistsError, FileExistsError):
            self._objects.patiently(lambda: self._objects.create(path, text))
        if self._objects.patiently(lambda: self._objects.get(path)) != text:
            raise Unavailable(
                f"anchors {self._objects.where}: {path} is there already and says otherwise: another audit anchored this "
                "head at this moment; try again"
            )


class CollectedAnchors(_Lines):
    """A collector: takes a line with POST, gives all with GET."""

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self) -> list[Line]:
        lines = self._ask(Request(self._url)).split(b"\n")
        return [Line(f"{self._url}: line {n}", text) for n, text in enumerate(lines, 1) if text]

    def add(self, text: bytes, anchor: Anchor) -> None:
        self._ask(Request(self._url, text + b"\n", {"Content-Type": "application/x-ndjson"}, method="POST"))

    def _ask(self, request: Request) -> bytes:
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                data: bytes = answer.read()
                return data
        except HTTPError as error:
            error.close()
            raise Unavailable(
                f"anchors {self._url}: the collector answers {request.get_method()} with {error.code} {error.reason}; it "
                "should take a line with POST and give all lines with GET"
            ) from error
        except (URLError, HTTPException, OSError) as error:
            raise Unavailable(
                f"anchors {self._url}: the collector can't be reached: {error}; check the url, or try later"
            ) from error
