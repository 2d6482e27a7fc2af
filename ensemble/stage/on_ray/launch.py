"""What a Ray that Ensemble started runs in place of `python default_worker.py ...`: it asks for a fork (`forkserver`).

Runs once for each worker, in a bare interpreter that is ready in a hundredth of a second. So it imports nothing of ours.
"""

from __future__ import annotations

import array
import os
import resource
import signal
import socket
import sys

SIZE_BYTES = 4
"""How long the size of a request is, big-endian; with it come the descriptors of standard input, output and error."""


def ask(server: str, argv: list[str]) -> bool:
    """Whether the server at this socket has forked a process that runs `argv` with what this one has from its parent.

    A request is texts, each ended by NUL: how many arguments, they, the working directory, blocked signals and the limits of
    open files (both parted by commas), and the environment.
    """
    blocked = ",".join(str(int(each)) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    folder = os.getcwd()  # noqa: PTH109 - pathlib takes twice as long to import as all of this to run
    limits = ",".join(map(str, resource.getrlimit(resource.RLIMIT_NOFILE)))
    environment = (f"{name}={value}" for name, value in os.environ.items())
    request = b"\0".join(map(os.fsencode, [str(len(argv)), *argv, folder, blocked, limits, *environment]))
    standard = array.array("i", (0, 1, 2)).tobytes()
    try:
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(server)
            size = len(request).to_bytes(SIZE_BYTES, "big")
            asked.sendmsg([size], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, standard)])
            asked.sendall(request)
            return bool(asked.recv(1))  # nothing, if the server ends without having done it
    except OSError:
        return False


if __name__ == "__main__":
    _, server, python, *argv = sys.argv
    if not ask(server, argv):
        os.execv(python, [python, *argv])
