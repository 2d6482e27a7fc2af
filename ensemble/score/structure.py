"""The document's structure: which keys and types of values, judged by the schema that `document` gives.

Owns the way from a plain document to the typed one, and the wording of what does not fit. A key that is misspelt is read as the
one that was most likely meant, so that what stands under it is judged too, and nothing is called missing that is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ensemble.score.document import Document, cleaned, json_schema
from ensemble.score.finding import Where, nearest

ROUNDS = 20
"""How often faults are looked for anew after those that were found are out of the way."""


class Fault(msgspec.Struct, frozen=True):
    """Something in the structure that is wrong. `word` was found where one of `known` should be."""

    where: Where
    code: str
    wrong: str
    cure: str = ""
    word: str = ""
    known: tuple[str, ...] = ()
    meant: str | None = None
    """Of an unknown key: the known one as which it was read."""


def read(document: Mapping[str, Any]) -> tuple[Document, list[Fault]]:
    """The document as typed data, and every fault of its structure; what is faulty is left out of the data."""
    clean = cleaned(document)
    try:
        return msgspec.convert(clean, Document), []
    except msgspec.ValidationError:
        return _Structure(_copied(clean)).read()


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(below) for key, below in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


class _Structure:
    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._schema = schema()
        self._errors = _validator(self._schema).iter_errors

    def read(self) -> tuple[Document, list[Fault]]:
        """Mend what is misspelt, tell what else is wrong, and leave it out, until the rest is whole."""
        faults = list(self._nameless())
        for _ in range(ROUNDS):
            unknown = [error for error in self._errors(self._document) if error.kind.name == "additionalProperties"]
            if not unknown:
                break
            faults += [fault for error in unknown for fault in self._mend(error)]
        faults += dict.fromkeys(fault for error in self._errors(self._document) for fault in self._told(error, ()))
        for _ in range(ROUNDS):
            errors = list(self._errors(self._document))
            if not errors:
                break
            for error in sorted(errors, key=lambda each: [str(part).zfill(9) for part in each.instance_path], reverse=True):
                self._drop(error)
        try:
            return msgspec.convert(self._document, Document), faults
        except msgspec.ValidationError as error:  # the two readings of the schema differ: say what is known of it
            wrong = f"it does not fit the format: {error}"
            return Document(name="unnamed"), [*faults, Fault((), "wrong-value", wrong, "mend what is named, or leave it out")]

    def _nameless(self) -> Iterator[Fault]:
        """Take out entries whose name is empty: the validator's paths lose it."""
        for section in ("events", "motifs", "players", "sources"):
            entries = self._document.get(section)
            if isinstance(entries, dict) and "" in entries:
                del entries[""]
                yield Fault((section, ""), "wrong-value", "an empty name", "give it one")

    def _mend(self, error: Any) -> Iterator[Fault]:
        """Unknown keys: each becomes the known one that is like it, or goes."""
        where = real(self._document, error.instance_path)
        found = at(self._document, where)
        known = self._known(error)
        for name in error.kind.as_dict()["unexpected"]:
            near = nearest(name, [each for each in known if each not in found])
            value = found.pop(name)
            if near is not None:
                found[near] = value
            yield _unknown(where, name, known, near)

    def _known(self, error: Any) -> tuple[str, ...]:
        holder = at(self._schema, list(error.schema_path)[:-1]) or {}
        return tuple(holder.get("properties", ()))

    def _drop(self, error: Any) -> None:
        where = real(self._document, error.instance_path)
        if not where:
            self._document["name"] = "unnamed"  # the only key that a score can't be without
            return
        above, last = at(self._document, where[:-1]), where[-1]
        if isinstance(above, dict):
            above.pop(last, None)
        elif isinstance(above, list) and isinstance(last, int) and last < len(above):
            del above[last]

    def _told(self, error: Any, above: Where, root: Mapping[str, Any] | None = None) -> Iterator[Fault]:
        """One error in words, or those of the one branch that was meant."""
        where = (*above, *real(at(self._document, above), error.instance_path))
        root = self._schema if root is None else root
        holder = at(root, list(error.schema_path)[:-1]) or {}
        keyword, kind, found = error.kind.name, error.kind.as_dict(), error.instance
        if where == ("ensemble",):
            yield Fault(
                where,
                "wrong-value",
                f"{shown(found)} is no version of this format that is known here",
                "write ensemble: 1",
            )
        elif keyword == "required":
            name = str(kind["property"]).strip('"')
            yield Fault(where, "missing-key", f"{name}: is missing", _MISSING.get(name, f"add {name}:"))
        elif keyword == "additionalProperties":
            known = tuple(holder.get("properties", ()))
            for name in kind["unexpected"]:
                yield _unknown(where, name, known, None)
        elif keyword == "anyOf" and (branch := self._branch(holder, found)) is not None:
            inner = {**branch, "$defs": self._schema["$defs"]}
            for each in _validator(inner).iter_errors(found):
                yield from self._told(each, where, inner)
        else:
            word = found if isinstance(found, str) else ""
            options = tuple(str(each) for each in self._options(holder))
            yield Fault(where, "wrong-value", f"{shown(found)} is not {self.expectation(holder)}", "", word, options)

    def _branch(self, holder: Mapping[str, Any], found: Any) -> Mapping[str, Any] | None:
        """The branch of an anyOf that takes what was found: the list for a list, the mapping for a mapping."""
        kind = "array" if isinstance(found, list) else "object" if isinstance(found, Mapping) else ""
        return next((each for part in holder["anyOf"] if (each := self._resolved(part)).get("type") == kind), None)

    def _resolved(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        ref = part.get("$ref")
        if isinstance(ref, str):
            return self._schema["$defs"][ref.removeprefix("#/$defs/")]  # type: ignore[no-any-return]
        return part

    def _options(self, part: Mapping[str, Any]) -> Iterator[Any]:
        part = self._resolved(part)
        yield from part.get("enum", ())
        for each in part.get("anyOf", ()):
            yield from self._options(each)

    def expectation(self, part: Mapping[str, Any]) -> str:
        """What a part of the schema allows, in words."""
        part = self._resolved(part)
        if "anyOf" in part:
            return self._one_of(part["anyOf"])
        if "enum" in part:
            return _or([str(each) for each in part["enum"]])
        kind = part.get("type")
        if kind == "object":
            return _mapping(part)
        if kind == "array":
            items = self.expectation(part.get("items", {}))
            return f"a list of {items.replace('a mapping', 'mappings', 1)}"
        return _number(part) if kind in ("integer", "number") else "text" if kind == "string" else "right"

    def _one_of(self, parts: Sequence[Mapping[str, Any]]) -> str:
        kinds = {self._resolved(each).get("type") for each in parts}
        if {"string", "integer", "number"} <= kinds:
            return "a duration, such as 100ms, 5s or 24h"
        words = [self.expectation(each) for each in parts if self._resolved(each).get("type") != "null"]
        return _or(list(dict.fromkeys(words)))


def _validator(schema: dict[str, Any]) -> Any:
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator(schema, offline=True, keywords={"whole": _Whole})


class _Whole:
    """The keyword `whole`: 4.0 is an integer to JSON Schema, and none to the model."""

    def __init__(self, parent_schema: Any, value: Any, schema_path: Any) -> None:
        pass

    def validate(self, instance: Any) -> None:
        if isinstance(instance, float) and instance.is_integer():  # of other fractions "type" tells
            raise ValueError(f"{instance!r} is written as a fraction")


def schema() -> dict[str, Any]:
    """The score's schema without what `build` judges, and words, better: how texts look, and motifs."""
    whole: dict[str, Any] = _without_looks(json_schema())
    whole["$defs"]["Motif"] = {}
    return whole


_LOOKS = ("pattern", "examples", "propertyNames", "const")


def _without_looks(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_looks(each) for each in part]
    if not isinstance(part, dict):
        return part
    looks = {
        name: _without_looks(value)
        for name, value in part.items()
        if name not in _LOOKS and not (name == "$ref" and str(value).startswith("http"))
    }
    if part.get("type") == "integer" or part.get("enum") == [1]:  # the latter: the version
        looks["whole"] = True
    return looks


def real(value: Any, path: Sequence[str | int]) -> Where:
    """The validator's path as it is in the document: it takes the key '0' of a mapping for the index 0."""
    where: list[str | int] = []
    for part in path:
        if isinstance(part, int) and isinstance(value, Mapping):
            part = next((key for key in value if key.isdecimal() and int(key) == part), str(part))
        where.append(part)
        value = at(value, (part,))
    return tuple(where)


def at(value: Any, where: Sequence[str | int]) -> Any:
    """What a path leads to; None if nothing."""
    for part in where:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _unknown(where: Where, name: str, known: tuple[str, ...], meant: str | None) -> Fault:
    cure = f"known here: {', '.join(sorted(known))}"
    return Fault((*where, name), "unknown-key", f"unknown key {name!r}", cure, name, known, meant)


_MISSING = {
    "name": "a score has a name: name: my-band",
    "on": "say what the player listens for, as in on: order.placed",
    "emit": "name the topic of the event that is said: {emit: order.failed}",
    "reason": "say why the warning is not to be told again: reason: ...",
    "code": "name the warning's code, as in code: unheard-event",
}


def _mapping(part: Mapping[str, Any]) -> str:
    known = list(part.get("properties", ()))
    if not known:
        return "a mapping of names" if isinstance(part.get("additionalProperties"), Mapping) else "a mapping"
    return f"a mapping with keys such as {', '.join(known[:3])}" if len(known) > 4 else f"a mapping with {', '.join(known)}"


def _number(part: Mapping[str, Any]) -> str:
    word = "a whole number" if part["type"] == "integer" else "a number"
    low, high = part.get("minimum"), part.get("maximum")
    if low is not None and high is not None:
        return f"{word} from {low} to {high}"
    more = part.get("exclusiveMinimum")
    return f"{word} of at least {low}" if low is not None else f"{word} above {more}" if more is not None else word


def _or(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def shown(value: Any) -> str:
    """A value as it is shown in a sentence."""
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = "true" if value is True else "false" if value is False else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
