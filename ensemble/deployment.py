"""Bands that play on a Ray cluster without the process that brought them up.

Owns `up`, `down`, `join` and `leave`; `opening.connect` speaks to such a band.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ensemble.band import Band
from ensemble.log.takes import is_current
from ensemble.opening import inlet_of, with_adding
from ensemble.ready import ready
from ensemble.score import Score, load
from ensemble.stage.on_ray import stage as ray_stage
from ensemble.stage.on_ray.join import joined as with_joined
from ensemble.stage.on_ray.join import left
from ensemble.stage.on_ray.plan import Plan, plan_of


def up(
    score: Score | str | os.PathLike[str] | Mapping[str, Any],
    *,
    address: str | None = None,
    store: str | None = None,
    players: Mapping[str, Callable[..., Any]] | None = None,
) -> Band:
    """Bring a band up on a Ray cluster, where it plays on without this process; the band that comes back speaks to it.

    If it is up already it changes over to this score: its players are replaced one by one, each when it has nothing in flight.
    Closing the band leaves it up; `ensemble.down` ends it, `ensemble.connect("ray:NAME")` speaks to it from anywhere.
    Errors: as `open`; Unavailable if there is no cluster.
    """
    score = score if isinstance(score, Score) else load(score)
    url = store or score.store.url or f".ensemble/{score.name}"
    score, calls, vocabulary, prepared = ready(score, players, is_live=is_current(url))
    plan = plan_of(score, calls, prepared, url)
    stage, _ = ray_stage.up(score, plan, address or score.stage.address)
    return with_adding(Band(score, stage, inlet_of(vocabulary, f"/{score.name}", stage), f"ray:{score.name}"), stage, calls)


def down(name: str, *, address: str | None = None) -> None:
    """End a band that is up on a Ray cluster. What it has in flight is finished; its store has all the rest.

    Errors: Unavailable if there is none of this name.
    """
    ray_stage.down(name, address)


def join(
    name: str,
    score: Score | str | os.PathLike[str] | Mapping[str, Any],
    *,
    address: str | None = None,
    players: Mapping[str, Callable[..., Any]] | None = None,
) -> None:
    """Have the players of another score join a band that is up; nobody who plays there is stopped.

    Errors: ScoreError if the scores do not go together; Unavailable if there is no such band.
    """
    loaded = score if isinstance(score, Score) else load(score)

    def to(plan: Plan) -> tuple[Plan, list[str]]:
        made = ready(loaded, players, is_live=plan.is_live)
        return with_joined(plan, made.score, plan_of(made.score, made.calls, made.players, ""))

    ray_stage.change(name, address, to)


def leave(name: str, joined: str, *, address: str | None = None) -> None:
    """Have a score that joined a band leave it. What its players had not heard stays in the log for their return.

    Errors: KeyError if no such score has joined; Unavailable if there is no such band.
    """
    ray_stage.change(name, address, lambda plan: left(plan, joined))
