"""The command line: one module a command group. `run` carries out one command and gives its exit code.

Nothing of the engine is imported before a command needs it: `ensemble --help` has 0.2 s as a whole process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from ensemble.cli.codes import Code, code_of, told
from ensemble.cli.terminal import Enough, hush, talk


class Interrupted(BaseException):
    """Ctrl-C, or SIGTERM: not a KeyboardInterrupt, which typer would turn into exit code 1."""


def run(arguments: Sequence[str]) -> int:
    """Carry out one command; its exit code. Every error becomes a readable sentence on stderr."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt)
        signal.signal(signal.SIGTERM, _interrupt)
    # Ray's autoscaler speaks to all who are connected, on their stdout: that is for results.
    os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")
    try:
        from ensemble.cli.app import command

        code = command().main(list(arguments), prog_name="ensemble", standalone_mode=True)
        code = int(code or 0)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else Code.DONE if end.code is None else Code.WRONG
    except Interrupted:
        code = Code.INTERRUPTED
    except Enough:
        code = Code.DONE
    except Exception as error:
        code = Code.INTERRUPTED if _came_of_interrupt(error) else tell(error)
    return _flushed(code)


def tell(error: Exception) -> int:
    """Say what went wrong, on stderr; the exit code for it."""
    if os.environ.get("ENSEMBLE_TRACEBACK", "0") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
        return code_of(error)
    from ensemble.errors import EnsembleError, Reject, Retry

    text = told(error)
    if not isinstance(error, (EnsembleError, Reject, Retry, OSError, KeyError, TimeoutError)):
        text = f"{type(error).__name__}: {text}\nThis should not happen; ENSEMBLE_TRACEBACK=1 shows where it did"
    talk(text or type(error).__name__, style="bold red", sign="error")
    return code_of(error)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def _came_of_interrupt(error: BaseException | None) -> bool:
    """Whether the signal came while code in C was called, which made another error of it."""
    while error is not None and not isinstance(error, Interrupted):
        error = error.__cause__ or error.__context__
    return error is not None


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        hush()
    return code
