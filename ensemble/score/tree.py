"""The document as a tree that knows where each part of it stands.

Owns nodes and places, and plain data as a tree: a mapping that no text stands behind has no places.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ensemble.score.finding import Finding, Where
from ensemble.score.model import Place, Places

MOST_VALUES = 200_000
"""In a score, with its aliases written out."""
DEEPEST = 100
"""Levels of nesting."""

TEXT = "<score>"
"""What a score is called that came as text or as a mapping."""


class Unreadable(Exception):  # it is turned into a ScoreError
    """There is no document to judge; the finding says why."""

    def __init__(
        self, code: str, message: str, file: str, line: int | None = None, column: int | None = None, path: str = ""
    ) -> None:
        self.finding = Finding(code=code, message=message, path=path, file=file, line=line, column=column)
        super().__init__(str(self.finding))


class Node(msgspec.Struct):
    """A value of a text, and where it stands.

    Shapes: `value` is plain data. `below` holds the nodes of a mapping by key or of a list by index, `keys` the places of the
            keys. `size` counts the node and all below it.
    """

    value: Any
    file: str
    line: int
    column: int
    is_plain: bool = True
    """Whether a text is written without quotes, so that its first character stands at line and column."""
    below: dict[str, Node] | list[Node] | None = None
    keys: dict[str, Place] | None = None
    size: int = 1

    def at(self, where: Sequence[str | int]) -> Node | None:
        """The node that a path leads to."""
        node: Node | None = self
        for part in where:
            below = None if node is None else node.below
            if isinstance(below, dict):
                node = below.get(str(part))
            elif isinstance(below, list) and isinstance(part, int) and part < len(below):
                node = below[part]
            else:
                return None
        return node


class NodePlaces(Places):
    """Places in the texts that a score was read from."""

    def __init__(self, root: Node) -> None:
        self._root = root

    def of(self, where: Sequence[str | int]) -> Place | None:
        node = self._root.at(where)
        is_leaf = node is not None and node.below is None
        file, line, column = place_of(self._root, where, is_key=not is_leaf)
        return (file, line, column) if line else None


def place_of(root: Node, where: Sequence[str | int], *, is_key: bool = False, offset: int | None = None) -> Place:
    """Where something stands: its value or its key; else the nearest thing above it. `offset` counts characters of its text."""
    where = tuple(where)
    for length in range(len(where), 0, -1):
        above, last = root.at(where[: length - 1]), where[length - 1]
        if above is None:
            continue
        if (is_key or length < len(where)) and above.keys is not None and last in above.keys:
            return above.keys[str(last)]
        node = above.at((last,))
        if node is not None:
            column = node.column
            if offset is not None and length == len(where) and node.is_plain and "\n" not in str(node.value):
                column += offset
            return node.file, node.line, column
    return root.file, root.line, root.column


# Mappings


def read_mapping(source: Mapping[Any, Any], report: Callable[[Where, str], None]) -> dict[str, Any]:
    """A mapping as a plain document of its own; what no document can hold is reported."""
    count = 0

    def copied(value: Any, where: Where) -> Any:
        nonlocal count
        count += 1
        if count > MOST_VALUES or len(where) > DEEPEST:
            raise Unreadable(
                "score-file", f"it has more than {MOST_VALUES} values or {DEEPEST} levels, so it is no score", TEXT
            )
        if value is None or type(value) in (str, int, float, bool):
            if isinstance(value, float) and value - value != 0:
                report(where, f"{value} is no number that a score can hold; leave it out")
                return 0.0
            if type(value) is int and abs(value) >= 2**63:
                report(where, "a number that is too large; write it as text")
                return 0
            return value
        if isinstance(value, Mapping):
            return dict(_items(value, where, copied, report))
        if isinstance(value, (list, tuple)):
            return [copied(each, (*where, i)) for i, each in enumerate(value)]
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, (str, bool, int, float)):  # their subclasses: enums and the like
            return copied(next(kind(value) for kind in (str, bool, int, float) if isinstance(value, kind)), where)
        report(where, f"{value!r:.80} is a {type(value).__name__}, which a score can't hold; {_instead(value)}")
        return None

    whole: dict[str, Any] = copied(source, ())
    return whole


def _items(
    value: Mapping[Any, Any], where: Where, copied: Callable[[Any, Where], Any], report: Callable[[Where, str], None]
) -> Iterator[tuple[str, Any]]:
    for key, below in value.items():
        if not isinstance(key, str):
            report(where, f"the key {key!r:.80} is a {type(key).__name__}; keys are text")
            continue
        yield str(key), copied(below, (*where, str(key)))


def _instead(value: Any) -> str:
    if callable(value):
        return "give callables to ensemble.open(..., players={name: it})"
    return "use what JSON has: text, numbers, true and false, lists, mappings"


def wrapped(value: Any, file: str = TEXT) -> Node:
    """Plain data as a tree without places."""
    if isinstance(value, dict):
        below: Any = {key: wrapped(each, file) for key, each in value.items()}
    elif isinstance(value, list):
        below = [wrapped(each, file) for each in value]
    else:
        below = None
    return Node(value, file, 0, 0, False, below, {} if isinstance(value, dict) else None)
