"""Yesterday's events through today's code: what comes out otherwise, and a take that has it (docs/replay.md).

Owns the two halves of a replay. As long as all comes out as it was, nothing is written: each batch is heard again and held
against the record. From the first that does not on, the past is played on into a take (`together.py`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import count
from operator import itemgetter
from time import monotonic
from typing import Any

import msgspec

from ensemble.broker.outbox import shard_of
from ensemble.broker.words import Outcome
from ensemble.cuts import before_event, cut, state_at
from ensemble.errors import OffsetError, ScoreError
from ensemble.event import Frame, decode, id_at
from ensemble.log import (
    Fork,
    LogReader,
    Position,
    Snapshot,
    count_shards,
    make_take,
    open_log,
    read_log,
    refuse_archive,
    take_of,
)
from ensemble.log import takes as kept
from ensemble.log.cut import place_of_offset, place_of_time
from ensemble.opening import read
from ensemble.ready import ready
from ensemble.replay.difference import Difference, Parting, difference
from ensemble.replay.following import is_same_seat
from ensemble.replay.playing import Playing
from ensemble.replay.record import Heard, Record, answers
from ensemble.replay.together import Together, in_turn
from ensemble.score import Score, load
from ensemble.score.finding import nearest
from ensemble.score.lifts import Lifts
from ensemble.score.personal import personal
from ensemble.score.vocabulary import Vocabulary
from ensemble.shown import Shown
from ensemble.takes import When, check_place


class Replay(msgspec.Struct, Shown, frozen=True, kw_only=True):
    """What came of a replay. It draws itself in a notebook."""

    store: str
    parent: str
    """The take that was replayed."""
    take: str | None
    """The take that has what came out otherwise; None: nothing did, and none was made."""
    since: int
    """The offset from which on it was replayed; of several shards, in the first."""
    upto: int
    """The offset up to which; of several shards, in the first."""
    events: int
    """How many were replayed, of all shards."""
    shards: int = 1
    players: tuple[str, ...]
    """Who played anew."""
    unsteady: Mapping[str, int]
    """Players that answered the same batch otherwise when they were asked once more, and how often."""
    unheard: Mapping[str, int]
    """Players that did not play, and how much is said now that they would have heard."""
    difference: Difference
    took_s: float

    def __bool__(self) -> bool:
        """Whether anything came out otherwise."""
        return bool(self.difference)

    def __repr__(self) -> str:
        into = "" if self.take is None else f", into the take {self.take!r}"
        return f"Replay({self.events:,} events of {self.parent!r}{into}: {self.difference!r})"


def replay(
    score: Score | str | os.PathLike[str] | Mapping[str, Any],
    since: When,
    *,
    players: Iterable[str] | None = None,
    take: str | None = None,
    store: str | None = None,
    calls: Mapping[str, Callable[..., Any]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Replay:
    """Run the events of a store from a place on through the code of a score, and tell what comes out otherwise.

    Shapes: `players` are those that play anew, None: all; what others said is taken as it was. `take` names the take that is
            made where something differs. `calls` gives the code of players by name, as in `ensemble.open`. `progress` is told
            how far it is: events, and how many they are. Of several shards `since` is a time, the id of an event, or 0.
    Errors: ScoreError; PlayerError; Unavailable; OffsetError if there is no such place; TypeError if `since` is none.
    """
    began_s = monotonic()
    asked = check_place(since)
    score = score if isinstance(score, Score) else load(score)
    store, parent = take_of((score.store.url or f".ensemble/{score.name}") if store is None else store)
    refuse_archive(store)
    if take is not None:
        kept.check_name(take)
        if take in (kept.MAIN, *kept.names(store)):
            raise kept.is_there(store, take)
    prepared = ready(score, calls, is_live=False)
    score = prepared.score
    chosen = _chosen(score, players)
    url = f"{store}#{parent}"
    with ExitStack() as stack:
        logs = [stack.enter_context(closing(read_log(url, shard))) for shard in range(count_shards(url) or 1)]
        places, uptos = _places(url, logs, asked), cut(logs, [log.end() for log in logs])
        lifts = Lifts(prepared.vocabulary)
        records = [
            Record(log, state_at(log, place), upto, lifts, len(logs))
            for log, place, upto in zip(logs, places, uptos, strict=True)
        ]
        playing = stack.enter_context(closing(Playing(prepared.players)))
        events = sum(upto.offset - place.offset for place, upto in zip(places, uptos, strict=True))
        made = Replay(
            store=store, parent=parent, take=None, since=places[0].offset, upto=uptos[0].offset, events=events,
            shards=len(logs), players=tuple(sorted(chosen)), unsteady={}, unheard={},
            difference=Difference(same=events, events=(), tables=()), took_s=0.0,
        )  # fmt: skip
        told = _told(progress, [place.offset for place in places], events)
        if not _is_as_it_was(records, score, playing, chosen, told):
            name = take or next(f"replay-{n}" for n in count(1) if f"replay-{n}" not in kept.names(store))
            forks = [record.place() for record in records]
            make_take(store, name, logs[0].name, [Fork(parent, log.id, at) for log, at in zip(logs, forks, strict=True)])
            try:
                made = _followed(made, records, name, score, playing, chosen, forks, told)
            except BaseException:  # nobody is left with half of a take
                kept.remove(store, name)
                kept.sweep(store, name)
                raise
    return msgspec.structs.replace(made, unsteady=dict(playing.unsteady), took_s=monotonic() - began_s)


def _told(progress: Callable[[int, int], None] | None, begins: Sequence[int], events: int) -> Callable[[int, int], None]:
    """What tells of progress, when it is told of a shard and the offset that it has come to."""
    ends = list(begins)

    def told(shard: int, end: int) -> None:
        ends[shard] = end
        if progress is not None:
            progress(sum(ends) - sum(begins), events)

    return told


def _chosen(score: Score, players: Iterable[str] | None) -> frozenset[str]:
    if isinstance(players, str) or not isinstance(players, Iterable | None):
        raise TypeError(f"players={players!r:.80}: who plays anew is a list of names, as ['pricing']; leave it out for all")
    names = list(score.players) if players is None else list(players)
    if players is not None and not names:
        raise ScoreError("players=[]: nobody is named who plays anew; name one, or leave it out for all")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"players=[{name!r:.80}]: the name of a player is a str; write players=['pricing']")
        if name not in score.players:
            near = nearest(name, score.players)
            raise ScoreError(
                f"players={name!r}: the score has no such player; "
                + (f"did you mean {near!r}?" if near else f"it has {', '.join(score.players) or 'none'}")
            )
    return frozenset(names)


def _places(url: str, logs: Sequence[LogReader], since: int | tuple[int] | str | None) -> Sequence[Position]:
    """Where it begins, shard by shard: of several, a consistent cut."""
    if since is None:
        return [log.begin() for log in logs]
    if isinstance(since, int):
        if len(logs) > 1 and since == 0:
            return [log.begin() for log in logs]
        if len(logs) > 1:
            raise OffsetError(
                f"{url}: it has {len(logs)} shards, each with offsets of its own; name a time, the id of an event, or 0"
            )
        return [place_of_offset(logs[0], since)]
    if isinstance(since, str):
        with read(url) as reader:
            event = reader._event_of(since)
        return before_event(event._rows.time_us, event.shard, event.offset, logs)
    return cut(logs, [place_of_time(log, since[0]) for log in logs])


def _is_as_it_was(
    records: Sequence[Record],
    score: Score,
    playing: Playing,
    chosen: frozenset[str],
    told: Callable[[int, int], None],
) -> bool:
    """Whether all comes out as it was. If not, the records are before the first frame that does not."""
    if any(record.state.score is not None and not _is_same_stage(record, score) for record in records):
        return False
    for record, frame in in_turn(records):
        heard = record.heard(frame)
        if heard is not None and not _is_as_then(frame, heard, record, score, playing, chosen):
            return False
        record.apply(frame)
        told(record.log.shard, frame.end)
        if "score" in frame.marks and not _is_same_stage(record, score):
            return False
    return True


def _is_same_stage(record: Record, score: Score) -> bool:
    """Whether the same players listen for the same, and the same motifs are heard, as far as the score says."""
    then = record.score
    return (
        then.motifs == score.motifs
        and all(is_same_seat(then, score, name) for name in score.players)
        and all(then.players[name].state.expire_us == spec.state.expire_us for name, spec in score.players.items())
    )


def _is_as_then(frame: Frame, heard: Heard, record: Record, score: Score, playing: Playing, chosen: frozenset[str]) -> bool:
    """Whether what a recorded batch led to is what it leads to now."""
    name = heard.batch.section
    if name not in score.players:
        return not (answers(frame, heard, record.log.shard) or heard.wrote or heard.later or heard.failed)
    if name not in chosen or playing.is_muted(name):
        return True
    then, now = record.score.players[name], score.players[name]
    if heard.failed and (then.retry, then.on_failure) != (now.retry, now.on_failure):
        return False
    events, refs, roots = record.tape.events(heard.batch.offsets)
    outcomes = playing.hear(heard.batch, events, refs, roots, record.state)
    if is_same(frame, heard, outcomes, record):
        return True
    playing.probe(heard.batch, events, refs, roots, record.state, outcomes)
    return False


def is_same(frame: Frame, heard: Heard, outcomes: Sequence[Outcome], record: Record) -> bool:
    """Whether these outcomes of a batch are what the log tells of it."""
    failed = {failure.offset: failure.error for outcome in outcomes for failure in outcome.failures}
    if failed != {offset: error for offset, (_, _, error) in heard.failed.items()}:
        return False
    wrote = {lane: state for outcome in outcomes for lane, state in outcome.wrote.items()}
    if wrote != heard.wrote and _decoded(wrote) != _decoded(heard.wrote):
        return False
    later = [(each.topic, each.key, each.data, each.cause) for outcome in outcomes for each in outcome.later]
    if later != [tuple(fields[1:5]) for fields in heard.later]:
        return False
    return _said_the_same(frame, heard, outcomes, record)


def _said_the_same(frame: Frame, heard: Heard, outcomes: Sequence[Outcome], record: Record) -> bool:
    rows, said = frame.rows, [outcome.said for outcome in outcomes if outcome.said is not None and len(outcome.said)]
    is_plain = record.shards == 1 and len(said) == 1 and not heard.failed
    if is_plain and rows is not None and rows.causes is not None and isinstance(rows.source_ix, int):  # all of it is answers
        now, column = said[0], said[0].topic_ix
        if rows.data == now.data and rows.keys == now.keys and list(rows.causes) == list(now.causes or ()):
            if isinstance(column, int) and isinstance(rows.topic_ix, int):
                return now.topics[column] == rows.topics[rows.topic_ix]
            return all(now.topic(row) == rows.filed(row) for row in range(len(now)))
    shard, log = record.log.shard, record.log
    then = [(each.home, each.cause, each.topic, each.key, each.data) for each in answers(frame, heard, shard)]
    now_said = [
        (
            shard if each.topic(row).startswith("_band.") else shard_of(each.keys[row], record.shards),
            ref if isinstance(ref, str) else id_at(log.past, log.id, ref),
            each.topic(row),
            each.keys[row],
            each.data[row],
        )
        for each in said
        for row, ref in enumerate(each.causes or ())
    ]  # in several shards the order is that of each
    return sorted(then, key=itemgetter(0)) == sorted(now_said, key=itemgetter(0))


def _decoded(wrote: Mapping[str, bytes | None]) -> dict[str, Any]:
    return {lane: None if state is None else decode(state) for lane, state in wrote.items()}


def _followed(
    made: Replay,
    records: Sequence[Record],
    name: str,
    score: Score,
    playing: Playing,
    chosen: frozenset[str],
    forks: Sequence[Position],
    told: Callable[[int, int], None],
) -> Replay:
    rules, shards = personal(score, Vocabulary(score)), len(records)
    with ExitStack() as stack:
        logs = [
            stack.enter_context(
                closing(open_log(
                    f"{made.store}#{name}", name=record.log.name, create=False, personal=rules, shard=shard, shards=shards
                ))
            )
            for shard, record in enumerate(records)
        ]  # fmt: skip
        together = Together(records, logs, score, playing, chosen)
        for record, frame in in_turn(records):
            together.follow(record.log.shard, frame)
            told(record.log.shard, frame.end)
        states = together.finish()
        partings = []
        for log, record, state, fork in zip(logs, records, states, forks, strict=True):
            log.save(Snapshot(log.end(), state.dump()))
            partings.append(Parting(record.log, log, (record.state, state), fork, (record.upto, log.end())))
        found = difference(partings)
    unheard: Counter[str] = Counter()
    for each in together.sections():
        if each.free and (each.name not in chosen or playing.is_muted(each.name)):
            unheard[each.name] += len(each.free)
    followed = sum(record.upto.offset - fork.offset for record, fork in zip(records, forks, strict=True))
    whole = msgspec.structs.replace(found, same=found.same + made.events - followed)
    return msgspec.structs.replace(made, take=name, unheard=dict(unheard), difference=whole)
