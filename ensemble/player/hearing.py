"""One instance hearing one batch: user code is called, and what it answers becomes an `Outcome`.

Must not know logs, threads or clocks: time comes in with the batch. Whatever a player raises is caught here and nowhere else.

An event's effects (emits, state, timers) are taken over all together when the player is done with it, or not at all.
"""

from __future__ import annotations

import logging
import threading
import traceback as tracebacks
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from ensemble.broker.failure import one_line
from ensemble.broker.words import Failure, Later, Outcome, Said
from ensemble.errors import InvalidEvent, LogCorrupt, PlayerError, Reject, Retry, Unavailable
from ensemble.event import NESTED_MOST, Emission, decode, encode, is_utf8, payload_of, refuse_deep, unlifted_why, writable
from ensemble.player.codec import Tables
from ensemble.player.context import Context
from ensemble.player.work import Work, hearing_of
from ensemble.score.units import duration_us

if TYPE_CHECKING:
    from ensemble.event import Event
    from ensemble.player.player import Instance

TRIED_ENOUGH = 100
"""Mappings of a topic whose keys are looked at, at every level. A key that can't be read again is a slip in the player's code,
and shows at once; after that each costs as much as to encode the event. What slips through fails who hears it, and nobody else.
"""
TRACEBACK_MOST = 16_000
"""Longest traceback that is kept, in characters."""


class Misfit(Exception):
    """The event's data is not of the type that the player hears: its cause says why. Trying again can't help."""


class GivenUp(BaseException):
    """Raised in a thread that comes back from a player after its time was up: nobody waits for it any more."""


