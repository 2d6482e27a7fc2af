"""What a player's code does, as far as its source shows: what it says, if it keeps state, if it can stay silent.

Owns the reading of source code; runs none of it. It claims only what it sees: where the source is out of reach, or a topic
is no plain text, nothing is said about it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

import msgspec

from ensemble.event import emit
from ensemble.score.callable import function_of


class Saying(msgspec.Struct, frozen=True):
    """An `emit("topic", ...)` in the source."""

    topic: str
    fields: tuple[str, ...] | None
    """The fields of its data; None where they can't be seen."""
    file: str
    line: int


class Reading(msgspec.Struct, frozen=True):
    """A `event.data["field"]`, or `.get("field")`, in the source."""

    path: tuple[str, ...]
    is_needed: bool
    """Whether it fails where the field is missing."""
    file: str
    line: int


class Behaviour(msgspec.Struct, frozen=True):
    says: tuple[Saying, ...] = ()
    keeps_state: bool = False
    """Whether it touches `ctx.state`."""
    always_answers: bool = False
    """Whether every way through it that does not fail says something."""
    reads: tuple[Reading, ...] = ()
    """The fields of an event's data that it asks for."""
    labels: tuple[str, ...] = ()
    """The labels of a match that it asks for."""


def behaviour(call: Any) -> Behaviour:
    """What can be seen of a callable."""
    owner = call if inspect.isclass(call) else None
    main = vars(owner).get("__call__") if owner is not None else function_of(call)
    if not isinstance(main, FunctionType):
        return Behaviour()
    sayings: list[Saying] = []
    readings: list[Reading] = []
    keeps_state = False
    for function in _reachable(main, owner):
        tree = _tree(function)
        if tree is None:
            continue
        sayings += _sayings(tree, function)
        readings += _readings(tree, function)
        keeps_state = keeps_state or any(
            isinstance(node, ast.Attribute)
            and node.attr == "state"
            and isinstance(node.value, ast.Name)
            and node.value.id == "ctx"
            for node in ast.walk(tree)
        )
    tree = _tree(main)
    always_answers = tree is not None and _always_answers(tree, main)
    labels = () if tree is None else _labels(tree, is_method=owner is not None)
    return Behaviour(tuple(sayings), keeps_state, always_answers, tuple(dict.fromkeys(readings)), labels)


def _reachable(main: FunctionType, owner: type | None) -> list[FunctionType]:
    """The function and those of its module (or class) that it names, and those that they name."""
    found, open_ = [main], [main]
    while open_:
        function = open_.pop()
        for name in _names(function.__code__):
            value = vars(owner).get(name) if owner is not None and name in vars(owner) else function.__globals__.get(name)
            for each in _functions(value):
                if each.__module__ == main.__module__ and each not in found:
                    found.append(each)
                    open_.append(each)
    return found


def _names(code: Any) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if hasattr(const, "co_names"):
            yield from _names(const)


def _functions(value: Any) -> Iterator[FunctionType]:
    """A function, or those in a table of functions."""
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, (Mapping, list, tuple)) and len(value) < 1000:
        for each in value.values() if isinstance(value, Mapping) else value:
            if isinstance(each, FunctionType):
                yield each


def _tree(function: FunctionType) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    return _tree_of(function.__code__)


@lru_cache(256)  # a band that is opened again, or changed, asks for the same
def _tree_of(code: CodeType) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError):
        return None
    first = tree.body[0] if tree.body else None
    return first if isinstance(first, (ast.FunctionDef, ast.AsyncFunctionDef)) else None


def _sayings(tree: ast.AST, function: FunctionType) -> Iterator[Saying]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not _is_emit(node.func, function) or not node.args:
            continue
        topic = node.args[0]
        if isinstance(topic, ast.Constant) and isinstance(topic.value, str):
            line = function.__code__.co_firstlineno + node.lineno - 1
            yield Saying(topic.value, _fields(node), function.__code__.co_filename, line)


def _is_emit(called: ast.expr, function: FunctionType) -> bool:
    names = function.__globals__
    if isinstance(called, ast.Name):
        return names.get(called.id) is emit
    if isinstance(called, ast.Attribute) and called.attr == "emit" and isinstance(called.value, ast.Name):
        module = names.get(called.value.id)
        return isinstance(module, ModuleType) and module.__name__.partition(".")[0] == "ensemble"
    return False


