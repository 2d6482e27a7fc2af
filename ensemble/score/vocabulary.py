"""The vocabulary: what may be said under each topic, made ready for the hot path.

Owns how data is checked against its event's `schema:` or `type:`, and how the key is read out of it. A `Word` is made once a
topic; from then on an event costs the validator's own call, and nothing where nothing is declared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ensemble.errors import InvalidEvent, PlayerError, ScoreError
from ensemble.score.model import EventSpec, Score

Check = Callable[[Any], None]

SHOWN = 60
"""How much of a wrong value is shown, in characters."""
FAULTS = 3
"""How many faults of one event are told."""


class Word(msgspec.Struct, frozen=True):
    """A topic that may be said.

    `check` raises InvalidEvent where data breaks the schema or type; `key` reads the key out of data, or raises InvalidEvent.
    """

    topic: str
    check: Check | None = None
    key: Callable[[Any], str] | None = None
    type: Any = None
    """The Python type of the data, where the score names one."""
    version: int = 1
    """The version in which it is said."""
    upcasts: Mapping[int, tuple[str, Callable[[Any], Any]]] = {}
    """Version -> what makes data of it data of the next one: its name, and itself."""


class Vocabulary:
    """The words of a score.

    Errors: ScoreError if a `schema:` is no schema or a `type:` can't be imported; at once, not at the first event.
    The types of players' states are words of it too.
    """

    def __init__(self, score: Score) -> None:
        self._score = score
        self._words: dict[str, Word] = {}
        self._types: dict[str, Any] = {}
        self._validators: dict[str, Any] = {}
        self._upcasts: dict[str, Callable[[Any], Any]] = {}
        self.has_versions = any(spec.version != 1 for spec in score.events.values())
        """Whether any word has another version than 1."""
        self._states = {name: self._state(name, each.state.type) for name, each in score.players.items()}
        for spec in score.events.values():
            if spec.type is not None:
                self._types[spec.type] = self._type(spec)
            if spec.schema is not None:
                self._validators[spec.topic] = _validator(spec)
            for play in spec.upcast.values():
                self._upcasts[play] = self._upcast(spec, play)

    def word(self, topic: str) -> Word:
        """The word for a topic; one that is not declared may be said too, and nothing is checked."""
        word = self._words.get(topic)
        if word is None:
            word = self._words[topic] = self._make(topic)
        return word

    def schemas(self) -> dict[str, Any]:
        """The JSON Schema of each type of data that events name, by that name; of those that have one."""
        made = {name: schema for name, type_ in self._types.items() if (schema := schema_of(type_)) is not None}
        return dict(sorted(made.items()))

    def state(self, player: str) -> Any:
        """The type of a player's state; None: a dict, or nobody here is called that."""
        return self._states.get(player)

    def _state(self, player: str, name: str | None) -> Any:
        from ensemble.score.callable import find_state_type

        if name is None:
            return None
        try:
            return find_state_type(name, self._score.folder)
        except PlayerError as error:
            raise ScoreError(f"players.{player}.state.type: {error}") from error

    def _make(self, topic: str) -> Word:
        spec = self._score.event_spec(topic)
        if spec is None:
            return Word(topic)
        type_ = None if spec.type is None else self._types[spec.type]
        checks = []
        if spec.schema is not None:
            validator = next(self._validators[each.topic] for each in self._score.specs_for(topic) if each.schema is not None)
            checks.append(_schema_check(topic, validator))
        if type_ is not None:
            checks.append(_type_check(topic, type_))
        if spec.personal is not None and spec.personal.subject != "key":
            checks.append(_subject_check(topic, spec.personal.subject))
        return Word(
            topic,
            _both(checks) if checks else None,
            None if spec.key is None else key_reader(topic, spec.key),
            type_,
            spec.version,
            {version: (play, self._upcasts[play]) for version, play in spec.upcast.items()},
        )

    def _upcast(self, spec: EventSpec, play: str) -> Callable[[Any], Any]:
        from ensemble.score.callable import find

        try:
            found: Callable[[Any], Any] = find(play, self._score.folder)
        except PlayerError as error:
            raise ScoreError(f"events[{spec.topic}].upcast: {error}") from error
        return found

    def _type(self, spec: EventSpec) -> Any:
        from ensemble.score.callable import find_type

        assert spec.type is not None
        try:
            return find_type(spec.type, self._score.folder)
        except PlayerError as error:
            raise ScoreError(f"events[{spec.topic}].type: {error}") from error


def schema_of(type_: Any) -> dict[str, Any] | None:
    """The JSON Schema of a type of data; None where it has none."""
    try:
        made: dict[str, Any] = type_.model_json_schema() if hasattr(type_, "model_json_schema") else msgspec.json.schema(type_)
        return made
    except Exception:  # a type of its own inside, for which neither library knows a schema
        return None