class Hearing:
    """One instance hearing one batch: collects what comes of it. `call` stands in for the instance's own."""

    def __init__(self, instance: Instance, work: Work, call: Callable[..., Any] | None = None) -> None:
        self.player = instance.player
        self.settings = instance.settings
        self.call = call or instance.call
        self.work = work
        self.which: Iterable[int] = range(len(work.events))
        """The rows to hear, one by one; `gone` are those that were taken back meanwhile, and are nothing to it any more."""
        self.gone: Set[int] = frozenset()
        self._current: Sequence[int] = ()
        self._groups: list[Sequence[int]] = []
        """What `together` has still to try, the next one last."""
        self._begin()
        self._states: dict[str, bytes | None] = {}
        """What this batch has made of the state so far, by lane."""
        self._blocked: set[str] = set()
        self._in_lanes = instance.player.spec.order != "none"

    def _begin(self) -> None:
        self._heard: list[int] = []
        self._rows: list[int] = []
        self._topic_ix: list[int] = []
        self._keys: list[str] = []
        self._data: list[bytes] = []
        self._later: list[Later] = []
        self._failures: list[Failure] = []
        self._skipped: list[tuple[int, str]] = []
        self._wrote: dict[str, bytes | None] = {}

    # Hearing

    def hear(self) -> Outcome:
        """Hear the whole batch."""
        before = hearing_of.set(self._log_id())
        try:
            if self.player.shape.batch:
                self.together(range(len(self.work.events)))
            else:
                self.one_by_one(self.which)
        finally:
            hearing_of.reset(before)
        return self.all()

    def _log_id(self) -> str | None:
        events = self.work.events
        return events[0]._rows.log_id if events else None

    def go_on(self, call: Callable[..., Any]) -> Outcome:
        """Hear what is left after `give_up`, through another call: that of an instance that is not stuck."""
        self.call = call
        before = hearing_of.set(self._log_id())
        try:
            self._hear_groups()
        finally:
            hearing_of.reset(before)
        return self.all()

    def all(self) -> Outcome:
        """What came of the batch, but for what was taken back."""
        batch = self.work.batch
        if not self.gone:
            return self.outcome(batch.keys, len(batch))
        keys = [lane for ix, lane in enumerate(batch.keys) if ix not in self.gone]
        return self.outcome(keys, len(keys))

    def one_by_one(self, which: Iterable[int]) -> None:
        """Call the player for each of these rows of the batch."""
        events, lanes = self.work.events, self.work.batch.keys
        wants_ctx, decoder, call = self.player.shape.ctx, self.player.decode, self.call
        enriched = self.work.enriched
        heard, data, later = self._heard, self._data, self._later
        blocked = self._blocked
        for ix in which:
            if blocked and lanes[ix] in blocked:
                self._skip(ix)
                continue
            said, set_ = len(data), len(later)
            self._current = (ix,)
            try:
                event = events[ix]
                if enriched:
                    argument = self._enriched(ix)
                else:
                    argument = event if decoder is None else decoder(event._rows.data[event._ix])
                if wants_ctx:
                    context = self.context((ix,), (argument,))
                    answer = call(argument, ctx=context)
                    if answer is not None:
                        self.answer(answer, ix)
                    self._keep(context, ix)
                else:
                    answer = call(argument)
                    if type(answer) is Emission:
                        self._say(answer, ix)
                    elif answer is not None:
                        self.answer(answer, ix)
                heard.append(ix)
            except GivenUp:
                raise
            except BaseException as error:
                self._undo(said, set_)
                self._fail(ix, error)

    def together(self, which: Sequence[int]) -> None:
        """Call the player with all of these rows; if that fails, with halves, until those that fail stand alone."""
        self._groups = [which]
        self._hear_groups()

    def _hear_groups(self) -> None:
        lanes, groups = self.work.batch.keys, self._groups
        while groups:
            group = groups.pop()
            if self._blocked:
                for ix in group:
                    if lanes[ix] in self._blocked:
                        self._skip(ix)
                group = [ix for ix in group if lanes[ix] not in self._blocked]
            if not group:
                continue
            said, set_ = len(self._data), len(self._later)
            self._current = group
            try:
                self._hear_group(group)
                self._heard.extend(group)
            except GivenUp:
                raise
            except BaseException as error:
                self._undo(said, set_)
                self._blame(group, error)

    def _blame(self, group: Sequence[int], error: BaseException) -> None:
        """Charge the one that failed alone; of several nobody knows which it was, so they are heard again in halves."""
        if len(group) == 1:
            self._fail(group[0], error)
            return
        _let_interrupt(error)
        middle = len(group) // 2
        self._groups += [group[middle:], group[:middle]]

    def _hear_group(self, group: Sequence[int]) -> None:
        events = self.work.events
        # Views of their own for each call: one that failed may have changed the data that it decoded.
        heard = [self._given(ix) for ix in group]
        extra = {"ctx": self.context(group, tuple(heard))} if self.player.shape.ctx else {}
        answers = self.call(heard, **extra)
        if answers is None:
            return
        if isinstance(answers, (Mapping, Emission)) or not isinstance(answers, Iterable):
            answers = [answers]
        answers = list(answers)
        if len(answers) == len(group):  # one answer an event
            for ix, answer in zip(group, answers, strict=True):
                if answer is not None:
                    self.answer(answer, ix)
            return
        last = {events[ix].key: ix for ix in group}
        for answer in answers:
            emission = self.player.emission(answer)
            self._say(emission, last.get(emission.key or "", group[-1]))

    async def later_one_by_one(
        self, which: Iterable[int], timeout_s: float | None, is_leaving: Callable[[], bool] = lambda: False
    ) -> None:
        """`one_by_one` for an asynchronous player, in a task of its own: these rows are of one lane.

        A cancellation is a failure like any other, whoever it came from, unless the stage `is_leaving`.
        """
        import asyncio

        hearing_of.set(self._log_id())  # it ends with the task
        lanes = self.work.batch.keys
        for ix in which:
            if self._blocked and lanes[ix] in self._blocked:
                self._skip(ix)
                continue
            try:
                argument = self._given(ix)
                context = self.context((ix,), (argument,)) if self.player.shape.ctx else None
                extra = {} if context is None else {"ctx": context}
                async with asyncio.timeout(timeout_s):
                    answer = self.call(argument, **extra)
                    answers = [a async for a in answer] if isinstance(answer, AsyncIterator) else await answer
                said, set_ = len(self._data), len(self._later)
                try:
                    if answers is not None:
                        self.answer(answers, ix)
                    if context is not None:
                        self._keep(context, ix)
                except BaseException:
                    self._undo(said, set_)
                    raise
                self._heard.append(ix)
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError) and is_leaving():
                    raise
                self._fail(ix, error)

    def context(self, which: Sequence[int], given: Sequence[Any]) -> Context:
        """What a call for these rows may know, which is given these arguments."""
        return Context(self, which, given, self.work.batch.attempts.get(self.work.batch.offsets[which[0]], 1))

    def _given(self, ix: int) -> Any:
        """What the player is given for a row: the event, or its data as the type that it hears."""
        if self.work.enriched:
            return self._enriched(ix)
        event, decoder = self.work.events[ix], self.player.decode
        return event.view() if decoder is None else decoder(event.payload)

    def _enriched(self, ix: int) -> Any:
        """The same with what the broker looked up for it."""
        event = self.work.events[ix].view()
        data = event.data
        if type(data) is not dict:
            raise PlayerError(
                f"player {self.player.name}: {data!r:.80} can't be enriched, since it is no mapping; say this event with named "
                "fields, or leave it out of on:"
            )
        for field, column in self.work.enriched.items():
            state = column[ix]
            data[field] = None if state is None else decode(state)
        return event if self.player.decode is None else self.player.decode(encode(data))

    def tables(self, ix: int) -> Mapping[str, Any]:
        """What other players keep for a row's lane. PlayerError where it has none."""
        lookups = self.player.lookups
        if lookups and self.player.shape.batch:
            raise PlayerError(
                f"player {self.player.name} hears whole batches, which have no one key to look up by; hear events one by one, "
                "or have them enriched: enrich: {field: PLAYER[key]}"
            )
        lane = self.work.batch.keys[ix]
        return Tables(
            self.player.name, {name: codec.read(self.work.reads[name].get(lane)) for name, codec in lookups.items()}
        )

    def load(self, ix: int) -> bytes | None:
        """The state of a row's lane as of now. PlayerError where a player can have none."""
        if not self._in_lanes:
            raise PlayerError(f"player {self.player.name} has order: none, so it can't have state; write order: key")
        if self.player.shape.batch:
            raise PlayerError(
                f"player {self.player.name} hears whole batches, which have no one key, so it can't have state; "
                "hear events one by one, or keep nothing"
            )
        lane = self.work.batch.keys[ix]
        if lane in self._states:
            return self._states[lane]
        return self.work.table.get(lane)

    # Collecting

    def answer(self, answer: Any, ix: int) -> None:
        """Take over what the player gave for a row: an event, several, or None."""
        if isinstance(answer, (Iterator, list, set)) or (
            isinstance(answer, tuple) and not (len(answer) == 2 and isinstance(answer[0], str))
        ):
            for each in answer:
                if each is not None:
                    self._say(self.player.emission(each), ix)
        else:
            self._say(self.player.emission(answer), ix)

    def _say(self, emission: Emission, ix: int) -> None:
        player = self.player
        word = player._words.get(emission.topic) or player.word(emission.topic)
        data = emission.data
        if word.check is not None:
            word.check(data)
        key = emission.key
        if key is None:
            if word.key is None:
                key = self.work.events[ix].key
            else:
                try:
                    key = word.key(data)
                except InvalidEvent:  # what is not in the data comes from the event that is answered
                    key = self.work.events[ix].key
        elif type(key) is not str or not (key.isascii() or is_utf8(key)):
            raise PlayerError(f"player {player.name} gave {emission.topic} the key {key!r}; a key is text: str(key)")
        if type(data) is dict and word.tried >= TRIED_ENOUGH:
            payload = encode(data)
            if len(payload) > NESTED_MOST:
                refuse_deep(payload)
        else:
            payload = payload_of(data)
            word.tried += 1
        if emission.after is None:
            self._rows.append(ix)
            self._topic_ix.append(word.ix)
            self._keys.append(key)
            self._data.append(payload)
        else:
            self._later.append(
                Later(
                    duration_us(emission.after),
                    emission.topic,
                    key,
                    payload,
                    self.work.refs[ix],
                    self.work.roots[ix],
                    self._with_version(emission.topic, self._passed_on(ix)),
                )
            )

    def _with_version(self, topic: str, own: dict[str, Any] | None) -> dict[str, Any] | None:
        """What an event that is said later has of its own: by then its topic may have another version."""
        version = self.player.versions.get(topic)
        return own if version is None else {**(own or {}), "version": version}

    def _keep(self, context: Context, ix: int) -> None:
        is_changed, state = context.changed()
        if is_changed:
            lane = self.work.batch.keys[ix]
            self._states[lane] = self._wrote[lane] = state

    def _undo(self, said: int, later: int) -> None:
        del self._rows[said:], self._topic_ix[said:], self._keys[said:], self._data[said:], self._later[later:]

    def _skip(self, ix: int) -> None:
        self._skipped.append((self.work.batch.offsets[ix], self.work.batch.keys[ix]))

    def _fail(self, ix: int, error: BaseException) -> None:
        _let_interrupt(error)
        event, lane = self.work.events[ix], self.work.batch.keys[ix]
        why = _unlifted_why(event)
        is_final = isinstance(error, (Reject, Misfit)) or why is not None
        if why is not None:  # whatever came of that
            error = InvalidEvent(why)
        elif isinstance(error, Misfit):
            error = error.__cause__ or error
        if self._in_lanes:
            self._blocked.add(lane)
        after = getattr(error, "after", None) if isinstance(error, Retry) else None
        self._failures.append(
            Failure(
                self.work.batch.offsets[ix],
                event.key,
                lane,
                event.topic,
                self.work.refs[ix],
                self.work.roots[ix],
                one_line(error),
                _traceback(error),
                is_final=is_final,
                after_us=None if after is None else _after_us(after),
                extras=self._passed_on(ix),
            )
        )

    def fail(self, rows: Sequence[int], error: BaseException) -> None:
        """Nothing came of these rows of a lane: the first fails, the others were not tried."""
        self._fail(rows[0], error)
        for ix in rows[1:]:
            self._skip(ix)

    def give_up(self, error: BaseException) -> bool:
        """Let the call that runs now fail. Whether it was about several events: then `go_on` with halves of them.

        Else the rest of the batch is left for another time.
        """
        if len(self._current) > 1:
            self._blame(self._current, error)
            return True
        self._fail(self._current[0], error)
        self.leave_rest()
        return False

    def leave_rest(self) -> None:
        """Leave for another time what was neither heard nor failed."""
        told = {offset for offset, _ in self._skipped} | {failure.offset for failure in self._failures}
        heard = set(self._heard)
        for ix, offset in enumerate(self.work.batch.offsets):
            if ix not in heard and offset not in told and ix not in self.gone:
                self._skip(ix)

    def _passed_on(self, ix: int) -> dict[str, Any] | None:
        """What answers to a row have from it: the trace context that its publisher gave, and which event it is exactly.

        An id alone names several events where each has a CloudEvents source of its own.
        """
        if self.work.refs is self.work.batch.offsets:  # the rule: no event has anything of its own
            return None
        event = self.work.events[ix]
        own = event._rows.odd.get(event._ix)
        if not own:
            return None
        passed_on = {"traceparent": own["traceparent"]} if "traceparent" in own else {}
        if "born" in own:
            passed_on["cause"] = own["born"]
        elif "source" in own and "as" not in own:
            passed_on["cause"] = event.offset
        return passed_on or None

    def _extras(self, rows: Sequence[int]) -> dict[int, dict[str, Any]] | None:
        """Of answers to these rows."""
        if self.work.refs is self.work.batch.offsets:
            return None
        if not any(rows.odd for rows in {id(event._rows): event._rows for event in self.work.events}.values()):
            return None
        given = {ix: self._passed_on(ix) for ix in set(rows)}
        return {row: passed_on for row, ix in enumerate(rows) if (passed_on := given[ix])} or None

    def _topics(self) -> tuple[list[str], int | list[int]]:
        """The topics of what was said, and no others: under a wildcard a player may have said any number of them before."""
        all_topics, column = self.player.topics, self._topic_ix
        if len(all_topics) == 1:
            return list(all_topics), 0
        used = sorted(set(column))
        topics = [all_topics[ix] for ix in used]
        if len(used) == 1:
            return topics, 0
        if used[-1] != len(used) - 1:
            place = {ix: new for new, ix in enumerate(used)}
            column = [place[ix] for ix in column]
        return topics, column

    def _versions(self, topics: Sequence[str]) -> dict[str, int] | None:
        versions = self.player.versions
        return {topic: versions[topic] for topic in topics if topic in versions} or None if versions else None

    def outcome(self, keys: Sequence[str], count: int) -> Outcome:
        """What came of the rows heard since the last call; `keys` are their lanes, `count` how many they are."""
        batch, rows = self.work.batch, self._rows
        said = None
        if self._data:
            is_one_each = len(rows) == len(batch) and rows == list(range(len(rows)))
            topics, topic_ix = self._topics()
            said = Said(
                topics,
                topic_ix,
                self._keys,
                self._data,
                self.work.refs if is_one_each else [self.work.refs[ix] for ix in rows],
                self.work.roots if is_one_each else [self.work.roots[ix] for ix in rows],
                self._extras(rows),
                self._versions(topics),
            )
        heard: Sequence[int] = batch.offsets
        if len(self._heard) != len(batch) or self._heard != list(range(len(batch))):
            heard = [batch.offsets[ix] for ix in self._heard]
        outcome = Outcome(
            batch.section, count, keys, heard, said, batch.began_us,
            self._wrote, self._later, self._failures, self._skipped,
        )  # fmt: skip
        self._begin()
        return outcome


def _unlifted_why(event: Event) -> str | None:
    """Why an event could not be lifted; None: it is as it is to be heard, or it can't be told."""
    try:
        return unlifted_why(event._rows.data[event._ix])
    except (LogCorrupt, Unavailable):  # large data that can't be had: the failure of who looked at it, and of nobody else
        return None


def _let_interrupt(error: BaseException) -> None:
    """Ctrl-C is meant for the band, not for the event that is heard at that moment."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def _after_us(after: str | float) -> int | None:
    try:
        return duration_us(after)
    except ValueError:  # a player's slip must not hide why it asked
        logging.getLogger("ensemble").warning("Retry(after=%r): not a duration; the retry policy is followed", after)
        return None


def _traceback(error: BaseException) -> str:
    """The traceback from the player's first line on: ours above it says nothing to its author."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == __name__:
        trace = trace.tb_next
    try:
        text = "".join(tracebacks.format_exception(type(error), error, trace))
    except Exception:  # a player's own exception may be broken in itself
        text = "".join(tracebacks.format_tb(trace)) + one_line(error)
    if len(text) > TRACEBACK_MOST:
        text = text[: TRACEBACK_MOST // 2] + "\n...\n" + text[-TRACEBACK_MOST // 2 :]
    return writable(text)
