"""The reading half of a band, for a store that anybody plays, or nobody.

Owns what can be seen of a log: events, chains, tables, dead letters, how the band stands. It takes no lock and writes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from ensemble.broker.state import State, dedupe_key
from ensemble.errors import EnsembleError, OffsetError
from ensemble.event import Event, Frame, decode, microseconds
from ensemble.log.base import LogReader
from ensemble.motif import matches, pattern_fault
from ensemble.stage.base import View
from ensemble.stage.view import Question, StateView
from ensemble.status import Chain, DeadLetter, Reaction, Status

FOLLOW_S = 0.02
"""How often a reader looks for what is new."""


class Reader:
    """The reading half of a band: any process may hold one, and disturbs nobody."""

    def __init__(self, log: LogReader, view: View, url: str) -> None:
        self._reader = log
        self._view = view
        self.url = url

    @property
    def name(self) -> str:
        return self._reader.name

    @property
    def id(self) -> str:
        """The log's id, with which the ids of its events begin."""
        return self._reader.id

    # Events

    def events(
        self,
        pattern: str = ">",
        *,
        key: str | None = None,
        since: int | datetime | str | None = None,
        until: int | datetime | str | None = None,
    ) -> Iterator[Event]:
        """The events of the log as of now, in order.

        Units: `since` is an offset or a time (aware datetime or RFC 3339 text), and so is `until`, which is not included.
               Times are the events' own, `event.time`; these may go back from one event to the next, so all of the log is
               looked through. To read a part of a long log fast, name offsets.
        """
        _check(pattern)
        start, stop = self._start(since), self._stop(until)
        for frame in self._reader.rows(start if isinstance(start, int) else 0):
            if isinstance(stop, int) and frame.first >= stop:
                return
            yield from _fitting(frame, pattern, key, start, stop)

    def tail(self, pattern: str = ">", *, key: str | None = None, since: int | datetime | str | None = None) -> Iterator[Event]:
        """The same from now on, or from `since` on, and it goes on with what is to come, until it is closed."""
        _check(pattern)
        start = self._end() if since is None else self._start(since)
        offset = start if isinstance(start, int) else 0
        while True:
            for frame in self._reader.rows(offset):
                offset = frame.end
                yield from _fitting(frame, pattern, key, start, None)
            if not self._follow(offset):
                return

    def event(self, id: str) -> Event:
        """The event with this id.

        Errors: OffsetError if there is none.
        """
        offset = _offset(id, self.id)
        if offset is not None:
            return self._at(offset)
        known = self._view.seen(id)
        if known is not None:
            return self._at(known)
        for event in self.events():
            if event.id == id:
                return event
        raise OffsetError(f"there is no event {id!r} in {self.url}; list them with band.events() or `ensemble events`")

    def why(self, id: str) -> Chain:
        """What led to an event, and all that it led to.

        Errors: OffsetError if there is no such event.
        """
        event = self.event(id)
        causes: list[Event] = []
        seen = {event.offset}  # who publishes says what caused it, and may say that it was itself
        cause = self._cause(event)
        while cause is not None and cause.offset not in seen:
            seen.add(cause.offset)
            causes.append(cause)
            cause = self._cause(cause)
        later = [event]
        for frame in self._reader.rows(min(event.offset + 1, self._end())):
            assert frame.rows is not None
            later += [frame.rows.event(ix) for ix in range(max(0, event.offset + 1 - frame.first), frame.count)]
        return Chain(event, tuple(reversed(causes)), _reaction(event, _answers(later)))

    def _cause(self, event: Event) -> Event | None:
        """The event that it answers; None if it answers none, or one of somebody else's log."""
        given = event.causationid
        if given is None:
            return None
        rows, ix = event._rows, event._ix
        offset = rows.extra(ix, "cause")
        if offset is None and rows.causes is None:  # from outside: rather one of the same source
            offset = self._view.seen(dedupe_key({"id": given, "source": event.source}))
        try:
            return self.event(given) if offset is None else self._at(offset)
        except OffsetError:
            return None

    # State

    def table(self, name: str) -> Mapping[str, Any]:
        """A player's state by key, as a mapping.

        Errors: KeyError if no player of that name has played here.
        """
        self._check_player(name)
        return {key: decode(value) for key, value in self._view.table_items(name).items()}

    def dead(self, player: str | None = None) -> list[DeadLetter]:
        """The dead letters, in the order in which they died."""
        if player is not None:
            self._check_player(player)
        return [self._dead_letter(*each) for each in self._view.dead() if player in (None, each[2])]

    def _dead_letter(self, letter: int, offset: int, name: str) -> DeadLetter:
        told = self._at(letter)
        data = told.data
        return DeadLetter(
            self._at(offset), name, data["attempts"], data["error"], data["traceback"], told.written_at, data["held"]
        )

    def _check_player(self, name: str) -> None:
        known = self._view.sections()
        if name not in known:
            raise KeyError(f"no player {name!r} has played in {self.url}; there are {', '.join(known) or 'none'}")

    def status(self) -> Status:
        """How the band stands."""
        standing = self._view.standing()
        return Status(
            self.name,
            self.id,
            self.url,
            standing.events,
            standing.frames,
            self._reader.size_bytes(),
            standing.topics,
            standing.sections,
            standing.sources,
            standing.timers,
            self._notes(),
        )

    def _notes(self) -> tuple[str, ...]:
        return ()

    # What a band does in another way

    def _end(self) -> int:
        return self._reader.end().offset

    def _follow(self, offset: int) -> bool:
        """Wait until there is something from this offset on; False: there never will be."""
        while self._end() <= offset:
            time.sleep(FOLLOW_S)
        return True

    def _at(self, offset: int) -> Event:
        frame = self._reader.frame_at(offset)
        assert frame.rows is not None
        return frame.rows.event(offset - frame.first)

    # Places

    @staticmethod
    def _start(since: int | datetime | str | None) -> int | tuple[int]:
        """An offset; or a time in microseconds, in a tuple."""
        if since is None:
            return 0
        if isinstance(since, int):
            if since < 0:
                raise OffsetError(f"since={since}: an offset is not negative; the first is 0")
            return since
        if isinstance(since, str) and since.isdecimal():
            return int(since)
        return (microseconds(since),)

    def _stop(self, until: int | datetime | str | None) -> int | tuple[int] | None:
        return None if until is None else self._start(until)

    def __repr__(self) -> str:
        """Short, and never an error: notebooks and debuggers show it at any moment."""
        try:
            end = self._end()
        except EnsembleError:
            return f"{type(self).__name__}({self.name!r}, {self.url!r}, closed)"
        return f"{type(self).__name__}({self.name!r}, {self.url!r}, {end:,} event{'' if end == 1 else 's'})"

    def close(self) -> None:
        """Let go of the store."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class FoldedView(StateView):
    """What a log adds up to as of each question; it is folded as far as it goes first."""

    def __init__(self, log: LogReader) -> None:
        super().__init__(self._ask_folded)
        self._log = log
        self._state: State | None = None
        self._seq = 0
        self._folding = threading.RLock()
        """Any thread may ask; one folds."""

    def _ask_folded(self, question: Question) -> Any:
        with self._folding:
            if self._state is None:
                snapshot = self._log.snapshot()
                self._state = State() if snapshot is None else State.load(snapshot.state)
                self._seq = 0 if snapshot is None else snapshot.at.seq
            for frame in self._log.frames(self._seq):
                self._state.apply(frame)
                self._seq = frame.seq + 1
            return question(self._state)

    def score(self) -> Mapping[str, Any] | None:
        """The document of the score that was played last."""
        document: Mapping[str, Any] | None = self._ask(lambda state: state.score)
        return document


def _check(pattern: str) -> None:
    """ValueError unless it is a topic pattern."""
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


def _answers(events: list[Event]) -> dict[int, list[Event]]:
    """Offset -> the events that answer the one there, of events in order."""
    named: dict[str, int] = {}
    for event in events:
        given = event._rows.extra(event._ix, "id")
        if given is not None:
            named.setdefault(given, event.offset)
            named.setdefault(dedupe_key({"id": given, "source": event.source}), event.offset)
    answers: dict[int, list[Event]] = {}
    for event in events[1:]:
        rows, ix = event._rows, event._ix
        cause = rows.extra(ix, "cause")
        if cause is None:
            ref = rows.extra(ix, "causationid") if rows.causes is None else rows.causes[ix]
            if isinstance(ref, str):
                ref = named.get(dedupe_key({"id": ref, "source": event.source}), named.get(ref, _offset(ref, rows.log_id)))
            cause = ref
        if cause is not None:
            answers.setdefault(cause, []).append(event)
    return answers


def _offset(id: str, log_id: str) -> int | None:
    """The offset in an id that a log made."""
    prefix, _, offset = id.rpartition("-")
    return int(offset) if prefix == log_id and offset.isdecimal() else None


def _reaction(event: Event, answers: Mapping[int, list[Event]]) -> Reaction:
    """The tree of answers, built from its leaves, since a chain may be longer than Python's stack."""
    order = [event]
    for each in order:
        order.extend(answers.get(each.offset, ()))
    made: dict[int, Reaction] = {}
    for each in reversed(order):
        said = tuple(made[answer.offset] for answer in answers.get(each.offset, ()))
        made[each.offset] = Reaction(each, each.source.split("/")[2] if each.source.count("/") == 2 else None, said)
    return made[event.offset]
