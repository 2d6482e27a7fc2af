"""The stage that a band holds when it plays on Ray: everything goes to the shard's actor and back.

Owns the actor's life: made when the band is opened, and ended with it.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import cache, partial
from typing import Any

from ensemble.broker import State
from ensemble.broker.words import Publication
from ensemble.errors import Unavailable
from ensemble.log import LogReader, read_log
from ensemble.score.model import Score
from ensemble.stage.base import View
from ensemble.stage.begin import recover
from ensemble.stage.on_ray import cluster
from ensemble.stage.on_ray.join import carried
from ensemble.stage.on_ray.line import Line, RemoteLog, RemoteView, find_log
from ensemble.stage.on_ray.plan import Plan, versions
from ensemble.stage.on_ray.shard import ShardActor
from ensemble.stage.on_ray.wire import pack_publication
from ensemble.stage.view import StateView

PUBLICATION_BYTES = 70_000
"""Bytes of data in one publication of many: with keys and the like it stays below what Ray carries inside a call."""
GONE_S = 10.0
"""How long Ray has to forget the name of an actor that was ended."""
FOLLOW_S = 1.0
"""How long the shard keeps who waits for new events, at a time."""

_kept: dict[str, Any] = {}
"""The actors of named logs in memory that this process has made, by url. Ray ends an actor when who made it forgets it."""


class RayReply:
    """What the shard will say of a publication: `Reply`, from afar."""

    def __init__(self, line: Line, given: tuple[Any, ...], answered: Callable[[], Any]) -> None:
        self._line, self._given, self._answered = line, given, answered
        self._ref = line.call("publish", *given)

    def wait(self, timeout: float | None = None) -> Any:
        try:
            where = self._line.wait(self._ref, "publish", *self._given, timeout=timeout)
        except TimeoutError:
            raise
        except BaseException:
            self._answered()
            raise
        self._answered()
        return where["each"] if isinstance(where, dict) else range(where[0], where[0] + where[1])


class RayStage:
    """A band on Ray. Its shard plays in an actor; this process only speaks to it.

    Closing it ends the band, or, of one that plays on without this process, only the line to it.
    """

    publication_most = (2000, PUBLICATION_BYTES)

    def __init__(self, line: Line, url: str | None = None) -> None:
        """`url` is that of the store of a band that ends with this stage."""
        self._line = line
        self._url = url
        self._is_closed = False
        self._publisher, self._number = secrets.token_hex(6), 0
        self._sending = threading.Lock()
        self._unanswered: dict[int, None] = {}
        hello = line.ask("hello")
        self.log: LogReader = RemoteLog(line, hello)
        self.view = RemoteView(line)
        self.notes: tuple[str, ...] = tuple(hello["notes"])

    def publish(self, publication: Publication, *, wait: bool = True) -> RayReply:
        self._check_open()
        with self._sending:  # numbered as they are sent, without a gap: the shard takes them in this order
            number = self._number
            publication.token = f"{self._publisher}-{number}"
            data = pack_publication(publication)
            self._unanswered[number] = None
            self._number += 1
            given = (data, wait, self._publisher, number, next(iter(self._unanswered)))
            return RayReply(self._line, given, lambda: self._unanswered.pop(number, None))

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

    def score(self) -> dict[str, Any]:
        """The document of the score that is played."""
        return Plan.load(self._line.ask("plan")).document

    def scale(self, section: str, count: int | None) -> None:
        """Have so many instances of a section from now on; None: as its load says."""
        self._check_open()
        self._line.ask("scale", section, count)

    def pids(self, section: str) -> list[int]:
        """The processes of a section's instances that are ready, each on its node."""
        return list(self._line.ask("pids", section))

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
            if self._url is not None:
                left = self._line.ask("close")
                self.view.leave(cache(partial(_left, self._url, left)))
        finally:
            self.log.close()
            if self._url is not None and not _is_kept(self._url):
                _kill(self._line)
            cluster.leave()

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable(f"band {self._line.name} is closed; open it again")


def play(score: Score, plan: Plan, address: str | None) -> RayStage:
    """A band that plays until this process closes it, or ends."""
    cluster.join(address, score)
    try:
        plan.versions = versions()
        line = Line(_shard(plan), score.name)
        return RayStage(line, plan.url)
    except BaseException:
        cluster.leave()
        raise


