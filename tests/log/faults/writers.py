"""A process of its own that writes a store, as a test sees it: started, listened to line by line, and killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[3]


@contextmanager
def writer(script: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a script of these tests. It is gone when this is left."""
    command = [sys.executable, str(script), *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        said_by(process).close()


def said_by(process: subprocess.Popen[str]) -> IO[str]:
    """What a process says, as it says it."""
    assert process.stdout is not None
    return process.stdout


def killed(process: subprocess.Popen[str], known: int) -> int:
    """The last number that a process says before it is killed, now; at least the one that is known."""
    process.kill()
    return max([known, *map(int, said_by(process).read().splitlines())])
