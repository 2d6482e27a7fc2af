"""The score's text: files and YAML, read into plain data that knows where each part of it stands.

Owns reading files, YAML (the one place that knows its library), `${NAME:-default}` and every fault that a text can have before
it is a score. YAML is read as 1.2 has it: `on`, `yes` and `no` are text, and so is what begins with a zero. Nothing here grows
beyond its bounds, whatever the file holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from ensemble.score.finding import Finding, Where, nearest, path_text
from ensemble.score.model import Place, Places

LARGEST = 8 << 20
"""Bytes of a file."""
MOST_VALUES = 200_000
"""In a file, with its aliases written out."""
DEEPEST = 100
"""Levels of nesting."""

TEXT = "<score>"
"""What a score is called that came as text or as a mapping."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
                node = below.get(part)
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
            return above.keys[last]  # type: ignore[index]
        node = above.at((last,))
        if node is not None:
            column = node.column
            if offset is not None and length == len(where) and node.is_plain and "\n" not in str(node.value):
                column += offset
            return node.file, node.line, column
    return root.file, root.line, root.column


class Unreadable(Exception):
    """A text is no document; the finding says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


# Files


def read_file(path: str) -> str:
    """The text of a file.

    Errors: Unreadable.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST + 1)
    except IsADirectoryError:
        raise _unreadable("score-file", "it is a folder; name the score's file in it", path) from None
    except FileNotFoundError:
        raise _unreadable("score-file", f"there is no such file; {_other_files(path)}", path) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _unreadable("score-file", f"it can't be read: {reason}; check the path and its permissions", path) from None
    return decoded(data, path)


def _other_files(path: str) -> str:
    folder, name = Path(path).parent, Path(path).name
    try:
        names = sorted(each.name for each in folder.iterdir() if each.suffix in (".yaml", ".yml"))
    except OSError:
        return f"there is no folder {folder} either; check the path"
    near = nearest(name, names)
    return f"did you mean {folder / near}?" if near else "check the path"


