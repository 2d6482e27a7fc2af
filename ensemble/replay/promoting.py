"""What a take says made the truth of its parent: by events that correct, appended; nothing that was written is changed.

Owns the corrections, and the judgement whether the parent has moved on in what they rest on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

import msgspec

from ensemble.broker import Broker, Opening, State
from ensemble.broker.words import Said
from ensemble.errors import Unavailable
from ensemble.event import Event, Ref, encode
from ensemble.log import EventLog, LogReader, Position, count_shards, hold, open_log, read_log, take_of
from ensemble.log import takes as kept
from ensemble.log.forgetting import forgetting_of
from ensemble.replay.difference import Change, Difference, difference
from ensemble.replay.record import Record
from ensemble.stage.base import Clock
from ensemble.stage.begin import encrypt_as_recorded, recover
from ensemble.takes import state_at

CORRECTED = "_band.corrected"
"""The topic of the events that correct."""
NAMED = 5
"""How many keys a refusal names."""


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """What a promotion has written."""

    take: str
    parent: str
    corrections: int
    """Events `_band.corrected`."""
    states: int
    """Keys of tables that were set to what they are in the take."""
    offset: int
    """That of the first correction."""


def promote(url: str, take: str) -> Promotion:
    """Append to the parent of a take what it says otherwise, and set the tables to what they are there; all of it, or nothing.

    Errors: Unavailable if either is being played, nothing differs, it was promoted before, or the parent has moved on in what
            the take rests on: the sentence says in what.
    """
    store, _ = take_of(f"{kept.split(url)[0]}#{take}")
    whole = f"{store}#{take}"
    if (count_shards(whole) or 1) > 1:
        raise Unavailable(f"store {store}: it has {count_shards(whole)} shards, and a take of one shard can be promoted so far")
    with ExitStack() as stack:
        if take == kept.MAIN:
            raise Unavailable(f"store {store}: main is the trunk; there is nothing to promote it to")
        _enter(stack, store, take, f"take {take!r}")
        now = stack.enter_context(closing(read_log(whole)))
        fork = now.fork
        assert fork is not None, "only main has none"
        try:
            log = stack.enter_context(closing(open_log(f"{store}#{fork.take}", name="", create=False, takes_over=False)))
        except Unavailable as error:
            raise Unavailable(
                f"{fork.take} can't be corrected now: {error}; stop who plays it, promote, and play again"
            ) from error
        upto = _replayed(now) or fork.at
        state = recover(log)
        encrypt_as_recorded(log, state.score)
        states = (state_at(log, upto), state_at(now, now.end()))
        found = difference(log, now, states, fork.at, (upto, now.end()))
        known = {"", *state.sections}  # a player that is new has its past before it yet
        found = Difference(
            same=found.same,
            events=[change for change in found.events if change.player in known],
            tables=[change for change in found.tables if change.player in known],
        )
        if not found:
            raise Unavailable(f"take {take!r} says nothing otherwise than {fork.take}; there is nothing to promote")
        _refuse_moved(log, states[0], upto, found, take, fork.take, now.id)
        return _corrected(log, state, found, states[1], take, fork.take, now.id, has_data=forgetting_of(log) is None)


def _enter(stack: ExitStack, store: str, take: str, what: str) -> None:
    try:
        stack.enter_context(hold(store, take))
    except Unavailable as error:
        raise Unavailable(f"{what} can't be promoted now: {error}") from error


def _replayed(log: LogReader) -> Position | None:
    """Up to which place of its parent a take was replayed; None: it was played for itself.

    Errors: Unavailable if a replay was begun and not finished.
    """
    fork = log.fork
    assert fork is not None
    found, is_begun = None, False
    for frame in log.frames(fork.at.seq):
        is_begun = is_begun or "replaying" in frame.marks
        if "replayed" in frame.marks:
            found = Position(*frame.marks["replayed"])
    if is_begun and found is None:
        raise Unavailable("this take is of a replay that was broken off; drop it (ensemble take drop), and replay again")
    return found


def _refuse_moved(log: LogReader, state: State, upto: Position, found: Difference, take: str, parent: str, log_id: str) -> None:
    """Nothing, if what the parent has done since leaves what the take says right."""
    keys: dict[str, set[str]] = {}
    for change in found.tables:
        keys.setdefault(change.player, set()).add(change.key)
    record = Record(log, state, log.end())
    moved: list[str] = []
    for frame in record.frames():
        if log_id in frame.marks.get("promoted", ()):
            raise Unavailable(
                f"take {take!r} was promoted already: its corrections are in {parent} from offset {frame.first} on"
            )
        touched = {(name, key) for name, writes in frame.marks.get("wrote", {}).items() for key in writes}
        touched |= {(name, key) for name, gone in frame.marks.get("expired", {}).items() for key in gone}
        heard = record.heard(frame)
        if heard is not None:
            touched |= {(heard.batch.section, lane) for lane in heard.batch.keys}
        moved += [f"{name} of {key!r}" for name, key in sorted(touched) if key in keys.get(name, ())]
        record.apply(frame)
    if moved:
        named = list(dict.fromkeys(moved))
        raise Unavailable(
            f"{parent} has moved on since take {take!r} was made from it: {', '.join(named[:NAMED])}"
            f"{', …' if len(named) > NAMED else ''} have heard or written more since offset {upto.offset}, so what the take "
            "says of them is out of date; nothing was changed: replay again (ensemble replay SCORE --from …), and promote that"
        )


def _corrected(
    log: EventLog,
    state: State,
    found: Difference,
    there: State,
    take: str,
    parent: str,
    log_id: str,
    *,
    has_data: bool,
) -> Promotion:
    broker = Broker(state, log_id=log.id, name=log.name, listeners={}, policies={})
    now_us = Clock().now_us()
    # Motifs are not listened for here: they go on from this place when the band is opened again, and miss nothing.
    frame = broker.open(Opening(), now_us, lambda patterns, offset: 0, log.rows)
    sealed = [] if frame is None else [log.seal(frame)]
    wrote: dict[str, dict[str, bytes | None]] = {}
    for change in found.tables:
        section = there.sections.get(change.player)
        wrote.setdefault(change.player, {})[change.key] = None if section is None else section.table.get(change.key)
    first = state.end
    frame = broker.correct(_said(found.events, take, has_data), wrote, {"promoted": [log_id, take]}, now_us)
    sealed.append(log.seal(frame))
    log.append(sealed)
    return Promotion(
        take=take, parent=parent, corrections=len(found.events), states=sum(map(len, wrote.values())), offset=first
    )


def _said(changes: Sequence[Change], take: str, has_data: bool) -> Said:
    """The corrections; without data where it may be somebody's: these events are of no topic whose data is encrypted."""
    refs: list[Ref] = []
    roots: list[Ref] = []
    for change in changes:
        if change.was is not None:
            refs.append(change.was.offset)
            roots.append(change.was.correlationid)
        else:
            assert change.now is not None
            refs.append(change.now.causationid or change.now.id)
            roots.append(change.now.correlationid)
    return Said(
        [CORRECTED],
        0,
        [change.key for change in changes],
        [encode({"take": take, "kind": change.kind, "player": change.player, **_both(change, has_data)}) for change in changes],
        refs,
        roots,
    )


def _both(change: Change, has_data: bool) -> Mapping[str, Any]:
    return {"was": _told(change.was, has_data), "now": _told(change.now, has_data)}


def _told(event: Event | None, has_data: bool) -> dict[str, Any] | None:
    if event is None:
        return None
    return {"id": event.id, "topic": event.topic, "key": event.key, **({"data": event.data} if has_data else {})}
