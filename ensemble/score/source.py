"""The score's text: YAML, read into plain data that knows where each part of it stands.

Owns YAML (the one place that knows its library), `${NAME:-default}` and every fault that a text can have before it is a score.
YAML is read as 1.2 has it: `on`, `yes` and `no` are text, and so is what begins with a zero. Nothing here grows beyond its
bounds, whatever the text holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from ensemble.score.files import LARGEST
from ensemble.score.finding import Finding, Where, nearest, path_text, sentence
from ensemble.score.model import Place
from ensemble.score.tree import DEEPEST, MOST_VALUES, TEXT, Node, Unreadable
from ensemble.score.yaml_words import in_words

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_text(text: str, file: str = TEXT, environment: Mapping[str, str] | None = None) -> tuple[Node, list[Finding]]:
    """A text in YAML as a tree, and what is wrong with parts of it.

    Errors: Unreadable if it is no YAML, or goes beyond a bound.
    """
    if len(text) > LARGEST:
        raise Unreadable("score-file", f"it is longer than {LARGEST >> 20} MiB, so it is no score", file)
    builder = _Builder(text, file, os.environ if environment is None else environment)
    return builder.build(), builder.findings


def write_text(document: Mapping[str, Any]) -> str:
    """A document as a text in YAML; `read_text` gives it back."""
    # What is only `on` or `0x1f` in YAML 1.1 is quoted by the dumper, which reads as text in 1.2 too.
    text: str = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, default_flow_style=False, width=100)
    return text


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
            message, place = in_words(error, self._lines)
            raise self._stop("score-yaml", message, place) from None
        except RecursionError:
            raise Unreadable("score-yaml", f"nested more than {DEEPEST} levels deep; no score is", self._file) from None
        if self._root is None:
            raise Unreadable("score-yaml", "it is empty; write at least a name: and players:", self._file, 1, 1)
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
            wrong, cure = f"*{name} is an alias of nothing", f"define it above with &{name}, or put the text in quotes"
            raise self._stop("score-yaml", sentence(wrong, near and f"*{near}", cure), event.start_mark)
        node = self._anchors[name]
        if node is None:
            raise self._stop(
                "score-yaml", f"*{name} is an alias of what it stands in; a score can't hold itself", event.start_mark
            )
        self._check_key(event, "an alias")
        self._count += node.size - 1
        if self._count >= MOST_VALUES:
            raise self._stop(
                "score-yaml", f"its aliases make it larger than {MOST_VALUES} values, so it is no score", event.start_mark
            )
        self._add(node)

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
            shown = "a key is empty" if not key else f"the key {key} is no text, but {_kind(read)}"
            self._report("score-yaml", f"{shown}; put it in quotes", Node(None, *place))
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

    def _add(self, node: Node) -> None:
        self._count += 1
        if self._count > MOST_VALUES:
            message = f"it has more than {MOST_VALUES} values, so it is no score"
            raise Unreadable("score-yaml", message, self._file, node.line, node.column)
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
                shown = _up_to(text[found.start() :], 40)
                cure = "write ${NAME} or ${NAME:-default}, or $${ for the characters themselves"
                self._report("interpolation", f"{shown!r} can't be read; {cure}", node)
                return ""
            name, default = found[1], found[2]
            given = self._environment.get(name)
            if given is None or (given == "" and default is not None):
                if default is None:
                    near = nearest(name, [each for each in self._environment if each.isupper()])
                    cure = f"set it, or give a default: ${{{name}:-...}}"
                    self._report("interpolation", sentence(f"the environment has no {name}", near, cure), node)
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
        return Unreadable(code, message, self._file, line, column, path_text(self._path()))

    def _odd_character(self, error: yaml.reader.ReaderError) -> Unreadable:
        """YAML's reader counts characters from its own beginning; look for the first that YAML does not allow."""
        for number, line in enumerate(self._text.splitlines(), 1):
            for column, each in enumerate(line, 1):
                if not _PRINTABLE.fullmatch(each):
                    message = f"a control character, {each!r}, which YAML does not allow; remove it"
                    return Unreadable("score-text", message, self._file, number, column)
        return Unreadable("score-text", f"it is not text: {error.reason}; save it as UTF-8", self._file)


_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
_FILL = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\})?")
_PRINTABLE = re.compile(r"[\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _kind(value: Any) -> str:
    return "nothing" if value is None else "true or false" if isinstance(value, bool) else "a number"


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
