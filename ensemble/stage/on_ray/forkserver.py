"""Where the workers of a Ray come from that Ensemble starts: forked from one process that has imported all they need.

Ray starts each of its workers as a new Python, which imports Ray and then Ensemble. That is most of what it takes until a
section that slept hears its first event, and a fork of a process that has done it takes a fourth. Ray has no such thing, but
starts its workers by the name of Python's executable (`sys.executable`), as that is when Ray is started. So `ForkServer` puts a
script there meanwhile, which asks the server for workers (`launch`), and is Python for all else.

Whatever goes wrong, Ray gets its worker as ever: where there is no server, or it has threads, which a fork would lose, the
script starts Python. What a runtime_env is made for begins in Ray's own way, too. Linux only; not with ENSEMBLE_FORKSERVER=0.

This file is also what the server runs. It imports nothing of ours before the first worker is asked for, since Ray reads its
environment as it is imported, and only that of a worker is the right one.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import os
import resource
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SWITCH = "ENSEMBLE_FORKSERVER"
NICENESS = "RAY_worker_niceness"
OOM_SCORE = "RAY_worker_oom_score_adjustment"
RAYS_OOM_SCORE = "1000"
"""What Ray gives to its workers unless told otherwise: they are the first to go if memory is short."""
SOCKET = "forkserver"
SIZE_BYTES = 4
"""As `launch` says it."""
WAITING = 128
"""How many workers may be asked for at once."""
IMPORTED = (
    "ray._private.workers.default_worker",
    "ensemble.stage.on_ray.shard",
    "ensemble.stage.on_ray.instance",
)


class ForkServer:
    """The server of one Ray, a process that ends with this one. OSError if there can be none."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ensemble-", ignore_cleanup_errors=True)
        try:
            self._python = self._written(Path(self._folder.name))
            self._process = self._started(Path(self._folder.name))
        except OSError:
            self._folder.cleanup()
            raise

    @staticmethod
    def _written(folder: Path) -> Path:
        """The script that Ray is to take for Python."""
        script = folder / "python"
        python = shlex.quote(sys.executable)
        asks = f"{python} -I -S {shlex.quote(str(HERE / 'launch.py'))} {shlex.quote(str(folder / SOCKET))} {python}"
        script.write_text(f'#!/bin/sh\ncase "$1" in */default_worker.py) exec {asks} "$@" ;; esac\nexec {python} "$@"\n')
        script.chmod(0o700)
        return script

    @staticmethod
    def _started(folder: Path) -> subprocess.Popen[bytes]:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / SOCKET))
            server.listen(WAITING)
            return subprocess.Popen(
                [sys.executable, "-P", __file__, str(server.fileno())],
                stdin=subprocess.PIPE,  # what ends it: when it is closed, nobody needs the server any more
                stdout=subprocess.DEVNULL,
                pass_fds=[server.fileno()],
                start_new_session=True,  # Ctrl-C is not for it
            )

    @contextlib.contextmanager
    def starts_workers(self) -> Iterator[None]:
        """A Ray that is started meanwhile gets its workers from this server."""
        python, sys.executable = sys.executable, str(self._python)
        try:
            yield
        finally:
            sys.executable = python

    def end(self) -> None:
        """End the server; its workers play on."""
        self._process.communicate()
        self._folder.cleanup()


def start() -> ForkServer | None:
    """A server, where one is wanted and possible."""
    if sys.platform != "linux" or os.environ.get(SWITCH) == "0":
        return None
    with contextlib.suppress(OSError):
        return ForkServer()
    return None


@dataclass(frozen=True, slots=True)
class Request:
    """What a worker is to be: as the process is that asks for it."""

    standard: Sequence[int]
    """The descriptors for its standard input, output and error."""
    argv: list[str]
    folder: str
    blocked: list[int]
    limits: tuple[int, int]
    environment: dict[str, str]

    @classmethod
    def received(cls, asker: socket.socket) -> Request:
        size, [(_, _, standard)], _, _ = asker.recvmsg(SIZE_BYTES, socket.CMSG_LEN(3 * array.array("i").itemsize))
        with asker.makefile("rb") as stream:
            texts = [os.fsdecode(each) for each in stream.read(int.from_bytes(size, "big")).split(b"\0")]
        count = int(texts[0])
        folder, blocked, limits, *environment = texts[count + 1 :]
        soft, hard = map(int, limits.split(","))
        return cls(
            standard=array.array("i", standard),
            argv=texts[1 : count + 1],
            folder=folder,
            blocked=[int(each) for each in blocked.split(",") if each],
            limits=(soft, hard),
            environment=dict(each.split("=", 1) for each in environment),
        )

    def become(self) -> None:
        """Make this process the worker, and run it to its end."""
        os.setpgid(0, 0)  # Ray kills the group of a worker that has ended
        for number, descriptor in enumerate(self.standard):
            os.dup2(descriptor, number)
            os.close(descriptor)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked)
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        Path("/proc/self/oom_score_adj").write_text(os.environ.get(OOM_SCORE, RAYS_OOM_SCORE))
        importlib.import_module("ensemble.stage.on_ray.precedence").begin()
        sys.argv[:] = self.argv
        sys.path.insert(0, str(Path(self.argv[0]).parent))
        runpy.run_path(self.argv[0], run_name="__main__")


def serve(server: socket.socket) -> Request | None:
    """Fork a worker for each who asks: returns its request in the worker, and None in the server, once nobody needs it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers' ends
    os.nice(int(os.environ.get(NICENESS, "0")))
    is_ready = False
    while True:
        readable, _, _ = select.select([server, sys.stdin], [], [])
        if sys.stdin in readable:
            return None
        asker, _ = server.accept()
        with asker, contextlib.suppress(OSError, ValueError):  # who asked may have been killed
            request = Request.received(asker)
            if not is_ready:
                is_ready = True
                get_ready(request.environment)
            if len(list(Path("/proc/self/task").iterdir())) > 1:
                print("ensemble: the fork server has threads, so Ray starts its workers one by one", file=sys.stderr)
                return None
            if not os.fork():
                server.close()
                return request
            for descriptor in request.standard:
                os.close(descriptor)
            asker.send(b"!")


def get_ready(environment: dict[str, str]) -> None:
    """Import what workers need."""
    os.environ.update(environment)
    for each in IMPORTED:
        importlib.import_module(each)
    gc.collect()
    gc.freeze()  # else each worker's first collection would copy every page


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as server:
        folder = Path(server.getsockname()).parent
        request = serve(server)
    if request:
        request.become()
    else:
        shutil.rmtree(folder, ignore_errors=True)  # unless it is gone: the process that made it may have been killed


if __name__ == "__main__":
    main()