def attach(name: str, address: str | None) -> RayStage:
    """A band that is up on the cluster.

    Errors: Unavailable if there is none of this name.
    """
    cluster.join(address or cluster.ANY)
    try:
        return RayStage(_line(name))
    except BaseException:
        cluster.leave()
        raise


def up(score: Score, plan: Plan, address: str | None) -> tuple[RayStage, bool]:
    """A band that plays on without this process. One of its name that is up changes over to this score, player by player.

    Whether it was up before comes back too.
    Errors: Unavailable if there is no cluster; what the shard says.
    """
    import ray

    cluster.join(address or cluster.ANY, score, working_dir=".")
    try:
        plan.versions = versions()
        plan.runtime_env = {**cluster.runtime_env(), **plan.runtime_env}
        known = cluster.find(cluster.shard_name(score.name))
        if known is not None:
            line = Line(known, score.name)
            line.ask("rescore", carried(Plan.load(line.ask("plan")), plan).dump(), list(score.players))
            return RayStage(line), True
        kind: Any = ray.remote(ShardActor)
        options = {**_options(plan), "name": cluster.shard_name(score.name), "lifetime": "detached"}
        line = Line(kind.options(**options).remote(plan.dump(), 0), score.name)
        try:
            return RayStage(line), False
        except BaseException:
            _kill(line)
            raise
    except BaseException:
        cluster.leave()
        raise


def down(name: str, address: str | None) -> None:
    """End a band that is up: what is in flight is finished, and the rest is left to who plays its store next.

    Errors: Unavailable if there is none of this name.
    """
    cluster.join(address or cluster.ANY)
    try:
        line = _line(name)
        line.ask("close")
        _kill(line)
        until = time.monotonic() + GONE_S
        while cluster.find(cluster.shard_name(name)) is not None and time.monotonic() < until:
            time.sleep(0.02)  # Ray takes its time, and who asks for the band meanwhile would find a closed one
    finally:
        cluster.leave()


def change(name: str, address: str | None, new: Callable[[Plan], tuple[Plan, list[str]]]) -> None:
    """Have a band that is up play by a new plan: `new` makes it from the one it has, and says which players are replaced."""
    cluster.join(address or cluster.ANY)
    try:
        line = _line(name)
        plan, changed = new(Plan.load(line.ask("plan")))
        plan.versions = versions()
        line.ask("rescore", plan.dump(), changed)
    finally:
        cluster.leave()


def _line(name: str) -> Line:
    actor = cluster.find(cluster.shard_name(name))
    if actor is None:
        known = cluster.bands()
        raise Unavailable(
            f"there is no band {name!r} up on this cluster; up are: {', '.join(known) or 'none'}; bring one up with "
            "ensemble up SCORE"
        )
    return Line(actor, name)


def _kill(line: Line) -> None:
    import ray

    ray.kill(line.actor)


def _shard(plan: Plan) -> Any:
    """The actor of the band's shard. A log in memory lives as long as its actor: that is gone back to by its name."""
    import ray

    options = _options(plan)
    if _is_kept(plan.url):
        options["name"] = cluster.log_name(plan.url)
        known = cluster.find(options["name"])
        if known is not None:
            Line(known, plan.document["name"]).ask("reopen", plan.dump())
            return known
    kind: Any = ray.remote(ShardActor)
    actor = kind.options(**options).remote(plan.dump(), 0)
    if "name" in options:
        _kept[plan.url] = actor
    return actor


def _options(plan: Plan) -> dict[str, Any]:
    options: dict[str, Any] = {
        "num_cpus": cluster.SHARD_CPUS,
        "max_restarts": 0 if _is_memory(plan) else -1,
        "max_task_retries": 0,
        "namespace": cluster.NAMESPACE,
    }
    if plan.runtime_env:
        options["runtime_env"] = plan.runtime_env
    return options


def _is_memory(plan: Plan) -> bool:
    return plan.url.startswith("memory:")


def _is_kept(url: str) -> bool:
    """Whether it is a log in memory with a name: its actor outlives the band."""
    return url.startswith("memory:") and url != "memory:"


def _left(url: str, state: bytes | None) -> View:
    """The state that a closed band left: brought with its last word, or read from its store."""
    if state is not None:
        known = State.load(state)
    else:
        with closing((find_log(url) if _is_kept(url) else None) or read_log(url)) as log:
            known = recover(log)
    return StateView(lambda question: question(known))
