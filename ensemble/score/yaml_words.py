"""YAML's complaints in words that say what to do.

Owns the wording; the parser's own speaks of tokens and contexts. Knows no parser: an error is what has these four fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Mark(Protocol):
    """A place in the text; line and column count from 0."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class Complaint(Protocol):
    """What the parser says: the problem, where, and what it was about to read since when."""

    @property
    def problem(self) -> str | None: ...
    @property
    def problem_mark(self) -> Mark | None: ...
    @property
    def context(self) -> str | None: ...
    @property
    def context_mark(self) -> Mark | None: ...


def in_words(error: Complaint, lines: Sequence[str]) -> tuple[str, Mark | None]:
    """What is wrong and what to do, and where its author should look."""
    problem, context = error.problem or "", error.context or ""
    at, since = error.problem_mark, error.context_mark
    line = lines[at.line] if at is not None and at.line < len(lines) else ""
    before = line[: at.column] if at is not None else ""
    if "\t" in line[: len(before) + 1] and not line[: len(before) + 1].strip():
        return "a tab; YAML is indented with spaces only: replace it with spaces", at
    if "mapping values are not allowed" in problem:
        return _second_colon(lines, before, at), at
    if "quoted scalar" in context:
        if "unexpected end" in problem:
            return f"a text in quotes that begins here is not closed; add {_quote(lines, since)} at its end", since
        return "a backslash in double quotes means something to YAML; write it twice, or take single quotes", at
    if "flow" in context:
        opening = "{" if "mapping" in context else "["
        closing = "}" if opening == "{" else "]"
        return f"a {opening!r} that begins here is not closed, or a comma is missing; add {closing!r} or ','", since
    if "expected key" in problem or "'-' indicator" in problem:
        return _indentation(before, line[len(before) :], at, since, is_list="'-'" in problem), at
    if "cannot start any token" in problem:
        return f"a text can't begin with {line[len(before) : len(before) + 1]!r} in YAML; put it in quotes", at
    if context in ("while scanning an alias", "while scanning an anchor"):
        sign = line[since.column] if since is not None else "*"
        return f"{sign!r} at the beginning of a text means something to YAML; put it in quotes", since
    for part, plain in _OTHERS:
        if part in problem or part in context:
            return plain, at
    return f"it is not YAML: {problem}", at


def _second_colon(lines: Sequence[str], before: str, at: Mark | None) -> str:
    """A ':' where none can stand: the fault is often in the line before."""
    number = at.line if at is not None else 0
    while number > 0 and not lines[number - 1].strip():
        number -= 1
    above = lines[number - 1].strip() if number > 0 else ""
    if ": " in before.lstrip(" -{["):
        return "a second ': ' in one line; put the text after the first in quotes"
    if above and not above.startswith("#"):
        if ":" not in above and " " not in above:
            return f"a ':' can't stand here, since line {number} has none; write {above}: there"
        if ":" in above and ": " not in above and not above.endswith(":") and "'" not in above and '"' not in above:
            return (
                f"a ':' can't stand here, since line {number} has no space after its own; write {above.replace(':', ': ', 1)}"
            )
    return "a ':' can't stand here; indent this line as the one above it, or put text with ': ' in quotes"


def _indentation(before: str, rest: str, at: Mark | None, since: Mark | None, *, is_list: bool) -> str:
    if before.strip():
        return "text goes on after a value in quotes; put all of it in quotes, or remove the rest"
    what = "items of the list" if is_list else "keys of the mapping"
    if at is None or since is None or at.column == since.column:
        cure = "begin it with '- '" if is_list else "write it as key: value"
        return f"this line is no part of the {'list' if is_list else 'mapping'} that it stands in; {cure}"
    if not is_list and rest.startswith("- "):
        return f"an item of a list where keys should go on; the {what} begin in column {since.column + 1}"
    return (
        f"the indentation does not fit: this line begins in column {at.column + 1}, but the {what} around it, which began "
        f"on line {since.line + 1}, begin in column {since.column + 1}"
    )


def _quote(lines: Sequence[str], since: Mark | None) -> str:
    return lines[since.line][since.column] if since is not None and since.line < len(lines) else "the quote"


_OTHERS = (
    ("could not find expected ':'", "a key without a ':' after it; write key: value"),
    ("block sequence entries are not allowed", "a '- ' can't stand here; put the list on a line of its own"),
    ("expected <document start>", "something goes on after the score's end; remove it"),
    ("expected node content", "a value is missing here"),
    ("block scalar", "a text after '|' or '>' begins on the next line; put what stands here there, or in quotes"),
    ("directive", "a line can't begin with '%'; put it in quotes"),
    ("tag", "a '!' at the beginning of a text means something to YAML; put it in quotes"),
    ("tab character", "a tab; YAML is indented with spaces only: replace it with spaces"),
)
