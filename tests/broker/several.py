"""Several shards of one band to test with: brokers, their logs, and the ways between them. No thread, and no clock but `now`.

A frame that was decided is not durable before `flush`. What is not is lost when its shard crashes, and nobody is told of it
before: no section looks at it, and no parcel of it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ensemble.broker import Batch, Broker, Failure, Listener, Opening, Outcome, Policy, Publication, Said, Section, State
from ensemble.broker.outbox import Parcel, forwarded_topic, is_copy
from ensemble.broker.state import fits
from ensemble.event import Event, Frame, Rows, encode

Told = Callable[[], None]


def kept(frame: Frame) -> Frame:
    """The frame as a log gives it back."""
    return Frame(frame.first, frame.time_us, frame.rows, msgspec.msgpack.decode(msgspec.msgpack.encode(frame.marks)))


def carried(parcels: Sequence[Parcel]) -> list[Parcel]:
    """Parcels as they arrive."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(parcels), type=list[Parcel])


@dataclass
class Log:
    """What one shard has written."""

    frames: list[Frame] = field(default_factory=list)
    durable: int = 0
    told: dict[int, list[Told]] = field(default_factory=dict)
    """What is to be said once so many frames are durable."""

    def end(self, frames: int | None = None) -> int:
        chosen = self.frames[: self.durable if frames is None else frames]
        return chosen[-1].end if chosen else 0

    def frame_at(self, offset: int) -> Frame:
        return next(frame for frame in self.frames if frame.first <= offset < frame.end)

    def event(self, offset: int) -> Event:
        frame = self.frame_at(offset)
        assert frame.rows is not None
        return frame.rows.event(offset - frame.first)


