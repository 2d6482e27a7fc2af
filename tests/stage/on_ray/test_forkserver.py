"""Ray's workers are forked from one process that has imported Ray, and are what they would be without it."""

from __future__ import annotations

import json
import marshal
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ensemble.errors import Unavailable
from ensemble.score.model import Score
from ensemble.stage.on_ray import cluster, forkserver
from ensemble.stage.on_ray.forkserver import ForkServer
from tests.conformance.stand import eventually
from tests.ray_keeper import ROOT, is_alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")

WORKER = """
import hashlib, json, os, random, resource, signal, sys, threading
had = set(sys.modules)
import ray._raylet
print(json.dumps({
    "name": __name__, "argv": sys.argv, "path": sys.path[0], "folder": os.getcwd(), "given": sys.stdin.read(),
    "environment": dict(os.environ), "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
    "blocked": [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    "child_signal": int(signal.getsignal(signal.SIGCHLD)), "leads_its_group": os.getpgid(0) == os.getpid(),
    "oom_score": open("/proc/self/oom_score_adj").read().strip(), "threads": threading.active_count(),
    "parent": os.getppid(), "has_ray": "ray" in had, "has_shard": "ensemble.stage.on_ray.shard" in had,
    "open": sorted(os.listdir("/proc/self/fd")),
    "chance": [random.random(), os.urandom(8).hex(), ray._raylet.UniqueID.from_random().hex()],
}))
print("an error", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for Ray's own script of a worker."""
    script = tmp_path_factory.mktemp("workers") / "default_worker.py"
    script.write_text(WORKER)
    return script


@contextmanager
def serving() -> Iterator[ForkServer]:
    server = ForkServer()
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with serving() as server:
        yield server


def python(server: ForkServer) -> str:
    """What Ray takes for Python's executable when it is started with this server."""
    with server.starts_workers():
        return sys.executable


def pid(server: ForkServer) -> int:
    return server._process.pid


def worker(server: ForkServer, script: Path, *argv: str, **options: Any) -> dict[str, Any]:
    """What a worker says of itself that is started with this server."""
    asks = [python(server), str(script), *argv]
    done = subprocess.run(asks, input="given", capture_output=True, text=True, timeout=60, check=False, **options)
    assert done.stderr.endswith("an error\n")
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_a_worker_is_forked_and_has_everything_imported(server: ForkServer, script: Path) -> None:
    said = worker(server, script)

    assert said["parent"] == pid(server)
    assert (said["has_ray"], said["has_shard"], said["threads"]) == (True, True, 1)


def test_a_worker_is_as_the_process_that_asked_for_it(server: ForkServer, script: Path, tmp_path: Path) -> None:
    environment = os.environ | {"OF_ITS_OWN": "a = b\n\N{MUSICAL SYMBOL G CLEF}", "RAY_worker_oom_score_adjustment": "700"}
    del environment["HOME"]

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))

    said = worker(server, script, "--an=option", "", "two words", cwd=tmp_path, env=environment, preexec_fn=prepare)

    assert (said["name"], said["argv"]) == ("__main__", [str(script), "--an=option", "", "two words"])
    assert (said["path"], said["folder"], said["given"]) == (str(script.parent), str(tmp_path), "given")
    of_the_shell = {"PWD", "OLDPWD", "_", "LC_CTYPE"}
    assert {**said["environment"], **dict.fromkeys(of_the_shell)} == {**environment, **dict.fromkeys(of_the_shell)}
    assert said["limits"] == [200, 300]
    assert (said["blocked"], said["child_signal"]) == ([signal.SIGUSR2], signal.SIG_DFL)
    assert (said["oom_score"], said["leads_its_group"]) == ("700", True)
    assert len(said["open"]) == 4, "its standard ones, and the one that lists them"


def test_no_two_workers_draw_the_same_by_chance(server: ForkServer, script: Path) -> None:
    one, other = worker(server, script)["chance"], worker(server, script)["chance"]

    assert not set(one) & set(other)


