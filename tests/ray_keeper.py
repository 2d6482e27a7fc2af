"""A Ray cluster in a process of its own, for tests that kill parts of it, or speak to it from processes of their own.

Run as a script it is that process: it starts the nodes, says the address, and does what it is told line by line.

    python ray_keeper.py '[{"num_cpus": 8}, {"num_cpus": 0, "resources": {"there": 1}, "env": {"NAME": "value"}}]'

`env` is what only the processes of that node find in their environment.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OURS = ("ACME_", "RAY_", "ENSEMBLE_", "AWS_")
"""What the processes of a cluster do not have from the test."""


class Keeper:
    """A cluster, from the test's side. Ray keeps its files in a short path of its own, apart from any other cluster's."""

    def __init__(self, *nodes: Mapping[str, Any], folder: Path | None = None) -> None:
        self._tmp = Path(tempfile.mkdtemp(prefix="rk-", dir="/tmp"))
        self.env = {
            # What leads to a store, too: the nodes have it from who brings a band up.
            **{name: value for name, value in os.environ.items() if not name.startswith(OURS)},
            "PYTHONPATH": str(ROOT),
            "RAY_TMPDIR": str(self._tmp),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "NO_COLOR": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(nodes)],
            env=self.env,
            cwd=folder or self._tmp,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ray's reaper kills the whole group of a process that ends before its time
        )
        self._nodes = len(nodes)
        self.address = self._answer()
        self.env["RAY_ADDRESS"] = self.address

    def _answer(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # Ray may have things to say before
            if line.startswith("> "):
                return line[2:].strip()
        raise AssertionError("the cluster's process ended before it answered")

    def remove_node(self, number: int) -> None:
        """End a node as a power cut would."""
        self._tell("remove", number)

    def add_node(self, node: Mapping[str, Any]) -> int:
        """Another node; its number."""
        self._tell("add", node)
        self._nodes += 1
        return self._nodes - 1

    def _tell(self, verb: str, what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, what]) + "\n")
        self._process.stdin.flush()
        assert self._answer() == "done"

    def pids(self) -> set[int]:
        """All processes of the cluster."""
        return {self._process.pid, *descendants(self._process.pid)}

    def kill(self) -> None:
        """Kill all of it at once."""
        pids = self.pids()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._forget(pids)

    def end(self) -> None:
        pids = self.pids()
        with suppress(subprocess.TimeoutExpired, BrokenPipeError):
            self._process.communicate("", timeout=60)
        self._forget(pids)

    def _forget(self, pids: set[int]) -> None:
        from tests.conformance.stand import eventually

        for pid in pids:
            if is_alive(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        eventually(lambda: not any(is_alive(pid) for pid in pids), "the end of the cluster's processes", 60)
        shutil.rmtree(self._tmp, ignore_errors=True)


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found: set[int] = set()
    todo = [pid]
    while todo:
        new = children.get(todo.pop(), [])
        found.update(new)
        todo += new
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def add(cluster: Any, node: dict[str, Any], *, is_head: bool = False) -> Any:
    env = node.pop("env", {})
    os.environ.update(env)
    try:
        return cluster.add_node(object_store_memory=100 << 20, **({"include_dashboard": False} if is_head else {}), **node)
    finally:
        for name in env:
            del os.environ[name]


def main(nodes: Sequence[dict[str, Any]]) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    made = [add(cluster, node, is_head=number == 0) for number, node in enumerate(nodes)]
    print(f"> {cluster.address}", flush=True)
    for line in sys.stdin:
        verb, what = json.loads(line)
        if verb == "add":
            made.append(add(cluster, what))
        else:
            cluster.remove_node(made[what], allow_graceful=False)
        print("> done", flush=True)
    cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