def _fields(call: ast.Call) -> tuple[str, ...] | None:
    """The fields of what an emit says, where all of them are written out."""
    named = [keyword.arg for keyword in call.keywords if keyword.arg not in ("key", "after")]
    if None in named or any(isinstance(arg, ast.Starred) for arg in call.args):
        return None
    fields = [name for name in named if name is not None]
    if len(call.args) == 1:
        return tuple(fields) if fields else None
    data = call.args[1]
    if not isinstance(data, ast.Dict):
        return None
    for key in data.keys:
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            return None
        fields.append(key.value)
    return tuple(fields)


# Fields


def _readings(tree: ast.FunctionDef | ast.AsyncFunctionDef, function: FunctionType) -> Iterator[Reading]:
    """What a function asks of `X.data`, or of a name that `X.data` was given."""
    names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _is_data(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Subscript, ast.Call))]
    inner = {id(_of(node)) for node in nodes if _path(node, names) is not None}
    for node in nodes:
        path = _path(node, names)
        if path is None or id(node) in inner:  # a longer path goes through it
            continue
        line = function.__code__.co_firstlineno + node.lineno - 1
        yield Reading(path, isinstance(node, ast.Subscript), function.__code__.co_filename, line)


def _is_data(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "data"


def _of(node: ast.AST) -> ast.AST | None:
    """What a subscript, or a `.get`, is asked of."""
    if isinstance(node, ast.Subscript):
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
        return node.func.value
    return None


def _path(node: ast.AST, names: Collection[str]) -> tuple[str, ...] | None:
    """The path into data that an expression reads; None if it reads none that can be seen."""
    path: list[str] = []
    at: ast.AST | None = node
    while at is not None:
        if _is_data(at) or (isinstance(at, ast.Name) and at.id in names):
            return tuple(path) if path else None
        name = at.slice if isinstance(at, ast.Subscript) else at.args[0] if isinstance(at, ast.Call) and at.args else None
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            return None
        if isinstance(at, ast.Subscript) and not isinstance(at.ctx, ast.Load):
            return None
        path.insert(0, name.value)
        at = _of(at)
    return None


def _labels(tree: ast.FunctionDef | ast.AsyncFunctionDef, *, is_method: bool) -> tuple[str, ...]:
    """What it asks of its first parameter by `[...]`: of a match, its labels."""
    given = tree.args.posonlyargs + tree.args.args
    first = given[1:2] if is_method else given[:1]
    return tuple(
        dict.fromkeys(
            node.slice.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and first
            and node.value.id == first[0].arg
            and isinstance(node.slice, ast.Constant)
            and isinstance(node.slice.value, str)
        )
    )


# Silence


def _always_answers(tree: ast.FunctionDef | ast.AsyncFunctionDef, function: FunctionType) -> bool:
    own = list(_own(tree.body))
    if any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own):
        return _always_yields(tree.body, function)
    if any(isinstance(node, ast.Return) and not _is_answer(node.value, function) for node in own):
        return False
    return _always_returns(tree.body, function)


def _own(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """All nodes of a function, without those of the functions in it."""
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield from _own(list(ast.iter_child_nodes(node)))


def _is_answer(value: ast.expr | None, function: FunctionType) -> bool:
    """Whether what is returned is certainly an event: an emit, or a list or tuple that holds one."""
    if isinstance(value, ast.IfExp):
        return _is_answer(value.body, function) and _is_answer(value.orelse, function)
    if isinstance(value, (ast.List, ast.Tuple)):
        return any(_is_answer(each, function) for each in value.elts)
    if isinstance(value, ast.Dict):
        return True
    if not isinstance(value, ast.Call):
        return False
    if _is_emit(value.func, function):
        return True
    made = function.__globals__.get(value.func.id) if isinstance(value.func, ast.Name) else None
    return isinstance(made, type) and (issubclass(made, msgspec.Struct) or hasattr(made, "__dataclass_fields__"))


def _always_returns(body: Sequence[ast.stmt], function: FunctionType) -> bool:
    """Whether no way leads past the end of these statements. A way that raises is a way out: it ends in a dead letter."""
    for statement in body:
        if isinstance(statement, ast.Return):
            return True
        if isinstance(statement, ast.Raise):
            return False
        if isinstance(statement, ast.If) and any(isinstance(node, ast.Raise) for node in _own([statement])):
            return False
        if isinstance(statement, (ast.With, ast.AsyncWith)) and _always_returns(statement.body, function):
            return True
        if isinstance(statement, ast.If) and statement.orelse:  # noqa: SIM102 - two questions
            if _always_returns(statement.body, function) and _always_returns(statement.orelse, function):
                return True
    return False


def _always_yields(body: Sequence[ast.stmt], function: FunctionType) -> bool:
    """Whether an event is yielded before anything can end the function."""
    for statement in body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Yield):
            return _is_answer(statement.value.value, function)
        if not isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr)):
            return False
    return False
