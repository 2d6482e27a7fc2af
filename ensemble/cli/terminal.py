"""The terminal: results go to stdout, talk to stderr; colours only where a person looks.

Owns how texts, columns and JSON lines are written. Knows nothing of bands.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, Literal


class Enough(BaseException):
    """Whoever read our results has gone: nobody is left to write for."""


Style = Literal["", "bold", "dim", "bold red", "yellow", "green"]
_ANSI: dict[Style, str] = {"": "", "bold": "1", "dim": "2", "bold red": "1;31", "yellow": "33", "green": "32"}


def result(text: str = "", *, style: Style = "") -> None:
    """Write a line of the result, to stdout."""
    _print(painted(text, style, sys.stdout))


def talk(text: str, *, style: Style = "", sign: str = "") -> None:
    """Say something to the person at the terminal, on stderr. `sign` comes before it: error, note."""
    prefix = painted(f"{sign}:", style, sys.stderr) + " " if sign else ""
    body = text if sign else painted(text, style, sys.stderr)
    print(prefix + body, file=sys.stderr, flush=True)


def flush() -> None:
    """Send what was written so far to whoever reads stdout."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        hush()
        raise Enough from None


def painted(text: str, style: Style, stream: IO[str]) -> str:
    """The text in a colour, if it goes to a person who wants colours."""
    if not style or not has_colours(stream):
        return text
    return f"\x1b[{_ANSI[style]}m{text}\x1b[0m"


def has_colours(stream: IO[str]) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def json_text(value: Any) -> str:
    """A value as one line of JSON."""
    import msgspec

    return msgspec.json.encode(value, enc_hook=str).decode()


def result_json(value: Any) -> None:
    """Write a value to stdout as one line of JSON."""
    _print(json_text(value))


def _print(text: str) -> None:
    try:
        print(text, flush=sys.stdout.isatty())
    except BrokenPipeError:
        hush()
        raise Enough from None


def result_columns(headers: Sequence[str], rows: Iterable[Sequence[object]], *, indent: str = "") -> None:
    """Write rows to stdout, aligned under their headers: numbers to the right, text to the left."""
    lines = list(columns(headers, rows))
    for number, line in enumerate(lines):
        result(indent + line, style="" if number else "bold")


def columns(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterable[str]:
    """The lines of a table."""
    cells = [[grouped(cell) if isinstance(cell, int) else shown(str(cell)) for cell in row] for row in rows]
    is_number = [True] * len(headers)
    for row in rows if isinstance(rows, Sequence) else ():
        is_number = [known and isinstance(cell, int) for known, cell in zip(is_number, row, strict=True)]
    widths = [max(len(line[ix]) for line in [list(headers), *cells]) for ix in range(len(headers))]
    for line in [list(headers), *cells]:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, is_number, strict=True)
        ]
        yield "  ".join(padded).rstrip()


def grouped(number: int) -> str:
    """A number as people read it: 1,234,567."""
    return f"{number:,}"


def sized(bytes_: int) -> str:
    """A size as people read it: 2.1 MB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= size:
            return f"{bytes_ / size:,.1f} {unit}"
    return f"{bytes_} B"


def counted(number: int, noun: str) -> str:
    """1 event, 2,000 events."""
    return f"{grouped(number)} {noun}{'' if number == 1 else 's'}"


def requests_line(requests: Mapping[str, int], cost: float | None) -> str:
    """What was asked of an object store, by kind, and what that cost: 1,204 (put 602, head 602); cost 0.0033."""
    kinds = ", ".join(f"{kind} {grouped(count)}" for kind, count in sorted(requests.items()) if count)
    money = "" if cost is None else f"; cost {cost:,.4f}"
    return f"{grouped(sum(requests.values()))}{f' ({kinds})' if kinds else ''}{money}"


def quoted(word: object) -> str:
    """A word of a command that is proposed, as a shell wants it."""
    import shlex

    return shlex.quote(str(word))


def shown(text: str, most: int | None = None) -> str:
    """Text with what would upset a terminal written out, cut to a length."""
    if not text.isprintable():
        text = "".join(each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode() for each in text)
    return text if most is None or len(text) <= most else text[: max(1, most - 1)] + "…"


def width() -> int | None:
    """How many characters a line of stdout has; None where nobody looks."""
    if not sys.stdout.isatty():
        return None
    return os.get_terminal_size(sys.stdout.fileno()).columns or 80


def hush() -> None:
    """Let all further output go nowhere: its reader is gone, and Python would complain when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
