"""Where the workers of a Ray come from that Ensemble starts: forked from one process that has imported all they need.

Ray starts each of its workers as a new Python, which imports Ray and then Ensemble. That is most of what it takes until a
section that slept hears its first event, and a fork of a process that has done it is there in a third of the time. Ray has no
such thing, but starts its workers by the name of Python's executable (`sys.executable`), as that is when Ray is started. So
`ForkServer` puts a script there meanwhile, which asks the server for workers (`launch`), and is Python for all else.

Where the server is gone, can't do it, or fails, the script starts Python, and Ray gets its worker as ever. What a runtime_env
is made for begins in Ray's own way, too. Linux only; not with ENSEMBLE_FORKSERVER=0.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SWITCH = "ENSEMBLE_FORKSERVER"
BACKLOG = 128
"""How many workers may be asked for at once."""
LAUNCH = Path(__file__).with_name("launch.py")
PROGRAM = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r}); import ensemble; del sys.path[0]; "
    "from ensemble.stage.on_ray.forking import main; main()"
)
"""Of this Ensemble, wherever else there may be one."""


class ForkServer:
    """The server of one Ray: a process that ends with this one. OSError if there can be none."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ensemble-"))
        self._python = self._folder / "python"
        try:
            self._write_script()
            self._process, self._line = self._started()
        except OSError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    @property
    def _at(self) -> Path:
        return self._folder / "forkserver"

    def _write_script(self) -> None:
        python, launch, at = (shlex.quote(str(each)) for each in (sys.executable, LAUNCH, self._at))
        self._python.write_text(
            "#!/bin/sh\n"
            'for each in "$1" "$2"; do\n'
            '  case "$each" in\n'
            "    -s) ;;\n"  # Ray hands it on, if this process has it
            f'    */default_worker.py) exec {python} -I -S {launch} {at} {python} "$@" ;;\n'
            "    *) break ;;\n"
            "  esac\n"
            "done\n"
            f'exec {python} "$@"\n'
        )
        self._python.chmod(0o700)
        if not os.access(self._python, os.X_OK):
            raise PermissionError(f"nothing in {self._folder} can be executed")

    def _started(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """The server, and the line to it that tells it of our end."""
        flags = ["-P", "-s"] if sys.flags.no_user_site else ["-P"]
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(self._at))
            server.listen(BACKLOG)
            line = socket.socket(socket.AF_UNIX)
            line.connect(str(self._at))
            process = subprocess.Popen(
                [sys.executable, *flags, "-c", PROGRAM],
                stdin=server.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not for it
            )
        return process, line

    @contextlib.contextmanager
    def starts_workers(self) -> Iterator[None]:
        """A Ray that is started meanwhile gets its workers from this server."""
        python, sys.executable = sys.executable, str(self._python)
        try:
            yield
        finally:
            sys.executable = python

    def end(self) -> None:
        """End the server, once Ray has ended. A child of this process may hold the line, too: so it's not left to that."""
        self._process.kill()
        self._process.wait()
        self._line.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def start() -> ForkServer | None:
    """A server, where one is wanted and possible."""
    if sys.platform != "linux" or os.environ.get(SWITCH) == "0":
        return None
    with contextlib.suppress(OSError):
        return ForkServer()
    return None
