"""Players that bring down the process that they run in, or let a test do it. Light to import: each instance does so anew."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from ensemble import Event, emit
from tests.conformance.home import AtHome


class Fuse(AtHome):
    """Stays with the test: who comes to it, from which process, and how often somebody may still be stopped by it."""

    def __init__(self, times: int = 1) -> None:
        self._lock = threading.Lock()
        self._left = times
        self.stopped: list[int] = []
        """The processes that wait, each to be killed."""

    def burns(self, pid: int) -> bool:
        with self._lock:
            if not self._left:
                return False
            self._left -= 1
            self.stopped.append(pid)
            return True


def wait_to_be_killed() -> None:
    threading.Event().wait()


def answer(event: Event, ctx: Any) -> Any:
    """One effect of each kind."""
    ctx.state["heard"] = [*ctx.state.get("heard", ()), event.data]
    return emit("heard", {"number": event.data, "attempt": ctx.attempt, "pid": os.getpid()})


def stops_at(numbers: set[int], fuse: Any) -> Callable[..., Any]:
    """A player that waits for its end at these numbers, as long as the fuse burns."""

    def hear(event: Event, ctx: Any) -> Any:
        said = answer(event, ctx)
        if event.data in numbers and fuse.burns(os.getpid()):
            wait_to_be_killed()
        return said

    return hear


def exits(number: int, how: str) -> Callable[..., Any]:
    """A player that ends its own process at a number, each time."""

    def hear(event: Event, ctx: Any) -> Any:
        said = answer(event, ctx)
        if event.data == number:
            if how == "exit":
                os._exit(3)
            os.kill(os.getpid(), signal.SIGKILL)
        return said

    return hear


def hangs(number: int, how: str, pids: Any) -> Callable[..., Any]:
    """A player that never comes back from a call into C at a number; `how` says whether that lets other threads run."""

    def hear(event: Event, ctx: Any) -> Any:
        said = answer(event, ctx)
        if event.data == number:
            pids.append(os.getpid())
            if how == "asleep":
                time.sleep(600)  # longer than anybody waits: what hangs is what is tested
            else:
                ctypes.PyDLL(None).sleep(600)  # which keeps the interpreter's lock
        return said

    return hear


def eats_memory(number: int) -> Callable[..., Any]:
    """A player that gets no more memory at a number."""

    def hear(event: Event, ctx: Any) -> Any:
        said = answer(event, ctx)
        if event.data == number:
            before = resource.getrlimit(resource.RLIMIT_AS)
            size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115, PTH123
            resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), before[1]))
            try:
                bytearray(1 << 30)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, before)
        return said

    return hear
