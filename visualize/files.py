"""Which picture a file's ending asks for, and writing it.

Owns the endings and the sentences about those that there are not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ensemble.errors import EnsembleError
from visualize.graph import Graph
from visualize.palette import LIGHT, Theme
from visualize.picture import Picture

PICTURES = ("svg", "png", "pdf", "html")
TEXTS = ("mmd", "dot")


def write(path: Path, draw: Callable[[], Picture], *, graph: Graph | None = None, theme: Theme | None = None) -> int:
    """Write a picture to a file, in the form that its ending names; how many bytes it has.

    `draw` is called if the form needs a picture.

    Errors: EnsembleError where there is no such form, or the file can't be written.
    """
    form = form_of(path, with_texts=graph is not None)
    data = _drawn(form, draw, graph, theme)
    try:
        path.write_bytes(data)
    except OSError as error:
        why = error.strerror or error
        raise EnsembleError(f"{path}: it can't be written: {why}; name a file that can with -o FILE") from error
    return len(data)


def form_of(path: Path, *, with_texts: bool) -> str:
    """The form that a path's ending names.

    Errors: EnsembleError if it names none.
    """
    form = path.suffix.removeprefix(".").lower()
    known = (*PICTURES, *TEXTS) if with_texts else PICTURES
    if form not in known:
        found = f"no ending .{form} is known" if form else "it has no ending"
        raise EnsembleError(f"{path}: {found}; it says what to draw: {', '.join(f'.{each}' for each in known)}")
    if not path.parent.is_dir():
        raise EnsembleError(f"{path}: there is no folder {path.parent}; make it first, or name another with -o FILE")
    return form


def _drawn(form: str, draw: Callable[[], Picture], graph: Graph | None, theme: Theme | None) -> bytes:
    if form == "html":
        from visualize.page import page

        return page(draw(), graph, theme).encode()
    if form == "mmd" and graph is not None:
        from visualize.mermaid import mermaid

        return mermaid(graph).encode()
    if form == "dot" and graph is not None:
        from visualize.dot import dot

        return dot(graph).encode()
    if form == "svg":
        from visualize.svg import svg

        return svg(draw(), theme or LIGHT).encode()
    from visualize.pixels import pixels

    return pixels(draw(), theme or LIGHT, form="pdf" if form == "pdf" else "png")
