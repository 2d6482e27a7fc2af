"""Players' code: finds it by name, and says how it wants to be called.

Owns `find` and `shape`. Calls nothing of the user's but what importing a module runs.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.machinery
import inspect
import pkgutil
import sys
import traceback
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Collection,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from pathlib import Path
from typing import Any, Literal

import msgspec
import msgspec.inspect

from ensemble.errors import PlayerError
from ensemble.event import Emission, Event, Match
from ensemble.score.finding import nearest, sentence

# Finding


def find(play: str, folder: str = ".") -> Any:
    """The callable that `module:attribute` names, imported from the score's folder, the one above it, or sys.path.

    Errors: PlayerError if there is none, or importing it raises.
    """
    found = _named(play, folder, what="a function or class")
    if not callable(found):
        raise PlayerError(f"{play} is {_a_value(found)}, which can't be called; name a function or a class")
    return found


def find_type(name: str, folder: str = ".") -> Any:
    """The type that `module:Name` names: a msgspec Struct, dataclass, TypedDict or pydantic model.

    Errors: PlayerError.
    """
    found = _named(name, folder, what="a type")
    if not is_data_type(found):
        raise PlayerError(
            f"{name} is {_a_value(found)}, which is no type of data; name a msgspec Struct, a dataclass, a TypedDict "
            "or a pydantic model"
        )
    return found


def find_state_type(name: str, folder: str = ".") -> Any:
    """The same for a player's state, which begins as a new one: every field has a default.

    Errors: PlayerError.
    """
    found = find_type(name, folder)
    if typing.is_typeddict(found) or issubclass(found, tuple):
        raise PlayerError(
            f"{name} is a {'TypedDict' if typing.is_typeddict(found) else 'NamedTuple'}; state is changed field by field: "
            "name a msgspec Struct, a dataclass or a pydantic model"
        )
    required = _required(found)
    if required:
        raise PlayerError(
            f"{name} needs {', '.join(required)} to be made, and state begins as a new one; give every field a default"
        )
    return found


def _required(found: Any) -> list[str]:
    """The fields without which a type of data can't be made."""
    if hasattr(found, "model_fields"):
        return [name for name, field in found.model_fields.items() if field.is_required()]
    if issubclass(found, msgspec.Struct):
        return [field.name for field in msgspec.structs.fields(found) if field.required]
    missing = dataclasses.MISSING
    return [
        field.name
        for field in dataclasses.fields(found)
        if field.init and field.default is missing and field.default_factory is missing
    ]


def is_data_type(value: Any) -> bool:
    """Whether data can be of this type: msgspec Struct, dataclass, TypedDict, NamedTuple or pydantic model."""
    return isinstance(value, type) and (
        issubclass(value, msgspec.Struct)
        or dataclasses.is_dataclass(value)
        or typing.is_typeddict(value)
        or hasattr(value, "model_validate")
    )


def _named(name: str, folder: str, *, what: str) -> Any:
    module_name, colon, attribute = name.partition(":")
    is_name = all(part.isidentifier() for part in (*module_name.split("."), *attribute.split(".")))
    if not colon or not is_name:
        cure = f"write {_with_colon(name)}" if not colon and "." in name else f"write module:name of {what}"
        raise PlayerError(f"{name!r} is not module:name; {cure}")
    module = _module(module_name, folder)
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = nearest(part, [each for each in dir(found) if not each.startswith("_")])
            where = getattr(module, "__file__", None) or module_name
            raise PlayerError(sentence(f"{module_name} has no {part!r}", near, f"it was read from {_short_path(where)}"))
        found = getattr(found, part)
    return found


def _with_colon(name: str) -> str:
    return ":".join(name.rsplit(".", 1))


def _module(name: str, folder: str) -> types.ModuleType:
    here = [str(each) for each in _homes(folder)]
    sys.path[:] = here + [each for each in sys.path if each not in here]
    importlib.invalidate_caches()
    _let_go(name)
    try:
        module = importlib.import_module(name)
        _IMPORTED.add(name.partition(".")[0])
        return module
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise PlayerError(_not_found(name, error.name, here)) from None
        raise PlayerError(_raised(name, error, here)) from error
    except (Exception, SystemExit) as error:
        raise PlayerError(_raised(name, error, here)) from error


_IMPORTED: set[str] = set()
"""Top-level names that were imported for a score."""


def _let_go(name: str) -> None:
    """Forget a module that another score's folder gave under the same name: a notebook may open scores of two projects."""
    top = name.partition(".")[0]
    places: Any = None
    for length in range(1, name.count(".") + 2 if top in _IMPORTED else 0):
        part = ".".join(name.split(".")[:length])
        spec = importlib.machinery.PathFinder.find_spec(part, places)
        if spec is None:
            return
        places, file = spec.submodule_search_locations, getattr(sys.modules.get(part), "__file__", None)
        if file is not None and file != spec.origin:
            for each in [each for each in sys.modules if each == top or each.startswith(top + ".")]:
                del sys.modules[each]
            return