def _both(checks: list[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]

    def check(data: Any) -> None:
        for each in checks:
            each(data)

    return check


# Schemas


def _validator(spec: EventSpec) -> Any:
    import jsonschema_rs

    try:
        return jsonschema_rs.Draft202012Validator(dict(spec.schema or {}), offline=True, validate_formats=True)
    except (jsonschema_rs.ValidationError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise ScoreError(f"events[{spec.topic}].schema: it is not a JSON Schema (2020-12): {reason}") from error


def _schema_check(topic: str, validator: Any) -> Check:
    is_valid = validator.is_valid

    def check(data: Any) -> None:
        try:
            if is_valid(data):
                return
        except Exception:  # not of JSON's own types: a Struct, a datetime, a tuple
            data = _plain(topic, data)
            try:
                if is_valid(data):
                    return
            except Exception as error:
                raise InvalidEvent(f"{topic}: data can't be checked: {error}; use what JSON has") from error
        raise InvalidEvent(f"{topic}: {'; '.join(_faults(validator, data))}")

    return check


def _plain(topic: str, data: Any) -> Any:
    try:
        return msgspec.to_builtins(data if not hasattr(data, "model_dump") else data.model_dump(mode="json"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(
            f"{topic}: data can't be written: {error}; use what JSON has, or a type that the score names"
        ) from error


def _faults(validator: Any, data: Any) -> list[str]:
    """What is wrong, field by field."""
    found = []
    try:
        for error in validator.iter_errors(data):
            found.append(fault(error))
    except (ValueError, RecursionError) as error:
        return [f"data can't be checked: {error}; nest it less deeply"]
    if len(found) > FAULTS:
        found[FAULTS:] = [f"and {len(found) - FAULTS} more"]
    return found


def fault(error: Any) -> str:
    """One error of a schema as a sentence: the field, what was expected, what was found."""
    field = ".".join(["data", *map(str, error.instance_path)])
    kind = error.kind.as_dict() if hasattr(error.kind, "as_dict") else {}
    keyword = getattr(error.kind, "name", "")
    found = shown(error.instance)
    match keyword:
        case "required":
            has = list(error.instance) if isinstance(error.instance, dict) else []
            return f"{field}: {kind.get('property')!r} is missing; {near(str(kind.get('property')), has)}it has {_list(has)}"
        case "additionalProperties" | "unevaluatedProperties":
            return f"{field}: {_list(kind.get('unexpected', ()))} is not expected there"
        case "type":
            types = kind.get("types", [])
            return f"{field}: expected {' or '.join(map(_a, types))}, found {found}"
        case "enum" | "const":
            options = kind.get("options", kind.get("expected_value"))
            return f"{field}: expected {'one of ' if keyword == 'enum' else ''}{shown(options)}, found {found}"
        case _:
            return f"{field}: {_short(error.message)}"


def near(word: str, known: list[str]) -> str:
    from ensemble.score.finding import nearest

    found = nearest(word, known)
    return f"did you mean {found!r}? " if found else ""


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."


def _list(names: Any) -> str:
    return ", ".join(map(repr, names)) or "nothing"


def _a(name: str) -> str:
    return {"integer": "an integer", "object": "an object", "array": "an array", "null": "null"}.get(name, f"a {name}")


# Types


def _type_check(topic: str, type_: Any) -> Check:
    if hasattr(type_, "model_validate"):
        return _pydantic_check(topic, type_)
    convert = msgspec.convert

    def check(data: Any) -> None:
        if type(data) is type_:
            return
        try:
            convert(data, type_)
        except msgspec.ValidationError as error:
            raise InvalidEvent(f"{topic}: {_of_type(str(error))}") from error
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidEvent(f"{topic}: data is not a {type_.__name__}: {error}") from error

    return check


def _pydantic_check(topic: str, type_: Any) -> Check:
    validate = type_.model_validate

    def check(data: Any) -> None:
        if type(data) is type_:
            return
        try:
            validate(data)
        except ValueError as error:
            faults = [
                f"{'.'.join(['data', *map(str, each['loc'])])}: {each['msg']}, found {shown(each['input'])}"
                for each in error.errors()[:FAULTS]  # type: ignore[attr-defined]
            ]
            raise InvalidEvent(f"{topic}: {'; '.join(faults)}") from error

    return check


def _of_type(message: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.total`" as "data.total: expected int, found str"."""
    what, _, where = message.partition(" - at `")
    field = where.rstrip("`").replace("$", "data", 1) if where else "data"
    what = what.replace("`", "").replace(", got ", ", found ")
    return f"{field}: {what[:1].lower()}{what[1:]}"


# Subjects


def _subject_check(topic: str, path: str) -> Check:
    """That personal data says whose it is: else it could never be forgotten."""
    names = path.removeprefix("data.").split(".")

    def check(data: Any) -> None:
        subject = _at(data, names)
        if not key_text(subject):
            raise InvalidEvent(
                f"{topic}: it is personal, and data.{'.'.join(names)}, which says whose it is, is {shown(subject)}; give it as "
                "text or a number"
            )

    return check


# Keys


def key_reader(topic: str, path: str) -> Callable[[Any], str]:
    """Reads the key at a path into data (`customer.id`; `data.` in front may be left out) as text.

    Numbers become their text. InvalidEvent where nothing is there, or what is there is no text, number or boolean.
    """
    names = path.removeprefix("data.").split(".")
    first = names[0]
    is_single = len(names) == 1

    def key(data: Any) -> str:
        if is_single:
            try:
                value = data[first]
            except (KeyError, TypeError, IndexError):
                value = _at(data, names)
        else:
            value = _at(data, names)
        return value if type(value) is str else _text(value, topic, path, data)

    return key


def _at(data: Any, names: list[str]) -> Any:
    for name in names:
        if isinstance(data, Mapping):
            data = data.get(name)
        else:
            data = getattr(data, name, None) if not isinstance(data, (str, int, float, list)) else None
        if data is None:
            return None
    return data


def key_text(value: Any) -> str | None:
    """A text, number or boolean as a key: 5 and 5.0 are one. None for what can't be a key."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return None


def _text(value: Any, topic: str, path: str, data: Any) -> str:
    text = key_text(value)
    if text is not None:
        return text
    if value is None:
        has = list(data) if isinstance(data, Mapping) else list(getattr(data, "__struct_fields__", ()))
        raise InvalidEvent(f"{topic}: its key, data.{path.removeprefix('data.')}, is missing; data has {_list(has)[:200]}")
    raise InvalidEvent(
        f"{topic}: its key, data.{path.removeprefix('data.')}, is a {type(value).__name__}, {shown(value)}; "
        "a key is text or a number"
    )
