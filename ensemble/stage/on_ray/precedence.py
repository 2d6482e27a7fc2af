"""Who comes first where processors are short: who plays, before who is starting or ending.

A process of Ray's takes half a second of processor before it is of any use, and a section that grows starts several at once. So
in a Ray that Ensemble starts they begin at Ray's own niceness, and are held back as soon as they are seen: they run when nobody
else wants to, and give way at once. Niceness alone says how much of a processor one gets, not how soon: who wakes up still
waits for the other's time slice. An instance that is ready takes normal precedence, and one that is let go gives it back. Where
the system lets nobody take precedence, all begin with the normal one.

Owns niceness and scheduling policy. Of Ray it knows the variable by which its workers start, and that a node is their parent.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

RAYS_OWN = "RAY_worker_niceness"
OURS = "ENSEMBLE_STARTED_RAY"
"""Set in all processes of a Ray that Ensemble started. In another it is for who started that to say what instances may take."""
STARTING = 15
"""Ray's own niceness for workers: meant for batch jobs."""
BIRTH_S = 2.0
"""How long after an instance was asked for its process may appear."""
LOOK_S = 0.01
STUCK_S = 30.0
"""Who is held back so long is let go: it may be no instance."""


def prepare() -> None:
    """Say how the workers of a Ray are to begin that is started next, unless the environment says it already."""
    os.environ[OURS] = "1"
    os.environ.setdefault(RAYS_OWN, str(STARTING if _may_take() else 0))


def take(*, is_shard: bool) -> None:
    """Take normal precedence for this process, as far as the system allows: who plays calls it, once it is about to."""
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


class Births:
    """Holds back the processes that a node starts, from when one is expected until it is ready or `STUCK_S` are over.

    Looks on in a thread of its own, while there is something to look for.
    """

    def __init__(self, node: int) -> None:
        self._children = Path(f"/proc/{node}/task/{node}/children")
        self._lock = threading.Lock()
        self._known: set[int] = set()
        self._held: dict[int, float] = {}
        """Those that are held back, and since when."""
        self._until_s = 0.0
        self._looks = False

    def expect(self) -> None:
        """A process is about to be started."""
        if not _holds_back():
            return
        with self._lock:
            self._until_s = time.monotonic() + BIRTH_S
            if not self._looks:
                self._looks = True
                self._known = self._alive()
                threading.Thread(target=self._look_on, name="ensemble-births", daemon=True).start()

    def _look_on(self) -> None:
        while True:
            now_s = time.monotonic()
            alive = self._alive()
            with self._lock:
                is_expected = now_s < self._until_s
                if is_expected:
                    for pid in alive - self._known:
                        if _hold_back(pid):
                            self._held[pid] = now_s
                    self._known = alive
                for pid, since_s in list(self._held.items()):
                    if now_s > since_s + STUCK_S:
                        _let_go(pid)
                    if pid not in alive or not _is_held_back(pid):
                        del self._held[pid]
                self._looks = is_expected or bool(self._held)
                if not self._looks:
                    return
            time.sleep(LOOK_S if is_expected else BIRTH_S)

    def _alive(self) -> set[int]:
        try:
            return {int(pid) for pid in self._children.read_text().split()}
        except OSError:  # the node is gone, or this kernel doesn't tell
            return set()


births = Births(os.getppid())
"""Those of the node that this process was started by, if it is one of Ray's."""


def _holds_back() -> bool:
    return OURS in os.environ and os.environ.get(RAYS_OWN) == str(STARTING) and hasattr(os, "SCHED_IDLE")


def _threads() -> list[int]:
    """Those of this process: on Linux each has a niceness and policy of its own; those to come have that of who starts them."""
    threads = Path("/proc/self/task")
    return [int(path.name) for path in threads.iterdir()] if threads.is_dir() else [0]


def _hold_back(thread: int) -> bool:
    try:
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
    except OSError:
        return False
    return True


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