def _homes(folder: str) -> list[Path]:
    """Where players are looked for first: the score's folder, the one above it, the working directory."""
    home = Path(folder).resolve()
    return list(dict.fromkeys([home, home.parent, Path.cwd()]))


def _not_found(name: str, missing: str, here: Sequence[str]) -> str:
    parent, _, last = missing.rpartition(".")
    if parent:
        places = list(getattr(sys.modules.get(parent), "__path__", []))
        if not places:
            return f"there is no module {missing}: {parent} is a module, not a package; name what is in it after a colon"
    else:
        places = list(here)
    near = nearest(last, {module for place in places for module in _modules(place)})
    wrong = f"there is no module {missing}{'' if missing == name else f' (for {name})'}"
    looked = f"looked in {', '.join(map(_short_path, places))}"
    return sentence(wrong, f"{parent + '.' if parent else ''}{near}" if near else None, looked)


def _modules(folder: str) -> Iterator[str]:
    """What can be imported from a folder: modules, and packages with or without an __init__.py."""
    for module in pkgutil.iter_modules([folder]):
        yield module.name
    for below in Path(folder).iterdir() if Path(folder).is_dir() else ():
        if below.is_dir() and below.name.isidentifier() and any(below.glob("*.py")):
            yield below.name


def _raised(name: str, error: BaseException, here: Sequence[str]) -> str:
    """What importing a module raised, and in which line of its author's."""
    what = f"{type(error).__name__}: {error}".splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, ModuleNotFoundError):
        what += "; install it, or mend the import"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{name} can't be imported: {_short_path(error.filename)}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(tuple(here)) and "site-packages" not in frame.filename]
    place = f"{_short_path(own[-1].filename)}:{own[-1].lineno}: " if own else ""
    return f"{name} can't be imported: {place}{what}"


def _short_path(path: str) -> str:
    """A path relative to the working directory where it lies below it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def _a_value(value: Any) -> str:
    """A value as it is shown in a sentence: never by its address."""
    kind = type(value).__name__
    if hasattr(value, "__qualname__"):
        return f"the {kind} {value.__qualname__}"
    text = repr(value)
    if " at 0x" in text:
        return f"a {kind}"
    return f"{text if len(text) <= 60 else text[:57] + '...'} (a {kind})"


# Shapes


class Shape(msgspec.Struct, frozen=True):
    """How a player wants to be called, and what it says of itself."""

    kind: Literal["function", "class"]
    is_async: bool = False
    batch: bool = False
    """Whether it hears a list of events at a time."""
    hears: Any = None
    """The type to decode data into, of each event where it hears many; None: it gets the Event."""
    says: tuple[Any, ...] = ()
    """The types of data in its return annotation."""
    ctx: bool = False
    settings: tuple[str, ...] = ()
    """The names of `with:` that it takes; of a class, its constructor does."""
    required: tuple[str, ...] = ()
    accepts_any: bool = False


class SourceShape(msgspec.Struct, frozen=True):
    """How a player that only speaks wants to be called."""

    kind: Literal["function", "class"]
    is_async: bool = False
    ctx: bool = False
    place: bool = False
    settings: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    accepts_any: bool = False


_EMPTY = inspect.Parameter.empty
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def shape(call: Any) -> Shape:
    """How a callable wants to hear events.

    Errors: PlayerError if it can't: no parameter for the event, what it hears is no type that data can be decoded into, or a
            coroutine wants whole batches.
    """
    if inspect.isclass(call):
        hearing = call.__dict__.get("__call__") or getattr(call, "__call__", None)  # noqa: B004 - the class's own, not type's
        if "__call__" not in {name for each in call.__mro__ for name in vars(each)}:
            raise PlayerError(f"class {call.__qualname__} has no __call__, so it can't hear; add def __call__(self, event)")
        settings = _settings(_parameters(call), skip=())
        parameters = _parameters(hearing)
        if not isinstance(hearing, staticmethod):
            parameters = parameters[1:] if parameters and parameters[0].kind in _POSITIONAL else parameters
        heard = _hearing(hearing, parameters, call.__qualname__)
        extra = _settings(parameters[1:], skip=("ctx",))["required"]
        if extra:
            raise PlayerError(
                f"class {call.__qualname__}: __call__ wants {', '.join(extra)}, but settings go to __init__; "
                "give __call__ the event and, if it needs it, ctx"
            )
        return Shape(kind="class", **heard, **settings)
    parameters = _parameters(call)
    name = _name(call)
    heard = _hearing(call, parameters, name)
    return Shape(kind="function", **heard, **_settings(parameters[1:], skip=("ctx",)))


def source_shape(call: Any) -> SourceShape:
    """How a callable that gives events of its own accord wants to be called.

    Errors: PlayerError if it can't be called with settings.
    """
    parameters = _parameters(call)
    function = function_of(call)
    names = {parameter.name for parameter in parameters}
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and parameter.default is _EMPTY:
            raise PlayerError(f"{_name(call)}: {parameter.name} can't be given by name; a source gets its settings by name")
    if "event" in names and next(p for p in parameters if p.name == "event").default is _EMPTY:
        raise PlayerError(
            f"{_name(call)} wants an event, but a source only speaks; write it under players:, or drop the parameter"
        )
    return SourceShape(
        kind="class" if inspect.isclass(call) else "function",
        is_async=inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
        ctx="ctx" in names,
        place="place" in names,
        **_settings(parameters, skip=("ctx", "place")),
    )


def _parameters(call: Any) -> list[inspect.Parameter]:
    """The parameters of a callable; those of one that doesn't tell are (event)."""
    try:
        return list(inspect.signature(call).parameters.values())
    except (ValueError, TypeError):
        return [inspect.Parameter("event", inspect.Parameter.POSITIONAL_ONLY)]


