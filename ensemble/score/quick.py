"""Conditions made quick: the common part of CEL as Python code.

Owns what that part is (paths, comparisons, `&&`, `||`, `!`, `in` a list, `+ - *`, `has`, `size`, `startsWith` and its like) and
that it never differs from the library: whatever is not plainly the same in both is left to that. A condition that has more
in it is not made quick at all; values that may be another matter (a number beyond 53 bits beside a fraction, a time, a list
compared with a list) raise `Unsure` when they come, and the library is asked.

    quick(text)(names) = True or False   =>   the library says the same, or has an error where this says False
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from math import isnan
from typing import Any, NoReturn

EXACT = 1 << 53
"""Whole numbers up to here are the same as fractions."""
LONGEST_INT = 1 << 63


class Unsure(Exception):
    """The library has to be asked."""


class _NotQuick(Exception):
    """There is more in a condition than this knows."""


_TOKENS = re.compile(
    r"""\s*(?:
        (?P<number>\d+\.\d+|\d+(?![\w.]))
      | (?P<text>"[^"\\\n]*"|'[^'\\\n]*')
      | (?P<name>[A-Za-z_]\w*)
      | (?P<sign>&&|\|\||[=!<>]=|[<>!()\[\],.+*-])
    )""",
    re.VERBOSE,
)


def quick(text: str, names: Collection[str]) -> tuple[Callable[[Mapping[str, Any]], bool], bool] | None:
    """A condition over values by name, as Python; None if there is more in it than this knows.

    The second is whether it is a mere conjunction: then what can't be decided does not hold, whatever else it says.
    """
    try:
        maker = _Maker(text, names)
        code = maker.whole()
    except (_NotQuick, RecursionError):
        return None
    made: Callable[[Mapping[str, Any]], bool] = eval(f"lambda names: {code}", dict(_HELP))  # noqa: S307 - made here, of tokens
    return made, not maker.has_choice


class _Maker:
    """Reads a condition, and writes Python: one method a level of precedence, each gives code and the kind of its value."""

    def __init__(self, text: str, names: Collection[str]) -> None:
        self._names = names
        self._tokens: list[tuple[str, str]] = []
        self.has_choice = False
        """Whether there is an `||` or a `!`: then an error in a part may still be true as a whole."""
        at = 0
        text = text.rstrip()
        while at < len(text):
            found = _TOKENS.match(text, at)
            if found is None or found.lastgroup is None:
                raise _NotQuick
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()
        self._at = 0

    def whole(self) -> str:
        code = self._bool(self._or())
        if self._at != len(self._tokens):
            raise _NotQuick
        return code

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) and self._tokens[self._at][0] != "text" else ""

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise _NotQuick
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, sign: str) -> None:
        if self._next() != ("sign", sign):
            raise _NotQuick

    def _or(self) -> tuple[str, str]:
        made = self._and()
        while self._peek() == "||":
            self._next()
            self.has_choice = True
            made = f"({self._bool(made)} or {self._bool(self._and())})", "bool"
        return made

    def _and(self) -> tuple[str, str]:
        made = self._relation()
        while self._peek() == "&&":
            self._next()
            made = f"({self._bool(made)} and {self._bool(self._relation())})", "bool"
        return made

    def _relation(self) -> tuple[str, str]:
        made = self._sum()
        sign = self._peek()
        if sign in _RELATIONS:
            self._next()
            other = self._sum()
            made = f"{_RELATIONS[sign]}({made[0]}, {other[0]})", "bool"
            if self._peek() in _RELATIONS or self._peek() == "in":
                raise _NotQuick
        elif sign == "in":
            self._next()
            self._expect("[")
            listed = [self._literal()]
            while self._peek() == ",":
                self._next()
                listed.append(self._literal())
            self._expect("]")
            made = f"_among({made[0]}, ({', '.join(listed)},))", "bool"
        return made

    def _sum(self) -> tuple[str, str]:
        made = self._product()
        while self._peek() in ("+", "-"):
            help_ = "_plus" if self._next()[1] == "+" else "_minus"
            made = f"{help_}({made[0]}, {self._product()[0]})", ""
        return made

    def _product(self) -> tuple[str, str]:
        made = self._unary()
        while self._peek() == "*":
            self._next()
            made = f"_times({made[0]}, {self._unary()[0]})", ""
        return made

    def _unary(self) -> tuple[str, str]:
        if self._peek() == "!":
            self._next()
            self.has_choice = True
            return f"(not {self._bool(self._unary())})", "bool"
        if self._peek() == "-":
            self._next()
            kind, value = self._next()
            if kind != "number":
                raise _NotQuick
            return f"(-{value})", ""
        return self._primary()

    def _literal(self) -> str:
        sign = "-" if self._peek() == "-" and self._next() else ""
        kind, value = self._next()
        if kind == "number" or (kind == "text" and not sign):
            return f"{sign}{_number(value) if kind == 'number' else repr(value[1:-1])}"
        raise _NotQuick

    def _primary(self) -> tuple[str, str]:
        kind, value = self._next()
        if kind == "number":
            return _number(value), ""
        if kind == "text":
            return repr(value[1:-1]), ""
        if value == "(":
            made = self._or()
            self._expect(")")
            return f"({made[0]})", made[1]
        if kind != "name":
            raise _NotQuick
        if value in _WORDS:
            return _WORDS[value]
        if value in ("has", "size"):
            self._expect("(")
            name = self._next()[1]
            path = self._path(name)
            if self._peek() != ")":
                raise _NotQuick
            self._next()
            if value == "size":
                return f"_size({self._read(name, path)})", ""
            if not path:
                raise _NotQuick
            return f"_has({self._read(name, path[:-1])}, {path[-1]!r})", "bool"
        path = self._path(value)
        if self._peek() == "(":  # the last of the path is a function
            function = _FUNCTIONS.get(path[-1] if path else "")
            if function is None:
                raise _NotQuick
            self._next()
            given = self._next()
            if given[0] != "text":
                raise _NotQuick
            self._expect(")")
            return f"{function}({self._read(value, path[:-1])}, {given[1][1:-1]!r})", "bool"
        return self._read(value, path), ""

    def _path(self, name: str) -> list[str]:
        if name not in self._names:
            raise _NotQuick
        path = []
        while self._peek() == ".":
            self._next()
            kind, part = self._next()
            if kind != "name":
                raise _NotQuick
            path.append(part)
        if self._peek() == "[":
            raise _NotQuick
        return path

    def _read(self, name: str, path: list[str]) -> str:
        code = f"names[{name!r}]"
        for part in path:
            code = f"_field({code}, {part!r})" if len(path) > 1 else f"{code}[{part!r}]"
        return code

    @staticmethod
    def _bool(made: tuple[str, str]) -> str:
        return made[0] if made[1] == "bool" else f"_truth({made[0]})"


_WORDS = {"true": ("True", "bool"), "false": ("False", "bool"), "null": ("None", "")}
_RELATIONS = {"==": "_same", "!=": "_other", "<": "_less", "<=": "_most", ">": "_more", ">=": "_least"}
_FUNCTIONS = {"startsWith": "_starts", "endsWith": "_ends", "contains": "_holds"}


def _number(text: str) -> str:
    if "." in text:
        return text
    if int(text) >= LONGEST_INT:
        raise _NotQuick
    return str(int(text)) if text == str(int(text)) else _not_quick()


def _not_quick() -> NoReturn:
    raise _NotQuick


_PLAIN = (str, int, float, bool, type(None))


def _same(a: Any, b: Any) -> bool:
    kind, other = type(a), type(b)
    if kind is other and kind is not float and kind in _PLAIN:
        return bool(a == b)
    if kind not in _PLAIN or other not in _PLAIN:
        raise Unsure
    if kind is bool or other is bool or kind is str or other is str or a is None or b is None:
        return kind is other and bool(a == b)
    _check_numbers(a, b)
    return bool(a == b)


def _other(a: Any, b: Any) -> bool:
    return not _same(a, b)


def _check_numbers(a: Any, b: Any) -> None:
    """Unsure unless both are numbers that every language compares alike."""
    for each in (a, b):
        kind = type(each)
        if kind is int:
            if not -EXACT <= each <= EXACT:
                raise Unsure
        elif kind is not float or isnan(each):
            raise Unsure


def _check_order(a: Any, b: Any) -> None:
    if type(a) is str and type(b) is str:
        return
    _check_numbers(a, b)


def _less(a: Any, b: Any) -> bool:
    _check_order(a, b)
    return bool(a < b)


def _most(a: Any, b: Any) -> bool:
    _check_order(a, b)
    return bool(a <= b)


def _more(a: Any, b: Any) -> bool:
    _check_order(a, b)
    return bool(a > b)


def _least(a: Any, b: Any) -> bool:
    _check_order(a, b)
    return bool(a >= b)


def _alike(a: Any, b: Any) -> None:
    """Unsure unless both are whole numbers of a moderate size, or both fractions: CEL does not mix them."""
    kind = type(a)
    if kind is not type(b) or kind not in (int, float):
        raise Unsure
    if kind is int and not (-(1 << 31) <= a < 1 << 31 and -(1 << 31) <= b < 1 << 31):
        raise Unsure


def _plus(a: Any, b: Any) -> Any:
    _alike(a, b)
    return a + b


def _minus(a: Any, b: Any) -> Any:
    _alike(a, b)
    return a - b


def _times(a: Any, b: Any) -> Any:
    _alike(a, b)
    return a * b


def _among(a: Any, listed: tuple[Any, ...]) -> bool:
    return any(_same(a, each) for each in listed)


def _truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise Unsure


def _field(value: Any, name: str) -> Any:
    if type(value) is not dict:
        raise Unsure
    return value[name]


def _has(value: Any, name: str) -> bool:
    if type(value) is not dict:
        raise Unsure
    return name in value


def _size(value: Any) -> int:
    if type(value) not in (str, list, dict):
        raise Unsure
    return len(value)


def _starts(value: Any, text: str) -> bool:
    if type(value) is not str:
        raise Unsure
    return value.startswith(text)


def _ends(value: Any, text: str) -> bool:
    if type(value) is not str:
        raise Unsure
    return value.endswith(text)


def _holds(value: Any, text: str) -> bool:
    if type(value) is not str:
        raise Unsure
    return text in value


_HELP = {
    name: value
    for name, value in globals().items()
    if name.startswith("_") and not name.startswith("__") and callable(value) and name not in ("_Maker", "_NotQuick")
}
