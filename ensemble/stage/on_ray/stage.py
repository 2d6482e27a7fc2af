"""The stage that a band holds when it plays on Ray: everything goes to the shards' actors and back.

Owns how these are made: by who opens the band, and then they end with it, or by who brings it up. What is said to a band
that is up without holding a stage is `bands.py`'s.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache, partial
from typing import Any

from ensemble.broker import State
from ensemble.broker.outbox import split
from ensemble.broker.words import Publication
from ensemble.errors import EnsembleError, Unavailable
from ensemble.log import environment, read_log
from ensemble.score.model import Score
from ensemble.stage.base import Answer, Shard, View
from ensemble.stage.begin import recover
from ensemble.stage.on_ray import cluster
from ensemble.stage.on_ray.bands import kill, lines_of, plan_of, rescore
from ensemble.stage.on_ray.join import added, carried
from ensemble.stage.on_ray.line import Line, RemoteLog, RemoteView, find_logs, telling_if_gone
from ensemble.stage.on_ray.plan import Plan, versions
from ensemble.stage.on_ray.shard import ShardActor
from ensemble.stage.on_ray.switching import Writes, switch
from ensemble.stage.on_ray.wire import pack_publication
from ensemble.stage.view import StateView

__all__ = ("RayStage", "attach", "play", "up")

PUBLICATION_BYTES = 70_000
"""Bytes of data in one publication of many: with keys and the like it stays below what Ray carries inside a call."""
FOLLOW_S = 1.0
"""How long the shard keeps who waits for new events, at a time."""
FORGET_ROUNDS = 10
"""How often all shards are asked to forget somebody, at the most: what is said of them meanwhile may never come to an end."""
LOOK_EVERY_S = 0.05
"""How often several shards are asked whether there is something new."""

_kept: dict[str, Any] = {}
"""The actors of named logs in memory that this process has made, by name. Ray ends an actor when who made it forgets it."""


class RayReply:
    """What the shard will say of a publication: `Reply`, from afar."""

    def __init__(self, line: Line, log: RemoteLog, given: tuple[Any, ...], answered: Callable[[], Any]) -> None:
        self._line, self._log, self._given, self._answered = line, log, given, answered
        self._ref = line.call("publish", *given)

    def wait(self, timeout: float | None = None) -> Any:
        try:
            log_id, where = self._line.wait(self._ref, "publish", *self._given, timeout=timeout)
            if log_id != self._log.id:
                self._log.renew()
        except TimeoutError:
            raise
        except BaseException:
            self._answered()
            raise
        self._answered()
        return where["each"] if isinstance(where, dict) else range(where[0], where[0] + where[1])


class Desk:
    """Where publications are sent to one shard: numbered as they are sent, without a gap, for it takes them in this order."""

    def __init__(self, line: Line, log: RemoteLog) -> None:
        self._line, self._log = line, log
        self._publisher, self._number = secrets.token_hex(6), 0
        self._sending = threading.Lock()
        self._unanswered: dict[int, None] = {}

    def send(self, publication: Publication, *, wait: bool) -> RayReply:
        with self._sending:
            number = self._number
            publication.token = f"{self._publisher}-{number}"
            data = pack_publication(publication)
            self._unanswered[number] = None
            self._number += 1
            given = (data, wait, self._publisher, number, next(iter(self._unanswered)))
            return RayReply(self._line, self._log, given, lambda: self._unanswered.pop(number, None))


class Replies:
    """What several shards will say of one publication."""

    def __init__(self, homes: Sequence[int], replies: Mapping[int, RayReply]) -> None:
        self._homes, self._replies = homes, replies

    def wait(self, timeout: float | None = None) -> Any:
        """The offsets, each in its shard; what one of the shards says against it, once all have answered."""
        offsets: dict[int, Iterator[int]] = {}
        errors = []
        for shard, reply in self._replies.items():
            try:
                offsets[shard] = iter(reply.wait(timeout))
            except EnsembleError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return [next(offsets[home]) for home in self._homes]


class RayStage:
    """A band on Ray. Its shards play in actors; this process only speaks to them.

    Closing it ends the band, or, of one that plays on without this process, only the lines to it.
    """

    def __init__(self, lines: Sequence[Line], url: str | None = None) -> None:
        """`url` is that of the store of a band that ends with this stage."""
        self._lines = lines
        self._url = url
        self._is_closed = False
        hellos = [line.ask("hello") for line in lines]
        self._views = [RemoteView(line) for line in lines]
        self._logs = [RemoteLog(line, hello) for line, hello in zip(lines, hellos, strict=True)]
        self._desks = [Desk(line, log) for line, log in zip(lines, self._logs, strict=True)]
        self.shards = tuple(Shard(log, view) for log, view in zip(self._logs, self._views, strict=True))
        self.notes: tuple[str, ...] = tuple(note for hello in hellos for note in hello["notes"])
        self.publication_most = (2000 * len(lines), PUBLICATION_BYTES * len(lines))

    def publish(self, publication: Publication, *, wait: bool = True) -> Answer:
        self._check_open()
        ours, others, homes = split(publication.said, 0, len(self._lines))
        if homes is None:
            return self._desks[0].send(publication, wait=wait)
        parts = others if ours is None else {0: ours, **others}
        replies = {
            shard: self._desks[shard].send(Publication(said, publication.source), wait=wait) for shard, said in parts.items()
        }
        return Replies(homes, replies)

    def settle(self, timeout: float | None = None) -> None:
        self._check_open()
        until = None if timeout is None else time.monotonic() + timeout
        before: list[int] = []
        while True:  # a shard that is quiet may be sent something by one that is not yet: until nothing has changed in a round
            frames = [self._settle(line, until) for line in self._lines]
            if len(frames) == 1 or frames == before:
                return
            before = frames

    @staticmethod
    def _settle(line: Line, until: float | None) -> int:
        """Wait until a shard is quiet; the frames that it has then."""
        while True:  # in short waits, since the shard may be made anew in between
            left = 5.0 if until is None else min(5.0, max(0.0, until - time.monotonic()))
            try:
                return int(line.ask("settle", left))
            except TimeoutError:
                if until is not None and time.monotonic() >= until:
                    raise

    def again(self, section: str | None, place: tuple[int, int] | None) -> int:
        self._check_open()
        lines = self._lines if place is None else [self._lines[place[0]]]
        return sum(int(line.ask("again", section, place)) for line in lines)

    def forget(self, subject: str) -> int:
        self._check_open()
        count = 0
        for _ in range(FORGET_ROUNDS):
            told = [line.ask("forget", subject) for line in self._lines]
            keys = sum(int(each) for each, _ in told)
            count += keys
            if not keys or len(self._lines) == 1:  # else another shard may have sent something of theirs meanwhile
                break
        if not count:
            raise KeyError(told[0][1])
        return count

    def score(self) -> dict[str, Any]:
        """The document of the score that is played."""
        return plan_of(self._lines).document

    def is_live(self) -> bool:
        """Whether what its players do outside counts: it plays the current take of its store."""
        return plan_of(self._lines).is_live

    def scale(self, section: str, count: int | None) -> None:
        """Have so many instances of a section from now on; None: as its load says."""
        self._check_open()
        self._lines[0].ask("scale", section, count)

    def add(self, name: str, own: Plan) -> None:
        """Have one more player play, that of this name in `own`. Nobody else is stopped.

        Errors: as `change`.
        """
        self._check_open()
        rescore(self._lines, added(plan_of(self._lines), name, own), [name])

    def switch(self, name: str, own: Plan, writes: Callable[[int], Writes]) -> None:
        """Have the player of this name in `own` take the place of that which plays, over another table, shard by shard.

        `writes` is asked, when nothing more comes to the table of a shard, for what makes it the other one.
        Errors: as `change`; what `writes` raises.
        """
        self._check_open()
        switch(self._lines, added(plan_of(self._lines), name, own).dump(), name, writes)

    def pids(self, section: str) -> list[int]:
        """The processes of a section's instances that are ready, each on its node."""
        return list(self._lines[0].ask("pids", section))

    def wait_beyond(self, offsets: Sequence[int], timeout: float) -> bool:
        wait_s = FOLLOW_S if len(self._logs) == 1 else 0.0
        while not self._is_closed:
            if any(log.grows_beyond(offset, wait_s) for log, offset in zip(self._logs, offsets, strict=True)):
                return True
            if not wait_s:
                time.sleep(LOOK_EVERY_S)
        return False

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._url is not None:
                calls = [(line, line.call("close")) for line in self._lines]
                for ix, (line, call) in enumerate(calls):
                    left = line.wait(call, "close")
                    self._views[ix].leave(cache(partial(_left, self._url, ix, len(self._lines), left)))
        finally:
            for shard in self.shards:
                shard.log.close()
            if self._url is not None and not _is_kept(self._url):
                for line in self._lines:
                    kill(line)
            cluster.leave()

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable(f"band {self._lines[0].name} is closed; open it again")