def decoded(data: bytes, file: str) -> str:
    """Bytes as text.

    Errors: Unreadable if they are too many, no UTF-8, or no text at all.
    """
    if len(data) > LARGEST:
        raise _unreadable(
            "score-file",
            f"it is larger than {LARGEST >> 20} MiB, so it is no score; events belong in a file that a source names",
            file,
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _unreadable("score-text", "it is written in UTF-16; save it as UTF-8", file)
    if b"\0" in data[:4096]:
        raise _unreadable("score-text", "it is a binary file, not text; name a score in YAML", file)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise _unreadable(
            "score-text", f"byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8", file, line, column
        ) from None
    return text.removeprefix("\ufeff")


def _unreadable(code: str, message: str, file: str, line: int | None = None, column: int | None = None) -> Unreadable:
    return Unreadable(Finding(code=code, message=message, file=file, line=line, column=column))


# YAML


def read_text(text: str, file: str = TEXT, environment: Mapping[str, str] | None = None) -> tuple[Node, list[Finding]]:
    """A text in YAML as a tree, and what is wrong with parts of it.

    Errors: Unreadable if it is no YAML, or goes beyond a bound.
    """
    if len(text) > LARGEST:
        raise _unreadable("score-file", f"it is longer than {LARGEST >> 20} MiB, so it is no score", file)
    builder = _Builder(text, file, os.environ if environment is None else environment)
    return builder.build(), builder.findings


class _Open(msgspec.Struct):
    """A mapping or list whose end has not been read."""

    node: Node
    anchor: str | None
    key: str | None = None
    """The key whose value comes next."""
    key_place: Place | None = None
    merged: list[Node] = []
    """What `<<` brings in."""
    is_ignored: bool = False
    """Whether the next value belongs to a key that could not be read."""


_SHELTER = {each: chr(0xE000 + ord(each)) for each in "{}[],#: "}
_SHELTERED = str.maketrans({shelter: each for each, shelter in _SHELTER.items()})
_OPENINGS = str.maketrans(_SHELTER)
_NAMED = re.compile(r"\$\{[^{}\n]*\}")


class _Builder:
    """Builds the tree from YAML's events, without recursion, so that depth is bounded by us."""

    def __init__(self, text: str, file: str, environment: Mapping[str, str]) -> None:
        self.findings: list[Finding] = []
        self._file = file
        self._environment = environment
        self._lines = text.splitlines()
        # In {max: ${MAX:-4}} YAML would take the inner brace for its own. Characters that mean something to YAML are sheltered
        # inside of ${...} under private ones, one for one so that columns stay, and come back with the scalar.
        self._has_shelter = "${" in text and not any(each in text for each in _SHELTER.values())
        self._text = _NAMED.sub(lambda found: found[0].translate(_OPENINGS), text) if self._has_shelter else text
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        """None: its end has not been read."""
        self._root: Node | None = None
        self._count = 0

    def build(self) -> Node:
        try:
            documents = 0
            for event in yaml.parse(self._text, Loader=_Loader):
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        mark = event.start_mark
                        raise self._stop(
                            "score-yaml", "a second document begins; one file holds one score: remove the '---'", mark
                        )
                else:
                    self._take(event)
        except yaml.reader.ReaderError as error:
            raise self._odd_character(error) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self._stop("score-yaml", self._plain(str(error.problem), str(error.context), mark), mark) from None
        except RecursionError:
            raise _unreadable("score-yaml", f"nested more than {DEEPEST} levels deep; no score is", self._file) from None
        if self._root is None:
            raise _unreadable("score-yaml", "it is empty; write at least a name: and players:", self._file, 1, 1)
        return self._root

    # Events

    def _take(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._open(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)

    def _open(self, event: Any) -> None:
        self._check_tag(event)
        if len(self._stack) >= DEEPEST:
            raise self._stop("score-yaml", f"nested more than {DEEPEST} levels deep; no score is", event.start_mark)
        self._check_key(event, "a list or mapping")
        line, column = self._place(event)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        node = Node(
            {} if is_mapping else [],
            self._file,
            line,
            column,
            below={} if is_mapping else [],
            keys={} if is_mapping else None,
        )
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._stack.append(_Open(node, event.anchor, merged=[]))

    def _close(self) -> None:
        open_ = self._stack.pop()
        node = open_.node
        for merged in open_.merged:  # what stands here itself wins, then what was merged first
            assert isinstance(node.below, dict) and node.keys is not None and isinstance(merged.below, dict)
            for key, below in merged.below.items():
                if key not in node.below:
                    node.below[key] = below
                    node.value[key] = below.value
                    node.keys[key] = (merged.keys or {}).get(key, (below.file, below.line, below.column))
                    node.size += below.size
        if open_.anchor is not None:
            self._anchors[open_.anchor] = node
        self._add(node)

    def _alias(self, event: Any) -> None:
        name = event.anchor
        if name not in self._anchors:
            near = nearest(name, self._anchors)
            hint = f"did you mean *{near}? " if near else ""
            raise self._stop(
                "score-yaml",
                f"*{name} is an alias of nothing; {hint}define it above with &{name}, or put the text in quotes",
                event.start_mark,
            )
        node = self._anchors[name]
        if node is None:
            raise self._stop(
                "score-yaml", f"*{name} is an alias of what it stands in; a score can't hold itself", event.start_mark
            )
        self._check_key(event, "an alias")
        self._add(node, is_alias=True)

    def _scalar(self, event: Any) -> None:
        self._check_tag(event)
        open_ = self._stack[-1] if self._stack else None
        if open_ is not None and isinstance(open_.node.below, dict) and open_.key is None and not open_.is_ignored:
            self._key(open_, event)
            return
        line, column = self._place(event)
        text = event.value.translate(_SHELTERED) if self._has_shelter else event.value
        is_plain = event.style in (None, "")
        node = Node(None, self._file, line, column, is_plain)
        if "$" in text:
            text = self._filled(text, node)
        is_text = not is_plain or event.tag in ("tag:yaml.org,2002:str", "!")
        node.value = text if is_text else scalar(text)
        if isinstance(node.value, int) and abs(node.value) >= 2**63:
            self._report("score-yaml", f"{text:.40} is too large for a number; put it in quotes", node)
            node.value = 0
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._add(node)

    def _key(self, open_: _Open, event: Any) -> None:
        line, column = self._place(event)
        key: Any = event.value.translate(_SHELTERED) if self._has_shelter else event.value
        place = (self._file, line, column)
        is_plain = event.style in (None, "")
        read = scalar(key) if is_plain else key
        if not isinstance(read, str):
            shown = "empty" if read is None and not key else f"{key!r}, which is no text"
            self._report("score-yaml", f"a key is {shown}; put it in quotes", Node(None, *place))
            open_.is_ignored = True
        elif is_plain and key == "<<":
            open_.key, open_.key_place = key, place
        elif open_.node.keys is not None and key in open_.node.keys:
            first = open_.node.keys[key]
            self._report("duplicate-key", f"{key!r} is there twice, first on line {first[1]}; remove one", Node(None, *place))
            open_.is_ignored = True
        else:
            open_.key, open_.key_place = key, place
        if event.anchor is not None:
            self._anchors[event.anchor] = Node(key, *place)

    # Adding

    def _add(self, node: Node, *, is_alias: bool = False) -> None:
        self._count += node.size if is_alias else 1
        if self._count > MOST_VALUES:
            what = "its aliases make it larger than" if is_alias else "it has more than"
            raise _unreadable(
                "score-yaml", f"{what} {MOST_VALUES} values, so it is no score", self._file, node.line, node.column
            )
        if not self._stack:
            self._root = node
            return
        open_ = self._stack[-1]
        above = open_.node
        if isinstance(above.below, list):
            above.below.append(node)
            above.value.append(node.value)
            above.size += node.size
        elif open_.is_ignored:
            open_.is_ignored = False
        elif open_.key == "<<" and open_.key_place is not None:
            self._merge(open_, node)
            open_.key = None
        else:
            assert isinstance(above.below, dict) and above.keys is not None and open_.key is not None
            assert open_.key_place is not None
            above.below[open_.key] = node
            above.value[open_.key] = node.value
            above.keys[open_.key] = open_.key_place
            above.size += node.size
            open_.key = None

    def _merge(self, open_: _Open, node: Node) -> None:
        merged = node.below if isinstance(node.below, list) else [node]
        for each in merged:
            if isinstance(each.below, dict):
                open_.merged.append(each)
            else:
                self._report("score-yaml", "'<<' merges mappings, and this is none; write <<: *name of a mapping", each)

    def _check_key(self, event: Any, what: str) -> None:
        open_ = self._stack[-1] if self._stack else None
        if open_ is not None and isinstance(open_.node.below, dict) and open_.key is None and not open_.is_ignored:
            raise self._stop("score-yaml", f"{what} can't be a key; a key is text", event.start_mark)

    def _check_tag(self, event: Any) -> None:
        tag = event.tag
        if tag is None or tag == "!" or tag in _TAGS:
            return
        shown = tag.replace("tag:yaml.org,2002:", "!!")
        raise self._stop(
            "score-yaml", f"the tag {shown} is not read; a score holds plain values only: remove it", event.start_mark
        )

    # ${...}

    def _filled(self, text: str, node: Node) -> str:
        """The text with the environment's values in place of `${NAME}` and `${NAME:-default}`; `$${` stands for `${`."""

        def value(found: re.Match[str]) -> str:
            if found[0] == "$${":
                return "${"
            if found[1] is None:
                self._report(
                    "interpolation", f"{_up_to(text[found.start() :], 40)!r} can't be read; write ${{NAME}} or ${{NAME:-default}}, or $${{ for the characters themselves",
                    node,
                )  # fmt: skip
                return ""
            name, default = found[1], found[2]
            given = self._environment.get(name)
            if given is None or (given == "" and default is not None):
                if default is None:
                    near = nearest(name, [each for each in self._environment if each.isupper()])
                    hint = f"did you mean {near}? " if near else ""
                    self._report(
                        "interpolation",
                        f"${{{name}}}: the environment has no {name}; {hint}set it, or give a default: ${{{name}:-...}}",
                        node,
                    )
                    return ""
                return default
            return given

        return _FILL.sub(value, text)

    # Faults

    def _place(self, event: Any) -> tuple[int, int]:
        return event.start_mark.line + 1, event.start_mark.column + 1

    def _path(self) -> Where:
        return tuple(
            len(open_.node.below) if isinstance(open_.node.below, list) else open_.key or ""
            for open_ in self._stack
            if isinstance(open_.node.below, list) or open_.key
        )

    def _report(self, code: str, message: str, node: Node) -> None:
        self.findings.append(
            Finding(
                code=code,
                message=message,
                path=path_text(self._path()),
                file=self._file,
                line=node.line,
                column=node.column,
            )
        )

    def _stop(self, code: str, message: str, mark: Any) -> Unreadable:
        line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
        path = path_text(self._path())
        return Unreadable(Finding(code=code, message=message, path=path, file=self._file, line=line, column=column))

    def _odd_character(self, error: yaml.reader.ReaderError) -> Unreadable:
        """YAML's reader counts characters from its own beginning; look for the first that YAML does not allow."""
        for number, line in enumerate(self._text.splitlines(), 1):
            for column, each in enumerate(line, 1):
                if not _PRINTABLE.fullmatch(each):
                    message = f"a control character, {each!r}, which YAML does not allow; remove it"
                    return _unreadable("score-text", message, self._file, number, column)
        return _unreadable("score-text", f"it is not text: {error.reason}; save it as UTF-8", self._file)

    def _plain(self, problem: str, context: str, mark: Any) -> str:
        """YAML's own complaint in words that say what to do."""
        line = self._lines[mark.line] if mark is not None and mark.line < len(self._lines) else ""
        if "\t" in line[: mark.column + 1 if mark is not None else 0] or "\\t" in problem or "tab character" in problem:
            return "a tab; YAML is indented with spaces only: replace it with spaces"
        for part, plain in _PROBLEMS:
            if part in problem or part in context:
                return plain
        return f"it is not YAML: {problem}"


_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
_FILL = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\})?")
_PRINTABLE = re.compile(r"[\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_PROBLEMS = (
    (
        "mapping values are not allowed",
        "a ':' can't stand here; indent this line as the one above it, or put text with ': ' in quotes",
    ),
    ("could not find expected ':'", "a key without a ':' after it; write key: value"),
    (
        "did not find expected ',' or '}'",
        "a '{' above is not closed, or a comma is missing; add '}' or ','",
    ),
    (
        "did not find expected ',' or ']'",
        "a '[' above is not closed, or a comma is missing; add ']' or ','",
    ),
    (
        "while scanning a quoted scalar",
        "a text in quotes is not closed, or has a backslash that means nothing; add the quote, or double the backslash",
    ),
    (
        "did not find expected '-' indicator",
        "the indentation does not fit; items of one list begin in one column, each with '- '",
    ),
    (
        "did not find expected key",
        "the indentation does not fit, or text goes on after a value; keys of one mapping begin in one column, and text that begins with a quote ends with one",
    ),
    ("block sequence entries are not allowed", "a '- ' can't stand here; put the list on a line of its own"),
    ("block collection", "the indentation does not fit; what belongs together begins in one column"),
    ("cannot start any token", "a text can't begin with this character in YAML; put it in quotes"),
    (
        "expected alphabetic or numeric character",
        "'*' and '&' mean something to YAML at the beginning of a text; put it in quotes",
    ),
    (
        "did not find expected alphabetic or numeric character",
        "'*' and '&' mean something to YAML at the beginning of a text; put it in quotes",
    ),
    ("did not find expected node content", "a value is missing here"),
    ("did not find expected <document start>", "text where a mapping should go on; write key: value"),
    ("found undefined tag handle", "a tag ('!name!') that is not defined; put the text in quotes"),
    ("while scanning a block scalar", "a text after '|' or '>' whose lines don't fit; indent them alike"),
    ("while parsing a node", "a value can't be read; put it in quotes"),
    ("while scanning a directive", "a line can't begin with '%'; put it in quotes"),
)


def _up_to(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,30})")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,16}|0o[0-7]{1,21}")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")


def scalar(text: str) -> str | int | float | bool | None:
    """What a text without quotes stands for: YAML 1.2, but numbers with a leading zero, and `.inf`, stay text."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _INT.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text) and len(text) < 400:
        number = float(text)
        return number if number - number == 0 else text
    return text


# Mappings


def read_mapping(source: Mapping[Any, Any], report: Callable[[Where, str], None]) -> dict[str, Any]:
    """A mapping as a plain document of its own; what no document can hold is reported."""
    count = 0

    def copied(value: Any, where: Where) -> Any:
        nonlocal count
        count += 1
        if count > MOST_VALUES or len(where) > DEEPEST:
            raise _unreadable(
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
