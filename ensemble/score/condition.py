"""Conditions: `where` in CEL over an event's `data`, `key`, `topic` and `time`.

Owns the one place that knows the CEL library, which is imported when the first condition is (90 ms). A condition that can't
be decided (a field that isn't there, text compared with a number) does not hold; it never raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ensemble.event import Event
from ensemble.score.finding import nearest, sentence
from ensemble.score.quick import quick

if TYPE_CHECKING:
    from cel import Program

LONGEST = 2_000
"""Characters. The CEL parser recurses, and a text of 40,000 ends the process."""

NAMES = ("data", "key", "topic", "time")
FUNCTIONS = (
    "all", "bytes", "contains", "double", "duration", "dyn", "endsWith", "exists", "exists_one", "filter", "getDate",
    "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours", "getMilliseconds", "getMinutes", "getMonth",
    "getSeconds", "has", "int", "map", "matches", "size", "startsWith", "string", "timestamp", "type", "uint",
)  # fmt: skip
TYPES = ("int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type")

_BINDS = re.compile(r"\.\s*(?:all|exists|exists_one|filter|map)\s*\(\s*([A-Za-z_]\w*)\s*,")
_PARSE = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?(.*)")


class ConditionError(ValueError):
    """A condition can't be read. `at` is the offset into its text, where known."""

    def __init__(self, message: str, at: int | None = None) -> None:
        super().__init__(message)
        self.at = at


@lru_cache(maxsize=512)
def condition(text: str) -> Callable[[Event], bool]:
    """Whether an event fulfils a condition, as a function.

    Errors: ConditionError if the text is no CEL, or names what a condition does not know.
    """
    program = parse(text)
    used = set(program.variables())
    reads = [(name, read) for name, read in _READ if name in used]
    holds = _decided(program, text, used)

    def asked(event: Event) -> bool:
        try:
            return holds({name: read(event) for name, read in reads})
        except Exception:  # data that can't be read: it can't be said to hold
            return False

    return asked


def _decided(program: Program, text: str, used: Collection[str]) -> Callable[[dict[str, Any]], bool]:
    """Whether a condition holds for values by name: by Python where that is sure to be the same, else by the library."""
    execute = program.execute
    made = None if "time" in used else quick(text, used)

    def holds(names: dict[str, Any]) -> bool:
        try:
            return execute(names) is True
        except Exception:  # a missing field, other types than expected: it can't be said to hold
            return False

    if made is None:
        return holds
    decide, is_conjunction = made

    def holds_quickly(names: dict[str, Any]) -> bool:
        try:
            return decide(names)
        except KeyError:
            return False if is_conjunction else holds(names)
        except Exception:
            return holds(names)

    return holds_quickly


@lru_cache(maxsize=512)
def comparison(text: str, labels: frozenset[str]) -> Callable[[Event | None, Mapping[str, Any]], bool]:
    """Whether an event, and events that have labels, fulfil a condition together, as a function.

    Shapes: what a label stands for is a mapping with data, key, topic and time, or a list of these; one that is not given makes
            the condition false.
    Errors: as `condition`.
    """
    program = parse(text, labels)
    used = set(program.variables())
    reads = [(name, read) for name, read in _READ if name in used]
    named = sorted(labels & used)
    holds = _decided(program, text, used)

    def asked(event: Event | None, given: Mapping[str, Any]) -> bool:
        try:
            known = {label: given[label] for label in named}
            if reads and event is not None:
                known.update((name, read(event)) for name, read in reads)
            return holds(known)
        except Exception:
            return False

    return asked


def names(text: str, labels: Collection[str]) -> frozenset[str]:
    """The labels that a condition names."""
    return frozenset(labels) & set(parse(text, labels).variables())


_READ: tuple[tuple[str, Callable[[Event], Any]], ...] = (
    ("data", lambda event: event.data),
    ("key", lambda event: event.key),
    ("topic", lambda event: event.topic),
    ("time", lambda event: event.time),
)


