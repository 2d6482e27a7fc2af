"""Who comes first where processors are short: who plays, before who is starting or ending.

A process of Ray's takes a while of processor before it is of any use, and a section that grows starts several at once. So in
a Ray that Ensemble starts they begin at Ray's own niceness, and those that are forked (`forkserver`) hold themselves back as
well: they run when nobody else wants to, and give way at once. Niceness alone says how much of a processor one gets, not how
soon: who wakes up still waits for the other's time slice. An instance that is ready takes normal precedence, and one that is
let go gives it back. Where the system lets nobody take precedence, all begin with the normal one.

Owns niceness and scheduling policy. Of Ray it knows the variable by which its workers start.
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
BIRTH_S = 2.0
"""Who holds itself back so long is let go: it may be none of ours, and never ready."""

_is_born = threading.Event()


def prepare() -> None:
    """Say how the workers of a Ray are to begin that is started next, unless the environment says it already."""
    os.environ[OURS] = "1"
    os.environ.setdefault(RAYS_OWN, str(STARTING if _may_take() else 0))


def begin() -> None:
    """Let all others go first until this process is ready, or for `BIRTH_S`: a worker calls it that was just forked."""
    if _holds_back():
        threading.Thread(target=_let_go_in_time, name="ensemble-birth", daemon=True).start()
        for thread in _threads():
            _hold_back(thread)


def _let_go_in_time() -> None:
    if not _is_born.wait(BIRTH_S):
        for thread in _threads():
            _let_go(thread)


def take(*, is_shard: bool) -> None:
    """Take normal precedence for this process, as far as the system allows: who plays calls it, once it is about to."""
    _is_born.set()
    if not is_shard and OURS not in os.environ:
        return
    with suppress(OSError):
        for thread in _threads():
            _let_go(thread)
            if os.getpriority(os.PRIO_PROCESS, thread) > 0:
                os.setpriority(os.PRIO_PROCESS, thread, 0)


def give_back() -> None:
    """Let all others go first from now on: who has nothing left to play calls it."""
    if _holds_back():
        for thread in _threads():
            _hold_back(thread)


def _holds_back() -> bool:
    return OURS in os.environ and os.environ.get(RAYS_OWN) == str(STARTING) and hasattr(os, "SCHED_IDLE")


def _threads() -> list[int]:
    """Those of this process: on Linux each has a niceness and policy of its own; those to come have that of who starts them."""
    threads = Path("/proc/self/task")
    return [int(path.name) for path in threads.iterdir()] if threads.is_dir() else [0]


def _hold_back(thread: int) -> None:
    with suppress(OSError):
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))


def _let_go(thread: int) -> None:
    if _is_held_back(thread):
        with suppress(OSError):
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _is_held_back(thread: int) -> bool:
    try:
        return hasattr(os, "SCHED_IDLE") and os.sched_getscheduler(thread) == os.SCHED_IDLE
    except OSError:
        return False


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
