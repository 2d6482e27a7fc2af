"""The band: a score being played, as its user holds it; and the reading half of it, for a store that anybody plays or nobody.

Owns the public face: open, read, connect, and what they give. Must not know how a stage plays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from ensemble.broker import Broker, Listener, Policy, State
from ensemble.broker.broker import DEAD
from ensemble.errors import InvalidEvent, OffsetError, PlayerError, ScoreError, Unavailable
from ensemble.event import Event, Frame, Receipt, decode, digest, microseconds
from ensemble.log import open_log, read_log
from ensemble.log.base import LogReader
from ensemble.motif import leaves, matches
from ensemble.player import Player
from ensemble.score import Score, load
from ensemble.score.callable import find
from ensemble.score.condition import condition
from ensemble.score.model import PlayerSpec, SourceSpec, StoreSpec
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.door import Door, Guest, knock
from ensemble.stage.inlet import Inlet
from ensemble.stage.solo import Reply, Solo
from ensemble.stage.sources import Place, open_source

CHUNK = 500
"""How many events `publish_many` sends at a time."""
CHUNK_BYTES = 4 << 20
FOLLOW_S = 0.02
"""How often a reader looks for what is new."""


class SectionStatus(msgspec.Struct, frozen=True):
    """One player's section. All are events, but `instances`."""

    lag: int
    """Not yet dealt with, those in flight, waiting and held among them."""
    heard: int
    emitted: int
    failed: int
    """Attempts that failed."""
    dead: int
    instances: int
    waiting: int
    """Between two attempts."""
    held: int


class SourceStatus(msgspec.Struct, frozen=True):
    place: int
    """Bytes read of its file."""
    total: int | None
    """Bytes of its file; None where that is unknown."""
    said: int
    refused: int
    """Lines that could not be read, or break their schema."""
    done: bool


