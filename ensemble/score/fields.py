"""Which fields an event's data has, by its schema or type."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import msgspec

from ensemble.score.callable import is_data_type


class Fields(msgspec.Struct, frozen=True):
    """What is known of data's fields. `is_closed`: it has no others."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    is_closed: bool
    below: Mapping[str, Any] = {}
    """The schema of each, where there is one."""

    def at(self, name: str) -> Fields | None:
        """The fields of a field; None if unknown."""
        schema = self.below.get(name)
        return of_schema(schema) if isinstance(schema, Mapping) else None


def of_schema(schema: Mapping[str, Any]) -> Fields | None:
    """The fields that a schema tells of; None if it tells of none, or not in so many words."""
    if any(word in schema for word in ("$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties", "$dynamicRef")):
        return None
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return None
    is_closed = schema.get("additionalProperties") is False or schema.get("unevaluatedProperties") is False
    required = tuple(name for name in schema.get("required", ()) if isinstance(name, str))
    return Fields(tuple(dict.fromkeys([*properties, *required])), required, is_closed, properties)


def of_type(type_: Any) -> Fields | None:
    """The fields of a type of data; None if it is none."""
    if not is_data_type(type_):
        return None
    if issubclass(type_, msgspec.Struct):
        fields = msgspec.structs.fields(type_)
        return Fields(
            tuple(field.encode_name for field in fields),
            tuple(field.encode_name for field in fields if field.required),
            True,
        )
    if dataclasses.is_dataclass(type_):
        given = [field for field in dataclasses.fields(type_) if field.init]
        missing = dataclasses.MISSING
        return Fields(
            tuple(field.name for field in given),
            tuple(field.name for field in given if field.default is missing and field.default_factory is missing),
            True,
        )
    if typing.is_typeddict(type_):
        return Fields(tuple(type_.__annotations__), tuple(sorted(type_.__required_keys__)), True)
    fields_ = type_.model_fields
    return Fields(
        tuple(field.alias or name for name, field in fields_.items()),
        tuple(field.alias or name for name, field in fields_.items() if field.is_required()),
        True,
    )