class Shards:
    """A band in so many shards. `hears` says what each section listens for, `policies` what becomes of its failures."""

    def __init__(
        self,
        shards: int,
        hears: Mapping[str, Listener],
        policies: Mapping[str, Policy] | None = None,
        overlapping: Sequence[str] = (),
        logs: Sequence[Log] | None = None,
        log_ids: Sequence[str] = (),
        opening: Opening | None = None,
    ) -> None:
        self.count = shards
        self.opening = opening or Opening()
        self.given = hears
        self.now = 1_000_000
        self.hears = {
            name: Listener([*each.leaves, (forwarded_topic(name), None)], order=each.order, by=each.by)
            if shards > 1 and each.crosses
            else each
            for name, each in hears.items()
        }
        self.policies = {name: (policies or {}).get(name, Policy()) for name in hears}
        self.overlapping = overlapping
        self.log_ids = log_ids or [f"log{number}" for number in range(shards)]
        self.logs = list(logs) if logs is not None else [Log() for _ in range(shards)]
        self.brokers: list[Broker] = [None] * shards  # type: ignore[list-item]
        for number in range(shards):
            self.open(number)

    # Shards

    def open(self, number: int) -> None:
        """Begin to play a shard from what is durable of it."""
        log = self.logs[number]
        state = State()
        for frame in log.frames:
            state.apply(kept(frame))
        broker = Broker(
            state, log_id=self.log_ids[number], name="band", shard=number, shards=self.count,
            listeners=self.hears, policies=self.policies, overlapping=self.overlapping,
        )  # fmt: skip
        self.brokers[number] = broker
        opened = broker.open(
            self.opening, self.now, lambda patterns, offset: self._said_since(number, patterns, offset)
        )
        self.keep(number, opened)
        self.flush(number)

    def _said_since(self, number: int, patterns: tuple[str, ...], offset: int) -> int:
        return sum(fits(patterns, rows.filed(ix)) and rows.offset(ix) >= offset for rows, ix in self.rows(number))

    def crash(self, number: int) -> None:
        """Lose what is not durable of a shard, and begin it anew."""
        log = self.logs[number]
        del log.frames[log.durable :]
        log.told.clear()
        self.open(number)

    def keep(self, number: int, frame: Frame | None, told: Told | None = None) -> Frame | None:
        """Have a frame written. `told` is called once it is durable; of no frame, once all before it are."""
        log = self.logs[number]
        if frame is not None:
            log.frames.append(frame)
        if told is not None:
            if log.durable == len(log.frames):
                told()
            else:
                log.told.setdefault(len(log.frames), []).append(told)
        return frame

    def flush(self, number: int) -> None:
        log = self.logs[number]
        log.durable = len(log.frames)
        due = [told for at in sorted(log.told) for told in log.told[at]]
        log.told.clear()
        for told in due:
            told()

    # Events

    def publish(self, number: int, said: Said, told: Told | None = None) -> list[int]:
        frame, offsets = self.brokers[number].publish([Publication(said, "/test")], self.now)
        self.keep(number, frame, told)
        return list(offsets[0])

    def look(self, number: int) -> None:
        """Let the sections of a shard look at all that is durable."""
        log = self.logs[number]
        for section in self.brokers[number].sections.values():
            while section.reopened:
                offset = section.reopened.popleft()
                section.look_again(log.frame_at(offset).rows, [offset])  # type: ignore[arg-type]
            while section.next < log.end():
                frame = log.frame_at(section.next)
                section.look(frame.rows, frame.end)
            section.wake(self.now)

    def forward(self, number: int, name: str, most: int = 100) -> Frame | None:
        """Send away what a section of other shards is to hear, up to so many."""
        section = self.brokers[number].sections[name]
        chosen = [section.away.popleft() for _ in range(min(most, len(section.away)))]
        if not chosen:
            return None
        log, state = self.logs[number], section.state
        letters = {offset: log.event(state.dead[offset]) for offset, _ in chosen if offset in state.held}
        events = [log.event(offset) for offset, _ in chosen]
        frame = self.brokers[number].forward(name, events, [lane for _, lane in chosen], self.now, letters)
        return self.keep(number, frame)

    def take(self, number: int, name: str, limit: int = 100) -> Batch | None:
        self.look(number)
        return self.brokers[number].sections[name].take(limit, self.now)

    def events(self, number: int, batch: Batch) -> list[Event]:
        return [self.logs[number].event(offset) for offset in batch.offsets]

    def hear(
        self,
        number: int,
        batch: Batch,
        said: Said | None = None,
        fails: Sequence[int] = (),
        told: Told | None = None,
        **more: Any,
    ) -> Frame | None:
        """Have a batch come back: heard, but for the offsets in `fails`, and what comes behind those in their lanes."""
        log, blocked = self.logs[number], set[str]()
        heard, failures, skipped = [], [], []
        keyed = self.brokers[number].sections[batch.section].keyed
        for offset, lane in zip(batch.offsets, batch.keys, strict=True):
            event = log.event(offset)
            rows, ix = event._rows, event._ix
            if keyed and lane in blocked:
                skipped.append((offset, lane))
            elif offset in fails:
                blocked.add(lane)
                ref, root = rows.ref(ix), rows.root(ix)
                failures.append(Failure(offset, event.key, lane, event.topic, ref, root, "E: no", "trace"))
            else:
                heard.append(offset)
        whole: Any = batch.offsets if len(heard) == len(batch) else heard
        outcome = Outcome(
            batch.section, len(batch), batch.keys, whole, said, self.now, failures=failures, skipped=skipped, **more
        )
        return self.keep(number, self.brokers[number].hear(outcome, self.now), told)

    def fire(self, number: int, told: Told | None = None) -> Frame | None:
        return self.keep(number, self.brokers[number].fire(self.now), told)

    # Between shards

    def sendable(self, here: int, there: int) -> dict[int, Parcel]:
        """The parcels from one shard to another that are durable and, as far as it knows, have not arrived."""
        log = self.logs[here]
        durable = sum(len(frame.marks.get("out", {}).get(there, ())) for frame in log.frames[: log.durable])
        box = self.brokers[here].state.outbox.get(there)
        return {} if box is None else {number: each for number, each in box.parcels.items() if number < durable}

    def deliver(self, here: int, there: int, first: int, parcels: Sequence[Parcel], answer: Callable[[int], None]) -> None:
        """Bring parcels to a shard; its answer comes once it is durable."""
        frames, number = self.brokers[there].accept(here, first, carried(parcels), self.now)
        for frame in frames:
            self.keep(there, frame)
        self.keep(there, None, lambda: answer(number))

    def exchange(self) -> bool:
        """Bring everywhere what is durable, and have it durable there; whether anything went."""
        went = False
        for here in range(self.count):
            for there in range(self.count):
                parcels = self.sendable(here, there)
                if parcels:
                    went = True
                    first = min(parcels)
                    broker = self.brokers[here]
                    self.deliver(
                        here, there, first, list(parcels.values()), lambda number, b=broker, t=there: b.arrived(t, number)  # type: ignore[misc]
                    )
                    self.flush(there)
                    self.keep(here, broker.rest(self.now))
                    self.flush(here)
        return went

    def settle(self, play: Callable[[int, Batch], None] | None = None) -> None:
        """Have all heard that there is to hear, without a fault; `play` hears a batch, and must have it come back."""
        for _ in range(10_000):
            is_quiet = True
            for number in range(self.count):
                self.flush(number)
                self.look(number)
                for name in self.hears:
                    is_quiet &= self.forward(number, name) is None
                    batch = self.take(number, name)
                    if batch is not None:
                        is_quiet = False
                        if play is None:
                            self.hear(number, batch)
                        else:
                            play(number, batch)
                is_quiet &= self.fire(number) is None
                self.flush(number)
            is_quiet &= not self.exchange()
            if is_quiet:
                due = [moment for broker in self.brokers if (moment := broker.due_us()) is not None]
                if not due:
                    return
                self.now = max(self.now, min(due))
        raise AssertionError("it does not come to rest")

    def rows(self, number: int) -> Iterator[tuple[Rows, int]]:
        for frame in self.logs[number].frames:
            for ix in range(frame.count):
                assert frame.rows is not None
                yield frame.rows, ix

    def said(self, number: int) -> list[Event]:
        """The events of a shard, without the copies that lie there."""
        return [rows.event(ix) for rows, ix in self.rows(number) if not is_copy(rows, ix)]

    def copies(self, number: int) -> list[Event]:
        return [rows.event(ix) for rows, ix in self.rows(number) if is_copy(rows, ix)]

    def section(self, number: int, name: str) -> Section:
        return self.brokers[number].sections[name]


def words(*events: tuple[str, str, Any], ids: Mapping[int, str] | None = None, **columns: Any) -> Said:
    """Events to say: topic, key and data of each; `ids` by their row."""
    topics = sorted({topic for topic, _, _ in events})
    return Said(
        topics,
        [topics.index(topic) for topic, _, _ in events],
        [key for _, key, _ in events],
        [encode(data) for _, _, data in events],
        extras={row: {"id": id_} for row, id_ in ids.items()} if ids else None,
        **columns,
    )
