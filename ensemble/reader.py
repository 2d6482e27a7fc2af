"""The reading half of a band, for a store that anybody plays, or nobody.

Owns what can be seen of a log: events, chains, tables, dead letters, how the band stands. It takes no lock and writes nothing.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from heapq import merge
from itertools import chain
from types import TracebackType
from typing import Any, Self

import msgspec

from ensemble.broker.outbox import is_copy
from ensemble.broker.state import State, dedupe_key
from ensemble.errors import EnsembleError, OffsetError, Unavailable
from ensemble.event import EPOCH, Event, Frame, Match, decode
from ensemble.history import History, failures, history
from ensemble.log import place_of
from ensemble.log.base import LogReader
from ensemble.log.cut import FORMS, CutLog, place_of_offset, place_of_time, read_place
from ensemble.motif import matches, pattern_fault
from ensemble.score import Score, load
from ensemble.score.costs import cost_of
from ensemble.score.lifts import Lifts
from ensemble.score.vocabulary import Vocabulary
from ensemble.shown import Shown, data_frame
from ensemble.stage.base import Shard
from ensemble.stage.view import Question, StateView, merged
from ensemble.status import Chain, DeadLetter, Reaction, Status
from ensemble.table import Table

FOLLOW_S = 0.02
"""How often a reader looks for what is new."""
FOLLOW_MOST_S = 1.0
"""How often at the least, where each look is a request: the longer nothing comes, the less often."""

Place = tuple[int, int]
"""Where an event lies: its shard, and its offset there."""

Homes = Mapping[str, tuple[int, int, int | None]]
"""Id of a log -> the shard of which it is, or of whose past, and the offsets of its events there: from, and up to."""
At = int | datetime | str | Sequence[int]
"""A place in the past: an offset, a time, the id of an event, or an offset for each shard."""


class Reader(Shown):
    """The reading half of a band: any process may hold one, and disturbs nobody."""

    _then = ""
    """What is said of the moment that is looked at, if it is not now."""

    def __init__(self, shards: Sequence[Shard], url: str) -> None:
        self._shards = shards
        self.url = url

    @property
    def name(self) -> str:
        return self._shards[0].log.name

    @property
    def id(self) -> str:
        """The log's id, with which the ids of its events begin; of several shards, that of the first."""
        return self._shards[0].log.id

    # Events

    def events(
        self,
        pattern: str = ">",
        *,
        key: str | None = None,
        since: int | datetime | str | None = None,
        until: int | datetime | str | None = None,
        lifted: bool = False,
    ) -> Iterator[Event]:
        """The events of the log as of now, in order; those of several shards in the order in which they were written.

        Shapes: data is what was said, in the `version` in which it was said; `lifted`: as players hear it now, by the score
                that was played last.

        Units: `since` is an offset (in each shard) or a time (aware datetime or RFC 3339 text), and so is `until`, which is not
               included. Times are the events' own, `event.time`; these may go back from one event to the next, so all of the
               log is looked through. To read a part of a long log fast, name offsets.
        Errors: ScoreError where an upcaster of that score can't be found. Data that can't be lifted is an InvalidEvent when it
                is looked at.
        """
        _check(pattern, key)
        start, stop = _start(since, "since="), None if until is None else _start(until, "until=")
        lift = self._lift() if lifted else None
        yield from _in_time(self._events(shard, pattern, key, start, stop, lift) for shard in self._shards)

    def _lift(self) -> Callable[[Frame], Frame]:
        """What brings events to the versions of the score that was played last."""
        document = next(iter(self.states())).score
        return Lifts(Vocabulary(load(document) if document else Score(name=self.name))).frame

    def _events(
        self,
        shard: Shard,
        pattern: str,
        key: str | None,
        start: int | tuple[int],
        stop: int | tuple[int] | None,
        lift: Callable[[Frame], Frame] | None,
    ) -> Iterator[Event]:
        first = start if isinstance(start, int) else 0
        if len(self._shards) > 1:  # others may be longer
            first = min(first, shard.log.end().offset)
        for frame in shard.log.rows(first):
            if isinstance(stop, int) and frame.first >= stop:
                return
            yield from self._whole(_fitting(frame if lift is None else lift(frame), pattern, key, start, stop))

    def _whole(self, events: Iterable[Event]) -> Iterator[Event]:
        """The same, those that are matches with the events that they are made of."""
        for event in events:
            rows, ix = event._rows, event._ix
            if rows.extras is None or not rows.parts(ix):
                yield event
            else:
                yield Match(rows, ix, msgspec.UNSET, partial(self._parts, event.shard))

    def _parts(self, shard: int, offsets: Sequence[int]) -> list[Event]:
        return [self._at((shard, offset)) for offset in offsets]

    def tail(self, pattern: str = ">", *, key: str | None = None, since: int | datetime | str | None = None) -> Iterator[Event]:
        """The same from now on, or from `since` on, and it goes on with what is to come, until it is closed."""
        _check(pattern, key)
        ends = [shard.log.end().offset for shard in self._shards]
        starts: list[int | tuple[int]] = [end if since is None else _start(since, "since=") for end in ends]
        offsets = [start if isinstance(start, int) else 0 for start in starts]
        if len(ends) > 1:  # others may be longer
            offsets = [min(pair) for pair in zip(offsets, ends, strict=True)]

        def new(ix: int) -> Iterator[Event]:
            for frame in self._shards[ix].log.rows(offsets[ix]):
                offsets[ix] = frame.end
                yield from self._whole(_fitting(frame, pattern, key, starts[ix], None))

        log_ids = [shard.log.id for shard in self._shards]
        while True:
            yield from _in_time(new(ix) for ix in range(len(offsets)))
            if not self._follow(offsets):
                return
            if [shard.log.id for shard in self._shards] != log_ids:
                raise Unavailable(f"{self.url}: it was rolled back, or plays another take now; read it again from there")

    def event(self, id: str) -> Event:
        """The event with this id.

        Errors: OffsetError if there is none; TypeError if it is no text.
        """
        if not isinstance(id, str):
            raise TypeError(f"{id!r:.80} is no id of an event; give a str, such as event.id or receipt.id")
        place = _place(id, self._homes)
        if place is not None:
            return self._at(place)
        for ix, shard in enumerate(self._shards):
            known = shard.view.seen(id)
            if known is not None:
                return self._at((ix, known))
        for event in chain(self.events(), self.events("_band.>")):
            if event.id == id:
                return event
        raise OffsetError(f"there is no event {id!r} in {self.url}; list them with band.events() or `ensemble events`")

    def _event_of(self, place: str) -> Event:
        """The event that a place names by its id. OffsetError, with all that a place may be."""
        try:
            return self.event(place)
        except OffsetError as error:
            raise OffsetError(f"{error}; {FORMS}") from error

    def why(self, id: str) -> Chain:
        """What led to an event, and all that it led to.

        Errors: OffsetError if there is no such event.
        """
        event = self.event(id)
        causes: list[Event] = []
        seen = {_place_of(event)}  # who publishes says what caused it, and may say that it was itself
        waiting = self._causes(event)
        while waiting:
            cause = waiting.pop()
            if _place_of(cause) not in seen:
                seen.add(_place_of(cause))
                causes.append(cause)
                waiting += self._causes(cause)
        if any(isinstance(each, Match) for each in (event, *causes)):  # what led to one part comes between others
            causes.sort(key=lambda cause: (cause.written_at, cause.shard, cause.offset), reverse=True)
        later = [event]
        for ix, shard in enumerate(self._shards):  # in another shard, whose clock may be behind, all of it may be later
            begin = event.offset + 1 if ix == event.shard else 0
            for frame in shard.log.rows(min(begin, shard.log.end().offset)):
                assert frame.rows is not None
                rows = frame.rows
                later += [rows.event(row) for row in range(max(0, begin - frame.first), frame.count) if not is_copy(rows, row)]
        return Chain(event, tuple(reversed(causes)), _reaction(event, _answers(later, self._homes)))

    def _causes(self, event: Event) -> list[Event]:
        """The events that it answers: one, or all that a match is made of."""
        parts = event._rows.parts(event._ix)
        if parts:
            return [part for offset in parts if (part := self._if_there(event.shard, offset)) is not None]
        cause = self._cause(event)
        return [] if cause is None else [cause]

    def _cause(self, event: Event) -> Event | None:
        """The event that it answers; None if it answers none, or one of somebody else's log."""
        given = event.causationid
        if given is None:
            return None
        rows, ix = event._rows, event._ix
        offset = rows.extra(ix, "cause")
        if offset is None and rows.causes is None:  # from outside: rather one of the same source
            offset = self._shards[event.shard].view.seen(dedupe_key({"id": given, "source": event.source}))
        try:
            if isinstance(offset, str):
                return self._born(offset)
            return self.event(given) if offset is None else self._at((event.shard, offset))
        except OffsetError:
            return None

    def _if_there(self, shard: int, offset: int) -> Event | None:
        """The event at a place; None if retention took it."""
        try:
            return self._at((shard, offset))
        except OffsetError:
            return None

    def _born(self, name: str) -> Event | None:
        """The event that got this name where it was written first; None if it is not here."""
        place = _place(name, self._homes)
        if place is not None:
            return self._at(place)
        return next((event for event in self.events() if event._rows.born(event._ix) == name), None)

    # The past

    def at(self, place: At) -> PastReader:
        """The band as it was: a reader that sees what was written before a place, and nothing of what came after.

        Shapes: an offset: as it was when the event there was about to be written; of several shards, one for each, `[17, 4]`.
                A time (aware datetime or RFC 3339 text): what was written before it. The id of an event: as it was when that
                was about to be written, in the other shards what was written before that time. Frames are never divided.
        Errors: OffsetError if an offset lies past the end, or one is given for several shards, or there is no such event;
                TypeError if it is no place.
        """
        logs = [shard.log for shard in self._shards]
        asked: int | tuple[int] | str | list[int]
        if isinstance(place, Sequence) and not isinstance(place, str | bytes):
            asked = [_offset(each) for each in place]
        else:
            asked = read_place(place, "at=", ids=True)
        if isinstance(asked, str):
            event = self._event_of(asked)
            time_us = event._rows.time_us
            places = [place_of_time(log, time_us) for log in logs]
            places[event.shard] = place_of_offset(logs[event.shard], event.offset)
            return PastReader([CutLog(log, at) for log, at in zip(logs, places, strict=True)], self.url)
        if isinstance(asked, tuple):
            return PastReader([CutLog(log, place_of_time(log, asked[0])) for log in logs], self.url)
        offsets = [asked] if isinstance(asked, int) else asked
        if len(offsets) != len(logs):
            raise OffsetError(
                f"{self.url} has {len(logs)} shard{'s' * (len(logs) != 1)}, each with offsets of its own, and "
                f"{len(offsets)} {'is' if len(offsets) == 1 else 'are'} given; give a time, or an offset for each shard"
            )
        return PastReader([CutLog(log, place_of_offset(log, each)) for log, each in zip(logs, offsets, strict=True)], self.url)

    # State

    def table(self, name: str, type: Any = None, *, at: At | None = None) -> Table:
        """A player's state by key, as of each look, or as it was `at` a place: dicts, or of a type (Struct, dataclass, model).

        Errors: KeyError if no player of that name has played here; of a place, as `at`.
        """
        if at is not None:
            return self.at(at).table(name, type)
        self._check_player(name)
        return Table(name, [shard.view for shard in self._shards], type)

    def dead(self, player: str | None = None, *, at: At | None = None) -> list[DeadLetter]:
        """The dead letters, in the order in which they died; as they are, or were `at` a place."""
        if at is not None:
            return self.at(at).dead(player)
        if player is not None:
            self._check_player(player)
        letters = [
            self._dead_letter(ix, *each)
            for ix, shard in enumerate(self._shards)
            for each in shard.view.dead()
            if player in (None, each[2])
        ]
        return letters if len(self._shards) == 1 else sorted(letters, key=lambda letter: letter.at)

    def _dead_letter(self, shard: int, letter: int, offset: int, name: str) -> DeadLetter:
        event, told = self._at((shard, offset)), self._at((shard, letter))
        data, at = told.data, told.written_at
        if letter == offset:  # a copy that came here as held, and brought its letter along
            payload, time_us, *_ = told._rows.extra(told._ix, "letter")
            data, at = decode(payload), EPOCH + timedelta(microseconds=time_us)
        return DeadLetter(event, name, data["attempts"], data["error"], data["traceback"], at, data["held"])

    def _check_player(self, name: str) -> None:
        known = dict.fromkeys(name for shard in self._shards for name in shard.view.sections())
        if not isinstance(name, str) or name not in known:
            raise KeyError(f"no player {name!r} has played in {self.url}{self._then}; there are {', '.join(known) or 'none'}")

    def status(self, *, at: At | None = None) -> Status:
        """How the band stands, or stood `at` a place."""
        if at is not None:
            return self.at(at).status()
        standing = merged([shard.view.standing() for shard in self._shards])
        requests: Counter[str] = sum((Counter(shard.log.requests()) for shard in self._shards), Counter())
        return Status(
            self.name,
            self.id,
            self.url,
            standing.events,
            standing.frames,
            self._size(),
            standing.topics,
            standing.sections,
            standing.sources,
            standing.timers,
            self._notes(),
            dict(requests),
            cost_of(requests, standing.costs) if requests else None,
        )

    def frame(self, pattern: str = ">", **chosen: Any) -> Any:
        """Events as a pandas DataFrame, a row each; chosen as by `events`."""
        fields = ("id", "topic", "key", "data", "time", "shard", "offset", "source", "causationid", "correlationid")
        return data_frame([{name: getattr(event, name) for name in fields} for event in self.events(pattern, **chosen)])

    def history(self, *, until: int | datetime | None = None) -> History:
        """What was played, hearing by hearing, to the end as of now or until an offset or a time, not included."""
        return history([shard.log for shard in self._shards], until)

    def failures(self, events: Sequence[Event]) -> dict[Place, dict[str, list[str]]]:
        """How often players failed at these events: (shard, offset) -> player -> the error of each attempt."""
        return failures([shard.log for shard in self._shards], events)

    def states(self) -> Iterator[State]:
        """What each shard knows, as its log adds up to: a copy, whoever plays."""
        for shard in self._shards:
            folded = FoldedView(shard.log)
            yield folded._ask(lambda state: state)

    # What a band, and the past, do in another way

    def _notes(self) -> tuple[str, ...]:
        return ()

    def _size(self) -> int | None:
        return sum(shard.log.size_bytes() for shard in self._shards)

    def _follow(self, offsets: Sequence[int]) -> bool:
        """Wait until a shard has something from its offset here on; False: there never will be."""
        pause_s, most_s = FOLLOW_S, FOLLOW_MOST_S if place_of(self.url)[0] == "objects" else FOLLOW_S
        while all(shard.log.end().offset <= offset for shard, offset in zip(self._shards, offsets, strict=True)):
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, most_s)
        return True

    @property
    def _homes(self) -> Homes:
        homes: dict[str, tuple[int, int, int | None]] = {}
        for ix, shard in enumerate(self._shards):
            first = 0
            for end, before in shard.log.past:
                homes[before], first = (ix, first, end), end
            homes[shard.log.id] = (ix, first, None)
        return homes

    def _at(self, place: Place) -> Event:
        ix, offset = place
        frame = self._shards[ix].log.frame_at(offset)
        assert frame.rows is not None
        return next(self._whole((frame.rows.event(offset - frame.first),)))

    def __repr__(self) -> str:
        """Short, and never an error: notebooks and debuggers show it at any moment."""
        try:
            end = sum(shard.log.end().offset for shard in self._shards)
        except EnsembleError:
            return f"{type(self).__name__}({self.name!r}, {self.url!r}, closed)"
        return f"{type(self).__name__}({self.name!r}, {self.url!r}, {end:,} event{'' if end == 1 else 's'})"

    def close(self) -> None:
        """Let go of the store."""
        for shard in self._shards:
            shard.log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class PastReader(Reader):
    """A band as it was at a place, made by `Reader.at`: nothing comes to it any more. Closing it leaves the store open."""

    _then = " by then"

    def __init__(self, logs: Sequence[LogReader], url: str) -> None:
        super().__init__([Shard(log, FoldedView(log)) for log in logs], url)

    def _follow(self, offsets: Sequence[int]) -> bool:
        return False

    def _size(self) -> int | None:
        return None


