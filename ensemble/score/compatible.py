"""Whether one JSON Schema takes what another took: field by field, what changed and whom that may break.

Owns the comparison. It claims compatibility only where it sees it: a keyword that it can't judge, and that changed, counts as
breaking. What a keyword means is JSON Schema 2020-12's to say; types of Python come as the schemas that they make.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

JSON = frozenset(("null", "boolean", "number", "string", "array", "object"))
_SAID = frozenset(
    (
        "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id",
        "$defs",
    )
)  # fmt: skip
"""Keywords that refuse nothing."""
_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_JUDGED = frozenset(
    (
        "$ref", "type", "enum", "const", "properties", "required", "additionalProperties", "items", "anyOf", "oneOf",
        *_LEAST, *_MOST,
    )
)  # fmt: skip


class Change(msgspec.Struct, frozen=True):
    """One difference between two schemas."""

    path: tuple[str, ...]
    """Of the field, within data; `[]` stands for the items of a list."""
    what: str
    """What it is now, and was."""
    takes_old: bool = True
    """Whether data that fitted the old schema fits the new one, as far as this goes."""
    is_known: bool = True
    """Whether who knows the old schema can count on it for data of the new one."""

    @property
    def field(self) -> str:
        return ".".join(("data", *self.path)).replace(".[]", "[]")

    def __str__(self) -> str:
        return f"{self.field} {self.what}"


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """What differs, in the order of the old schema's fields, then the new one's."""
    return list(_Pair(old, new).compare(old, new, ()))


class _Pair:
    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self._old, self._new = old, new
        self._open: set[tuple[str, str]] = set()
        """References that are being compared: a schema may hold itself."""

    def compare(self, old: Any, new: Any, path: tuple[str, ...]) -> Iterator[Change]:
        if old == new and self._defs_are_equal():
            return
        refs = (_named(old), _named(new))
        if refs in self._open:
            return
        if any(refs):
            self._open.add(refs)
        try:
            yield from self._resolved(_plain(self._old, old), _plain(self._new, new), path)
        finally:
            self._open.discard(refs)

    def _defs_are_equal(self) -> bool:
        return self._old.get("$defs") == self._new.get("$defs")

    def _resolved(self, old: dict[str, Any], new: dict[str, Any], path: tuple[str, ...]) -> Iterator[Change]:
        yield from self._types(old, new, path)
        yield from self._options(old, new, path)
        yield from self._bounds(old, new, path)
        yield from self._properties(old, new, path)
        if "items" in old or "items" in new:
            yield from self.compare(old.get("items", True), new.get("items", True), (*path, "[]"))
        for keyword in sorted((old.keys() | new.keys()) - _JUDGED - _SAID):
            if not keyword.startswith("x-") and old.get(keyword) != new.get(keyword):
                if keyword in new:
                    how = "changed" if keyword in old else "is new"
                    yield Change(
                        path, f"has {keyword}: {how}, and whether what was said fits it can't be told", takes_old=False
                    )
                else:
                    yield Change(path, f"has no {keyword}: any more")
        for keyword in ("anyOf", "oneOf"):
            if old.get(keyword) != new.get(keyword):
                wrong = f"has another {keyword}:, and whether what was said fits it can't be told"
                yield Change(path, wrong, takes_old=keyword not in new, is_known=False)

    def _types(self, old: dict[str, Any], new: dict[str, Any], path: tuple[str, ...]) -> Iterator[Change]:
        before, after = _types(old), _types(new)
        if before == after:
            return
        told = f"was {_listed(before)}, and is {_listed(after)} now"
        yield Change(path, told, takes_old=_within(before, after), is_known=_within(after, before))

    def _options(self, old: dict[str, Any], new: dict[str, Any], path: tuple[str, ...]) -> Iterator[Change]:
        before, after = _enum(old), _enum(new)
        if before == after:
            return
        if after is None:
            yield Change(path, f"may be anything now, not only {_some(before)}", is_known=False)
        elif before is None:
            yield Change(path, f"may only be {_some(after)} now", takes_old=False)
        else:
            if gone := [each for each in before if each not in after]:
                yield Change(path, f"can't be {_some(gone)} any more", takes_old=False)
            if more := [each for each in after if each not in before]:
                yield Change(path, f"may be {_some(more)} now", is_known=False)

    def _bounds(self, old: dict[str, Any], new: dict[str, Any], path: tuple[str, ...]) -> Iterator[Change]:
        for keyword in (*_LEAST, *_MOST):
            before, after = old.get(keyword), new.get(keyword)
            if before == after:
                continue
            is_tighter = after is not None and (before is None or (after > before) == (keyword in _LEAST))
            yield Change(path, f"has {keyword}: {after}, and had {before}".replace("None", "none"), takes_old=not is_tighter)

    def _properties(self, old: dict[str, Any], new: dict[str, Any], path: tuple[str, ...]) -> Iterator[Change]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed_before, needed = set(old.get("required", ())), set(new.get("required", ()))
        is_closed, was_closed = _is_closed(new), _is_closed(old)
        for name in dict.fromkeys((*before, *sorted(needed_before), *after, *sorted(needed))):
            at = (*path, name)
            was, is_ = name in before or name in needed_before, name in after or name in needed
            if was and not is_:
                if is_closed:
                    yield Change(at, "is not allowed any more", takes_old=False, is_known=False)
                else:
                    yield Change(at, "is not there any more", is_known=False)
                continue
            if name in needed and name not in needed_before:
                told = "is required now, and may be missing in what was said" if was else "is new, and required"
                yield Change(at, told, takes_old=False)
            elif name in needed_before and name not in needed:
                yield Change(at, "may be missing now", is_known=False)
            elif not was:
                yield Change(at, "is new")
            if was:
                yield from self.compare(before.get(name, True), after.get(name, True), at)
        if is_closed and not was_closed:
            yield Change(path, "has no other fields now", takes_old=False)


def _ref(schema: Any) -> str:
    return str(schema.get("$ref", "")) if isinstance(schema, Mapping) else ""


def _named(schema: Any) -> str:
    """What a schema refers to, itself or but for null; empty if it refers to nothing."""
    if not isinstance(schema, Mapping):
        return ""
    found = [_ref(each) for each in (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())) if _ref(each)]
    return found[0] if len(found) == 1 else ""


def _plain(root: Mapping[str, Any], schema: Any) -> dict[str, Any]:
    """A schema with its reference looked up, and `anyOf` of mere types written as types."""
    if schema is True or schema is None:
        return {}
    if schema is False:
        return {"not": {}}
    ref = _ref(schema)
    made: dict[str, Any] = dict(schema)
    for _ in range(100):  # a reference to a reference
        if not ref.startswith("#/"):
            break
        found: Any = root
        for part in ref[2:].split("/"):
            found = found.get(part, {}) if isinstance(found, Mapping) else {}
        made = {**{key: value for key, value in made.items() if key != "$ref"}, **found}
        ref = _ref(found)
    for keyword in ("anyOf", "oneOf"):
        parts = made.get(keyword)
        if isinstance(parts, list):
            alone = [_plain(root, each) for each in parts]
            others = [each for each in alone if each != {"type": "null"}]
            if len(others) == 1 and len(alone) == 2:  # something, or null
                rest = {key: value for key, value in made.items() if key != keyword}
                made = {**rest, **others[0], "type": sorted({*_types(others[0]), "null"})}
            elif all(set(each) - _SAID == {"type"} for each in alone):
                made = {
                    **{key: value for key, value in made.items() if key != keyword},
                    "type": [t for e in alone for t in _types(e)],
                }
    return made


def _types(schema: Mapping[str, Any]) -> frozenset[str]:
    given = schema.get("type")
    if given is None:
        return JSON
    named = frozenset([given] if isinstance(given, str) else given)
    return named - {"integer"} if "number" in named else named


def _within(some: frozenset[str], others: frozenset[str]) -> bool:
    return all(each in others or (each == "integer" and "number" in others) for each in some)


def _enum(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    options = schema.get("enum")
    return list(options) if isinstance(options, list) else None


def _is_closed(schema: Mapping[str, Any]) -> bool:
    return schema.get("additionalProperties") is False or schema.get("unevaluatedProperties") is False


def _listed(types: frozenset[str]) -> str:
    return "anything" if types == JSON else " or ".join(sorted(types))


def _some(values: list[Any] | None) -> str:
    told = [repr(each) for each in values or ()]
    return ", ".join(told[:5]) + (", ..." if len(told) > 5 else "")
