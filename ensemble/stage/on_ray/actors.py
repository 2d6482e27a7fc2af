"""The actors of instances as Ray knows them: made, watched and ended.

Owns what an instance asks Ray for, and what Ray's words about a dead one mean.
"""

from __future__ import annotations

import functools
from typing import Any

from ensemble.stage.inbox import Role
from ensemble.stage.on_ray.cluster import cause_of_no_environment
from ensemble.stage.on_ray.instance import AsyncInstanceActor, InstanceActor
from ensemble.stage.on_ray.plan import Plan

WATCH = "watch"
"""The name that a thread beside the one that hears has with Ray: the call that waits there ends only with the process."""
BESIDE = "beside"
"""The group of calls that an instance answers while it hears."""
UNKNOWN = "temporarily unavailable"
"""What Ray says of an actor that it has lost, and of which it has not heard within a second that its process died: so it is
where a node is lost, which takes Ray ten seconds and more to find out, and on a node that is very busy."""

NO_FAULT = ("its node has died", "node was terminated", "owner has died", "ray.kill", "preempted")


def make(role: Role, plan: bytes) -> Any:
    """A new instance, on its way."""
    section = role.spec.section
    options: dict[str, Any] = {"num_cpus": section.cpus, "num_gpus": section.gpus, "max_restarts": 0, "max_task_retries": 0}
    runtime_env = Plan.load(plan).runtime_env
    if runtime_env:
        options["runtime_env"] = runtime_env
    if section.memory:
        options["memory"] = section.memory
    if section.resources:
        options["resources"] = dict(section.resources)
    return _kind(role.is_async).options(**options).remote(plan, role.spec.name)


@functools.cache
def _kind(is_async: bool) -> Any:
    """The class of an actor as Ray knows it. Made once: pickling it takes 7 ms."""
    import ray

    remote: Any = ray.remote
    return remote(AsyncInstanceActor) if is_async else remote(concurrency_groups={WATCH: 1, BESIDE: 1})(InstanceActor)


def beside(method: Any, role: Role, group: str = BESIDE) -> Any:
    """A method of an instance that is called while it hears. An asynchronous one answers so always."""
    return method if role.is_async else method.options(concurrency_group=group)


def put(thing: Any) -> Any:
    """A thing in Ray's object store; the reference to it."""
    import ray

    return ray.put(thing)


def end(*actors: Any) -> None:
    """End these, as far as they were made."""
    import ray

    for actor in actors:
        if actor is not None:
            ray.kill(actor)


def is_no_fault(error: BaseException) -> bool:
    """Whether an instance died of something that is no fault of what it heard: its node is gone, or it was asked to go.

    Ray tells of it in words only. Of any process that died it says that node deaths are to be prevented, so `node` alone
    means nothing.
    """
    text = str(error)
    return any(words in text for words in NO_FAULT)


def is_unreadable(error: BaseException) -> bool:
    """Whether a call failed since what it refers to in Ray's store is lost. The instance is well."""
    from ray.exceptions import ObjectLostError

    return isinstance(error, ObjectLostError) or isinstance(getattr(error, "cause", None), ObjectLostError)


def cause(error: BaseException) -> str:
    """Why, in one line."""
    if type(error).__name__ == "RuntimeEnvSetupError":
        return cause_of_no_environment(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("Worker") or "reason" in line.lower()), None)
    return (told or (lines or [repr(error)])[0])[:500]