class FoldedView(StateView):
    """What a log adds up to as of each question; it is folded as far as it goes first."""

    def __init__(self, log: LogReader) -> None:
        super().__init__(self._ask_folded)
        self._log = log
        self._state: State | None = None
        self._seq = 0
        self._folding = threading.RLock()
        """Any thread may ask; one folds."""
        self._forgotten = 0
        """How many keys of people were destroyed when it was folded."""

    def _ask_folded(self, question: Question) -> Any:
        with self._folding:
            forgotten = self._log.forgotten()
            if self._state is None or forgotten != self._forgotten or not self._fold(self._state):
                self._forgotten = forgotten
                snapshot = self._log.snapshot()
                self._state = State() if snapshot is None else State.load(snapshot.state)
                self._seq = 0 if snapshot is None else snapshot.at.seq
                self._fold(self._state)
            return question(self._state)

    def _fold(self, state: State) -> bool:
        """Fold what has come; False: retention took some of it meanwhile."""
        for frame in self._log.frames(self._seq):
            if frame.seq != self._seq:
                return False
            state.apply(frame)
            self._seq += 1
        return True

    def score(self) -> Mapping[str, Any] | None:
        """The document of the score that was played last."""
        document: Mapping[str, Any] | None = self._ask(lambda state: state.score)
        return document


