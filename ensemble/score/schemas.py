"""Users' JSON Schemas: whether they are any, and where they are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ensemble.score.finding import Where

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
        yield tuple(error.instance_path), f"it is not a JSON Schema (2020-12): {_plain(error)}", ""
    if not is_sound:
        return
    try:
        jsonschema_rs.Draft202012Validator(dict(schema), offline=True)
    except (jsonschema_rs.ValidationError, ValueError, RecursionError) as error:
        remote = [(where, ref) for where, ref in _refs(schema, ()) if not ref.startswith("#")]
        for where, ref in remote:
            yield (
                where,
                f"$ref to {ref!r:.80}, which is somewhere else",
                "schemas are not fetched: put it under $defs and refer to #/$defs/NAME",
            )
        if not remote:
            yield _place(schema, error), f"it is not a JSON Schema (2020-12): {_reason(error)}", ""


def _plain(error: Any) -> str:
    kind, found = error.kind.as_dict(), error.instance
    shown = repr(found) if len(repr(found)) <= 60 else repr(found)[:57] + "..."
    match error.kind.name:
        case "type":
            return f"{shown} is not {' or '.join(_a(each) for each in kind['types'])}"
        case "anyOf" if error.instance_path and error.instance_path[-1] == "type":
            return f"there is no type {shown}; there are array, boolean, integer, null, number, object and string"
        case "format":
            return f"{shown} is not a {kind.get('format', 'regular expression')}"
        case _:
            return str(error.message)


def _a(name: str) -> str:
    article = "an" if name[0] in "aeiou" else "a"
    return {"object": "a mapping", "array": "a list", "string": "text", "boolean": "true or false"}.get(
        name, f"{article} {name}"
    )


def _reason(error: BaseException) -> str:
    return str(getattr(error, "message", None) or error).splitlines()[0].rstrip(".")


def _place(schema: Mapping[str, Any], error: BaseException) -> Where:
    path = tuple(getattr(error, "instance_path", ()) or ())
    if path:
        return path
    reason = _reason(error)
    return next((where for where, ref in _refs(schema, ()) if ref.removeprefix("#") and ref.removeprefix("#") in reason), ())


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
