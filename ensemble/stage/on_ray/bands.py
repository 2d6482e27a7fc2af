"""Bands that are up: found by their names, and spoken to as a whole, whoever asks.

Owns what is said to all shards of a band, in which order, and what holds if one of them can't: each is told all the same, or
none is changed. How one shard is spoken to is `line.py`'s; a stage that a process holds to one is `stage.py`'s.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from ensemble.errors import EnsembleError, Unavailable
from ensemble.stage.on_ray import cluster
from ensemble.stage.on_ray.line import Line
from ensemble.stage.on_ray.peers import Peers
from ensemble.stage.on_ray.plan import Plan

GONE_S = 10.0
"""How long Ray has to forget the name of an actor that was ended."""

Act = Callable[[Callable[[str], Any]], Any]
"""Has something done at the store of a band that rests, and brings what came of it."""

log = logging.getLogger("ensemble.stage")


def lines_of(name: str) -> list[Line]:
    """The lines to the shards of a band that is up."""
    actor = cluster.find(cluster.shard_name(name))
    if actor is None:
        known = cluster.bands()
        raise Unavailable(
            f"there is no band {name!r} up on this cluster; up are: {', '.join(known) or 'none'}; bring one up with "
            "ensemble up SCORE"
        )
    first = Line(actor, name)
    peers = Peers(plan_of([first]).called, 0)
    return [first, *(peers.line(number) for number in range(1, len(peers)))]


def plan_of(lines: Sequence[Line]) -> Plan:
    """What a band plays by."""
    return Plan.load(lines[0].ask("plan"))


def rescore(lines: Sequence[Line], plan: Plan, changed: Sequence[str]) -> str | None:
    """Have a band play by another plan, shard after shard, with these players replaced.

    What can't be played is found out by the first, before anything has changed. If who changed it before did not come to its
    end, some shards play what the first plays no more: then all players are replaced, in all shards, and what is to be told of
    that comes back.
    """
    before = [line.ask("plan") for line in lines]
    behind = [str(number) for number, known in enumerate(before) if known != before[0]]
    if behind:
        changed = list(plan.document.get("players", {}))
    for line in lines:
        line.ask("rescore", plan.dump(), changed)
    if not behind:
        return None
    which = f"shard {behind[0]}" if len(behind) == 1 else f"shards {', '.join(behind)}"
    return (
        f"band {lines[0].name}: an earlier change of its score had stopped half way, and {which} of {len(lines)} still played "
        "by the score before it; all play by this one now"
    )


def change(name: str, address: str | None, to: Callable[[Plan], tuple[Plan, list[str]]]) -> None:
    """Have a band that is up play by another plan, made of the one it plays by; and the players that are replaced for it.

    Errors: Unavailable if there is none of this name; what making the plan, and the shards, say.
    """
    cluster.join(address or cluster.ANY, working_dir=".")
    try:
        lines = lines_of(name)
        note = rescore(lines, *to(plan_of(lines)))
        if note:
            log.warning("%s", note)
    finally:
        cluster.leave()


@contextmanager
def at_rest(name: str, address: str | None) -> Iterator[Act]:
    """A band that is up, stopped in all its shards; it plays on when this is left, all of it in the take that is current then.

    What it has in flight is finished first; who publishes to it, or asks it something, waits meanwhile. What is given to what
    comes is called with the url of the store, where the first shard is: what it does must do no harm when done twice.
    Errors: Unavailable if there is none of this name, its log is in memory, or somebody else has it rest; what is raised there.
    """
    cluster.join(address or cluster.ANY)
    try:
        lines = lines_of(name)
        plan = lines[0].ask("plan")
        if Plan.load(plan).url.startswith("memory:"):
            raise Unavailable(
                f"band {name} keeps its log in the cluster's memory, where there are no takes; have it play into a directory "
                "or an object store"
            )
        who = secrets.token_hex(6)

        resting: list[Resting] = []

        def act(what: Callable[[str], Any]) -> Any:
            nonlocal plan
            before = resting[:]
            resting[:] = _rest(lines, who)
            if not before:  # until then somebody may have changed it
                plan = resting[0].plan
            while True:
                try:
                    return lines[0].ask("act", what)
                except Unavailable:
                    # A shard whose process died plays again, and holds its log, until it is told to rest.
                    before = resting[:]
                    resting[:] = _rest(lines, who)
                    if [each.pid for each in resting] == [each.pid for each in before]:
                        raise

        try:
            yield act
        finally:
            with suppress(Unavailable):
                _rest(lines, who)  # again: one that was made anew a moment ago may have found the take before
            _go_on(lines, who, plan)
    finally:
        cluster.leave()


class Resting(NamedTuple):
    """A shard that rests."""

    pid: int
    """Its process."""
    plan: bytes
    """What it played by."""


def _rest(lines: Sequence[Line], who: str) -> list[Resting]:
    """Have all shards rest, at the same time: each waits for what others have with its instances."""
    calls = [(line, line.call("rest", who)) for line in lines]
    resting, errors = [], []
    for line, call in calls:
        try:
            resting.append(Resting(*line.wait(call, "rest", who)))
        except Unavailable as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return resting


def _go_on(lines: Sequence[Line], who: str, plan: bytes) -> None:
    """Have all shards play on by a plan, also those beside one that can't: what that one says is raised afterwards."""
    calls = [(line, line.call("go_on", who, plan)) for line in lines]
    errors = []
    for line, call in calls:
        try:
            # One that was made anew since goes by what its log says; what comes after it has gone on is somebody else's change.
            if not line.wait(call, "go_on", who, plan) and line.ask("plan") != plan:
                line.ask("rescore", plan, list(Plan.load(plan).document.get("players", {})))
        except EnsembleError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def down(name: str, address: str | None) -> None:
    """End a band that is up: what is in flight is finished, and the rest is left to who plays its store next.

    Errors: Unavailable if there is none of this name.
    """
    cluster.join(address or cluster.ANY)
    try:
        lines = lines_of(name)
        for line, call in [(line, line.call("close")) for line in lines]:
            try:
                line.wait(call, "close")
            except Unavailable as error:  # it does not play, so there is nothing to finish
                log.warning("%s", error)
        for line in reversed(lines):
            kill(line)
        until = time.monotonic() + GONE_S
        left = [cluster.shard_name(name, number) for number in range(len(lines))]
        while left and time.monotonic() < until:
            # Ray takes its time: who asks for the band meanwhile would find a closed one, or could not bring it up again.
            left = [each for each in left if cluster.find(each) is not None]
            time.sleep(0.02 if left else 0)
    finally:
        cluster.leave()


def kill(line: Line) -> None:
    """End the process of a shard, whatever it does."""
    import ray

    ray.kill(line.actor)
