"""Bands that play on a Ray cluster without the process that brought them up.

Owns `up`, `down`, `join`, `leave` and `rebuild`; `opening.connect` speaks to such a band.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ensemble.band import Band
from ensemble.changing import on_ray
from ensemble.errors import ScoreError
from ensemble.log.takes import is_current
from ensemble.opening import inlet_of
from ensemble.ready import ready
from ensemble.rebuilding import Rebuilding
from ensemble.score import Score, load
from ensemble.stage.on_ray import bands
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
    url = (score.store.url or f".ensemble/{score.name}") if store is None else store
    score, calls, vocabulary, prepared = ready(score, players, is_live=is_current(url))
    plan = plan_of(score, calls, prepared, url)
    stage, _ = ray_stage.up(score, plan, address or score.stage.address)
    return on_ray(Band(score, stage, inlet_of(vocabulary, f"/{score.name}", stage), f"ray:{score.name}"), stage, calls)


def down(name: str, *, address: str | None = None) -> None:
    """End a band that is up on a Ray cluster. What it has in flight is finished; its store has all the rest.

    Errors: Unavailable if there is none of this name.
    """
    bands.down(name, address)


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

    bands.change(name, address, to)


def leave(name: str, joined: str, *, address: str | None = None) -> None:
    """Have a score that joined a band leave it. What its players had not heard stays in the log for their return.

    Errors: KeyError if no such score has joined; Unavailable if there is no such band.
    """
    bands.change(name, address, lambda plan: left(plan, joined))


@contextmanager
def rebuild(
    name: str,
    score: Score | str | os.PathLike[str] | Mapping[str, Any],
    player: str,
    *,
    address: str | None = None,
    players: Mapping[str, Callable[..., Any]] | None = None,
) -> Iterator[Rebuilding]:
    """The table of a player of a band that is up, made anew by the code that a score has for it, beside the one that plays.

    It is made in this process, out of the band's log; its `switch` has the band change over (docs/rebuild.md).
    Errors: KeyError if there is no such player; ScoreError if it listens for something else in this score; Unavailable if there
            is no such band.
    """
    score, calls, _, prepared = ready(score, players)
    with closing(ray_stage.attach(name, address)) as stage:
        playing = load(stage.score()).players
        for which, known in ((f"band {name}", playing), (f"score {score.name}", score.players)):
            if player not in known:
                raise KeyError(f"{which} has no player {player!r}; it has {', '.join(known)}")
        then, now = playing[player], score.players[player]
        if (then.on, then.by, then.order) != (now.on, now.by, now.order):
            raise ScoreError(
                f"players.{player}.on: a table is rebuilt from what its player has heard, so what it listens for, by: and "
                f"order: stay as band {name} plays them; to hear other events, let a player of another name join: ensemble join"
            )
        own = plan_of(score, calls, prepared, "")
        own.folders = {player: str(Path(score.folder).resolve())}
        logs = [shard.log for shard in stage.shards]
        with Rebuilding(prepared[player], logs, lambda writes: stage.switch(player, own, writes)) as made:
            yield made
