"""Users' JSON Schemas: whether they are any, and where they are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ensemble.score.finding import Where, nearest, sentence
from ensemble.score.structure import real

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_NAMED = ("properties", "patternProperties", "$defs", "dependentSchemas", "definitions")
"""Keywords whose keys are names, not keywords."""
_DATA = ("const", "enum", "default", "examples", "required", "dependentRequired")
"""Keywords whose values are no schemas."""


def schema_faults(schema: Mapping[str, Any]) -> Iterator[tuple[Where, str, str]]:
    """Each fault of a schema: its place, what is wrong, what to do."""
    import jsonschema_rs

    draft = schema.get("$schema")
    if draft is not None and str(draft).rstrip("#") != DRAFT:
        yield ("$schema",), f"{draft!r:.80} is not read", f"remove it, or write {DRAFT}"
        return
    is_sound = True
    for error in jsonschema_rs.Draft202012Validator({"$ref": DRAFT}, offline=True).iter_errors(schema):
        is_sound = False
        path = real(schema, error.instance_path)
        is_flag = path[-1:] == ("required",) and isinstance(error.instance, bool)
        cure = "list what is required beside properties:, as in required: [id]" if is_flag else ""
        yield path, f"it is not a JSON Schema (2020-12): {_plain(error)}", cure
    if not is_sound:
        return
    try:
        jsonschema_rs.Draft202012Validator(dict(schema), offline=True)
    except jsonschema_rs.ValidationError as error:
        yield from _unsound(schema, error)
    except (ValueError, RecursionError) as error:
        yield (), f"it is not a JSON Schema (2020-12): {str(error).splitlines()[0]}", ""


def _unsound(schema: Mapping[str, Any], error: Any) -> Iterator[tuple[Where, str, str]]:
    """A schema that has the form of one, but can't be used: its references lead nowhere, a pattern is none."""
    refs = list(_refs(schema, ()))
    elsewhere = [(where, ref) for where, ref in refs if not ref.startswith("#")]
    for where, ref in elsewhere:
        cure = "schemas are not fetched: put it under $defs and refer to #/$defs/NAME"
        yield where, f"$ref to {ref!r:.80}, which is somewhere else", cure
    if elsewhere:
        return
    for where, ref in refs:
        if len(ref) > 1 and ref.removeprefix("#") in error.message:
            names = [f"#/$defs/{name}" for name in schema.get("$defs", ())]
            near = nearest(ref, names)
            yield (
                where,
                sentence(f"$ref to {ref!r:.80}, which is not in this schema", near, ""),
                "" if near else "add it",
            )
            return
    yield real(schema, error.instance_path), f"it is not a JSON Schema (2020-12): {_plain(error)}", ""


def _plain(error: Any) -> str:
    kind, found = error.kind.as_dict(), error.instance
    shown = str(found).lower() if isinstance(found, bool) else repr(found)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    match error.kind.name:
        case "type":
            return f"{shown} is not {' or '.join(_a(each) for each in kind['types'])}"
        case "anyOf" if error.instance_path and error.instance_path[-1] == "type":
            return f"there is no type {shown}; there are array, boolean, integer, null, number, object and string"
        case "format":
            return f"{shown} is not a {'regular expression' if kind.get('format') == 'regex' else kind.get('format')}"
        case _:
            return str(error.message)


def _a(name: str) -> str:
    article = "an" if name[0] in "aeiou" else "a"
    return {"object": "a mapping", "array": "a list", "string": "text", "boolean": "true or false"}.get(
        name, f"{article} {name}"
    )


def _refs(schema: Any, where: Where) -> Iterator[tuple[Where, str]]:
    """All references in a schema, with their places."""
    if isinstance(schema, list):
        for i, each in enumerate(schema):
            yield from _refs(each, (*where, i))
    elif isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield (*where, key), value
            elif key in _NAMED and isinstance(value, Mapping):
                for name, each in value.items():
                    yield from _refs(each, (*where, key, name))
            elif key not in _DATA:
                yield from _refs(value, (*where, key))


KEYWORDS = frozenset(
    (
        "$schema", "$id", "$ref", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary", "$comment", "$defs", "allOf",
        "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "prefixItems", "items", "contains", "properties",
        "patternProperties", "additionalProperties", "propertyNames", "unevaluatedItems", "unevaluatedProperties", "type",
        "const", "enum", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength",
        "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxContains", "minContains", "maxProperties",
        "minProperties", "required", "dependentRequired", "title", "description", "default", "deprecated", "readOnly",
        "writeOnly", "examples", "format", "contentEncoding", "contentMediaType", "contentSchema", "definitions",
    )
)  # fmt: skip
"""Of JSON Schema 2020-12."""


def unknown_keywords(schema: Any, where: Where = ()) -> Iterator[tuple[Where, str]]:
    """Keywords that are none, but are like one: their places. Others may be somebody's own, which the standard allows."""
    if isinstance(schema, list):
        for i, each in enumerate(schema):
            yield from unknown_keywords(each, (*where, i))
    if not isinstance(schema, Mapping):
        return
    for key, value in schema.items():
        if key not in KEYWORDS:
            if not key.startswith("x-") and nearest(key, KEYWORDS):
                yield (*where, key), key
        elif key in _NAMED:
            for name, each in value.items() if isinstance(value, Mapping) else ():
                yield from unknown_keywords(each, (*where, key, name))
        elif key not in _DATA and key != "type":
            yield from unknown_keywords(value, (*where, key))
