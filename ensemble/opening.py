"""How a band comes about: a score is checked, its store opened and folded, its players found, its stage set.

Owns `open`, `read` and `connect`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ensemble.band import Band
from ensemble.errors import ScoreError, Unavailable
from ensemble.event import digest
from ensemble.log import open_log, read_log
from ensemble.player import Player
from ensemble.reader import FoldedView, Reader
from ensemble.score import Score, check, load
from ensemble.score.callable import find
from ensemble.score.model import PlayerSpec
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.base import HandClock, Role
from ensemble.stage.begin import begin
from ensemble.stage.door import Guest, knock, store_folder
from ensemble.stage.inlet import Inlet
from ensemble.stage.solo import SoloCrew


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
            line that is refused; `clock` is an `ensemble.testing.ManualClock`; `address` is that of a Ray cluster.
    Errors: ScoreError; PlayerError if an instance can't be built; Unavailable if the store can't be used.
    """
    if not isinstance(score, Score):
        score = load(score)
    kind = stage or score.stage.kind
    if kind not in ("solo", "ray"):
        raise Unavailable(f"stage {kind!r}: there is no such stage; write solo or ray")
    players = dict(players or {})
    _check_players(score, players)
    errors = [finding for finding in check(score, players=players) if finding.severity == "error"]
    if errors:
        raise ScoreError(errors)
    vocabulary = Vocabulary(score)
    prepared = {name: _prepare(spec, players, score, vocabulary) for name, spec in score.players.items()}
    url = store or score.store.url or f".ensemble/{score.name}"
    if kind == "ray":
        if clock is not None:
            raise TypeError("a clock moved by hand plays solo: leave clock= out, or play with stage='solo'")
        from ensemble.stage.on_ray.plan import Plan, pickled
        from ensemble.stage.on_ray.stage import RayStage

        plan = Plan(
            dict(score.document),
            _absolute(url),
            calls={name: pickled(name, call) for name, call in players.items()},
            coroutines=[name for name, player in prepared.items() if player.shape.is_async],
            durability=durability or score.store.durability,
            again=again,
            strict=strict,
            inputs=list(inputs),
            runtime_env=dict(score.stage.runtime_env),
        )
        ray = RayStage(score, plan, address or score.stage.address)
        return Band(score, ray, Inlet(vocabulary, f"/{score.name}", ray.log.id), url)
    log = open_log(url, name=score.name, durability=durability or score.store.durability, **_log_options(clock, score))
    loop = begin(
        score,
        log,
        {name: Role(player.spec, player.shape.is_async) for name, player in prepared.items()},
        SoloCrew(prepared, by_hand=clock is not None),
        overlapping=[name for name, player in prepared.items() if _overlaps(player, clock)],
        calls=players,
        inputs=inputs,
        again=again,
        strict=strict,
        clock=clock,
    )
    inlet = Inlet(vocabulary, loop.broker.source(), log.id)
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


def connect(url: str) -> Band | Guest:
    """The speaking half of a band: `publish`, `publish_many`, `retry_dead`, from any process.

    If nobody plays the store, it is opened for writing: what is published waits there for who plays it next.
    Errors: Unavailable if there is no such store.
    """
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
    return Band(score, loop, Inlet(Vocabulary(score), loop.broker.source(), log.id), url)


def read(url: str) -> Reader:
    """The reading half of a band, from its store; whoever plays it is not disturbed.

    Errors: Unavailable if there is no such store; LogCorrupt.
    """
    log = read_log(url)
    return Reader(log, FoldedView(log), url)


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
