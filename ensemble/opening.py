"""How a band comes about: a score is checked, its store opened and folded, its players found, its stage set.

Owns `open`, `read` and `connect`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ensemble.band import Band
from ensemble.errors import ScoreError, Unavailable
from ensemble.event import digest
from ensemble.log import LogReader, count_shards, has_log, open_log, read_log
from ensemble.player import Player
from ensemble.reader import FoldedView, Reader
from ensemble.score import Score, check, load
from ensemble.score.callable import find
from ensemble.score.model import PlayerSpec
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.base import HandClock, Shard, Stage
from ensemble.stage.begin import begin
from ensemble.stage.door import Guest, knock, store_folder
from ensemble.stage.inbox import Role
from ensemble.stage.inlet import Inlet
from ensemble.stage.solo import SoloCrew

if TYPE_CHECKING:
    from ensemble.stage.on_ray.plan import Plan


def open(  # noqa: A001 - ensemble.open(...)
    score: Score | str | os.PathLike[str] | Mapping[str, Any],
    *,
    stage: str | None = None,
    store: str | None = None,
    players: Mapping[str, Callable[..., Any]] | None = None,
    clock: HandClock | None = None,
    again: bool = False,
    strict: bool = False,
    inputs: Sequence[str] = (),
    durability: Literal["disk", "memory"] | None = None,
    address: str | None = None,
) -> Band:
    """Begin to play a score, or go on where its store says.

    Shapes: `players` gives callables for players and sources of the score by name; `inputs` are JSON Lines files that take
            the place of the score's `file:` sources; `again` plays finished files once more; `strict` stops at the first
            line that is refused; `address` is that of a Ray cluster; `clock` is an `ensemble.testing.ManualClock`,
            under which players are called in the caller's thread, where nothing can interrupt a function: its `timeout:` is not
            kept there.
    Errors: ScoreError; PlayerError if an instance can't be built; Unavailable if the store can't be used.
    """
    score, players, vocabulary, prepared = _ready(score, players)
    kind = stage or score.stage.kind
    if kind not in ("solo", "ray"):
        raise Unavailable(f"stage {kind!r}: there is no such stage; write solo or ray")
    url = store or score.store.url or f".ensemble/{score.name}"
    if kind == "ray":
        if clock is not None:
            raise TypeError("a clock moved by hand plays solo: leave clock= out, or play with stage='solo'")
        from ensemble.stage.on_ray.stage import play

        plan = _plan(score, players, prepared, url, durability)
        if "-" in inputs:
            raise Unavailable("stage ray: the input - can't be read in another process; write it to a file, or play solo")
        plan.again, plan.strict, plan.inputs = again, strict, [str(Path(file).resolve()) for file in inputs]
        plan.home, plan.folders = str(Path.cwd()), dict.fromkeys(score.players, str(Path(score.folder).resolve()))
        on_ray = play(score, plan, address or score.stage.address)
        return Band(score, on_ray, _inlet(vocabulary, f"/{score.name}", on_ray), url)
    log = open_log(url, name=score.name, durability=durability or score.store.durability, **_log_options(clock, score))
    loop = begin(
        score,
        log,
        {name: Role(player.spec, player.shape.is_async, player.shape.batch) for name, player in prepared.items()},
        SoloCrew(prepared, by_hand=clock is not None),
        overlapping=[name for name, player in prepared.items() if _overlaps(player, clock)],
        calls=players,
        inputs=inputs,
        again=again,
        strict=strict,
        clock=clock,
    )
    inlet = _inlet(vocabulary, loop.broker.source(), loop)
    band = Band(score, loop, inlet, url)
    if clock is None:
        try:
            band._open_door()
        except BaseException as error:  # else it would go on playing, with nobody to hold it
            band.close()
            if isinstance(error, OSError):
                raise Unavailable(
                    f"store {url}: its door, by which other processes publish, can't be opened: {error.strerror or error}; "
                    "make room, or see what is in the way"
                ) from error
            raise
    return band


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
    from ensemble.stage.on_ray import stage as ray_stage

    score, players, vocabulary, prepared = _ready(score, players)
    url = store or score.store.url or f".ensemble/{score.name}"
    plan = _plan(score, players, prepared, url, None)
    stage, _ = ray_stage.up(score, plan, address or score.stage.address)
    return Band(score, stage, _inlet(vocabulary, f"/{score.name}", stage), f"ray:{score.name}")


def down(name: str, *, address: str | None = None) -> None:
    """End a band that is up on a Ray cluster. What it has in flight is finished; its store has all the rest.

    Errors: Unavailable if there is none of this name.
    """
    from ensemble.stage.on_ray import stage as ray_stage

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
    from ensemble.stage.on_ray import stage as ray_stage
    from ensemble.stage.on_ray.join import joined

    score, players, _, prepared = _ready(score, players)
    ray_stage.change(name, address, lambda plan: joined(plan, score, _plan(score, players, prepared, plan.url, None)))


def leave(name: str, joined: str, *, address: str | None = None) -> None:
    """Have a score that joined a band leave it. What its players had not heard stays in the log for their return.

    Errors: KeyError if no such score has joined; Unavailable if there is no such band.
    """
    from ensemble.stage.on_ray import stage as ray_stage
    from ensemble.stage.on_ray.join import left

    ray_stage.change(name, address, lambda plan: left(plan, joined))


def connect(url: str) -> Band | Guest:
    """The speaking half of a band: `publish`, `publish_many`, `retry_dead`, from any process.

    Shapes: `ray:NAME` is a band that is up on this machine's Ray cluster, `ray:NAME@HOST:PORT` one on another.
    If nobody plays the store, it is opened for writing: what is published waits there for who plays it next.
    Errors: Unavailable if there is no such store or band.
    """
    if url.startswith("ray:"):
        from ensemble.stage.on_ray.stage import attach

        stage = attach(*_of_ray(url))
        score = load(stage.score())
        return Band(score, stage, _inlet(Vocabulary(score), f"/{score.name}", stage), url)
    folder = store_folder(url)
    guest = None if folder is None else knock(folder, url)
    if guest is not None:
        return guest
    log = open_log(url, name="", create=False)
    try:
        known = FoldedView(log).score()
        score = load(known) if known else Score(name=log.name)
    except BaseException:
        log.close()
        raise
    # Nobody plays here: neither the players nor the sources of the score, and what it keeps of ids is as it was recorded.
    loop = begin(Score(name=log.name, store=score.store), log, {}, SoloCrew({}, by_hand=False))
    return Band(score, loop, _inlet(Vocabulary(score), loop.broker.source(), loop), url)


def read(url: str) -> Reader:
    """The reading half of a band, from its store; whoever plays it is not disturbed. `ray:NAME` as in `connect`.

    Errors: Unavailable if there is no such store or band; LogCorrupt.
    """
    if url.startswith("ray:"):
        band = connect(url)
        assert isinstance(band, Reader)
        return band
    logs = _on_ray(url) or [read_log(url, shard) for shard in range(count_shards(url) or 1)]
    return Reader([Shard(log, FoldedView(log)) for log in logs], url)


def _ready(
    score: Score | str | os.PathLike[str] | Mapping[str, Any], players: Mapping[str, Callable[..., Any]] | None
) -> tuple[Score, dict[str, Callable[..., Any]], Vocabulary, dict[str, Player]]:
    """A score that can be played, the callables that were given, its words, and its players with their code."""
    if not isinstance(score, Score):
        score = load(score)
    players = dict(players or {})
    _check_players(score, players)
    errors = [finding for finding in check(score, players=players) if finding.severity == "error"]
    if errors:
        raise ScoreError(errors)
    vocabulary = Vocabulary(score)
    prepared = {name: _prepare(spec, players, score, vocabulary) for name, spec in score.players.items()}
    return score, players, vocabulary, prepared


def _plan(
    score: Score,
    players: Mapping[str, Callable[..., Any]],
    prepared: Mapping[str, Player],
    url: str,
    durability: Literal["disk", "memory"] | None,
) -> Plan:
    """What the actors of a score are made from."""
    from ensemble.stage.on_ray.cluster import check_installed
    from ensemble.stage.on_ray.plan import Kind, Plan, pickled

    check_installed()
    return Plan(
        dict(score.document),
        _absolute(url),
        calls={name: pickled(name, call) for name, call in players.items()},
        kinds={
            name: Kind(player.shape.is_async, player.shape.batch, player.shape.kind == "class")
            for name, player in prepared.items()
        },
        durability=durability or score.store.durability,
        runtime_env=dict(score.stage.runtime_env),
        shards=score.stage.shards,
    )


def _inlet(vocabulary: Vocabulary, source: str, stage: Stage) -> Inlet:
    return Inlet(vocabulary, source, *(shard.log.id for shard in stage.shards))


def _of_ray(url: str) -> tuple[str, str | None]:
    """Name and address of `ray:NAME@ADDRESS`."""
    name, _, address = url.removeprefix("ray:").partition("@")
    if not name:
        raise Unavailable(f"{url!r}: no band is named; write ray:NAME")
    return name, address or None


def _on_ray(url: str) -> Sequence[LogReader]:
    """The log of this url, shard by shard, in the memory of a Ray cluster that this process has joined; or none."""
    if not url.startswith("memory:") or has_log(url) or "ray" not in sys.modules:
        return ()
    from ensemble.stage.on_ray.line import find_logs

    return find_logs(url)


def _prepare(spec: PlayerSpec, players: Mapping[str, Any], score: Score, vocabulary: Vocabulary) -> Player:
    call = players.get(spec.name)
    if call is None:
        if spec.play is None:
            raise ScoreError(
                f"players.{spec.name} has no play: and no callable was given; write play: module:function, or "
                f"ensemble.open(..., players={{{spec.name!r}: ...}})"
            )
        call = find(spec.play, score.folder)
    return Player(spec, call, vocabulary)


def _absolute(url: str) -> str:
    """The url of a store as other processes find it."""
    folder = store_folder(url)
    return url if folder is None or url.startswith("file:") else str(folder.absolute())


def _overlaps(player: Player, clock: HandClock | None) -> bool:
    return clock is None and (player.shape.is_async or player.spec.section.max > 1)


def _check_players(score: Score, players: Mapping[str, Any]) -> None:
    known = {*score.players, *score.sources}
    for name, call in players.items():
        if name not in known:
            raise ScoreError(f"players={{{name!r}: ...}}: the score has no player {name!r}; it has {', '.join(sorted(known))}")
        if not callable(call):
            raise ScoreError(f"players={{{name!r}: ...}}: {call!r} can't be called; give a function or a class")


def _log_options(clock: HandClock | None, score: Score) -> dict[str, Any]:
    """Under a manual clock the log gets the same id each time, so that the same input gives the same bytes."""
    return {} if clock is None else {"id": digest(score.name, 6)}
