"""The line of a traceback that its reader can mend is the last of his own."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator

from ensemble import whereabouts


def break_json() -> None:
    json.loads("{")


def break_twice() -> None:
    try:
        break_json()
    except ValueError as error:
        raise KeyError("none") from error


def line_of(function: object, word: str) -> int:
    import inspect

    lines, first = inspect.getsourcelines(function)  # type: ignore[arg-type]
    return next(first + ix for ix, line in enumerate(lines) if word in line)


def test_it_is_the_last_line_that_is_not_pythons() -> None:
    try:
        break_json()
    except ValueError as error:
        place, told = whereabouts.of_error(error), whereabouts.in_traceback(traceback.format_exc())

    assert place == told
    assert place is not None
    assert place.endswith(f"test_whereabouts.py:{line_of(break_json, 'loads')}")


def test_of_chained_errors_it_is_that_of_the_last() -> None:
    try:
        break_twice()
    except KeyError as error:
        place, told = whereabouts.of_error(error), whereabouts.in_traceback(traceback.format_exc())

    assert place == told
    assert place is not None
    assert place.endswith(f":{line_of(break_twice, 'KeyError')}")


def test_code_of_an_installed_package_alone_is_named_by_its_first_line() -> None:
    text = 'Traceback (most recent call last):\n  File "/x/site-packages/a.py", line 3, in f\n    g()\n' + (
        '  File "/x/site-packages/b.py", line 4, in g\n    1 / 0\nZeroDivisionError: division by zero\n'
    )

    assert whereabouts.in_traceback(text) == "/x/site-packages/a.py:3"
    assert whereabouts.in_traceback("ValueError: no traceback") is None


def test_a_generator_is_where_it_waits() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    waiting = numbers()
    next(waiting)

    place = whereabouts.of_generator(waiting)

    assert place is not None
    assert place.endswith(f"test_whereabouts.py:{line_of(numbers, 'yield 1')}")
    assert whereabouts.of_generator([1]) is None