def _settings(parameters: Sequence[inspect.Parameter], skip: Collection[str]) -> dict[str, Any]:
    named = [
        parameter
        for parameter in parameters
        if parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        and parameter.name not in skip
    ]
    return {
        "settings": tuple(parameter.name for parameter in named),
        "required": tuple(parameter.name for parameter in named if parameter.default is _EMPTY),
        "accepts_any": any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters),
    }


def _hearing(call: Any, parameters: Sequence[inspect.Parameter], name: str) -> dict[str, Any]:
    """What `shape` says of the function that hears."""
    first = parameters[0] if parameters else None
    if first is None or first.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
        raise PlayerError(
            f"{name} takes no event; its first parameter is the event that it hears, as in def {_plain(name)}(event)"
        )
    if first.name == "ctx":
        raise PlayerError(f"{name} takes ctx first; its first parameter is the event, as in def {_plain(name)}(event, ctx)")
    for parameter in parameters[1:]:
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and parameter.default is _EMPTY:
            raise PlayerError(f"{name}: {parameter.name} can't be given by name; remove the / after it")
    function = function_of(call)
    batch, hears = False, None
    if first.kind is not inspect.Parameter.VAR_POSITIONAL:
        batch, hears = _heard(_resolve(first.annotation, function), name, first.name)
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    if is_async and batch:
        raise PlayerError(
            f"{name} is asynchronous and wants whole batches; a coroutine hears one event a call, and many calls wait at once: "
            f"annotate {first.name} with Event, or write def in place of async def"
        )
    annotation = _return_annotation(call)
    return {
        "is_async": is_async,
        "batch": batch,
        "hears": hears,
        "says": tuple(dict.fromkeys(_said(_resolve(annotation, function)))),
        "ctx": any(parameter.name == "ctx" for parameter in parameters),
    }


def function_of(call: Any) -> Any:
    """The function that runs when this is called: its annotations are read in its own module."""
    while True:
        if isinstance(call, functools.partial):
            call = call.func
        elif isinstance(call, (staticmethod, classmethod)) or inspect.ismethod(call):
            call = call.__func__
        elif inspect.isfunction(call):
            inner = inspect.unwrap(call)
            if inner is call:
                return call
            call = inner
        elif inspect.isclass(call) or not hasattr(type(call), "__call__") or inspect.isbuiltin(call):  # noqa: B004
            return call
        else:
            inner = type(call).__call__
            if not inspect.isfunction(inner):
                return call
            call = inner


def types_of(call: Any) -> dict[str, Any]:
    """The types of parameters whose annotations are text, those that can be read: for where their module's names are not."""
    function = function_of(call.__call__ if inspect.isclass(call) else call)
    texts = {name: text for name, text in getattr(function, "__annotations__", {}).items() if isinstance(text, str)}
    types = {name: _resolve(text, function) for name, text in texts.items() if name != "return"}
    return {name: each for name, each in types.items() if not isinstance(each, _Unresolved)}


def _return_annotation(call: Any) -> Any:
    try:
        return inspect.signature(call).return_annotation
    except (ValueError, TypeError):
        return _EMPTY


class _Unresolved(msgspec.Struct, frozen=True):
    text: str
    why: str
    cure: str = "import it at run time, outside of `if TYPE_CHECKING:`"


