"""Included scores: several texts merged into one document.

Owns which files are read, where their own relative paths lead, and what may not be said twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensemble.score.files import read_file
from ensemble.score.finding import Finding, Where, path_text
from ensemble.score.source import read_text
from ensemble.score.tree import Node, Unreadable

NAMED = ("events", "motifs", "players", "sources", "costs")
"""Sections whose entries are merged by name."""
OWN = ("name", "about", "ensemble", "include")
"""What each file says of itself; that of the first file counts."""
MOST_FILES = 200


class Gathered:
    """A score and all that it includes, merged.

    Shapes: `document` is plain data, its `sources.*.file` relative to the working directory; `tree` knows where each part of it
            stands.
    """

    def __init__(self, root: Node, file: str | None) -> None:
        self.findings: list[Finding] = []
        self._chain: list[str] = []
        self._read: set[str] = set()
        self.document: dict[str, Any] = {}
        self.tree = Node(self.document, root.file, root.line, root.column, below={}, keys={})
        self._take(root, file)

    def _take(self, root: Node, file: str | None) -> None:
        folder = str(Path(file).parent) if file is not None else ""
        is_first = not self._chain
        name = os.path.realpath(file) if file is not None else ""
        self._read.add(name)
        self._chain.append(name)
        assert isinstance(root.below, dict)
        for key in root.below:
            if key == "include" or (key in OWN and not is_first and key != "ensemble"):
                continue
            self._merge(key, root, folder)
        self._include(root, folder)
        self._chain.pop()

    def _include(self, root: Node, folder: str) -> None:
        value = root.value.get("include")
        if value is None:
            return
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list):
            self._report(root.at(("include",)), ("include",), "it is not a list of files; write include: [other.yaml]")
            return
        for i, name in enumerate(names):
            where: Where = ("include",) if isinstance(value, str) else ("include", i)
            node = root.at(where)
            if not isinstance(name, str) or not name:
                self._report(node, where, f"{name!r:.80} is not the name of a file; write one such as other.yaml")
                continue
            self._include_one(node, where, os.path.normpath(Path(folder, name)))

    def _include_one(self, node: Node | None, where: Where, path: str) -> None:
        real = os.path.realpath(path)
        if real in self._chain:
            chain = [Path(each).name or "<score>" for each in self._chain[self._chain.index(real) :]]
            self._report(
                node,
                where,
                f"scores that include each other in a circle: {' -> '.join([*chain, chain[0]])}; remove one of the includes",
            )
            return
        if real in self._read:  # two ways to one file: it is the same file
            return
        if len(self._read) >= MOST_FILES:
            self._report(node, where, f"more than {MOST_FILES} files; merge some of them")
            return
        try:
            text = read_file(path)
        except Unreadable as error:
            self._read.add(real)
            self._report(node, where, f"{path}: {error.finding.message}")
            return
        try:
            root, findings = read_text(text, path)
        except Unreadable as error:
            self._read.add(real)
            self.findings.append(error.finding)
            return
        self.findings += findings
        if not isinstance(root.below, dict):
            self._read.add(real)
            self._report(root, (), "a score is a mapping with keys such as players: and events:")
            return
        self._take(root, path)

    def _merge(self, key: str, root: Node, folder: str) -> None:
        node, place = root.below[key], (root.keys or {}).get(key)  # type: ignore[index, call-overload]
        assert isinstance(self.tree.below, dict) and self.tree.keys is not None
        mine = self.tree.below.get(key)
        if key in NAMED and isinstance(node.below, dict):
            if mine is None or not isinstance(mine.below, dict):
                mine = self.tree.below[key] = Node({}, node.file, node.line, node.column, below={}, keys={})
                self.document[key] = {}
                self._place(key, place)
            self._merge_entries(key, mine, node, folder)
        elif mine is None:
            self.tree.below[key] = node
            self.document[key] = node.value
            self._place(key, place)
        elif key == "silence" and isinstance(node.below, list) and isinstance(mine.below, list):
            self.document[key] = [*self.document[key], *node.value]
            self.tree.below[key] = Node(self.document[key], mine.file, mine.line, mine.column, below=[*mine.below, *node.below])
        elif key.startswith("x-") or node.value == self.document[key]:
            pass
        elif key in NAMED or key == "silence":
            self._report(
                node,
                (key,),
                f"it is not a {'list' if key == 'silence' else 'mapping'}, as it is in {mine.file}:{mine.line}",
            )
        else:
            self._report(node, (key,), f"{_there(mine)} says something else; remove one of them")

    def _merge_entries(self, section: str, mine: Node, node: Node, folder: str) -> None:
        assert isinstance(mine.below, dict) and isinstance(node.below, dict) and mine.keys is not None
        for name, below in node.below.items():
            if name in mine.below:
                self._report(below, (section, name), f"it is in {_there(mine.below[name])} too; give one of them another name")
                continue
            mine.below[name] = below
            value = below.value
            if section == "sources" and isinstance(value, Mapping):
                value = _with_file(value, folder)
            self.document[section][name] = value
            if node.keys is not None and name in node.keys:
                mine.keys[name] = node.keys[name]

    def _place(self, key: str, place: Any) -> None:
        assert self.tree.keys is not None
        if place is not None:
            self.tree.keys[key] = place

    def _report(self, node: Node | None, where: Where, message: str) -> None:
        line, column = (None, None) if node is None or not node.line else (node.line, node.column)
        self.findings.append(
            Finding(
                code="include",
                message=message,
                path=path_text(where),
                file=self.tree.file if node is None else node.file,
                line=line,
                column=column,
            )
        )


def _there(node: Node) -> str:
    return f"{node.file}:{node.line}" if node.line else node.file


def _with_file(source: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """A source whose file is relative to the working directory, or absolute."""
    file = source.get("file")
    if not isinstance(file, str) or file in ("", "-"):
        return dict(source)
    return {**source, "file": str(Path(folder, file))}
