"""How a band comes about: a score is checked, its store opened and folded, its players found, its stage set.

Owns `open`, `read` and `connect`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ensemble.band import Band
from ensemble.broker import Broker, Policy, State
from ensemble.errors import ScoreError, Unavailable
from ensemble.event import digest
from ensemble.listening import listener
from ensemble.log import open_log, read_log
from ensemble.log.base import LogReader
from ensemble.player import Player
from ensemble.reader import Reader
from ensemble.score import Score, check, load
from ensemble.score.callable import find
from ensemble.score.model import PlayerSpec, SourceSpec, StoreSpec
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.door import Guest, knock, store_folder
from ensemble.stage.inlet import Inlet
from ensemble.stage.solo import HandClock, Solo
from ensemble.stage.sources import Source, open_source


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
) -> Band:
    """Begin to play a score, or go on where its store says.

    Shapes: `players` gives callables for players and sources of the score by name; `inputs` are JSON Lines files that take
            the place of the score's `file:` sources; `again` plays finished files once more; `strict` stops at the first
            line that is refused; `clock` is an `ensemble.testing.ManualClock`.
    Errors: ScoreError; PlayerError if an instance can't be built; Unavailable if the store can't be used.
    """
    if not isinstance(score, Score):
        score = load(score)
    kind = stage or score.stage.kind
    if kind != "solo":
        raise Unavailable(f"stage {kind!r}: this version plays solo; leave --stage out, or write stage: {{kind: solo}}")
    players = dict(players or {})
    _check_players(score, players)
    errors = [finding for finding in check(score, players=players) if finding.severity == "error"]
    if errors:
        raise ScoreError(errors)
    vocabulary = Vocabulary(score)
    prepared = {name: _prepare(spec, players, score, vocabulary) for name, spec in score.players.items()}
    url = store or score.store.url or f".ensemble/{score.name}"
    sources: list[Source] = []
    log = open_log(url, name=score.name, durability=durability or score.store.durability, **_log_options(clock, score))
    try:
        state = recover(log, score.store)
        broker = Broker(
            state,
            log_id=log.id,
            name=score.name,
            listeners={name: listener(player.spec) for name, player in prepared.items()},
            policies={name: Policy(player.spec.retry, player.spec.on_failure) for name, player in prepared.items()},
            overlapping=[name for name, player in prepared.items() if _overlaps(player, clock)],
        )
        inlet = Inlet(vocabulary, broker.source())
        now_us = clock.now_us() if clock is not None else time.time_ns() // 1000
        for spec in _sources(score, inputs):
            place = None if again and spec.file else state.places.get(spec.name)
            call = players.get(spec.name)
            sources.append(open_source(spec, inlet, place, folder=score.folder, now_us=now_us, is_strict=strict, call=call))
        solo = Solo(broker, log, prepared, sources, clock)
    except BaseException:
        for source in sources:
            source.close()
        log.close()
        raise
    solo.open(dict(score.document), [name for name, spec in score.players.items() if spec.from_ == "now"])
    band = Band(score, solo, inlet, url, log.notes)
    if clock is None:
        band._open_door()
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
        state = recover(log, StoreSpec())
        score = load(state.score) if state.score else Score(name=log.name)
        broker = Broker(state, log_id=log.id, name=log.name, listeners={}, policies={})
        inlet = Inlet(Vocabulary(score), broker.source())
        solo = Solo(broker, log, {}, [])
    except BaseException:
        log.close()
        raise
    solo.open(None, [])
    return Band(score, solo, inlet, url, log.notes)


def read(url: str) -> Reader:
    """The reading half of a band, from its store; whoever plays it is not disturbed.

    Errors: Unavailable if there is no such store; LogCorrupt.
    """
    return Reader(read_log(url), url)


def recover(log: LogReader, store: StoreSpec) -> State:
    """The state that a log adds up to: its newest snapshot, and the frames since."""
    snapshot = log.snapshot()
    state = State() if snapshot is None else State.load(snapshot.state)
    state.dedupe_us, state.dedupe_most = store.dedupe_us, store.dedupe_most
    for frame in log.frames(0 if snapshot is None else snapshot.at.seq):
        state.apply(frame)
    return state


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


def _overlaps(player: Player, clock: HandClock | None) -> bool:
    return clock is None and (player.shape.is_async or player.spec.section.max > 1)


def _check_players(score: Score, players: Mapping[str, Any]) -> None:
    known = {*score.players, *score.sources}
    for name, call in players.items():
        if name not in known:
            raise ScoreError(f"players={{{name!r}: ...}}: the score has no player {name!r}; it has {', '.join(sorted(known))}")
        if not callable(call):
            raise ScoreError(f"players={{{name!r}: ...}}: {call!r} can't be called; give a function or a class")


def _sources(score: Score, inputs: Sequence[str]) -> list[SourceSpec]:
    if not inputs:
        return list(score.sources.values())
    kept = [spec for spec in score.sources.values() if spec.file is None]
    return kept + [
        SourceSpec(name=file if file == "-" else str(Path(file).resolve()), file=file if file == "-" else str(Path(file)))
        for file in inputs
    ]


def _log_options(clock: HandClock | None, score: Score) -> dict[str, Any]:
    """Under a manual clock the log gets the same id each time, so that the same input gives the same bytes."""
    return {} if clock is None else {"id": digest(score.name, 6)}
