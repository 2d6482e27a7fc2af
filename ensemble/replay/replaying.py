"""Yesterday's events through today's code: what comes out otherwise, and a take that has it (docs/replay.md).

Owns the two halves of a replay. As long as all comes out as it was, nothing is written: each batch is heard again and held
against the record. From the first that does not on, the past is played on into a take (`following.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import count
from time import monotonic
from typing import Any

import msgspec

from ensemble.broker.words import Outcome
from ensemble.errors import ScoreError, Unavailable
from ensemble.event import Frame, decode
from ensemble.log import Fork, LogReader, Position, Snapshot, count_shards, make_take, open_log, read_log, take_of
from ensemble.log import takes as kept
from ensemble.log.cut import place_of_offset, place_of_time
from ensemble.opening import read
from ensemble.ready import ready
from ensemble.replay.difference import Difference, difference
from ensemble.replay.following import Following, is_same_seat
from ensemble.replay.playing import Playing
from ensemble.replay.record import Heard, Record, answers
from ensemble.score import Score, load
from ensemble.score.finding import nearest
from ensemble.score.lifts import Lifts
from ensemble.score.personal import personal
from ensemble.score.vocabulary import Vocabulary
from ensemble.shown import Shown
from ensemble.takes import When, state_at


class Replay(msgspec.Struct, Shown, frozen=True, kw_only=True):
    """What came of a replay. It draws itself in a notebook."""

    store: str
    parent: str
    """The take that was replayed."""
    take: str | None
    """The take that has what came out otherwise; None: nothing did, and none was made."""
    since: int
    """The offset from which on it was replayed."""
    upto: int
    """The offset up to which."""
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
        return f"Replay({self.upto - self.since:,} events of {self.parent!r}{into}: {self.difference!r})"


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
            how far it is: an offset, and the last.
    Errors: ScoreError; PlayerError; Unavailable; OffsetError if there is no such place.
    """
    began_s = monotonic()
    score = score if isinstance(score, Score) else load(score)
    store, parent = take_of(store or score.store.url or f".ensemble/{score.name}")
    if take is not None:
        kept.check_name(take)
        if take in (kept.MAIN, *kept.names(store)):
            raise Unavailable(f"store {store}: there is a take {take!r} already; choose another name, or drop it first")
    prepared = ready(score, calls, is_live=False)
    score = prepared.score
    chosen = _chosen(score, players)
    url = f"{store}#{parent}"
    if (count_shards(url) or 1) > 1:
        raise Unavailable(f"store {store}: it has {count_shards(url)} shards, and a replay reads one so far")
    with ExitStack() as stack:
        log = stack.enter_context(closing(read_log(url)))
        place, upto = _place(url, log, since), log.end()
        record = Record(log, state_at(log, place), upto, Lifts(prepared.vocabulary))
        playing = stack.enter_context(closing(Playing(prepared.players)))
        fork = _rehearsed(record, score, playing, chosen, place, progress)
        nothing = Difference(same=upto.offset - place.offset, events=(), tables=())
        made = Replay(
            store=store, parent=parent, take=None, since=place.offset, upto=upto.offset, players=tuple(sorted(chosen)),
            unsteady={}, unheard={}, difference=nothing, took_s=0.0,
        )  # fmt: skip
        if fork is not None:
            name = take or next(f"replay-{n}" for n in count(1) if f"replay-{n}" not in kept.names(store))
            make_take(store, name, log.name, [Fork(parent, log.id, fork)])
            try:
                made = _followed(made, record, log, name, score, playing, chosen, fork, progress)
            except BaseException:  # nobody is left with half of a take
                kept.remove(store, name)
                kept.sweep(store, name)
                raise
    return msgspec.structs.replace(made, unsteady=dict(playing.unsteady), took_s=monotonic() - began_s)


def _chosen(score: Score, players: Iterable[str] | None) -> frozenset[str]:
    names = list(score.players) if players is None else list(players)
    for name in names:
        if name not in score.players:
            near = nearest(name, score.players)
            raise ScoreError(
                f"players={name!r}: the score has no such player; "
                + (f"did you mean {near!r}?" if near else f"it has {', '.join(score.players) or 'none'}")
            )
    return frozenset(names)


def _place(url: str, log: LogReader, since: When) -> Position:
    if since is None:
        return log.begin()
    if isinstance(since, int):
        return place_of_offset(log, since)
    if isinstance(since, str):
        with read(url) as reader:
            return place_of_offset(log, reader.event(since).offset)
    from ensemble.event import microseconds

    return place_of_time(log, microseconds(since))


