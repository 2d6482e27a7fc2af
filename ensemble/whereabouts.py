"""Where in its author's code an error came from, as `file:line`.

Owns which line of a traceback its reader can mend: the last that is neither Ensemble's, nor Python's, nor an installed
package's. Must not know what was being done.
"""

from __future__ import annotations

import re
import sysconfig
import traceback as tracebacks
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FRAME = re.compile(r'^[\s|]*File "(?P<file>.+)", line (?P<line>\d+), in ', re.MULTILINE)
CHAINED = re.compile(
    r"^[\s|]*(?:During handling of the above exception, another exception occurred"
    r"|The above exception was the direct cause of the following exception):$",
    re.MULTILINE,
)
OURS = str(Path(__file__).parent) + "/"
PYTHONS = tuple({f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib")})
INSTALLED = ("/site-packages/", "/dist-packages/")


def in_traceback(text: str) -> str | None:
    """The place that a traceback's text leads to; None if it names none."""
    raised = CHAINED.split(text)[-1]
    return _chosen([(found["file"], int(found["line"])) for found in FRAME.finditer(raised)])


def of_error(error: BaseException) -> str | None:
    """The place that an error came from; None if it has been through no code but ours."""
    places = [(each.filename, each.lineno or 0) for each in tracebacks.extract_tb(error.__traceback__)]
    return _chosen([place for place in places if not place[0].startswith(OURS)])


def of_generator(items: Any) -> str | None:
    """The line at which a generator waits; None if it is none, or has ended."""
    frame = getattr(items, "gi_frame", None) or getattr(items, "ag_frame", None)
    return None if frame is None else shown(frame.f_code.co_filename, frame.f_lineno)


def of_code(call: Any) -> str | None:
    """The line at which a function or a class's constructor begins; None where that is not known."""
    code = getattr(call, "__code__", None) or getattr(getattr(call, "__init__", None), "__code__", None)
    return None if code is None else shown(code.co_filename, code.co_firstlineno)


def shown(file: str, line: int) -> str:
    """A place, its file relative to the working directory where it lies below that."""
    path, here = Path(file), Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{line}"


def _chosen(places: Sequence[tuple[str, int]]) -> str | None:
    own = [place for place in places if _is_own(place[0])]
    chosen = own[-1] if own else places[0] if places else None
    return None if chosen is None else shown(*chosen)


def _is_own(file: str) -> bool:
    return not file.startswith((OURS, "<frozen ", *PYTHONS)) and not any(part in file for part in INSTALLED)
