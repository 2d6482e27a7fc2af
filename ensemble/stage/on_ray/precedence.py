"""Who comes first where processors are short: who plays, before who is just starting.

A process of Ray's takes half a second of processor before it is of any use, and a section that grows starts several at once. So
in a Ray that Ensemble starts they begin at Ray's own niceness, and those that are ready take normal precedence: events are not
kept waiting by instances to come. Where the system lets nobody take precedence, all begin with the normal one.

Owns niceness. Knows no Ray, but for the variable by which its workers start.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

RAYS_OWN = "RAY_worker_niceness"
OURS = "ENSEMBLE_STARTED_RAY"
"""Set in all processes of a Ray that Ensemble started. In another it is for who started that to say what instances may take."""
STARTING = 15
"""Ray's own niceness for workers: meant for batch jobs."""


def prepare() -> None:
    """Say how the workers of a Ray are to begin that is started next, unless the environment says it already."""
    os.environ[OURS] = "1"
    os.environ.setdefault(RAYS_OWN, str(STARTING if _may_take() else 0))


def take(*, is_shard: bool) -> None:
    """Take normal precedence for this process, as far as the system allows: who plays calls it, once it is about to."""
    if not is_shard and OURS not in os.environ:
        return
    threads = Path("/proc/self/task")  # on Linux each thread has its own; those to come have that of who starts them
    with suppress(OSError):
        for thread in [int(path.name) for path in threads.iterdir()] if threads.is_dir() else [0]:
            if os.getpriority(os.PRIO_PROCESS, thread) > 0:
                os.setpriority(os.PRIO_PROCESS, thread, 0)


def _may_take() -> bool:
    """Whether this process may take precedence again that it gave up: tried in a thread, whose niceness is its own on Linux."""
    may = False

    def try_it() -> None:
        nonlocal may
        with suppress(OSError):
            now = os.getpriority(os.PRIO_PROCESS, 0)
            if now < STARTING:
                os.setpriority(os.PRIO_PROCESS, 0, now + 1)
                os.setpriority(os.PRIO_PROCESS, 0, now)
                may = True

    if not Path("/proc/self/task").is_dir():
        return False
    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return may