def _rehearsed(
    record: Record,
    score: Score,
    playing: Playing,
    chosen: frozenset[str],
    place: Position,
    progress: Callable[[int, int], None] | None,
) -> Position | None:
    """The place before the first frame that comes out otherwise; None: none does. The record is there then."""
    at = place
    if record.state.score is not None and not _is_same_stage(record, score):
        return at
    for frame in record.frames():
        heard = record.heard(frame)
        if heard is not None and not _is_as_then(frame, heard, record, score, playing, chosen):
            return Position(frame.seq, frame.first, frame.prev, at.time_us)
        record.apply(frame)
        at = Position(frame.seq + 1, frame.end, b"", frame.time_us)
        if progress is not None:
            progress(frame.end, record.upto.offset)
        if "score" in frame.marks and not _is_same_stage(record, score):
            following = next(record.frames(), None)
            return record.upto if following is None else Position(following.seq, following.first, following.prev, at.time_us)
    return None


def _is_same_stage(record: Record, score: Score) -> bool:
    """Whether the same players listen for the same, and the same motifs are heard, as far as the score says."""
    then = record.score
    return (
        then.motifs == score.motifs
        and all(is_same_seat(record, score, name) for name in score.players)
        and all(then.players[name].state.expire_us == spec.state.expire_us for name, spec in score.players.items())
    )


def _is_as_then(frame: Frame, heard: Heard, record: Record, score: Score, playing: Playing, chosen: frozenset[str]) -> bool:
    """Whether what a recorded batch led to is what it leads to now."""
    name = heard.batch.section
    if name not in score.players:
        return not (answers(frame, heard) or heard.wrote or heard.later or heard.failed)
    if name not in chosen or playing.is_muted(name):
        return True
    then, now = record.score.players[name], score.players[name]
    if heard.failed and (then.retry, then.on_failure) != (now.retry, now.on_failure):
        return False
    outcomes = playing.hear(heard.batch, heard.events, heard.refs, heard.roots, record.state)
    if is_same(frame, heard, outcomes):
        return True
    playing.probe(heard.batch, heard.events, heard.refs, heard.roots, record.state, outcomes)
    return False


def is_same(frame: Frame, heard: Heard, outcomes: Sequence[Outcome]) -> bool:
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
    return _said_the_same(frame, heard, outcomes)


def _said_the_same(frame: Frame, heard: Heard, outcomes: Sequence[Outcome]) -> bool:
    rows, said = frame.rows, [outcome.said for outcome in outcomes if outcome.said is not None and len(outcome.said)]
    if rows is None or rows.causes is None:
        return not said
    if len(said) == 1 and not heard.failed and isinstance(rows.source_ix, int):  # all of the frame is its answers
        now, column = said[0], said[0].topic_ix
        if rows.data == now.data and rows.keys == now.keys and list(rows.causes) == list(now.causes or ()):
            if isinstance(column, int) and isinstance(rows.topic_ix, int):
                return now.topics[column] == rows.topics[rows.topic_ix]
            return all(now.topic(row) == rows.filed(row) for row in range(len(now)))
    then = [(each.cause, each.topic, each.key, each.data) for each in answers(frame, heard)]
    return then == [
        (rows.name(each.causes[row]), each.topic(row), each.keys[row], each.data[row])
        for each in said
        if each.causes is not None
        for row in range(len(each))
    ]


def _decoded(wrote: Mapping[str, bytes | None]) -> dict[str, Any]:
    return {lane: None if state is None else decode(state) for lane, state in wrote.items()}


def _followed(
    made: Replay,
    record: Record,
    log: LogReader,
    name: str,
    score: Score,
    playing: Playing,
    chosen: frozenset[str],
    fork: Position,
    progress: Callable[[int, int], None] | None,
) -> Replay:
    rules = personal(score, Vocabulary(score))
    with closing(open_log(f"{made.store}#{name}", name=log.name, create=False, personal=rules)) as take:
        following = Following(record, take, score, playing, chosen)
        for frame in record.frames():
            following.follow(frame)
            if progress is not None:
                progress(frame.end, record.upto.offset)
        state = following.finish()
        end = take.end()
        take.save(Snapshot(end, state.dump()))
        found = difference(log, take, (record.state, state), fork, (record.upto, end))
    unheard = {
        each.name: len(each.free)
        for each in following.sections.values()
        if each.free and (each.name not in chosen or playing.is_muted(each.name))
    }
    shared = fork.offset - made.since
    return msgspec.structs.replace(
        made, take=name, unheard=unheard, difference=msgspec.structs.replace(found, same=found.same + max(0, shared))
    )
