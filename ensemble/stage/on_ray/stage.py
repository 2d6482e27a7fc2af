"""The stage that a band holds when it plays on Ray: everything goes to the shard's actor and back.

Owns the actor's life: made when the band is opened, and ended with it.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from ensemble.broker.words import Publication
from ensemble.errors import Unavailable
from ensemble.log.base import LogReader
from ensemble.score.model import Score
from ensemble.stage.base import View
from ensemble.stage.on_ray import cluster
from ensemble.stage.on_ray.line import Line, RemoteLog, RemoteView
from ensemble.stage.on_ray.plan import Plan, versions
from ensemble.stage.on_ray.shard import ShardActor
from ensemble.stage.on_ray.wire import pack_publication

FOLLOW_S = 1.0
"""How long the shard keeps who waits for new events, at a time."""

log = logging.getLogger("ensemble.stage")

_kept: dict[str, Any] = {}
"""The actors of named logs in memory that this process has made, by url. Ray ends an actor when who made it forgets it."""


class RayReply:
    """What the shard will say of a publication: `Reply`, from afar."""

    def __init__(self, line: Line, data: bytes, *, wait: bool) -> None:
        self._line, self._data, self._wait = line, data, wait
        self._ref = line.call("publish", data, wait)

    def wait(self, timeout: float | None = None) -> Any:
        where = self._line.wait(self._ref, "publish", self._data, self._wait, timeout=timeout)
        return where["each"] if isinstance(where, dict) else range(where[0], where[0] + where[1])


class RayStage:
    """A band on Ray. Its shard plays in an actor; this process only speaks to it."""

    def __init__(self, score: Score, plan: Plan, address: str | None) -> None:
        cluster.join(address, score)
        self._is_closed = False
        self._name = score.name
        self._keeps = plan.url.startswith("memory:") and plan.url != "memory:"
        try:
            plan.versions = versions()
            self._line = Line(_shard(score, plan), score.name)
            hello = self._line.ask("hello")
        except BaseException:
            self._end()
            raise
        self.log: LogReader = RemoteLog(self._line, hello)
        self.view: View = RemoteView(self._line)
        self.notes: tuple[str, ...] = tuple(hello["notes"])

    def publish(self, publication: Publication, *, wait: bool = True) -> RayReply:
        self._check_open()
        return RayReply(self._line, pack_publication(publication), wait=wait)

    def settle(self, timeout: float | None = None) -> None:
        self._check_open()
        until = None if timeout is None else time.monotonic() + timeout
        while True:  # in short waits, since the shard may be made anew in between
            left = 5.0 if until is None else min(5.0, max(0.0, until - time.monotonic()))
            try:
                self._line.ask("settle", left)
            except TimeoutError:
                if until is not None and time.monotonic() >= until:
                    raise
                continue
            return

    def again(self, section: str | None, offset: int | None) -> int:
        self._check_open()
        return int(self._line.ask("again", section, offset))

    def scale(self, section: str, count: int | None) -> None:
        """Have so many instances of a section from now on; None: as its load says."""
        self._check_open()
        self._line.ask("scale", section, count)

    def wait_beyond(self, offset: int, timeout: float) -> bool:
        while not self._is_closed:
            if self._line.ask("beyond", offset, FOLLOW_S):
                return True
        return False

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._line.ask("close")
        finally:
            self.log.close()
            self._end()

    def _end(self) -> None:
        import ray

        line = getattr(self, "_line", None)
        if line is not None and not self._keeps:
            ray.kill(line.actor)
        cluster.leave()

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable(f"band {self._name} is closed; open it again")


def _shard(score: Score, plan: Plan) -> Any:
    """The actor of the band's shard. A log in memory lives as long as its actor: that is gone back to by its name."""
    import ray

    is_memory = plan.url.startswith("memory:")
    options: dict[str, Any] = {
        "num_cpus": cluster.SHARD_CPUS,
        "max_restarts": 0 if is_memory else -1,
        "max_task_retries": 0,
        "namespace": cluster.NAMESPACE,
    }
    if plan.runtime_env:
        options["runtime_env"] = plan.runtime_env
    if is_memory and plan.url != "memory:":
        options["name"] = cluster.log_name(plan.url)
        known = cluster.find(options["name"])
        if known is not None:
            Line(known, score.name).ask("reopen", plan.dump())
            return known
    kind: Any = ray.remote(ShardActor)
    actor = kind.options(**options).remote(plan.dump(), 0)
    if "name" in options:
        _kept[plan.url] = actor
    return actor