def _check(pattern: str, key: str | None) -> None:
    """ValueError unless it is a topic pattern; TypeError if it, or the key, is no text."""
    if not isinstance(pattern, str):
        raise TypeError(f"pattern {pattern!r:.80} is no text; give a str, such as 'order.*'")
    if not isinstance(key, str | None):
        raise TypeError(f"key={key!r:.80}: the key of an event is a str; give one, or leave it out for all")
    fault = pattern_fault(pattern)
    if fault is not None:
        raise ValueError(f"pattern {pattern!r:.80}: {fault[0]}; {fault[1]}")


def _fitting(
    frame: Frame, pattern: str, key: str | None, start: int | tuple[int], stop: int | tuple[int] | None
) -> Iterator[Event]:
    """The events of a frame that are asked for.

    All rows of a frame have its time but those that brought their own, so a frame in which none did is passed over as a whole.
    """
    rows = frame.rows
    assert rows is not None
    from_us = None if isinstance(start, int) else start[0]
    upto_us = None if stop is None or isinstance(stop, int) else stop[0]
    is_timed = from_us is not None or upto_us is not None
    if is_timed and rows.extras is None:
        if not _lies_in(frame.time_us, from_us, upto_us):
            return
        is_timed = False
    fits = [matches(pattern, topic) for topic in rows.topics]
    if not any(fits):
        return
    ix = rows.topic_ix
    first = max(0, start - frame.first) if isinstance(start, int) else 0
    last = min(len(rows), stop - frame.first) if isinstance(stop, int) else len(rows)
    for row in range(first, last):
        if not fits[ix if isinstance(ix, int) else ix[row]] or (key is not None and rows.keys[row] != key):
            continue
        if is_timed:
            own_us = rows.extra(row, "time_us")
            if not _lies_in(frame.time_us if own_us is None else own_us, from_us, upto_us):
                continue
        yield rows.event(row)