def play(score: Score, plan: Plan, address: str | None) -> RayStage:
    """A band that plays until this process closes it, or ends."""
    cluster.join(address, score)
    try:
        plan.versions = versions()
        plan.runtime_env = {**plan.runtime_env, **cluster.runtime_env()}
        return RayStage(_begin(plan, _names(plan), {}), plan.url)
    except BaseException:
        cluster.leave()
        raise


def attach(name: str, address: str | None) -> RayStage:
    """A band that is up on the cluster.

    Errors: Unavailable if there is none of this name.
    """
    cluster.join(address or cluster.ANY)
    try:
        return RayStage(lines_of(name))
    except BaseException:
        cluster.leave()
        raise


def up(score: Score, plan: Plan, address: str | None) -> tuple[RayStage, bool]:
    """A band that plays on without this process. One of its name that is up changes over to this score, player by player.

    Whether it was up before comes back too.
    Errors: Unavailable if there is no cluster; what the shards say.
    """
    cluster.join(address or cluster.ANY, score, working_dir=".")
    try:
        plan.versions = versions()
        plan.runtime_env = {**plan.runtime_env, **cluster.runtime_env()}
        if cluster.find(cluster.shard_name(score.name)) is not None:
            lines = lines_of(score.name)
            if len(lines) != plan.shards:
                raise Unavailable(
                    f"band {score.name} is up with {len(lines)} shards, and this score wants {plan.shards}: that can't change "
                    f"while it plays; take it down (ensemble down {score.name}), divide its store anew (ensemble reshard), and "
                    "bring it up again"
                )
            note = rescore(lines, carried(plan_of(lines), plan), list(score.players))
            stage = RayStage(lines)
            stage.notes += (note,) if note else ()
            return stage, True
        names = [cluster.shard_name(score.name, number) for number in range(plan.shards)]
        lines = _begin(plan, names, {"lifetime": "detached"})
        try:
            return RayStage(lines), False
        except BaseException:
            for line in lines:
                kill(line)
            raise
    except BaseException:
        cluster.leave()
        raise


