"""What a take says made the truth of its parent: by events that correct, appended; nothing that was written is changed.

Owns what is to be corrected, and the judgement whether the parent has moved on in what that rests on. What was corrected before
is `corrections.py`'s to tell, and how all shards get their part or none is `log.pending`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress

import msgspec

from ensemble.broker import Broker, Opening, State
from ensemble.broker.words import Said
from ensemble.cuts import state_at
from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Frame, Ref, encode
from ensemble.log import EventLog, LogReader, Position, count_shards, hold, open_log, pending, read_log, take_of
from ensemble.log import takes as kept
from ensemble.log.forgetting import forgetting_of
from ensemble.log.own import own_at
from ensemble.replay.corrections import CORRECTED, Correction, Corrections, corrections_of
from ensemble.replay.difference import Parting, TableChange, difference, tables
from ensemble.replay.record import Record
from ensemble.stage.base import Clock
from ensemble.stage.begin import encrypt_as_recorded, recover
from ensemble.takes import store_naming

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
    """That of the first correction; of several shards, in the first that has one."""
    shard: int = 0
    """Where that is."""
    shards: int = 1


class Replayed(msgspec.Struct, frozen=True):
    """What a shard of a take says of the replay that made it."""

    upto: Position
    """Up to which place of its parent."""
    players: frozenset[str] | None
    """Who played anew; None: a take that was played for itself."""
    since: tuple[int, int]
    """The frame and the offset of its parent from which on."""


def promote(url: str, take: str) -> Promotion:
    """Append to the parent of a take what it says otherwise, and set the tables to what they are there; all of it, or nothing.

    Errors: Unavailable if either is being played, nothing differs, it was promoted before, or the parent has moved on in what
            the take rests on: the sentence says in what.
    """
    store, _ = take_of(f"{store_naming(url, take)}#{take}")
    if take == kept.MAIN:
        raise Unavailable(f"store {store}: main is the trunk; name a take that left it, or another one (ensemble take list)")
    shards = count_shards(f"{store}#{take}") or 1
    with ExitStack() as stack:
        _enter(stack, store, take, f"take {take!r}")
        there = [stack.enter_context(closing(read_log(f"{store}#{take}", shard))) for shard in range(shards)]
        fork = there[0].fork
        assert fork is not None, "only main has none"
        parent = fork.take
        logs = _held(stack, f"{store}#{parent}", shards)
        replayed = [_replayed(log) for log in there]
        partings = []
        for log, now, made in zip(logs, there, replayed, strict=True):
            assert now.fork is not None
            both = state_at(log, made.upto), state_at(now, now.end())
            partings.append(Parting(log, now, both, now.fork.at, (made.upto, now.end())))
        wanted, changed = _wanted(partings, take, parent, replayed)
        frames, states = [], [recover(log) for log in logs]
        for log, state, parting, said, set_ in zip(logs, states, partings, wanted, changed, strict=True):
            encrypt_as_recorded(log, state.score)
            frames.append(_frames(log, shards, state, parting, said, set_, take))
        _append(kept.place(store, parent), logs, frames)
    shard = next((shard for shard, said in enumerate(wanted) if said), 0)
    return Promotion(
        take=take, parent=parent, corrections=sum(map(len, wanted)), states=sum(map(len, changed)),
        offset=frames[shard][-1].first, shard=shard, shards=shards,
    )  # fmt: skip


def _held(stack: ExitStack, url: str, shards: int) -> list[EventLog]:
    """The logs of what is to be corrected, to write."""
    parent = kept.split(url)[1]
    try:
        return [
            stack.enter_context(
                closing(open_log(url, name="", create=False, shard=shard, shards=shards, takes_over=False))
            )
            for shard in range(shards)
        ]  # fmt: skip
    except Unavailable as error:
        raise Unavailable(f"{parent} can't be corrected now: {error}; stop who plays it, promote, and play again") from error


def _wanted(
    partings: Sequence[Parting], take: str, parent: str, replayed: Sequence[Replayed]
) -> tuple[list[list[Correction]], list[list[TableChange]]]:
    """What is to be corrected, and what tables are to be set to, shard by shard. Unavailable if that is nothing, or wrong."""
    known = {"", *(name for parting in partings for name in parting.states[0].sections)}
    # A player that the parent does not know has its past before it yet.
    found = difference(partings)
    changes = [change for change in found.events if change.player in known]
    changed = [[each for each in tables(*parting.states) if each.player in known] for parting in partings]
    mine = corrections_of(changes, take)
    earlier = Corrections()
    for parting, made in zip(partings, replayed, strict=True):
        earlier.read(parting.was, made.since[0], made.upto.seq)
    _refuse_promoted(partings, take, parent)
    _refuse_moved(partings, changed, mine, take, parent)
    players = replayed[0].players
    if players is not None and not earlier.players <= players:
        raise Unavailable(
            f"take {take!r} takes what {', '.join(sorted(earlier.players - players))} said as it was recorded, and that was "
            f"corrected in {parent} before, by the promotion of {', '.join(earlier.takes)}: nothing was changed; replay "
            f"{', '.join(sorted(earlier.players | players))} (ensemble replay SCORE --from … --players …), and promote that"
        )
    begins = {} if players is None else {shard: made.since[1] for shard, made in enumerate(replayed)}
    mine = earlier.still_to_say(mine, take, begins)
    if not mine and not any(changed):
        of = f", as it was corrected by the promotion of {', '.join(earlier.takes)}" if earlier.takes else ""
        raise Unavailable(
            f"take {take!r} says nothing otherwise than {parent}{of}; there is nothing to promote (ensemble take diff {parent} "
            f"{take})"
        )
    return [[each for each in mine if each.shard == parting.was.shard] for parting in partings], changed


def _enter(stack: ExitStack, store: str, take: str, what: str) -> None:
    try:
        stack.enter_context(hold(store, take))
    except Unavailable as error:
        raise Unavailable(f"{what} can't be promoted now: {error}") from error


def _replayed(log: LogReader) -> Replayed:
    """Up to which place of its parent a shard of a take was replayed, and who played anew.

    Errors: Unavailable if a replay was begun and not finished.
    """
    fork = log.fork
    assert fork is not None
    upto, begun = None, None
    for frame in log.frames(fork.at.seq):
        begun = frame.marks.get("replaying", begun)
        if "replayed" in frame.marks:
            upto = Position(*frame.marks["replayed"])
    if begun is None:
        return Replayed(fork.at, None, (fork.at.seq, fork.at.offset))
    if upto is None:
        raise Unavailable("this take is of a replay that was broken off; drop it (ensemble take drop), and replay again")
    _, _, players, seq, offset = begun
    return Replayed(upto, frozenset(players), (seq, offset))


def _refuse_promoted(partings: Sequence[Parting], take: str, parent: str) -> None:
    for parting in partings:
        for frame in parting.was.frames(parting.since.seq):
            if parting.now.id in frame.marks.get("promoted", ()):
                raise Unavailable(
                    f"take {take!r} was promoted already: its corrections are in {parent} from offset {frame.first} on, so "
                    f"nothing is left to do; drop it if it is not needed any more: ensemble take drop {take}"
                )


def _refuse_moved(
    partings: Sequence[Parting],
    changed: Sequence[Sequence[TableChange]],
    mine: Sequence[Correction],
    take: str,
    parent: str,
) -> None:
    """Nothing, if what the parent has done since leaves what the take says right."""
    moved: list[str] = []
    lately = Corrections()
    for parting, tables_ in zip(partings, changed, strict=True):
        lately.read(parting.was, parting.upto[0].seq, parting.was.end().seq)
        keys = {(each.player, each.key) for each in tables_}
        record = Record(parting.was, parting.states[0], parting.was.end(), shards=len(partings))
        for frame in record.frames():
            touched = {(name, key) for name, writes in frame.marks.get("wrote", {}).items() for key in writes}
            touched |= {(name, key) for name, gone in frame.marks.get("expired", {}).items() for key in gone}
            heard = record.heard(frame)
            if heard is not None:
                touched |= {(heard.batch.section, lane) for lane in heard.batch.keys}
            moved += [f"{name} of {key!r}" for name, key in sorted(touched & keys)]
            record.apply(frame)
    both = lately.both(mine)
    if both:
        raise Unavailable(
            f"{parent} has moved on since take {take!r} was made from it: {', '.join(lately.takes)} was promoted, and corrects "
            f"{len(both):,} of the same events, the first of them {both[0].about}; nothing was changed: replay again "
            "(ensemble replay SCORE --from …), and promote that, which corrects what is left"
        )
    if moved:
        named = list(dict.fromkeys(moved))
        more, have = ", …" * (len(named) > NAMED), "has" if len(named) == 1 else "have"
        raise Unavailable(
            f"{parent} has moved on since take {take!r} was made from it: {', '.join(named[:NAMED])}{more} {have} heard or "
            f"written more since offset {partings[0].upto[0].offset}, so what the take says of them is out of date; nothing "
            "was changed: replay again (ensemble replay SCORE --from …), and promote that"
        )


def _frames(
    log: EventLog,
    shards: int,
    state: State,
    parting: Parting,
    said: Sequence[Correction],
    changed: Sequence[TableChange],
    take: str,
) -> list[Frame]:
    """What is to be appended to a shard of the parent."""
    broker = Broker(
        state, log_id=log.id, name=log.name, shard=log.shard, shards=shards, listeners={}, policies={}, past=log.past
    )
    now_us, there = Clock().now_us(), parting.states[1]
    # Motifs are not listened for here: they go on from this place when the band is opened again, and miss nothing.
    frame = broker.open(Opening(), now_us, lambda patterns, offset: 0, log.rows)
    wrote: dict[str, dict[str, bytes | None]] = {}
    for change in changed:
        section = there.sections.get(change.player)
        wrote.setdefault(change.player, {})[change.key] = None if section is None else section.table.get(change.key)
    words = _words(said, has_data=forgetting_of(log) is None)
    made = broker.correct(words, wrote, {"promoted": [parting.now.id, take]}, now_us)
    return [made] if frame is None else [frame, made]


def _words(corrections: Sequence[Correction], *, has_data: bool) -> Said:
    """The corrections as events; without data where it may be somebody's: these are of no topic whose data is encrypted."""
    refs: list[Ref] = [each.cause for each in corrections]
    told = [encode(each.data if has_data else each.without_data()) for each in corrections]
    return Said([CORRECTED], 0, [each.key for each in corrections], told, refs, [each.root for each in corrections])


def _append(place: str, logs: Sequence[EventLog], frames: Sequence[Sequence[Frame]]) -> None:
    """Append to each shard what it is to get: to all of them, or, if this ends in between, by whoever opens them next."""
    if len(logs) == 1:
        logs[0].append([logs[0].seal(frame) for frame in frames[0]])
        return
    board = own_at(place).board()
    pending.decide(board, logs, frames)
    try:
        for log, each in zip(logs, frames, strict=True):
            log.append([log.seal(frame) for frame in each])
    except Unavailable as error:
        raise Unavailable(
            f"{error}; the promotion holds all the same: each shard gets its part when it is opened next"
        ) from error
    with suppress(Unavailable, LogCorrupt):  # what is left of it says nothing that is not so
        pending.clear(board, logs)