def test_whatever_is_no_worker_is_python_itself(server: ForkServer) -> None:
    program = "import os, sys; print(os.getppid(), sys.argv[1:]); sys.exit(5)"

    done = subprocess.run([python(server), "-c", program, "a 'b'", ""], capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == (f"{os.getpid()} [\"a 'b'\", '']\n", 5)


def test_python_has_its_own_name_again_afterwards(server: ForkServer) -> None:
    before = sys.executable
    with pytest.raises(ZeroDivisionError), server.starts_workers():
        _ = 1 / 0

    assert sys.executable == before


def test_who_asks_and_is_killed_meanwhile_harms_nobody(server: ForkServer, script: Path) -> None:
    at = Path(python(server)).with_name("forkserver")
    held = len(list(Path(f"/proc/{pid(server)}/fd").iterdir()))
    whole = marshal.dumps({"argv": [str(script)]})
    for said in (b"", b"?", b"?" + whole, b"?" + whole[:-9], b"?\xff\0"):
        with socket.socket(socket.AF_UNIX) as asker:
            asker.connect(str(at))
            socket.send_fds(asker, [said], (0, 1, 2))

    assert worker(server, script)["parent"] == pid(server)
    assert len(list(Path(f"/proc/{pid(server)}/fd").iterdir())) == held


def test_who_asks_and_says_nothing_is_not_waited_for(server: ForkServer, script: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(Path(python(server)).with_name("forkserver")))

        assert worker(server, script)["parent"] == pid(server)


def test_a_worker_whose_directory_is_gone_is_started_by_itself(server: ForkServer, tmp_path: Path) -> None:
    gone, script = tmp_path / "gone", tmp_path / "default_worker.py"
    gone.mkdir()
    script.write_text("import os; print(os.getppid())")

    done = subprocess.run([python(server), script], cwd=gone, preexec_fn=gone.rmdir, capture_output=True, check=True)

    assert int(done.stdout) == os.getpid()


def test_a_worker_that_can_t_be_what_it_is_to_be_is_started_by_itself(server: ForkServer, script: Path, tmp_path: Path) -> None:
    request = {
        "argv": [str(script)],
        "directory": str(tmp_path / "gone"),
        "blocked": [],
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "environment": dict(os.environ),
    }
    with socket.socket(socket.AF_UNIX) as asker:
        asker.connect(str(Path(python(server)).with_name("forkserver")))
        socket.send_fds(asker, [b"?"], (0, 1, 2))
        asker.sendall(marshal.dumps(request))
        asker.shutdown(socket.SHUT_WR)

        assert asker.recv(1) == b"", "who asks must not be told that there is a worker"

    assert worker(server, script)["parent"] == pid(server)


@pytest.mark.parametrize("flag", ["-s", None])
def test_a_python_without_packages_of_the_user_forks_its_workers(script: Path, flag: str | None) -> None:
    program = f"""if True:
        import subprocess, sys
        from ensemble.stage.on_ray.forkserver import ForkServer
        server = ForkServer()
        with server.starts_workers():
            python = sys.executable
        asks = [python, {", ".join(repr(each) for each in (flag, str(script)) if each)}]
        said = subprocess.run(asks, input="", capture_output=True, text=True).stdout
        print(server._process.pid, said)
        server.end()
    """
    options = [flag] if flag else []
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({} if flag else {"PYTHONNOUSERSITE": "1"})

    asks = [sys.executable, *options, "-c", program]
    done = subprocess.run(asks, env=environment, capture_output=True, text=True, check=True)

    server, _, said = done.stdout.partition(" ")
    assert json.loads(said)["parent"] == int(server)


def test_without_its_server_a_worker_is_started_by_itself(script: Path) -> None:
    with serving() as server:
        os.kill(pid(server), signal.SIGKILL)

        said = worker(server, script)

    assert (said["parent"], said["has_ray"], said["argv"]) == (os.getpid(), False, [str(script)])


def test_a_server_with_threads_forks_nobody(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading, time\n"
        "if sys.argv[:1] == ['-c']:\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with serving() as server:
        said = worker(server, script)

    assert (said["parent"], said["has_ray"]) == (os.getpid(), False)


def test_where_nobody_wants_it_or_it_cannot_be_there_is_no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(forkserver.SWITCH, "0")
        assert forkserver.start() is None
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        assert forkserver.start() is None
    with monkeypatch.context() as patch:  # a folder for what comes and goes in which nothing may be executed
        patch.setattr(os, "access", lambda path, mode: False)
        patch.setattr("tempfile.tempdir", str(tmp_path))
        assert forkserver.start() is None
        assert not list(tmp_path.iterdir())
    deep = tmp_path / ("a" * 120)  # longer than the name of a socket may be
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    assert forkserver.start() is None
    assert not list(deep.iterdir())


def test_a_server_ends_and_leaves_nothing() -> None:
    server = ForkServer()
    folder = Path(python(server)).parent

    server.end()

    assert not folder.exists()
    assert not is_alive(pid(server))


def test_a_server_ends_though_a_child_of_its_process_lives_on() -> None:
    server = ForkServer()
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    try:
        server.end()

        assert not is_alive(pid(server))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_server_ends_with_the_process_that_it_was_for() -> None:
    program = """if True:
        import sys
        from ensemble.stage.on_ray.forkserver import ForkServer
        server = ForkServer()
        print(server._process.pid, server._folder, flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server, folder = process.stdout.readline().split()
        assert is_alive(int(server))

        process.kill()

    eventually(lambda: not is_alive(int(server)) and not Path(folder).exists())


def test_a_ray_that_can_t_be_started_leaves_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = []

    def start() -> ForkServer:
        servers.append(ForkServer())
        return servers[0]

    def refuse(**options: Any) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(forkserver, "start", start)
    monkeypatch.setattr("ray.init", refuse)

    with pytest.raises(Unavailable, match="no room"):
        cluster._start_for(Score(name="band"), {})

    assert not is_alive(pid(servers[0]))


@pytest.mark.usefixtures("cluster")
def test_the_workers_of_a_ray_that_we_started_are_forked() -> None:
    import ray

    @ray.remote(num_cpus=0)
    def parent() -> str:
        return Path(f"/proc/{os.getppid()}/cmdline").read_text()

    assert "on_ray.forking" in ray.get(parent.remote())
