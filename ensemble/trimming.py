"""A store made smaller while nobody plays it: what its score says of the past, done at once (docs/size.md).

Owns the order: held for writing, folded, gone over, and what goes said in the log before it goes.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import msgspec

from ensemble.broker.needs import Needs, claims, needed
from ensemble.errors import Unavailable
from ensemble.event import Frame
from ensemble.listening import motif_reader, motives
from ensemble.log import count_shards, open_log, take_of
from ensemble.log.base import EventLog, Packed, Packing
from ensemble.log.retention import Retention, Rules, trim
from ensemble.score import Score, load
from ensemble.stage.begin import encrypt_as_recorded, recover


class Removed(msgspec.Struct, frozen=True):
    """What went by one rule."""

    rule: str
    shard: int
    first: int
    end: int
    """It lay between these offsets."""
    events: int


class Trimmed(msgspec.Struct, frozen=True):
    """What came of it, or would come of it."""

    name: str
    url: str
    before: int
    after: int
    """Bytes of the log."""
    removed: tuple[Removed, ...]
    begins: tuple[int, ...]
    """The offset at which each shard begins now."""


def trim_store(url: str, score: Score | None = None, *, is_rehearsal: bool = False) -> Trimmed:
    """Make the store at `url` as small as its score allows, or `score` in its place. `is_rehearsal`: only see what would go.

    Errors: Unavailable if it can't be used, is being played, or has no score that says anything; LogCorrupt.
    """
    shards = count_shards(url)
    if shards is None:
        take_of(url)  # says so where it is only the take that is not there
        raise Unavailable(f"store {url}: there is no store; check the path, or play a score with this store first")
    before = after = 0
    removed: list[Removed] = []
    begins: list[int] = []
    name = ""
    for shard in range(shards):
        with ExitStack() as stack:
            log = open_log(url, name="", create=False, shard=shard, shards=shards, takes_over=False)
            stack.callback(log.close)
            name = log.name
            before += log.size_bytes()
            done = _trim(log, score, shards, url, is_rehearsal=is_rehearsal)
            after += log.size_bytes() - (sum(map(_saved, done)) if is_rehearsal else 0)
            removed += [
                Removed(each.rule, shard, each.first, each.end, each.rows) for packed in done for each in packed.removals
            ]
            ends = [packed.end.offset for packed in done if packed.is_past]
            begins.append(ends[0] if ends else log.begin().offset)
    return Trimmed(name, url, before, after, tuple(removed), tuple(begins))


def _saved(packed: Packed) -> int:
    return sum(part.size for part in packed.parts) - packed.size


def _trim(log: EventLog, score: Score | None, shards: int, url: str, *, is_rehearsal: bool) -> list[Packed]:
    state = recover(log)
    encrypt_as_recorded(log, state.score)
    recorded = load(state.score) if state.score is not None else None
    score = score or recorded
    rules = None if score is None else Rules(score, shards)
    if rules is None or not rules.is_any:
        raise Unavailable(
            f"store {url}: its score says nothing of what goes; write retain: {{time: 90d}} into it, or compress: zstd under "
            "store:, and name the score: ensemble trim SCORE"
        )
    packing = log.packing()
    if packing is None and log.fork is not None:
        raise Unavailable(
            f"store {url}: a take is current, and nothing is taken from a store that has takes, since they stand on it; "
            "ensemble take list shows them. Make main current (ensemble take use main) and drop them (ensemble take drop NAME)"
        )
    assert packing is not None, "only a take's own log is kept as it is"
    played = score if recorded is None else recorded
    assert played is not None
    listened = motives(played)
    known = claims(state, played.players, listened)
    needs = needed(known, motif_reader(listened.values()), log.rows, log.frame_at)
    now_us = max(state.time_us, time.time_ns() // 1000)
    if is_rehearsal:
        return _rehearsed(packing, Retention(log, rules, is_rehearsal=True), needs, now_us)

    def say(statement: list[Any]) -> None:
        frame = Frame(state.end, max(now_us, state.time_us), None, {"removed": [statement]})
        sealed = log.seal(frame)
        state.apply(frame)
        log.append([sealed])

    return trim(log, rules, needs, now_us, say)


def _rehearsed(packing: Packing, retention: Retention, needs: Needs, now_us: int) -> list[Packed]:
    done = []
    for packed in retention.pack(needs, now_us, worth=0.0):
        packing.drop(packed)
        done.append(packed)
    return done
