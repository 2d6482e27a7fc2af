"""What a Ray that Ensemble started runs in place of `python default_worker.py ...`: it asks for a fork (`forkserver`).

Runs once for each worker, in a bare interpreter that is ready in a hundredth of a second. So it imports nothing of ours, and
little else.
"""

from __future__ import annotations

import marshal
import os
import resource
import signal
import socket
import sys


def ask(server: str, argv: list[str]) -> bool:
    """Whether there is a worker now that runs `argv` with all that this process has from its parent (`forking.Request`)."""
    try:
        request = {
            "argv": argv,
            "directory": os.getcwd(),  # noqa: PTH109 - pathlib takes longer to import than all of this to run
            "blocked": [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
            "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "environment": dict(os.environ),
        }
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(server)
            socket.send_fds(asked, [b"?"], (0, 1, 2))
            asked.sendall(marshal.dumps(request))
            asked.shutdown(socket.SHUT_WR)
            return bool(asked.recv(1))  # nothing, where server or worker end without having done it
    except OSError:
        return False


if __name__ == "__main__":
    _, server, python, *argv = sys.argv
    if not ask(server, argv[argv[0] == "-s" :]):
        os.execv(python, [python, *argv])