class Status(msgspec.Struct, frozen=True):
    """How a band stands."""

    name: str
    id: str
    url: str
    events: int
    frames: int
    bytes: int | None
    topics: Mapping[str, int]
    sections: Mapping[str, SectionStatus]
    sources: Mapping[str, SourceStatus]
    timers: int
    notes: tuple[str, ...] = ()


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that a player could not hear, and why."""

    event: Event
    player: str
    attempts: int
    error: str
    traceback: str
    at: datetime
    held: bool

    @property
    def id(self) -> str:
        """The id of the event that failed."""
        return self.event.id


class Reaction(msgspec.Struct, frozen=True):
    """An event, who said it, and what was said in answer to it."""

    event: Event
    player: str | None
    said: tuple[Reaction, ...] = ()


class Chain(msgspec.Struct, frozen=True):
    """Where an event comes from and what it led to."""

    event: Event
    causes: tuple[Event, ...]
    tree: Reaction


class Reader:
    """The reading half of a band: any process may hold one, and disturbs nobody."""

    def __init__(self, log: LogReader, url: str) -> None:
        self._reader = log
        self.url = url
        self._folded = State()
        self._folded_to = 0
        self._has_snapshot = False

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
               Times are those of the broker.
        """
        stop = self._stop(until)
        for frame in self._frames(since):
            if stop is not None and (frame.first >= stop if isinstance(stop, int) else frame.time_us >= stop[0]):
                return
            yield from _fitting(frame, pattern, key, self._start(since), stop)

    def tail(self, pattern: str = ">", *, key: str | None = None, since: int | datetime | str | None = None) -> Iterator[Event]:
        """The same from now on, or from `since` on, and it goes on with what is to come, until it is closed."""
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
        prefix, _, offset = id.rpartition("-")
        if prefix == self.id and offset.isdecimal():
            return self._at(int(offset))
        known = self._state().seen.get(id)
        if known is not None:
            return self._at(known[0])
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
        cause = event
        while cause.causationid is not None:
            try:
                cause = self.event(cause.causationid)
            except OffsetError:  # it lies in somebody else's log
                break
            causes.append(cause)
        answers: dict[str, list[Event]] = {}
        if event.offset + 1 < self._end():
            for later in self.events(since=event.offset + 1):
                if later.causationid is not None:
                    answers.setdefault(later.causationid, []).append(later)
        return Chain(event, tuple(reversed(causes)), _reaction(event, answers))

    # State

    def table(self, name: str) -> Mapping[str, Any]:
        """A player's state by key, as a mapping.

        Errors: KeyError if no player of that name has played here.
        """
        sections = self._state().sections
        if name not in sections:
            raise KeyError(f"no player {name!r} has played in {self.url}; there are {', '.join(sections) or 'none'}")
        return {key: decode(value) for key, value in sections[name].table.items()}

    def dead(self, player: str | None = None) -> list[DeadLetter]:
        """The dead letters, in the order in which they died."""
        sections = self._state().sections
        if player is not None and player not in sections:
            raise KeyError(f"no player {player!r} has played in {self.url}; there are {', '.join(sections) or 'none'}")
        told = [
            (letter, offset, name)
            for name, section in sections.items()
            if player in (None, name)
            for offset, letter in section.dead.items()
        ]
        return [self._dead_letter(*each) for each in sorted(told)]

    def _dead_letter(self, letter: int, offset: int, name: str) -> DeadLetter:
        told = self._at(letter)
        data = told.data
        return DeadLetter(
            self._at(offset), name, data["attempts"], data["error"], data["traceback"], told.written_at, data["held"]
        )

    def status(self) -> Status:
        """How the band stands, by its log."""
        state = self._state()
        listeners = _listeners_of(state)
        sections = {}
        for name, section in state.sections.items():
            fits = listeners.get(name)
            said = sum(n for topic, n in state.topics.items() if fits is not None and fits(topic))
            lag = max(0, said - section.passed) + len(section.open)
            sections[name] = SectionStatus(
                lag, section.heard, section.emitted, section.failed, len(section.dead), 0, len(section.attempts), len(section.held)
            )
        return self._status(state, sections, {name: None for name in state.places})

    def _status(
        self, state: State, sections: Mapping[str, SectionStatus], totals: Mapping[str, int | None]
    ) -> Status:
        sources = {}
        for name, total in totals.items():
            recorded = state.places.get(name)
            place = Place() if recorded is None else msgspec.convert(recorded, type=Place, builtin_types=(bytes,))
            sources[name] = SourceStatus(place.read, total, place.said, place.refused, place.is_done)
        return Status(
            self.name,
            self.id,
            self.url,
            state.end,
            state.frames,
            self._reader.size_bytes(),
            dict(state.topics),
            sections,
            sources,
            len(state.timers),
            self._notes(),
        )

    def _notes(self) -> tuple[str, ...]:
        return ()

    # What a band does in another way

    def _state(self) -> State:
        """The state as of now."""
        if not self._has_snapshot:
            self._has_snapshot = True
            snapshot = self._reader.snapshot()
            if snapshot is not None:
                self._folded, self._folded_to = State.load(snapshot.state), snapshot.at.seq
        for frame in self._reader.frames(self._folded_to):
            self._folded.apply(frame)
            self._folded_to = frame.seq + 1
        return self._folded

    def _end(self) -> int:
        return self._reader.end().offset

    def _follow(self, offset: int) -> bool:
        """Wait until there is something from this offset on; False: there never will be."""
        import time

        while self._end() <= offset:
            time.sleep(FOLLOW_S)
        return True

    def _at(self, offset: int) -> Event:
        frame = self._reader.frame_at(offset)
        assert frame.rows is not None
        return frame.rows.event(offset - frame.first)

    # Places

    def _frames(self, since: int | datetime | str | None) -> Iterator[Frame]:
        start = self._start(since)
        return self._reader.rows(start if isinstance(start, int) else 0)

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

    def close(self) -> None:
        """Let go of the store."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Table(Mapping[str, Any]):
    """A player's state by key, as of each look. What is seen is durable."""

    def __init__(self, name: str, ask: Callable[[Callable[[], Any]], Any], table: dict[str, bytes]) -> None:
        self.name = name
        self._ask = ask
        self._table = table

    def __getitem__(self, key: str) -> Any:
        return decode(self._ask(lambda: self._table[key]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._ask(lambda: list(self._table)))

    def __len__(self) -> int:
        return int(self._ask(lambda: len(self._table)))

    def items(self) -> Any:
        """All of it at one moment."""
        return {key: decode(value) for key, value in self._ask(lambda: dict(self._table)).items()}.items()

    def values(self) -> Any:
        return dict(self.items()).values()

    def __repr__(self) -> str:
        return f"Table({self.name!r}, {dict(self.items())!r})"


class Band(Reader):
    """A score being played. Made by `ensemble.open`; any thread may use it."""

    def __init__(self, score: Score, stage: Solo, inlet: Inlet, url: str, notes: Sequence[str]) -> None:
        super().__init__(stage.log, url)
        self.score = score
        self._stage = stage
        self._inlet = inlet
        self._noted = tuple(notes)
        self._closed = False
        self._door: Any = None

    def publish(
        self,
        topic: str,
        data: Any = None,
        *,
        key: str | None = None,
        id: str | None = None,
        time: datetime | str | None = None,
        wait: bool = True,
    ) -> Receipt:
        """Say one event; returns once it is durable.

        Shapes: the same `id` within the dedupe window is the same event and gives the same receipt.
        Errors: InvalidEvent, and nothing is written; Overloaded if too much waits and `wait` is False; Unavailable.
        """
        batch = self._inlet.batch()
        batch.add(topic, data, key=key, id=id, time=time)
        offset = self._stage.publish(self._inlet.publication(batch), wait=wait).wait()[0]
        return Receipt(id or f"{self.id}-{offset}", 0, offset)

    def publish_many(self, items: Iterable[Any], *, topic: str | None = None, wait: bool = True) -> int:
        """Say many events, in batches; returns how many, once all are durable.

        Shapes: each item is the data alone where `topic` is given, else a mapping with topic, data, key, id, time, or a
                CloudEvent.
        Errors: as `publish`; those before the one that is wrong are said, and the error says how many.
        """
        count = 0
        replies: list[Reply] = []
        batch = self._inlet.batch(topic)
        try:
            for item in items:
                batch.add_item(item)
                if len(batch) >= CHUNK or batch.size > CHUNK_BYTES:
                    replies.append(self._stage.publish(self._inlet.publication(batch), wait=wait))
                    count += len(batch)
                    batch = self._inlet.batch(topic)
                    while len(replies) > 8:
                        replies.pop(0).wait()
        except InvalidEvent as error:
            said = count + len(batch)
            self._finish(batch, replies, wait)
            raise InvalidEvent(f"item {said + 1}: {error} ({said} before it were published)") from error
        count += len(batch)
        self._finish(batch, replies, wait)
        return count

    def _finish(self, batch: Any, replies: list[Reply], wait: bool) -> None:
        if len(batch):
            replies.append(self._stage.publish(self._inlet.publication(batch), wait=wait))
        for reply in replies:
            reply.wait()

    def settle(self, timeout: float | None = None) -> None:
        """Wait until nothing is left to react to: sources that end have ended, all is heard, no retry is pending.

        Held events, timers and `every:` sources are not waited for. Under a manual clock: play all that is due now.
        Units:  `timeout` in seconds.
        Errors: TimeoutError, which says what is left; Unavailable; what a source raised.
        """
        try:
            self._stage.settle(timeout)
        except TimeoutError:
            raise TimeoutError(f"band {self.name} did not settle in {timeout} s: {self._left()}") from None

    def _left(self) -> str:
        status = self.status()
        left = [
            f"{name} has {section.lag} to hear" + (f", {section.waiting} of them between attempts" * bool(section.waiting))
            for name, section in status.sections.items()
            if section.lag - section.held > 0
        ]
        left += [f"source {name} is not done" for name, source in status.sources.items() if not source.done]
        return "; ".join(left) or "events are on their way"

    def table(self, name: str) -> Mapping[str, Any]:
        sections = self._stage.broker.state.sections
        if name not in sections:
            raise KeyError(f"no player {name!r} in this band; there are {', '.join(sections) or 'none'}")
        return Table(name, self._ask, sections[name].table)

    def dead(self, player: str | None = None) -> list[DeadLetter]:
        return super().dead(player)

    def retry_dead(self, player: str | None = None, id: str | None = None) -> int:
        """Have dead letters heard again, their attempts counted anew: all, those of a player, or one. How many.

        Errors: KeyError if there is no such player.
        """
        broker = self._stage.broker
        if player is not None and player not in broker.state.sections:
            raise KeyError(f"no player {player!r} in this band; there are {', '.join(broker.state.sections)}")
        wanted = None if id is None else self.event(id).offset

        def again() -> int:
            count = 0
            for name, section in broker.state.sections.items():
                offsets = [offset for offset in section.dead if wanted in (None, offset)]
                if offsets and player in (None, name):
                    self._stage.seal(broker.again(name, offsets, self._stage.now_us()))
                    count += len(offsets)
            return count

        return int(self._ask(again))

    def status(self) -> Status:
        return self._ask(self._status_now)  # type: ignore[no-any-return]

    def _status_now(self) -> Status:
        stage, state = self._stage, self._stage.broker.state
        sections = {}
        for name, section in state.sections.items():
            seat = stage.broker.sections.get(name)
            sections[name] = SectionStatus(
                lag=stage.broker.lag(name) if seat is not None else len(section.open),
                heard=section.heard,
                emitted=section.emitted,
                failed=section.failed,
                dead=len(section.dead),
                instances=stage.workers[name].count if seat is not None else 0,
                waiting=seat.waiting if seat is not None else len(section.attempts),
                held=len(section.held),
            )
        totals: dict[str, int | None] = dict.fromkeys(state.places)
        totals.update({name: source.total for name, source in stage.sources.items()})
        return self._status(state, sections, totals)

    def _notes(self) -> tuple[str, ...]:
        return self._noted

    def _follow(self, offset: int) -> bool:
        return self._stage.wait_beyond(offset, FOLLOW_S)

    def _ask(self, question: Callable[[], Any]) -> Any:
        return question() if self._closed else self._stage.ask(question)

    def _state(self) -> State:
        self._ask(lambda: None)
        return self._stage.broker.state

    def close(self) -> None:
        """Finish what is in flight; the rest is heard when the band is opened again."""
        if self._closed:
            return
        if self._door is not None:
            self._door.close()
        self._stage.close()
        self._closed = True

    def _open_door(self) -> None:
        """Let other processes speak to this band."""
        folder = store_folder(self.url)
        if folder is not None:
            self._door = Door(
                folder,
                {
                    "publish": lambda **given: msgspec.structs.astuple(self.publish(**given)),
                    "publish_many": self.publish_many,
                    "retry_dead": self.retry_dead,
                },
            )


def open(  # noqa: A001 - ensemble.open(...)
    score: Score | str | os.PathLike[str] | Mapping[str, Any],
    *,
    stage: str | None = None,
    store: str | None = None,
    players: Mapping[str, Callable[..., Any]] | None = None,
    clock: Any = None,
    again: bool = False,
    strict: bool = False,
    inputs: Sequence[str] = (),
    durability: str | None = None,
) -> Band:
    """Begin to play a score, or go on where its store says.

    Shapes: `players` gives callables for players and sources of the score by name; `inputs` are JSON Lines files that take
            the place of the score's `file:` sources; `again` plays finished files once more; `strict` stops at the first
            line that is refused; `clock` is an `ensemble.testing.ManualClock`.
    Errors: ScoreError; PlayerError if an instance can't be built; Unavailable if the store can't be used.
    """
    if not isinstance(score, Score):
        score = load(score if isinstance(score, Mapping) else score)
    kind = stage or score.stage.kind
    if kind != "solo":
        raise Unavailable(f"stage {kind!r}: this version plays solo; leave --stage out, or write stage: {{kind: solo}}")
    players = dict(players or {})
    _check_players(score, players)
    vocabulary = Vocabulary(score)
    prepared = {name: _prepare(spec, players, score, vocabulary) for name, spec in score.players.items()}
    url = store or score.store.url or f".ensemble/{score.name}"
    log = open_log(url, name=score.name, durability=durability or score.store.durability, **_log_options(clock, score))
    try:
        state = recover(log, score.store)
        broker = Broker(
            state,
            log_id=log.id,
            name=score.name,
            listeners={name: listener(player.spec) for name, player in prepared.items()},
            policies={name: Policy(player.spec.retry, player.spec.on_failure) for name, player in prepared.items()},
            overlapping=[name for name, player in prepared.items() if _overlaps(player, clock)],
        )
        inlet = Inlet(vocabulary, broker.source())
        now_us = clock.now_us() if clock is not None else _now_us()
        sources = [
            open_source(
                spec, inlet, None if again and spec.file else state.places.get(spec.name),
                folder=score.folder, now_us=now_us, is_strict=strict, call=players.get(spec.name),
            )  # fmt: skip
            for spec in _sources(score, inputs)
        ]
        solo = Solo(broker, log, prepared, sources, clock)
    except BaseException:
        log.close()
        raise
    solo.open(dict(score.document), [name for name, spec in score.players.items() if spec.from_ == "now"])
    band = Band(score, solo, inlet, url, log.notes)
    if clock is None:
        band._open_door()
    return band


def connect(url: str) -> Band | Guest:
    """The speaking half of a band: `publish`, `publish_many`, `retry_dead`, from any process.

    If nobody plays the store, it is opened for writing: what is published waits there for who plays it next.
    Errors: Unavailable if there is no such store.
    """
    folder = store_folder(url)
    guest = None if folder is None else knock(folder, url)
    if guest is not None:
        return guest
    log = open_log(url, name="", create=False)
    try:
        state = recover(log, StoreSpec())
        score = load(state.score) if state.score else Score(name=log.name)
        broker = Broker(state, log_id=log.id, name=log.name, listeners={}, policies={})
        inlet = Inlet(Vocabulary(score), broker.source())
        solo = Solo(broker, log, {}, [])
    except BaseException:
        log.close()
        raise
    solo.open(None, [])
    return Band(score, solo, inlet, url, log.notes)


def store_folder(url: str) -> Path | None:
    """The folder of a directory store; None for the other kinds."""
    scheme, colon, rest = url.partition(":")
    if not colon or len(scheme) < 2:
        return Path(url)
    return Path(rest.removeprefix("//")) if scheme == "file" else None


def read(url: str) -> Reader:
    """The reading half of a band, from its store; whoever plays it is not disturbed.

    Errors: Unavailable if there is no such store; LogCorrupt.
    """
    return Reader(read_log(url), url)


def recover(log: LogReader, store: StoreSpec) -> State:
    """The state that a log adds up to: its newest snapshot, and the frames since."""
    snapshot = log.snapshot()
    state = State() if snapshot is None else State.load(snapshot.state)
    state.dedupe_us, state.dedupe_most = store.dedupe_us, store.dedupe_most
    for frame in log.frames(0 if snapshot is None else snapshot.at.seq):
        state.apply(frame)
    return state


def listener(spec: PlayerSpec) -> Listener:
    """What a player listens for, made ready."""
    parts = leaves(spec.on)
    assert parts is not None, "a composite motif is refused when the score is loaded"
    return Listener(
        [(part.pattern, None if part.where is None else condition(part.where)) for part in parts],
        order=spec.order,
        by=None if spec.by is None else _path(spec.by),
    )


def _path(path: str) -> Callable[[Event], str]:
    """The lane of an event by a path into its data; the empty lane where there is nothing."""
    names = path.removeprefix("data.").split(".")

    def at(event: Event) -> str:
        value = event.data
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return "" if value is None else value if isinstance(value, str) else str(value)

    return at


def _prepare(spec: PlayerSpec, players: Mapping[str, Any], score: Score, vocabulary: Vocabulary) -> Player:
    call = players.get(spec.name)
    if call is None:
        if spec.play is None:
            raise ScoreError(
                f"players.{spec.name} has no play: and no callable was given; write play: module:function, or "
                f"ensemble.open(..., players={{{spec.name!r}: ...}})"
            )
        try:
            call = find(spec.play, score.folder)
        except PlayerError as error:
            raise ScoreError(f"players.{spec.name}.play: {error}") from error
    return Player(spec, call, vocabulary)


def _overlaps(player: Player, clock: Any) -> bool:
    return clock is None and (player.shape.is_async or player.spec.section.max > 1)


def _check_players(score: Score, players: Mapping[str, Any]) -> None:
    known = {*score.players, *score.sources}
    for name, call in players.items():
        if name not in known:
            raise ScoreError(f"players={{{name!r}: ...}}: the score has no player {name!r}; it has {', '.join(sorted(known))}")
        if not callable(call):
            raise ScoreError(f"players={{{name!r}: ...}}: {call!r} can't be called; give a function or a class")


def _sources(score: Score, inputs: Sequence[str]) -> list[SourceSpec]:
    if not inputs:
        return list(score.sources.values())
    kept = [spec for spec in score.sources.values() if spec.file is None]
    return kept + [
        SourceSpec(name=file if file == "-" else str(Path(file).resolve()), file=file if file == "-" else str(Path(file)))
        for file in inputs
    ]


def _log_options(clock: Any, score: Score) -> dict[str, Any]:
    """Under a manual clock the log gets the same id each time, so that the same input gives the same bytes."""
    return {} if clock is None else {"id": digest(score.name, 6)}


def _listeners_of(state: State) -> dict[str, Callable[[str], bool]]:
    """Which topics concern each section, by the score that was recorded last."""
    if not state.score:
        return {}
    try:
        score = load(state.score)
    except ScoreError:
        return {}
    return {name: listener(spec).fits for name, spec in score.players.items()}


def _fitting(
    frame: Frame, pattern: str, key: str | None, start: int | tuple[int], stop: int | tuple[int] | None
) -> Iterator[Event]:
    rows = frame.rows
    assert rows is not None
    if not isinstance(start, int) and frame.time_us < start[0]:
        return
    fits = [pattern == ">>" or matches(pattern, topic) for topic in rows.topics]
    if not any(fits):
        return
    ix = rows.topic_ix
    first = max(0, start - frame.first) if isinstance(start, int) else 0
    last = min(len(rows), stop - frame.first) if isinstance(stop, int) else len(rows)
    for row in range(first, last):
        if fits[ix if isinstance(ix, int) else ix[row]] and (key is None or rows.keys[row] == key):
            yield rows.event(row)


def _reaction(event: Event, answers: Mapping[str, list[Event]]) -> Reaction:
    """The tree of answers, built from its leaves, since a chain may be longer than Python's stack."""
    order = [event]
    for each in order:
        order.extend(answers.get(each.id, ()))
    made: dict[str, Reaction] = {}
    for each in reversed(order):
        said = tuple(made[answer.id] for answer in answers.get(each.id, ()))
        made[each.id] = Reaction(each, each.source.split("/")[2] if each.source.count("/") == 2 else None, said)
    return made[event.id]


def _now_us() -> int:
    import time

    return time.time_ns() // 1000


__all__ = [
    "Band",
    "Chain",
    "DeadLetter",
    "Reaction",
    "Reader",
    "SectionStatus",
    "SourceStatus",
    "Status",
    "Table",
    "connect",
    "open",
    "read",
]
