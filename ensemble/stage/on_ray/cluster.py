"""Ray itself: found, started, ended, and asked what it has.

Owns every call that is about the cluster as a whole. The band's actors live in one namespace, so that any process finds them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensemble.errors import ScoreError, Unavailable
from ensemble.score.model import Score, Section
from ensemble.stage.on_ray import forkserver, precedence

NAMESPACE = "ensemble"
ANY = "auto"
"""The address of the cluster that runs on this machine, as Ray calls it."""
STORE_BYTES = 256 << 20
"""Ray's object store where we start Ray ourselves: batches pass through it, nothing stays."""
SHARD_CPUS = 0.5
"""CPUs that the actor of a shard asks for."""
KNOCK_S = 3.0

_lock = threading.Lock()
_users = 0
_ours: contextlib.ExitStack | None = None
"""What ends the Ray that we started."""


def join(address: str | None, score: Score | None = None, *, working_dir: str | None = None) -> None:
    """Be connected to the cluster at `address` (or Ray's own RAY_ADDRESS), or start Ray on this machine for a score.

    `ANY` is the cluster of this machine, by whatever address. What lies below `working_dir`, or in the folders that the score
    names in its runtime_env, is brought to the nodes, but for what .gitignore names.
    Errors: Unavailable if Ray is not installed or no cluster answers; ScoreError if there can't be such a runtime_env.
    """
    global _users, _ours  # noqa: PLW0603 - Ray itself is one a process
    ray = _ray()
    score = score or Score(name="band")
    folders = {} if working_dir is None else {"working_dir": working_dir}
    folders |= _folders(score.stage.runtime_env)
    with _lock:
        if not ray.is_initialized():
            logging.getLogger("ray").setLevel(logging.ERROR)  # it greets, and tells of its tokens
            where = os.environ.get("RAY_ADDRESS") or address if address in (None, ANY) else address
            if where:
                _connect(ray, where, folders)
            else:
                _ours = _start_for(score, folders)
        _users += 1


def leave() -> None:
    """The band is closed; the last one ends Ray, if we started it."""
    global _users, _ours  # noqa: PLW0603
    with _lock:
        _users -= 1
        if not _users and _ours:
            ours, _ours = _ours, None
            ours.close()


def check_installed() -> None:
    """Unavailable if Ray is not installed here."""
    _ray()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise Unavailable(
            "stage ray: Ray is not installed here; pip install 'ensemble-band[ray]', or play with --stage solo"
        ) from error
    return ray


FOLDERS = ("working_dir", "py_modules")
"""What of a runtime_env Ray brings from here: from a folder only when a process connects, and for all that it starts then."""