def _resolve(annotation: Any, function: Any) -> Any:
    """An annotation as the type that it names; `_Unresolved` where its text can't be read in its module."""
    if not isinstance(annotation, str):
        return annotation
    names = {**vars(typing), **getattr(function, "__globals__", {})}
    closure, pending = _closure(function)
    try:
        return eval(annotation, names, closure)  # noqa: S307 - the user's own annotation, in the user's own module
    except NameError as error:
        if error.name in pending:
            why, cure = f"{error.name} has no value yet", f"have {error.name} made before the function is given"
            return _Unresolved(annotation, why, cure)
        return _Unresolved(annotation, str(error))
    except Exception as error:
        return _Unresolved(annotation, str(error))


def _closure(function: Any) -> tuple[dict[str, Any], set[str]]:
    """What a function finds in the functions around it, and the names of what they have not given a value yet."""
    known: dict[str, Any] = {}
    pending: set[str] = set()
    if inspect.isfunction(function):
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                known[name] = cell.cell_contents
            except ValueError:  # a function that calls itself, given away before it has its name
                pending.add(name)
    return known, pending


def _heard(annotation: Any, name: str, parameter: str) -> tuple[bool, Any]:
    """Whether a parameter takes many events, and the type of each; None: it gets Events."""
    if isinstance(annotation, _Unresolved):  # Event is often imported for the type checker only
        text = annotation.text.replace(" ", "").replace('"', "").replace("'", "")
        for many in ("list[", "List[", "Sequence[", "Iterable[", "Collection["):
            if text.startswith(many) and text.endswith("]"):
                inner = text[len(many) : -1]
                if inner.rpartition(".")[2] in ("Event", "Match"):
                    return True, None
        if text.rpartition(".")[2] in ("Event", "Match"):
            return False, None
        raise PlayerError(
            f"{name}: the type of {parameter}, {annotation.text}, can't be read ({annotation.why}); {annotation.cure}"
        )
    origin = typing.get_origin(annotation) or annotation
    if origin in (list, Sequence, Iterable, Collection):
        items = typing.get_args(annotation)
        return True, _decodable(items[0] if items else None, name, parameter)
    return False, _decodable(annotation, name, parameter)


def _decodable(annotation: Any, name: str, parameter: str) -> Any:
    """The type to decode into; None for Event and what says nothing."""
    if annotation in (_EMPTY, Any, object, None, Event, Match) or isinstance(annotation, typing.TypeVar):
        return None
    if isinstance(annotation, (str, typing.ForwardRef)):
        text = annotation if isinstance(annotation, str) else annotation.__forward_arg__
        if text.rpartition(".")[2] in ("Event", "Match"):
            return None
        raise PlayerError(f"{name}: the type of {parameter}, {text!r}, can't be read; write it without quotes")
    if _is_union(annotation) and {Event, Match} & set(typing.get_args(annotation)):
        return None
    if hasattr(annotation, "model_validate"):
        return annotation
    reason = _undecodable(annotation)
    if reason:
        raise PlayerError(
            f"{name}: data can't be decoded into the type of {parameter}, {_type_name(annotation)}: {reason}; annotate it "
            "with Event, a msgspec Struct, a dataclass or a TypedDict"
        )
    return annotation


def _undecodable(annotation: Any) -> str:
    """Why data can't be decoded into a type; empty if it can."""
    try:
        msgspec.msgpack.Decoder(annotation)
        known = msgspec.inspect.type_info(annotation)
    except (TypeError, ValueError, NameError, AttributeError) as error:
        return str(error).splitlines()[0]
    kinds = known.types if isinstance(known, msgspec.inspect.UnionType) else (known,)
    return "it is no type of data" if any(isinstance(kind, msgspec.inspect.CustomType) for kind in kinds) else ""


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


_MANY = (
    list, tuple, set, frozenset, Sequence, Iterable, Iterator, Collection, Generator, AsyncIterable, AsyncIterator,
    AsyncGenerator, Awaitable, Coroutine,
)  # fmt: skip


def _said(annotation: Any) -> Iterator[Any]:
    """The types of data in a return annotation."""
    if _is_union(annotation):
        for part in typing.get_args(annotation):
            yield from _said(part)
        return
    origin = typing.get_origin(annotation)
    if origin in _MANY:
        parts = typing.get_args(annotation)
        if origin in (Coroutine,):
            parts = parts[2:]
        elif origin in (Generator, AsyncGenerator):
            parts = parts[:1]
        for part in parts:
            yield from _said(part)
    elif origin is typing.Annotated:
        yield from _said(typing.get_args(annotation)[0])
    elif annotation not in (Event, Emission) and is_data_type(annotation):
        yield annotation


def _name(call: Any) -> str:
    if isinstance(call, functools.partial):
        return _name(call.func)
    return getattr(call, "__qualname__", None) or type(call).__qualname__


def _plain(name: str) -> str:
    last = name.rpartition(".")[2]
    return last if last.isidentifier() else "player"


def _type_name(annotation: Any) -> str:
    return getattr(annotation, "__qualname__", None) or str(annotation)