def parse(text: str, labels: Collection[str] = ()) -> Program:
    """A condition as a program, its names and functions checked. `labels` are names beside those of the event.

    Errors: ConditionError.
    """
    if not text.strip():
        raise ConditionError("an empty condition; write one such as data.total > 100, or leave where out", 0)
    if len(text) > LONGEST:
        raise ConditionError(f"a condition of {len(text)} characters; the longest is {LONGEST}: let the player decide")
    import cel

    try:
        program = cel.compile(text)
    except Exception as error:
        raise _unreadable(text, str(error)) from None
    except BaseException as error:  # the parser's panic is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise ConditionError("not a condition in CEL; write one such as data.total > 100 && key != ''") from None
    known = {*NAMES, *labels}
    for name in sorted(set(program.variables()) - known - set(_BINDS.findall(text)) - set(TYPES)):
        raise ConditionError(_unknown_name(name, known), _find(text, name))
    for name in sorted(program.functions()):
        if re.fullmatch(r"[A-Za-z]\w*", name) and name not in FUNCTIONS:
            near = nearest(name, FUNCTIONS)
            known_functions = "" if near else f"CEL here has {', '.join(FUNCTIONS)}"
            raise ConditionError(sentence(f"unknown function {name!r}", near, known_functions), _find(text, name))
    return program


def _unknown_name(name: str, known: Collection[str]) -> str:
    wrong = f"unknown name {name!r}"
    if name in _PYTHON:
        return f"{wrong}; write {_PYTHON[name]}"
    near = nearest(name, known)
    cure = f"a condition knows {', '.join(sorted(known))}"
    return sentence(wrong, near, cure) if near else f"{wrong}; {cure}; a field of data is data.{name}"


_PYTHON = {"None": "null", "True": "true", "False": "false"}


def fields(text: str) -> set[tuple[str, ...]]:
    """The paths into `data` that a condition reads, as far as its text shows: `data.customer.id` is (customer, id)."""
    bare = re.sub(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'", '""', text)
    paths = set()
    for found in re.finditer(r"(?<![\w.])data((?:\s*\.\s*[A-Za-z_]\w*)+)(\s*\()?", bare):
        parts = tuple(part.strip() for part in found[1].split(".")[1:])
        path = parts[:-1] if found[2] else parts  # the last part of data.name.startsWith( is a function
        if path:
            paths.add(path)
    return paths


def _unreadable(text: str, message: str) -> ConditionError:
    found = _PARSE.search(message)
    if found is None:
        return ConditionError("not a condition in CEL; write one such as data.total > 100 && key != ''")
    line, column, what = int(found[1]), int(found[2]), found[3]
    at = sum(len(each) + 1 for each in text.split("\n")[: line - 1]) + column - 1
    return ConditionError(f"not a condition in CEL: {_plain(text, at, what)}", min(at, len(text)))


def _plain(text: str, at: int, what: str) -> str:
    """What the parser complains of, in words; with the cure for slips that are often made."""
    rest = text[at:].lstrip()
    word = re.match(r"\w+|[^\w\s]+", rest)
    for slip, cure in (("and", "&&"), ("or", "||"), ("not", "!"), ("is", "=="), ("=", "==")):
        if rest[: len(slip)] == slip and not (slip.isalpha() and rest[len(slip) : len(slip) + 1].isalnum()):
            return f"at character {at + 1}, {slip!r}; write {cure}"
    if re.match(r"\s*not\s", text):
        return "'not'; write !"
    if rest.startswith(("'", '"')) and "token recognition" in what:
        return f"at character {at + 1}, a text that is not closed; add {rest[0]}"
    if word is None:
        return "it ends too early; something is missing after its last character"
    return f"at character {at + 1}, {word[0]!r} can't stand there"


def _find(text: str, name: str) -> int | None:
    found = re.search(rf"(?<![\w.]){re.escape(name)}\b", text) or re.search(rf"\b{re.escape(name)}\b", text)
    return None if found is None else found.start()