def _folders(runtime_env: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a runtime_env that is brought from here. ScoreError if there is no such thing, or Ray refuses the rest."""
    from ray.runtime_env import RuntimeEnv

    folders = {name: runtime_env[name] for name in FOLDERS if name in runtime_env}
    for name, value in folders.items():
        for each in value if isinstance(value, list) else [value]:
            if "://" not in str(each) and not Path(str(each)).exists():
                raise ScoreError(f"stage.runtime_env.{name}: there is no folder {each} in {Path.cwd()}; name one from there")
    try:
        RuntimeEnv(**{name: value for name, value in runtime_env.items() if name not in FOLDERS})
    except (TypeError, ValueError) as error:
        raise ScoreError(f"stage.runtime_env: {_first_line(error)}") from error
    return folders


def _connect(ray: Any, address: str, folders: Mapping[str, Any]) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), KNOCK_S).close()
        except OSError as error:
            raise Unavailable(
                f"stage ray: no cluster answers at {address} ({error.strerror or error}); start one with `ray start --head`, "
                "or leave the address out to play on this machine"
            ) from error
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            runtime_env=dict(folders) or None,
            logging_level=logging.ERROR,
            configure_logging=False,
        )
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        if address == ANY and isinstance(error, ConnectionError):
            raise Unavailable(
                "stage ray: no Ray cluster runs on this machine; start one with `ray start --head`, or say where one is: "
                "--address HOST:PORT (or RAY_ADDRESS in the environment)"
            ) from error
        raise Unavailable(
            f"stage ray: the cluster at {address} can't be used: {_first_line(error)}; see `ray status` (a cluster that asks "
            "for a token: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN), or leave the address out to play on this machine"
        ) from error


def start(**options: Any) -> contextlib.ExitStack:
    """Ray on this machine, with workers that are forked where that can be; what this gives ends both."""
    import ray

    with contextlib.ExitStack() as started:
        server = forkserver.start()
        if server:
            started.callback(server.end)
        with server.starts_workers() if server else contextlib.nullcontext():
            ray.init(address="local", namespace=NAMESPACE, include_dashboard=False, configure_logging=False, **options)
        started.callback(ray.shutdown)
        return started.pop_all()


def _start_for(score: Score, folders: Mapping[str, Any]) -> contextlib.ExitStack:
    """Ray for this score, with as many CPUs by name as it asks for: they are shares, not cores."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    precedence.prepare()
    wanted = SHARD_CPUS * score.stage.shards + sum(
        spec.section.cpus * max(1, spec.section.max) for spec in score.players.values()
    )
    custom: dict[str, float] = {}
    for spec in score.players.values():
        for name, amount in spec.section.resources.items():
            custom[name] = custom.get(name, 0.0) + amount * max(1, spec.section.max)
    try:
        return start(
            num_cpus=max(os.cpu_count() or 1, int(wanted) + 1),
            resources=custom or None,
            object_store_memory=STORE_BYTES,
            runtime_env=dict(folders) or None,
            logging_level=logging.ERROR,
        )
    except Exception as error:
        raise Unavailable(f"stage ray: Ray can't be started on this machine: {_first_line(error)}") from error


def shortage(section: Section) -> str:
    """What an instance needs and what the nodes have: for a section that waits for a place."""
    needs = {"CPU": section.cpus, "GPU": section.gpus, "memory": section.memory, **section.resources}
    nodes = [node["Resources"] for node in _nodes() if node["Alive"]]
    needed = ", ".join(f"{name} {amount:g}" for name, amount in needs.items() if amount)
    fits = any(all(node.get(name, 0) >= amount for name, amount in needs.items()) for node in nodes)
    available = _available()
    if fits and all(available.get(name, 0) >= amount for name, amount in needs.items()):
        return "an instance has its place, and its process is still being started: the node is busy; it goes on waiting"
    lines = "; ".join(_resources(node) for node in nodes)
    what = "no node has room for it now" if fits else "no node can ever give that"
    return (
        f"an instance waits for a place: it needs {needed or 'nothing'}, and {what} (the cluster's nodes have: {lines}); "
        "it goes on waiting; add a node, or lower the section's cpus, gpus, memory or resources"
    )


def _nodes() -> list[Any]:
    import ray

    nodes: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def _available() -> dict[str, float]:
    """What nobody has yet, of all nodes together."""
    import ray

    available: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return available


def _resources(node: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name} {amount:g}" for name, amount in sorted(node.items()) if not name.startswith(("node:", "object_store"))
    )


def find(name: str) -> Any | None:
    """The actor of this name in Ensemble's namespace; None if there is none."""
    import ray

    with contextlib.suppress(ValueError):
        return ray.get_actor(name, namespace=NAMESPACE)
    return None


def bands() -> list[str]:
    """The bands that are up on the cluster."""
    return [name.split(":")[1] for name in names("band:") if name.endswith(":0")]


def runtime_env() -> dict[str, Any]:
    """What this process brought to the nodes from its folders, as the cluster knows it."""
    import ray

    return {name: value for name, value in dict(ray.get_runtime_context().runtime_env).items() if name in FOLDERS}


def cause_of_no_environment(error: BaseException) -> str:
    """Why a runtime_env could not be made, in one of the many lines that Ray says of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])


def log_name(url: str, number: int = 0, shards: int = 1) -> str:
    """What the actor is called that keeps the log of this url, or a shard of it, in its memory."""
    return f"log:{url}" if shards == 1 else f"log:{url}:{number}/{shards}"


def log_names(url: str) -> list[str]:
    """The actors that keep the log of this url in their memory, shard by shard."""
    whole = log_name(url)
    divided = [name for name in names(f"{whole}:") if "/" in name.removeprefix(f"{whole}:")]
    divided.sort(key=lambda name: int(name.rpartition(":")[2].partition("/")[0]))
    return divided or [name for name in names(whole) if name == whole]


def names(begin: str) -> list[str]:
    """The actors in Ensemble's namespace whose names begin so."""
    import ray.util

    named = ray.util.list_named_actors(all_namespaces=True)
    return sorted(each["name"] for each in named if each["namespace"] == NAMESPACE and each["name"].startswith(begin))


def shard_name(band: str, number: int = 0) -> str:
    return f"band:{band}:{number}"


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