def _begin(plan: Plan, names: Sequence[str], more: Mapping[str, Any]) -> list[Line]:
    """The shards of a band, begun: the first before the others, since it makes the store."""
    plan.called = list(names)
    kept = cluster.log_names(plan.url) if _is_kept(plan.url) else []
    if kept and len(kept) != plan.shards:
        raise Unavailable(
            f"store {plan.url}: in this cluster's memory it has {len(kept)} shards, {plan.shards} are asked for; ask for as "
            "many as it has, or choose another name"
        )
    lines: list[Line] = []
    try:
        for number in range(plan.shards):
            lines.append(_shard(plan, number, names[number], more))
            if plan.shards > 1:
                lines[-1].ask("hello")
    except BaseException:
        for line in lines:
            kill(line)
        raise
    return lines


def _names(plan: Plan) -> list[str]:
    """What the actors of a band that ends with this process are called: so they find each other, and instances find them."""
    if _is_kept(plan.url):
        return [cluster.log_name(plan.url, number, plan.shards) for number in range(plan.shards)]
    return [f"shard:{plan.run}:{number}" for number in range(plan.shards)]


def _shard(plan: Plan, number: int, name: str, more: Mapping[str, Any]) -> Line:
    """The actor of a shard. A log in memory lives as long as its actor: that is gone back to by its name."""
    import ray

    options = {**_options(plan), **more, "name": name}
    is_kept = _is_kept(plan.url) and "lifetime" not in more
    known = cluster.find(name) if is_kept else None
    if known is not None:
        line = Line(known, plan.document["name"])
        line.ask("reopen", plan.dump())
        return line
    kind: Any = ray.remote(ShardActor)
    with telling_if_gone(plan.document["name"]):
        actor = kind.options(**options).remote(plan.dump(), number)
    if is_kept:
        _kept[name] = actor
    return Line(actor, plan.document["name"])


def _options(plan: Plan) -> dict[str, Any]:
    options: dict[str, Any] = {
        "num_cpus": cluster.SHARD_CPUS,
        "max_restarts": 0 if plan.url.startswith("memory:") else -1,
        "max_task_retries": 0,
        "namespace": cluster.NAMESPACE,
    }
    # What leads to an object store goes along from here. Not into the plan, which is kept in the log.
    env: dict[str, str] = {}
    for said, name in (("retain", "archive"), ("audit", "anchor")):
        env |= environment((plan.document.get(said) or {}).get(name) or "")
    env |= {**environment(plan.url), **plan.runtime_env.get("env_vars", {})}
    runtime_env = {**plan.runtime_env, "env_vars": env} if env else plan.runtime_env
    if runtime_env:
        options["runtime_env"] = runtime_env
    return options


def _is_kept(url: str) -> bool:
    """Whether it is a log in memory with a name: its actor outlives the band."""
    return url.startswith("memory:") and url != "memory:"


def _left(url: str, shard: int, shards: int, state: bytes | None) -> View:
    """The state that a closed band left in a shard: brought with its last word, or read from its store."""
    if state is not None:
        known = State.load(state)
    else:
        kept = find_logs(url) if _is_kept(url) else []
        with closing(kept[shard] if len(kept) == shards else read_log(url, shard)) as log:
            known = recover(log)
    return StateView(lambda question: question(known))
