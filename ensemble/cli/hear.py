"""`ensemble hear`: try a motif on the recorded past."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensemble.cli.options import Json, Store, moment, store_url
from ensemble.cli.terminal import counted, result, result_json, shown

if TYPE_CHECKING:
    from ensemble.event import Match
    from ensemble.log.base import LogReader

EVENTS_SHOWN = 6
"""How many events of a match are named in its line."""


def hear(
    score: Annotated[str, typer.Argument(metavar="SCORE", help="The score whose motifs may be named.", show_default=False)],
    motif: Annotated[
        str,
        typer.Argument(
            metavar="MOTIF",
            help="The name of a motif or player, or a motif as a score writes it: '{seq: [a, b], within: 10m}'.",
            show_default=False,
        ),
    ],
    store: Store = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            help="Listen from here on: an offset, when it was written (2011-11-01), or how long ago (30m).",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Try a motif on the recorded past.

    Says how often it would have been heard, with the matches. Nothing is played, and nothing is written.
    """
    import time
    from heapq import merge

    import ensemble
    from ensemble.trial import Trial, told, tried

    begin = moment(since, "--since")
    listening = tried(ensemble.load(score), _written(motif))
    now_us = time.time_ns() // 1000
    with ensemble.read(store_url(score if store is None else store)) as reader:
        trials = [(Trial(listening, shard.log), shard.log) for shard in reader._shards]
        heard = 0
        for match in merge(*(trial.hear(_offset(log, begin), now_us) for trial, log in trials), key=lambda match: match.time):
            heard += 1
            if json:
                result_json(told(match))
            else:
                result(_line(match))
        events = sum(trial.count for trial, _ in trials)
    if json:
        result_json({"heard": heard, "of_events": events})
    else:
        times = {0: "not at all", 1: "once"}.get(heard, f"{heard:,} times")
        result(f"{shown(motif, 60)} would have been heard {times} in {counted(events, 'event')}", style="bold")


def _written(text: str) -> Any:
    """A name, or what a score would have there."""
    from ensemble.score.source import read_text

    if text[:1] not in "{[":
        return text
    node, _ = read_text(text, "MOTIF")
    return node.value


def _offset(log: LogReader, begin: int | datetime | None) -> int:
    if begin is None or isinstance(begin, int):
        return min(begin or 0, log.end().offset)
    from ensemble.event import microseconds
    from ensemble.listening import offset_at

    at = offset_at(log, microseconds(begin))
    return log.end().offset if at is None else at


def _line(match: Match) -> str:
    names = [f"{event.topic} {event.offset}" for event in match.events]
    more = len(names) - EVENTS_SHOWN
    shown_ = ", ".join(names[:EVENTS_SHOWN]) + (f", and {more} more" if more > 0 else "")
    return f"{match.time:%Y-%m-%d %H:%M:%S}  {shown(match.key, 40):<12}  {shown_}"


COMMANDS = (("hear", hear, "ensemble hear scores/acme_fitness.yaml '{count: cart.added, times: 5, within: 10m}'"),)
