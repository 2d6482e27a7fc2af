"""What there has to be before a score is played, on whatever stage: it is checked, and its players are found.

Owns `ready`. Nothing is opened or started here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from ensemble.errors import ScoreError
from ensemble.player import Player
from ensemble.player.outside import stand_in
from ensemble.score import Score, check, load
from ensemble.score.callable import find
from ensemble.score.composing import Callables
from ensemble.score.model import PlayerSpec
from ensemble.score.vocabulary import Vocabulary


class Ready(NamedTuple):
    """A score that can be played."""

    score: Score
    calls: dict[str, Callable[..., Any]]
    """The callables that were given, by name of player or source."""
    vocabulary: Vocabulary
    players: dict[str, Player]
    """All players, with their code."""


def ready(
    score: Score | str | os.PathLike[str] | Mapping[str, Any],
    players: Mapping[str, Callable[..., Any]] | None,
    *,
    is_live: bool = True,
) -> Ready:
    """A score made ready. `players` gives callables for players and sources by name.

    Where what is done outside does not count (not `is_live`), a player's `outside:` says who plays in its place.

    Errors: ScoreError; PlayerError if a player's code can't be found.
    """
    if not isinstance(score, Score):
        score = load(score)
    if not isinstance(players, Mapping | None):
        raise TypeError(f"{players!r:.80} is no mapping; the code of players is given by their names: {{'pricing': function}}")
    calls = {**score.callables, **(players or {})}
    _check_players(score, calls)
    errors = [finding for finding in check(score, players=calls) if finding.severity == "error"]
    if errors:
        raise ScoreError(errors)
    vocabulary = Vocabulary(score)
    prepared = {name: _prepare(spec, calls, score, vocabulary, is_live) for name, spec in score.players.items()}
    # Whoever holds the band asks its score who plays: to draw it, and to tell where a player's code is.
    score = msgspec.structs.replace(score, callables=Callables(calls))
    return Ready(score, calls, vocabulary, prepared)


def _prepare(spec: PlayerSpec, players: Mapping[str, Any], score: Score, vocabulary: Vocabulary, is_live: bool) -> Player:
    call = None if is_live else stand_in(spec, score.folder)
    if call is None:
        call = players.get(spec.name)
    if call is None:
        if spec.play is None:
            raise ScoreError(
                f"players.{spec.name} has no play: and no callable was given; write play: module:function, or "
                f"ensemble.open(..., players={{{spec.name!r}: ...}})"
            )
        call = find(spec.play, score.folder)
    return Player(spec, call, vocabulary, is_live=is_live or spec.outside == "allow")


def _check_players(score: Score, players: Mapping[str, Any]) -> None:
    known = {*score.players, *score.sources}
    for name, call in players.items():
        if name not in known:
            raise ScoreError(f"players={{{name!r}: ...}}: the score has no player {name!r}; it has {', '.join(sorted(known))}")
        if not callable(call):
            raise ScoreError(f"players={{{name!r}: ...}}: {call!r} can't be called; give a function or a class")
