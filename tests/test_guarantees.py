"""docs/guarantees.md says what is so: each line names a test that there is, and that plays where the line says."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

DOCS = Path(__file__).parents[1] / "docs"
LINE = re.compile(r"^\| (?P<what>.+?) \| (?P<where>[^|]+) \| \[(?P<test>test_\w+)\]\((?P<file>[\w./]+)\) \|$", re.MULTILINE)
EVERYWHERE, LASTING, SOLO = "everywhere", "stores that last", "solo"
STANDS = {EVERYWHERE: {"stand"}, LASTING: {"stand_on_disk"}}


class Line(NamedTuple):
    what: str
    where: str
    test: str
    file: str

    def __str__(self) -> str:
        return self.test.removeprefix("test_")


LINES = [Line(**found.groupdict()) for found in LINE.finditer((DOCS / "guarantees.md").read_text())]


def function_of(line: Line) -> Callable[..., Any]:
    path = (DOCS / line.file).resolve().relative_to(DOCS.parent)
    found: Callable[..., Any] = getattr(import_module(".".join(path.with_suffix("").parts)), line.test)
    return found


@pytest.mark.parametrize("line", LINES, ids=str)
def test_the_test_of_a_line_plays_where_the_line_says(line: Line) -> None:
    function = function_of(line)

    stands = {"stand", "stand_on_disk"} & inspect.signature(function).parameters.keys()
    if any(mark.name == "solo" for mark in getattr(function, "pytestmark", ())):
        assert line.where == SOLO
    elif line.where in STANDS:
        assert stands == STANDS[line.where]


def test_every_promise_has_its_lines_and_no_line_is_without_a_test() -> None:
    text = (DOCS / "guarantees.md").read_text()
    promises = re.split(r"^## \d+\. ", text, flags=re.MULTILINE)[1:]

    assert len(promises) == 13
    for promise in promises:
        rows = [row for row in promise.splitlines() if row.startswith("| ")][1:]
        assert rows
        assert [row for row in rows if not LINE.match(row)] == []


def test_no_line_stands_there_twice() -> None:
    proofs = [(line.file, line.test) for line in LINES]

    assert [proof for proof in set(proofs) if proofs.count(proof) > 1] == []
