"""The program of a fork server (`forkserver`): it imports what Ray's workers need, and forks one for each who asks (`launch`).

It imports Ray no sooner than the first worker is asked for: Ray reads its environment as it is imported, and only that of a
worker is the right one. So nothing that is imported here may import Ray.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import marshal
import os
import resource
import runpy
import select
import shutil
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from ensemble.stage.on_ray import precedence

IMPORTED = (
    "ray._private.workers.default_worker",
    "ensemble.stage.on_ray.shard",
    "ensemble.stage.on_ray.instance",
)
PATIENCE_S = 1.0
"""How long who asks may take to say what for: nobody else is heard meanwhile."""
OOM_SCORE = "RAY_worker_oom_score_adjustment"
RAYS_OOM_SCORE = "1000"
"""What Ray gives to its workers unless told otherwise: they are the first to go if memory is short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Somebody who asks for a worker, and what that is to be: as the process is that asks."""

    asker: socket.socket
    standard: list[int]
    """Descriptors of its standard input, output and error."""
    argv: list[str]
    directory: str
    blocked: list[int]
    """Signals."""
    open_files: tuple[int, int]
    """How many there may be, the soft limit and the hard one."""
    environment: dict[str, str]

    @classmethod
    def received(cls, asker: socket.socket) -> Request:
        """What is asked for. OSError, EOFError, ValueError or TypeError if who asks ends meanwhile."""
        with contextlib.ExitStack() as failed:
            failed.callback(asker.close)
            asker.settimeout(PATIENCE_S)
            _, standard, _, _ = socket.recv_fds(asker, 1, 3)
            for each in standard:
                failed.callback(os.close, each)
            with asker.makefile("rb") as stream:
                request = cls(asker=asker, standard=standard, **marshal.loads(stream.read()))
            failed.pop_all()
            return request

    def close(self) -> None:
        self.asker.close()
        for each in self.standard:
            os.close(each)

    def become(self) -> None:
        """Make this process the worker that is asked for, say so, and run it as Python would."""
        os.setpgid(0, 0)  # Ray kills the group of a worker that has ended
        for number, descriptor in enumerate(self.standard):
            os.dup2(descriptor, number)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked)
        resource.setrlimit(resource.RLIMIT_NOFILE, self.open_files)
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.directory)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(os.environ.get(OOM_SCORE, RAYS_OOM_SCORE))
        precedence.begin()
        self.asker.send(b"!")
        self.close()
        sys.argv[:] = self.argv
        sys.path.insert(0, str(Path(self.argv[0]).parent))
        runpy.run_path(self.argv[0], run_name="__main__")


def serve(server: socket.socket) -> Request | None:
    """Fork a worker for each who asks. Returns its request in the worker, and None in the server, once nobody needs it.

    The first who comes is whom the server is for: it says nothing, and is needed until its end.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers' ends
    is_ready = False
    owner, _ = server.accept()
    with owner:
        while owner not in select.select([server, owner], [], [])[0]:
            asker, _ = server.accept()
            try:
                request = Request.received(asker)
            except (OSError, EOFError, ValueError, TypeError):
                continue
            with contextlib.ExitStack() as forked:
                forked.callback(request.close)
                if not is_ready:
                    get_ready(request.environment)
                    is_ready = True
                with contextlib.suppress(OSError):  # no room for one more: starting Python may say so better
                    if not os.fork():
                        forked.pop_all()
                        return request
    return None


def get_ready(environment: dict[str, str]) -> None:
    """Import what workers need. RuntimeError if there are threads then: a fork would lose them."""
    os.environ.update(environment)
    for each in IMPORTED:
        importlib.import_module(each)
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        raise RuntimeError(f"it has {threads} threads, which a fork would lose")
    gc.collect()
    gc.freeze()  # else each worker's first collection would copy every page


def main() -> None:
    """Serve at the listening socket that is standard input."""
    with socket.socket(fileno=0) as server:
        folder = Path(server.getsockname()).parent
        try:
            request = serve(server)
        except Exception as error:
            print(
                f"ensemble: no fork server, so Ray starts its workers itself: {type(error).__name__}: {error} "
                "(nor is it tried with ENSEMBLE_FORKSERVER=0)",
                file=sys.stderr,
            )
            return
    if request:
        request.become()
    else:
        shutil.rmtree(folder, ignore_errors=True)