def _lies_in(time_us: int, from_us: int | None, upto_us: int | None) -> bool:
    return (from_us is None or time_us >= from_us) and (upto_us is None or time_us < upto_us)


def _start(since: int | datetime | str | None, what: str) -> int | tuple[int]:
    """An offset; or a time in microseconds, in a tuple."""
    found = 0 if since is None else read_place(since, what)
    assert not isinstance(found, str)
    if isinstance(found, int) and found < 0:
        raise OffsetError(f"{what}{found}: an offset is not negative; the first is 0")
    return found


def _offset(given: object) -> int:
    """One of those that are given for each shard."""
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{given!r:.80} is no offset; of several shards give one (int) for each: [17, 4]")
    return given


def _in_time(streams: Iterable[Iterator[Event]]) -> Iterator[Event]:
    """The events of all shards, in the order of the times at which they were written."""
    each = list(streams)
    return each[0] if len(each) == 1 else merge(*each, key=lambda event: event._rows.time_us)


def _place_of(event: Event) -> Place:
    return event.shard, event.offset


def _answers(events: list[Event], homes: Homes) -> dict[Place, list[Event]]:
    """Place -> the events that answer the one there, of events in order, shard by shard."""
    named: dict[str, Place] = {}
    for event in events:
        given = event._rows.given_id(event._ix)
        if given is not None:
            named[event._rows.born(event._ix)] = _place_of(event)
            named.setdefault(given, _place_of(event))
            named.setdefault(dedupe_key({"id": given, "source": event.source}), _place_of(event))
    answers: dict[Place, list[Event]] = {}
    for event in events[1:]:
        rows, ix = event._rows, event._ix
        parts = rows.parts(ix)
        for part in parts:
            answers.setdefault((event.shard, part), []).append(event)
        if parts:
            continue
        ref = rows.extra(ix, "cause")
        if ref is None:
            ref = rows.extra(ix, "causationid") if rows.causes is None else rows.causes[ix]
        if isinstance(ref, int):
            cause: Place | None = (event.shard, ref)
        elif ref is None:
            cause = None
        else:
            cause = named.get(dedupe_key({"id": ref, "source": event.source}), named.get(ref, _place(ref, homes)))
        if cause is not None:
            answers.setdefault(cause, []).append(event)
    return answers


