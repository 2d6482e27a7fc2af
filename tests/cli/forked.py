"""Commands as processes that are forked from one which has imported what they need: hundreds of them need not import it each.

Each is a real process, with its own folder, variables and exit code, and does what `python -m ensemble` does, but for what is
imported when, which tests/cli/test_start.py looks at. Where variables of Python's differ, `can_fork` says no.

Ray is not imported before: it takes some who play on it in a process that was forked after that for gone.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path

COMMANDS = ("app", "asides", "audit", "cluster", "draw", "look", "play", "publish", "summary", "takes", "view")
IMPORTED = (
    "ensemble.__main__",
    *(f"ensemble.cli.{name}" for name in COMMANDS),
    *(f"ensemble.{name}" for name in ("auditing", "history", "opening", "takes", "whereabouts")),
    *(f"ensemble.log.{name}" for name in ("blobs", "forgetting", "own.directory", "takes.directory")),
    *("ensemble.deployment", "ensemble.stage.on_ray.stage"),
    *("cryptography.hazmat.primitives.ciphers.aead", "jsonschema", "jsonschema_rs", "networkx", "pydantic"),
    *("rapidfuzz.distance", "rich.console", "rich.table", "rich.progress", "rich.traceback", "typer._adapters"),
)
@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def can_fork(env: Mapping[str, str], base: Mapping[str, str]) -> bool:
    """Whether a process with these variables differs from one that was forked and given them."""
    return not any(name.startswith("PYTHON") and env.get(name) != base.get(name) for name in {*env, *base})


def run(arguments: Sequence[str], folder: Path, env: Mapping[str, str], files: Sequence[Path], timeout: float) -> int:
    """Run a command to its end, its streams being three files; the exit code. TimeoutError."""
    process = _context().Process(target=_command, args=(list(arguments), str(folder), dict(env), list(map(str, files))))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"ensemble {' '.join(arguments)} did not end in {timeout} s")
    return process.exitcode


def _command(arguments: list[str], folder: str, env: dict[str, str], files: list[str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for number, (file, flags) in enumerate(zip(files, (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY), strict=True)):
        opened = os.open(file, flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - multiprocessing gave it no stdin
    sys.argv = ["ensemble", *arguments]
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in env
    sys.path.insert(0, folder)
    from ensemble.__main__ import main

    main()
