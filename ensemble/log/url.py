"""What the url of a store means: its kind, its place, and what is so of stores of that kind.

    memory:            a fresh log in memory, gone when closed
    memory:NAME        a log in memory that this process knows by name: to be closed, opened again, and read
    path, file://path  a directory
    s3://, gs://, az:// bucket and prefix: an object store (docs/object-log.md)
    objects:PATH       a directory that is used as an object store

Takes (`URL#NAME`) are the business of `takes/`.
"""

from __future__ import annotations

import os
from pathlib import Path

from ensemble.errors import Unavailable

OBJECT_SCHEMES = ("s3", "gs", "az")

LINGER_US = 50_000
"""How long a commit to an object store waits for more, if nothing else is said."""


def place_of(url: str) -> tuple[str, str]:
    """Kind (`memory`, `directory` or `objects`) and place.

    Errors: Unavailable if this version knows no such kind of store.
    """
    if "\0" in url:
        raise Unavailable(f"store {url!r:.80}: no path, and no name, has a NUL in it; write memory: or the path of a directory")
    scheme, colon, rest = url.partition(":")
    if scheme == "memory" and colon:
        return "memory", rest
    if scheme == "objects" and colon and not rest.startswith("//"):
        if not rest:
            raise Unavailable(f"store {url!r}: no place is given; write the path of a directory after it: objects:shop")
        return "objects", url
    if "://" in url:
        if scheme in OBJECT_SCHEMES:
            return "objects", url
        if scheme == "file":
            from urllib.parse import unquote, urlsplit

            parts = urlsplit(url)
            if parts.netloc not in ("", "localhost") or not parts.path:
                raise Unavailable(f"store {url!r}: a file url has three slashes and an absolute path; write {_fixed(url)!r}")
            return "directory", unquote(parts.path)
        raise Unavailable(
            f"store {url!r}: there is no kind of store called {scheme!r}; this version keeps logs in memory (memory:), in "
            "directories (a path, file:///path) and in object stores (s3://, gs://, az://, objects:path)"
        )
    if not url:
        raise Unavailable("store '': no place is given; write memory: or the path of a directory")
    return "directory", url


def linger_us(url: str, given: int | None = None) -> int:
    """How long a commit to this store waits for more that is said: what the score says, or what fits the kind of store."""
    if given is not None:
        return given
    return LINGER_US if place_of(url)[0] == "objects" else 0


def from_anywhere(url: str, folder: str) -> str:
    """A url that was said in a folder, as it leads to the same place on this disk from any other."""
    if "://" in url or url.startswith("memory:"):
        return url
    kind, place = ("objects:", url.removeprefix("objects:")) if url.startswith("objects:") else ("", url)
    return f"{kind}{Path(folder, place)}"


def environment(url: str) -> dict[str, str]:
    """What of this process's environment leads to the store: region, endpoint, credentials. For others to open it."""
    prefixes = {"s3": ("AWS_",), "gs": ("GOOGLE_",), "az": ("AZURE_", "AZURITE_")}.get(url.partition("://")[0], ())
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def _fixed(url: str) -> str:
    return "file:///" + url.removeprefix("file://")