def _place(id: str, homes: Homes) -> Place | None:
    """Where the event is that has an id which one of these logs made."""
    prefix, _, digits = id.rpartition("-")
    if prefix not in homes or not digits.isdecimal():
        return None
    shard, first, end = homes[prefix]
    offset = int(digits)
    return (shard, offset) if first <= offset and (end is None or offset < end) else None


def _reaction(event: Event, answers: Mapping[Place, list[Event]]) -> Reaction:
    """The tree of answers, built from its leaves, since a chain may be longer than Python's stack.

    A match answers all of its parts, and stands under the last of them.
    """
    order = {_place_of(event): event}
    waiting = [event]
    for each in waiting:
        for answer in answers.get(_place_of(each), ()):
            if _place_of(answer) not in order:
                order[_place_of(answer)] = answer
                waiting.append(answer)
    # A match may be met by way of one of its parts long before the last of them, under which it stands.
    under: dict[Place, list[Event]] = {}
    placed, seen = [event], {_place_of(event)}
    for each in placed:
        here = _place_of(each)
        fresh = [answer for answer in answers.get(here, ()) if _place_of(answer) not in seen]
        under[here] = [answer for answer in fresh if _stands_under(answer, here, order)]
        seen.update(_place_of(answer) for answer in under[here])
        placed += under[here]
    made: dict[Place, Reaction] = {}
    for each in reversed(placed):
        here = _place_of(each)
        said = tuple(made[_place_of(answer)] for answer in under[here])
        made[here] = Reaction(each, each.source.split("/")[2] if each.source.count("/") == 2 else None, said)
    return made[_place_of(event)]


def _stands_under(answer: Event, place: Place, tree: Mapping[Place, Event]) -> bool:
    parts = [(answer.shard, part) for part in answer._rows.parts(answer._ix)]
    return not parts or place == max(part for part in parts if part in tree)
